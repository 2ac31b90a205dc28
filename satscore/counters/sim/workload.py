"""What a simulated job is, as data: its steps, how they change with time, and how its ranks differ."""

from dataclasses import dataclass, replace

from satscore.counters.sim.boards import H200, Board
from satscore.counters.sim.cooling import GOOD, Cooling
from satscore.counters.sim.faults import NO_FAULTS, Faults
from satscore.counters.sim.kernels import Segment
from satscore.counters.sim.limits import Limits
from satscore.counters.sim.module import CpuLoad, Module
from satscore.counters.sim.power import CLOCK_MAX_MHZ, VBOOST_MEMORY_CLOCK

_CONTEXT_FRAC = 0.004
"""Memory of a GPU on which a process has opened a context and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """The first steps end with a gap that becomes shorter from step to step: compiling, cold caches."""

    steps: int
    gap_s: float
    """Length of the first gap, s; the step after the last one has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """What all ranks do at the end of every so many steps: a checkpoint, an evaluation."""

    every: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Other segments from a step on; step 0 is the first."""

    step: int
    own: tuple[Segment, ...]
    common: tuple[Segment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """How the steps of a job change with time; all ranks are in the same phase."""

    prologue: tuple[Segment, ...] = ()
    """Before the first step, once."""
    ramp: Ramp | None = None
    pauses: tuple[Pause, ...] = ()
    change: Change | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """What one rank of a job does differently; what is not named is as on the others."""

    ceiling_mhz: float | None = None
    """Its clocks are locked at this value, MHz."""
    hw_slowdown_mhz: float | None = None
    """Its hardware holds its clock at this value, MHz: a power brake, a failing supply."""
    power_limit_w: float | None = None
    pcie_lanes_count: int | None = None
    """Its PCIe link came up with so many lanes."""
    nvlink_active_count: int | None = None
    """So many of its NVLink connections came up."""
    c_per_w: float | None = None
    """Thermal resistance, as of a heat sink that came loose."""
    speed: float = 1.0
    """Work done per time at the same clock, over that of the others, 0 < speed <= 1: contention, retries."""
    work: float = 1.0
    """Own work over that of the others."""
    before: tuple[Segment, ...] = ()
    """What each of its steps begins with: a slow data loader."""
    is_idle: bool = False
    """It never gets work, and nobody waits for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uneven:
    """The ranks take turns with more own work than the others."""

    work: float
    """Own work in its turn over that of the others, >= 1."""
    every: int = 1
    """Length of a turn in steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """A job whose ranks wait for each other at the end of their own segments, and how they differ."""

    world: int = 4
    """Ranks if nobody says otherwise."""
    odd: Odd | None = None
    """Of exactly one rank, number seed mod world; None: there is no such rank."""
    uneven: Uneven | None = None
    jitter_frac: float = 0.0
    """By up to this share the own work of a rank and step is less; one rank of every step does all of it."""
    spread_frac: float = 0.0
    """By up to this share the chip of a rank needs less switching power; one rank needs all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What one rank does, again and again: its own segments, then those after the step's barrier."""

    name: str
    summary: str
    own: tuple[Segment, ...]
    common: tuple[Segment, ...] = ()
    before: tuple[Segment, ...] = ()
    """Ahead of a step's own segments; no part of its work."""
    work: float = 1.0
    """Factor on the amounts of own segments."""
    phases: Phases = Phases()
    ranks: Ranks | None = None
    """None: nobody waits; more GPUs are replicas of each other."""
    is_idle: bool = False
    """The GPU never gets any work: no segments, no barrier."""
    board: Board = H200
    power_limit_w: float | None = None
    """GPU power limit in force, W; None: the board's."""
    ceiling_mhz: float = CLOCK_MAX_MHZ
    """Highest clock that the GPU may take, MHz."""
    is_hw_slowdown: bool = False
    """Whether the hardware sets that ceiling; else locked clocks do."""
    speed: float = 1.0
    """Work done per time at the same clock, over that of a healthy GPU."""
    pcie_lanes_count: int | None = None
    """PCIe lanes in force, which slow nothing down here; None: all of the board's."""
    nvlink_active_count: int | None = None
    """NVLink connections in force, likewise."""
    entropy: float = 1.0
    tick_s: float = 0.01
    memory_used_frac: float = 0.6
    cooling: Cooling = GOOD
    cpu: CpuLoad | None = None
    """Load of the CPU on the GPU's module; None: the board's constant one."""
    vboost_level: int = 0
    faults: Faults = NO_FAULTS

    @property
    def power_limit_gpu_w(self) -> float:
        """Limit in force on the GPU scope, W."""
        return self.board.power_limit_gpu_w if self.power_limit_w is None else self.power_limit_w

    @property
    def mem_clock_mhz(self) -> float:
        """Memory clock in force, MHz."""
        return self.board.mem_clock_mhz * (VBOOST_MEMORY_CLOCK if self.vboost_level else 1.0)

    @property
    def module(self) -> Module | None:
        """The CPU on the same module and the limit that both share; None: the board has no such scope."""
        if self.board.power_limit_module_w is None:
            return None
        return Module(self.board.power_limit_module_w, self.cpu or CpuLoad((self.board.cpu_w,)))

    def limits(self) -> Limits:
        """Return what holds down the clock of a GPU that runs this."""
        return Limits(
            cap_w=self.power_limit_gpu_w,
            ceiling_mhz=self.ceiling_mhz,
            entropy=self.entropy,
            tick_s=self.tick_s,
            cooling=self.cooling,
            module=self.module,
            vboost=self.vboost_level > 0,
            speed=self.speed,
        )

    def segments(self, step: int) -> tuple[tuple[Segment, ...], tuple[Segment, ...]]:
        """Return the own and the common segments of a step, for a whole work of 1 and without what phases add."""
        change = self.phases.change
        return (self.own, self.common) if change is None or step < change.step else (change.own, change.common)

    def changed_by(self, odd: Odd) -> "Scenario":
        """Return what the odd rank does."""
        ceiling_mhz = odd.ceiling_mhz if odd.hw_slowdown_mhz is None else odd.hw_slowdown_mhz
        c_per_w = self.cooling.c_per_w if odd.c_per_w is None else odd.c_per_w
        return replace(
            self,
            ceiling_mhz=self.ceiling_mhz if ceiling_mhz is None else ceiling_mhz,
            is_hw_slowdown=odd.hw_slowdown_mhz is not None,
            pcie_lanes_count=odd.pcie_lanes_count,
            nvlink_active_count=odd.nvlink_active_count,
            power_limit_w=self.power_limit_w if odd.power_limit_w is None else odd.power_limit_w,
            cooling=self.cooling._replace(c_per_w=c_per_w),
            speed=odd.speed,
            work=odd.work,
            before=odd.before,
            is_idle=odd.is_idle,
            memory_used_frac=_CONTEXT_FRAC if odd.is_idle else self.memory_used_frac,
        )
