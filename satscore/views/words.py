"""The words of the text view: each function turns one part of a summary into phrases, however wide."""

import shlex
from collections.abc import Iterator

from satscore.core.own_notes import gpu_number, gpu_numbers
from satscore.core.summary import (
    Bound,
    Cost,
    EvidenceItem,
    Extreme,
    GpuSummary,
    LossPart,
    Rates,
    RunInfo,
    Score,
    SourceInfo,
    Summary,
)

SHOWN_PCT = 0.05
"""Parts that would be printed as 0.0 are left out."""
SAME_CAP_W = 0.5
"""A mean limit is kept in mW per window: it never differs by so much from a cap that held all the time."""
REPLAY_WIDTH = 24
"""Columns for what is replayed: of a long path the end tells more."""
LABEL_WIDTH = 40
"""More of a label would push the command and how it ended out of the title."""
NAMES = {
    "idle": "nothing on the GPU",
    "coverage": "SMs empty",
    "issue": "SMs wait",
    "clock": "clock below rated",
    "idle|coverage": "idle or SMs empty (cannot tell: engine counter missing)",
    "coverage|issue": "SMs empty or waiting (cannot tell: SM counter missing)",
    "idle|coverage|issue": "idle, empty or waiting (cannot tell: counters missing)",
    "idle_long": "long gaps",
    "idle_short": "short gaps",
    "comm": "communication",
    "wait": "collectives wait",
    "comm_or_wait": "communication or waiting",
    "grid": "small grids",
    "issue_other": "at the other roof, up to",
    "issue_stall": "stalls or wrong pipe",
    "clock_power": "power cap",
    "clock_thermal": "temperature",
    "clock_hw": "hardware slowdown",
    "clock_board": "board limit",
    "clock_sync_boost": "sync boost",
    "clock_app_clocks": "app clocks",
    "clock_other": "no reason given",
    "clock_unknown": "reason not readable",
}


def printable(text: str) -> str:
    """Return text without control characters and line breaks: it goes to a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


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
    return [part for part in head if part], shlex.join(run.command) or run.kind, [time, ending]


def _open_end(run: RunInfo) -> str:
    return "ended" if run.kind == "watch" and run.finished else "not finished"


def headline(score: Score) -> Iterator[str]:
    """Yield the score with its bracket, its attainable share, grade and coverage."""
    yield f"{score.score_pct:.1f} of 100 (..{score.score_hi_pct:.1f})"
    yield f"{score.score_attainable_pct:.1f} of the attainable"
    yield f"grade {score.grade}"
    yield f"coverage {100 * score.coverage_frac:.0f} %" + (", partial" if score.partial else "")


def scope(summary: Summary) -> Iterator[str]:
    """Yield of which part of the run the score is, and which resource brought it."""
    score = summary.job.score
    yield f"{'short run: ' if summary.headline.short_run else ''}S over all {summary.run.observed_s:.1f} s read"
    by = [f"{name} {value:.1f}" for name, value in score.by_resource_pct.items() if value >= SHOWN_PCT]
    if by:
        yield f"profile {summary.method.profile}: " + " + ".join(by)


def missing_range(score: Score) -> Iterator[str]:
    """Yield within which limits the score lies whatever the missing counters were."""
    if score.score_min_pct is not None and score.score_max_pct is not None:
        yield f"S between {score.score_min_pct:.1f} and {score.score_max_pct:.1f} whatever was missing"


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
    vboost = "unknown" if gpu.vboost_level is None else str(gpu.vboost_level)
    yield ", ".join([*(caps or ["power cap unknown"]), f"vBoost {vboost}"])
    shares = [
        f"{row.resource} {'~' if row.kind == 'assumed' else ''}{100 * row.value:.3g} %"
        for row in gpu.bounds
        if row.role == "attainable"
    ]
    yield "attainable: " + ", ".join([*shares, *(f"{r} unknown" for r in gpu.ceilings_missing)])


def _stated(rates: Rates, gpu: GpuSummary) -> str:
    """Return who states the module cap in force, if not the driver."""
    limit = rates.power_limit_module_w
    is_site = any(row.role == "cap" and limit is not None and abs(row.value - limit) < SAME_CAP_W for row in gpu.bounds)
    return " (site)" if is_site else ""


def part_text(part: LossPart) -> str:
    """Return a part in words, with what it consists of where that is more than one thing."""
    name = NAMES[part.name] if "|" in part.name else f"{part.name}: {NAMES[part.name]}"
    inner = sorted((p for p in part.parts if p.points_pct >= SHOWN_PCT), key=lambda p: -p.points_pct)
    if not inner:
        return name
    return f"{part.name}: {', '.join(f'{NAMES[p.name]} {p.points_pct:.1f}' for p in inner[:4])}"


def over_gpus(summary: Summary) -> str:
    """Return mean, worst and best over GPUs, or those that have a score where the job has none."""
    job = summary.job
    unscored = job.gpus_count - job.gpus_scored_count
    head = f"{job.gpus_count}" + (f" ({unscored} without a score)" if unscored else "")
    mean = "" if job.score.score_pct is None else f"mean {job.score.score_pct:.1f}, "
    if job.worst is None or job.best is None:
        return head
    worst, best = (f"{e.score_pct:.1f} ({_which(summary, e)})" for e in (job.worst, job.best))
    return f"{head}: {mean}worst {worst}, best {best}"


def unused(summary: Summary) -> str:
    """Return which GPUs are read but in no number here, and why; empty if there are none."""
    gpus = [gpu for rank in summary.ranks for gpu in rank.gpus_unused]
    if not gpus:
        return ""
    numbers = gpu_numbers(gpus)
    many = f"{len(gpus)} GPU" if len(gpus) == 1 else f"{len(gpus)} GPUs"
    which = f"GPU {numbers}" if summary.job.ranks_count == 1 else many
    is_seen = all(gpu.known_by == "process" for gpu in gpus)
    why = "not used by the command" if is_seen else "not shown to the command's processes"
    return f"{which} {'is' if len(gpus) == 1 else 'are'} visible but {why}: not scored"


def _which(summary: Summary, extreme: Extreme) -> str:
    if summary.job.ranks_count > 1:
        return f"rank {extreme.rank}"
    return f"GPU {gpu_number(extreme.nvml_index, extreme.gpu_index)}"


def signals(score: Score, rates: Rates) -> Iterator[str]:
    """Yield the compact signals beside the headline; unknown ones say so."""
    yield f"tensor {_number(score.tensor_score_pct)}"
    yield f"DRAM {_number(score.dram_score_pct)}"
    yield f"SMs {_number(score.sm_active_pct)}"
    if score.link_pct is not None:
        yield f"{(score.link_name or '').replace('_', ' ')} {score.link_pct:.0f}"
    if score.power_pct is not None:
        of = "GPU" if score.power_scope == "gpu" else score.power_scope
        yield f"power {score.power_pct:.0f} % of {of} cap"
    if rates.sm_clock_mhz is not None:
        yield f"{rates.sm_clock_mhz:.0f} MHz"
    if rates.temp_gpu_max_c is not None:
        yield f"max {rates.temp_gpu_max_c:.0f} C"


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
    return f"{item.name} {item.value:.0f} {item.unit}"


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
    """Yield what satscore itself used."""
    if cost.cpu_pct_of_core is not None:
        yield f"{cost.cpu_s:.2f} s CPU = {cost.cpu_pct_of_core:.1f} % of a core"
    if cost.rss_max_bytes is not None:
        yield f"{cost.rss_max_bytes / 1e6:.0f} MB"
    if source.interval_mean_s is not None:
        late = f", {source.late_reads_count} reads late" if source.late_reads_count else ""
        yield f"{source.name}: {source.readings_count} readings of {source.interval_mean_s:.2f} s{late}"
    if cost.recording_bytes is not None:
        yield f"recording {cost.recording_bytes / 1e3:.0f} kB"
