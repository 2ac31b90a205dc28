"""docs/findings.md is made from the rules: their thresholds and texts stand nowhere else.

``SATSCORE_REGENERATE_GOLDEN=1 pytest tests/unit/test_findings_document.py`` rewrites it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from satscore.core.live_rules import FACTS_SPAN_S, FEWEST_WINDOWS, QUORUM_FRAC, WINDOWS
from satscore.core.rules import HIGH_POINTS, LOW_POINTS, MEDIUM_POINTS, TIE_POINTS
from satscore.core.rules_all import RULES
from satscore.core.rules_model import NEAR_SLACK, Advice, Condition, Rule, Way
from satscore.counters.sim.scenarios import SCENARIOS

DOCUMENT = Path(__file__).parents[2] / "docs" / "findings.md"
EXAMPLES: dict[str, tuple[str, int]] = {
    "HOST_STALL": ("llm-stall", 60),
    "HOST_GAPS": ("launch-bound", 60),
    "SMALL_GRID": ("small-grid", 60),
    "MEMORY_BOUND": ("copy", 60),
    "MEMORY_MIX": ("llm", 60),
    "TENSOR_UNUSED": ("fp32", 60),
    "LOW_TENSOR_EFF": ("decode", 60),
    "LATENCY_BOUND": ("latency-bound", 60),
    "COMM_EXPOSED": ("llm-comm", 60),
    "NVLINK_UNUSED": ("pcie-comm", 60),
    "COMM_WAIT": ("spin", 60),
    "IMBALANCE": ("uneven", 180),
    "STRAGGLER": ("slow-gpu", 180),
    "OVERLOADED_RANK": ("overloaded-rank", 180),
    "GPU_IDLE_RANK": ("idle-rank", 60),
    "POWER_CAPPED": ("gemm-500w", 60),
    "MODULE_POWER": ("gh200-cpu", 60),
    "THERMAL": ("gemm-hot", 60),
    "HW_SLOWDOWN": ("hw-slowdown", 60),
    "CLOCK_LOCKED": ("clock-locked", 60),
    "PERIODIC_DIPS": ("checkpoints", 900),
    "REGIME_CHANGE": ("regime-change", 420),
    "CALIBRATION_STALE": ("gemm-zeros", 60),
}
"""Scenario of the simulator that shows the finding, and for how many seconds it must run."""
SCOPES = {
    "gpu": "each GPU by itself; it names those GPUs, unless it is all of them",
    "job": "the means over the GPUs that worked; in a job of several GPUs, idle and coverage of the busiest rank",
    "run": "the run as a whole",
}
ABOUT = (
    "What satscore can find, from which numbers, and when not to believe it. Made from the rules themselves "
    "(`satscore/core/rules_*.py`); parts of the loss tree, burstiness, stragglers and phases are explained in "
    "[method.md](method.md)."
)
ABOUT_FACTS = (
    "- **Facts** are those of the steady phase where there is one, else of the whole run. GPUs that never worked are "
    "not judged, but by GPU_IDLE_RANK."
)
ABOUT_POINTS = (
    "- **Points at stake** are points of the score: what a part of the loss tree holds. Mending it "
    "wins less: the time won is used as well, or as badly, as the rest. "
    "A part belongs to one finding only: a more precise rule goes first (*yields to*), then the one with more points. "
    f"{HIGH_POINTS:g} points or more are *high*, {MEDIUM_POINTS:g} *medium*, {LOW_POINTS:g} *low*; less is not shown, "
    f"unless it is *info* or about single GPUs. If the two largest differ by no more than {TIE_POINTS:g} points or the "
    "confidence interval, each names the other: either may be the larger one."
)
ABOUT_MISSING = (
    "- **Not judged: missing X** is said where what is not known could decide. A condition that is known to fail "
    "decides without it."
)
ABOUT_LIVE = (
    f"- **Live**, each window is judged by the last {FACTS_SPAN_S} s. A finding enters when its conditions held in "
    f"{100 * QUORUM_FRAC:g} % of the last {WINDOWS} windows ({FEWEST_WINDOWS} at least), and leaves after {WINDOWS} "
    f"windows in a row in which it would not have held with every threshold relaxed by {100 * NEAR_SLACK:g} %. "
    "Findings about ranks and phases hold by themselves."
)
ABOUT_EXAMPLES = "- **Examples** run on the simulated GPU, anywhere, with nothing installed but satscore."
INTRO = (
    *("# Findings", "", ABOUT, ""),
    *(ABOUT_FACTS, ABOUT_POINTS, ABOUT_MISSING, ABOUT_LIVE, ABOUT_EXAMPLES, ""),
)


def compare(text: str) -> None:
    if os.environ.get("SATSCORE_REGENERATE_GOLDEN"):
        DOCUMENT.write_text(text, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == text, "docs/findings.md is stale: see the top of this test"


def amount(condition: Condition) -> str:
    unit, threshold = condition.measure.unit, condition.threshold
    if unit == "frac":
        return f"{100 * threshold:g} %"
    if unit == "points":
        return "1 point" if threshold == 1 else f"{threshold:g} points"
    return f"{threshold:g}" if unit in ("1", "count") else f"{threshold:g} {unit}"


def way_text(way: Way) -> str:
    return "; ".join(f"{c.measure.name.rstrip(':')} {c.op} {amount(c)}" for c in way)


def stake(rule: Rule) -> str:
    if rule.cost is not None:
        return rule.cost.name
    if callable(rule.claims):
        return (rule.claims.__doc__ or "").strip().rstrip(".")
    return ", ".join(f"`{part}`" for part in rule.claims) or "none"


def advice_lines(advice: Advice, case: str = "") -> Iterator[str]:
    yield f"- **do{case}**: {advice.action}. {advice.hint}"
    yield f"- **next{case}**: `{advice.next_command}`"


def section(rule: Rule) -> Iterator[str]:
    yield f"## {rule.id}"
    yield ""
    yield f"*{rule.title}.* {rule.meaning}"
    yield ""
    yield f"- **condition**: {way_text(rule.conditions)}"
    for way in rule.alternatives:
        yield f"- **or**: {way_text(way)}"
    yield f"- **needs**: {', '.join(rule.needs)}"
    yield f"- **judged on**: {SCOPES[rule.scope]}"
    yield f"- **points at stake**: {stake(rule)}{' (for information: nothing is lost)' if rule.informational else ''}"
    if rule.yields_to:
        yield f"- **yields to**: {', '.join(rule.yields_to)}"
    names = dict.fromkeys(measure.name.rstrip(":") for measure in rule.evidence)
    yield f"- **evidence**: {'; '.join(names)}"
    yield from advice_lines(rule.advice)
    for variant, advice in rule.variants.items():
        yield from advice_lines(advice, f" ({variant})")
    yield f"- **not to be believed**: {rule.false_positives}"
    if rule.id in EXAMPLES:
        scenario, seconds = EXAMPLES[rule.id]
        yield f"- **example**: `satscore --source sim:{scenario} -- sleep {seconds}`"
    yield ""


def document() -> str:
    index = ["| finding | in short |", "|---|---|", *(f"| [{r.id}](#{r.id.lower()}) | {r.title} |" for r in RULES), ""]
    lines = [line for rule in RULES for line in section(rule)]
    return "\n".join([*INTRO, *index, *lines]).rstrip("\n") + "\n"


def test_the_document_is_what_the_rules_say():
    compare(document())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_section_holds_every_threshold_and_need(rule):
    text = "\n".join(section(rule))
    for way in rule.ways:
        assert way_text(way) in text
        assert all(amount(condition) in text for condition in way)
    assert all(need in text for need in rule.needs)
    assert "None" not in stake(rule)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_names_a_scenario_that_exists(name):
    assert name in {rule.id for rule in RULES}
    assert EXAMPLES[name][0] in SCENARIOS
