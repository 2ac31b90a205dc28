"""The laws of the wrapper, each with real processes."""
