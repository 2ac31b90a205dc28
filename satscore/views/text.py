"""The block of text at exit: how full, against what, where the rest went, what to do, at what cost.

At most 25 lines of 100 columns, plain ASCII of our own: it lands in terminals, Slurm logs and CI
output alike. Every number is in the summary; nothing is computed here but rounding.
"""

import shlex
import textwrap
from collections.abc import Iterator

from satscore.core.summary import FindingItem, GpuSummary, LossPart, Rates, Score, Summary

WIDTH = 100
MAX_LINES = 25
MAX_FINDINGS = 3
FINDING_LINES = 3
MAX_EVIDENCE = 3
MAX_NOTE_LINES = 4
LABEL = 11
BAR_WIDTH = 14
COMMAND_WIDTH = 40
TITLE_WIDTH = WIDTH - len("---  ---")
SHOWN_PCT = 0.05
"""Parts that would be printed as 0.0 are left out."""
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


def render(summary: Summary) -> str:
    """Return the text for people: at most 25 lines of at most 100 columns, after one blank line."""
    scored = summary.headline.score_pct is not None
    body = list(_scored(summary) if scored else _unscored(summary))
    tail = [*_cost(summary), *_files(summary)]
    notes = _notes(summary, MAX_NOTE_LINES)
    room = MAX_LINES - 2 - len(body) - len(notes) - len(tail)
    findings = list(_findings(summary, room)) if scored else []
    lines = ["", _title(summary), *body, *findings, *notes, *tail]
    return "\n".join(line.rstrip() for line in lines)


def mark(summary: Summary) -> str:
    """Return the mark that stands wherever the numbers of this summary stand; empty if measured."""
    if summary.data_kind == "measured":
        return ""
    word = {"simulated": "SIMULATED", "replay": "REPLAY"}[summary.data_kind]
    return f"{word} ({summary.source.scenario})" if summary.source.scenario else word


def _title(summary: Summary) -> str:
    run = summary.run
    ending = f"exit {run.exit_code}" if run.exit_code is not None else run.exit_signal or "not finished"
    time = f"{run.duration_s:.1f} s" if run.duration_s is not None else f"{run.observed_s:.1f} s observed"
    head = [f"satscore {summary.satscore_version}", mark(summary)]
    room = TITLE_WIDTH - sum(len(part) + 3 for part in (*head, time, ending) if part)
    parts = [*head, _shortened(shlex.join(run.command), max(10, min(COMMAND_WIDTH, room))), time, ending]
    text = _shortened(" | ".join(part for part in parts if part), TITLE_WIDTH)
    return f"--- {text} " + "-" * max(3, WIDTH - len(text) - 5)


def _shortened(text: str, width: int) -> str:
    """Return text in one printable line of at most ``width`` characters."""
    clean = _printable(text)
    return clean if len(clean) <= width else clean[: width - 3] + "..."


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _labelled(label: str, text: str) -> str:
    return f"{label:<{LABEL}}{text}"


def _fit(text: str) -> str:
    return _shortened(text, WIDTH - LABEL)


def _scored(summary: Summary) -> Iterator[str]:
    score, job = summary.job.score, summary.job
    yield _labelled("saturation", _fit(" | ".join(_headline(summary))))
    yield _labelled("", _fit(" | ".join(_quality(summary))))
    if score.coverage_frac < 1:
        yield from _range_line(score)
    yield from _bound_lines(summary)
    yield from _loss_lines(summary)
    if job.gpus_count > 1 and job.worst and job.best:
        worst, best = job.worst, job.best
        yield _labelled(
            "GPUs",
            f"{job.gpus_count}: mean {score.score_pct:.1f}, worst {worst.score_pct:.1f} ({_which(summary, worst)}), "
            f"best {best.score_pct:.1f} ({_which(summary, best)})",
        )
    yield _labelled("signals", _fit(", ".join(_signals(score, job.rates))))


def _findings(summary: Summary, room: int) -> Iterator[str]:
    """Yield the largest findings that fit; what went wrong with the measurement itself comes first."""
    if not summary.findings:
        yield _labelled("findings", "none above 1 point")
    for finding in summary.findings[: min(MAX_FINDINGS, room // FINDING_LINES)]:
        yield from _finding_lines(finding)


def _headline(summary: Summary) -> Iterator[str]:
    score = summary.job.score
    yield f"{score.score_pct:.1f} of 100 (..{score.score_hi_pct:.1f})"
    yield f"{score.score_attainable_pct:.1f} of the attainable"
    yield f"grade {score.grade}"
    yield f"coverage {100 * score.coverage_frac:.0f} %" + (", partial" if score.partial else "")


def _quality(summary: Summary) -> Iterator[str]:
    score = summary.job.score
    yield f"{'short run: ' if summary.headline.short_run else ''}S over all {summary.run.observed_s:.1f} s read"
    by = [f"{name} {value:.1f}" for name, value in score.by_resource_pct.items() if value >= SHOWN_PCT]
    if by:
        yield f"profile {summary.method.profile}: " + " + ".join(by)


def _range_line(score: Score) -> Iterator[str]:
    if score.score_min_pct is not None and score.score_max_pct is not None:
        yield _labelled("", f"S between {score.score_min_pct:.1f} and {score.score_max_pct:.1f} whatever was missing")


def _which(summary: Summary, extreme: object) -> str:
    gpu, rank = getattr(extreme, "gpu_index", 0), getattr(extreme, "rank", 0)
    return f"rank {rank}" if summary.job.ranks_count > 1 else f"GPU {gpu}"


def _bound_lines(summary: Summary) -> Iterator[str]:
    """Yield the bound that S divides by, its source, and the state that chose the ceiling."""
    gpu = next(gpu for rank in summary.ranks for gpu in rank.gpus)
    bounds = {bound.resource: bound for bound in gpu.bounds}
    dtype = summary.method.dtype or "bf16"
    tensor = bounds.get(f"tensor {dtype}") or bounds.get("tensor bf16") or bounds.get("tensor fp16")
    dram = bounds.get("dram")
    parts = []
    if tensor is not None:
        parts.append(f"{tensor.resource} {tensor.value / 1e12:.0f} TFLOP/s at {tensor.clock_mhz:.0f} MHz")
    if dram is not None:
        parts.append(f"DRAM {dram.value / 1e12:.2f} TB/s")
    yield _labelled("bound", _fit(f"{_plain_name(gpu.name)}: {', '.join(parts)} (datasheet)"))
    source = (tensor or dram or gpu.bounds[0]).source if gpu.bounds else "n/a"
    yield _labelled("", _fit(source))
    yield _labelled("", _fit("; ".join(_state(summary.job.rates, gpu))))


def _plain_name(name: str | None) -> str:
    return (name or "unnamed GPU").removesuffix(" (simulated)")


def _state(rates: Rates, gpu: GpuSummary) -> Iterator[str]:
    limits = (("GPU cap", rates.power_limit_gpu_w), ("module cap", rates.power_limit_module_w))
    caps = [f"{scope} {limit:.0f} W" for scope, limit in limits if limit is not None]
    vboost = "unknown" if gpu.vboost_level is None else str(gpu.vboost_level)
    yield ", ".join([*(caps or ["power cap unknown"]), f"vBoost {vboost}"])
    ceilings = [bound for bound in gpu.bounds if bound.resource.endswith(" attainable")]
    shares = ", ".join(f"{b.resource.removesuffix(' attainable')} {100 * b.value:.3g} %" for b in ceilings)
    yield f"attainable: {shares}" if shares else "attainable: not known, taken as 100 %"


def _loss_lines(summary: Summary) -> Iterator[str]:
    """Yield one line per top part, largest first, with its parts."""
    assert summary.job.loss is not None
    parts = [part for part in summary.job.loss.datasheet if part.points_pct >= SHOWN_PCT]
    parts.sort(key=lambda part: -part.points_pct)
    for i, part in enumerate(parts):
        bar = "#" * round(part.points_pct / 100 * BAR_WIDTH)
        yield _labelled("lost" if i == 0 else "", _fit(f"{part.points_pct:4.1f} {bar:<{BAR_WIDTH}} {_part_text(part)}"))


def _part_text(part: LossPart) -> str:
    """Return a part in words, with what it consists of where that is more than one thing."""
    name = NAMES[part.name] if "|" in part.name else f"{part.name}: {NAMES[part.name]}"
    inner = sorted((p for p in part.parts if p.points_pct >= SHOWN_PCT), key=lambda p: -p.points_pct)
    if not inner:
        return name
    return f"{part.name}: {', '.join(f'{NAMES[p.name]} {p.points_pct:.1f}' for p in inner[:4])}"


def _signals(score: Score, rates: Rates) -> Iterator[str]:
    """Yield the compact signals beside the headline; unknown ones say so."""
    yield f"tensor {_number(score.tensor_score_pct)}"
    yield f"DRAM {_number(score.dram_score_pct)}"
    yield f"SMs {_number(score.sm_active_pct)}"
    if score.link_pct is not None:
        yield f"{(score.link_name or '').replace('_', ' ')} {score.link_pct:.0f}"
    if score.power_pct is not None:
        scope = "GPU" if score.power_scope == "gpu" else score.power_scope
        yield f"power {score.power_pct:.0f} % of {scope} cap"
    if rates.sm_clock_mhz is not None:
        yield f"{rates.sm_clock_mhz:.0f} MHz"
    if rates.temp_gpu_max_c is not None:
        yield f"max {rates.temp_gpu_max_c:.0f} C"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.0f}"


def _finding_lines(finding: FindingItem) -> Iterator[str]:
    points = f"{finding.points_pct:.1f} points" if finding.points_pct >= SHOWN_PCT else "no points at stake"
    yield _labelled(finding.severity, _fit(f"{finding.id}, {points}: {finding.title}"))
    evidence = "; ".join(f"{e.name} {_evidence_value(e.value, e.unit)}" for e in finding.evidence[:MAX_EVIDENCE])
    yield _labelled("", _fit(f"  because {evidence}"))
    yield _labelled("", _fit(f"  do: {finding.action}; next: {finding.next_command}"))


def _evidence_value(value: float, unit: str) -> str:
    if unit == "frac":
        return f"{100 * value:.0f} %"
    if unit in ("points", "1"):
        return f"{value:.2g}" if unit == "1" else f"{value:.1f}"
    return f"{value:.0f} {unit}"


def _unscored(summary: Summary) -> Iterator[str]:
    """Yield why there is no score, and the achieved rates that are known all the same."""
    for i, line in enumerate(textwrap.wrap(_printable(f"none: {summary.headline.reason}"), WIDTH - LABEL)[:4]):
        yield _labelled("score" if i == 0 else "", line)
    score, rates = summary.job.score, summary.job.rates
    if score.grade is None:
        yield from _range_line(score)
    achieved = [text for text in _achieved(rates) if text]
    if achieved:
        yield _labelled("achieved", _fit(", ".join(achieved)))


def _achieved(rates: Rates) -> Iterator[str]:
    shares = (("tensor", rates.tensor_active_frac), ("SMs", rates.sm_active_frac), ("DRAM", rates.dram_active_frac))
    for name, share in shares:
        if share is not None:
            yield f"{name} active {100 * share:.0f} %"
    if rates.dram_bytes_s is not None:
        yield f"DRAM {rates.dram_bytes_s / 1e12:.2f} TB/s"
    if rates.gpu_util_frac is not None:
        yield f"GPU util {100 * rates.gpu_util_frac:.0f} %"
    if rates.power_gpu_w is not None:
        yield f"{rates.power_gpu_w:.0f} W"
    if rates.sm_clock_mhz is not None:
        yield f"{rates.sm_clock_mhz:.0f} MHz"


def _notes(summary: Summary, room: int) -> list[str]:
    """Return notes that fit; the rest is counted and stands in the JSON."""
    said = summary.headline.reason or ""
    notes = [note for note in summary.notes if note not in said and not note.startswith("SIMULATED")]
    lines = list[str]()
    for shown, note in enumerate(notes):
        wrapped = textwrap.wrap(_printable(note), WIDTH - LABEL)
        is_last = shown == len(notes) - 1
        if len(lines) + len(wrapped) > room - (not is_last):
            wrapped = wrapped[: max(0, room - 1 - len(lines))]
            lines += [_labelled("note" if i == 0 else "", line) for i, line in enumerate(wrapped)]
            return [*lines, _labelled("note", f'{len(notes) - shown} not (wholly) shown: "notes" in summary.json')]
        lines += [_labelled("note" if i == 0 else "", line) for i, line in enumerate(wrapped)]
    return lines


def _cost(summary: Summary) -> Iterator[str]:
    cost, source = summary.cost, summary.source
    parts = []
    if cost.cpu_pct_of_core is not None:
        parts.append(f"{cost.cpu_s:.2f} s CPU = {cost.cpu_pct_of_core:.1f} % of a core")
    if cost.rss_max_bytes is not None:
        parts.append(f"{cost.rss_max_bytes / 1e6:.0f} MB")
    if source.interval_mean_s is not None:
        late = f", {source.late_reads_count} reads late" if source.late_reads_count else ""
        parts.append(f"{source.name}: {source.readings_count} readings of {source.interval_mean_s:.2f} s{late}")
    if cost.recording_bytes is not None:
        parts.append(f"recording {cost.recording_bytes / 1e3:.0f} kB")
    if parts:
        yield _labelled("own cost", _fit(" | ".join(parts)))


def _files(summary: Summary) -> Iterator[str]:
    """The directory is never shortened: people copy it."""
    if summary.run.directory:
        yield _labelled("files", summary.run.directory)
