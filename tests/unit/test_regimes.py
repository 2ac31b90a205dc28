"""Changes of level: the best split against brute force, then what counts as a change."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core import regimes
from satscore.core.readings import FloatArray
from satscore.core.regimes import best_splits, level_changes
from tests.unit.phase_series import noise


def cost(values: FloatArray, splits: list[int], penalty: float) -> float:
    """Return what a split costs by its definition."""
    parts = itertools.pairwise([0, *splits, len(values)])
    return sum(float(((values[a:b] - values[a:b].mean()) ** 2).sum()) for a, b in parts) + penalty * len(splits)


def cheapest(values: FloatArray, penalty: float, length_min: int) -> float:
    """Return the least cost of all splits, by the recursion over every last level."""
    best = {0: -penalty}
    for stop in range(length_min, len(values) + 1):
        best[stop] = min(
            best[a] + float(((values[a:stop] - values[a:stop].mean()) ** 2).sum()) + penalty
            for a in best
            if stop - a >= length_min
        )
    return best[len(values)]


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=60),
    st.floats(0.1, 60.0),
    st.integers(1, 6),
)
@settings(deadline=None)
def test_no_split_is_cheaper_than_the_one_found(values: list[int], penalty: float, length_min: int) -> None:
    series = np.array(values, dtype=float)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regimes, "PRUNE_EVERY", 1)
        found = best_splits(series, penalty=penalty, length_min=length_min)
    if len(series) < length_min:
        assert found == []
        return
    assert cost(series, found, penalty) <= cheapest(series, penalty, length_min) + 1e-6
    assert all(b - a >= length_min for a, b in itertools.pairwise([0, *found, len(series)]))


@pytest.mark.parametrize("seed", range(4))
def test_long_noisy_series_are_split_as_well_as_can_be(seed: int) -> None:
    rng = np.random.default_rng(seed)
    series = np.repeat(rng.normal(0.0, 1.0, 12), rng.integers(6, 40, 12))
    series = series + rng.normal(0.0, 0.5, len(series))
    penalty = 3 * 0.25 * np.log(len(series))
    found = best_splits(series, penalty=penalty, length_min=6)
    assert cost(series, found, penalty) == pytest.approx(cheapest(series, penalty, 6), abs=1e-9)


def test_noise_without_a_change_keeps_few_places_in_the_race(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    prune = regimes._Race.prune

    def counted(race: regimes._Race, newest: int, beyond: FloatArray, total: FloatArray) -> None:
        prune(race, newest, beyond, total)
        sizes.append(len(race.live))

    monkeypatch.setattr(regimes._Race, "prune", counted)
    n = 8640
    assert best_splits(np.random.default_rng(5).normal(0.0, 1.0, n), penalty=3 * np.log(n), length_min=6) == []
    assert max(sizes) < 10 * np.sqrt(n)


def series(*parts: tuple[int, float], sigma: float = 0.01, seed: int = 1) -> FloatArray:
    levels = np.concatenate([np.full(n, level) for n, level in parts])
    return levels + noise(np.random.default_rng(seed), len(levels), sigma)


def test_a_change_is_found_with_its_levels() -> None:
    (change,) = level_changes(series((600, 0.6), (900, 0.4)))
    assert change.index == 600
    assert change.before_frac == pytest.approx(0.6, abs=0.003)
    assert change.after_frac == pytest.approx(0.4, abs=0.003)
    assert change.p_value < 1e-12


def test_a_minute_at_another_level_is_found_in_noise() -> None:
    found = level_changes(series((600, 0.50), (60, 0.57), (600, 0.50), sigma=0.02))
    assert [abs(change.index - at) <= 10 for change, at in zip(found, (600, 660), strict=True)] == [True, True]


def test_the_penalty_is_3_sigma_squared_ln_n_whatever_the_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    penalties = []

    def kept(values: FloatArray, *, penalty: float, length_min: int) -> list[int]:
        penalties.append(penalty)
        return []

    monkeypatch.setattr(regimes, "best_splits", kept)
    level_changes(series((10_000, 0.5), (10_000, 0.2), sigma=0.0) + np.random.default_rng(6).normal(0.0, 0.03, 20_000))
    level_changes(np.full(20_000, 0.5))  # a tenth of a point is the least noise
    assert penalties == [pytest.approx(3 * sigma**2 * np.log(2000), rel=0.1) for sigma in (0.03 / np.sqrt(10), 0.001)]


@pytest.mark.parametrize(
    ("before", "after", "counts"),
    [
        (0.20, 0.225, False),  # under 3 points
        (0.20, 0.24, True),
        (0.60, 0.645, False),  # under 10 %
        (0.60, 0.675, True),
        (0.60, 0.525, True),
    ],
)
def test_a_change_counts_from_3_points_and_10_percent_on(before: float, after: float, counts: bool) -> None:
    assert bool(level_changes(series((600, before), (600, after), sigma=0.005))) is counts


def test_a_change_that_may_be_chance_is_none() -> None:
    rng = np.random.default_rng(11)
    wide = np.concatenate([np.full(60, 0.45), np.full(60, 0.55)]) + np.repeat(rng.normal(0.0, 0.12, 12), 10)
    assert level_changes(wide) == ()


def test_a_level_needs_60_windows() -> None:
    assert len(level_changes(series((300, 0.6), (70, 0.4), (300, 0.6)))) == 2
    assert len(level_changes(series((300, 0.6), (30, 0.4), (300, 0.6)))) == 0
    assert level_changes(series((60, 0.6), (59, 0.4))) == ()
    assert len(level_changes(series((60, 0.6), (60, 0.4)))) == 1


def test_small_steps_that_add_up_are_joined_until_they_count() -> None:
    values = series(*((300, 0.50 + 0.02 * i) for i in range(8)), sigma=0.003)
    changes = level_changes(values)
    assert 1 <= len(changes) <= 3
    edges = [0, *(change.index for change in changes), len(values)]
    for i, change in enumerate(changes):
        assert change.after_frac - change.before_frac > max(0.03, 0.1 * change.before_frac)
        assert change.before_frac == pytest.approx(values[edges[i] : edges[i + 1]].mean())
        assert change.after_frac == pytest.approx(values[edges[i + 1] : edges[i + 2]].mean())


@pytest.mark.parametrize("value", [0.0, 0.1 + 0.2, 1.0])
def test_a_constant_series_has_no_change(value: float) -> None:
    assert level_changes(np.full(2000, value)) == ()


def test_a_change_without_noise_is_certain() -> None:
    (change,) = level_changes(np.repeat([0.5, 0.25], 300))
    assert (change.index, change.p_value) == (300, 0.0)


def test_noise_has_no_change() -> None:
    rng = np.random.default_rng(3)
    for _ in range(40):
        assert level_changes(0.5 + noise(rng, 1200, 0.04, phi=0.7)) == ()
