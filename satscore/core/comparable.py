"""What a score of a run must carry to be compared with another, and what makes two of them not comparable."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from satscore.core.bounds import CAP_TOLERANCE_FRAC
from satscore.core.confidence import RELIABLE_WINDOWS_MIN, WINDOWS_MIN
from satscore.core.summary_gpu import Grade

COVERAGE_MIN_FRAC = 0.95
SAME = {
    "profile": "profile",
    "ceiling": "ceiling",
    "window_s": "window length (s)",
    "model_id": "GPU model",
    "cap_w": "power limit (W)",
    "vboost_level": "vBoost level",
    "ranks_count": "number of ranks",
}
"""Fields of RunScore that must be equal in all runs, and what they are called."""


class RunScore(msgspec.Struct, frozen=True, kw_only=True):
    """One run's score, how sure it is, and what another run must share with it to be comparable."""

    mean_points: float | None
    """null: no score."""
    se_points: float | None
    """Standard error of the mean over windows (satscore.core.confidence); null: no interval."""
    dof: float | None
    n_windows: int
    coverage_frac: float
    grade: Grade | None
    profile: str
    ceiling: Literal["datasheet", "attainable"]
    """What the score divides by."""
    window_s: float
    model_id: str | None
    """GPU model (SKU)."""
    cap_w: float | None
    """Power limit in force; null: not known."""
    vboost_level: int | None
    """null: not known."""
    ranks_count: int
    batch_means_points: tuple[float, ...] = ()
    """For the rank check, which decides nothing; empty: none is made."""


def faults(a: Sequence[RunScore], b: Sequence[RunScore]) -> list[str]:
    """Return why the runs of A and B cannot be judged against each other; empty if they can."""
    return [*_unfit("A", a), *_unfit("B", b), *_unequal([*a, *b])]


def caveats(a: Sequence[RunScore], b: Sequence[RunScore]) -> list[str]:
    """Return what does not forbid a judgement but weakens it."""
    runs = [*a, *b]
    unknown = [what for field, what in SAME.items() if all(getattr(run, field) is None for run in runs)]
    notes = [f"{what} is not known of any run: taken as equal" for what in unknown]
    shortest = min(run.n_windows for run in runs)
    if shortest < RELIABLE_WINDOWS_MIN:
        notes.append(
            f"the shortest run has {shortest} windows: below {RELIABLE_WINDOWS_MIN} its standard error is unreliable"
        )
    return notes


def _unfit(side: str, runs: Sequence[RunScore]) -> Iterator[str]:
    """Yield what keeps single runs from being judged."""
    for number, run in enumerate(runs, start=1):
        name = f"{side}, run {number}" if len(runs) > 1 else side
        if run.mean_points is None:
            yield f"{name} has no score"
        elif run.grade is None or run.grade == "D":
            yield f"{name} has grade {run.grade or 'none'}, a comparison needs C or better"
        if run.coverage_frac < COVERAGE_MIN_FRAC:
            yield f"{name} has a coverage of {100 * run.coverage_frac:.1f} %, a comparison needs 95 %"
        if run.mean_points is not None and (run.se_points is None or run.dof is None):
            yield f"{name} has no confidence interval ({run.n_windows} windows, {WINDOWS_MIN} are needed)"


def _unequal(runs: Sequence[RunScore]) -> Iterator[str]:
    """Yield what differs between runs. Unknown equals unknown only: whether it is the known one cannot be told."""
    for field, what in SAME.items():
        first, *others = (getattr(run, field) for run in runs)
        different = [value for value in others if not _is_same(field, first, value)]
        if different:
            one, other = ("unknown" if value is None else f"{value}" for value in (first, different[0]))
            yield f"the {what} differs: {one} and {other}"


def _is_same(field: str, one: float | str | None, other: float | str | None) -> bool:
    if field == "cap_w" and isinstance(one, float | int) and isinstance(other, float | int):
        # Boards report 699.9 W for a limit of 700 W.
        return math.isclose(one, other, rel_tol=CAP_TOLERANCE_FRAC)
    return one == other
