"""The words of the text view: each function turns one part of a summary into phrases, however wide."""

import shlex
from collections.abc import Iterator

from satscore.core.summary import Cost, EvidenceItem, RunInfo, SourceInfo, Summary
from satscore.core.summary_gpu import Bound, GpuSummary, Rates, Score
from satscore.core.vboost import CONSTRAINT_VARIABLES
from satscore.views.words_loss import SHOWN_PCT
from satscore.views.words_run import duration

SAME_CAP_W = 0.5
"""A mean limit is kept in mW per window: it never differs by so much from a cap that held all the time."""
REPLAY_WIDTH = 24
"""Columns for what is replayed: of a long path the end tells more."""
MANY = 10_000
"""Numbers from here on are grouped by commas."""
LARGE_UNITS = (("GB", 1e9), ("MB", 1e6))
LABEL_WIDTH = 40
"""More of a label would push the command and how it ended out of the title."""


def mark(summary: Summary) -> str:
    """Return the mark that stands wherever the numbers of this summary stand; empty if measured."""
    if summary.data_kind == "measured":
        return ""
    simulated = "SIMULATED" if summary.data_kind == "simulated" else ""
    replay = "REPLAY" if "replay" in (summary.data_kind, summary.source.name) else ""
    scenario = summary.source.scenario or ""
    shown = "..." + scenario[3 - REPLAY_WIDTH :] if replay and len(scenario) > REPLAY_WIDTH else scenario
    return " ".join(filter(None, (simulated, replay, f"({shown})" if shown else "")))


def title(summary: Summary) -> tuple[list[str], str, list[str]]:
    """Return what stands before the command, the command, and what stands after it."""
    run = summary.run
    ending = f"exit {run.exit_code}" if run.exit_code is not None else run.exit_signal or _open_end(run)
    time = f"{run.duration_s:.1f} s" if run.duration_s is not None else f"{run.observed_s:.1f} s observed"
    label = run.label or ""
    head = [f"satscore {summary.satscore_version}", mark(summary), label[:LABEL_WIDTH]]
    job = summary.job
    ranks = [size(summary)] if max(job.ranks_count, job.ranks_expected_count or 1) > 1 else []
    return [part for part in head if part], shlex.join(run.command) or run.kind, [*ranks, time, ending]


def size(summary: Summary) -> str:
    """Return how many ranks there are on how many nodes."""
    ranks, nodes = summary.job.ranks_count, summary.job.nodes_count
    return f"{ranks:,} rank{'' if ranks == 1 else 's'} on {nodes:,} node{'' if nodes == 1 else 's'}"


def _open_end(run: RunInfo) -> str:
    return "ended" if run.kind == "watch" and run.finished else "not finished"


def headline(summary: Summary) -> Iterator[str]:
    """Yield the score with its bracket and interval, its attainable share, grade and coverage: all of one scope."""
    head, score, steady = summary.headline, summary.job.score, summary.job.steady
    is_steady = head.kind == "steady" and steady is not None
    attainable = steady.score_attainable_pct if is_steady and steady else score.score_attainable_pct
    coverage = steady.coverage_frac if is_steady and steady else score.coverage_frac
    yield f"{head.score_pct:.1f} of 100 (..{head.score_hi_pct:.1f})"
    if head.ci95 is not None:
        yield f"95 % {head.ci95.low_pct:.1f}..{head.ci95.high_pct:.1f}" + ("" if head.ci95.reliable else ", unreliable")
    # Without a known rate 100 % of the peak stands for it, and the share is a lower value.
    is_least = any(gpu.ceilings_missing for rank in summary.ranks for gpu in rank.gpus)
    yield f"{'>= ' if is_least else ''}{attainable:.1f} of attainable"
    yield f"grade {score.grade}"
    yield f"coverage {100 * coverage:.0f} %" + (", partial" if score.partial else "")


def scope(summary: Summary) -> Iterator[str]:
    """Yield of which part of the run the score is, that of all of it, and which resource brought that."""
    score, steady = summary.job.score, summary.job.steady
    observed_s = summary.run.observed_s
    if summary.headline.kind == "steady" and steady is not None:
        # Windows at the edges count whole there: never say more than was read.
        yield f"S of the steady {duration(min(steady.time_s, observed_s))}"
        yield f"over all {duration(observed_s)}: {score.score_pct:.1f}"
    else:
        yield f"{'short run: ' if summary.headline.short_run else ''}S over all {observed_s:.1f} s read"
    by = [f"{name} {value:.1f}" for name, value in score.by_resource_pct.items() if value >= SHOWN_PCT]
    if by:
        yield f"profile {summary.method.profile}: " + " + ".join(by)


def missing_range(score: Score) -> Iterator[str]:
    """Yield within which limits the score lies whatever the missing counters were."""
    if score.score_min_pct is not None and score.score_max_pct is not None:
        limits = f"{score.score_min_pct:.1f} and {score.score_max_pct:.1f}"
        yield f"S over all between {limits} whatever was missing"


def peaks(summary: Summary, gpu: GpuSummary) -> tuple[str, str]:
    """Return the bounds that S divides by in this run, and the source of the first."""
    rows = [row for r in _resources_shown(summary) if (row := _peak_of(gpu, r, summary.method.dtype)) is not None]
    models = len({g.model_id for rank in summary.ranks for g in rank.gpus})
    more = f" (and {models - 1} more models)" if models > 1 else ""
    name = (gpu.name or "unnamed GPU").removesuffix(" (simulated)")
    text = f"{name}{more}: {', '.join(_rate(row) for row in rows)}"
    return text, f"{rows[0].kind}: {rows[0].source}" if rows else "no bound known"


def _resources_shown(summary: Summary) -> list[str]:
    """Return the profile's resources; of many, those that brought points."""
    by = summary.job.score.by_resource_pct
    resources = list(summary.method.resources)
    return resources if len(resources) <= 2 else [r for r in resources if by.get(r, 0.0) >= SHOWN_PCT][:2]


def _peak_of(gpu: GpuSummary, resource: str, dtype: str | None) -> Bound | None:
    rows = [b for b in gpu.bounds if b.role == "peak" and b.resource == resource]
    if resource != "tensor":
        return rows[0] if rows else None
    by_dtype = {row.dtype: row for row in rows}
    return by_dtype.get(dtype) or by_dtype.get("bf16") or by_dtype.get("fp16")


def _rate(row: Bound) -> str:
    if row.resource == "dram":
        return f"DRAM {row.value / 1e12:.2f} TB/s"
    clock = f" at {row.clock_mhz:.0f} MHz" if row.clock_mhz else ""
    return f"{row.resource}{f' {row.dtype}' if row.dtype else ''} {row.value / 1e12:.0f} T{row.unit}{clock}"


def state(rates: Rates, gpu: GpuSummary) -> Iterator[str]:
    """Yield the caps and vBoost in force, and the attainable fractions that they choose (~ assumed)."""
    limits = (("GPU cap", rates.power_limit_gpu_w, ""), ("module cap", rates.power_limit_module_w, _stated(rates, gpu)))
    caps = [f"{scope} {limit:.0f} W{by}" for scope, limit, by in limits if limit is not None]
    yield ", ".join([*(caps or ["power cap unknown"]), *_vboost(gpu)])
    shares = [
        f"{row.resource} {'~' if row.kind == 'assumed' else ''}{100 * row.value:.3g} %"
        for row in gpu.bounds
        if row.role == "attainable"
    ]
    yield "attainable: " + ", ".join([*shares, *(f"{r} unknown" for r in gpu.ceilings_missing)])


def _vboost(gpu: GpuSummary) -> Iterator[str]:
    """Yield the vBoost level, where the GPU has one; what only the job's constraint says is marked."""
    if gpu.vboost_level is not None:
        yield f"vBoost {gpu.vboost_level}{' (as asked for)' if gpu.vboost_source in CONSTRAINT_VARIABLES else ''}"
    elif gpu.may_have_vboost:
        yield "vBoost unknown"


def _stated(rates: Rates, gpu: GpuSummary) -> str:
    """Return who states the module cap in force, if not the driver."""
    limit = rates.power_limit_module_w
    is_site = any(row.role == "cap" and limit is not None and abs(row.value - limit) < SAME_CAP_W for row in gpu.bounds)
    return " (site)" if is_site else ""


def signals(summary: Summary) -> Iterator[str]:
    """Yield the compact signals beside the headline, most telling first; unknown ones say so."""
    score, rates, steady = summary.job.score, summary.job.rates, summary.job.steady
    power = [] if score.power_pct is None else [_power(score.power_pct, score.power_scope, rates)]
    is_capped = rates.power_state in ("gpu-limited", "module-limited")
    if is_capped:
        yield from power
    if summary.headline.kind == "steady" and steady is not None:
        yield f"tensor {_number(steady.tensor_score_pct)}"
        yield f"DRAM {_number(steady.dram_score_pct)}"
        is_part = steady.time_s < summary.run.observed_s - 1.0
        yield f"{'over all: ' if is_part else ''}SMs {_number(score.sm_active_pct)}"
    else:
        yield f"tensor {_number(score.tensor_score_pct)}"
        yield f"DRAM {_number(score.dram_score_pct)}"
        yield f"SMs {_number(score.sm_active_pct)}"
    if not is_capped:
        yield from power
    if score.link_pct is not None:
        yield f"{(score.link_name or '').replace('_', ' ')} {score.link_pct:.0f}"
    if rates.sm_clock_mhz is not None:
        yield f"{rates.sm_clock_mhz:.0f} MHz"
    if rates.temp_gpu_max_c is not None:
        yield f"max {rates.temp_gpu_max_c:.0f} C"


def _power(power_pct: float, scope: str | None, rates: Rates) -> str:
    """Return power against the nearest cap; where GPU and module have one each and one binds, what is left."""
    of = "GPU" if scope == "gpu" else scope
    if rates.power_state in (None, "below both"):
        return f"power {power_pct:.0f} % of {of} cap"
    limit_w = rates.power_limit_gpu_w if scope == "gpu" else rates.power_limit_module_w
    power_w, other_limit_w = (
        (rates.power_module_w, rates.power_limit_module_w)
        if scope == "gpu"
        else (rates.power_gpu_w, rates.power_limit_gpu_w)
    )
    other = (
        f"{'module' if scope == 'gpu' else 'GPU'} {100 * (power_w or 0.0) / (other_limit_w or 1.0):.0f} % of its own"
    )
    room = f"headroom {rates.power_headroom_w or 0.0:.0f} W"
    return f"power {power_pct:.0f} % of {of} cap {limit_w or 0.0:.0f} W ({rates.power_state}: {other}, {room})"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.0f}"


def evidence(item: EvidenceItem) -> str:
    """Return one number behind a finding."""
    if item.unit == "frac":
        return f"{item.name} {100 * item.value:.0f} %"
    if item.unit == "count":
        return f"{item.name} {item.value:.0f}"
    if item.unit in ("points", "1"):
        return f"{item.name} {item.value:.2g}" if item.unit == "1" else f"{item.name} {item.value:.1f}"
    return f"{item.name} {item.value:.{1 if item.unit == 'cores' else 0}f} {item.unit}"


def achieved(rates: Rates) -> Iterator[str]:
    """Yield the rates that are known without any bound."""
    shares = (("tensor", rates.tensor_active_frac), ("SMs", rates.sm_active_frac), ("DRAM", rates.dram_active_frac))
    for name, share in shares:
        if share is not None:
            yield f"{name} active {100 * share:.0f} %"
    if rates.dram_bytes_s is not None:
        yield f"DRAM {rates.dram_bytes_s / 1e12:.2f} TB/s"
    if rates.gpu_util_frac is not None:
        yield f"util {100 * rates.gpu_util_frac:.0f} %"
    if rates.power_gpu_w is not None:
        yield f"{rates.power_gpu_w:.0f} W"
    if rates.sm_clock_mhz is not None:
        yield f"{rates.sm_clock_mhz:.0f} MHz"


def own_cost(cost: Cost, source: SourceInfo) -> Iterator[str]:
    """Yield what satscore itself used; of many ranks what each did."""
    many = cost.ranks_count > 1
    if cost.cpu_pct_of_core is not None:
        of_each = " per rank" if many else ""
        most = f", at most {cost.cpu_max_pct_of_core:.1f}" if many and cost.cpu_max_pct_of_core is not None else ""
        cpu = f"{cost.cpu_s:,.0f}" if (cost.cpu_s or 0.0) >= MANY else f"{cost.cpu_s:.2f}"
        yield f"{cpu} s CPU = {cost.cpu_pct_of_core:.1f} % of a core{of_each}{most}"
    if cost.rss_max_bytes is not None:
        yield f"{'at most ' if many else ''}{cost.rss_max_bytes / 1e6:.0f} MB{' per rank' if many else ''}"
    if source.interval_mean_s is not None:
        reads = "read" if source.late_reads_count == 1 else "reads"
        late = f", {source.late_reads_count} {reads} late" if source.late_reads_count else ""
        sums = ", scored from sums" if source.resolution == "sums" else ""
        yield f"{source.name}: {_count(source.readings_count)} readings of {source.interval_mean_s:.2f} s{late}{sums}"
    if cost.recording_bytes is not None:
        yield f"recording {_amount(cost.recording_bytes)}"


def _count(count: int) -> str:
    return f"{count:,}" if count >= MANY else f"{count}"


def _amount(count: int) -> str:
    """Return bytes in the unit that keeps them readable."""
    unit, size = next(((unit, size) for unit, size in LARGE_UNITS if count >= 10 * size), ("kB", 1e3))
    return f"{count / size:,.0f} {unit}"
