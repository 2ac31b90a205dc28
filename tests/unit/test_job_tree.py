"""The loss tree of a job: worked examples, sums, order, and whose idle time counts."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core.job_tree import FACTORS, JOB_PARTS, JobTree, JobTreeBuilder, common_length_s, job_leaves
from satscore.core.job_tree_item import job_tree_item
from satscore.core.labels import Label
from satscore.core.losses import CLOCK_PARTS, COVERAGE_PARTS, IDLE_PARTS, ISSUE_PARTS
from satscore.core.rank_blocks import BLOCK_COLUMNS, RankBlocks
from satscore.core.rank_row import RankName
from satscore.core.readings import IntArray
from satscore.core.sums import Sums
from satscore.core.units import PPM

US = 1_000_000
BLOCK_S = 4
STEADY = frozenset({Label.STEADY})
few = settings(max_examples=80, deadline=None)
Row = list[int]


def name(rank: int, gpu_index: int = 0) -> RankName:
    return RankName(rank=rank, gpu_index=gpu_index, nvml_index=gpu_index, hostname=f"node{rank // 4}")


def row(levels: Sequence[float], *, known_us: int = BLOCK_S * US, **parts: float) -> Row:
    """Return the sums of a block: levels V1..V4 and parts in fractions; what parts leave is idle_short and grid."""
    v1, v2, v3, v4 = (round(level * PPM) for level in levels)
    given_ppm = {part: round(parts.get(part, 0.0) * PPM) for part in ("idle_long", "comm", "wait", "comm_or_wait")}
    idle_short = PPM - v1 - given_ppm["idle_long"]
    grid = v1 - v2 - sum(given_ppm[part] for part in COVERAGE_PARTS[:-1])
    assert idle_short >= 0
    assert grid >= 0
    shares = {"v1": v1, "v2": v2, "v2_lo": v2, "v3": v3, "v4": v4, "idle_short": idle_short, "grid": grid} | given_ppm
    return [known_us, *(known_us * shares[column] for column in BLOCK_COLUMNS[1:])]


def blocks(rows: Sequence[Row], *, first: int = 100, label: Label = Label.STEADY) -> RankBlocks:
    """Return blocks of 4 s, one after the other."""
    sums = {(label, first + i): np.array(r, dtype=np.int64) for i, r in enumerate(rows)}
    return RankBlocks.of(sums, BLOCK_S, first * BLOCK_S, (first + len(rows)) * BLOCK_S - 1)


def tree_of(ranks: Sequence[RankBlocks], *, length_s: int = BLOCK_S, labels: frozenset[Label] = STEADY) -> JobTree:
    builder = JobTreeBuilder(length_s, labels)
    for rank, each in enumerate(ranks):
        builder.add(name(rank), each)
    tree = builder.tree()
    assert tree is not None
    return tree


def close(expected: object, tolerance: float = 1e-4) -> object:
    return pytest.approx(expected, abs=tolerance)


# --- the worked examples


def test_one_slow_gpu_of_four():
    slow, fast = [1, 0.97, 0.835, 0.593169], [1, 0.722636, 0.622063, 0.593169]
    tree = tree_of([blocks([row(fast)] * 3), blocks([row(slow)] * 3), blocks([row(fast)] * 3), blocks([row(fast)] * 3)])
    assert tree.levels == close((1, 1, 0.97, 0.97, 0.784477, 0.675297, 0.593169), 1e-6)
    assert tree.parts["idle_long"] + tree.parts["idle_short"] == 0
    assert sum(tree.parts[part] for part in COVERAGE_PARTS) == close(3.0)
    assert tree.parts["transient"] == 0
    assert tree.parts["persistent"] == close(18.5523)
    assert tree.parts["issue"] == close(10.9180)
    assert tree.parts["clock"] == close(8.2128)
    assert tree.score_points == close(59.3169)
    assert tree.product == {
        factor: close(value, 1e-6)
        for factor, value in zip(FACTORS, [1, 0.97, 1, 0.808739, 0.860825, 0.878383], strict=True)
    }
    assert (tree.pacing, tree.pacing_frac) == (name(1), 1.0)
    assert (tree.ranks_count, tree.time_s, tree.block_s) == (4, 12.0, 4.0)


def swapping() -> list[RankBlocks]:
    busy, waiting = row([1, 0.9, 0.72, 0.72]), row([1, 0.5, 0.4, 0.4])
    return [blocks([busy, waiting]), blocks([waiting, busy])]


def test_imbalance_that_alternates():
    tree = tree_of(swapping())
    assert tree.levels == close((1, 1, 0.9, 0.7, 0.7, 0.56, 0.56), 1e-9)
    expected = dict.fromkeys(JOB_PARTS, 0) | {"grid": 10, "transient": 20, "issue": 14}
    assert tree.parts == {part: close(points) for part, points in expected.items()}
    assert tree.score_points == close(56)


def test_imbalance_faster_than_a_block_looks_common_to_all():
    tree = tree_of(swapping(), length_s=2 * BLOCK_S)
    assert tree.parts["transient"] == 0
    assert tree.parts["grid"] == close(30)
    assert tree.block_s == 8


# --- laws


@st.composite
def jobs(draw: st.DrawFn) -> list[RankBlocks]:
    """Return ranks with any nested levels and any known time, also none, in blocks 100 to 105."""
    ranks, bins = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    out = []
    for _ in range(ranks):
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        coarse = draw(st.sampled_from([2, 10, PPM]))  # coarse levels tie often
        rows = [_any_row(rng, coarse) for _ in range(bins)]
        if draw(st.booleans()):
            rows = [r if rng.random() < 0.6 else [0] * len(r) for r in rows]
        out.append(blocks(rows, first=100 + draw(st.integers(0, 1))))
    return out


def _any_row(rng: np.random.Generator, coarse: int) -> Row:
    known_us = int(rng.choice([1, 1000, 999_999, 4_000_000, 3_999_999]))
    v4, v3, v2, v1 = (np.sort(rng.integers(0, coarse + 1, 4)) * (PPM // coarse)).tolist()
    idle_long = int(rng.integers(0, PPM - v1 + 1))
    cuts = [0, *np.sort(rng.integers(0, v1 - v2 + 1, 3)).tolist(), v1 - v2]
    shares = [v1, v2, v2, v3, v4, idle_long, PPM - v1 - idle_long, *np.diff(cuts).tolist()]
    return [known_us, *(known_us * share for share in shares)]


def built(ranks: Sequence[tuple[RankName, RankBlocks]]) -> JobTree | None:
    builder = JobTreeBuilder(BLOCK_S, STEADY)
    for who, each in ranks:
        builder.add(who, each)
    return builder.tree()


@few
@given(jobs())
def test_parts_and_score_are_the_whole(ranks):
    tree = built([(name(i), b) for i, b in enumerate(ranks)])
    if tree is None:
        assert not any(b.total(STEADY)[0] for b in ranks)
        return
    assert set(tree.parts) == set(JOB_PARTS)
    assert all(points >= 0 for points in tree.parts.values())
    assert sum(tree.parts.values()) + tree.score_points == pytest.approx(100, abs=1e-9)
    assert all(outer >= level >= 0 for outer, level in zip(tree.levels, tree.levels[1:], strict=False))
    assert tree.score_points == 100 * tree.levels[6]
    assert 0 < tree.pacing_frac <= 1


@few
@given(jobs())
def test_factors_are_the_score(ranks):
    tree = built([(name(i), b) for i, b in enumerate(ranks)])
    if tree is None:
        return
    product = 1.0
    for factor, outer in zip(FACTORS, tree.levels, strict=False):
        value = tree.product[factor]
        assert (value is None) == (outer == 0)
        product *= 0.0 if value is None else value
        assert value is None or 0 <= value <= 1
    assert product == pytest.approx(tree.score_points / 100, rel=1e-9, abs=1e-12)


@few
@given(jobs())
def test_lower_levels_are_the_means_of_all(ranks):
    tree = built([(name(i), b) for i, b in enumerate(ranks)])
    if tree is None:
        return
    total = dict(zip(BLOCK_COLUMNS, np.sum([b.total(STEADY) for b in ranks], axis=0).tolist(), strict=True))
    for level, column in ((4, "v2"), (5, "v3"), (6, "v4")):
        assert tree.levels[level] == total[column] / (total["known_us"] * PPM)


@few
@given(jobs())
def test_maxima_by_definition(ranks):
    """J2 is the mean over blocks of the largest V2, J1 no less, and J3 no less than the mean of a well-known rank.

    The largest of the ranks that were known there for half as long as they usually are; of all where none was.
    """
    tree = built([(name(i), b) for i, b in enumerate(ranks)])
    if tree is None:
        return
    largest, weight = dict[int, tuple[bool, Fraction]](), dict[int, int]()
    for each in ranks:
        rows = {number: r for (_, number), r in each.items() if r[0] > 0}
        usual_us = float(np.median([r[0] for r in rows.values()])) if rows else 0.0
        for number, r in rows.items():
            known_us, v2 = int(r[0]), int(r[BLOCK_COLUMNS.index("v2")])
            fit = 2 * known_us >= usual_us
            largest[number] = max(largest.get(number, (False, Fraction(0))), (fit, Fraction(v2, known_us * PPM)))
            weight[number] = weight.get(number, 0) + known_us
    whole = sum(weight.values())
    assert tree.levels[2] == pytest.approx(
        max(tree.levels[4], float(sum(largest[n][1] * weight[n] for n in weight) / whole)), abs=1e-9
    )
    totals = [b.total(STEADY).tolist() for b in ranks]
    known = [t for t in totals if t[0] and 2 * t[0] * tree.ranks_count >= whole]
    steadily = max(t[BLOCK_COLUMNS.index("v2")] / (t[0] * PPM) for t in known)
    assert tree.levels[3] == pytest.approx(min(tree.levels[2], max(tree.levels[4], steadily)), abs=1e-9)


@few
@given(jobs(), st.randoms(use_true_random=False))
def test_order_of_ranks_changes_nothing_to_the_bit(ranks, rng):
    named = [(name(i // 2, i % 2), b) for i, b in enumerate(ranks)]
    assert built(named) == built(rng.sample(named, len(named)))


@few
@given(jobs(), st.integers(0, 2**32))
def test_how_a_rank_was_cut_changes_nothing(ranks, seed):
    rng = np.random.default_rng(seed)
    cut = []
    for each in ranks:
        parts = [RankBlocks() for _ in range(3)]
        for (label, number), r in each.items():
            share: IntArray = rng.integers(0, r + 1)
            for rows in (share, r - share):
                k = int(rng.integers(3))
                alone = RankBlocks.of({(label, number): rows}, BLOCK_S, number * BLOCK_S, number * BLOCK_S)
                parts[k] = parts[k].merge(alone)
        cut.append(parts[1].merge(parts[2]).merge(parts[0]))
    named = [(name(i), b) for i, b in enumerate(ranks)]
    assert built(named) == built([(who, b) for (who, _), b in zip(named, cut, strict=True)])


@few
@given(jobs())
def test_one_gpu_has_its_rank_tree(ranks):
    tree = built([(name(0), ranks[0])])
    if tree is None:
        return
    total = dict(zip(BLOCK_COLUMNS, ranks[0].total(STEADY).tolist(), strict=True))
    whole = total["known_us"] * PPM
    assert tree.parts == {
        **{part: 100 * (total[part] / whole) for part in (*IDLE_PARTS, *COVERAGE_PARTS)},
        "transient": 0,
        "persistent": 0,
        "issue": 100 * ((total["v2"] - total["v3"]) / whole),
        "clock": 100 * ((total["v3"] - total["v4"]) / whole),
    }
    assert (tree.pacing, tree.pacing_frac, tree.ranks_count) == (name(0), 1.0, 1)


# --- whose idle time and communication count

STALLED = row([0.7, 0.6, 0.5, 0.5], idle_long=0.3, comm=0.1)


def spinning(busy: float = 0.6) -> Row:
    return row([1, busy, 0.5, 0.5], comm=0.1, wait=0.9 - busy)


def test_a_stalled_loader_of_one_rank_idles_the_job():
    """It is exactly as busy as those that wait for it, and its number is not the first."""
    tree = tree_of([blocks([spinning()]), blocks([spinning()]), blocks([STALLED]), blocks([spinning()])])
    assert tree.pacing == name(2)
    expected = dict.fromkeys(JOB_PARTS, 0) | {"idle_long": 30, "comm": 10, "issue": 10}
    assert tree.parts == {part: close(points) for part, points in expected.items()}


@pytest.mark.parametrize("ranks_count", [4, 64, 1024])
def test_noise_does_not_hide_it(ranks_count):
    rng = np.random.default_rng(ranks_count)
    busy = 0.6 + 0.01 * rng.standard_normal((ranks_count - 1, 6)).clip(-4, 4)
    tree = tree_of([*(blocks([spinning(b) for b in mine]) for mine in busy.tolist()), blocks([STALLED] * 6)])
    assert (tree.pacing, tree.pacing_frac) == (name(ranks_count - 1), 1.0)
    assert tree.parts["idle_long"] == close(30)
    assert tree.parts["wait"] == 0


def test_unread_links_tell_the_waiting_ranks_too():
    waiting = row([1, 0.6, 0.5, 0.5], comm_or_wait=0.4)
    tree = tree_of([blocks([waiting]), blocks([row([0.7, 0.6, 0.5, 0.5], idle_long=0.3, comm_or_wait=0.1)])])
    assert tree.parts["idle_long"] == close(30)
    assert tree.parts["comm_or_wait"] == close(10)


def test_an_idle_rank_does_not_idle_the_job():
    idle = row([0, 0, 0, 0], idle_long=1)
    hung = row([1, 0, 0, 0], wait=1)
    assert tree_of([blocks([idle]), blocks([spinning()])]).parts["idle_long"] == 0
    tree = tree_of([blocks([idle]), blocks([hung]), blocks([hung])])
    assert tree.parts["wait"] == close(100)
    assert tree.pacing == name(1)
    assert [tree.product[factor] for factor in FACTORS] == [1, 0, None, None, None, None]


def test_waiting_common_to_all_is_coverage():
    tree = tree_of([blocks([spinning()])] * 3)
    assert tree.parts["wait"] == close(30)
    assert tree.parts["persistent"] == tree.parts["transient"] == 0


def test_the_pacing_rank_may_change():
    other = row([0.8, 0.6, 0.5, 0.5], idle_long=0.05, wait=0.02)
    tree = tree_of([blocks([STALLED, spinning(), spinning()]), blocks([spinning(), other, other])])
    assert (tree.pacing, tree.pacing_frac) == (name(1), close(2 / 3))
    assert tree.parts["idle_long"] == close(100 * (0.3 + 0.05 + 0.05) / 3)
    assert tree.parts["idle_short"] == close(100 * (0.15 + 0.15) / 3)


def test_a_pacing_rank_that_works_for_less_than_the_busiest():
    """Its idle time counts as far as the busiest rank was not at work, block by block."""
    busy = row([1, 0.8, 0.5, 0.5], wait=0.2)
    pacing = row([0.75, 0.74, 0.5, 0.5], idle_long=0.25, comm=0.01)
    tree = tree_of([blocks([busy, row([1, 0.8, 0.5, 0.5], comm=0.2)]), blocks([pacing, row([0, 0, 0, 0])])])
    assert tree.levels[:3] == close((1, 0.9, 0.8))
    assert tree.parts["idle_long"] == close(10)
    assert tree.parts["comm"] == close(10)


# --- unequal times and phases


def test_a_short_lived_rank_is_not_the_steadily_busiest():
    """Known for one block of ten, it would make all imbalance persistent."""
    usual, short = row([1, 0.5, 0.5, 0.5]), row([1, 1, 1, 1])
    swap = [blocks([usual] * 10), blocks([usual] * 10)]
    tree = tree_of([*swap, blocks([short])])
    assert tree.levels[3] == tree.levels[4]
    assert tree.parts["persistent"] == 0
    assert tree.parts["transient"] == close(100 * (0.5 * 3 / 21 - 0.5 / 21))


def test_blocks_weigh_by_the_time_that_is_known():
    tree = tree_of([blocks([row([1, 1, 1, 1]), row([0, 0, 0, 0], known_us=US)])])
    assert tree.score_points == close(80)
    assert tree.time_s == 5


def test_only_the_judged_phases():
    both = blocks([row([1, 1, 1, 1])]).merge(blocks([row([1, 0.5, 0, 0])], label=Label.DIP))
    assert tree_of([both]).score_points == 100
    assert tree_of([both], labels=frozenset({Label.STEADY, Label.DIP})).score_points == 50
    assert tree_of([both], labels=frozenset({Label.STEADY, Label.DIP})).time_s == 8
    assert built([(name(0), blocks([row([1, 1, 1, 1])], label=Label.WARMUP))]) is None


def test_phases_of_one_block_are_one_bin():
    """Two phases meet in a block: the busiest rank is that of the block, not of each phase."""
    high, low = row([1, 0.9, 0.5, 0.5]), row([1, 0.3, 0.3, 0.3])
    one = blocks([high]).merge(blocks([low], label=Label.DIP))
    other = blocks([low]).merge(blocks([high], label=Label.DIP))
    assert tree_of([one, other], labels=frozenset({Label.STEADY, Label.DIP})).parts["transient"] == 0


def test_no_rank_no_tree():
    assert built([]) is None
    assert built([(name(0), RankBlocks()), (name(1), blocks([[0] * len(BLOCK_COLUMNS)]))]) is None


def test_a_rank_that_never_met_another():
    tree = tree_of([blocks([row([1, 0.8, 0.8, 0.8])], first=500), blocks([row([1, 0.4, 0.4, 0.4])], first=7)])
    assert tree.levels[2] == close(0.6)
    assert tree.levels[3] == close(0.6)


def test_more_than_64_bits():
    """At 10,752 ranks a block of 17 minutes holds more than 2^63 ppm us."""
    long_us = 10**12
    one, other = row([1, 0.9, 0.6, 0.3], known_us=long_us), row([1, 0.7, 0.6, 0.3], known_us=long_us)
    tree = tree_of([blocks([one] * 4)] + [blocks([other] * 4)] * 19)
    assert tree.levels == close((1, 1, 0.9, 0.9, 0.71, 0.6, 0.3), 1e-12)
    assert tree.time_s == 4_000_000


def test_what_floats_cannot_tell():
    """Of two ranks that differ by less, the first leads; what the other has more must not make a part negative."""
    known_us, v = 10**12, 9 * 10**17
    less, more = ([known_us, v + i, v + i, v + i, v + i, v + i, 0, 10**18 - v - i, 0, 0, 0, 0] for i in (0, 1))
    tree = tree_of([blocks([less]), blocks([more])])
    assert all(points >= 0 for points in tree.parts.values())
    assert tree.score_points == 100 * ((2 * v + 1) / (2 * 10**18))


def test_to_the_last_part_per_million():
    """Two us of one rank and one of the other: shares do not divide evenly, the rest is nowhere lost."""
    one = [2, *[1] * 5, 1, 2 * PPM - 2, 0, 0, 0, 0]
    other = [1, *[0] * 5, 0, PPM, 0, 0, 0, 0]
    tree = tree_of([blocks([one]), blocks([other])])
    assert tree.levels[1] == 1 / (3 * PPM)
    assert tree.parts["idle_long"] == pytest.approx(100 / (3 * PPM))


def test_lengths_in_common():
    long = blocks([row([1, 1, 1, 1])]).merge(RankBlocks.of({}, 16, 0, 1023))
    assert common_length_s([blocks([row([1, 1, 1, 1])]), long]) == long.length_s > BLOCK_S
    assert common_length_s([]) == 4
    with pytest.raises(ValueError, match=f"{long.length_s} s cannot be laid on blocks of 4 s"):
        JobTreeBuilder(BLOCK_S, STEADY).add(name(0), long)


# --- leaves


def lost(**points: int) -> Sums:
    return Sums(totals={f"loss:{part}": amount for part, amount in points.items()})


def test_issue_and_clock_are_split_as_the_ranks_lose_them():
    tree = tree_of([blocks([row([1, 0.8, 0.6, 0.5])] * 3)])
    leaves = job_leaves(tree, lost(issue_other=1, issue_stall=3, clock_power=2, clock_other=2), 0.0)
    assert leaves["issue_other"] == close(5)
    assert leaves["issue_stall"] == close(15)
    assert leaves["clock_power"] == leaves["clock_other"] == close(5)
    assert leaves["clock_thermal"] == leaves["idle_ranks"] == 0


def test_what_nobody_can_split_is_in_the_last_leaf():
    leaves = job_leaves(tree_of([blocks([row([1, 0.8, 0.6, 0.5])] * 3)]), Sums(), 0.0)
    assert (leaves["issue_stall"], leaves["clock_unknown"]) == (close(20), close(10))


@few
@given(
    jobs(),
    st.fixed_dictionaries({part: st.integers(0, 10**18) for part in (*ISSUE_PARTS, *CLOCK_PARTS)}),
    st.floats(0, 1),
)
def test_leaves_and_score_are_100_and_the_item_shows_them(ranks, weights, idle_frac):
    tree = built([(name(i), b) for i, b in enumerate(ranks)])
    if tree is None:
        return
    leaves = job_leaves(tree, lost(**weights), idle_frac)
    assert sum(leaves.values()) + tree.score_points == pytest.approx(100)
    item = job_tree_item(tree, "total", lost(**weights), idle_frac)
    assert sum(part.points_pct for part in item.parts) + item.score_pct == pytest.approx(100)
    shown = {leaf.name: leaf.points_pct for part in item.parts for leaf in (part.parts or [part])}
    assert {leaf: shown.get(leaf, 0.0) for leaf in leaves} == leaves
