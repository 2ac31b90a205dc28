"""What the rules find in simulated runs, read every 0.2 s: exactly this, with these points, and nothing else.

The points follow from the simulator's own figures (docs/method.md, "The simulated GPU"); a scenario that is
not listed under a finding is a near miss of it.
"""

from collections import Counter

import msgspec
import pytest

from satscore.core.job_facts import JobFacts
from satscore.core.live_rules import FACTS_SPAN_S, LiveRules
from satscore.core.rules import firings
from satscore.core.rules_all import RULES
from satscore.core.summary import FindingItem
from tests.unit.rule_facts import facts_from, judged, named, simulated_facts
from tests.unit.runs import rows, simulated

EXPECTED: dict[str, dict[str, float]] = {
    "gemm": {"POWER_CAPPED": 4},
    "gemm-500w": {"POWER_CAPPED": 16},
    "gemm-500w-vboost": {"POWER_CAPPED": 16},
    "gemm-zeros": {"CALIBRATION_STALE": 0},
    "gemm-hot": {"THERMAL": 5.5, "POWER_CAPPED": 3},
    "clock-locked": {"CLOCK_LOCKED": 29},
    "copy": {"MEMORY_BOUND": 0},
    "duty-50": {"HOST_GAPS": 52},
    "launch-bound": {"HOST_GAPS": 94},
    "spin": {"COMM_WAIT": 99},
    "fp32": {"TENSOR_UNUSED": 84},
    "decode": {"LOW_TENSOR_EFF": 44},
    "latency-bound": {"LATENCY_BOUND": 69.5},
    "small-grid": {"SMALL_GRID": 45},
    "llm": {"MEMORY_MIX": 27, "COMM_EXPOSED": 6},
    "llm-stall": {"HOST_STALL": 22, "MEMORY_MIX": 17},
    "llm-comm": {"COMM_EXPOSED": 25, "MEMORY_MIX": 19},
    "llm-500w": {"MEMORY_MIX": 26, "POWER_CAPPED": 8, "COMM_EXPOSED": 5},
    "gh200-cpu": {"MODULE_POWER": 16.6},
}
ON_ONE_GPU: dict[str, tuple[float, str]] = {
    "hw-slowdown": (60, "HW_SLOWDOWN"),
    "hot-rank": (180, "THERMAL"),
    "capped-gpu": (60, "POWER_CAPPED"),
    "slow-gpu": (60, "CLOCK_LOCKED"),
}
"""Seconds, and what is found on the odd GPU alone, which is rank 0 for the scenario's own seed."""
OF_GPUS = {rule.id for rule in RULES if rule.scope == "gpu"}


def found_in(spec: str, seconds: float) -> dict[str, FindingItem]:
    """Return what is found of the GPUs of a simulated node, without what compares them."""
    known = simulated_facts(f"sim:{spec}", seconds)
    of_job = JobFacts(gpus_count=len(known), local_gpus_count=len(known))
    known = tuple(msgspec.structs.replace(each, job=of_job) for each in known)
    per_gpu = [(named(i), each, 1 / len(known)) for i, each in enumerate(known)]
    return judged(known[0], per_gpu=per_gpu)[0]


@pytest.mark.parametrize("scenario", EXPECTED)
def test_exactly_this_is_found(scenario):
    found = found_in(scenario, 60.0)
    assert found.keys() == EXPECTED[scenario].keys()
    for name, points in EXPECTED[scenario].items():
        assert found[name].points_pct == pytest.approx(points, abs=1.0), name


@pytest.mark.parametrize("scenario", ON_ONE_GPU)
def test_one_gpu_of_four_is_named(scenario):
    seconds, name = ON_ONE_GPU[scenario]
    found = found_in(scenario, seconds)
    assert found.keys() & OF_GPUS == {name}
    assert found[name].ranks == [named(0)]


def test_healthy_gpus_are_not_named():
    assert not found_in("healthy", 60.0).keys() & OF_GPUS


def test_collectives_over_pcie_are_found():
    found = found_in("pcie-comm", 60.0)
    assert found.keys() == {"NVLINK_UNUSED", "MEMORY_MIX"}
    assert found["NVLINK_UNUSED"].points_pct == pytest.approx(22.6, abs=1)


def test_one_window_is_too_short_to_judge_steps_by():
    """A step of 3 s with a stall of 0.9 s: seconds with the stall and without alternate, and neither is the run."""

    def seen(span_s: int) -> tuple[Counter[str], frozenset[str]]:
        table = simulated("sim:llm-stall", 90.0).table
        live, counted, held = LiveRules(), Counter[str](), frozenset[str]()
        for second in range(span_s, 91):
            last = (table.end_ns <= second * 10**9) & (table.end_ns > (second - span_s) * 10**9)
            now = firings(RULES, facts_from(rows(table, last)))
            counted.update(name for name, firing in now.items() if firing.fires)
            held = live.add(now)
        return counted, held

    counted, held = seen(1)
    assert 20 < counted["HOST_STALL"] < 60
    assert "HOST_STALL" not in held
    counted, held = seen(FACTS_SPAN_S)
    assert held == {"HOST_STALL", "MEMORY_MIX"}
