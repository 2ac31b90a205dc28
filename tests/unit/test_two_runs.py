"""Two runs: difference, interval, verdict, what would decide, and what is not comparable."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from satscore.core.comparable import RunScore
from satscore.core.two_runs import EXIT_CODES, Comparison, Difference, compare

few = settings(max_examples=30, deadline=None)

A = [61.2, 60.8, 61.5, 61.1, 60.6, 61.3, 61.0, 60.9, 61.4, 60.7, 61.2, 61.1, 60.8, 61.0, 61.3, 61.1]
B = [59.1, 59.6, 58.8, 59.3, 59.0, 59.5, 59.2, 58.9, 59.4, 59.1, 59.3, 59.0, 59.2, 59.6, 58.9, 59.1]
"""Batch means of the scoring reference's worked example E14."""

BASE = RunScore(
    mean_points=50.0,
    se_points=0.1,
    dof=30.0,
    n_windows=900,
    coverage_frac=1.0,
    grade="B",
    profile="train",
    ceiling="datasheet",
    window_s=1.0,
    model_id="gh200-96",
    cap_w=660.0,
    vboost_level=0,
    ranks_count=4,
)


def run(mean_points: float | None = 50.0, **changes: Any) -> RunScore:
    return msgspec.structs.replace(BASE, mean_points=mean_points, **changes)


def of_batches(batches: Sequence[float]) -> RunScore:
    means = np.array(batches)
    se_points = float(means.std(ddof=1) / np.sqrt(len(means)))
    return run(float(means.mean()), se_points=se_points, dof=len(means) - 1.0, batch_means_points=tuple(batches))


def known(comparison: Comparison) -> Difference:
    assert comparison.difference is not None
    return comparison.difference


# --- the decision


@pytest.mark.parametrize(
    ("sigma", "low", "high", "verdict"),
    [
        (0.0, -2.0565, -1.6935, "regression"),
        (0.5, -3.3305, -0.4195, "regression"),
        (1.0, -4.7690, 1.0190, "inconclusive"),
    ],
)
def test_worked_example(sigma, low, high, verdict):
    found = compare([of_batches(A)], [of_batches(B)], sigma_run_points=sigma)
    d = known(found)
    assert (found.verdict, found.exit_code) == (verdict, EXIT_CODES[verdict])
    assert d.d_points == pytest.approx(-1.875, abs=1e-9)
    assert d.dof == pytest.approx(29.9700, abs=5e-5)
    assert d.se_d_points == pytest.approx(math.hypot(0.088859, sigma * math.sqrt(2)), abs=5e-7)
    assert (d.ci95_low_points, d.ci95_high_points) == pytest.approx((low, high), abs=5e-5)
    assert d.delta_points == pytest.approx(1.22, abs=5e-3)
    assert found.rank_check is not None
    assert found.rank_check.cliffs_delta == -1


def test_exit_codes():
    assert EXIT_CODES == {"ok": 0, "regression": 3, "inconclusive": 4, "invalid": 5}


@pytest.mark.parametrize(
    ("b_points", "verdict"),
    [
        (60.0, "ok"),
        (50.0, "ok"),
        # One-sided 95 %: 1.67 standard errors of 0.1 sqrt(2) short of a drop of 1 point.
        (49.24, "ok"),
        (49.23, "inconclusive"),
        # A certain drop, but not one that matters.
        (49.01, "inconclusive"),
        (48.99, "regression"),
        (40.0, "regression"),
    ],
)
def test_verdict_by_difference(b_points, verdict):
    assert compare([run()], [run(b_points)], sigma_run_points=0.0).verdict == verdict


def test_a_drop_of_exactly_delta_is_a_regression():
    found = compare([run(se_points=0.0)], [run(49.0, se_points=0.0)], sigma_run_points=0.0)
    assert (found.verdict, known(found).ci95_high_points) == ("regression", -1)


def test_a_drop_that_may_be_chance_is_no_regression():
    # 2.0 standard errors of 0.5 sqrt(2), and 1.99 are needed with some 60 degrees of freedom.
    assert compare([run()], [run(48.60)], sigma_run_points=0.5).verdict == "inconclusive"
    assert compare([run()], [run(48.50)], sigma_run_points=0.5).verdict == "regression"


@pytest.mark.parametrize(("a_points", "delta"), [(20.0, 1.0), (50.0, 1.0), (50.1, 1.002), (80.0, 1.6)])
def test_delta_is_a_point_or_two_percent(a_points, delta):
    assert known(compare([run(a_points)], [run()], sigma_run_points=0.5)).delta_points == pytest.approx(delta)


# --- several runs and their spread


def test_without_knowledge_half_a_point_is_assumed_and_said():
    found = compare([run(), run(51.0)], [run()], sigma_run_points=None)
    assert (known(found).sigma_run_points, known(found).sigma_run_from) == (0.5, "default")
    assert any("0.5 points are assumed" in note for note in found.notes)
    stated = compare([run()], [run()], sigma_run_points=0.5)
    assert known(stated).sigma_run_from == "stated"
    assert stated.notes == []


def test_runs_of_a_side_are_averaged():
    a = [run(50.0, se_points=0.3, dof=10.0), run(50.4, se_points=0.1, dof=40.0), run(49.9, se_points=0.2, dof=20.0)]
    found = known(compare(a, [run(48.0)], sigma_run_points=0.5))
    assert found.a_points == pytest.approx(50.1)
    assert found.d_points == pytest.approx(-2.1)
    within = (0.09 + 0.01 + 0.04) / 9
    assert found.se_d_points == pytest.approx(math.sqrt(within + 0.01 + 0.25 * (1 / 3 + 1)))
    spread = (0.09**2 / 10 + 0.01**2 / 40 + 0.04**2 / 20) / 81 + 0.01**2 / 30
    assert found.dof == pytest.approx((within + 0.01) ** 2 / spread)


def test_three_runs_tell_their_spread():
    a = [run(m, se_points=0.3) for m in (49.0, 50.0, 51.0)]
    b = [run(m, se_points=0.3) for m in (48.0, 50.0, 49.0)]
    found = known(compare(a, b, sigma_run_points=None))
    # The run means have a variance of 1, of which 0.09 is that of the windows.
    assert found.sigma_run_from == "runs"
    assert found.sigma_run_points == pytest.approx(math.sqrt(1 - 0.09))
    # So the error of the difference is that of a plain t-test on the run means.
    assert found.se_d_points == pytest.approx(math.sqrt(2 / 3))
    assert found.dof == 4
    assert found.ci95_high_points == pytest.approx(-1 + 2.7764451 * math.sqrt(2 / 3), rel=1e-6)


def test_a_baseline_of_three_runs_is_enough():
    found = known(compare([run(49.0), run(50.0), run(51.0)], [run()], sigma_run_points=None))
    assert (found.sigma_run_from, found.dof) == ("runs", 2)
    assert found.sigma_run_points == pytest.approx(math.sqrt(1 - 0.01))


def test_runs_that_agree_by_chance_leave_the_error_of_their_windows():
    found = known(compare([run()] * 3, [run()] * 3, sigma_run_points=None))
    assert (found.sigma_run_points, found.dof) == (0, 4)
    assert found.se_d_points == pytest.approx(0.1 * math.sqrt(2 / 3))


def test_a_known_spread_costs_no_degrees_of_freedom():
    found = known(compare([run()] * 3, [run()] * 3, sigma_run_points=0.5))
    assert found.dof == pytest.approx(180)


@few
@given(st.floats(0, 2), st.floats(0, 2), st.floats(40, 60))
def test_more_spread_never_decides(one, other, b_points):
    low, high = (compare([run()], [run(b_points)], sigma_run_points=sigma) for sigma in sorted((one, other)))
    assert known(low).se_d_points <= known(high).se_d_points
    assert high.verdict in {low.verdict, "inconclusive"}


@few
@given(st.permutations([49.0, 50.5, 51.0, 50.0]), st.floats(45, 51))
def test_order_of_runs_does_not_matter(order, b_points):
    one = known(compare([run(m) for m in order], [run(b_points)], sigma_run_points=None))
    other = known(compare([run(m) for m in sorted(order)], [run(b_points)], sigma_run_points=None))
    assert msgspec.structs.astuple(one)[:-1] == pytest.approx(msgspec.structs.astuple(other)[:-1], rel=1e-12)


# --- what would decide


def test_more_runs_decide_where_longer_ones_cannot():
    found = compare([of_batches(A)], [of_batches(B)], sigma_run_points=1.0)
    assert (found.needed_length_factor, found.needed_runs_count) == (None, 3)
    assert "3 runs per side decide" in found.reason
    assert "longer runs alone do not (run-to-run spread 1.00 points)" in found.reason


def test_longer_runs_decide_where_windows_are_the_doubt():
    a, b = run(se_points=0.5), run(49.0, se_points=0.5)
    found = compare([a], [b], sigma_run_points=0.0)
    # d is -1, its error 0.71: half of that is needed, and t falls with the runs' degrees of freedom.
    assert (found.verdict, found.needed_length_factor, found.needed_runs_count) == ("inconclusive", 3, 2)
    assert "runs 3 times as long or 2 runs per side decide" in found.reason


@few
@given(st.floats(45, 52), st.floats(0.05, 1.0), st.floats(0.0, 1.5))
def test_the_advice_is_the_least_that_decides(b_points, se_points, sigma):
    a, b = run(se_points=se_points), run(b_points, se_points=se_points)
    found = compare([a], [b], sigma_run_points=sigma)
    assume(found.verdict == "inconclusive")

    def verdict(count: int, factor: int) -> str:
        change = {"se_points": se_points / math.sqrt(factor)}
        sides = [[msgspec.structs.replace(one, **change)] * count for one in (a, b)]
        return compare(*sides, sigma_run_points=sigma).verdict

    runs, factor = found.needed_runs_count, found.needed_length_factor
    assert verdict(100 if runs is None else runs - 1, 1) == "inconclusive"
    assert runs is None or verdict(runs, 1) != "inconclusive"
    assert verdict(1, 100 if factor is None else factor - 1) == "inconclusive"
    assert factor is None or verdict(1, factor) != "inconclusive"


def test_at_the_limit_nothing_decides():
    found = compare([run()], [run(49.0001)], sigma_run_points=0.5)
    assert (found.needed_runs_count, found.needed_length_factor) == (None, None)
    assert "it lies at the limit" in found.reason


def test_decided_runs_need_no_advice():
    found = compare([run()], [run(40.0)], sigma_run_points=0.5)
    assert (found.needed_runs_count, found.needed_length_factor) == (None, None)


# --- what cannot be compared


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"coverage_frac": 0.949}, "B has a coverage of 94.9 %"),
        ({"grade": "D"}, "B has grade D"),
        ({"grade": None}, "B has grade none"),
        ({"se_points": None, "dof": None, "n_windows": 50}, "B has no confidence interval (50 windows"),
        ({"mean_points": None}, "B has no score"),
        ({"profile": "hpc"}, "the profile differs: train and hpc"),
        ({"ceiling": "attainable"}, "the ceiling differs"),
        ({"window_s": 1.01}, "the window length (s) differs: 1.0 and 1.01"),
        ({"model_id": "h200"}, "the GPU model differs: gh200-96 and h200"),
        ({"cap_w": 600.0}, "the power limit (W) differs: 660.0 and 600.0"),
        ({"cap_w": None}, "the power limit (W) differs: 660.0 and unknown"),
        ({"vboost_level": 1}, "the vBoost level differs: 0 and 1"),
        ({"ranks_count": 8}, "the number of ranks differs: 4 and 8"),
    ],
)
def test_not_comparable(changes, says):
    b = msgspec.structs.replace(run(40.0), **changes)
    found = compare([run()], [b], sigma_run_points=0.5)
    assert (found.verdict, found.exit_code) == ("invalid", 5)
    assert says in found.reason
    assert not any("taken as equal" in note for note in found.notes)
    assert (found.difference is None) == (b.mean_points is None or b.se_points is None)


def test_95_percent_of_the_time_is_enough():
    assert compare([run()], [run(coverage_frac=0.95)], sigma_run_points=0.0).verdict == "ok"


def test_one_unfit_run_of_several_is_named():
    found = compare([run(), run(coverage_frac=0.9)], [run()], sigma_run_points=0.5)
    assert found.verdict == "invalid"
    assert "A, run 2 has a coverage of 90.0 %" in found.reason


def test_runs_of_one_side_must_agree_too():
    assert compare([run(), run(profile="hpc")], [run()], sigma_run_points=0.5).verdict == "invalid"


def test_a_limit_within_the_boards_rounding_is_the_same():
    assert compare([run(cap_w=700.0)], [run(cap_w=699.9)], sigma_run_points=0.0).verdict == "ok"


def test_what_no_run_knows_is_taken_as_equal_and_said():
    found = compare([run(vboost_level=None)], [run(vboost_level=None)], sigma_run_points=0.0)
    assert found.verdict == "ok"
    assert found.notes == ["vBoost level is not known of any run: taken as equal"]


def test_short_runs_are_judged_with_a_note():
    found = compare([run()], [run(n_windows=299)], sigma_run_points=0.0)
    assert (found.verdict, len(found.notes)) == ("ok", 1)
    assert "299 windows" in found.notes[0]
    assert compare([run()], [run(n_windows=300)], sigma_run_points=0.0).notes == []


@pytest.mark.parametrize("sigma", [-0.1, math.nan, math.inf])
def test_a_spread_is_a_number(sigma):
    with pytest.raises(ValueError, match="run-to-run spread"):
        compare([run()], [run()], sigma_run_points=sigma)


def test_both_sides_need_a_run():
    with pytest.raises(ValueError, match="at least one run"):
        compare([], [run()], sigma_run_points=0.5)


def test_as_json():
    found = compare([of_batches(A)], [of_batches(B)], sigma_run_points=1.0)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Comparison) == found
