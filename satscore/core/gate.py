"""The gate of ``--fail-under``: whether a score passes, and if not, by which exit status and why."""

from typing import NamedTuple

from satscore.errors import EXIT_BELOW, EXIT_UNDECIDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from satscore.core.summary import Summary


class Refusal(NamedTuple):
    """Why a run does not pass."""

    exit_code: int
    text: str


def judge(summary: "Summary | None", lowest_pct: float) -> Refusal | None:
    """Return why a run does not pass, or None if it does.

    Only a whole score of a command that succeeded can pass: a gate that lets through what it could not
    judge is none.

    Args:
        summary: The result; None: there is none, or it did not come in time.
        lowest_pct: The lowest score that passes, points of 100.
    """
    why = _undecided(summary)
    if why is not None:
        return Refusal(EXIT_UNDECIDED, f"--fail-under {lowest_pct:g}: {why}: exit {EXIT_UNDECIDED}")
    assert summary is not None
    score_pct = summary.headline.score_pct
    assert score_pct is not None
    if score_pct >= lowest_pct:
        return None
    by = f"{lowest_pct - score_pct:.3g} points too low"
    return Refusal(EXIT_BELOW, f"--fail-under {lowest_pct:g}: the score is {score_pct:.2f}, {by}: exit {EXIT_BELOW}")


def _undecided(summary: "Summary | None") -> str | None:
    """Return why a score cannot be judged, or None."""
    if summary is None:
        return "no score: there is no summary"
    run, score = summary.run, summary.job.score
    if run.kind == "command" and run.exit_code != 0:
        ended = "is not recorded" if not run.finished else f"was {run.exit_signal or f'exit {run.exit_code}'}"
        return f"not judged: the command's end {ended}"
    if summary.headline.score_pct is None:
        return f"no score: {summary.headline.reason}"
    if score.partial:
        return f"the score is partial: coverage {100 * score.coverage_frac:.1f} %, a gate needs 95 %"
    return None
