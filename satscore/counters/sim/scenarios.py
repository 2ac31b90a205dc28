"""What can run on the simulated boards, as data."""

from dataclasses import dataclass, replace

from satscore.counters.sim.boards import GH200_96, H200, Board
from satscore.counters.sim.cooling import GOOD, Cooling
from satscore.counters.sim.faults import NO_FAULTS, Faults
from satscore.counters.sim.kernels import (
    ATTN,
    COMM,
    COPY,
    ELEM,
    FP32,
    GEMM,
    IDLE,
    SMALL,
    SPIN,
    Kernel,
    Segment,
    span,
    work,
)
from satscore.counters.sim.limits import Limits
from satscore.counters.sim.module import CpuLoad, Module
from satscore.counters.sim.power import CLOCK_MAX_MHZ, VBOOST_MEMORY_CLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What one rank does, again and again: its own segments, then those after the step's barrier."""

    name: str
    summary: str
    own: tuple[Segment, ...]
    common: tuple[Segment, ...] = ()
    board: Board = H200
    power_limit_w: float | None = None
    """GPU power limit in force, W; None: the board's."""
    ceiling_mhz: float = CLOCK_MAX_MHZ
    """Clocks locked at this value, MHz."""
    entropy: float = 1.0
    tick_s: float = 0.01
    memory_used_frac: float = 0.6
    world: int = 1
    """Ranks if nobody says otherwise."""
    slow_ceiling_mhz: float | None = None
    """Clock ceiling of the one slow rank, for which the others wait; None: ranks are independent."""
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

    def limits(self, *, slow: bool = False) -> Limits:
        """Return what holds down the clock of a GPU that runs this."""
        ceiling = self.slow_ceiling_mhz if slow and self.slow_ceiling_mhz is not None else self.ceiling_mhz
        return Limits(
            cap_w=self.power_limit_gpu_w,
            ceiling_mhz=ceiling,
            entropy=self.entropy,
            tick_s=self.tick_s,
            cooling=self.cooling,
            module=self.module,
            vboost=self.vboost_level > 0,
        )


_LONG_S = 60.0
"""Length of one segment of a steady load; nothing depends on it."""


def _steady(
    name: str,
    kernel: Kernel,
    summary: str,
    *,
    ceiling_mhz: float = CLOCK_MAX_MHZ,
    entropy: float = 1.0,
) -> Scenario:
    return Scenario(
        name=name,
        summary=summary,
        own=(work(kernel, _LONG_S),),
        ceiling_mhz=ceiling_mhz,
        entropy=entropy,
    )


def _duty(percent: int) -> Scenario:
    busy_s = percent / 1000
    return Scenario(
        name=f"duty-{percent}",
        summary=f"matrix products for {percent} % of every 0.1 s, then nothing",
        own=(span(GEMM, busy_s), span(IDLE, 0.1 - busy_s)),
        tick_s=0.005,
    )


_LAYERS = (work(GEMM, 0.06), work(ATTN, 0.02), work(ELEM, 0.02)) * 20
_UPDATE = (work(COMM, 0.25), work(ELEM, 0.08), span(IDLE, 0.02))
_LLM_MEMORY_FRAC = 0.82

_GEMM = _steady("gemm", GEMM, "large matrix products, random data, 700 W")
_LLM = Scenario(
    name="llm",
    summary="training steps of a language model on one GPU",
    own=_LAYERS + _UPDATE,
    memory_used_frac=_LLM_MEMORY_FRAC,
)

_ALL = (
    _GEMM,
    _steady("gemm-zeros", GEMM, "large matrix products on zeros: little power, full clock", entropy=0.6),
    replace(_GEMM, name="gemm-500w", summary="large matrix products under a 500 W cap", power_limit_w=500.0),
    replace(
        _GEMM,
        name="gemm-500w-vboost",
        summary="matrix products under a 500 W cap with vBoost 1: less power and clock for the memory",
        power_limit_w=500.0,
        vboost_level=1,
    ),
    _steady("clock-locked", GEMM, "large matrix products with clocks locked at 1200 MHz", ceiling_mhz=1200.0),
    _steady("copy", COPY, "device copies at the DRAM roof"),
    _duty(25),
    _duty(50),
    _duty(75),
    _steady("launch-bound", SMALL, "small kernels, the host cannot launch fast enough"),
    _steady("spin", SPIN, "a collective that waits for its peers"),
    _steady("fp32", FP32, "matrix products on the FP32 pipe"),
    replace(
        _GEMM,
        name="gemm-hot",
        summary="large matrix products, poorly cooled by air of 45 C: within a minute the heat lowers the clock",
        cooling=Cooling(ambient_c=45.0, c_per_w=0.1),
    ),
    _LLM,
    Scenario(
        name="llm-stall",
        summary="training steps of a language model, each followed by 0.9 s without data",
        own=(*_LAYERS, *_UPDATE, span(IDLE, 0.9)),
        memory_used_frac=_LLM_MEMORY_FRAC,
    ),
    Scenario(
        name="llm-comm",
        summary="training steps of a language model, each followed by 0.8 s more of communication",
        own=(*_LAYERS, *_UPDATE, work(COMM, 0.8)),
        memory_used_frac=_LLM_MEMORY_FRAC,
    ),
    replace(_LLM, name="llm-500w", summary="training steps of a language model under a 500 W cap", power_limit_w=500.0),
    replace(
        _LLM,
        name="llm-faulty",
        summary="training steps of a language model, read by a driver that leaves out values and loses the GPU",
        faults=Faults(blank=0.02, stale=0.01, reset=0.01, jitter=0.02, lost=2.0),
    ),
    replace(
        _GEMM,
        name="gh200-cpu",
        summary="matrix products on a GH200 whose CPU takes 60 to 240 W of the module's power",
        board=GH200_96,
        power_limit_w=650.0,
        cpu=CpuLoad((60.0, 120.0, 180.0, 240.0, 180.0, 120.0), level_s=10.0),
    ),
    Scenario(
        name="gh200x4",
        summary="synchronous training on 4 GH200 modules of which one has its clock held at 1305 MHz",
        own=_LAYERS,
        common=_UPDATE,
        board=GH200_96,
        memory_used_frac=_LLM_MEMORY_FRAC,
        world=4,
        slow_ceiling_mhz=1305.0,
    ),
)
SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}
DEFAULT_SCENARIO = "llm"
