"""What is run, in the order of its weight, and for how long."""

from collections.abc import Sequence
from dataclasses import dataclass

START_S = 6.0
"""Allowance for one child: interpreter, torch, CUDA context, calibration."""
TAIL_S = 0.6
"""The load goes on for so long after the measured part, so that a read at its edge sees the same load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One load with a counted truth.

    Attributes:
        name: ``CASE:VARIANT``; the case is a row of the validation plan.
        what: The load in words.
        warm_s: Time before the measured part, s: clock and power settle.
        seconds: Length of the measured part, s.
        quick_seconds: The same with ``--quick``; None: left out there.
        simulated: Scenario of the simulator that stands in for it in a dry run; None: there is none.
    """

    name: str
    what: str
    warm_s: float
    seconds: float
    quick_seconds: float | None = None
    simulated: str | None = None

    @property
    def case(self) -> str:
        """The row of the plan: V0, V1, ..."""
        return self.name.partition(":")[0]

    def length_s(self, *, quick: bool) -> float:
        """Return the length of the measured part in s."""
        return self.quick_seconds if quick and self.quick_seconds is not None else self.seconds

    def estimate_s(self, *, quick: bool) -> float:
        """Return about how long the whole workload takes, s."""
        return START_S + self.warm_s + self.length_s(quick=quick) + TAIL_S


def _gemm(dtype: str, n: int, *, quick: bool = False) -> Workload:
    return Workload(
        name=f"V1:{dtype}-{n}",
        what=f"{dtype} matrix products {n} x {n} x {n}, random data",
        warm_s=1.5,
        seconds=5.0,
        quick_seconds=4.0 if quick else None,
        simulated="gemm",
    )


def _dram(variant: str, what: str, *, quick: bool = False) -> Workload:
    return Workload(
        name=f"V5:{variant}",
        what=what,
        warm_s=2.0,
        seconds=8.0,
        quick_seconds=5.0 if quick else None,
        simulated="copy",
    )


def _fma(variant: str, what: str, simulated: str | None = None) -> Workload:
    return Workload(name=f"V4:{variant}", what=what, warm_s=2.0, seconds=7.0, quick_seconds=5.0, simulated=simulated)


def _duty(percent: int, period_ms: int, seconds: float, quick_seconds: float | None = None) -> Workload:
    return Workload(
        name=f"V7:{percent}-{period_ms}ms",
        what=f"matrix products for {percent} % of every {period_ms} ms, then nothing",
        warm_s=2.0,
        seconds=seconds,
        quick_seconds=quick_seconds,
        simulated=f"duty-{percent}" if period_ms < 1000 else None,
    )


def _spin(sms: int, *, quick: bool = False) -> Workload:
    return Workload(
        name=f"V9:{sms}",
        what=f"one spinning thread block on each of {sms} SMs",
        warm_s=1.0,
        seconds=5.0,
        quick_seconds=4.0 if quick else None,
        simulated="spin" if sms == 16 else None,
    )


PLAN: tuple[Workload, ...] = (
    Workload(
        name="V0:random",
        what="bf16 matrix products 8192^3, random data",
        warm_s=8.0,
        seconds=25.0,
        quick_seconds=12.0,
        simulated="gemm",
    ),
    Workload(
        name="V0:zeros",
        what="bf16 matrix products 8192^3, zeros",
        warm_s=8.0,
        seconds=25.0,
        quick_seconds=12.0,
        simulated="gemm-zeros",
    ),
    _dram("copy", "copy by the SMs (negation of one buffer into another)", quick=True),
    _dram("sum", "sum of a buffer: reads only", quick=True),
    _dram("memset", "memset: writes only"),
    _dram("d2d", "cudaMemcpy from device to device"),
    _fma("fp32", "FP32 FMA chains, no tensor work", "fp32"),
    _fma("fp16", "FP16 FMA chains (two values per register), no tensor work"),
    _fma("fp64", "FP64 FMA chains, no tensor work"),
    Workload(
        name="TRAIN:gpt",
        what="training steps of a small language model, bf16, random tokens",
        warm_s=5.0,
        seconds=20.0,
        quick_seconds=10.0,
        simulated="llm",
    ),
    _duty(50, 2000, 20.0, 12.0),
    _duty(50, 20, 8.0, 6.0),
    _duty(50, 200, 8.0),
    _duty(25, 200, 8.0),
    _duty(75, 200, 8.0),
    _gemm("bf16", 4096, quick=True),
    _gemm("tf32", 4096),
    _gemm("fp8", 8192, quick=True),
    _gemm("fp16", 8192),
    _gemm("bf16", 1024),
    _gemm("bf16", 4104),
    _gemm("bf16", 16384),
    _gemm("tf32", 1024),
    _gemm("tf32", 256),
    Workload(
        name="V8:loop",
        what="tiny kernels launched one by one from a loop",
        warm_s=1.0,
        seconds=8.0,
        quick_seconds=5.0,
        simulated="launch-bound",
    ),
    Workload(
        name="V8:graph",
        what="the same tiny kernels inside a CUDA Graph",
        warm_s=1.0,
        seconds=8.0,
        quick_seconds=5.0,
        simulated="launch-bound",
    ),
    _spin(16, quick=True),
    _spin(1),
    _spin(132),
)


def select(wanted: Sequence[str], *, quick: bool) -> list[Workload]:
    """Return the workloads to run, in the plan's order.

    Args:
        wanted: Cases (``V0``) or workloads (``V1:fp8-8192``); empty: all. A workload named in full is
            run even where ``--quick`` would leave it out.
        quick: Only what the quick run has.

    Raises:
        ValueError: A name is not in the plan; says which, and what is.
    """
    cases = list(dict.fromkeys(workload.case for workload in PLAN))
    names = [workload.name for workload in PLAN]
    for name in wanted:
        if name not in cases and name not in names:
            raise ValueError(f"no case or workload {name!r}; cases are {', '.join(cases)}")
    return [
        workload
        for workload in PLAN
        if workload.name in wanted
        or ((not wanted or workload.case in wanted) and (not quick or workload.quick_seconds is not None))
    ]


def workload_named(name: str) -> Workload:
    """Return a workload of the plan.

    Raises:
        ValueError: There is none of that name.
    """
    for workload in PLAN:
        if workload.name == name:
            return workload
    raise ValueError(f"no workload {name!r}")
