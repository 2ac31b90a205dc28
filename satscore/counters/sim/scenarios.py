"""What can run on the simulated boards, as data."""

from dataclasses import replace

from satscore.counters.sim.boards import GH200_96
from satscore.counters.sim.cooling import Cooling
from satscore.counters.sim.faults import Faults
from satscore.counters.sim.kernels import (
    ATTN,
    COMM,
    COPY,
    DECODE,
    ELEM,
    FP32,
    GEMM,
    HOST_COMM,
    IDLE,
    LATENCY,
    LOAD,
    SAVE,
    SMALL,
    SMALL_GRID,
    SPIN,
    Kernel,
    span,
    work,
)
from satscore.counters.sim.module import CpuLoad
from satscore.counters.sim.power import CLOCK_MAX_MHZ
from satscore.counters.sim.workload import Change, Odd, Pause, Phases, Ramp, Ranks, Scenario, Uneven

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
_LONG_LAYERS = (work(GEMM, 0.04), work(ATTN, 0.06), work(ELEM, 0.04)) * 20
_LLM_MEMORY_FRAC = 0.82

_GEMM = _steady("gemm", GEMM, "large matrix products, random data, 700 W")
_LLM = Scenario(
    name="llm",
    summary="training steps of a language model on one GPU",
    own=_LAYERS + _UPDATE,
    memory_used_frac=_LLM_MEMORY_FRAC,
)


def _job(name: str, summary: str, ranks: Ranks) -> Scenario:
    return replace(_LLM, name=name, summary=summary, own=_LAYERS, common=_UPDATE, ranks=ranks)


def _odd(name: str, summary: str, odd: Odd) -> Scenario:
    return _job(name, f"synchronous training; {summary}", Ranks(odd=odd))


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
        ranks=Ranks(odd=Odd(ceiling_mhz=1305.0)),
    ),
    _job(
        "healthy",
        "synchronous training on 4 GPUs that differ as healthy ones do",
        Ranks(jitter_frac=0.02, spread_frac=0.03),
    ),
    _odd("slow-gpu", "one of 4 GPUs has its clock locked at 1305 MHz", Odd(ceiling_mhz=1305.0)),
    _odd("capped-gpu", "one of 4 GPUs has a power limit of 450 W", Odd(power_limit_w=450.0)),
    _odd("contended-gpu", "one of 4 GPUs does 20 % less at the same clock", Odd(speed=0.8)),
    _odd("hot-rank", "one of 4 GPUs is poorly cooled: within two minutes the heat lowers its clock", Odd(c_per_w=0.14)),
    _odd("hw-slowdown", "the power brake holds one of 4 GPUs at 990 MHz", Odd(hw_slowdown_mhz=990.0)),
    _odd("narrow-pcie", "PCIe of one of 4 GPUs came up with 8 lanes of 16", Odd(pcie_lanes_count=8)),
    _odd("lost-nvlink", "one of 4 GPUs has 17 of 18 NVLink connections", Odd(nvlink_active_count=17)),
    _odd("overloaded-rank", "one of 4 ranks always has 30 % more to do", Odd(work=1.3)),
    _odd(
        "stalled-rank",
        "one of 4 ranks waits 0.7 s for its data loader in every step",
        Odd(before=(span(IDLE, 0.7), work(LOAD, 0.05))),
    ),
    _odd("idle-rank", "one of 4 GPUs never gets any work", Odd(is_idle=True)),
    _job("uneven", "in every step another of 4 ranks has 30 % more to do", Ranks(uneven=Uneven(work=1.3))),
    _job(
        "uneven-slow",
        "for about 2.5 minutes each, another of 4 ranks has 30 % more to do",
        Ranks(uneven=Uneven(work=1.3, every=50)),
    ),
    replace(
        _job("pcie-comm", "training on 4 GPUs whose collectives take PCIe instead of NVLink", Ranks()),
        common=(work(HOST_COMM, 0.8), *_UPDATE[1:]),
    ),
    replace(
        _LLM,
        name="gh200-offload",
        summary="training steps on a GH200 with optimizer states in the memory of the CPU",
        common=(work(HOST_COMM, 0.4), span(IDLE, 0.2)),
        board=GH200_96,
    ),
    replace(
        _LLM,
        name="checkpoints",
        summary="training that starts for a minute, warms up for another and saves itself every two",
        phases=Phases(
            prologue=(span(IDLE, 60.0),),
            ramp=Ramp(steps=20, gap_s=2.0),
            # 50 GB over PCIe, then the file system.
            pauses=(Pause(every=50, segments=(span(SAVE, 1.6), span(IDLE, 8.4))),),
        ),
    ),
    replace(
        _LLM,
        name="regime-change",
        summary="training that goes on with longer sequences after about 2.5 minutes",
        phases=Phases(change=Change(step=60, own=_LONG_LAYERS, common=_UPDATE)),
    ),
    _steady("decode", DECODE, "token generation by a mixture of experts"),
    _steady("latency-bound", LATENCY, "kernels full of warps that wait"),
    _steady("small-grid", SMALL_GRID, "matrix products with too few blocks for all SMs"),
)
SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}
DEFAULT_SCENARIO = "llm"
