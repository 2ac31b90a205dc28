"""The engine: one loss belongs to one finding, each GPU for itself, ties, and no order that matters."""

import random
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core.facts import Facts
from satscore.core.rank_row import RankName
from satscore.core.rules import evaluate
from satscore.core.rules_all import RULES
from satscore.core.rules_model import Advice, Measure, Rule, judge
from tests.unit.rule_cases import (
    CAPPED,
    COMM,
    DECODE,
    FIRES,
    FP32,
    FULL,
    LATENCY,
    LAUNCH,
    LOCKED,
    MIX,
    MODULE,
    PCIE_COMM,
    SMALL_GRID,
    SPIN,
    suspect,
    waits,
)
from tests.unit.rule_facts import PARALLEL_JOB, facts, judged, named, with_losses
from tests.unit.runs import measured
from tests.unit.scenes import E1, E2, IDLE

HOT = E1 | {"throttle_thermal_frac": 0.5, "temp_gpu_c": 88.0}
GOOD = E1 | {"f": 1950}
ALWAYS = Measure(key="always", name="always", unit="1", fetch=lambda _: 1.0)


def rule(
    name: str, *claims: str, yields_to: tuple[str, ...] = (), informational: bool = False, doubts: bool = False
) -> Rule:
    return Rule(
        id=name,
        title=name,
        meaning=name,
        conditions=(ALWAYS.at_least(1),),
        evidence=(ALWAYS,),
        advice=Advice(action=name, hint=name, next_command=name),
        false_positives=name,
        claims=claims,
        yields_to=yields_to,
        informational=informational,
        doubts=doubts,
    )


# --- one loss, one finding


def test_a_part_that_two_rules_claim_is_counted_once():
    """The rule with more points takes the shared part; the other keeps the rest, or goes."""
    known = with_losses(facts(), idle_long=6.0, comm=4.0, issue_other=3.0)
    small, big, none = rule("small", "idle_long"), rule("big", "idle_long", "comm"), rule("none", "clock_hw")
    found, _ = evaluate([small, big, none], known)
    assert [(f.id, f.points_pct) for f in found] == [("big", 10)]
    found, _ = evaluate([rule("rest", "comm", "issue_other"), rule("most", "idle_long", "comm")], known)
    assert [(f.id, f.points_pct) for f in found] == [("most", 10), ("rest", 3)]


def test_a_more_precise_rule_takes_its_part_although_it_has_fewer_points():
    known = with_losses(facts(), idle_short=9.0, grid=4.0)
    broad = rule("broad", "idle_short", "grid", yields_to=("precise", "absent"))
    found, _ = evaluate([broad, rule("precise", "grid")], known)
    assert [(f.id, f.points_pct) for f in found] == [("broad", 9), ("precise", 4)]
    found, _ = evaluate([broad], known)
    assert [(f.id, f.points_pct) for f in found] == [("broad", 13)]


def test_a_rule_to_which_nothing_is_left_is_not_found():
    known = with_losses(facts(), wait=9.0)
    found, _ = evaluate([rule("broad", "wait", yields_to=("precise",)), rule("precise", "wait")], known)
    assert [f.id for f in found] == ["precise"]


def test_information_is_kept_with_no_points():
    found, _ = evaluate([rule("info", "clock_hw", informational=True)], facts())
    assert [(f.id, f.points_pct, f.severity) for f in found] == [("info", 0.0, "info")]


def test_what_makes_the_counters_doubtful_comes_first_then_the_largest():
    known = with_losses(facts(), idle_long=5.0, comm=9.0)
    rules = [rule("a", "idle_long"), rule("b", "comm"), rule("doubt", informational=True, doubts=True)]
    assert [f.id for f in evaluate(rules, known)[0]] == ["doubt", "b", "a"]


def test_points_count_by_the_share_of_the_time():
    known = with_losses(facts(), idle_long=8.0)
    found, _ = evaluate([rule("a", "idle_long")], known, 0.25)
    assert [f.points_pct for f in found] == [2.0]
    assert evaluate([rule("a", "idle_long")], known, 0.1)[0] == []


# --- ties


@pytest.mark.parametrize(
    ("first", "second", "ci", "tied"),
    [
        (9.0, 7.1, None, True),
        (9.0, 6.9, None, False),
        (9.0, 6.9, 2.5, True),
        (9.0, 6.0, 2.5, False),
        (9.0, 7.1, 0.1, True),
    ],
)
def test_the_two_largest_name_each_other_where_they_cannot_be_told_apart(first, second, ci, tied):
    known = with_losses(facts(), idle_long=first, comm=second, grid=2.0)
    known = msgspec.structs.replace(known, job=msgspec.structs.replace(known.job, ci_points=ci))
    found, _ = evaluate([rule("c", "grid"), rule("b", "comm"), rule("a", "idle_long")], known)
    assert [f.tied_with for f in found] == ([["b"], ["a"], []] if tied else [[], [], []])


def test_information_is_no_party_to_a_tie():
    known = with_losses(facts(), idle_long=5.0, comm=5.0)
    found, _ = evaluate([rule("a", "idle_long"), rule("b", "comm", informational=True)], known)
    assert [f.tied_with for f in found] == [[], []]


# --- each GPU for itself


def gpus(*values: dict[str, float]) -> list[tuple[RankName, Facts, float]]:
    """Return the GPUs of a job that all have the same share of its time."""
    return [(named(i), facts(((20, each),)), 1 / len(values)) for i, each in enumerate(values)]


@pytest.mark.parametrize("name", [rule.id for rule in RULES if rule.scope == "gpu"])
def test_one_gpu_is_judged_as_the_job_is(name):
    known = FIRES[name]()
    assert judged(known, per_gpu=[(named(0), known, 1.0)]) == judged(known)


def test_one_hot_gpu_of_a_thousand_is_named():
    good, hot = facts(((20, GOOD),)), facts(((20, HOT),))
    many = [(named(i), hot if i == 617 else good, 0.001) for i in range(1000)]
    found, _ = judged(good, per_gpu=many)
    thermal = found["THERMAL"]
    assert thermal.ranks == [named(617)]
    assert thermal.severity == "info"
    assert thermal.points_pct == pytest.approx(0.001 * hot.loss_points["clock_thermal"])
    assert thermal.evidence[0].name == "GPUs of 1000:"
    assert {e.key: e.value for e in thermal.evidence} == {
        "gpus_concerned": 1,
        "throttle_thermal": 0.5,
        "temp_max_c": 88.0,
        "sm_clock_mhz": 1745,
    }


def test_points_of_gpus_add_up_by_their_share_of_the_time():
    known = gpus(HOT, GOOD, HOT | {"throttle_thermal_frac": 0.1}, GOOD)
    found, _ = judged(facts(), per_gpu=known)
    expected = sum(share * own.loss_points["clock_thermal"] for _, own, share in known)
    assert found["THERMAL"].points_pct == pytest.approx(expected)
    assert found["THERMAL"].ranks == [named(0), named(2)]
    assert {e.key: e.value for e in found["THERMAL"].evidence}["throttle_thermal"] == 0.5, "the worst GPU is shown"


def test_the_gpu_that_costs_most_is_the_evidence():
    hotter, costlier = facts(((20, HOT),)), facts(((20, HOT | {"throttle_thermal_frac": 0.3}),))
    per_gpu = [(named(0), hotter, 0.1), (named(1), costlier, 0.4), (named(2), facts(((20, GOOD),)), 0.5)]
    found, _ = judged(facts(), per_gpu=per_gpu)
    assert {e.key: e.value for e in found["THERMAL"].evidence}["throttle_thermal"] == pytest.approx(0.3)


def test_a_finding_about_all_gpus_is_about_the_job():
    found, _ = judged(facts(), per_gpu=gpus(HOT, HOT, HOT))
    assert found["THERMAL"].ranks == []
    assert "gpus_concerned" not in {e.key for e in found["THERMAL"].evidence}


def test_a_part_is_claimed_per_gpu():
    """One GPU's module is at its limit, another is at its own cap: each is said of its GPU."""
    found, _ = judged(facts(), per_gpu=gpus(MODULE, CAPPED, GOOD))
    assert found["MODULE_POWER"].ranks == [named(0)]
    assert found["POWER_CAPPED"].ranks == [named(1)]


def test_not_judged_if_no_gpu_fires_and_one_cannot_be_judged():
    blind = facts(((20, GOOD),), unknown=["throttle_thermal_frac"])
    good = facts(((20, GOOD),))
    _, not_judged = judged(good, per_gpu=[(named(0), good, 0.5), (named(1), blind, 0.5)])
    assert not_judged["THERMAL"].missing == ["throttle time by heat"]
    hot = facts(((20, HOT),))
    found, not_judged = judged(good, per_gpu=[(named(0), hot, 0.5), (named(1), blind, 0.5)])
    assert "THERMAL" in found
    assert "THERMAL" not in not_judged


def test_a_rule_that_holds_already_is_judged_with_relaxed_thresholds():
    nearly = facts(((477, FULL), (23, COMM)))
    assert "COMM_EXPOSED" not in judged(nearly)[0]
    assert "COMM_EXPOSED" in judged(nearly, held={"COMM_EXPOSED"})[0]


# --- properties of all rules together

SCENES: tuple[Mapping[str, float], ...] = (
    E1, E2, IDLE, COMM, PCIE_COMM, SPIN, FULL, LAUNCH, SMALL_GRID, DECODE, LATENCY, FP32, MIX, CAPPED,
    MODULE, LOCKED, HOT,
)  # fmt: skip
points_or_nothing = st.sampled_from([0.0, 0.4, 2.0, 6.0])


@st.composite
def jobs(draw: st.DrawFn) -> Facts:
    """Return facts of any mix of scenes, as one GPU or as a job whose ranks wait for each other."""
    some = st.tuples(st.integers(1, 12), st.sampled_from(SCENES))
    made = facts(draw(st.lists(some, min_size=1, max_size=5)))
    if draw(st.booleans()) or (made.score_points or 0) > 60:
        return made
    ranks = st.tuples(
        st.integers(0, 3), st.sampled_from(["slow", "overloaded"]), st.just("clock"), st.sampled_from([0.1, 0.2, 0.3])
    )
    suspects = tuple(suspect(*each) for each in draw(st.lists(ranks, max_size=2)))  # type: ignore[arg-type]
    of_job = msgspec.structs.replace(
        PARALLEL_JOB, suspects=suspects, rank_spread=draw(st.sampled_from([0.01, 0.2])), ci_points=0.3
    )
    parts = waits(draw(points_or_nothing), draw(points_or_nothing), draw(points_or_nothing))
    more = {name: draw(points_or_nothing) for name in ("idle_long", "idle_short", "grid", "comm")}
    return msgspec.structs.replace(with_losses(made, **parts, **more), job=of_job)


@settings(max_examples=60, deadline=None)
@given(jobs())
def test_points_of_all_findings_never_exceed_what_was_lost(known):
    found, _ = evaluate(RULES, known)
    assert sum(f.points_pct for f in found) <= 100 - (known.score_points or 0) + 1e-6
    assert all(f.points_pct >= 0 for f in found)


@settings(max_examples=60, deadline=None)
@given(jobs(), st.integers(0, 2**32))
def test_the_order_of_the_rules_does_not_matter(known, seed):
    shuffled = list(RULES)
    random.Random(seed).shuffle(shuffled)
    found, not_judged = evaluate(shuffled, known)
    assert found == evaluate(RULES, known)[0]
    assert {n.id: n for n in not_judged} == judged(known)[1]


@settings(max_examples=60, deadline=None)
@given(jobs())
def test_relaxed_thresholds_never_lose_a_rule(known):
    for each in RULES:
        if judge(each, known).way:
            assert judge(each, known, near=True).way, each.id


def test_rules_of_gpus_and_rules_of_the_job_claim_different_parts():
    """So what is claimed on a GPU is never claimed by a finding about the job as well."""
    claims: dict[bool, set[str]] = {True: set(), False: set()}
    for make in FIRES.values():
        known = make()
        for each in RULES:
            claims[each.scope == "gpu"] |= set(each.claimed(known))
    assert claims[True]
    assert claims[False]
    assert not claims[True] & claims[False]


def test_the_summary_carries_findings_and_what_was_not_judged():
    links = ["nvlink_tx_bytes_s", "nvlink_rx_bytes_s", "pcie_tx_bytes_s", "pcie_rx_bytes_s"]
    summary = measured([(9.4, FULL), (0.6, SPIN)], unknown=links).summary()
    assert {"COMM_EXPOSED", "COMM_WAIT", "LINK_DEGRADED"} <= {item.id for item in summary.not_judged}
    summary = measured([(5.0, LAUNCH)]).summary()
    finding = summary.findings[0]
    assert finding.id == "HOST_GAPS"
    assert "CUDA Graphs" in finding.hint
    assert {e.name: e.threshold for e in finding.evidence}["burstiness gamma"] == 0.5
