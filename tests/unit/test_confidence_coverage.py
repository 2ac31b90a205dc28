"""How often the nominal 95 % interval holds the truth, on simulated series.

The series are AR(1) noise of standard deviation 1 around 50, alone and with the swing of a training step (a sine of
a given amplitude, random phase). ``pytest -s -m slow`` prints the table of docs/method.md, "Uncertainty".
"""

from collections.abc import Iterator

import numpy as np
import pytest

from satscore.core.confidence import batch_means, confidence_of
from satscore.core.readings import FloatArray
from tests.unit.noise import ar1, swing

TRUTH = 50.0
SEED = 13
RUNS = 400
SWINGS = ((None, 0.0), (7.3, 1.0), (7.3, 2.0), (7.3, 5.0), (31.0, 1.0), (31.0, 2.0), (31.0, 5.0))
LEAST = {120: 0.74, 300: 0.90, 900: 0.92}
"""Smallest share of intervals that may hold the truth, by windows in the series."""


def series_of(phi: float, windows: int, runs: int, period: float | None, amplitude: float) -> FloatArray:
    rng = np.random.default_rng(SEED)
    series = TRUTH + ar1(rng, phi=phi, runs=runs, windows=windows)
    if period is not None:
        series += amplitude * swing(rng, period=period, runs=runs, windows=windows)
    return series


def intervals(series: FloatArray) -> Iterator[tuple[bool, float]]:
    """Yield of each series whether its interval holds the truth, and half of its width."""
    for values in series:
        found = batch_means(values)
        assert found is not None
        yield abs(found.mean - TRUTH) <= found.half_width, found.half_width


def coverage(phi: float, windows: int, runs: int, period: float | None, amplitude: float) -> tuple[float, float]:
    """Return the share of intervals that hold the truth and their mean half width."""
    held, half = zip(*intervals(series_of(phi, windows, runs, period, amplitude)), strict=True)
    return float(np.mean(held)), float(np.mean(half))


@pytest.mark.parametrize("swing_of_step", [(None, 0.0), (7.3, 2.0)])
def test_intervals_of_correlated_windows_hold_the_truth(swing_of_step):
    # 80 runs scatter by 0.03; without any care for correlation half of the intervals would miss.
    held, _ = coverage(0.9, 300, 80, *swing_of_step)
    assert held >= 0.85


@pytest.mark.slow
@pytest.mark.parametrize("windows", LEAST)
def test_coverage_of_the_grid(windows):
    held = {}
    for phi in (0.0, 0.5, 0.9):
        cells = []
        for period, amplitude in SWINGS:
            held[phi, period, amplitude], half = coverage(phi, windows, RUNS, period, amplitude)
            cells.append(f"{held[phi, period, amplitude]:.3f} (+-{half:.2f})")
        print(f"| {windows} | {phi} | {' | '.join(cells)} |")
    worst = min(held, key=lambda cell: held[cell])
    assert held[worst] >= LEAST[windows], worst
    # Noise alone: intervals that are always right are too wide to be of use.
    assert all(held[phi, None, 0.0] < 0.99 for phi in (0.0, 0.5, 0.9))


@pytest.mark.slow
@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("lengths", [(600, 300), (64,) * 5, (300, 40, 40), (200, 30, 200, 30)])
def test_coverage_of_segments(phi, lengths):
    """Regimes at levels two standard deviations apart, short ones among them."""
    levels = np.repeat(2.0 * np.arange(len(lengths)), lengths)
    held = 0
    for values in series_of(phi, sum(lengths), RUNS, None, 0.0):
        found = confidence_of(np.split(values + levels, np.cumsum(lengths)[:-1]))
        assert found is not None
        held += found.low <= TRUTH + levels.mean() <= found.high
    print(f"| {lengths} | {phi} | {held / RUNS:.3f} |")
    assert 0.90 <= held / RUNS < 0.99
