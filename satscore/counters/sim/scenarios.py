"""The simulated boards and what can run on them, as data."""

from dataclasses import dataclass

from satscore.counters.sim.gpu import Limits
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
from satscore.counters.sim.power import CLOCK_MAX_MHZ

MODULE_REST_W = 15.0
"""Module power that is neither GPU nor CPU, W."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """Static facts of a simulated GPU, as NVML would report them on the real one."""

    model_hint: str
    name: str
    uuid_stem: str
    memory_bus_bits: int
    memory_total_bytes: int
    mem_clock_mhz: float
    dram_peak_bytes_s: float
    """Datasheet bandwidth; used for the known truth only."""
    nvlink_peak_bytes_s: float = 450e9
    """Per direction."""
    power_limit_gpu_w: float
    power_limit_module_w: float | None = None
    """None: the board has no module scope."""
    cpu_w: float = 0.0
    """Constant load of the CPU in the same module, W."""
    has_c2c: bool = False

    @property
    def dram_clock_bytes_s(self) -> float:
        """Bytes per second at the memory clock: both edges, whole bus."""
        return self.mem_clock_mhz * 1e6 * self.memory_bus_bits / 8 * 2

    @property
    def module_overhead_w(self) -> float:
        """Module power in W beside the GPU."""
        return self.cpu_w + MODULE_REST_W


H200 = Board(
    model_hint="h200-sxm",
    name="NVIDIA H200 (simulated)",
    uuid_stem="SIM-h200",
    memory_bus_bits=6144,
    memory_total_bytes=143_771 * 2**20,
    mem_clock_mhz=3201.0,
    dram_peak_bytes_s=4.8e12,
    power_limit_gpu_w=700.0,
)
GH200_96 = Board(
    model_hint="gh200-96",
    name="NVIDIA GH200 120GB (simulated)",
    uuid_stem="SIM-gh200",
    memory_bus_bits=6144,
    memory_total_bytes=97_871 * 2**20,
    mem_clock_mhz=2619.0,
    dram_peak_bytes_s=4.0228e12,
    power_limit_gpu_w=900.0,
    power_limit_module_w=660.0,
    cpu_w=100.0,
    has_c2c=True,
)


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

    @property
    def power_limit_gpu_w(self) -> float:
        """Limit in force on the GPU scope, W."""
        return self.board.power_limit_gpu_w if self.power_limit_w is None else self.power_limit_w

    def limits(self, *, slow: bool = False) -> Limits:
        """Return what holds down the clock of a GPU that runs this."""
        cap_w = self.power_limit_gpu_w
        if self.board.power_limit_module_w is not None:
            cap_w = min(cap_w, self.board.power_limit_module_w - self.board.module_overhead_w)
        ceiling = self.slow_ceiling_mhz if slow and self.slow_ceiling_mhz is not None else self.ceiling_mhz
        return Limits(cap_w, ceiling, self.entropy, self.tick_s)


_LONG_S = 60.0
"""Length of one segment of a steady load; nothing depends on it."""


def _steady(
    name: str,
    kernel: Kernel,
    summary: str,
    *,
    power_limit_w: float | None = None,
    ceiling_mhz: float = CLOCK_MAX_MHZ,
    entropy: float = 1.0,
) -> Scenario:
    return Scenario(
        name=name,
        summary=summary,
        own=(work(kernel, _LONG_S),),
        power_limit_w=power_limit_w,
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

_ALL = (
    _steady("gemm", GEMM, "large matrix products, random data, 700 W"),
    _steady("gemm-zeros", GEMM, "the same on zeros: little power, full clock", entropy=0.6),
    _steady("gemm-500w", GEMM, "the same under a 500 W cap", power_limit_w=500.0),
    _steady("clock-locked", GEMM, "the same with clocks locked at 1200 MHz", ceiling_mhz=1200.0),
    _steady("copy", COPY, "device copies at the DRAM roof"),
    _duty(25),
    _duty(50),
    _duty(75),
    _steady("launch-bound", SMALL, "small kernels, the host cannot launch fast enough"),
    _steady("spin", SPIN, "a collective that waits for its peers"),
    _steady("fp32", FP32, "matrix products on the FP32 pipe"),
    Scenario(
        name="llm",
        summary="training steps of a language model on one GPU",
        own=_LAYERS + _UPDATE,
        memory_used_frac=_LLM_MEMORY_FRAC,
    ),
    Scenario(
        name="llm-stall",
        summary="the same with 0.9 s without data after each step",
        own=(*_LAYERS, *_UPDATE, span(IDLE, 0.9)),
        memory_used_frac=_LLM_MEMORY_FRAC,
    ),
    Scenario(
        name="llm-500w",
        summary="the same under a 500 W cap",
        own=_LAYERS + _UPDATE,
        power_limit_w=500.0,
        memory_used_frac=_LLM_MEMORY_FRAC,
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
