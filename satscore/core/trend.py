"""Whether a stretch of windows keeps its level: robust noise, slope and rank test (docs/method.md, "Phases")."""

import math

import numpy as np

from satscore.core.readings import FloatArray

TREND_POINTS = 60
"""Values that a test looks at: the last minute online, as many block means of a longer stretch offline."""
LEVEL_CHANGE_FRAC, LEVEL_CHANGE_RELATIVE = 0.03, 0.10
"""A change of level counts from 3 points and from 10 % of the level on: both."""
MANN_KENDALL_Z = 1.96
MAD_TO_SIGMA = 1.4826
"""Standard deviation over median absolute deviation, normal distribution."""
_EARLIER, _LATER = np.triu_indices(TREND_POINTS, k=1)
_APART = (_LATER - _EARLIER).astype(np.float64)


def level_change_limit(level_frac: float) -> float:
    """Return the change of a level, as a fraction of the bound like the level, up to which it is the same."""
    return max(LEVEL_CHANGE_FRAC, LEVEL_CHANGE_RELATIVE * level_frac)


def robust_sigma(deviations: FloatArray) -> float:
    """Return the standard deviation that the median size of deviations stands for: outliers do not move it."""
    return MAD_TO_SIGMA * float(np.median(np.abs(deviations)))


def is_flat(values: FloatArray) -> bool:
    """Return whether a stretch keeps its level: little drift, or none proven (Mann-Kendall).

    Args:
        values: shape (n,), n >= 60, in order of time, no NaN. More than 60 are averaged to 60 blocks.
    """
    points = _block_means(values)
    if drift(values) < level_change_limit(float(np.median(points))):
        return True
    return abs(_mann_kendall_z(points)) < MANN_KENDALL_Z


def drift(values: FloatArray) -> float:
    """Return the size of the change from end to end by the median slope (Theil-Sen); values as for is_flat."""
    points = _block_means(values)
    slopes = (points[_LATER] - points[_EARLIER]) / _APART
    return abs(float(np.median(slopes))) * (TREND_POINTS - 1)


def _block_means(values: FloatArray) -> FloatArray:
    """Return the means of 60 blocks of as equal a length as there can be."""
    if len(values) == TREND_POINTS:
        return values
    edges = np.arange(TREND_POINTS + 1) * len(values) // TREND_POINTS
    means: FloatArray = np.add.reduceat(values, edges[:-1]) / np.diff(edges)
    return means


def _mann_kendall_z(points: FloatArray) -> float:
    """Return the normal score of the trend in 60 values; ties make it smaller."""
    n = TREND_POINTS
    surplus = float(np.sign(points[_LATER] - points[_EARLIER]).sum())
    return math.copysign(max(abs(surplus) - 1.0, 0.0), surplus) / math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
