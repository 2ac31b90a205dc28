"""Each rule: a case that fires, a near miss that does not, and what it lacks when it cannot be judged."""

import re
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core.facts import Facts, facts_of, profile_points
from satscore.core.rules import Judgement, Rule, evaluate
from satscore.core.rules_gpu import RULES
from satscore.core.summary import EvidenceItem, FindingItem, NotJudgedItem
from tests.unit.runs import measured
from tests.unit.scenes import E1, E2, IDLE, score, series

THROTTLE = [f"throttle_{reason}_frac" for reason in ("power", "thermal", "hw", "board", "sync_boost", "app_clocks")]
LINKS = ["nvlink_tx_bytes_s", "nvlink_rx_bytes_s", "pcie_tx_bytes_s", "pcie_rx_bytes_s"]
POWER = ["power_gpu_w", "power_module_w", "energy_gpu_j", "energy_module_j"]
POWERED = {"power_gpu_w": 690.0, "power_limit_gpu_w": 700.0}
FP32 = {"g": 1, "sm": 0.99, "T": 0, "F32": 0.90, "d": 0.15, "f": 1755}
MIX = {"g": 1, "sm": 0.97, "T": 0.5, "d": 0.4, "f": 1830}
FULL = {"g": 1, "sm": 1, "T": 0.95, "d": 0.1, "f": 1830}
COMM = {"g": 1, "sm": 0.121, "T": 0, "d": 0.1, "f": 1980, "nvlink_tx_bytes_s": 0.1 * 450e9}
SPIN = {"g": 1, "sm": 0.121, "T": 0, "d": 0.01, "f": 1980}

Parts = Sequence[tuple[float, Mapping[str, float]]]
FIRES: dict[str, Parts] = {
    "POWER_CAPPED": [(10, E1 | {"throttle_power_frac": 0.6})],
    "TENSOR_UNUSED": [(3, FP32)],
    "MEMORY_BOUND": [(5, E2)],
    "MEMORY_MIX": [(5, MIX)],
    "HOST_STALL": [(0.9, FULL), (0.1, IDLE)] * 10,
    "HOST_GAPS": [(3, {"g": 0.55, "sm": 0.036, "T": 0.003, "d": 0.018, "f": 1980})],
    "COMM_EXPOSED": [(0.94, FULL), (0.06, COMM)] * 10,
    "COMM_WAIT": [(0.94, FULL), (0.06, SPIN)] * 10,
}
NEAR_MISSES: list[tuple[str, Parts]] = [
    ("POWER_CAPPED", [(10, E1 | {"throttle_power_frac": 0.45})]),
    ("POWER_CAPPED", [(10, E1 | {"throttle_power_frac": 0.6, "f": 1890})]),
    ("POWER_CAPPED", [(10, E1 | {"throttle_power_frac": 0.6, "f": 1810})]),
    ("TENSOR_UNUSED", [(3, FP32 | {"F32": 0.19})]),
    ("TENSOR_UNUSED", [(3, FP32 | {"T": 0.03})]),
    ("MEMORY_BOUND", [(5, E2 | {"d": 0.38})]),
    ("MEMORY_BOUND", [(5, E2 | {"T": 0.9})]),
    ("MEMORY_MIX", [(5, MIX | {"d": 0.14})]),
    ("MEMORY_MIX", [(5, MIX | {"T": 0.38})]),
    ("HOST_STALL", [(0.93, FULL), (0.07, IDLE)] * 10),
    ("HOST_STALL", [(0.9, FULL | {"g": 0.5, "sm": 0.5, "T": 0.45}), (0.1, IDLE)] * 10),
    ("HOST_GAPS", [(3, FULL | {"sm": 0.76, "T": 0.7})]),
    ("HOST_GAPS", [(0.5, FULL), (0.5, IDLE)] * 4),
    ("COMM_EXPOSED", [(0.96, FULL), (0.04, COMM)] * 10),
    ("COMM_EXPOSED", [(0.94, FULL), (0.06, COMM | {"T": 0.06, "sm": 0.2})] * 10),
    ("COMM_WAIT", [(0.96, FULL), (0.04, SPIN)] * 10),
    ("COMM_WAIT", [(0.94, FULL), (0.06, SPIN | {"sm": 0.4})] * 10),
]
LACKS = [
    ("POWER_CAPPED", [*THROTTLE, *POWER], "throttle time or power with its limit"),
    ("POWER_CAPPED", ["f"], "SM clock"),
    ("TENSOR_UNUSED", ["T"], "tensor active"),
    ("TENSOR_UNUSED", ["F32"], "fp32 active"),
    ("MEMORY_BOUND", ["d"], "DRAM active"),
    ("MEMORY_MIX", ["d"], "DRAM active"),
    ("HOST_STALL", ["g"], "engine active"),
    ("HOST_GAPS", ["g"], "engine active"),
    ("HOST_GAPS", ["sm"], "SM active"),
    ("COMM_EXPOSED", ["sm"], "SM active"),
    ("COMM_EXPOSED", LINKS, "link counters"),
    ("COMM_WAIT", ["g"], "engine active"),
    ("COMM_WAIT", LINKS, "link counters"),
    ("COMM_WAIT", ["pcie_rx_bytes_s"], "link counters"),
]


def facts(parts, unknown=()) -> Facts:
    return facts_of([score(series(parts, unknown=unknown))], "train")


def judged(parts, unknown=()) -> tuple[dict[str, FindingItem], dict[str, NotJudgedItem]]:
    found, not_judged = evaluate(RULES, facts(parts, unknown))
    return {f.id: f for f in found}, {n.id: n for n in not_judged}


def test_every_rule_has_a_case():
    assert [rule.id for rule in RULES] == list(FIRES)
    assert {name for name, _ in NEAR_MISSES} == {name for name, *_ in LACKS} == set(FIRES)


@pytest.mark.parametrize("name", FIRES)
def test_fires_with_evidence_and_advice(name):
    found, not_judged = judged(FIRES[name])
    assert not_judged == {}
    finding = found[name]
    assert finding.points_pct >= 1 or finding.severity == "info"
    assert finding.evidence
    assert all((finding.title, finding.action, finding.hint, finding.next_command, finding.false_positives))


@pytest.mark.parametrize(("name", "parts"), NEAR_MISSES)
def test_a_near_miss_does_not_fire(name, parts):
    found, not_judged = judged(parts)
    assert not_judged == {}
    assert name not in found


@pytest.mark.parametrize(("name", "unknown", "lacks"), LACKS, ids=lambda v: v if isinstance(v, str) else "-".join(v))
def test_not_judged_says_what_is_missing(name, unknown, lacks):
    found, not_judged = judged(FIRES[name], unknown)
    assert name not in found
    assert lacks in not_judged[name].missing


@pytest.mark.parametrize("unknown", ["T", "d", "f", "mem_clock_mhz"])
def test_without_a_score_no_rule_is_judged(unknown):
    found, not_judged = judged(FIRES["MEMORY_MIX"], [unknown])
    assert found == {}
    assert all("score" in item.missing for item in not_judged.values())
    assert set(not_judged) == set(FIRES)


# --- the cases that need more than a threshold


@pytest.mark.parametrize(("watts", "fires"), [(690, True), (676, True), (670, False)])
def test_without_throttle_counters_power_at_its_limit_speaks_for_the_cap(watts, fires):
    found, not_judged = judged([(10, E1 | POWERED | {"power_gpu_w": watts})], THROTTLE)
    assert ("POWER_CAPPED" in found) == fires
    assert "POWER_CAPPED" not in not_judged
    if fires:
        assert found["POWER_CAPPED"].points_pct == pytest.approx(3.8784, abs=1e-3)


def test_throttle_counters_are_believed_before_power():
    found, _ = judged([(10, E1 | POWERED | {"throttle_power_frac": 0.0})])
    assert "POWER_CAPPED" not in found


def test_on_a_module_the_scope_nearest_to_its_limit_is_the_evidence():
    module = {"power_module_w": 652.0, "power_limit_module_w": 660.0, "power_gpu_w": 585.0, "power_limit_gpu_w": 650.0}
    found, _ = judged([(10, E1 | module)], THROTTLE)
    evidence = {e.unit: e for e in found["POWER_CAPPED"].evidence if e.name.startswith("module")}
    assert evidence["frac"].value == pytest.approx(0.987879, abs=1e-5)
    assert evidence["W"].value == pytest.approx(660)


def test_link_counters_that_cannot_be_read_do_not_matter_without_communication():
    _, not_judged = judged(FIRES["MEMORY_MIX"], LINKS)
    assert not_judged == {}


def test_one_busy_link_decides_although_another_cannot_be_read():
    found, not_judged = judged(FIRES["COMM_EXPOSED"], ["pcie_rx_bytes_s"])
    assert not_judged == {}
    assert found["COMM_EXPOSED"].points_pct == pytest.approx(6, abs=0.1)


def test_a_run_at_the_dram_roof_is_information_and_not_a_fault():
    found, _ = judged(FIRES["MEMORY_BOUND"])
    assert found["MEMORY_BOUND"].severity == "info"


@pytest.mark.parametrize(("idle_share", "severity"), [(0.09, "medium"), (0.14, "medium"), (0.2, "high"), (0.5, "high")])
def test_severity_follows_the_points(idle_share, severity):
    found, _ = judged([(1 - idle_share, FULL), (idle_share, IDLE)] * 10)
    assert found["HOST_STALL"].severity == severity
    assert found["HOST_STALL"].points_pct == pytest.approx(100 * idle_share, abs=1e-3)


def test_the_largest_finding_comes_first():
    parts = [(0.7, MIX), (0.2, IDLE), (0.1, COMM)] * 10
    found, _ = evaluate(RULES, facts(parts))
    assert len(found) == 3
    assert [f.points_pct for f in found] == sorted((f.points_pct for f in found), reverse=True)


def test_waiting_gpus_do_not_make_the_job_bursty():
    """Differences between GPUs are no bursts: one GPU is always busy, the other never."""
    sums = [score(series([(10, FULL)])), score(series([(10, IDLE)]))]
    assert facts_of(sums, "train").gamma in (None, 0.0)


# --- one loss, one finding


def rule(name: str, *claims: str, informational: bool = False) -> Rule:
    judgement = Judgement(
        claims=claims,
        evidence=(EvidenceItem(key="x", name="x", value=1, unit="1", threshold=None),),
        informational=informational,
    )
    texts = dict.fromkeys(("title", "action", "hint", "next_command", "false_positives"), name)
    return Rule(id=name, needs={}, judge=lambda _: judgement, **texts)


def test_a_part_that_two_rules_claim_is_counted_once():
    """The rule with more points takes the shared part; the other keeps the rest, or goes."""
    known = facts([(0.7, MIX), (0.2, IDLE), (0.1, COMM)] * 10)
    stall = known.loss_points["idle_long"]
    small, big, none = rule("small", "idle_long"), rule("big", "idle_long", "comm"), rule("none", "clock_hw")
    found, _ = evaluate([small, big, none], known)
    assert [(f.id, f.points_pct) for f in found] == [("big", stall + known.loss_points["comm"])]
    found, _ = evaluate(
        [rule("rest", "idle_long", "issue_other"), rule("most", "issue_other", "idle_long", "comm")], known
    )
    assert [f.id for f in found] == ["most"]


def test_information_is_kept_with_no_points():
    found, _ = evaluate([rule("info", "clock_hw", informational=True)], facts([(5, FULL)]))
    assert [(f.id, f.points_pct, f.severity) for f in found] == [("info", 0.0, "info")]


kinds = st.sampled_from([*FIRES.values()]).map(lambda parts: parts[0][1])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.1, 0.3, 1.0, 2.5]), kinds | st.just(IDLE) | st.just(COMM)), min_size=1))
def test_points_of_all_findings_never_exceed_what_was_lost(parts):
    sums = score(series(parts))
    found, _ = evaluate(RULES, facts_of([sums], "train"))
    assert sum(f.points_pct for f in found) <= 100 - (profile_points(sums, "train") or 0) + 1e-9
    assert all(f.points_pct >= 0 for f in found)


def test_the_summary_carries_findings_and_what_was_not_judged():
    summary = measured(FIRES["COMM_WAIT"], unknown=LINKS).summary()
    assert {item.id for item in summary.not_judged} == {"COMM_EXPOSED", "COMM_WAIT", "GPU_SHARED"}
    summary = measured(FIRES["HOST_GAPS"]).summary()
    finding = summary.findings[0]
    assert finding.id == "HOST_GAPS"
    assert re.search(r"CUDA Graphs", finding.hint)
    assert {e.name: e.threshold for e in finding.evidence}["burstiness gamma"] == 0.5
