"""The loss tree of a rank: nested levels of each window, their differences, and exact sub-parts.

``100 = S + idle + coverage + issue + clock`` (docs/method.md, "Loss tree"). Levels are rounded to integers
(parts per million) first and only then subtracted, so every sum of parts is exact: to the bit, over
any scope, in any order of adding.
"""

from dataclasses import dataclass

import numpy as np

from satscore.core.intervals import THROTTLE_REASONS
from satscore.core.readings import FloatArray, IntArray, filled
from satscore.core.score import WindowScores, known_mean
from satscore.core.units import PPM
from satscore.core.windows import WindowTable

MERGED_PARTS = ("idle|coverage", "coverage|issue", "idle|coverage|issue")
"""Parts that cannot be told apart where a counter is missing (docs/method.md, "Missing data")."""
IDLE_PARTS = ("idle_long", "idle_short")
COVERAGE_PARTS = ("comm", "wait", "comm_or_wait", "grid")
ISSUE_PARTS = ("issue_other", "issue_stall")
CLOCK_PARTS = (*(f"clock_{reason}" for reason in THROTTLE_REASONS), "clock_other", "clock_unknown")
PARTS = (*IDLE_PARTS, *COVERAGE_PARTS, *ISSUE_PARTS, *CLOCK_PARTS, *MERGED_PARTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTree:
    """Levels and parts of m windows in parts per million.

    Attributes:
        levels: shape (m, 5), V0..V4, nested: each row does not increase.
        parts: name -> shape (m,); the parts of a row and V4 add up to 1,000,000 exactly.
    """

    levels: IntArray
    parts: dict[str, IntArray]


def loss_tree(windows: WindowTable, scores: WindowScores, *, attainable: bool = False) -> LossTree:
    """Return the tree of complete windows; parts of other windows are 0.

    Args:
        windows: m windows of one GPU.
        scores: Their scores under the profile.
        attainable: Measure pipe and rate against the attainable kernel (docs/method.md, "Loss tree").
    """
    top = scores.attainable if attainable else scores.sat
    active = scores.attainable_active if attainable else scores.active
    known_g, known_s = known_mean(windows, "engine"), known_mean(windows, "sm_compute")
    levels = _nested_levels(known_g, known_s, active, top)
    parts = _split_levels(levels, ~np.isnan(known_g), ~np.isnan(known_s))
    issue, idle, coverage, clock = (parts.pop(name) for name in ("issue", "idle", "coverage", "clock"))
    spread = np.zeros(len(windows)) if attainable else filled(scores.sat_hi - scores.sat, 0.0)
    parts["issue_other"] = np.minimum(issue, _ppm(spread))
    parts["issue_stall"] = issue - parts["issue_other"]
    parts |= _split_in_order(idle, windows, ("idle_long",), rest="idle_short")
    parts |= _split_in_order(coverage, windows, ("comm", "wait", "comm_or_wait"), rest="grid")
    parts |= _split_clock(clock, windows)
    complete = scores.complete.astype(np.int64)
    return LossTree(levels=levels * complete[:, None], parts={name: parts[name] * complete for name in PARTS})


def _ppm(frac: FloatArray) -> IntArray:
    return np.rint(filled(frac, 0.0) * PPM).astype(np.int64)


def _nested_levels(engine: FloatArray, sm: FloatArray, active: FloatArray, top: FloatArray) -> IntArray:
    """Return V0..V4 in ppm, made nested from the bottom: the score is never altered.

    An unknown level takes the value of the level below it, so its part is 0 and the merged part
    above it holds the points.
    """
    v4 = _ppm(top)
    v3 = np.maximum(v4, _ppm(np.minimum(1.0, active)))
    v2 = np.maximum(v3, _ppm(np.minimum(1.0, sm)))
    v1 = np.maximum(v2, _ppm(np.minimum(1.0, engine)))
    return np.stack([np.full_like(v4, PPM), v1, v2, v3, v4], axis=1)


def _split_levels(levels: IntArray, has_g: np.ndarray, has_s: np.ndarray) -> dict[str, IntArray]:
    """Return the differences of levels, under the names that the known levels allow."""
    v0, v1, v2, v3, v4 = levels.T
    zero = np.zeros_like(v0)
    return {
        "idle": np.where(has_g, v0 - v1, zero),
        "coverage": np.where(has_g & has_s, v1 - v2, zero),
        "issue": np.where(has_s, v2 - v3, zero),
        "clock": v3 - v4,
        "idle|coverage": np.where(~has_g & has_s, v0 - v2, zero),
        "coverage|issue": np.where(has_g & ~has_s, v1 - v3, zero),
        "idle|coverage|issue": np.where(~has_g & ~has_s, v0 - v3, zero),
    }


def _split_in_order(part: IntArray, windows: WindowTable, names: tuple[str, ...], *, rest: str) -> dict[str, IntArray]:
    """Give each name its measured share of a part, capped by what is left; the rest gets the remainder."""
    out = {}
    left = part
    for name in names:
        out[name] = np.minimum(left, _ppm(known_mean(windows, name)))
        left = left - out[name]
    out[rest] = left
    return out


def split_clock(clock: FloatArray, throttle: FloatArray) -> FloatArray:
    """Split a clock loss by throttle reason: clock_k = clock tau_k / max(1, sum tau).

    Args:
        clock: shape (m,), any unit.
        throttle: shape (m, reason), share of time with each reason; they may overlap.

    Returns:
        shape (m, reason + 1): the last column is what no reason explains (DVFS).
    """
    total = np.maximum(1.0, throttle.sum(axis=1, keepdims=True))
    by_reason = clock[:, None] * throttle / total
    return np.concatenate([by_reason, (clock - by_reason.sum(axis=1))[:, None]], axis=1)


def _split_clock(clock: IntArray, windows: WindowTable) -> dict[str, IntArray]:
    """Split the clock part in whole ppm; without the main reasons the rest has no known reason."""
    throttle = np.stack([known_mean(windows, f"throttle_{r}") for r in THROTTLE_REASONS], axis=1)
    main = [THROTTLE_REASONS.index(reason) for reason in ("power", "thermal")]
    unreadable = np.isnan(throttle[:, main]).any(axis=1)
    shares = split_clock(clock.astype(np.float64), np.clip(filled(throttle, 0.0), 0.0, 1.0))
    whole = np.floor(shares[:, :-1]).astype(np.int64)
    rest = clock - whole.sum(axis=1)
    out = {f"clock_{reason}": whole[:, k] for k, reason in enumerate(THROTTLE_REASONS)}
    out["clock_other"] = np.where(unreadable, 0, rest)
    out["clock_unknown"] = np.where(unreadable, rest, 0)
    return out
