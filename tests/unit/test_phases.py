"""Phases of finished runs: made series with a known truth, the awkward ones, marks, unknown windows."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core.labels import Label, PhaseMark
from satscore.core.phases import Phases, find_phases
from satscore.core.readings import FloatArray
from tests.unit.phase_series import UNKNOWN, bias_points, noise, pieces, right_frac, spoken, training

IDLE, WORK = (60, 0.0, 0.0), (1800, 0.6, 1.0)


def phases(*parts: tuple[int, float, float], sigma: float = 0.01) -> Phases:
    return find_phases(*pieces(*parts, sigma=sigma))


def told(*parts: tuple[int, float, float]) -> list[tuple[str, int]]:
    return spoken(phases(*parts).labels)


def check_runs(seeds: range) -> None:
    """Label made runs; print and judge how many windows are right and what that does to the score."""
    right, bias = [], []
    for seed in seeds:
        run = training(np.random.default_rng(seed))
        found = find_phases(run.sat, run.engine)
        right.append(right_frac(found.labels, run.truth))
        bias.append(abs(bias_points(run, found.labels)))
        assert not found.never_steady
        assert found.changes == ()
    print(
        f"| offline | {len(right)} | {np.mean(right):.4f} | {min(right):.4f} | {np.mean(bias):.3f} | {max(bias):.3f} |"
    )
    assert np.mean(right) >= 0.98
    assert min(right) >= 0.93
    assert max(bias) <= 0.3


def test_made_runs_are_labelled_right() -> None:
    check_runs(range(20))


@pytest.mark.slow
def test_200_made_runs_are_labelled_right() -> None:
    check_runs(range(200))


def test_a_plain_run() -> None:
    parts = IDLE, (40, 0.1, 1.0), WORK, (12, 0.02, 0.1), (300, 0.6, 1.0), (30, 0.0, 0.0)
    found = phases(*parts)
    assert spoken(found.labels) == [
        ("startup", 60), ("warmup", 40), ("steady", 1800), ("dip", 12), ("steady", 300), ("tail", 30),
    ]  # fmt: skip
    assert [(dip.start, dip.stop) for dip in found.dips] == [(1900, 1912)]
    assert found.steady_segments == ((100, 2212),)
    assert (found.is_short, found.never_steady, found.changes) == (False, False, ())


@pytest.mark.parametrize(("n", "short"), [(0, True), (1, True), (119, True), (120, False), (121, False)])
def test_from_120_windows_on_there_are_phases(n: int, short: bool) -> None:
    found = phases(IDLE, (n, 0.6, 1.0), IDLE)
    assert found.is_short is short
    work = [("warmup" if short else "steady", n)] if n else []
    expected = [("startup", 60), *work, ("tail", 60)] if n else [("startup", 120)]
    assert spoken(found.labels) == expected
    assert found.steady_segments == (() if short else ((60, 60 + n),))


def test_no_window_at_all() -> None:
    found = find_phases(np.empty(0), np.empty(0), [PhaseMark(0, Label.STEADY)])
    assert len(found.labels) == 0
    assert found.is_short
    assert found.steady_segments == ()


@pytest.mark.parametrize("value", [0.0, UNKNOWN])
def test_a_run_without_work_never_started(value: float) -> None:
    found = find_phases(np.full(1000, value), np.full(1000, value))
    assert spoken(found.labels) == [("startup", 1000)]
    assert found.is_short


@pytest.mark.parametrize("value", [0.1 + 0.2, 0.9, 1.0])
def test_a_constant_series_is_steady_from_end_to_end(value: float) -> None:
    assert spoken(find_phases(np.full(3000, value), np.ones(3000)).labels) == [("steady", 3000)]


def test_of_noise_hardly_anything_is_cut_off() -> None:
    rng = np.random.default_rng(2)
    cut = []
    for _ in range(60):
        n = int(rng.integers(300, 1500))
        found = find_phases(0.5 + noise(rng, n, 0.02, phi=0.7), np.ones(n))
        assert not found.never_steady
        cut.append(float((found.labels != Label.STEADY).mean()))
    assert np.mean(cut) < 0.01


def test_the_top_of_a_ramp_is_warm_up_although_it_is_not_low() -> None:
    sat, engine = pieces(IDLE, (1800, 0.6, 1.0), sigma=0.004)
    sat[60:150] *= np.linspace(0.0, 1.0, 90)
    found = find_phases(sat, engine)
    assert 60 + 80 <= int(np.flatnonzero(found.labels == Label.STEADY)[0]) <= 60 + 90


def test_a_last_stretch_above_half_of_the_level_is_tail() -> None:
    assert told(IDLE, WORK, (100, 0.4, 1.0)) == [("startup", 60), ("steady", 1800), ("tail", 100)]


def test_a_first_stretch_above_half_of_the_level_is_warm_up() -> None:
    assert told(IDLE, (240, 0.35, 1.0), (3000, 0.6, 1.0)) == [("startup", 60), ("warmup", 240), ("steady", 3000)]


def test_bursts_shorter_than_the_pause_after_them_are_warm_up() -> None:
    parts = IDLE, (8, 0.5, 1.0), (90, 0.0, 0.0), (15, 0.5, 1.0), (40, 0.0, 0.0), WORK, (20, 0.0, 0.0), (10, 0.6, 1.0)
    (_, startup), (_, warmup), (_, steady), (_, tail) = told(*parts)
    assert (startup, warmup + steady, tail) == (60, 153 + 1800, 30)
    assert 153 <= warmup <= 153 + 30  # MSER may take some of what follows


@pytest.mark.parametrize(("before", "after"), [(0.6, 0.4), (0.4, 0.6), (0.6, 0.2)])
def test_a_level_that_changes_half_way_is_two_regimes_and_no_warm_up(before: float, after: float) -> None:
    found = phases(IDLE, (1500, before, 1.0), (1500, after, 1.0))
    assert spoken(found.labels) == [("startup", 60), ("steady", 3000)]
    assert not found.never_steady
    (change,) = found.changes
    assert abs(change.index - 1560) <= 10
    assert change.before_frac == pytest.approx(before, abs=0.01)
    assert change.after_frac == pytest.approx(after, abs=0.01)
    assert found.steady_segments == ((60, change.index), (change.index, 3060))


def test_nothing_warms_up_from_a_better_level() -> None:
    found = phases(IDLE, (360, 0.6, 1.0), (2400, 0.4, 1.0))
    assert spoken(found.labels) == [("startup", 60), ("steady", 2760)]
    assert len(found.changes) == 1


def test_a_long_low_level_is_a_regime_if_it_works() -> None:
    found = phases(IDLE, (3600, 0.6, 1.0), (1500, 0.2, 1.0), (2000, 0.6, 1.0))
    assert spoken(found.labels) == [("startup", 60), ("steady", 7100)]
    assert [abs(change.index - at) <= 10 for change, at in zip(found.changes, (3660, 5160), strict=True)] == [True] * 2


@pytest.mark.parametrize(("low", "name"), [(481, "steady"), (400, "tail")])
def test_in_a_short_run_a_regime_is_four_tenths_of_it(low: int, name: str) -> None:
    assert told(IDLE, (720, 0.6, 1.0), (low, 0.2, 1.0))[-1][0] == name


def test_a_long_slide_is_a_dip_and_no_level() -> None:
    sat, engine = pieces(IDLE, (2000, 0.6, 1.0), (1200, 0.1, 1.0), (1800, 0.6, 1.0))
    sat[2060:3260] += np.linspace(0.15, -0.08, 1200)
    assert spoken(find_phases(sat, engine).labels)[2] == ("dip", 1200)


def test_a_long_warm_up_ends_where_the_settled_level_begins() -> None:
    found = phases(IDLE, (850, 0.4, 1.0), (200, 0.6, 1.0), (3000, 0.5, 1.0), sigma=0.004)
    (_, _), (name, warmup), *_ = spoken(found.labels)
    assert name == "warmup"
    assert abs(warmup - 850) <= 10


def test_warm_up_is_not_looked_for_in_the_second_half() -> None:
    assert spoken(phases(IDLE, (1200, 0.5, 1.0), (20, 0.4, 1.0), (600, 0.5, 1.0), sigma=0.002).labels) == [
        ("startup", 60), ("steady", 1820),
    ]  # fmt: skip


def test_a_long_hang_is_a_dip() -> None:
    assert told(IDLE, (3600, 0.6, 1.0), (1500, 0.0, 0.0), (2000, 0.6, 1.0)) == [
        ("startup", 60), ("steady", 3600), ("dip", 1500), ("steady", 2000),
    ]  # fmt: skip


def test_a_low_stretch_that_does_not_last_is_a_dip() -> None:
    assert told(IDLE, (3600, 0.6, 1.0), (800, 0.2, 1.0), (2000, 0.6, 1.0))[2] == ("dip", 800)


def test_evaluation_phases_are_dips() -> None:
    parts = [part for _ in range(8) for part in ((480, 0.6, 1.0), (120, 0.1, 1.0))]
    found = phases(IDLE, *parts, (480, 0.6, 1.0))
    assert [(dip.start, dip.stop) for dip in found.dips] == [(540 + 600 * i, 660 + 600 * i) for i in range(8)]
    assert found.changes == ()


def test_dips_are_cut_out_before_levels_are_compared() -> None:
    parts = [part for i in range(12) for part in ((80, 0.6 if i < 6 else 0.45, 1.0), (15, 0.05, 0.2))]
    found = phases(*parts, (80, 0.45, 1.0))
    (change,) = found.changes
    assert found.labels[change.index] == Label.STEADY
    assert abs(change.index - 6 * 95) <= 25  # 10 windows of the joined series, and a dip
    assert change.after_frac == pytest.approx(0.45, abs=0.005)


@pytest.mark.parametrize("slope", [0.4, -0.4])
def test_a_slow_drift_is_never_steady_and_loses_no_time(slope: float) -> None:
    n = 7200
    at = np.linspace(-0.5, 0.5, n)
    found = find_phases(0.55 + slope * at + noise(np.random.default_rng(4), n, 0.02), np.ones(n))
    assert found.never_steady
    assert spoken(found.labels) == [("steady", n)]
    assert len(found.changes) >= 2


def test_a_small_drift_is_steady() -> None:
    n = 7200
    found = find_phases(0.5 + np.linspace(0, 0.03, n) + noise(np.random.default_rng(4), n, 0.02), np.ones(n))
    assert not found.never_steady
    assert found.changes == ()


@pytest.mark.parametrize("cycle", [(30, 70), (3, 7)])
def test_a_job_that_idles_for_most_of_the_time_has_that_level(cycle: tuple[int, int]) -> None:
    parts = [part for _ in range(4000 // sum(cycle)) for part in ((cycle[0], 0.6, 1.0), (cycle[1], 0.0, 0.0))]
    sat, engine = pieces(IDLE, *parts, (cycle[0], 0.6, 1.0))
    found = find_phases(sat, engine)
    assert not found.is_short
    assert found.dips == ()
    assert sat[found.labels == Label.STEADY].mean() == pytest.approx(0.18, abs=0.01)


def test_a_job_that_idles_for_less_than_half_of_the_time_dips() -> None:
    parts = [part for _ in range(30) for part in ((55, 0.6, 1.0), (45, 0.0, 0.0))]
    assert len(phases(IDLE, *parts, WORK).dips) == 30


def test_a_level_next_to_nothing_has_no_dips() -> None:
    assert told(IDLE, (600, 0.0102, 1.0), (600, 0.003, 1.0), (600, 0.0102, 1.0)) == [("startup", 60), ("steady", 1800)]


@pytest.mark.parametrize("n", [120, 200, 1000])
def test_a_series_without_any_level_is_no_error(n: int) -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        found = find_phases(np.minimum(rng.exponential(0.1, n) ** 1.5, 1.0), np.ones(n))
        assert (found.labels == Label.STEADY).any()


def test_without_engine_activity_work_shows_in_the_score() -> None:
    sat, engine = pieces(IDLE, WORK, (12, 0.0, 0.0), WORK, IDLE)
    known, unknown = find_phases(sat, engine), find_phases(sat, np.full_like(engine, UNKNOWN))
    assert known.labels.tolist() == unknown.labels.tolist()


def test_unknown_windows_take_the_label_before_and_count_nowhere() -> None:
    sat, engine = pieces(IDLE, WORK, (12, 0.0, 0.0), WORK, IDLE)
    expected = find_phases(sat, engine)
    gaps = [slice(0, 5), slice(1000, 1100), slice(1865, 1870), slice(3700, 3732)]
    for gap in gaps:
        sat[gap] = engine[gap] = UNKNOWN
    found = find_phases(sat, engine)
    assert found.labels.tolist() == expected.labels.tolist()
    assert found.steady_segments == expected.steady_segments


def test_too_many_unknown_windows_make_a_run_short() -> None:
    sat, engine = pieces((400, 0.6, 1.0))
    sat[100:381] = UNKNOWN
    assert find_phases(sat, engine).is_short
    sat[380] = 0.6
    assert not find_phases(sat, engine).is_short


class TestMarks:
    """The user's word before the automatic one."""

    sat, engine = pieces(IDLE, (40, 0.1, 1.0), WORK, IDLE)

    def told(self, *marks: PhaseMark) -> list[tuple[str, int]]:
        return spoken(find_phases(self.sat, self.engine, marks).labels)

    def test_a_mark_holds_until_the_next(self) -> None:
        assert self.told(PhaseMark(500, Label.DIP), PhaseMark(700, None)) == [
            ("startup", 60), ("warmup", 40), ("steady", 400), ("dip", 200), ("steady", 1200), ("tail", 60),
        ]  # fmt: skip
        assert self.told(PhaseMark(500, Label.TAIL))[-1] == ("tail", 1460)

    def test_their_order_does_not_matter_but_on_the_same_window(self) -> None:
        one, two = PhaseMark(500, Label.DIP), PhaseMark(700, None)
        assert self.told(one, two) == self.told(two, one)
        assert self.told(PhaseMark(0, Label.DIP), PhaseMark(0, Label.STEADY)) == [("steady", 1900), ("tail", 60)]

    def test_windows_before_and_after_the_run_are_no_error(self) -> None:
        assert self.told(PhaseMark(-50, Label.STEADY), PhaseMark(10**9, Label.TAIL)) == [("steady", 1900), ("tail", 60)]
        assert self.told(PhaseMark(-50, Label.STEADY), PhaseMark(-20, None)) == self.told()

    def test_what_follows_from_labels_follows_from_the_marks(self) -> None:
        marks = [PhaseMark(60, Label.STEADY), PhaseMark(500, Label.DIP), PhaseMark(600, None)]
        found = find_phases(self.sat, self.engine, marks)
        assert found.steady_segments == ((60, 1900),)
        assert [(dip.start, dip.stop) for dip in found.dips] == [(500, 600)]

    def test_steady_ends_the_start_and_hides_no_dip(self) -> None:
        sat = self.sat.copy()
        sat[800:830] = 0.0
        found = find_phases(sat, self.engine, [PhaseMark(100, Label.STEADY)])
        assert [(dip.start, dip.stop) for dip in found.dips] == [(800, 830)]
        assert (found.labels[100:800] == Label.STEADY).all()

    def test_a_short_run_stays_short(self) -> None:
        found = find_phases(*pieces((100, 0.6, 1.0)), [PhaseMark(10, Label.STEADY)])
        assert found.is_short
        assert spoken(found.labels) == [("warmup", 10), ("steady", 90)]
        assert found.steady_segments == ((10, 100),)


@st.composite
def any_series(draw: st.DrawFn) -> tuple[FloatArray, FloatArray]:
    """Return a series of random stretches with unknown windows."""
    stretch = st.tuples(
        st.integers(1, 300), st.sampled_from([0.0, 0.05, 0.2, 0.4, 0.6, 1.0]), st.sampled_from([0.0, 0.5, 1.0])
    )
    sat, engine = pieces(*draw(st.lists(stretch, min_size=1, max_size=8)), seed=draw(st.integers(0, 99)))
    for values in (sat, engine):
        for start, length in draw(st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 200)), max_size=2)):
            values[start : start + length] = UNKNOWN
    return sat, engine


labels = st.none() | st.sampled_from(Label)


@given(any_series(), st.lists(st.builds(PhaseMark, st.integers(-10, 2500), labels), max_size=3))
@settings(deadline=None)
def test_what_holds_for_every_run(series: tuple[FloatArray, FloatArray], marks: list[PhaseMark]) -> None:
    sat, engine = series
    found = find_phases(sat, engine, marks)
    assert found.labels.shape == sat.shape
    if not marks:
        between = found.labels[(found.labels != Label.STEADY) & (found.labels != Label.DIP)]
        assert (np.diff(between) >= 0).all()  # start-up, warm-up, tail come once each, in this order
    segments = found.steady_segments
    assert len(found.changes) == max(len(segments) - 1, 0)
    assert all(a.index > 0 and first[1] == second[0] == a.index
               for a, (first, second) in zip(found.changes, itertools.pairwise(segments), strict=True))  # fmt: skip
    inside = np.zeros(len(sat), dtype=np.bool_)
    for start, stop in segments:
        assert start < stop
        inside[start:stop] = True
    assert inside[(found.labels == Label.STEADY) & ~np.isnan(sat)].all()
    dips = np.zeros(len(sat), dtype=np.bool_)
    for dip in found.dips:
        dips[dip.start : dip.stop] = True
    assert ((found.labels == Label.DIP) == dips).all()
