"""The dry run's stand-in for a load: it sleeps, and states what the simulator is known to do."""

import time
from typing import Any

from tests.hardware.validation.loads import SkippedError
from tests.hardware.validation.plan import workload_named
from tests.hardware.validation.steady import NS_PER_S, Timing, Window

BF16_PEAK_FLOPS_S = 132 * 4096 * 1830e6
DRAM_PEAK_BYTES_S = 4.8e12
FP32_PEAK_FLOPS_S = 132 * 256 * 1980e6
_TF32, _FP8 = 0.5, 2.0

TRUTH: dict[str, dict[str, float]] = {
    "gemm": {"flop_s": 0.7944 * BF16_PEAK_FLOPS_S},
    "gemm-zeros": {"flop_s": 0.9034 * BF16_PEAK_FLOPS_S},
    "copy": {"bytes_s": 0.8963 * DRAM_PEAK_BYTES_S},
    "fp32": {"flop_s": 0.90 * FP32_PEAK_FLOPS_S},
    "llm": {"flop_s": 0.50 * BF16_PEAK_FLOPS_S, "attention_flop_s": 0.02 * BF16_PEAK_FLOPS_S},
    "duty-25": {"flop_s": 0.216 * BF16_PEAK_FLOPS_S, "busy_frac": 0.25},
    "duty-50": {"flop_s": 0.420 * BF16_PEAK_FLOPS_S, "busy_frac": 0.50},
    "duty-75": {"flop_s": 0.613 * BF16_PEAK_FLOPS_S, "busy_frac": 0.75},
    "launch-bound": {"busy_frac_about": 0.55},
    "spin": {"sm_frac": 16 / 132},
}
"""What the simulated scenarios do, per simulated second."""


def run_pretended(name: str, timing: Timing, speed: float) -> tuple[Window, dict[str, float | str]]:
    """Sleep as long as the load would take and return what its simulated twin does.

    Args:
        name: The workload.
        timing: How long, in simulated seconds.
        speed: Simulated seconds per real second.

    Raises:
        SkippedError: The simulator has nothing like it.
    """
    scenario = workload_named(name).simulated
    if scenario is None:
        raise SkippedError("the simulator has no such load")
    time.sleep(timing.warm_s / speed)
    start_ns = time.monotonic_ns()
    time.sleep(timing.seconds / speed)
    end_ns = time.monotonic_ns()
    time.sleep(timing.tail_s / speed)
    length_s = (end_ns - start_ns) / NS_PER_S * speed
    window = Window(start_ns=start_ns, end_ns=end_ns, gpu_s=length_s, steps=1)
    truth: dict[str, Any] = {"gpu_s": length_s, "wall_s": length_s} | TRUTH[scenario]
    variant = name.partition(":")[2]
    if name.startswith("V1:"):
        dtype, _, size = variant.partition("-")
        factor = {"tf32": _TF32, "fp8": _FP8}.get(dtype, 1.0)
        truth |= {"dtype": dtype, "n": int(size), "flop_s": truth["flop_s"] * factor}
    elif name.startswith(("V0:", "V4:")):
        truth["dtype"] = "bf16" if name.startswith("V0:") else variant
    return window, truth
