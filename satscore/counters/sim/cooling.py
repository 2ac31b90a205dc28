"""How warm a simulated GPU gets: one heat capacity, one resistance to the air, one threshold."""

import math
from typing import NamedTuple

LAG_S = 60.0
"""Time constant with which the temperature follows the power."""
SLOW_C = 87.0
"""Where the driver begins to lower the clock, C (a Hopper board's maximum operating temperature)."""
HARD_SLOW_C = SLOW_C + 2.0
"""Where the hardware would slow the GPU down, C: what a Hopper board states as its slowdown limit."""
RELEASE_C = SLOW_C - 3.0
"""Where it stops, C. Lower than the rest temperature at any clock that it chooses, so that the clock holds."""


class Cooling(NamedTuple):
    """What the chip's heat goes into."""

    ambient_c: float = 27.0
    c_per_w: float = 0.07
    """Thermal resistance."""

    def rest_c(self, power_w: float) -> float:
        """Return the temperature in C that a constant power in W ends at."""
        return self.ambient_c + self.c_per_w * power_w

    @property
    def hold_w(self) -> float:
        """Power in W at which the temperature stays at SLOW_C."""
        return (SLOW_C - self.ambient_c) / self.c_per_w


GOOD = Cooling()


def temp_after_c(temp_c: float, rest_c: float, dt_s: float) -> float:
    """Return the temperature in C after a time in s on the way to a rest temperature."""
    return temp_c - (rest_c - temp_c) * math.expm1(-dt_s / LAG_S)


def time_to_s(threshold_c: float, temp_c: float, rest_c: float) -> float:
    """Return after how long in s the temperature is at a threshold; inf if it never gets there."""
    if not min(temp_c, rest_c) < threshold_c < max(temp_c, rest_c):
        return math.inf
    return LAG_S * math.log((rest_c - temp_c) / (rest_c - threshold_c))
