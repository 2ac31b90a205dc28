"""The score of each window: saturation, its bracket, its attainable twin, and what is missing.

Formulas: docs/method.md, "Windows". Everything here is an array over m windows of one GPU; fractions are
float, 1 = the bound.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from satscore.core.bounds import PROFILES, SCORED, Bounds
from satscore.core.intervals import Q
from satscore.core.readings import BoolArray, FloatArray, filled
from satscore.core.windows import KNOWN_QUORUM_FRAC, WindowTable

BOUND_EXCEEDED_FRAC = 1.02
CALIBRATION_EXCEEDED_FRAC = 1.03


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowScores:
    """Scores of m windows under one profile; every array has shape (m,).

    Attributes:
        complete: Whether every resource of the profile is known for 80 % of the window.
        sat: U_w, the largest fraction of a datasheet peak; NaN where not complete.
        sat_hi: U+_w, upper bound of the kernel-level speed-of-light share while no kernel beats the ceilings.
        limiting: Index into the profile's resources of the largest fraction.
        active: Active share of the limiting resource (level V3).
        attainable: The same against the attainable rates, clipped at 1.
        attainable_active: Active share of the resource nearest to its attainable rate, over the
            active share of that best kernel.
        lo: Lower bound of U_w whatever the missing counters were; ``sat`` where nothing was missing.
        hi: Upper bound of U_w whatever the missing counters were.
        exceeds_bound: Complete, and a fraction is above 1.02: wrong SKU, bound or counter.
        exceeds_ceiling: Complete, and a fraction is more than 3 % above its attainable rate.
    """

    complete: BoolArray
    sat: FloatArray
    sat_hi: FloatArray
    limiting: npt.NDArray[np.int64]
    active: FloatArray
    attainable: FloatArray
    attainable_active: FloatArray
    lo: FloatArray
    hi: FloatArray
    exceeds_bound: BoolArray
    exceeds_ceiling: BoolArray


def score_windows(windows: WindowTable, bounds: Bounds, profile: str) -> WindowScores:
    """Score windows under a key of SCORED."""
    resources = SCORED[profile]
    raw = windows.mean[:, [Q[f"u_{r}"] for r in resources]]
    active = windows.mean[:, [Q[f"x_{r}"] for r in resources]]
    known_frac = windows.known_frac[:, [Q[f"u_{r}"] for r in resources]]
    known = known_frac >= KNOWN_QUORUM_FRAC
    complete = known.all(axis=1) & (windows.length_ns > 0)
    fraction = np.where(known, np.minimum(1.0, raw), 0.0)
    ratio = fraction / np.array([bounds.attainable_frac[r] for r in resources])
    limiting, nearest = fraction.argmax(axis=1), ratio.argmax(axis=1)
    ceilings_active = np.array([bounds.attainable_active_frac[r] for r in resources])
    sat = np.where(complete, _pick(fraction, limiting), np.nan)
    lo, hi = _missing_bounds(windows, resources, sat, complete)
    return WindowScores(
        complete=complete,
        sat=sat,
        sat_hi=np.where(complete, _upper(windows, bounds, resources, fraction), np.nan),
        limiting=limiting,
        active=np.where(complete, _pick(active, limiting), np.nan),
        attainable=np.where(complete, np.minimum(1.0, _pick(ratio, nearest)), np.nan),
        attainable_active=np.where(complete, _pick(active / ceilings_active, nearest), np.nan),
        lo=lo,
        hi=hi,
        exceeds_bound=complete & np.any(raw > BOUND_EXCEEDED_FRAC, axis=1),
        exceeds_ceiling=complete & np.any(ratio > CALIBRATION_EXCEEDED_FRAC, axis=1),
    )


def _pick(values: FloatArray, column: npt.NDArray[np.int64]) -> FloatArray:
    picked: FloatArray = values[np.arange(len(values)), column]
    return picked


def known_mean(windows: WindowTable, name: str) -> FloatArray:
    """Return a quantity's window means, shape (m,), NaN where known for under 80 % of the window."""
    column = Q[name]
    known = windows.known_frac[:, column] >= KNOWN_QUORUM_FRAC
    return np.where(known, windows.mean[:, column], np.nan)


def _upper(windows: WindowTable, bounds: Bounds, resources: tuple[str, ...], fraction: FloatArray) -> FloatArray:
    """Return U+_w: the tight bracket for tensor and DRAM, else the plain sum (docs/method.md, "Bracket")."""
    engine = known_mean(windows, "engine")
    busy = np.where(np.isnan(engine), 1.0, np.minimum(1.0, np.fmax(engine, fraction.max(axis=1))))
    if resources == PROFILES["train"]:
        clock_ratio = filled(known_mean(windows, "clock_ratio_rated"), 1.0)
        return bracket(
            fraction[:, 0],
            fraction[:, 1],
            busy,
            bounds.attainable_active_frac["tensor"] * clock_ratio,
            np.full(len(windows), bounds.attainable_frac["dram"]),
        )
    if len(resources) == 1:
        alone: FloatArray = fraction[:, 0]
        return alone
    upper: FloatArray = np.minimum(fraction.sum(axis=1), busy)
    return upper


def bracket(u_t: FloatArray, u_m: FloatArray, busy: FloatArray, top_t: FloatArray, top_m: FloatArray) -> FloatArray:
    """Return the largest time mean of max(tensor, DRAM) that the window means allow.

    Maximises q + min(u_M, a_M (V1 - q/a_T)) over 0 <= q <= u_T (docs/method.md, "Bracket"): q is the
    work done by the tensor pipe while it is the larger one. Concave in q with its kink where the
    DRAM term starts to bind.

    Args:
        u_t: shape (m,), tensor fraction.
        u_m: shape (m,), DRAM fraction.
        busy: shape (m,), V1, share of time with any work.
        top_t: shape (m,), highest instantaneous tensor fraction of a known kernel.
        top_m: shape (m,), highest instantaneous DRAM fraction of a known kernel.
    """
    safe_busy = np.where(busy > 0, busy, 1.0)
    a_t = np.maximum(np.maximum(top_t, u_t / safe_busy), 1e-12)
    a_m = np.maximum(np.maximum(top_m, u_m / safe_busy), 1e-12)

    def value(q: FloatArray) -> FloatArray:
        result: FloatArray = q + np.minimum(u_m, np.maximum(0.0, a_m * (busy - q / a_t)))
        return result

    kink = np.clip(a_t * (busy - u_m / a_m), 0.0, u_t)
    best = np.maximum(value(kink), value(u_t))
    upper: FloatArray = np.maximum(np.minimum(np.maximum(best, u_m), busy), np.maximum(u_t, u_m))
    return upper


def _missing_bounds(
    windows: WindowTable, resources: tuple[str, ...], sat: FloatArray, complete: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Return lower and upper bounds of U_w where counters are missing (docs/method.md, "Missing data").

    The unknown part of a window may hold anything from 0 to its cap: SM-active x clock of that very
    part for an SM pipe (1 if that is unknown too), 1 for DRAM.
    """
    lo, hi = np.zeros(len(windows)), np.zeros(len(windows))
    for resource in resources:
        column = Q[f"u_{resource}"]
        share = windows.known_frac[:, column]
        known = share * filled(windows.mean[:, column], 0.0)
        room = 1.0 - share if resource == "dram" else _room(windows, resource)
        lo = np.maximum(lo, known)
        hi = np.maximum(hi, known + room)
    # A complete window may still lack a fifth: its mean stands in for that, but proves nothing about it.
    below = np.where(complete, np.fmin(lo, sat), lo)
    above = np.where(complete, np.fmax(hi, sat), hi)
    return np.minimum(1.0, below), np.minimum(1.0, above)


def _room(windows: WindowTable, pipe: str) -> FloatArray:
    """Return what an SM pipe can have done at most while it was unknown; 1 where nothing was read."""
    column = Q[f"room_{pipe}"]
    share = windows.known_frac[:, column]
    room: FloatArray = share * filled(windows.mean[:, column], 0.0) + (1.0 - share)
    return room
