"""Batch means and the interval of a mean over windows."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core.confidence import Confidence, batch_means, confidence_of
from satscore.core.readings import FloatArray
from tests.unit.noise import ar1, swing

few = settings(max_examples=30, deadline=None)


def e13() -> FloatArray:
    """Return the series of the scoring reference's worked example E13."""
    i = np.arange(640)
    step = 3 * np.sin(2 * np.pi * i / 8) + 0.5 * ((i % 7) - 3)
    series: FloatArray = 50 + step + np.where((i // 40) % 2 == 1, 0.8, -0.8)
    return series


def noisy(windows: int, *, phi: float = 0.5, seed: int = 1, mean: float = 50.0) -> FloatArray:
    series: FloatArray = mean + ar1(np.random.default_rng(seed), phi=phi, runs=1, windows=windows).ravel()
    return series


def known(segments: list[FloatArray]) -> Confidence:
    found = confidence_of(segments)
    assert found is not None
    return found


def test_worked_example():
    found = batch_means(e13())
    assert found is not None
    assert (found.batch_windows, len(found.batches), found.dof) == (32, 20, 19)
    # The reference prints 49.995312 for 49.9953125.
    assert found.mean == pytest.approx(49.995312, abs=6e-7)
    assert found.lag1_corr == pytest.approx(-0.643023, abs=5e-7)
    assert found.se == pytest.approx(0.129397, abs=5e-7)
    assert found.half_width == pytest.approx(0.270831, abs=5e-7)


def test_one_segment_is_its_batch_means():
    one, found = batch_means(e13()), known([e13()])
    assert one is not None
    assert (found.mean, found.dof) == (one.mean, one.dof)
    assert (found.se, found.half_width) == pytest.approx((one.se, one.half_width), rel=1e-12)
    assert (found.low, found.high) == (found.mean - found.half_width, found.mean + found.half_width)
    assert (found.n_windows, found.batch_windows, found.batches_count) == (640, 32, 20)


def test_correlation_left_over_widens():
    # Two halves at two levels: no batch is long enough.
    series = np.repeat([40.0, 60.0], 320) + noisy(640, phi=0, mean=0)
    found = batch_means(series)
    assert found is not None
    assert (found.batch_windows, len(found.batches)) == (32, 20)
    r = found.lag1_corr
    assert 0.8 < r < 1
    inflation = min(20, (1 + r) / (1 - r))
    assert found.se == pytest.approx(np.sqrt(found.batches.var(ddof=1) * inflation / 20), rel=1e-12)
    assert found.dof == 1
    assert found.half_width == pytest.approx(12.706205 * found.se, rel=1e-6)


def test_inflation_has_a_limit():
    found = batch_means(np.repeat([40.0, 60.0], 496))
    assert found is not None
    assert (found.batch_windows, len(found.batches)) == (32, 31)
    assert found.lag1_corr > 0.95
    assert found.se == pytest.approx(np.sqrt(found.batches.var(ddof=1) * 20 / 31), rel=1e-12)


def test_independent_windows_need_short_batches():
    found = batch_means(noisy(2000, phi=0))
    assert found is not None
    assert found.batch_windows == 8


@pytest.mark.parametrize("period", [7.3, 16.5])
def test_a_swing_that_hides_correlation_at_one_length(period):
    """At half a step, 4 or 8 windows, the swing correlates as much negatively as the noise does positively."""
    rng = np.random.default_rng(3)
    series = ar1(rng, phi=0.95, runs=100, windows=3600) + 2 * swing(rng, period=period, runs=100, windows=3600)
    found = [one for values in series if (one := batch_means(values)) is not None]
    assert min(one.batch_windows for one in found) >= 32
    # The standard error of an AR(1) mean: sqrt((1 + phi) / (1 - phi) / n).
    assert np.mean([one.se for one in found]) == pytest.approx(np.sqrt(39 / 3600), rel=0.15)


@few
@given(st.integers(64, 2000), st.floats(0, 0.9), st.integers(0, 99))
def test_batches_are_independent_or_as_long_as_they_can_be(windows, phi, seed):
    found = batch_means(noisy(windows, phi=phi, seed=seed))
    assert found is not None
    assert len(found.batches) == windows // found.batch_windows >= 16
    assert abs(found.lag1_corr) < 0.15 or windows // (2 * found.batch_windows) < 16


@pytest.mark.parametrize(("windows", "longest"), [(64, 4), (127, 4), (128, 8), (255, 8), (256, 16)])
def test_at_least_16_batches(windows, longest):
    found = batch_means(np.arange(float(windows)))
    assert found is not None
    assert found.batch_windows == longest


def test_old_windows_that_fill_no_batch_count_in_the_mean():
    series = noisy(67)
    series[:3] += 10
    found = batch_means(series)
    assert found is not None
    assert (found.batch_windows, len(found.batches)) == (4, 16)
    assert found.mean == pytest.approx(series.mean(), rel=1e-12)
    assert found.batches == pytest.approx(series[3:].reshape(16, 4).mean(axis=1), rel=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 79.6216, 100.0])
def test_constant_series_is_certain(value):
    found, interval = batch_means(np.full(900, value)), known([np.full(900, value)])
    assert found is not None
    assert math.isnan(found.lag1_corr)
    assert found.batch_windows == 8
    assert (found.se, found.half_width, interval.half_width) == (0, 0, 0)
    assert interval.low == interval.high == interval.mean == pytest.approx(value)


def test_a_swing_that_every_batch_holds_whole_is_no_scatter():
    assert known([np.tile([40.0, 60.0], 300)]).half_width == 0


@pytest.mark.parametrize(("windows", "reliable"), [(64, False), (299, False), (300, True)])
def test_reliable_from_300_windows(windows, reliable):
    assert known([noisy(windows)]).is_reliable is reliable


def test_none_below_64_windows():
    assert batch_means(noisy(63)) is None
    assert batch_means(noisy(64)) is not None
    assert confidence_of([]) is None
    assert confidence_of([noisy(40), noisy(23)]) is None
    assert confidence_of([noisy(40), noisy(24)]) is not None


def test_segments_are_strata():
    a, b = noisy(600, seed=1), noisy(300, seed=2, mean=80)
    one, other = batch_means(a), batch_means(b)
    assert one is not None
    assert other is not None
    found = known([a, b])
    variances = (4 / 9 * one.se**2, 1 / 9 * other.se**2)
    assert found.mean == pytest.approx((600 * one.mean + 300 * other.mean) / 900, rel=1e-12)
    assert found.se == pytest.approx(np.sqrt(sum(variances)), rel=1e-12)
    dof = sum(variances) ** 2 / (variances[0] ** 2 / one.dof + variances[1] ** 2 / other.dof)
    assert found.dof == pytest.approx(dof, rel=1e-12)
    assert found.batches_count == len(one.batches) + len(other.batches)
    assert found.batch_windows == max(one.batch_windows, other.batch_windows)


def test_a_change_of_level_is_no_noise():
    level = np.repeat([40.0, 60.0], 450)
    noise = noisy(900, mean=0)
    apart = known([level[:450] + noise[:450], level[450:] + noise[450:]])
    assert apart.half_width < 0.3
    assert known([level + noise]).half_width > 10 * apart.half_width


def test_a_short_segment_counts_in_the_mean_and_scatters_as_the_others():
    a, short = noisy(600, seed=1), noisy(60, seed=2, mean=80)
    found, alone = known([a, short]), known([a])
    assert found.mean == pytest.approx(np.concatenate([a, short]).mean(), rel=1e-12)
    # Variance per window of the long one, v = 600 se^2, holds for all 660: se^2 = v / 660.
    assert found.se == pytest.approx(alone.se * np.sqrt(600 / 660), rel=1e-12)
    assert (found.dof, found.n_windows, found.is_reliable) == (alone.dof, 660, True)


def test_many_windows_beside_a_short_measured_segment_are_not_reliable():
    assert not known([noisy(100), *(noisy(60, seed=s) for s in range(2, 7))]).is_reliable


def test_only_short_segments_are_joined_with_their_levels():
    a, b = noisy(60, seed=1), noisy(60, seed=2, mean=52)
    found = known([a, b])
    assert found == known([np.concatenate([a, b])])
    assert found.low < found.mean < found.high


@few
@given(st.integers(64, 900), st.floats(0, 0.95), st.floats(0.01, 100), st.floats(-100, 100), st.integers(0, 99))
def test_unit_and_origin_do_not_matter(windows, phi, unit, origin, seed):
    series = noisy(windows, phi=phi, seed=seed)
    one, other = known([series]), known([unit * series + origin])
    assert other.mean == pytest.approx(unit * one.mean + origin, rel=1e-9, abs=1e-9)
    assert other.half_width == pytest.approx(unit * one.half_width, rel=1e-6)
    assert (other.batch_windows, other.batches_count) == (one.batch_windows, one.batches_count)


@few
@given(st.permutations([500, 300, 90, 40, 64]))
def test_order_of_segments_does_not_matter(lengths):
    segments = [noisy(windows, seed=windows) for windows in lengths]
    one, other = known(segments), known(sorted(segments, key=len))
    assert (one.mean, one.se, one.dof) == pytest.approx((other.mean, other.se, other.dof), rel=1e-9)


def test_as_json():
    found = known([noisy(300)])
    assert msgspec.json.decode(msgspec.json.encode(found), type=Confidence) == found
