"""Who is named as holding the job up, who is not, and how often nobody's fault is somebody's."""

from collections.abc import Iterable, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core.groups import checked_grouping, group_of
from satscore.core.job_facts import Suspect
from satscore.core.rank_row import RankName, RankRow
from satscore.core.stragglers import compare, find_suspects, idle_ranks
from satscore.errors import UsageError

few = settings(max_examples=80, deadline=None)
FREE_CLOCK, CAPPED_CLOCK = 1980, 1745
SAT = 0.593169


def name(rank: int) -> RankName:
    return RankName(rank=rank, gpu_index=0, nvml_index=0, hostname=f"node{rank // 4}")


def rank(
    number: int,
    busy: float | None,
    *,
    lo: float | None = -1,
    sat: float | None = SAT,
    wait: float | None = 0.0,
    idle: float | None = 0.0,
    clock: float | None = CAPPED_CLOCK,
    throttle: Mapping[str, float | None] | None = None,
    engine: float | None = 1.0,
    low: float | None = 0.0,
    group: str = "",
) -> RankRow:
    """Return a row; the lower end of the busy share is the upper one unless stated."""
    return RankRow(
        name=name(number), group=group, known_s=600.0, engine=engine, busy=busy, busy_lo=busy if lo == -1 else lo,
        saturation=sat, idle_frac=idle, comm_frac=0.0, wait_frac=wait, engine_low_frac=low, score_points=None,
        coverage_frac=1.0, sm_clock_mhz=clock, temp_max_c=70.0, throttle=dict(throttle or {}),
        ecc_uncorrected_count=0, xid_count=0,
    )  # fmt: skip


def idle(number: int) -> RankRow:
    return rank(number, 0.0, sat=0.0, engine=0.0, low=1.0, idle=1.0)


def waiting_clock(working_frac: float, clock: float = CAPPED_CLOCK) -> float:
    """Return the mean clock of a rank that works for a share of the time and spins for the rest."""
    return working_frac * clock + (1 - working_frac) * FREE_CLOCK


def ranks(slow: RankRow, others: int = 3, *, slowness: float = 0.744986) -> list[RankRow]:
    """Return a job that waits for one rank: the others work for that share of its time."""
    waits = 1 - slowness
    busy = 0.97 * slowness
    clock = waiting_clock(slowness)
    victims = [
        rank(i, busy, wait=waits, clock=clock, throttle={"power": slowness, "thermal": 0.0})
        for i in range(others + 1)
        if i != slow.name.rank
    ]
    return [*victims, slow]


def only(rows: Iterable[RankRow]) -> Suspect:
    (suspect,) = find_suspects([*rows])
    return suspect


def named(rows: Iterable[RankRow]) -> list[int]:
    return [suspect.name.rank for suspect in find_suspects([*rows])]


def waits_least(rows: Iterable[RankRow]) -> RankName | None:
    return compare([*rows]).least_waiting


# --- slow and overloaded


def test_one_slow_gpu_of_four():
    suspect = only(ranks(rank(2, 0.97, clock=1300)))
    assert (suspect.name, suspect.kind, suspect.cause) == (name(2), "slow", "clock")
    assert suspect.efficiency_ratio == pytest.approx(0.744986, abs=1e-5)
    assert suspect.speed_up == pytest.approx(1745 / 1300, abs=1e-4)
    assert suspect.excess_frac == pytest.approx(0.97 - 0.722636, abs=1e-5)
    assert suspect.z == pytest.approx((0.97 - 0.722636) / 0.005, rel=1e-4)
    assert suspect.sm_clock_mhz == 1300
    assert suspect.median_clock_mhz == pytest.approx(waiting_clock(0.744986))


@pytest.mark.parametrize(
    ("throttle", "cause"),
    [
        ({}, "clock"),
        ({"power": 0.75}, "clock"),
        ({"power": 1.0}, "power"),
        ({"power": 1.0, "thermal": 0.6}, "thermal"),
        ({"power": 0.2, "thermal": 0.04}, "clock"),
        ({"power": 1.0, "thermal": 0.5, "hw": 0.5}, "hw"),
        ({"board": 0.5}, "power"),
        ({"sync_boost": 1.0, "app_clocks": 1.0}, "clock"),
        ({"power": None, "thermal": None, "hw": None}, "clock"),
    ],
)
def test_why_its_clock_is_low(throttle, cause):
    """Against those that wait: their power is capped while they work, so only more of it says something."""
    assert only(ranks(rank(2, 0.97, clock=1300, throttle=throttle))).cause == cause


@pytest.mark.parametrize("slowness", [0.5, 0.75, 0.9, 0.94])
def test_slow_at_the_clock_of_the_others(slowness):
    """The others run above it while they spin, however long: that is not its fault."""
    rows = ranks(rank(2, 0.97, clock=CAPPED_CLOCK, throttle={"power": 1.0}), slowness=slowness)
    assert only(rows).cause == "same_clock"
    capped = ranks(rank(2, 0.97, clock=CAPPED_CLOCK * slowness, throttle={"power": 1.0}), slowness=slowness)
    assert only(capped).cause == "power"


def test_unknown_clocks_give_no_cause():
    assert only(ranks(rank(2, 0.97, clock=None))).cause == "unknown"
    others = [rank(i, 0.72, clock=None) for i in range(3)]
    suspect = only([*others, rank(3, 0.97, clock=1300)])
    assert (suspect.cause, suspect.median_clock_mhz) == ("unknown", None)


def test_overloaded_not_slow():
    """A quarter more work at the same rate per busy second."""
    usual = [rank(i, 0.72, sat=0.576, wait=0.25) for i in range(3)]
    suspect = only([*usual, rank(3, 0.9, sat=0.72, clock=1300)])
    assert (suspect.kind, suspect.cause) == ("overloaded", "unknown")
    assert suspect.efficiency_ratio == pytest.approx(1)
    assert suspect.speed_up == pytest.approx(1.25)


@pytest.mark.parametrize(
    ("ratio", "kind"), [(0.94, "slow"), (0.951, "overloaded"), (1.0, "overloaded"), (1.2, "overloaded")]
)
def test_slow_from_five_percent_on(ratio, kind):
    usual = [rank(i, 0.7, sat=0.35) for i in range(5)]
    assert only([*usual, rank(5, 0.8, sat=0.4 * ratio)]).kind == kind


def test_what_the_job_would_gain():
    """Idle time and communication stay; a rank that is slow but has little to do gains little."""
    usual = [rank(i, 0.4, sat=0.32, wait=0.1, idle=0.5) for i in range(5)]
    half_idle = only([*usual, rank(5, 0.5, sat=0.32, idle=0.5)])
    assert half_idle.speed_up == pytest.approx(1 / (0.5 + 0.5 * 0.8))
    little_work = only([*usual, rank(5, 0.5, sat=0.2, idle=0.5)])
    assert little_work.efficiency_ratio == pytest.approx(0.5)
    assert little_work.speed_up == half_idle.speed_up
    slow_and_overloaded = only([*usual, rank(5, 0.8, sat=0.576, idle=0.2)])
    assert slow_and_overloaded.efficiency_ratio == pytest.approx(0.9)
    assert slow_and_overloaded.speed_up == pytest.approx(1 / (0.2 + 0.8 * 0.9))
    unknown_rest = only([*usual, rank(5, 0.5, sat=0.32, idle=None)])
    assert unknown_rest.speed_up == pytest.approx(1 / (0.5 + 0.5 * 0.8))
    tails = only([*usual, rank(5, 0.5, sat=0.32)])
    assert tails.speed_up == pytest.approx(1 / 0.8)


def test_one_rank_works_while_the_others_spin():
    """Its work can be shared by all of them at best."""
    spin = [rank(i, 0.0, sat=0.0, wait=1.0) for i in range(3)]
    suspect = only([*spin, rank(3, 1.0, sat=0.8)])
    assert suspect.kind == "overloaded"
    assert suspect.speed_up == pytest.approx(4)


# --- who is not named


def test_a_victim_is_never_named():
    """Many slow ranks make the fast one look odd: it waits, it is not the culprit."""
    rows = [rank(i, 0.97, clock=1300) for i in range(7)] + [rank(7, 0.72, wait=0.25)]
    assert named(rows) == []


def test_both_ends_must_hold():
    usual = [rank(i, 0.7, lo=0.6) for i in range(5)]
    assert named([*usual, rank(5, 0.8, lo=0.7)]) == [5]
    assert named([*usual, rank(5, 0.8, lo=0.62)]) == []
    assert named([*usual, rank(5, 0.72, lo=0.72)]) == []
    assert named([*usual, rank(5, 0.8, lo=None)]) == []
    assert named([*usual, rank(5, 0.8, lo=0.7), rank(6, 0.7, lo=None)]) == [5]


def test_the_weaker_end_is_told():
    suspect = only([*(rank(i, 0.7, lo=0.6) for i in range(5)), rank(5, 0.8, lo=0.65)])
    assert suspect.excess_frac == pytest.approx(0.05)
    assert suspect.z == pytest.approx(10)


def test_tiny_noise_around_equal_ranks():
    """A spread of nothing makes every difference many deviations; 0.03 is needed all the same."""
    assert named([*(rank(i, 0.7) for i in range(6)), rank(6, 0.729)]) == []
    assert named([*(rank(i, 0.7) for i in range(6)), rank(6, 0.731)]) == [6]


def test_a_wide_spread_hides_a_small_excess():
    rows = [rank(i, 0.6 + 0.02 * i) for i in range(9)]
    assert named([*rows, rank(9, 0.8)]) == []
    assert named([*rows, rank(9, 0.97)]) == [9]


def test_two_ranks():
    assert named([rank(0, 0.7), rank(1, 0.75)]) == []
    suspect = only([rank(0, 0.7, sat=0.5), rank(1, 0.8, sat=0.5)])
    assert (suspect.name.rank, suspect.kind) == (1, "slow")
    assert suspect.efficiency_ratio == pytest.approx(0.875)
    assert suspect.excess_frac == pytest.approx(0.1)
    assert named([rank(0, 0.7, lo=0.7), rank(1, 0.8, lo=0.6)]) == []


def test_one_rank_and_none():
    assert named([rank(0, 0.97)]) == []
    assert named([]) == []
    assert waits_least([rank(0, 0.97)]) is None
    assert idle_ranks([]) == ()


def test_a_slow_minority_is_named_a_slow_half_is_not():
    fast, slow = [rank(i, 0.72, wait=0.25) for i in range(8)], [rank(i, 0.97, clock=1300) for i in range(8, 16)]
    assert named([*fast[:5], *slow[:3]]) == [8, 9, 10]
    assert named([*fast[:4], *slow[:4]]) == []


def test_the_furthest_ahead_comes_first():
    rows = [*(rank(i, 0.7) for i in range(8)), rank(10, 0.8), rank(9, 0.9), rank(8, 0.8)]
    assert named(rows) == [9, 8, 10]


def test_unknown_is_not_judged():
    usual = [rank(i, 0.7) for i in range(5)]
    assert named([*usual, rank(5, None, sat=None), rank(6, 0.9, sat=None)]) == []
    assert named([*usual, rank(5, None), rank(6, 0.9)]) == [6]
    assert named([rank(i, 0.7 + (i == 4) * 0.2, sat=0.0) for i in range(5)]) == []


def test_groups_of_equal_role():
    stages = [rank(i, 0.5, group="first") for i in range(4)] + [rank(i, 0.9, group="last") for i in range(4, 8)]
    assert named(stages) == []
    assert named([*stages, rank(8, 0.6, group="first")]) == [8]
    assert named([*stages, rank(8, 0.6, group="last")]) == []


@few
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.sampled_from("ab")), min_size=1, max_size=9),
    st.randoms(use_true_random=False),
)
def test_laws(parts, rng):
    rows = [rank(i, max(a, b) / 20, lo=a / 20, sat=a / 40, group=g) for i, (a, b, g) in enumerate(parts)]
    found = find_suspects(rows)
    assert find_suspects(rng.sample(rows, len(rows))) == found
    assert waits_least(rng.sample(rows, len(rows))) == waits_least(rows)
    by_name = {row.name: row for row in rows}
    for suspect in found:
        busy, own = by_name[suspect.name].busy or 0.0, by_name[suspect.name].group
        group = [r.busy for r in rows if r.group == own and r.busy is not None]
        assert busy > np.median(group)
        assert suspect.excess_frac >= 0.03
        assert suspect.z >= 3
        assert 1 <= suspect.speed_up <= len(group) + 1e-9
    for g in "ab":
        assert 2 * sum(by_name[s.name].group == g for s in found) <= sum(r.group == g for r in rows)


# --- idle ranks and the rank that does not wait


def test_idle_ranks():
    working = [rank(i, 0.7) for i in range(4)]
    assert idle_ranks([idle(9), *working, idle(5)]) == (name(5), name(9))
    assert idle_ranks([rank(0, 0.7), *(idle(i) for i in range(1, 8))]) == tuple(name(i) for i in range(1, 8))
    assert idle_ranks([*working, rank(4, 0.01, engine=0.01, low=0.94)]) == ()
    assert idle_ranks([*working, rank(4, None, engine=None, low=None)]) == ()
    assert idle_ranks([idle(i) for i in range(4)]) == ()
    assert idle_ranks([rank(0, 0.1, engine=0.29), idle(1)]) == ()


def test_gpus_that_never_work_are_a_share_of_all():
    found = compare([*(rank(i, 0.7) for i in range(3)), idle(3)])
    assert (found.idle, found.idle_frac, found.suspects) == ((name(3),), 0.25, ())
    assert compare([]).idle_frac == 0.0


def test_idle_ranks_make_nobody_overloaded():
    """Five idle GPUs of eight would be the median."""
    assert named([*(rank(i, 0.8) for i in range(3)), *(idle(i) for i in range(3, 8))]) == []
    assert named([*(rank(i, 0.7) for i in range(3)), rank(3, 0.9), *(idle(i) for i in range(4, 12))]) == [3]


def test_the_rank_whose_loader_stalls():
    rows = [*(rank(i, 0.6, wait=0.3) for i in range(3)), rank(3, 0.6, wait=0.0, idle=0.3)]
    assert named(rows) == []
    assert waits_least(rows) == name(3)


def test_nobody_waits_less_than_all_others():
    assert waits_least([rank(i, 0.6, wait=0.3) for i in range(4)]) is None
    assert waits_least([rank(i, 0.6, wait=0.02 * i) for i in range(4)]) is None
    two = [*(rank(i, 0.6, wait=0.3) for i in range(3)), rank(3, 0.6), rank(4, 0.6)]
    assert waits_least(two) is None
    assert waits_least([*two[:3], rank(3, 0.6, wait=None), rank(4, 0.6, wait=0.24)]) == name(4)


def test_a_straggler_is_not_told_twice():
    rows = ranks(rank(2, 0.97, clock=1300))
    assert named(rows) == [2]
    assert waits_least(rows) is None
    assert waits_least([*(rank(i, 0.6, wait=0.3) for i in range(3)), rank(3, 0.64)]) is None
    # Ahead, but not by enough for a name; it is another matter if its busy share does not tell.
    spread = [rank(i, 0.6 + 0.02 * i, wait=0.3) for i in range(9)]
    assert waits_least([*spread, rank(9, 0.8)]) is None
    assert waits_least([*spread, rank(9, 0.7)]) == name(9)


def test_an_odd_one_that_works_little_does_not_set_the_pace():
    assert waits_least([*(rank(i, 0.6, wait=0.3) for i in range(3)), rank(3, 0.2, wait=0.0)]) is None
    assert waits_least([*(rank(i, 0.6, wait=0.3) for i in range(3)), idle(3)]) is None


def test_the_widest_gap_of_several_groups():
    rows = [
        *(rank(i, 0.6, wait=0.2, group="a") for i in range(3)), rank(3, 0.6, wait=0.1, group="a"),
        *(rank(i, 0.5, wait=0.4, group="b") for i in range(4, 7)), rank(7, 0.5, wait=0.1, group="b"),
    ]  # fmt: skip
    assert waits_least(rows) == name(7)


# --- false alarms


def false_alarms(ranks_count: int, spread: float, *, runs: int, seed: int = 1) -> float:
    """Return how often anybody is named in a healthy job.

    Busy shares differ at random, scores do not: the score per busy second is lower where more is busy.
    """
    rng = np.random.default_rng(seed)
    alarms = 0
    for _ in range(runs):
        busy = 0.8 + spread * rng.standard_normal(ranks_count)
        alarms += bool(find_suspects([rank(i, b, sat=0.6) for i, b in enumerate(busy.tolist())]))
    return alarms / runs


@pytest.mark.parametrize(
    ("ranks_count", "spread", "most"), [(2, 0.01, 0.0), (4, 0.01, 0.015), (16, 0.01, 0.015), (256, 0.01, 0.05)]
)
def test_healthy_ranks_are_seldom_named(ranks_count, spread, most):
    assert false_alarms(ranks_count, spread, runs=400 if ranks_count < 100 else 60) <= most


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranks_count", "runs", "most"),
    [
        (2, 5000, (0.0, 0.002, 0.02)),
        (4, 5000, (0.0, 0.01, 0.03)),
        (16, 5000, (0.0, 0.01, 0.03)),
        (256, 400, (0.0, 0.02, 0.05)),
        (10_752, 60, (0.0, 0.12, 0.6)),
    ],
)
def test_how_often_healthy_ranks_are_named(ranks_count, runs, most):
    """The table of docs/method.md, "Stragglers"; shown with ``-s``."""
    found = [false_alarms(ranks_count, spread, runs=runs) for spread in (0.005, 0.01, 0.015)]
    print(f"| {ranks_count} | {runs} | " + " | ".join(f"{100 * share:.2f} %" for share in found) + " |")
    assert all(share <= limit for share, limit in zip(found, most, strict=True))


@pytest.mark.parametrize(
    ("ranks_count", "spread", "least"), [(4, 0.005, 48), (4, 0.01, 40), (16, 0.01, 48), (256, 0.01, 48)]
)
def test_a_rank_that_is_ten_percent_slow_is_found_in_noise(ranks_count, spread, least):
    rng = np.random.default_rng(ranks_count)
    found = 0
    for _ in range(50):
        busy = (0.8 + spread * rng.standard_normal(ranks_count)).tolist()
        busy[2] = 0.8 / 0.9 + spread * rng.standard_normal()
        found += 2 in named(rank(i, b, sat=0.6) for i, b in enumerate(busy))
    assert found >= least


# --- groups


@pytest.mark.parametrize(
    ("spec", "group"),
    [
        ("none", "all ranks"), ("host", "nid001"), ("local_rank", "local rank 2"), ("rank//8", "ranks 8-15"),
        ("rank//3", "ranks 9-11"), ("rank//7", "ranks 7-13"), ("rank//1", "rank 10"), ("rank%4", "ranks 2 + 4k"),
        ("rank//999999999", "ranks 0-17"),
    ],
)  # fmt: skip
def test_group_of(spec, group):
    assert checked_grouping(spec) == spec
    assert group_of(spec, rank=10, local_rank=2, hostname="nid001", world=18) == group


def test_the_last_group_is_shorter():
    assert group_of("rank//8", rank=17, local_rank=None, hostname="", world=19) == "ranks 16-18"
    assert group_of("rank//8", rank=16, local_rank=None, hostname="", world=17) == "rank 16"
    assert group_of("local_rank", rank=17, local_rank=None, hostname="", world=19) == "local rank unknown"


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["//", "%"]))
def test_groups_are_those_of_the_operator(world, n, operator):
    names = [group_of(f"rank{operator}{n}", rank=r, local_rank=None, hostname="", world=world) for r in range(world)]
    keys = [r // n if operator == "//" else r % n for r in range(world)]
    assert len(set(zip(names, keys, strict=True))) == len(set(names)) == len(set(keys))


@pytest.mark.parametrize(
    "spec",
    ["", "all", "rank", "rank//", "rank//0", "rank//-1", "rank%", "rank % 4", "rank/4", "rank//4 ", "rank//٤",
     "rank//1e3", "rank%4%2", "rank//4//2", "Host", "4", "rank//9999999999"],
)  # fmt: skip
def test_what_is_no_grouping(spec):
    with pytest.raises(UsageError) as caught:
        checked_grouping(spec)
    assert repr(spec) in caught.value.message
    assert "none, host, local_rank, rank//N or rank%N" in caught.value.message
    with pytest.raises(UsageError):
        group_of(spec, rank=0, local_rank=0, hostname="", world=1)
