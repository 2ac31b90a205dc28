"""Flat or not; where work begins and ends; the main level and what is below it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core.levels import active_range, low_stretches, main_level, stretches, worked
from satscore.core.trend import is_flat, level_change_limit, robust_sigma
from tests.unit.phase_series import UNKNOWN, noise


def test_limit_of_a_change() -> None:
    assert level_change_limit(0.1) == 0.03
    assert level_change_limit(0.3) == pytest.approx(0.03)
    assert level_change_limit(0.6) == pytest.approx(0.06)


def test_robust_sigma_is_that_of_normal_noise_and_ignores_outliers() -> None:
    deviations = np.random.default_rng(0).normal(0.0, 0.02, 20_000)
    assert robust_sigma(deviations) == pytest.approx(0.02, rel=0.03)
    deviations[:1000] = 5.0
    assert robust_sigma(deviations) == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("drift", "sigma", "flat"),
    [
        (0.0, 0.0, True),
        (0.05, 0.001, True),  # certain, but less than 10 %
        (0.08, 0.001, False),
        (-0.08, 0.001, False),
    ],
)
@pytest.mark.parametrize("n", [60, 61, 119, 3000])
def test_flat(n: int, drift: float, sigma: float, flat: bool) -> None:
    values = 0.6 + drift * (np.arange(n) / (n - 1) - 0.5) + np.random.default_rng(n).normal(0.0, sigma, n)
    assert is_flat(values) is flat


def test_a_drift_that_may_be_noise_is_none() -> None:
    drift = 0.08 * (np.arange(60) / 59 - 0.5)
    assert is_flat(0.6 + drift + np.random.default_rng(1).normal(0.0, 0.4, 60))


def test_a_level_below_3_points_may_drift_by_3_points() -> None:
    assert is_flat(np.linspace(0.0, 0.029, 60))
    assert not is_flat(np.linspace(0.0, 0.031, 60))


def test_noise_is_flat() -> None:
    rng = np.random.default_rng(8)
    assert sum(is_flat(0.5 + noise(rng, 60, 0.2, phi=0.0)) for _ in range(200)) >= 185


def test_work_shows_in_the_engine_and_else_in_the_score() -> None:
    sat = np.array([0.0, 0.9, 0.0, 0.02, UNKNOWN, UNKNOWN])
    engine = np.array([0.2, 0.19, UNKNOWN, UNKNOWN, 0.3, UNKNOWN])
    assert worked(sat, engine).tolist() == [True, False, False, True, True, False]


def mask(text: str) -> np.ndarray:
    return np.array([c == "#" for c in text], dtype=np.bool_)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, 0)),
        ("........", (0, 0)),
        ("..........##########..........", (10, 20)),
        ("#" * 20, (0, 20)),
        ("..#.............########.....", (16, 24)),  # a lone kernel is no beginning
        ("......########............#....", (6, 14)),
        ("#...................#", (0, 21)),  # nothing but lone ones: from first to last
        ("..........#.#.#.#.#.#.#.#.#.#.#..........", (14, 27)),
        (".#.", (1, 2)),
    ],
)
def test_active_range(text: str, expected: tuple[int, int]) -> None:
    assert active_range(mask(text)) == expected


@given(st.lists(st.booleans(), max_size=60))
@settings(deadline=None)
def test_active_range_runs_from_work_to_work(works: list[bool]) -> None:
    start, stop = active_range(np.array(works, dtype=np.bool_))
    assert 0 <= start <= stop <= len(works)
    assert (stop > start) == any(works)
    if stop > start:
        assert works[start]
        assert works[stop - 1]


def test_main_level_is_that_of_most_windows() -> None:
    assert main_level(np.array([0.6] * 60 + [0.0] * 40)) == 0.6
    assert main_level(np.array([0.6] * 40 + [0.0] * 60)) == 0.0
    # of all 0.3; of those from 0.15 up 0.58; of those from 0.29 up 0.59
    assert main_level(np.array([0.01, 0.12, 0.2, 0.3, 0.58, 0.6, 0.7])) == pytest.approx(0.59)


def test_low_stretches_begin_below_half_and_end_at_four_fifths() -> None:
    sat = np.array([1.0, 0.6, 0.49, 0.6, 0.79, 0.8, 0.49, 0.9, 0.7, 0.4, 0.4])
    assert low_stretches(sat, 1.0).tolist() == [[2, 5], [9, 11]]  # a single window is none


def test_there_are_no_low_stretches_below_a_level_of_6_points() -> None:
    sat = np.array([0.06, 0.0, 0.0, 0.06])
    assert low_stretches(sat, 0.0599).tolist() == []
    assert low_stretches(sat, 0.0601).tolist() == [[1, 3]]


def test_stretches_of_a_mask() -> None:
    assert stretches(mask("##..#.")).tolist() == [[0, 2], [4, 5]]
    assert stretches(mask("")).tolist() == []
