"""Correlated series with a known mean, for tests of what is said of means."""

import numpy as np

from satscore.core.readings import FloatArray


def ar1(rng: np.random.Generator, *, phi: float, runs: int, windows: int) -> FloatArray:
    """Return stationary AR(1) series of mean 0 and standard deviation 1, shape (runs, windows)."""
    shocks = rng.standard_normal((windows, runs))
    series = np.empty((windows, runs))
    series[0] = shocks[0]
    for i in range(1, windows):
        series[i] = phi * series[i - 1] + np.sqrt(1 - phi * phi) * shocks[i]
    return series.T.copy()


def swing(rng: np.random.Generator, *, period: float, runs: int, windows: int) -> FloatArray:
    """Return sines of amplitude 1 with a random phase each, shape (runs, windows); the period is in windows."""
    phase = rng.random((runs, 1))
    series: FloatArray = np.sin(2 * np.pi * (np.arange(windows) / period + phase))
    return series
