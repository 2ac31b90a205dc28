"""The telemetry beside the child: sampler, session state, and the loop that feeds them."""
