"""What each load must read, from its counted truth: expected value, allowed error, verdict. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from tests.hardware.validation.analysis import Measured, Peaks

Verdict = Literal["pass", "fail", "inconclusive"]
Truth = Mapping[str, float | str]
TILES = ((64, 64), (128, 128), (128, 256), (256, 128))
"""Output tiles of matrix-product kernels: a matrix that is no multiple is computed up to the next one."""
TREE_TOLERANCE_POINTS = 0.01
TIME_TOLERANCE_FRAC = 0.01
COVERAGE_FRAC = 0.95
FLASH_RECOMPUTE = 14 / 12
"""Fused attention computes one of its products again in the backward pass."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison. ``low`` and ``high`` are what passes; None on the open side."""

    name: str
    unit: str
    measured: float | None
    expected: float | None
    allowed_error: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    guard: bool = False
    """A condition of the measurement: where it fails, the load is inconclusive, not wrong."""


def near(name: str, measured: float | None, expected: float | None, allowed: float, unit: str = "points") -> Check:
    """Return a check of |measured - expected| <= allowed."""
    if expected is None:
        return between(name, measured, None, None, unit=unit)
    return between(
        name, measured, expected - allowed, expected + allowed, unit=unit, expected=expected, allowed=allowed
    )


def between(
    name: str,
    measured: float | None,
    low: float | None,
    high: float | None,
    *,
    unit: str = "points",
    expected: float | None = None,
    allowed: float | None = None,
    guard: bool = False,
) -> Check:
    """Return a check of low <= measured <= high; inconclusive where nothing was measured or expected."""
    verdict: Verdict = "inconclusive"
    if measured is not None and (low is not None or high is not None):
        inside = (low is None or measured >= low) and (high is None or measured <= high)
        verdict = "pass" if inside else "fail"
    return Check(
        name=name,
        unit=unit,
        measured=measured,
        expected=expected,
        allowed_error=allowed,
        low=low,
        high=high,
        verdict=verdict,
        guard=guard,
    )


def verdict_of(checks: Sequence[Check]) -> Verdict:
    """Return the verdict of a load: wrong only where the conditions of its measurement held."""
    if any(check.guard and check.verdict != "pass" for check in checks):
        return "inconclusive"
    verdicts = [check.verdict for check in checks]
    if "fail" in verdicts:
        return "fail"
    return "inconclusive" if "inconclusive" in verdicts else "pass"


def checks_of(name: str, truth: Truth, measured: Measured, peaks: Peaks | None) -> list[Check]:
    """Return the checks of a load.

    Args:
        name: The workload, ``CASE:VARIANT``.
        truth: What its child counted.
        measured: What was read.
        peaks: The GPU's peaks; None where its model is unknown: rates then have nothing to be held against.
    """
    case, _, variant = name.partition(":")
    builders: dict[str, Callable[[str, Truth, Measured, Peaks | None], list[Check]]] = {
        "V0": _tensor_checks,
        "V1": _size_checks,
        "V4": _vector_checks,
        "V5": _dram_checks,
        "V7": _duty_checks,
        "V8": _launch_checks,
        "V9": _spin_checks,
        "TRAIN": _training_checks,
    }
    return [*_guards(truth, measured), *builders[case](variant, truth, measured, peaks), _tree_check(measured)]


def number(truth: Truth, key: str) -> float | None:
    """Return a number of the truth; None if it is not there."""
    value = truth.get(key)
    return float(value) if isinstance(value, int | float) else None


def flops_share(truth: Truth, peaks: Peaks | None, key: str = "flop_s") -> float | None:
    """Return counted FLOP/s over the dense tensor peak of the load's dtype, 1 = the peak."""
    rate = number(truth, key)
    peak = peaks.tensor_flops_s.get(str(truth.get("dtype", "bf16"))) if peaks else None
    return None if rate is None or peak is None else rate / peak


def counted_share(resource: str, truth: Truth, peaks: Peaks | None) -> float | None:
    """Return the counted share of the peak of a vector pipe or of DRAM, 1 = the peak."""
    rate = number(truth, "bytes_s" if resource == "dram" else "flop_s")
    if rate is None or peaks is None:
        return None
    peak = peaks.dram_bytes_s if resource == "dram" else peaks.vector_flops_s.get(resource)
    return None if peak is None else rate / peak


def tile_waste(n: int, tile: tuple[int, int]) -> float:
    """Return executed over counted FLOP of an n x n output in tiles of rows x columns; >= 1."""
    rows, columns = (-(-n // side) * side for side in tile)
    return rows * columns / (n * n)


def _points(share: float | None) -> float | None:
    return None if share is None else 100.0 * share


def _guards(truth: Truth, measured: Measured) -> list[Check]:
    gpu_s, wall_s = number(truth, "gpu_s"), number(truth, "wall_s")
    ratio = gpu_s / wall_s if gpu_s is not None and wall_s else None
    return [
        between("readings_coverage", measured.coverage_frac, COVERAGE_FRAC, None, unit="1", guard=True),
        between(
            "event_time_over_wall_time",
            ratio,
            1.0 - TIME_TOLERANCE_FRAC,
            1.0 + TIME_TOLERANCE_FRAC,
            unit="1",
            guard=True,
        ),
    ]


def _tree_check(measured: Measured) -> Check:
    loss = measured.loss("")
    total = None if loss is None or measured.score_pct is None else measured.score_pct + loss
    return near("score_and_losses", total, 100.0, TREE_TOLERANCE_POINTS)


def _tensor_checks(variant: str, truth: Truth, measured: Measured, peaks: Peaks | None) -> list[Check]:
    del variant
    return [near("tensor_score_pct", measured.tensor_score_pct, _points(flops_share(truth, peaks)), 1.5)]


def _size_checks(variant: str, truth: Truth, measured: Measured, peaks: Peaks | None) -> list[Check]:
    """V1: T is the counted share, plus at most the waste of the worst likely tile."""
    del variant
    expected, n = _points(flops_share(truth, peaks)), number(truth, "n")
    if expected is None or n is None:
        return [near("tensor_score_pct", measured.tensor_score_pct, None, 2.0)]
    worst = max(tile_waste(int(n), tile) for tile in TILES)
    return [
        between(
            "tensor_score_pct",
            measured.tensor_score_pct,
            expected - 2.0,
            expected * worst + 2.0,
            expected=expected,
            allowed=2.0,
        )
    ]


def _vector_checks(variant: str, truth: Truth, measured: Measured, peaks: Peaks | None) -> list[Check]:
    read = _points(measured.saturation.get(variant))
    return [
        near(f"{variant}_saturation_pct", read, _points(counted_share(variant, truth, peaks)), 5.0),
        between("tensor_score_pct", measured.tensor_score_pct, None, 1.0),
    ]


def _dram_checks(variant: str, truth: Truth, measured: Measured, peaks: Peaks | None) -> list[Check]:
    del variant
    read = _points(measured.saturation.get("dram"))
    return [near("dram_saturation_pct", read, _points(counted_share("dram", truth, peaks)), 3.0)]


def _duty_checks(variant: str, truth: Truth, measured: Measured, peaks: Peaks | None) -> list[Check]:
    busy = number(truth, "busy_frac")
    checks = [
        near("tensor_score_pct", measured.tensor_score_pct, _points(flops_share(truth, peaks)), 1.5),
        near("idle_points", measured.loss("idle"), None if busy is None else 100.0 * (1.0 - busy), 3.0),
    ]
    period_ms = int(variant.removesuffix("ms").split("-")[1])
    if period_ms >= 1000:
        checks.append(between("gamma", measured.gamma, 0.7, None, unit="1"))
    elif period_ms <= 50:
        checks.append(between("gamma", measured.gamma, None, 0.15, unit="1"))
    return checks


def _launch_checks(variant: str, truth: Truth, measured: Measured, peaks: Peaks | None) -> list[Check]:
    del truth, peaks
    lost = measured.loss("idle", "coverage", "comm", "wait", "grid")
    checks = [between("idle_and_coverage_points", lost, 80.0, None)]
    if variant == "loop":
        found = None if measured.score_pct is None else float("HOST_GAPS" in measured.findings)
        checks.append(between("host_gaps_found", found, 1.0, None, unit="1"))
    return checks


def _spin_checks(variant: str, truth: Truth, measured: Measured, peaks: Peaks | None) -> list[Check]:
    del variant, peaks
    return [
        near("sm_active_pct", _points(measured.field("sm_active_frac")), _points(number(truth, "sm_frac")), 1.0),
        between("score_pct", measured.score_pct, None, 3.0),
    ]


def _training_checks(variant: str, truth: Truth, measured: Measured, peaks: Peaks | None) -> list[Check]:
    """T >= MFU by 6 N, and T - MFU <= attention + 5."""
    del variant
    mfu = _points(flops_share(truth, peaks))
    attention = _points(flops_share(truth, peaks, "attention_flop_s"))
    if mfu is None or attention is None:
        return [near("tensor_score_pct", measured.tensor_score_pct, None, 5.0)]
    high = mfu + FLASH_RECOMPUTE * attention + 5.0
    return [between("tensor_score_pct", measured.tensor_score_pct, mfu, high, expected=mfu, allowed=5.0)]
