"""Overlap of batch means, and which loss moved."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core.effects import moved_parts, rank_check
from satscore.core.losses import MERGED_PARTS

laws = settings(max_examples=60, deadline=None)
values = st.lists(st.integers(0, 12).map(float), min_size=1, max_size=20)
NAMES = ("idle", "coverage", "issue", "clock", *MERGED_PARTS)
trees = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 1_000_000).map(float))

A = [61.2, 60.8, 61.5, 61.1, 60.6, 61.3, 61.0, 60.9, 61.4, 60.7, 61.2, 61.1, 60.8, 61.0, 61.3, 61.1]
B = [59.1, 59.6, 58.8, 59.3, 59.0, 59.5, 59.2, 58.9, 59.4, 59.1, 59.3, 59.0, 59.2, 59.6, 58.9, 59.1]


@pytest.mark.parametrize(
    ("a", "b", "delta", "p"),
    [
        (A, B, -1.0, 1.4879973699613554e-06),
        ([1, 2, 3, 4, 5], [2, 3, 3, 7, 8, 9], 13 / 30, 0.26781446771893225),
        ([1, 1, 1, 2], [1, 1, 2, 2, 2], 0.35, 0.3961439091520741),
        ([1, 2, 3], [2, 2], 0.0, 1.0),
    ],
)
def test_against_scipy(a, b, delta, p):
    """The p-values are scipy.stats.mannwhitneyu(b, a, method="asymptotic") of scipy 1.17.1."""
    found = rank_check(np.array(a, dtype=float), np.array(b, dtype=float))
    assert found is not None
    assert found.cliffs_delta == pytest.approx(delta, abs=1e-12)
    assert found.mann_whitney_p == pytest.approx(p, rel=1e-9)


@laws
@given(values, values)
def test_delta_counts_pairs(a, b):
    found = rank_check(np.array(a), np.array(b))
    assert found is not None
    pairs = [(y > x) - (y < x) for x in a for y in b]
    assert found.cliffs_delta == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
    assert 0 < found.mann_whitney_p <= 1


@laws
@given(values, values)
def test_sides_swapped(a, b):
    one, other = rank_check(np.array(a), np.array(b)), rank_check(np.array(b), np.array(a))
    assert one is not None
    assert other is not None
    assert one.cliffs_delta == pytest.approx(-other.cliffs_delta, abs=1e-12)
    assert one.mann_whitney_p == pytest.approx(other.mann_whitney_p, rel=1e-12)


def test_all_equal_is_no_evidence():
    found = rank_check(np.full(5, 2.0), np.full(3, 2.0))
    assert found is not None
    assert (found.cliffs_delta, found.mann_whitney_p) == (0, 1)


def test_a_side_without_batches_is_not_checked():
    assert rank_check(np.array([]), np.array(B)) is None
    assert rank_check(np.array(A), np.array([])) is None


def moves(a: dict[str, float], b: dict[str, float]) -> list[tuple[str, float]]:
    return [(part.name, part.moved_points) for part in moved_parts(a, b)]


def test_largest_move_first():
    a = {"idle": 3.0, "coverage": 8.0, "issue": 20.0, "clock": 4.0}
    b = {"idle": 3.5, "coverage": 7.0, "issue": 20.0, "clock": 9.0}
    assert moves(a, b) == [("clock", 5.0), ("coverage", -1.0), ("idle", 0.5), ("issue", 0.0)]


def test_a_part_that_is_left_out_is_0():
    assert moves({"idle": 3.0, "comm": 2.0}, {"idle": 3.0, "wait": 5.0}) == [("wait", 5.0), ("comm", -2.0), ("idle", 0)]


@pytest.mark.parametrize("swapped", [False, True])
def test_parts_that_one_run_cannot_tell_apart_are_compared_as_one(swapped):
    coarse, fine = {"idle": 3.0, "coverage|issue": 10.0}, {"idle": 2.0, "coverage": 8.0, "issue": 5.0}
    sign = -1 if swapped else 1
    expected = [("coverage|issue", sign * 3.0), ("idle", sign * -1.0)]
    assert (moves(fine, coarse) if swapped else moves(coarse, fine)) == expected


def test_overlapping_merged_parts_are_one():
    assert moves({"idle|coverage": 5.0, "issue": 1.0}, {"idle": 2.0, "coverage|issue": 9.0}) == [
        ("idle|coverage|issue", 5.0)
    ]


@laws
@given(trees, trees)
def test_moves_add_up_to_the_difference_exactly(a, b):
    found = moved_parts(a, b)
    assert math.fsum(part.moved_points for part in found) == sum(b.values()) - sum(a.values())
    sizes = [abs(part.moved_points) for part in found]
    assert sizes == sorted(sizes, reverse=True)
    parts = [one for part in found for one in part.name.split("|")]
    assert len(parts) == len(set(parts))
