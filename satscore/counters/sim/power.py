"""Power, voltage and clock target of the simulated Hopper chip.

Fitted by hand to public H200 readings and two GEMM anchors (1745 MHz at 700 W; 1980 MHz with
zeros). Illustrative: it makes the counters consistent with each other, it claims nothing about silicon.
"""

import math

from satscore.counters.sim.kernels import Kernel

CLOCK_MAX_MHZ = 1980.0
CLOCK_STEP_MHZ = 15.0
CLOCK_MIN_MHZ = 345.0
CLOCK_LAG_S = 0.05
"""Time constant with which the clock follows its target."""

CONSTANT_W = 110.0
SM_W = 450.0
TENSOR_W = 434.0
DRAM_W = 80.0

VBOOST_CONSTANT_W = 60.0
"""Share of CONSTANT_W that belongs to the memory side."""
VBOOST_POWER = 0.9
"""vBoost: factor on the power of the memory side. A placeholder: what the slider moves is not published."""
VBOOST_MEMORY_CLOCK = 0.97
"""vBoost: factor on the memory clock (a placeholder as well)."""

_KNEE_MHZ = 1200.0
_KNEE_V = 0.70
_TOP_V = 1.05


def voltage_v(clock_mhz: float) -> float:
    """Return the core voltage in V at an SM clock in MHz: flat up to the knee, then linear."""
    if clock_mhz <= _KNEE_MHZ:
        return _KNEE_V
    return _KNEE_V + (_TOP_V - _KNEE_V) * (clock_mhz - _KNEE_MHZ) / (CLOCK_MAX_MHZ - _KNEE_MHZ)


def dynamic_share(clock_mhz: float) -> float:
    """Return the switching power at an SM clock in MHz over that at the maximum clock (h, 0..1)."""
    return clock_mhz / CLOCK_MAX_MHZ * (voltage_v(clock_mhz) / _TOP_V) ** 2


def static_w(kernel: Kernel, *, vboost: bool = False) -> float:
    """Return the part of the GPU's power in W that does not depend on the SM clock."""
    memory_w = VBOOST_CONSTANT_W + DRAM_W * kernel.dram
    saved_w = (1.0 - VBOOST_POWER) * memory_w if vboost else 0.0
    return CONSTANT_W + DRAM_W * kernel.dram - saved_w


def switching_w(kernel: Kernel, entropy: float) -> float:
    """Return the clock-dependent power in W at the maximum clock.

    Args:
        kernel: What runs.
        entropy: How much the operands toggle: 1 for random data, 0.6 for zeros.
    """
    return entropy * (SM_W * kernel.sm + TENSOR_W * kernel.tensor)


def power_w(kernel: Kernel, clock_mhz: float, entropy: float = 1.0, *, vboost: bool = False) -> float:
    """Return the GPU's power in W while a kernel runs at an SM clock in MHz."""
    return static_w(kernel, vboost=vboost) + switching_w(kernel, entropy) * dynamic_share(clock_mhz)


def clock_target_mhz(
    kernel: Kernel, cap_w: float, ceiling_mhz: float, entropy: float, *, vboost: bool = False
) -> float:
    """Return the highest clock in MHz on the 15 MHz grid that respects ceiling and power cap."""
    steps = math.ceil(max(0.0, CLOCK_MAX_MHZ - ceiling_mhz) / CLOCK_STEP_MHZ)
    target = CLOCK_MAX_MHZ - steps * CLOCK_STEP_MHZ
    while target > CLOCK_MIN_MHZ and power_w(kernel, target, entropy, vboost=vboost) > cap_w:
        target -= CLOCK_STEP_MHZ
    return target
