"""The worked examples of the scoring reference, to 1e-3 points (section 14)."""

from collections.abc import Mapping

import numpy as np
import pytest

from satscore.core import windows as windows_module
from satscore.core.facts import comm_share_estimate, facts_of, tensor_flops_s
from satscore.core.intervals import COMM_SMS_FRAC
from satscore.core.losses import split_clock
from satscore.core.scorer import GpuScorer
from satscore.core.sums import Sums
from tests.unit.scenes import E1, E2, H200, IDLE, score, series

TOLERANCE = 1e-3
GROUPS = {
    "idle": ("idle_long", "idle_short"),
    "coverage": ("comm", "wait", "comm_or_wait", "grid"),
    "issue": ("issue_other", "issue_stall"),
    "clock": ("clock_",),
}


def pct(sums: Sums, name: str, *, profile: str = "train", time: str | None = None) -> float:
    return 100 * sums.total(name) / sums.total(time or f"complete_us:{profile}") / 1e6


def loss(sums: Sums, part: str, *, tree: str = "loss", profile: str = "train") -> float:
    names = GROUPS.get(part, (part,))
    total = sum(v for k, v in sums.totals.items() if k.startswith(tuple(f"{tree}:{n}" for n in names)) and "|" not in k)
    if "|" in part:
        total = sums.total(f"{tree}:{part}")
    return 100 * total / sums.total(f"complete_us:{profile}") / 1e6


def close(value: float) -> object:
    return pytest.approx(value, abs=TOLERANCE)


CASES: dict[str, tuple[list[tuple[float, Mapping[str, float]]], dict[str, float], dict[str, float]]] = {
    "E1 GEMM": (
        [(10, E1)],
        {"S": 79.6216, "S_hi": 82.4735, "T": 79.6216, "S_att": 99.9016},
        {"idle": 0, "coverage": 3.0, "issue_other": 2.8519, "issue_stall": 10.6481, "clock": 3.8784},
    ),
    "E1z zeros": (
        [(10, E1 | {"f": 1980})],
        {"S": 90.3443, "S_hi": 90.3443, "S_att": 100.0},
        {"idle": 0, "coverage": 3.0, "issue_other": 0, "issue_stall": 6.6557, "clock": 0},
    ),
    "E2 copy": (
        [(5, E2)],
        {"S": 89.628, "S_hi": 89.628, "T": 0, "S_att": 100.0},
        {"idle": 0, "coverage": 2.0, "issue_other": 0, "issue_stall": 8.372, "clock": 0},
    ),
    "E3f on/off read at 0.1 s": (
        [(0.1, E1), (0.1, IDLE)] * 50,
        {"S": 39.8108, "S_hi": 43.1513},
        {"idle": 50, "coverage": 1.5, "issue_other": 3.3405, "issue_stall": 3.4095, "clock": 1.9392},
    ),
    "E3c the same read at 1 s": (
        [(10, {"g": 0.5, "sm": 0.4544026846, "T": 0.3911610738, "d": 0.125, "f": 1862.5})],
        {"S": 39.8108, "S_hi": 43.1513},
        {"idle": 50, "coverage": 4.5597, "issue_other": 3.3405, "issue_stall": 2.289, "clock": 0},
    ),
    "E4 mixed window": (
        [(0.6, E1), (0.3, E2), (0.1, IDLE)],
        {"S": 47.773, "S_hi": 78.2025},
        {"idle": 10, "coverage": 2.4, "issue_other": 30.4296, "issue_stall": 7.0704, "clock": 2.327},
    ),
    "E5 FP32 GEMM": (
        [(3, {"g": 1, "sm": 0.99, "T": 0, "F32": 0.90, "d": 0.15, "f": 1755})],
        {"S": 15.3648, "S_hi": 15.3648, "T": 0},
        {"idle": 0, "coverage": 1, "issue_other": 0, "issue_stall": 83.6352, "clock": 0},
    ),
    "E6 NCCL spin": (
        [(3, {"g": 1, "sm": 0.1212121212, "T": 0, "F32": 0.004, "d": 0.01, "f": 1980})],
        {"S": 1.0243},
        {"idle": 0, "coverage": 98.9757, "wait": 98.9757, "issue_other": 0, "issue_stall": 0, "clock": 0},
    ),
    "E8 MoE decode": (
        [(3, {"g": 1, "sm": 0.891, "T": 0.17, "d": 0.262, "f": 1980})],
        {"S": 26.8372, "S_hi": 45.2306, "T": 18.3934},
        {"idle": 0, "coverage": 10.9, "issue_other": 18.3934, "issue_stall": 43.8694, "clock": 0},
    ),
    "E9 eager decode": (
        [(3, {"g": 0.55, "sm": 0.036, "T": 0.003, "d": 0.018, "f": 1980})],
        {"S": 1.8438, "S_hi": 2.1684},
        {"idle": 45, "coverage": 51.4, "issue_other": 0.3246, "issue_stall": 1.4316, "clock": 0},
    ),
    "E11 copy engine": (
        [(1, {"g": 0, "sm": 0, "T": 0, "d": 0.5, "f": 1980})],
        {"S": 51.216},
        {"idle": 48.784, "coverage": 0, "issue_other": 0, "issue_stall": 0, "clock": 0},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_interval_case(name):
    intervals, scores, parts = CASES[name]
    sums = score(series(intervals))
    named = {
        "S": pct(sums, "sat:train"),
        "S_hi": pct(sums, "sat_hi:train"),
        "T": pct(sums, "sat:tensor", profile="tensor"),
        "S_att": pct(sums, "attainable"),
    }
    for key, value in scores.items():
        assert named[key] == close(value), key
    for key, value in parts.items():
        assert loss(sums, key) == close(value), key


def test_e1_attainable_tree_loses_only_clock():
    sums = score(series([(10, E1)]))
    for part, value in {"idle": 0, "coverage": 0, "issue": 0, "clock": 0.0984}.items():
        assert loss(sums, part, tree="loss_attainable") == close(value)


def test_e4_in_short_windows(monkeypatch):
    scorer = GpuScorer(H200, "train")
    scorer._grid = windows_module.WindowGrid(scorer._grid._n, window_ns=100_000_000)
    scorer.add(series([(0.6, E1), (0.3, E2), (0.1, IDLE)]))
    sums = scorer.finish()
    assert pct(sums, "sat:train") == close(74.6614)
    assert pct(sums, "sat_hi:train") == close(76.3725)
    assert pct(sums, "by:tensor") == close(47.773)
    assert pct(sums, "by:dram") == close(26.8884)
    expected = {"idle": 10, "coverage": 2.4, "issue_other": 1.7111, "issue_stall": 8.9005, "clock": 2.327}
    for part, value in expected.items():
        assert loss(sums, part) == close(value), part


def test_e5_under_the_hpc_profile():
    sums = score(series(CASES["E5 FP32 GEMM"][0]), profile="hpc")
    assert pct(sums, "sat:hpc", profile="hpc") == close(79.7727)
    for part, value in {"idle": 0, "coverage": 1, "issue": 9.0, "clock": 10.2273}.items():
        assert loss(sums, part, profile="hpc") == close(value)


def test_e6_estimator_says_all_of_it_could_be_communication():
    assert comm_share_estimate(1.0, 0.1212121212) == pytest.approx(1.0, abs=1e-6)


def test_e7a_sm_unknown_merges_coverage_and_issue():
    sums = score(series([(10, E1)], unknown=["sm"]))
    assert pct(sums, "sat:train") == close(79.6216)
    assert pct(sums, "sat_hi:train") == close(82.4735)
    assert loss(sums, "coverage|issue") == close(16.5)
    assert loss(sums, "idle") == close(0)
    assert loss(sums, "clock") == close(3.8784)


def test_e7b_engine_and_sm_unknown_merge_three_parts():
    sums = score(series([(10, E1)], unknown=["sm", "g"]))
    assert pct(sums, "sat:train") == close(79.6216)
    assert loss(sums, "idle|coverage|issue") == close(16.5)
    assert loss(sums, "clock") == close(3.8784)


def test_e7c_tensor_unknown_gives_bounds_and_no_score():
    sums = score(series([(10, E1)], unknown=["T"]))
    assert sums.total("complete_us:train") == 0
    assert sums.total("lo:train") / sums.total("time_us") / 1e6 == pytest.approx(0.25608, abs=1e-5)
    assert sums.total("hi:train") / sums.total("time_us") / 1e6 == pytest.approx(0.924945, abs=1e-5)


def test_e16_gamma_and_communication_estimate():
    on_off = score(series([(0.2, {**E1, "g": g}) for g in [1] * 5 + [0] * 5]))
    even = score(series([(0.2, {**E1, "g": 0.5})] * 10))
    assert facts_of([on_off], "train").gamma == pytest.approx(1.0, abs=1e-6)
    assert facts_of([even], "train").gamma == pytest.approx(0.0, abs=1e-6)
    assert comm_share_estimate(1.0, 0.8) == pytest.approx(0.227586, abs=1e-6)
    assert COMM_SMS_FRAC == 16 / 132


def test_e17_state_is_exact_integers():
    a = Sums(totals={"sat:train": 400_000_000_000 + 500_000_000_000 + 600_000_000_000, "complete_us:train": 3_000_000})
    b = Sums(totals={"sat:train": 2 * 800_000_000_000, "complete_us:train": 2_000_000})
    assert (a.total("sat:train"), b.total("sat:train")) == (1_500_000_000_000, 1_600_000_000_000)
    assert pct(a.merge(b), "sat:train") == pytest.approx(62.0, abs=1e-12)
    assert a.merge(b) == b.merge(a)


def test_e18_clock_by_reason():
    def split(*tau: float) -> list[float]:
        return [round(v, 4) for v in split_clock(np.array([10.0]), np.array([tau]))[0]]

    assert split(0.6, 0.1) == [6.0, 1.0, 3.0]
    assert split(0.8, 0.4) == [6.6667, 3.3333, 0.0]


def test_e20_flops_of_a_tensor_fraction():
    peak = {"bf16": 989.43e12, "tf32": 494.71e12, "fp8": 1978.86e12}
    for dtype, tflops in {"bf16": 787.8, "tf32": 393.9, "fp8": 1575.6}.items():
        assert tensor_flops_s(0.796216, peak[dtype]) / 1e12 == pytest.approx(tflops, abs=0.1)
