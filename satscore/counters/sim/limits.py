"""What holds a simulated GPU's clock down, and which clock it aims at for each kernel."""

from typing import NamedTuple

from satscore.counters.sim.cooling import GOOD, SLOW_C, Cooling
from satscore.counters.sim.kernels import IDLE, Kernel, kernels_at
from satscore.counters.sim.module import Module
from satscore.counters.sim.power import CLOCK_MAX_MHZ, clock_target_mhz, power_w


class Limits(NamedTuple):
    """The state of the board and of its surroundings."""

    cap_w: float
    """Power limit of the GPU's own scope, W."""
    ceiling_mhz: float = CLOCK_MAX_MHZ
    """Highest clock in MHz that it may take, whoever says so."""
    entropy: float = 1.0
    """Toggling of the operands: 1 for random data, 0.6 for zeros."""
    tick_s: float = 0.01
    """Period of the clock control in s."""
    cooling: Cooling = GOOD
    module: Module | None = None
    """The CPU on the same module, if there is one: it may leave the GPU less than ``cap_w``."""
    vboost: bool = False
    speed: float = 1.0
    """Work done per time at the same clock, over that of a healthy GPU."""


class Target(NamedTuple):
    """The clock that a GPU aims at, and what keeps it from going higher."""

    clock_mhz: float
    by_power: bool
    by_heat: bool


class Targets:
    """Targets for every state that the control can be in.

    Args:
        limits: What holds the clock down.
    """

    def __init__(self, limits: Limits) -> None:
        kernels = kernels_at(limits.speed)
        caps_w = [limits.cap_w] if limits.module is None else limits.module.caps_w(limits.cap_w)
        self.idle = _target(IDLE, limits, float("inf"), hot=False)
        self.levels = len(caps_w)
        """How many caps there are: one per level of the CPU's load."""
        self._rows = [
            [[_target(k, limits, cap_w, hot=hot) for k in kernels] for hot in (False, True)] for cap_w in caps_w
        ]
        self.may_heat = any(
            limits.cooling.rest_c(power_w(k, t.clock_mhz, limits.entropy, vboost=limits.vboost)) > SLOW_C
            for cold, _ in self._rows
            for k, t in zip(kernels, cold, strict=True)
        )
        """Whether any load can bring it to the temperature at which the driver slows it down."""

    def of(self, kernel_row: int, level: int, *, hot: bool) -> Target:
        """Return the target for a row of KERNELS at a level of the CPU's load."""
        return self._rows[level][hot][kernel_row]


def _target(kernel: Kernel, limits: Limits, cap_w: float, *, hot: bool) -> Target:
    """Return the highest clock that the cap allows, and, once hot, at which the temperature holds."""

    def highest_mhz(most_w: float) -> float:
        return clock_target_mhz(kernel, most_w, limits.ceiling_mhz, limits.entropy, vboost=limits.vboost)

    free_mhz, capped_mhz = highest_mhz(float("inf")), highest_mhz(cap_w)
    held_mhz = highest_mhz(limits.cooling.hold_w) if hot else capped_mhz
    by_heat = held_mhz < capped_mhz
    return Target(min(capped_mhz, held_mhz), by_power=capped_mhz < free_mhz and not by_heat, by_heat=by_heat)
