"""Phases of a finished run: start-up, warm-up, steady regimes, dips, tail (docs/method.md, "Phases")."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from satscore.core.dips import Dip
from satscore.core.labels import Label, PhaseMark
from satscore.core.levels import (
    LASTING_FRAC,
    LASTING_WINDOWS,
    WORKING_FRAC,
    active_range,
    low_stretches,
    main_level,
    stretches,
    without_rhythm,
    worked,
)
from satscore.core.mser import BATCH_WINDOWS, batch_means, truncation
from satscore.core.readings import BoolArray, FloatArray, IntArray
from satscore.core.regimes import RegimeChange, level_changes
from satscore.core.trend import TREND_POINTS, drift, is_flat, level_change_limit, robust_sigma

SHORT_WINDOWS = 120
"""An active range of fewer windows has no phases."""
MAJOR_FRAC = 0.4
"""A stretch of so much of the run is no passing one, however short the run."""
STANDS_OUT_SIGMA = 3.0
STANDS_OUT_PER_CHANGE = 1 / 3
"""A batch is no part of the level if it is off by so many of its deviations and by a third of what would
count as a change of level."""

LabelArray = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """What each window of a run belongs to.

    Attributes:
        labels: shape (n,), a Label each.
        is_short: Fewer than 120 known windows between first and last work: no phases are to be shown. What
            lies between is WARMUP then, since nothing is known to be steady; marks still count.
        never_steady: The level drifts from end to end: nothing is cut off as warm-up or tail but low
            stretches, and the mean of the steady windows is that of a drift.
        steady_segments: Windows [start, stop) of one steady level each, which batches must not cross. Other
            labels inside (dips) are to be cut out.
        changes: Between the segments.
        dips: Stretches labelled DIP.
    """

    labels: LabelArray
    is_short: bool
    never_steady: bool
    steady_segments: tuple[tuple[int, int], ...]
    changes: tuple[RegimeChange, ...]
    dips: tuple[Dip, ...]


def find_phases(sat: FloatArray, engine: FloatArray, marks: Sequence[PhaseMark] = ()) -> Phases:
    """Return the phases of a run, the user's word before the automatic one.

    Args:
        sat: shape (n,), U of each 1 s window of the job, mean over ranks, 0..1; NaN where no rank knows it.
            Such windows are in no statistic and take the label of the window before.
        engine: shape (n,), engine active, 0..1; NaN where unknown: work shows in sat then (>= 1 point).
        marks: Overrides, by index into these arrays. The later of two on the same window holds.
    """
    known = np.flatnonzero(~np.isnan(sat))
    values = sat[known]
    automatic = _automatic(values, worked(values, engine[known]))
    labels = _marked(_spread(automatic.labels, known, len(sat)), marks)
    steady = known[labels[known] == Label.STEADY]
    changes = tuple(
        msgspec.structs.replace(change, index=int(steady[change.index])) for change in level_changes(sat[steady])
    )
    edges = [int(steady[0]), *(change.index for change in changes), int(steady[-1]) + 1] if len(steady) else []
    return Phases(
        labels=labels,
        is_short=automatic.is_short,
        never_steady=automatic.never_steady,
        steady_segments=tuple(itertools.pairwise(edges)),
        changes=changes,
        dips=tuple(Dip(start=int(start), stop=int(stop)) for start, stop in stretches(labels == Label.DIP)),
    )


def _spread(labels: LabelArray, known: IntArray, n: int) -> LabelArray:
    """Return labels of known windows for all n: others take that before, or the first one known."""
    if len(known) == 0:
        return np.full(n, Label.STARTUP, dtype=np.int8)
    before = np.searchsorted(known, np.arange(n), side="right") - 1
    return labels[np.maximum(before, 0)]


def _marked(labels: LabelArray, marks: Sequence[PhaseMark]) -> LabelArray:
    """Return labels with each mark's from its window to the next mark.

    Steady says that the start is over: dips and the tail after it are still found.
    """
    out = labels.copy()
    ordered = [*sorted(marks, key=lambda mark: mark.index), PhaseMark(len(labels), None)]
    for mark, following in itertools.pairwise(ordered):
        marked = slice(max(mark.index, 0), max(following.index, 0))
        if mark.label is Label.STEADY:
            begins = np.isin(out[marked], (Label.STARTUP, Label.WARMUP))
            out[marked][begins] = Label.STEADY
        elif mark.label is not None:
            out[marked] = mark.label
    return out


@dataclass(frozen=True, slots=True)
class _Automatic:
    labels: LabelArray
    is_short: bool
    never_steady: bool


def _automatic(sat: FloatArray, works: BoolArray) -> _Automatic:
    """Return the labels that the series itself calls for; sat has no NaN."""
    start, stop = active_range(works)
    labels = np.full(len(sat), Label.STARTUP, dtype=np.int8)
    if stop - start < SHORT_WINDOWS:
        labels[start:stop] = Label.WARMUP
        labels[stop if stop > start else len(sat) :] = Label.TAIL
        return _Automatic(labels, is_short=True, never_steady=False)
    labels[stop:] = Label.TAIL
    active = sat[start:stop]
    low = _passing_low(active, works[start:stop])
    is_low = np.zeros(len(active), dtype=np.bool_)
    for low_start, low_stop in low:
        is_low[low_start:low_stop] = True
    rest = np.flatnonzero(~is_low)
    head, tail, never_steady = _transients(active[rest])
    n = len(active)
    first = _with_bursts(int(rest[head]), low, most=n // 2)
    after = n - 1 - int(rest[len(rest) - 1 - tail])
    last = n - _with_bursts(after, n - low[::-1, ::-1], most=min(n // 2, n - 1 - first))
    inner = labels[start:stop]  # a view: what is written here is written to labels
    inner[:] = np.where(is_low, Label.DIP, Label.STEADY)
    inner[:first] = Label.WARMUP
    inner[last:] = Label.TAIL
    return _Automatic(labels, is_short=False, never_steady=never_steady)


def _passing_low(active: FloatArray, works: BoolArray) -> IntArray:
    """Return the low stretches, shape (k, 2), but those of every step and those that are a level of their own.

    A level of its own lasts, keeps its level, and has work: a hang of an hour is a dip.
    """
    low = without_rhythm(low_stretches(active, main_level(active)))
    passing = [
        not (
            _lasts(int(stop - start), len(active))
            and works[start:stop].mean() >= WORKING_FRAC
            and is_flat(active[start:stop])
        )
        for start, stop in low
    ]
    return low[np.array(passing, dtype=np.bool_)]


def _lasts(length: int, whole: int) -> bool:
    """Return whether a stretch of a run is too long to be a passing one."""
    return length >= max(TREND_POINTS, min(max(LASTING_WINDOWS, LASTING_FRAC * whole), MAJOR_FRAC * whole))


def _transients(values: FloatArray) -> tuple[int, int, bool]:
    """Return how many windows of the joined level to cut at the start and at the end, and NEVER_STEADY.

    MSER is for one level. So a change of level is looked for first, and at each end MSER sees the series
    only as far as the first level that is settled.
    """
    edges = [0, *(change.index for change in level_changes(values)), len(values)]
    settled = _settled(values, edges)
    if settled is None and len(values) >= TREND_POINTS and not is_flat(values):
        return 0, 0, True
    head = _transient(values, settled)
    left = values[head:][::-1]
    left_edges = [0, *(len(values) - edge for edge in reversed(edges) if head < edge < len(values)), len(left)]
    return head, _transient(left, _settled(left, left_edges)), False


def _settled(values: FloatArray, edges: Sequence[int]) -> tuple[int, int] | None:
    """Return the first level [start, stop) that is no transient, or None.

    It keeps its level; it differs from the level after it (the last one: before it) by more than a piece of
    a drift would; and it lasts, or is above what follows: nothing warms up from a better level.
    """
    levels = list(itertools.pairwise(edges))
    means = [float(values[start:stop].mean()) for start, stop in levels]
    for i, (start, stop) in enumerate(levels):
        level = values[start:stop]
        if len(level) < TREND_POINTS or not is_flat(level):
            continue
        near = i + 1 if i + 1 < len(levels) else i - 1
        if len(levels) > 1 and 2 * drift(level) > abs(means[i] - means[near]):
            continue
        if _lasts(len(level), len(values)) or (near > i and means[i] > means[near]):
            return start, stop
    return None


def _transient(values: FloatArray, settled: tuple[int, int] | None) -> int:
    """Return how many windows to cut at the start, by MSER-5 up to the end of the settled level.

    Of the cut, only as much is taken as mostly stands out from what is kept: of noise alone the best
    truncation is anywhere, and one odd minute far inside is no warm-up of all before it.
    """
    begin, end = settled or (0, len(values))
    cut = truncation(values[:end], most=max(begin, end // 2)) // BATCH_WINDOWS
    if cut == 0:
        return 0
    batches = batch_means(values[:end])
    level = float(batches[cut:].mean())
    sigma = max(float(batches[cut:].std()), robust_sigma(np.diff(batches)) / math.sqrt(2))
    limit = max(STANDS_OUT_PER_CHANGE * level_change_limit(level), STANDS_OUT_SIGMA * sigma)
    stands_out = np.abs(batches[:cut] - level) > limit
    mostly = 2 * np.cumsum(stands_out) >= np.arange(1, cut + 1)
    last = np.flatnonzero(stands_out & mostly)
    return (int(last[-1]) + 1) * BATCH_WINDOWS if len(last) else 0


def _with_bursts(first: int, low: IntArray, *, most: int) -> int:
    """Return the end of a warm-up that also takes in each burst of work shorter than the pause after it."""
    for start, stop in low:
        if start < first:
            continue
        if start - first >= stop - start or stop > most:
            break
        first = int(stop)
    return first
