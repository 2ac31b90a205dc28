"""The gate of ``--fail-under``: whether a score passes, and if not, by which exit status and why."""

from typing import NamedTuple

from satscore.core.units import POINTS
from satscore.errors import EXIT_BELOW, EXIT_UNDECIDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from satscore.core.summary import Summary

WHOLE_FRAC, SLACK_S = 0.95, 1.0
"""So much of a command must have been read; or all but so many seconds, which opening the counters takes."""
RANKS_MISSING = "ranks are missing: "
"""How the note begins that parts of the recording could not be read."""
MOST_NAMED = 8
"""GPUs that nobody reads and that a refusal names."""
MARKS = {"simulated": "SIMULATED data", "replay": "a REPLAY"}


class Refusal(NamedTuple):
    """Why a run does not pass."""

    exit_code: int
    text: str


def judge(summary: "Summary | None", lowest_pct: float) -> Refusal | None:
    """Return why a run does not pass, or None if it does.

    Where the score has a confidence interval its lower end must pass: luck is no proof. Only a whole score
    of a command that succeeded can pass: a gate that lets through what it could not judge is none.

    Args:
        summary: The result; None: there is none, or it did not come in time.
        lowest_pct: The lowest score that passes, points of 100.
    """
    why = _undecided(summary)
    if why is not None:
        return Refusal(EXIT_UNDECIDED, f"--fail-under {lowest_pct:g}: {why}: exit {EXIT_UNDECIDED}")
    assert summary is not None
    score_pct, interval = summary.headline.score_pct, summary.headline.ci95
    assert score_pct is not None
    judged_pct = score_pct if interval is None else interval.low_pct
    if judged_pct >= lowest_pct:
        return None
    what = f"the score is {score_pct:.2f}" + (f", its 95 % interval begins at {judged_pct:.2f}" if interval else "")
    by = f"{lowest_pct - judged_pct:.3g} points too low"
    return Refusal(EXIT_BELOW, f"--fail-under {lowest_pct:g}: {what}, {by}: exit {EXIT_BELOW}")


def _undecided(summary: "Summary | None") -> str | None:
    """Return why a score cannot be judged, or None."""
    if summary is None:
        return "no score: there is no summary"
    run, score = summary.run, summary.job.score
    if not run.finished:
        return f"not judged: the {'command' if run.kind == 'command' else 'run'}'s end is not recorded"
    ends = _bad_ends(summary)
    if ends is not None:
        return ends
    if summary.headline.score_pct is None:
        return f"no score: {summary.headline.reason}"
    steady = summary.job.steady if summary.headline.kind == "steady" else None
    coverage = min(score.coverage_frac, steady.coverage_frac) if steady else score.coverage_frac
    if score.partial or coverage < WHOLE_FRAC:
        return f"the score is partial: coverage {100 * coverage:.1f} %, a gate needs 95 %"
    return _impossible(summary) or _missing_ranks(summary) or _unread_time(summary) or _other_gpus(summary)


def _bad_ends(summary: "Summary") -> str | None:
    """Return how the command failed, or which ranks of a job did not succeed or are not known to have."""
    run, job = summary.run, summary.job
    if run.kind == "command" and run.exit_code != 0:
        return f"not judged: the command's end was {run.exit_signal or f'exit {run.exit_code}'}"
    if job.ranks_failed:
        first = job.ranks_failed[0]
        how = first.exit_signal or f"exit {first.exit_code}"
        return f"not judged: {job.ranks_failed_count} ranks failed, first rank {first.rank} on {first.hostname} ({how})"
    if job.ranks_lost:
        first_lost = job.ranks_lost[0]
        where = f"rank {first_lost.rank} on {first_lost.hostname}"
        return f"not judged: {job.ranks_lost_count} ranks have no recorded end, first {where}"
    return None


def _impossible(summary: "Summary") -> str | None:
    """Return why a number is no score: then the recording or the program is wrong, and nobody may pass by it."""
    score_pct, interval = summary.headline.score_pct, summary.headline.ci95
    judged_pct = [pct for pct in (score_pct, interval.low_pct if interval else None) if pct is not None]
    # NaN is not within the limits either.
    wrong = next((pct for pct in judged_pct if not 0 <= pct <= POINTS), None)
    return None if wrong is None else f"not judged: {wrong:g} is no score"


def _missing_ranks(summary: "Summary") -> str | None:
    """Return which ranks are not in the score."""
    missing = next((note for note in summary.notes if note.startswith(RANKS_MISSING)), None)
    return None if missing is None else f"not judged: {missing}"


def _unread_time(summary: "Summary") -> str | None:
    """Return how much of a measured command was read, where that is too little."""
    run = summary.run
    if summary.data_kind != "measured" or run.kind != "command" or run.duration_s is None:
        return None
    read_s = summary.job.score.coverage_frac * run.observed_s
    if read_s >= min(WHOLE_FRAC * run.duration_s, run.duration_s - SLACK_S):
        return None
    return f"not judged: only {read_s:.1f} of {run.duration_s:.1f} s were read"


def _other_gpus(summary: "Summary") -> str | None:
    """Return why the score is not that of the command's work on all its GPUs, and of nothing else."""
    unread = [gpu for rank in summary.ranks for gpu in rank.gpus_unread]
    if unread:
        names = [gpu.uuid if gpu.nvml_index is None else str(gpu.nvml_index) for gpu in unread]
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        which = ", ".join(names[:MOST_NAMED]) + more
        verb = "uses" if unread[0].known_by == "process" else "is shown"
        return f"not judged: the command {verb} GPU {which}, which nobody reads"
    if any(finding.id == "GPU_SHARED" for finding in summary.findings):
        return "not judged: processes of others computed on the scored GPUs too (GPU_SHARED)"
    return None


def caveat(summary: "Summary", lowest_pct: float) -> str | None:
    """Return what to say of a judgement that is not of a measurement; None where it is of one."""
    what = MARKS.get(summary.data_kind)
    if what is None:
        return None
    again = ", replayed" if summary.data_kind == "simulated" and summary.source.name == "replay" else ""
    scenario = f" ({summary.source.scenario})" if summary.source.scenario else ""
    return f"--fail-under {lowest_pct:g} judged {what}{again}{scenario}: no GPU was measured"
