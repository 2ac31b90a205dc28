"""Blocks of a rank add up exactly, however they were cut, merged or made coarser."""

import random
from functools import reduce

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from satscore.core.labels import Label
from satscore.core.rank_blocks import (
    BLOCK_COLUMNS,
    FIRST_LENGTH_S,
    MOST_BLOCKS,
    USUAL_LENGTH_S,
    RankBlocks,
    block_length_s,
)
from satscore.core.readings import IntArray

few = settings(max_examples=60, deadline=None)
LONGEST_S = 10 * 365 * 86_400
spans_s = st.integers(1, 1000) | st.integers(1, LONGEST_S)
Piece = tuple[IntArray, Label, IntArray]


@st.composite
def pieces(draw: st.DrawFn) -> list[Piece]:
    """Return consecutive windows of several phases, as a recorder would add them, near or far apart."""
    reach_s = draw(st.sampled_from([20, 200, 5_000, 500_000]))
    out = []
    for _ in range(draw(st.integers(0, 6))):
        start, count = draw(st.integers(-reach_s, reach_s)), draw(st.integers(1, 40))
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        rows = rng.integers(0, 10**12, (count, len(BLOCK_COLUMNS)))
        out.append((np.arange(start, start + count), draw(st.sampled_from(Label)), rows))
    return out


def blocks_of(parts: list[Piece]) -> RankBlocks:
    out = RankBlocks()
    for index, label, rows in parts:
        out.add(index, label, rows)
    return out


def by_hand(parts: list[Piece], length_s: int) -> dict[tuple[Label, int], list[int]]:
    out: dict[tuple[Label, int], list[int]] = {}
    for index, label, rows in parts:
        for second, row in zip(index.tolist(), rows.tolist(), strict=True):
            key = label, second // length_s
            out[key] = [a + b for a, b in zip(out.get(key, [0] * len(row)), row, strict=True)]
    return out


def plain(sums: dict[tuple[Label, int], IntArray]) -> dict[tuple[Label, int], list[int]]:
    return {key: row.tolist() for key, row in sums.items()}


@few
@given(pieces())
def test_adds_up_by_hand(parts):
    blocks = blocks_of(parts)
    assert plain(dict(blocks.items())) == by_hand(parts, blocks.length_s)
    if parts:
        assert blocks.first_s == min(index[0] for index, _, _ in parts)
        assert blocks.last_s == max(index[-1] for index, _, _ in parts)
        assert blocks.first_s is not None
        assert blocks.last_s is not None
        assert blocks.length_s == block_length_s(blocks.last_s - blocks.first_s + 1)


@few
@given(pieces(), st.randoms(use_true_random=False))
def test_merge_in_any_partition_and_order(parts, rng):
    whole = blocks_of(parts)
    shuffled = rng.sample(parts, len(parts))
    cuts = sorted(rng.choices(range(len(parts) + 1), k=2))
    groups = [blocks_of(shuffled[: cuts[0]]), blocks_of(shuffled[cuts[0] : cuts[1]]), blocks_of(shuffled[cuts[1] :])]
    a, b, c = groups
    assert a.merge(b).merge(c).same_as(whole)
    assert a.merge(b.merge(c)).same_as(whole)
    assert c.merge(a).merge(b).same_as(whole)


@few
@given(pieces(), pieces())
def test_merging_changes_neither(first, second):
    a, b = blocks_of(first), blocks_of(second)
    a.merge(b)
    assert a.same_as(blocks_of(first))
    assert b.same_as(blocks_of(second))


@few
@given(pieces(), pieces(), st.integers(0, 4))
def test_coarsening_is_a_homomorphism(first, second, doublings):
    a, b = blocks_of(first), blocks_of(second)
    length_s = max(a.length_s, b.length_s, a.merge(b).length_s) << doublings
    both = plain(a.merge(b).coarsened(length_s))
    parts = [
        (np.array([number]), label, row[None]) for c in (a, b) for (label, number), row in c.coarsened(length_s).items()
    ]
    assert both == by_hand(parts, 1)
    assert both == by_hand([*first, *second], length_s)


@few
@given(pieces())
def test_coarsening_in_steps(parts):
    blocks = blocks_of(parts)
    once = RankBlocks.of(blocks.coarsened(2 * blocks.length_s), 2 * blocks.length_s, blocks.first_s, blocks.last_s)
    assert plain(once.coarsened(8 * blocks.length_s)) == plain(blocks.coarsened(8 * blocks.length_s))


@few
@given(pieces(), st.sets(st.sampled_from(Label)))
def test_total_of_some_phases(parts, labels):
    expected = [rows.sum(axis=0) for _, label, rows in parts if label in labels]
    total = blocks_of(parts).total(frozenset(labels))
    assert total.tolist() == np.sum(expected, axis=0, initial=0).tolist() if expected else not total.any()


def test_window_by_window_is_the_same_as_at_once():
    index, rows = np.arange(1_000_003, 1_000_203), np.arange(200 * len(BLOCK_COLUMNS)).reshape(200, -1)
    single = blocks_of([(index[i : i + 1], Label.STEADY, rows[i : i + 1]) for i in range(200)])
    assert single.same_as(blocks_of([(index, Label.STEADY, rows)]))
    assert single.length_s == 16


def test_what_differs_is_not_the_same():
    index, rows = np.arange(8), np.ones((8, len(BLOCK_COLUMNS)), dtype=np.int64)
    one, more = (index, Label.STEADY, rows), (index[:1] + 3, Label.DIP, rows[:1])
    assert blocks_of([one]).same_as(blocks_of([one, (index[:0], Label.DIP, rows[:0])]))
    assert not blocks_of([one]).same_as(blocks_of([(index, Label.DIP, rows)]))
    assert not blocks_of([one]).same_as(blocks_of([(index, Label.STEADY, 2 * rows)]))
    assert not blocks_of([one]).same_as(blocks_of([one, more]))
    assert not blocks_of([one, more]).same_as(blocks_of([one]))
    assert not blocks_of([one]).same_as(RankBlocks.of(dict(blocks_of([one]).items()), 4, 0, 8))


def test_order_of_random_cuts_of_a_long_run():
    """Pieces of a run of days: every merge coarsens at another moment."""
    rng = np.random.default_rng(3)
    starts = rng.integers(0, 300_000, 40).tolist()
    parts = [(np.arange(s, s + 50), Label(s % 5), rng.integers(0, 10**12, (50, len(BLOCK_COLUMNS)))) for s in starts]
    alone = [blocks_of([part]) for part in parts]
    expected = blocks_of(parts)
    for seed in range(5):
        random.Random(seed).shuffle(alone)
        assert reduce(RankBlocks.merge, alone, RankBlocks()).same_as(expected)


# --- the length of a block


@given(spans_s, st.integers(0, 2**40))
@example(31, 0)
@example(32, 0)
@example(64 * (MOST_BLOCKS - 1), 63)
@example(64 * (MOST_BLOCKS - 1) + 1, 63)
def test_number_of_blocks(span_s, first_s):
    length_s = block_length_s(span_s)
    touched = (first_s + span_s - 1) // length_s - first_s // length_s + 1
    assert touched <= MOST_BLOCKS
    assert span_s < 32 or span_s >= 8 * length_s
    assert length_s >= FIRST_LENGTH_S
    assert length_s.bit_count() == 1


@given(spans_s, spans_s)
def test_longer_runs_never_have_shorter_blocks(a, b):
    assert block_length_s(min(a, b)) <= block_length_s(max(a, b))


@pytest.mark.parametrize(
    ("span_s", "length_s"),
    [
        (1, 4), (63, 4), (64, 8), (127, 8), (128, 16), (256, 32), (511, 32), (512, USUAL_LENGTH_S),
        (511 * 64, 64), (511 * 64 + 1, 128), (86_400, 256), (7 * 86_400, 2048),
    ],
)  # fmt: skip
def test_lengths(span_s, length_s):
    assert block_length_s(span_s) == length_s
