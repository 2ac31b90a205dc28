"""Each rule: facts that fire it, near misses that do not, and what it lacks when it cannot be judged."""

import msgspec
import pytest

from satscore.core.job_tree import idle_apart
from satscore.core.rules import evaluate, firings
from satscore.core.rules_all import RULES
from satscore.core.rules_model import Rule, judge
from tests.unit.rule_cases import (
    CAPPED,
    COMM,
    FIRES,
    FP32,
    FULL,
    LACKS,
    LATENCY,
    LAUNCH,
    LINKS,
    LOCKED,
    MODULE,
    NEAR_MISSES,
    SPIN,
    THROTTLE,
    UNKNOWN_OF_JOB,
    dips,
    job,
    links,
    of,
    suspect,
    waits,
)
from tests.unit.rule_facts import LONG_RUN, PARALLEL_JOB, facts, judged, named, with_losses
from tests.unit.scenes import E1, E2

BY_ID = {rule.id: rule for rule in RULES}
IDS = [
    "HOST_STALL",
    "HOST_GAPS",
    "SMALL_GRID",
    "COMM_EXPOSED",
    "COMM_WAIT",
    "MEMORY_BOUND",
    "MEMORY_MIX",
    "TENSOR_UNUSED",
    "LOW_TENSOR_EFF",
    "LATENCY_BOUND",
    "POWER_CAPPED",
    "MODULE_POWER",
    "THERMAL",
    "HW_SLOWDOWN",
    "CLOCK_LOCKED",
    "STRAGGLER",
    "OVERLOADED_RANK",
    "IMBALANCE",
    "PERIODIC_DIPS",
    "SLOW_START",
    "MEM_HEADROOM",
    "LINK_DEGRADED",
    "NVLINK_UNUSED",
    "GPU_IDLE_RANK",
    "GPU_SHARED",
    "BOUND_EXCEEDED",
    "CALIBRATION_STALE",
    "NO_COUNTERS",
    "NEVER_STEADY",
    "REGIME_CHANGE",
]


def test_every_rule_is_there_once_and_has_its_cases():
    assert sorted(rule.id for rule in RULES) == sorted(IDS)
    assert set(FIRES) == {name for name, _ in NEAR_MISSES} == set(IDS)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_texts_are_there_and_fit(rule):
    texts = (rule.title, rule.meaning, rule.false_positives)
    assert all(text.strip() == text != "" for text in texts)
    assert len(rule.title) <= 60
    for advice in (rule.advice, *rule.variants.values()):
        assert all((advice.action, advice.hint, advice.next_command))
        assert len(advice.action) <= 45
    assert rule.evidence
    assert not set(rule.yields_to) - set(IDS)
    if callable(rule.claims):
        assert rule.claims.__doc__


@pytest.mark.parametrize("name", FIRES)
def test_fires_with_evidence_and_advice(name):
    found, not_judged = judged(FIRES[name]())
    assert name not in not_judged
    finding = found[name]
    assert finding.points_pct >= 1 or finding.severity == "info"
    assert finding.evidence
    assert all((finding.title, finding.action, finding.hint, finding.next_command, finding.false_positives))


@pytest.mark.parametrize("name", FIRES)
def test_what_decided_is_shown_with_its_threshold(name):
    """At least one number of every finding stands beside the threshold that it crossed."""
    found, _ = judged(FIRES[name]())
    (way,) = [w for w in BY_ID[name].ways if all(c.holds(FIRES[name]()) for c in w)][:1]
    shown = {e.key: e.threshold for e in found[name].evidence if e.threshold is not None}
    assert shown.items() <= {c.measure.key: c.threshold for c in way}.items()
    assert shown or name in {"STRAGGLER", "OVERLOADED_RANK", "NEVER_STEADY", "PERIODIC_DIPS"}


@pytest.mark.parametrize(("name", "make"), NEAR_MISSES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(NEAR_MISSES)])
def test_a_near_miss_does_not_fire(name, make):
    found, not_judged = judged(make())
    assert name not in found
    assert name not in not_judged


@pytest.mark.parametrize(("name", "unknown", "lacks"), LACKS, ids=lambda v: v if isinstance(v, str) else "-".join(v))
def test_not_judged_says_what_is_missing(name, unknown, lacks):
    found, not_judged = judged(FIRES[name](unknown=unknown))
    assert name not in found
    assert lacks in not_judged[name].missing
    assert lacks in BY_ID[name].needs


@pytest.mark.parametrize(("name", "of_job", "lacks"), UNKNOWN_OF_JOB, ids=lambda v: v if isinstance(v, str) else "")
def test_not_judged_says_what_is_missing_of_the_job(name, of_job, lacks):
    _, not_judged = judged(facts(job=of_job))
    assert not_judged[name].missing == [lacks]


def conditions_of_rules():
    for rule in RULES:
        for number, way in enumerate(rule.ways):
            for place, condition in enumerate(way):
                yield pytest.param(rule, number, place, id=f"{rule.id}-{number}-{condition.measure.key}")


def without(rule: Rule, number: int, place: int) -> Rule:
    """Return a rule with one way, in which one measure is never known."""
    way = list(rule.ways[number])
    measure = msgspec.structs.replace(way[place].measure, fetch=lambda _: None, rests_on=())
    way[place] = msgspec.structs.replace(way[place], measure=measure)
    return msgspec.structs.replace(rule, conditions=tuple(way), alternatives=())


@pytest.mark.parametrize(("rule", "number", "place"), [*conditions_of_rules()])
def test_the_missing_fact_of_a_condition_is_named(rule, number, place):
    """With all else known and true, exactly what one condition lacks is said."""
    measure = rule.ways[number][place].measure
    known = {("IMBALANCE", 1): job(PARALLEL_JOB, waits(0, 0, 9), rank_spread=0.2)}
    known[("TENSOR_UNUSED", 1)] = of(1, FP32 | {"T": 0.04})
    known[("LINK_DEGRADED", 1)] = lambda: facts(links=links(nvlink_lost_frac=0.1))
    known[("LINK_DEGRADED", 2)] = lambda: facts(links=links(error_ratio=1.1))
    known_facts = known.get((rule.id, number), FIRES[rule.id])()
    changed = without(rule, number, place)
    _, not_judged = evaluate([changed], known_facts)
    assert [item.missing for item in not_judged] == [[measure.counter or measure.name]]


def test_what_surely_fails_decides_whatever_else_is_unknown():
    """A GPU whose engine never pauses has no host stall, also where nothing else is known."""
    even = facts(unknown=["T"])
    assert judge(BY_ID["HOST_STALL"], even).missing == ()
    assert judge(BY_ID["MODULE_POWER"], facts(((10, E1 | {"f": 1980}),))).missing == ()


@pytest.mark.parametrize("unknown", ["T", "d", "f", "mem_clock_mhz"])
def test_without_a_score_nothing_is_found_in_its_losses(unknown):
    found, not_judged = judged(FIRES["MEMORY_MIX"](unknown=[unknown]))
    assert found == {}
    assert "score" in not_judged["MEMORY_MIX"].missing
    assert not {"HOST_STALL", "COMM_WAIT"} & found.keys()


def test_health_is_judged_without_a_score():
    """Gauges alone, as of a GPU without pipe counters: heat and hardware slowdown are known all the same."""
    hot = E1 | {"throttle_thermal_frac": 0.3, "throttle_hw_frac": 0.01}
    found, not_judged = judged(facts(((10, hot),), unknown=["T", "d", "sm", "g", "F32"]))
    assert {"THERMAL", "HW_SLOWDOWN"} == found.keys()
    assert {f.severity for f in found.values()} == {"info"}
    assert "score" in not_judged["MEMORY_BOUND"].missing


# --- the cases that need more than a threshold


@pytest.mark.parametrize(("watts", "fires"), [(690, True), (676, True), (670, False)])
def test_without_throttle_counters_power_at_its_limit_speaks_for_the_cap(watts, fires):
    at_cap = E1 | {"power_gpu_w": watts, "power_limit_gpu_w": 700.0}
    found, not_judged = judged(facts(((50, at_cap),), THROTTLE))
    assert ("POWER_CAPPED" in found) == fires
    assert "POWER_CAPPED" not in not_judged
    if fires:
        assert found["POWER_CAPPED"].points_pct == pytest.approx(3.8784, abs=1e-3)


def test_throttle_counters_are_believed_before_power():
    at_cap = E1 | {"power_gpu_w": 690.0, "power_limit_gpu_w": 700.0, "throttle_power_frac": 0.0}
    found, _ = judged(facts(((50, at_cap),)))
    assert "POWER_CAPPED" not in found


def test_the_scope_nearest_to_its_limit_is_the_evidence():
    found, _ = judged(facts(((50, MODULE | {"power_gpu_w": 640.0}),), THROTTLE))
    evidence = {e.unit: e for e in found["POWER_CAPPED"].evidence if e.name.startswith("module")}
    assert evidence["frac"].value == pytest.approx(655 / 660, abs=1e-5)
    assert evidence["W"].value == pytest.approx(660)


def test_a_module_at_its_limit_takes_the_loss_from_the_cap():
    found, _ = judged(FIRES["MODULE_POWER"]())
    assert "POWER_CAPPED" not in found
    assert found["MODULE_POWER"].points_pct == pytest.approx(
        judged(FIRES["POWER_CAPPED"]())[0]["POWER_CAPPED"].points_pct
    )


@pytest.mark.parametrize(("level", "reads", "vboost"), [(0, CAPPED, True), (1, CAPPED, False), (None, CAPPED, False)])
def test_vboost_is_advised_only_where_it_is_known_to_be_off(level, reads, vboost):
    found, _ = judged(facts(((10, reads),), vboost_level=level))
    assert ("vBoost" in found["POWER_CAPPED"].action) == vboost


def test_link_counters_that_cannot_be_read_do_not_matter_without_communication():
    _, not_judged = judged(FIRES["MEMORY_MIX"](unknown=LINKS))
    assert not {"COMM_WAIT", "COMM_EXPOSED", "NVLINK_UNUSED"} & not_judged.keys()


def test_one_busy_link_decides_although_another_cannot_be_read():
    found, not_judged = judged(FIRES["COMM_EXPOSED"](unknown=["pcie_rx_bytes_s"]))
    assert "COMM_EXPOSED" not in not_judged
    assert found["COMM_EXPOSED"].points_pct == pytest.approx(6, abs=0.1)


def test_communication_over_the_wrong_link_is_one_finding():
    found, _ = judged(FIRES["NVLINK_UNUSED"]())
    assert "COMM_EXPOSED" not in found
    assert found["NVLINK_UNUSED"].points_pct == pytest.approx(10 * 0.8976, abs=0.01)


@pytest.mark.parametrize("tensor", [0.02, 0.04, 0.06])
def test_fp32_training_is_found_although_its_attention_uses_the_tensor_cores(tensor):
    found, _ = judged(of(1, FP32 | {"T": tensor, "F32": 0.85})())
    assert "TENSOR_UNUSED" in found
    assert "LOW_TENSOR_EFF" not in found


def test_profile_hpc_accepts_work_on_vector_pipes():
    found, _ = judged(facts(((10, FP32),), profile="hpc"))
    assert "TENSOR_UNUSED" not in found


def test_fp64_work_is_not_bound_by_latency():
    found, _ = judged(of(1, LATENCY | {"F64": 0.5})())
    assert "TENSOR_UNUSED" in found
    assert "LATENCY_BOUND" not in found


def test_launch_gaps_and_small_grids_share_their_loss():
    """Grids are named for what they are; the short gaps are left to the launches."""
    both = {"g": 0.93, "sm": 0.5, "T": 0.4, "d": 0.1, "f": 1830}
    known = of(1, both)()
    found, _ = judged(known)
    assert found["SMALL_GRID"].points_pct == pytest.approx(known.loss_points["grid"])
    assert found["HOST_GAPS"].points_pct == pytest.approx(known.loss_points["idle_short"])


def test_a_run_at_the_dram_roof_is_information_and_not_a_fault():
    found, _ = judged(facts(((10, E2),)))
    assert found["MEMORY_BOUND"].severity == "info"


@pytest.mark.parametrize(("idle", "severity"), [(9, "medium"), (14, "medium"), (20, "high"), (50, "high")])
def test_severity_follows_the_points(idle, severity):
    found, _ = judged(of(100 - idle, FULL, idle)())
    assert found["HOST_STALL"].severity == severity
    assert found["HOST_STALL"].points_pct == pytest.approx(idle, abs=1e-3)


def test_a_stall_of_one_rank_names_it():
    stalled = msgspec.structs.replace(PARALLEL_JOB, least_waiting=named(2))
    found, _ = judged(of(9, FULL, 1)(job=stalled))
    assert found["HOST_STALL"].ranks == [named(2)]
    assert judged(of(9, FULL, 1)(job=PARALLEL_JOB))[0]["HOST_STALL"].ranks == []


# --- ranks and phases


def test_waiting_of_a_named_rank_is_not_imbalance_as_well():
    found, _ = judged(FIRES["STRAGGLER"]())
    assert "IMBALANCE" not in found
    assert found["STRAGGLER"].points_pct == pytest.approx(12)
    assert found["STRAGGLER"].ranks == [named(3)]


def test_imbalance_keeps_what_no_named_rank_explains():
    found, _ = judged(job(PARALLEL_JOB, waits(7.0, 12.0), suspects=(suspect(),))())
    assert found["IMBALANCE"].points_pct == pytest.approx(7)
    assert found["STRAGGLER"].points_pct == pytest.approx(12)


def test_two_kinds_of_suspects_are_both_named_and_the_loss_is_the_busiest_ones():
    suspects = (suspect(1, "overloaded", excess=0.30), suspect(3, "slow"), suspect(2, "slow", excess=0.25))
    found, _ = judged(job(PARALLEL_JOB, waits(0.2, 12.0), suspects=suspects)())
    assert found["OVERLOADED_RANK"].points_pct == pytest.approx(12)
    assert (found["STRAGGLER"].points_pct, found["STRAGGLER"].severity) == (0, "info")
    assert found["STRAGGLER"].ranks == [named(2), named(3)]


def test_imbalance_within_a_block_takes_the_wait_from_the_collective():
    found, _ = judged(job(PARALLEL_JOB, waits(0.0, 0.0, 9.0), rank_spread=0.2)())
    assert found["IMBALANCE"].points_pct == pytest.approx(9)
    assert "COMM_WAIT" not in found
    found, _ = judged(job(PARALLEL_JOB, waits(4.0, 2.0, 9.0), rank_spread=0.02)())
    assert found["IMBALANCE"].points_pct == pytest.approx(6)
    assert found["COMM_WAIT"].points_pct == pytest.approx(9)


@pytest.mark.parametrize("cause", ["thermal", "power", "hw", "clock", "same_clock", "unknown"])
def test_the_hint_about_a_slow_gpu_follows_its_cause(cause):
    found, _ = judged(job(PARALLEL_JOB, waits(0.2, 12.0), suspects=(suspect(cause=cause),))())
    words = {"thermal": "hot", "power": "cap", "hw": "hardware", "clock": "locked"}
    assert words.get(cause, "ECC") in found["STRAGGLER"].hint


@pytest.mark.parametrize(("kind", "word"), [("checkpoint", "async"), ("gc", "gc.freeze"), ("unknown", "evaluation")])
def test_the_hint_about_dips_follows_their_kind(kind, word):
    found, _ = judged(job(LONG_RUN, periodic=dips(kind=kind))())
    assert word in found["PERIODIC_DIPS"].hint
    assert found["PERIODIC_DIPS"].points_pct == 4.0


def test_an_idle_gpu_takes_its_loss_out_of_what_the_others_waited():
    """Of four equal ranks of V2 = 0.9 one is idle: the loss is its quarter of 90 points, and all of it is its own."""
    parts = idle_apart(waits(0.3, 22.5), 0.75, 0.25)
    assert parts == pytest.approx({"transient": 0.3, "persistent": 0.0, "wait": 0.0, "idle_ranks": 22.5})
    found, _ = judged(facts(job=FIRES["GPU_IDLE_RANK"]().job, score_points=50.0, loss_points=parts))
    assert found["GPU_IDLE_RANK"].points_pct == pytest.approx(22.5)
    assert found["GPU_IDLE_RANK"].ranks == [named(2)]
    assert "IMBALANCE" not in found


def test_what_idle_gpus_do_not_explain_stays_persistent():
    """V2 of 0.9, 0.6, 0.6 and 0: J3 = 0.9, J4 = 0.525, of which the idle one holds 0.225."""
    parts = idle_apart({"persistent": 37.5, "comm": 3.0}, 0.525 / 0.9, 0.25)
    assert parts == pytest.approx({"persistent": 15.0, "comm": 3.0, "idle_ranks": 22.5})
    assert idle_apart({"persistent": 0.0}, 1.0, 0.25) == {"persistent": 0.0, "idle_ranks": 0.0}
    assert idle_apart({"persistent": 9.0}, None, 0.25) == {"persistent": 9.0, "idle_ranks": 0.0}


def test_an_idle_gpu_is_named_also_where_its_loss_is_not_known():
    found, _ = judged(FIRES["GPU_IDLE_RANK"]())
    assert (found["GPU_IDLE_RANK"].severity, found["GPU_IDLE_RANK"].ranks) == ("info", [named(2)])


def test_the_largest_change_of_level_is_shown():
    change = FIRES["REGIME_CHANGE"]().job.regime_changes
    assert change is not None
    small = msgspec.structs.replace(change[0], at_s=2400.0, before_points=41.0, after_points=45.0)
    found, _ = judged(job(LONG_RUN, regime_changes=(small, *change))())
    assert {e.key: e.value for e in found["REGIME_CHANGE"].evidence} == {
        "changed_at_s": 1200.0,
        "before_points": 52.0,
        "after_points": 41.0,
        "regime_changes_count": 2.0,
    }


def test_start_up_is_not_judged_where_its_cost_is_not_known():
    slow = msgspec.structs.replace(FIRES["SLOW_START"]().job, start_cost_points=None)
    found, not_judged = judged(facts(job=slow))
    assert "SLOW_START" not in found
    assert not_judged["SLOW_START"].missing == ["cost of start-up and warm-up"]


@pytest.mark.parametrize("name", [n for n in FIRES if BY_ID[n].scope != "run"])
def test_what_fires_is_near_and_what_is_of_the_whole_run_is_not_live(name):
    now = firings(RULES, FIRES[name]())
    assert now[name].fires
    assert now[name].near
    assert not {rule.id for rule in RULES if rule.scope == "run"} & now.keys()


@pytest.mark.parametrize(
    ("name", "reads", "near"),
    [
        ("COMM_EXPOSED", [(477, FULL), (23, COMM)], True),
        ("COMM_EXPOSED", [(481, FULL), (19, COMM)], False),
        ("COMM_WAIT", [(479, FULL), (21, SPIN)], True),
        ("HOST_GAPS", [(10, LAUNCH | {"g": 0.99, "sm": 0.78, "T": 0.7})], True),
        ("LATENCY_BOUND", [(10, LATENCY | {"d": 0.45})], True),
        ("LATENCY_BOUND", [(10, LATENCY | {"d": 0.48})], False),
        ("CLOCK_LOCKED", [(10, LOCKED | {"f": 1895})], True),
        ("CLOCK_LOCKED", [(10, LOCKED | {"f": 1910})], False),
        ("CLOCK_LOCKED", [(10, LOCKED | {"f": 1980})], False),
    ],
)
def test_near_is_every_threshold_relaxed_by_a_fifth(name, reads, near):
    firing = firings(RULES, facts(reads))[name]
    assert not firing.fires
    assert firing.near == near


def test_a_window_that_cannot_be_judged_is_left_out():
    assert "COMM_WAIT" not in firings(RULES, FIRES["COMM_WAIT"](unknown=LINKS))


def test_losses_of_a_hand_made_job_add_up():
    made = with_losses(facts(), transient=3.0, persistent=4.0)
    assert sum(made.loss_points.values()) + (made.score_points or 0) == pytest.approx(100)
