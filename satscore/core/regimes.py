"""Where the level of a series changes for good: the best split into levels, then Welch's test.

The split minimises squared deviations plus a penalty per change (the optimum that PELT finds: Killick,
Fearnhead, Eckley 2012). PELT's pruning removes nothing while no change occurs, which is the usual run, and
is quadratic then. Functional pruning (Maidstone, Hocking, Rigaill, Fearnhead 2017) keeps, for each earlier
split, the interval of levels for which it is still the best one: about sqrt(n) splits stay in the race.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from satscore.core.readings import FloatArray, IntArray
from satscore.core.student import t_two_sided_p
from satscore.core.trend import level_change_limit, robust_sigma

BLOCK_WINDOWS = 10
REGIME_BLOCKS_MIN = 6
"""A level must hold for 60 s to be one."""
PENALTY = 3.0
"""Penalty per change, in sigma^2 ln n."""
SIGMA_MIN_FRAC = 1e-3
"""Noise below a tenth of a point is not told from none: no change of level is as small."""
PRUNE_EVERY = 8
"""Pruning costs as much as a few steps without it."""
P_MAX = 0.001
UNPROVEN_STRENGTH = 0.999


class RegimeChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change of level that is large and certain."""

    index: int
    """First window of the new level; known to 10 windows of the series."""
    before_frac: float
    """Mean level before, from the last change on."""
    after_frac: float
    """Mean level from here to the next change."""
    p_value: float
    """Of Welch's test between the 10 s means of both."""


class _Level(NamedTuple):
    """What a test needs to know of the blocks between two changes."""

    blocks_count: int
    mean: float
    variance: float


def level_changes(values: FloatArray) -> tuple[RegimeChange, ...]:
    """Return the changes that are large (above 3 points and 10 % of the level) and certain (p < 0.001).

    Args:
        values: shape (n,), one per 1 s window, fractions, no NaN. A place is known to 10 windows.
    """
    blocks = _block_means(values)
    if len(blocks) < 2 * REGIME_BLOCKS_MIN:
        return ()
    penalty = PENALTY * _sigma(blocks) ** 2 * math.log(len(blocks))
    splits = best_splits(blocks, penalty=penalty, length_min=REGIME_BLOCKS_MIN)
    return tuple(
        msgspec.structs.replace(change, index=change.index * BLOCK_WINDOWS) for change in _proven(blocks, splits)
    )


def _block_means(values: FloatArray) -> FloatArray:
    """Return the means of 10 values each; what fills no block at the end is left out."""
    m = len(values) // BLOCK_WINDOWS
    means: FloatArray = values[: m * BLOCK_WINDOWS].reshape(m, BLOCK_WINDOWS).mean(axis=1)
    return means


def _sigma(blocks: FloatArray) -> float:
    """Return the noise of a block, from first differences: changes of level are too few to show in them."""
    differences = np.diff(blocks)
    return max(robust_sigma(differences - np.median(differences)) / math.sqrt(2), SIGMA_MIN_FRAC)


def best_splits(values: FloatArray, *, penalty: float, length_min: int) -> list[int]:
    """Return where to split a series into constant levels at the least squared deviations plus penalties.

    Args:
        values: shape (n,), no NaN.
        penalty: Cost of a split, > 0, in the unit of values squared.
        length_min: Values in a level at least, > 0.

    Returns:
        The first value of each level but the first, in order.
    """
    n = len(values)
    total = np.concatenate([[0.0], np.cumsum(values - values.mean())])
    beyond = np.full(n + 1, np.inf)  # least cost of the values up to here, less the sum of their squares
    beyond[0] = -penalty
    origin = np.zeros(n + 1, dtype=np.int64)
    race = _Race(n)
    for stop in range(length_min, n + 1):
        newest = stop - length_min
        if newest == 0 or newest >= length_min:
            if newest % PRUNE_EVERY == 0:
                race.prune(newest, beyond, total)
            race.enter(newest)
        live = race.live
        costs = beyond[live] - (total[stop] - total[live]) ** 2 / (stop - live)
        best = int(np.argmin(costs))
        beyond[stop], origin[stop] = costs[best] + penalty, live[best]
    return _traced(origin)


class _Race:
    """Places where the last level may have begun, each with the levels for which it is still the best place."""

    def __init__(self, n: int) -> None:
        self._places = np.zeros(n + 1, dtype=np.int64)
        self._lowest = np.empty(n + 1)
        self._highest = np.empty(n + 1)
        self._count = 0

    @property
    def live(self) -> IntArray:
        """The places, shape (k,), in order."""
        return self._places[: self._count]

    def enter(self, place: int) -> None:
        """Add a place."""
        at = self._count
        self._places[at], self._lowest[at], self._highest[at] = place, -np.inf, np.inf
        self._count += 1

    def prune(self, newest: int, beyond: FloatArray, total: FloatArray) -> None:
        """Drop the places that are nowhere better than to begin at the newest, whatever comes after it."""
        live = self.live
        length = newest - live
        mean = (total[newest] - total[live]) / length
        room = (beyond[newest] - beyond[live]) / length + mean**2
        reach = np.sqrt(np.maximum(room, 0.0))
        lowest = np.maximum(self._lowest[: self._count], mean - reach)
        highest = np.minimum(self._highest[: self._count], mean + reach)
        keep = (room > 0.0) & (lowest < highest)
        kept = int(keep.sum())
        self._places[:kept], self._lowest[:kept], self._highest[:kept] = live[keep], lowest[keep], highest[keep]
        self._count = kept


def _traced(origin: IntArray) -> list[int]:
    """Return the splits on the way from the end back to the start."""
    splits = []
    at = int(origin[-1])
    while at > 0:
        splits.append(at)
        at = int(origin[at])
    return splits[::-1]


def _proven(blocks: FloatArray, splits: Sequence[int]) -> list[RegimeChange]:
    """Return the changes that remain when the weakest one that is not proven is undone, time and again."""
    edges = [0, *splits, len(blocks)]
    changes = [_tested(blocks, edges, i) for i in range(1, len(edges) - 1)]
    strengths = [_strength(change) for change in changes]
    while strengths and (weakest := min(strengths)) < 1.0:
        i = strengths.index(weakest)
        del edges[i + 1], changes[i], strengths[i]
        for near in (i - 1, i):
            if 0 <= near < len(changes):
                changes[near] = _tested(blocks, edges, near + 1)
                strengths[near] = _strength(changes[near])
    return changes


def _strength(change: RegimeChange) -> float:
    """Return the size of a change over the size that it needs; below 1 where it may be chance."""
    strength = abs(change.after_frac - change.before_frac) / level_change_limit(change.before_frac)
    return strength if change.p_value < P_MAX else min(strength, UNPROVEN_STRENGTH)


def _tested(blocks: FloatArray, edges: Sequence[int], i: int) -> RegimeChange:
    before, after = (_level(blocks[lo:hi]) for lo, hi in ((edges[i - 1], edges[i]), (edges[i], edges[i + 1])))
    return RegimeChange(index=edges[i], before_frac=before.mean, after_frac=after.mean, p_value=_welch_p(before, after))


def _level(blocks: FloatArray) -> _Level:
    return _Level(len(blocks), float(blocks.mean()), float(blocks.var(ddof=1)))


def _welch_p(a: _Level, b: _Level) -> float:
    """Return the two-sided p of Welch's test; variances of both being 0, any difference is certain."""
    error_a, error_b = a.variance / a.blocks_count, b.variance / b.blocks_count
    error = error_a + error_b
    if error <= 0.0:
        return 1.0 if a.mean == b.mean else 0.0
    dof = error**2 / (error_a**2 / (a.blocks_count - 1) + error_b**2 / (b.blocks_count - 1))
    return t_two_sided_p((b.mean - a.mean) / math.sqrt(error), dof)
