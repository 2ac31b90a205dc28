"""Power on a module of CPU and GPU: which cap binds, what is said of it, and what to do about it."""

import msgspec
import pytest

from satscore.core.facts import Facts
from satscore.core.power_caps import power_caps
from satscore.core.rules_power import POWER_RULES
from satscore.core.summary import FindingItem, Summary
from satscore.views.text import render
from tests.unit.rule_cases import CAPPED, MODULE, THROTTLE
from tests.unit.rule_facts import facts, judged, simulated_facts
from tests.unit.runs import measured, simulated
from tests.unit.scenes import E1
from tests.unit.test_module_cap import GPU

ALPS = "#SBATCH --constraint=nvidia_vboost_enabled"
RULES = {rule.id: rule for rule in POWER_RULES}


def found(known: Facts) -> dict[str, FindingItem]:
    return judged(known)[0]


# --- which cap binds


def test_e19_a_module_at_its_limit_with_the_gpu_below_its_own():
    """The worked example of the method: 585 of 650 W, 652 of 660 W."""
    caps = power_caps(power_gpu_w=585, power_limit_gpu_w=650, power_module_w=652, power_limit_module_w=660)
    assert caps is not None
    assert caps.power_gpu_frac == pytest.approx(0.9)
    assert caps.power_module_frac == pytest.approx(0.987879, abs=1e-6)
    assert (caps.headroom_w, caps.state) == (8, "module-limited")


@pytest.mark.parametrize(
    ("gpu_w", "module_w", "state", "headroom_w"),
    [
        (627.25, 640, "gpu-limited", 20),  # exactly 96.5 % of 650 W
        (627.0, 640, "module-limited", 20),
        (640, 655, "gpu-limited", 5),  # both: its own cap is enough to hold it down
        (585, 636.8, None, 23.2),
        (585, 636.9, "module-limited", 23.1),
        (660, 700, "gpu-limited", -40),
    ],
)
def test_the_gpus_own_cap_is_asked_first(gpu_w: float, module_w: float, state: str | None, headroom_w: float):
    caps = power_caps(power_gpu_w=gpu_w, power_limit_gpu_w=650, power_module_w=module_w, power_limit_module_w=660)
    assert caps is not None
    assert caps.state == state
    assert caps.headroom_w == pytest.approx(headroom_w)


@pytest.mark.parametrize("unknown", ["power_gpu_w", "power_limit_gpu_w", "power_module_w", "power_limit_module_w"])
def test_a_scope_that_is_unknown_is_not_the_other(unknown: str):
    known: dict[str, float | None] = {
        "power_gpu_w": 585,
        "power_limit_gpu_w": 650,
        "power_module_w": 652,
        "power_limit_module_w": 660,
    }
    assert power_caps(**(known | {unknown: None})) is None
    if "limit" in unknown:
        assert power_caps(**(known | {unknown: 0.0})) is None


# --- the block at exit


def block(gpu_w: float, module_w: float, cap_w: float | None = 660.0) -> list[str]:
    """Return the lines of a GH200 whose GPU is limited to 900 W and whose module to 1000 W or the stated cap."""
    gpu = msgspec.structs.replace(GPU, module_cap_w=cap_w, module_cap_source="site" if cap_w else None)
    power = {"power_gpu_w": gpu_w, "power_limit_gpu_w": 900.0, "power_module_w": module_w}
    reads = E1 | power | {"power_limit_module_w": 1000.0, "mem_clock_mhz": 2619.0}
    return render(measured([(10.0, reads)], gpus=[gpu]).summary()).splitlines()


def test_power_stands_against_the_cap_that_binds():
    lines = block(558, 652)
    assert "signals    power 99 % of module cap 660 W (module-limited: GPU 62 % of its own, headroom 8 W)" in lines
    assert max(map(len, lines)) <= 100
    lines = block(880, 900, cap_w=None)
    assert "signals    power 98 % of GPU cap 900 W (gpu-limited: module 90 % of its own, headroom 20 W)" in lines


def test_where_no_cap_binds_little_is_said():
    assert any("power 85 % of module cap" in line and "headroom" not in line for line in block(480, 560))


def test_of_both_at_their_limits_the_nearer_one_is_shown_with_its_own_watts():
    lines = block(880, 995, cap_w=None)
    text = "power 100 % of module cap 1000 W (gpu-limited: GPU 98 % of its own, headroom 5 W)"
    assert any(text in line for line in lines)


# --- a module at its limit


def test_busy_cpus_are_told_to_calm_down_or_to_be_capped():
    finding = found(facts(((10, MODULE),)))["MODULE_POWER"]
    assert "CPU" in finding.action
    assert "srun --power-cap=" in finding.hint
    assert "50 to 300" in finding.hint
    assert "OMP_WAIT_POLICY=passive" in finding.hint
    assert "Alps" in finding.hint
    assert ALPS not in finding.next_command
    assert {"power_frac_gpu", "power_frac_module"} <= {item.key for item in finding.evidence}


@pytest.mark.parametrize(("level", "advised"), [(0, True), (1, False), (None, False)])
def test_vboost_is_advised_there_too_where_it_is_off(level: int | None, advised: bool):
    """On a module with a low cap the GPU is hardly ever at its own limit: POWER_CAPPED has no say there."""
    finding = found(facts(((10, MODULE),), vboost_level=level))["MODULE_POWER"]
    assert (finding.next_command == ALPS) == advised
    assert "srun --power-cap=" in finding.hint


# --- a GPU at its own limit


@pytest.mark.parametrize(
    ("level", "reads", "command"),
    [
        (0, MODULE | {"power_gpu_w": 640.0}, ALPS),
        (0, CAPPED, "nvidia-smi boost-slider -l"),  # a GPU without a module is no GH200
        (1, MODULE | {"power_gpu_w": 640.0}, "nvidia-smi -q -d POWER,PERFORMANCE,CLOCK"),
        (None, MODULE | {"power_gpu_w": 640.0}, "nvidia-smi -q -d POWER,PERFORMANCE,CLOCK"),
    ],
)
def test_the_constraint_of_alps_is_advised_on_a_module_whose_vboost_is_off(
    level: int | None, reads: dict[str, float], command: str
):
    finding = found(facts(((10, reads),), vboost_level=level))["POWER_CAPPED"]
    assert finding.next_command == command


def test_vboost_is_not_advised_where_tensor_work_does_not_lead():
    reads = MODULE | {"power_gpu_w": 640.0, "T": 0.3, "d": 0.8}
    known = msgspec.structs.replace(facts(((10, reads),), vboost_level=0), score_by={"tensor": 10.0, "dram": 60.0})
    assert RULES["POWER_CAPPED"].advice_for(known) is RULES["POWER_CAPPED"].advice


# --- a cap lower than the driver reports

FAR = MODULE | {"power_gpu_w": 500.0, "power_limit_gpu_w": 900.0, "power_limit_module_w": 1000.0}
"""A module that a site caps at 660 W without telling the driver."""


def test_a_cap_that_nobody_reports_is_said_to_be_one():
    finding = found(facts(((10, FAR),), vboost_level=0))["POWER_CAPPED"]
    assert "none reported binds" in finding.action
    assert "a cap lower than the driver reports" in finding.hint
    assert "SATSCORE_MODULE_CAP_W" in finding.hint


@pytest.mark.parametrize(
    "known",
    [
        facts(((10, FAR | {"power_module_w": 855.0}),)),  # near a limit: that is the one
        facts(((95, FAR | {"power_module_w": 600.0}), (5, FAR | {"power_module_w": 970.0}))),  # at it now and then
        facts(((10, FAR),), ("power_gpu_w", "energy_gpu_j")),  # the GPU's own may bind
        facts(((10, FAR),), ("power_limit_gpu_w",)),
        facts(((10, FAR),), ("power_module_w", "energy_module_j")),  # the module's may
        facts(((10, CAPPED),)),  # no power at all is known
    ],
)
def test_it_is_said_only_where_power_is_far_from_every_limit(known: Facts):
    finding = found(known)["POWER_CAPPED"]
    assert "none reported binds" not in finding.action


def test_without_the_drivers_own_count_nothing_speaks_for_a_hidden_cap():
    assert "POWER_CAPPED" not in found(facts(((10, FAR),), THROTTLE))
    assert RULES["POWER_CAPPED"].variant(facts(((10, FAR),), THROTTLE)) != "unreported"


# --- simulated modules


def simulated_finding(spec: str, name: str) -> FindingItem:
    [gpu] = simulated(spec, 60.0).header.gpus
    [known] = simulated_facts(spec, 60.0)
    return found(msgspec.structs.replace(known, vboost_level=gpu.vboost_level))[name]


def test_a_simulated_cpu_that_takes_the_modules_power():
    assert simulated_finding("sim:gh200-cpu", "MODULE_POWER").next_command == ALPS
    boosted = simulated_finding("sim:gh200-cpu,vboost=1", "MODULE_POWER")
    assert boosted.next_command.startswith("top -H")


def test_a_simulated_gpu_at_its_own_cap_beside_a_calm_cpu():
    assert simulated_finding("sim:gh200-cpu,cpu_w=5", "POWER_CAPPED").next_command == ALPS


def test_the_whole_way_to_the_block():
    def text(spec: str) -> tuple[Summary, str]:
        summary = simulated(spec, 60.0).summary()
        return summary, render(summary)

    summary, shown = text("sim:gh200-cpu")
    assert f"next: {ALPS}" in shown
    assert "module-limited" in shown
    assert [f.id for f in summary.findings] == ["MODULE_POWER"]
    _, shown = text("sim:gemm-500w")
    assert "next: nvidia-smi boost-slider -l" in shown
    _, shown = text("sim:gemm-500w-vboost")
    assert "boost-slider" not in shown


# --- evidence of the CPU, and heat by temperature


def test_the_cpus_power_is_evidence_where_it_is_known():
    known = facts(((10, MODULE | {"power_cpu_w": 62.5}),))
    evidence = {item.key: item for item in found(known)["MODULE_POWER"].evidence}
    assert evidence["power_cpu_w"].value == pytest.approx(62.5)
    assert evidence["power_cpu_w"].unit == "W"
    assert "power_cpu_w" not in {item.key for item in found(facts(((10, MODULE),)))["MODULE_POWER"].evidence}


@pytest.mark.parametrize(("margin_c", "hot"), [(2.9, True), (-1.0, True), (3.0, False), (30.0, False)])
def test_heat_is_found_by_temperature_before_the_driver_counts_it(margin_c: float, hot: bool):
    known = facts(((10, E1 | {"throttle_thermal_frac": 0.0}),), temp_margin_c=margin_c, temp_max_c=86.0)
    findings, not_judged = judged(known)
    assert ("THERMAL" in findings) == hot
    assert "THERMAL" not in not_judged
    if hot:
        evidence = {item.key: item for item in findings["THERMAL"].evidence}
        assert (evidence["temp_margin_c"].value, evidence["temp_margin_c"].threshold) == (margin_c, 3.0)


def test_the_drivers_count_of_heat_is_enough_without_a_temperature():
    cool = facts(((10, E1 | {"throttle_thermal_frac": 0.0}),), temp_margin_c=None)
    findings, not_judged = judged(cool)
    assert "THERMAL" not in findings.keys() | not_judged.keys()
    warm = facts(((10, E1 | {"throttle_thermal_frac": 0.02}),), temp_margin_c=None)
    assert "temp_margin_c" not in {item.key for item in found(warm)["THERMAL"].evidence}
    unknown = judged(facts(((10, E1),), ("throttle_thermal_frac",), temp_margin_c=None))[1]["THERMAL"].missing
    assert unknown == ["throttle time by heat"]
    assert "THERMAL" not in judged(facts(((10, E1),), ("throttle_thermal_frac",), temp_margin_c=None))[0]
