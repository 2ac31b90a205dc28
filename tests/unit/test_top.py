"""The k smallest of a union: the same in whatever order and grouping."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satscore.core.rank_row import RankName
from satscore.core.top import TopK

Valued = tuple[float, RankName]


def name(rank: int, gpu_index: int = 0) -> RankName:
    return RankName(rank=rank, gpu_index=gpu_index, nvml_index=None, hostname=f"node{rank // 4}")


def top(k: int, valued: list[Valued]) -> TopK:
    out = TopK(k)
    for value, who in valued:
        out.add(value, who)
    return out


names = st.builds(name, st.integers(0, 5), st.integers(0, 2))
many = st.lists(st.tuples(st.sampled_from([-math.inf, -1.0, 0.0, 0.25, 0.5, 1.0, math.inf]), names), max_size=20)


@given(st.integers(1, 6), many)
def test_is_the_start_of_the_sorted_list(k, valued):
    expected = sorted({(value, who.rank, who.gpu_index) for value, who in valued})[:k]
    assert [entry[:3] for entry in top(k, valued).entries] == expected


@given(st.integers(1, 6), many, many, many)
def test_associative_and_commutative(k, first, second, third):
    a, b, c = top(k, first), top(k, second), top(k, third)
    whole = top(k, [*third, *first, *second]).entries
    assert a.merge(b).merge(c).entries == whole
    assert a.merge(b.merge(c)).entries == whole
    assert c.merge(b).merge(a).entries == whole
    assert a.entries == top(k, first).entries


@given(st.integers(1, 6), many)
def test_merging_the_same_again_changes_nothing(k, valued):
    assert top(k, valued).merge(top(k, valued)).entries == top(k, valued).entries


def test_ties_by_rank_then_gpu():
    found = top(3, [(1.0, name(7)), (1.0, name(2, 1)), (1.0, name(2, 0)), (0.5, name(9))])
    assert [(e.value, e.rank, e.gpu_index) for e in found.entries] == [(0.5, 9, 0), (1.0, 2, 0), (1.0, 2, 1)]
    assert found.entries[0].name == name(9)


def test_unknown_has_no_place():
    with pytest.raises(ValueError, match="rank 3, GPU 1 is unknown"):
        TopK(4).add(math.nan, name(3, 1))


def test_what_cannot_be_kept():
    with pytest.raises(ValueError, match="0 smallest"):
        TopK(0)
    with pytest.raises(ValueError, match="no union"):
        TopK(2).merge(TopK(3))
