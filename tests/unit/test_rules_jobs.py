"""What is found in whole simulated jobs, through phases, job tree and comparison of ranks: exactly this."""

import pytest

from tests.unit.runs import simulated

EXPECTED: dict[str, tuple[float, dict[str, float]]] = {
    "healthy": (180, {}),
    "uneven": (180, {"IMBALANCE": 12}),
    "slow-gpu": (180, {"STRAGGLER": 15, "CLOCK_LOCKED": 4}),
    "contended-gpu": (180, {"STRAGGLER": 12}),
    "capped-gpu": (180, {"STRAGGLER": 10, "POWER_CAPPED": 2.6}),
    "hw-slowdown": (180, {"STRAGGLER": 26, "HW_SLOWDOWN": 6}),
    "overloaded-rank": (180, {"OVERLOADED_RANK": 15}),
    "stalled-rank": (180, {"HOST_STALL": 19}),
    "gh200x4": (180, {"STRAGGLER": 11, "CLOCK_LOCKED": 4, "MODULE_POWER": 3.4}),
}
"""Seconds, and findings with their points; MEMORY_MIX and COMM_EXPOSED, which all of these loads have, apart."""
LONG: dict[str, tuple[float, dict[str, float]]] = {
    "uneven-slow": (600, {"IMBALANCE": 13}),
    "checkpoints": (900, {"PERIODIC_DIPS": 3.5}),
    "regime-change": (420, {"REGIME_CHANGE": 0}),
}
NAMES_THE_ODD_ONE = {"STRAGGLER", "CLOCK_LOCKED", "POWER_CAPPED", "HW_SLOWDOWN", "OVERLOADED_RANK", "HOST_STALL"}
OF_THE_LOAD = {"MEMORY_MIX", "COMM_EXPOSED"}


def check(scenario: str, seconds: float, expected: dict[str, float]) -> None:
    summary = simulated(f"sim:{scenario}", seconds).summary()
    found = {f.id: f for f in summary.findings if f.id not in OF_THE_LOAD}
    assert {name: round(f.points_pct, 1) for name, f in found.items()} == pytest.approx(expected, abs=1.0)
    assert summary.not_judged == []
    for name in NAMES_THE_ODD_ONE & found.keys():
        assert [gpu.gpu_index for gpu in found[name].ranks] == [0], f"{name}: the odd one is number 0 with this seed"


@pytest.mark.parametrize("scenario", EXPECTED)
def test_exactly_this_is_found(scenario):
    check(scenario, *EXPECTED[scenario])


@pytest.mark.slow
@pytest.mark.parametrize("scenario", LONG)
def test_exactly_this_is_found_in_a_long_run(scenario):
    check(scenario, *LONG[scenario])


def test_an_idle_gpu_is_no_imbalance():
    summary = simulated("sim:idle-rank", 60.0).summary()
    found = {f.id: f for f in summary.findings if f.id not in OF_THE_LOAD}
    assert found.keys() == {"GPU_IDLE_RANK"}
    assert found["GPU_IDLE_RANK"].points_pct == pytest.approx(21.6, abs=1)
    assert [gpu.gpu_index for gpu in found["GPU_IDLE_RANK"].ranks] == [0]
