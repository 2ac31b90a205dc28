"""How sure a mean over windows is: batch means of a correlated series (docs/method.md, "Uncertainty").

Windows of a training run resemble their neighbours, so the textbook ``s / sqrt(n)`` is far too small. Means over
batches that are long against the correlation are nearly independent; their scatter gives the standard error, and
what correlation is left inflates it.

The input is the job's series: the mean over ranks *first*, one value per window. Ranks of a job move together;
pooling their windows would claim sqrt(ranks) more precision than there is. Units are those of the values
(fractions or points). Values are finite: the caller cuts unknown windows out and joins the rest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from satscore.core.readings import FloatArray
from satscore.core.student import pooled_dof, t_quantile

WINDOWS_MIN = 64
"""Below this there is no interval: 16 batches of 4 windows are the least."""
RELIABLE_WINDOWS_MIN = 300
"""Below this a nominal 95 % interval may hold the truth far less often (docs/method.md, "Uncertainty")."""
BATCH_WINDOWS_MIN, BATCHES_MIN = 4, 16
CORRELATION_MAX, INFLATION_MAX = 0.15, 20.0
LEVEL = 0.975
"""Upper end of a two-sided 95 % interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchMeans:
    """The batch means of one series and what they say of its mean.

    Attributes:
        batch_windows: Windows in a batch (b).
        batches: shape (m,), means of the batches, oldest first; up to b - 1 of the oldest windows are in none.
        lag1_corr: Correlation of a batch with the next (r), corrected for bias; NaN if all batches are equal.
        mean: Mean of all windows, those outside the batches included.
        se: Standard error of that mean.
        dof: Degrees of freedom behind the standard error; real, because correlated batches count for less.
        half_width: Half of the two-sided 95 % interval.
    """

    batch_windows: int
    batches: FloatArray
    lag1_corr: float
    mean: float
    se: float
    dof: float
    half_width: float


class Confidence(msgspec.Struct, frozen=True, kw_only=True):
    """A mean with its two-sided 95 % interval, in the unit of the values. The interval is not clipped."""

    n_windows: int
    mean: float
    """Of all windows."""
    se: float
    dof: float
    half_width: float
    low: float
    high: float
    batch_windows: int
    """Windows in a batch; where segments differ, the most."""
    batches_count: int
    """Batches of all segments."""
    is_reliable: bool
    """The standard error rests on 300 windows or more; from fewer it is too small if they are strongly correlated."""


def batch_means(values: FloatArray) -> BatchMeans | None:
    """Return the batch means of one series; None if it has fewer than 64 windows.

    Batches start at 4 windows and double in length until neighbours hardly correlate (|r| < 0.15) at two lengths
    in a row, or one more doubling would leave fewer than 16. One length is not enough: where batches are half a
    step of training long, the swing within a step correlates negatively and hides a positive correlation.

    Args:
        values: shape (n,), one finite value per window, in time order.
    """
    return _batch_means(values) if len(values) >= WINDOWS_MIN else None


def confidence_of(segments: Sequence[FloatArray]) -> Confidence | None:
    """Return the mean over all windows with its interval; None if there are fewer than 64 windows in all.

    Segments are the regimes of a run: no batch crosses from one to the next, so that a change of level is not
    taken for noise. Each is a stratum: ``se^2 = sum (n_k/n)^2 se_k^2``, with Welch-Satterthwaite degrees of freedom.

    A segment with fewer than 64 windows has no standard error of its own. Its windows count in the mean as all
    others do, and are taken to scatter as those of the longer segments do on average: that multiplies the squared
    error by n over the windows of the longer ones. If every segment is that short, there is nothing to learn the
    scatter from: they are joined to one series, whose changes of level then count as noise. That interval is too
    wide, never too narrow.

    Args:
        segments: One array of shape (n_k,) per segment, finite values in time order; an empty one changes nothing.
    """
    n_windows = sum(len(values) for values in segments)
    if n_windows < WINDOWS_MIN:
        return None
    whole = np.concatenate(segments)
    strata = [values for values in segments if len(values) >= WINDOWS_MIN] or [whole]
    found = [_batch_means(values) for values in strata]
    n_strata = sum(len(values) for values in strata)
    variances = [(len(values) * one.se) ** 2 for values, one in zip(strata, found, strict=True)]
    se = math.sqrt(sum(variances) / (n_windows * n_strata))
    dof = pooled_dof(variances, [one.dof for one in found])
    mean, half_width = float(whole.mean()), t_quantile(LEVEL, dof) * se
    return Confidence(
        n_windows=n_windows,
        mean=mean,
        se=se,
        dof=dof,
        half_width=half_width,
        low=mean - half_width,
        high=mean + half_width,
        batch_windows=max(one.batch_windows for one in found),
        batches_count=sum(len(one.batches) for one in found),
        is_reliable=n_strata >= RELIABLE_WINDOWS_MIN,
    )


def _batch_means(values: FloatArray) -> BatchMeans:
    """Return the batch means of at least 64 windows."""
    batch_windows = BATCH_WINDOWS_MIN
    batches = _batches(values, batch_windows)
    lag1_corr = _lag1_corr(batches)
    while len(values) >= 2 * batch_windows * BATCHES_MIN:
        batch_windows, before = 2 * batch_windows, lag1_corr
        batches = _batches(values, batch_windows)
        lag1_corr = _lag1_corr(batches)
        if _is_independent(before) and _is_independent(lag1_corr):
            break
    inflation = _inflation(lag1_corr)
    # Equal batches have no scatter; rounding of their mean must not make one.
    variance = 0.0 if math.isnan(lag1_corr) else float(batches.var(ddof=1))
    se = math.sqrt(variance * inflation / len(batches))
    dof = max(2.0, len(batches) / inflation) - 1.0
    return BatchMeans(
        batch_windows=batch_windows,
        batches=batches,
        lag1_corr=lag1_corr,
        mean=float(values.mean()),
        se=se,
        dof=dof,
        half_width=t_quantile(LEVEL, dof) * se,
    )


def _batches(values: FloatArray, batch_windows: int) -> FloatArray:
    """Return the means of whole batches, shape (n // b,); what does not fill one is cut at the old end."""
    count = len(values) // batch_windows
    means: FloatArray = values[len(values) - count * batch_windows :].reshape(count, batch_windows).mean(axis=1)
    return means


def _lag1_corr(batches: FloatArray) -> float:
    """Return the correlation of neighbours, with 1/m for the bias of a short series; NaN if all are equal."""
    if batches.min() == batches.max():
        return math.nan
    deviation = batches - batches.mean()
    return float(deviation[:-1] @ deviation[1:] / (deviation @ deviation)) + 1 / len(batches)


def _is_independent(lag1_corr: float) -> bool:
    """Return whether neighbours hardly correlate; equal batches (NaN) have nothing that could."""
    return math.isnan(lag1_corr) or abs(lag1_corr) < CORRELATION_MAX


def _inflation(lag1_corr: float) -> float:
    """Return by how much correlation makes the variance of the mean larger, at least 1 (an AR(1) process)."""
    if not lag1_corr > 0:
        return 1.0
    if lag1_corr >= 1:
        return INFLATION_MAX
    return min(INFLATION_MAX, (1 + lag1_corr) / (1 - lag1_corr))
