"""The words for the course of the run: its phases, and what the command said of its own progress."""

from collections.abc import Iterator

from satscore.core.progress import Progress
from satscore.core.summary import Summary
from satscore.core.summary_job import DipsItem, PhasesItem

S_PER_H = 3600.0
HOURS_FROM_S = 10_000.0
KIND_WORDS = {"checkpoint": "like checkpoints", "gc": "like garbage collection", "unknown": ""}
MOST_LEVELS = 3
SI = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
MS_BELOW_S = 0.1
ROUNDS_UP = 0.9995
"""From this share of a unit on three digits round up to a whole one."""


def duration(time_s: float) -> str:
    """Return a length of time, in hours where seconds have too many digits."""
    return f"{time_s:.0f} s" if time_s < HOURS_FROM_S else f"{time_s / S_PER_H:.1f} h"


def phases(summary: Summary) -> Iterator[str]:
    """Yield the time in each phase and what is odd about them; nothing where all is one steady level."""
    found = summary.job.phases
    if found is None or not _is_telling(found):
        return
    for phase in found.phases:
        yield _dips(found.dips) if phase.label == "dip" else f"{phase.label} {duration(phase.time_s)}"
    if found.never_steady:
        yield "never steady: the level drifts throughout"
    if len(found.regimes) > 1:
        yield _levels(found)


def _is_telling(found: PhasesItem) -> bool:
    return len(found.phases) > 1 or found.never_steady or len(found.regimes) > 1


def _dips(dips: DipsItem) -> str:
    """Return the dips, with what is known of them in brackets."""
    many = "1 dip" if dips.dips_count == 1 else f"{dips.dips_count} dips"
    about = [f"every {duration(dips.period_s)}"] if dips.period_s is not None else []
    about += [KIND_WORDS[dips.kind]] if dips.kind and KIND_WORDS[dips.kind] else []
    return f"{many} {duration(dips.time_s)}" + (f" ({', '.join(about)})" if about else "")


def _levels(found: PhasesItem) -> str:
    """Return the steady levels where there are several."""
    levels = [(r.start_s, "n/a" if r.score_pct is None else f"{r.score_pct:.1f}") for r in found.regimes]
    if len(levels) > MOST_LEVELS:
        return f"{len(levels)} steady levels, first {levels[0][1]}, last {levels[-1][1]}"
    return f"level {levels[0][1]}" + "".join(f", from {duration(start_s)} on {score}" for start_s, score in levels[1:])


def progress(said: Progress) -> Iterator[str]:
    """Yield what the command reported of itself; one reason where nothing follows from it."""
    known = [*_steps(said), *_rates(said)]
    yield from known or [f"reported, but no rates: {next(iter(said.missing.values()), 'nothing to tell')}"]
    if said.energy_kwh is not None:
        yield f"{_three(said.energy_kwh)} kWh"


def _steps(said: Progress) -> Iterator[str]:
    if said.steps_count is None:
        return
    times = said.step_time_p50_s, said.step_time_p99_s
    if times[0] is None or times[1] is None:
        yield f"{said.steps_count} steps"
        return
    yield f"{said.steps_count} steps of {_seconds(times[0])} (p99 {_seconds(times[1])})"


def _rates(said: Progress) -> Iterator[str]:
    if said.tokens_s is not None:
        yield f"{_si(said.tokens_s)}tokens/s"
    if said.tokens_per_j is not None:
        yield f"{_si(said.tokens_per_j)}tokens/J"
    if said.mfu_pct is not None:
        ratio = "" if said.t_over_mfu is None else f" (T/MFU {said.t_over_mfu:.2f})"
        yield f"MFU {said.mfu_pct:.1f}{ratio}"
    elif said.flops_s is not None:
        yield f"{_si(said.flops_s)}FLOP/s"


def _seconds(time_s: float) -> str:
    return f"{_three(time_s)} s" if time_s >= MS_BELOW_S else f"{_three(1e3 * time_s)} ms"


def _si(value: float) -> str:
    """Return a number of three digits with the prefix of its unit."""
    scale, prefix = next(((scale, prefix) for scale, prefix in SI if value >= scale * ROUNDS_UP), SI[-1])
    return f"{_three(value / scale)} {prefix}"


def _three(value: float) -> str:
    """Return a number with about three digits, never as a power of ten."""
    if value == 0:
        return "0"
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 4}f}"
