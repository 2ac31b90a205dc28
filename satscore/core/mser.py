"""MSER-5: how much of the start of a series to leave out so that its mean is known best.

White, "An effective truncation heuristic for bias reduction in simulation output" (1997), and White, Cobb,
Spratt (2000): of all truncations, the one with the smallest squared standard error of what is kept, over
means of five values.
"""

import numpy as np

from satscore.core.readings import FloatArray

BATCH_WINDOWS = 5
KEPT_BATCHES_MIN = 5


def truncation(values: FloatArray, most: int | None = None) -> int:
    """Return how many values to leave out at the start: a multiple of 5, 0 for a constant series.

    Args:
        values: shape (n,), no NaN. Up to 4 at the end, which fill no batch, are not looked at.
        most: Search no further than so many; None: as long as five batches are kept.
    """
    batches = batch_means(values)
    tried = len(batches) - KEPT_BATCHES_MIN + 1
    if most is not None:
        tried = min(tried, most // BATCH_WINDOWS + 1)
    if tried <= 1:
        return 0
    from_last = batches[::-1] - batches[-1]  # exactly 0 for a constant series, whatever its rounding
    kept = np.arange(1, len(batches) + 1)
    squares = np.cumsum(from_last**2) - np.cumsum(from_last) ** 2 / kept
    error = np.maximum(squares, 0.0) / kept.astype(np.float64) ** 2
    return int(np.argmin(error[::-1][:tried])) * BATCH_WINDOWS


def batch_means(values: FloatArray) -> FloatArray:
    """Return the means of five values each, from the start: shape (n // 5,)."""
    m = len(values) // BATCH_WINDOWS
    means: FloatArray = values[: m * BATCH_WINDOWS].reshape(m, BATCH_WINDOWS).mean(axis=1)
    return means
