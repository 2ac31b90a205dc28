"""What ``satscore doctor`` finds, as values: sources, GPUs, counters by group, checks, the grade that is possible.

No numpy here: doctor's own process stays without threads, because it forks (run/apart.py).
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from satscore.core.counter_groups import CounterGroup

DIAGNOSIS_VERSION = "1.1"
GPM_SINCE = (9, 0)
"""Compute capability from which on the driver itself gives pipe counters."""
CheckStatus = Literal["ok", "warning", "problem", "unknown"]
SourceStatus = Literal["yes", "no", "not tried"]


class HealthFinding(msgspec.Struct, frozen=True, kw_only=True):
    """The health of one GPU while doctor looked; None where it does not tell."""

    processes_count: int | None = None
    """Processes that compute there, whosever they are."""
    remapped_rows_count: int | None = None
    """Memory rows that were remapped before."""
    temp_margin_c: float | None = None
    """How far it stayed below the temperature at which it slows itself down."""
    pcie_generation: int | None = None
    """As last read, under load or not: at idle it is lowered to save power."""
    pcie_generation_max: int | None = None
    pcie_lanes_count: int | None = None
    pcie_lanes_max_count: int | None = None
    pcie_lost_frac: float | None = None
    """Share of the PCIe bandwidth that was missing under load; None: there was no load."""
    nvlink_active_count: int | None = None
    nvlink_count: int | None = None
    nvlink_lost_frac: float | None = None
    """Share of the connections that was not active; None: not read while doctor looked."""


class GpuFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU as a source opened it; ``uuid`` is shortened."""

    number: int
    uuid: str | None
    name: str | None
    compute_capability: tuple[int, int] | None
    mig_enabled: bool | None
    model_id: str | None
    model_note: str | None
    """Why there is no hardware model, with the file to add."""
    power_limit_gpu_w: float | None
    power_limit_module_w: float | None
    module_cap_w: float | None
    """A cap that the site states, where the driver reports a higher one or none."""
    vboost_level: int | None
    ceilings_at_other_cap: bool
    ceilings_missing: list[str]
    pipes_multiplexed: bool = False
    """Pipe counters take turns (before Hopper)."""
    has_module: bool = False
    """A CPU shares the module and its power limit."""
    module_cap_source: str | None = None
    may_have_vboost: bool = False
    vboost_source: str | None = None
    health: HealthFinding = HealthFinding()


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long the source took, in s."""

    open_s: float
    read_mean_s: float
    read_max_s: float
    timer_late_max_s: float
    """How much later than asked for this process woke up; time in the read before is none of it."""


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What opening and reading a source for a second or two showed."""

    kind: Literal["measured", "simulated", "replay"]
    has_pipe_counters: bool
    reads_count: int
    timing: Timing
    gpus: list[GpuFinding]
    counters: list[CounterGroup]
    labels: list[str]
    """By which counter power and energy are read, per GPU and scope."""
    gpus_shown_count: int
    """GPUs that the driver shows to this process, whether or not they are its own."""
    processes_readable: bool
    library: str | None
    """File of the driver library."""
    driver_version: str | None
    cuda_driver_version: str | None
    grade: Literal["A", "B", "C", "D"] | None
    coverage_frac: float
    no_score_reason: str | None
    notes: list[str]
    pipes_blank: bool = False
    """Pipe counters were read, and none ever had a value."""
    ills: list[str] = []
    """What is wrong with the health of GPUs, with what to do."""
    vboost_note: str | None = None
    """Why no vBoost level was told."""
    cpu_power_note: str | None = None
    """Why the power of the CPUs beside the GPUs is not read by us."""


class SourceFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the list of sources."""

    name: str
    status: SourceStatus
    text: str
    examined: Examined | None = None


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at, and what to do about it."""

    name: str
    status: CheckStatus
    text: str
    remedy: str = ""


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """All that doctor says; the text and the JSON are views of it."""

    schema_version: str
    satscore_version: str
    python_version: str
    kernel_version: str
    architecture: str
    wanted: str
    """The source that was asked for."""
    data_kind: Literal["measured", "simulated", "replay"]
    best: str | None
    """Name of the richest source that could be opened."""
    sources: list[SourceFinding]
    checks: list[Check]
    grade: Literal["A", "B", "C", "D"] | None
    """The best that is possible here."""
    grade_reason: str
    """Why not better."""


def best_source(sources: Sequence[SourceFinding]) -> SourceFinding | None:
    """Return the richest source that could be opened: one with pipe counters before one without."""
    opened = [source for source in sources if source.examined is not None]
    with_pipes = [source for source in opened if source.examined and source.examined.has_pipe_counters]
    return next(iter(with_pipes + opened), None)


def is_before_gpm(found: Examined) -> bool:
    """Return whether the pipe counters of all these GPUs exist through DCGM only."""
    known = [gpu.compute_capability for gpu in found.gpus if gpu.compute_capability is not None]
    return bool(known) and all(capability < GPM_SINCE for capability in known)


def grade_reason(best: SourceFinding | None, sources: Sequence[SourceFinding]) -> str:
    """Return why the grade is not better than it is."""
    found = best.examined if best else None
    texts = {source.name: source.text.partition("; ")[0] for source in sources if source.status == "no"}
    refused = next(iter(texts.values()), "")
    if found is not None and is_before_gpm(found):  # that GPM is not there is no news on such a GPU
        refused = texts.get("dcgm", refused)
    if found is None:
        return refused or "no source was tried"
    if found.grade == "D":
        return refused or found.no_score_reason or "no pipe counters are read"
    if found.grade is None:
        return (found.no_score_reason or "too little is known for a score").partition(". ")[0]
    if found.grade == "C":
        return _why_c(found)
    return "A needs ceilings calibrated on this very GPU" if found.grade == "B" else ""


def _why_c(found: Examined) -> str:
    if any(gpu.pipes_multiplexed for gpu in found.gpus):
        return "pipe counters of this GPU take turns: each sees a part of the time only"
    if found.coverage_frac < 1 and not any(gpu.ceilings_at_other_cap for gpu in found.gpus):
        lacking = next((g for g in found.counters if g.name in ("pipes", "clocks") and g.missing), None)
        which = f": {', '.join(lacking.missing)}" if lacking else ""
        return f"only {found.coverage_frac:.0%} of the time read was complete{which}"
    return "the attainable rates known are of another power cap, or of a vBoost level that may not be this one"
