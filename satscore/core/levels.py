"""Where a job works, at which level, and where it is below that (docs/method.md, "Phases")."""

import numpy as np

from satscore.core.readings import BoolArray, FloatArray, IntArray
from satscore.core.trend import LEVEL_CHANGE_FRAC

WORK_ENGINE_FRAC = 0.2
"""A window works if the engine was active for so much of it ..."""
WORK_SAT_FRAC = 0.01
"""... or, where that is not known, if it reached so much of a bound: an idle GPU moves nothing at all."""
WORK_AROUND_WINDOWS = 10
"""Half of so many windows must work for the job to work: a lone kernel during start-up is no beginning."""
WORKING_FRAC = 0.2
"""A stretch works if so many of its windows do: work in short pieces is work, a hang with a heartbeat is none."""
LOW_ENTER_FRAC, LOW_LEAVE_FRAC = 0.5, 0.8
"""A low stretch begins below half of the level and ends at 80 % of it."""
LEVEL_MIN_FRAC = 2 * LEVEL_CHANGE_FRAC
"""Half of a lower level is less than what counts as a change: there are no dips."""
LASTING_WINDOWS, LASTING_FRAC = 900, 0.2
"""A stretch that is longer than both, 15 minutes and a fifth of the run, is no passing one."""
RHYTHM_WINDOWS = 60
"""Low stretches that come more often than once a minute are the beat of the steps, not events: part of the level."""
EVENT_LENGTHS = 3.0
"""Among them, one that is longer than so many usual ones is an event all the same."""


def worked(sat: FloatArray, engine: FloatArray) -> BoolArray:
    """Return which windows had work; False where neither is known.

    Args:
        sat: shape (n,), window value U, 0..1, NaN where unknown.
        engine: shape (n,), engine active, 0..1, NaN where unknown.
    """
    result: BoolArray = np.where(np.isnan(engine), sat >= WORK_SAT_FRAC, engine >= WORK_ENGINE_FRAC)
    return result


def active_range(works: BoolArray) -> tuple[int, int]:
    """Return the windows [start, stop) from first to last work; (0, 0) if there was none.

    The ends are windows that work with half of the ten around them working, if most work is between such
    windows. Else work comes in short pieces, and the ends are the first and the last window that work.
    """
    any_work = np.flatnonzero(works)
    if len(any_work) == 0:
        return 0, 0
    start, before_end = _first_active(works), _first_active(works[::-1])
    if start is not None and before_end is not None:
        stop = len(works) - before_end
        if 2 * int(works[start:stop].sum()) >= len(any_work):
            return start, stop
    return int(any_work[0]), int(any_work[-1]) + 1


def _first_active(works: BoolArray) -> int | None:
    """Return the first window that works together with half of the ten [i - 5, i + 5)."""
    half = WORK_AROUND_WINDOWS // 2
    at = np.arange(len(works))
    until = np.concatenate([[0], np.cumsum(works)])
    around = until[np.minimum(at + half, len(works))] - until[np.maximum(at - half, 0)]
    found = np.flatnonzero(works & (around >= half))
    return int(found[0]) if len(found) else None


def main_level(sat: FloatArray) -> float:
    """Return the level m that most windows keep: the median, twice again of those from half of it up.

    Args:
        sat: shape (n,), n > 0, no NaN.
    """
    level = float(np.median(sat))
    for _ in range(2):
        level = float(np.median(sat[sat >= LOW_ENTER_FRAC * level]))
    return level


def low_stretches(sat: FloatArray, level: float) -> IntArray:
    """Return stretches below a level by hysteresis: shape (k, 2), [start, stop); single windows are none.

    Args:
        sat: shape (n,), no NaN.
        level: The main level.
    """
    if level < LEVEL_MIN_FRAC:
        return np.empty((0, 2), dtype=np.int64)
    enters, leaves = sat < LOW_ENTER_FRAC * level, sat >= LOW_LEAVE_FRAC * level
    decided = np.maximum.accumulate(np.where(enters | leaves, np.arange(len(sat)), 0))
    found = stretches(enters[decided])
    return found[found[:, 1] - found[:, 0] >= 2]


def stretches(mask: BoolArray) -> IntArray:
    """Return where a mask is true: shape (k, 2), [start, stop) in order."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return edges.reshape(-1, 2).astype(np.int64)


def without_rhythm(low: IntArray) -> IntArray:
    """Return the low stretches that are events: of those in the beat of the steps only the far longer ones.

    A step that waits for data or for others for seconds, again and again, runs at the level that this leaves
    it: to cut its low half out as dips would hide the loss.

    Args:
        low: shape (k, 2), [start, stop) in order.
    """
    if len(low) < 3 or float(np.median(np.diff(low[:, 0]))) >= RHYTHM_WINDOWS:
        return low
    lengths = low[:, 1] - low[:, 0]
    return low[lengths > EVENT_LENGTHS * float(np.median(lengths))]
