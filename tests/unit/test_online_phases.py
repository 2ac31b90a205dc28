"""Labels while the run goes on: what they are, and that they are never taken back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core.labels import Label
from satscore.core.online_phases import OnlinePhases
from satscore.core.readings import FloatArray
from tests.unit.phase_series import UNKNOWN, bias_points, noise, pieces, right_frac, spoken, training

IDLE = (60, 0.0, 0.0)
DELAY_WINDOWS = 4


def labels_of(sat: FloatArray, engine: FloatArray) -> list[Label]:
    """Return the label of every window, and check that each came once, in order and soon."""
    online = OnlinePhases()
    done: list[tuple[int, Label]] = []
    for i, (u, g) in enumerate(zip(sat.tolist(), engine.tolist(), strict=True)):
        done += online.add(i, u, g)
        assert i + 1 - DELAY_WINDOWS <= len(done) <= i + 1
    done += online.flush()
    assert [index for index, _ in done] == list(range(len(sat)))
    return [label for _, label in done]


def told(*parts: tuple[int, float, float], sigma: float = 0.01) -> list[tuple[str, int]]:
    return spoken(labels_of(*pieces(*parts, sigma=sigma)))


def check_runs(seeds: range) -> None:
    right, bias = [], []
    for seed in seeds:
        run = training(np.random.default_rng(seed))
        labels = labels_of(run.sat, run.engine)
        right.append(right_frac(labels, run.truth))
        bias.append(abs(bias_points(run, labels)))
    print(
        f"| online | {len(right)} | {np.mean(right):.4f} | {min(right):.4f} | {np.mean(bias):.3f} | {max(bias):.3f} |"
    )
    assert np.mean(right) >= 0.95
    assert min(right) >= 0.88
    assert max(bias) <= 0.3


def test_made_runs_are_labelled_usefully() -> None:
    check_runs(range(10))


@pytest.mark.slow
def test_200_made_runs_are_labelled_usefully() -> None:
    check_runs(range(200))


def test_a_plain_run() -> None:
    parts = IDLE, (600, 0.6, 1.0), (12, 0.02, 0.1), (300, 0.6, 1.0)
    assert told(*parts) == [("startup", 60), ("warmup", 61), ("steady", 539), ("dip", 12), ("steady", 300)]


def test_a_lone_kernel_is_no_beginning() -> None:
    assert told(IDLE, (4, 0.6, 1.0), (60, 0.0, 0.0)) == [("startup", 124)]
    assert told(IDLE, (5, 0.6, 1.0), (60, 0.0, 0.0)) == [("startup", 60), ("warmup", 65)]


def test_windows_before_the_first_work_stay_start_up() -> None:
    assert told(IDLE, (3, 0.6, 1.0), (4, 0.0, 0.0), (30, 0.6, 1.0)) == [("startup", 67), ("warmup", 30)]


def test_work_in_short_pieces_is_a_beginning() -> None:
    (_, startup), (_, warmup), (name, _) = told(IDLE, *([(3, 0.6, 1.0), (7, 0.0, 0.0)] * 60))
    assert (startup, name) == (60 + 190, "steady")  # from the piece with the 60th window of work on
    assert warmup < 100


def test_a_pause_in_the_warm_up_is_no_level() -> None:
    assert told(IDLE, (10, 0.6, 1.0), (200, 0.0, 0.0), (300, 0.6, 1.0))[1][1] > 210


def test_a_ramp_is_warm_up_until_it_ends() -> None:
    sat = np.concatenate([np.zeros(60), np.linspace(0.1, 0.6, 300), np.full(300, 0.6)])
    (_, startup), (_, warmup), (name, _) = spoken(labels_of(sat, (sat > 0).astype(float)))
    assert startup == 60
    assert 300 - 10 <= warmup <= 300 + 60  # the last tenth of the rise is within what counts as flat
    assert name == "steady"


def test_after_15_minutes_without_a_level_it_is_steady() -> None:
    n = 1100
    sat = np.where(np.arange(n) % 10 < 1, 0.6, 0.0)
    sat[:5] = 0.6  # enough to begin, too little to be a level
    labels = labels_of(sat, sat)
    assert 895 <= labels.index(Label.STEADY) <= 910
    assert labels[-1] is Label.STEADY


def test_single_low_windows_are_smoothed_away() -> None:
    assert told(IDLE, (300, 0.6, 1.0), (2, 0.0, 0.0), (300, 0.6, 1.0))[-1] == ("steady", 541)


def test_a_dip_ends_at_four_fifths_of_the_level() -> None:
    between = told(IDLE, (300, 0.6, 1.0), (20, 0.1, 1.0), (50, 0.42, 1.0), (100, 0.6, 1.0))
    assert between[-2:] == [("dip", 70), ("steady", 100)]
    above = told(IDLE, (300, 0.6, 1.0), (20, 0.1, 1.0), (50, 0.52, 1.0), (100, 0.6, 1.0))
    assert above[-2:] == [("dip", 20), ("steady", 150)]


def test_a_long_low_level_with_work_becomes_a_regime() -> None:
    *_, (dip, dip_length), (steady, _) = told(IDLE, (1800, 0.6, 1.0), (1800, 0.25, 1.0))
    assert (dip, steady) == ("dip", "steady")
    assert 900 <= dip_length <= 920
    assert told(IDLE, (1800, 0.6, 1.0), (1800, 0.25, 1.0), (20, 0.05, 1.0), (60, 0.25, 1.0))[-2] == ("dip", 20)


def test_of_a_long_run_a_fifth_must_be_low() -> None:
    assert 1195 <= told(IDLE, (5000, 0.6, 1.0), (3000, 0.25, 1.0))[-2][1] <= 1320


def test_a_long_hang_stays_a_dip() -> None:
    assert told(IDLE, (1800, 0.6, 1.0), (3000, 0.0, 0.0), (100, 0.6, 1.0))[-2:] == [("dip", 3000), ("steady", 100)]


def test_a_run_that_ends_low_ends_with_its_tail() -> None:
    assert told(IDLE, (300, 0.6, 1.0), (30, 0.0, 0.0))[-2:] == [("dip", 30 - DELAY_WINDOWS), ("tail", DELAY_WINDOWS)]
    assert told(IDLE, (300, 0.6, 1.0), (3, 0.0, 0.0))[-1] == ("tail", 3)
    assert told(IDLE, (300, 0.6, 1.0), (2, 0.0, 0.0), sigma=0.0)[-1] == ("tail", 1)
    assert told(IDLE, (300, 0.6, 1.0))[-1][0] == "steady"


def test_low_windows_on_both_sides_of_a_gap_are_no_dip() -> None:
    sat = np.array([0.6] * 300 + [UNKNOWN, 0.0] + [UNKNOWN] * 8 + [0.0] + [0.6] * 100)
    assert set(labels_of(sat, np.ones(len(sat)))[100:]) == {Label.STEADY}


def test_unknown_windows_do_not_make_a_low_level_last() -> None:
    sat, engine = pieces(IDLE, (1800, 0.6, 1.0), (1200, 0.25, 1.0))
    sat[1865::3] = UNKNOWN
    assert spoken(labels_of(sat, engine))[-2:] == [("dip", 1200 - DELAY_WINDOWS), ("tail", DELAY_WINDOWS)]


def test_the_level_follows_a_slow_rise() -> None:
    n = 40_000
    sat = np.concatenate([np.linspace(0.2, 0.9, n), np.full(20, 0.4), np.full(50, 0.9)])
    sat[:n] += noise(np.random.default_rng(0), n, 0.01)
    assert spoken(labels_of(sat, np.ones(len(sat))))[-2] == ("dip", 20)


def test_unknown_windows_keep_the_label() -> None:
    sat, engine = pieces(IDLE, (400, 0.6, 1.0), (40, 0.0, 0.0), (400, 0.6, 1.0))
    expected = labels_of(sat, engine)
    for gap in (slice(10, 20), slice(300, 400), slice(470, 480), slice(700, 701)):
        sat[gap] = engine[gap] = UNKNOWN
    assert labels_of(sat, engine) == expected


@pytest.mark.parametrize(("value", "label"), [(0.0, Label.STARTUP), (UNKNOWN, Label.STARTUP)])
def test_a_run_without_work_never_starts(value: float, label: Label) -> None:
    assert labels_of(np.full(300, value), np.full(300, value)) == [label] * 300


def test_without_engine_activity_work_shows_in_the_score() -> None:
    sat, engine = pieces(IDLE, (600, 0.6, 1.0), (12, 0.0, 0.0), (300, 0.6, 1.0))
    assert labels_of(sat, np.full_like(engine, UNKNOWN)) == labels_of(sat, engine)


def test_numbers_of_windows_are_those_given() -> None:
    online = OnlinePhases()
    done = [*online.add(1_700_000_000, 0.5, 1.0), *online.add(1_700_000_007, 0.5, 1.0), *online.flush()]
    assert [index for index, _ in done] == [1_700_000_000, 1_700_000_007]
    assert online.flush() == []


stretches = st.lists(
    st.tuples(st.integers(1, 150), st.sampled_from([0.0, 0.1, 0.4, 0.6]), st.sampled_from([0.0, 1.0])),
    min_size=1,
    max_size=6,
)


@given(stretches, st.integers(0, 900), st.lists(st.integers(0, 899), max_size=20))
@settings(max_examples=60, deadline=None)
def test_what_is_returned_is_never_taken_back(
    parts: list[tuple[int, float, float]], cut: int, unknown: list[int]
) -> None:
    sat, engine = pieces(*parts)
    sat[[i for i in unknown if i < len(sat)]] = UNKNOWN
    whole, part = labels_of(sat, engine), OnlinePhases()
    returned = [label for i in range(min(cut, len(sat))) for _, label in part.add(i, float(sat[i]), float(engine[i]))]
    assert returned == whole[: len(returned)]
    assert (np.diff([label for label in whole if label not in (Label.STEADY, Label.DIP)]) >= 0).all()
