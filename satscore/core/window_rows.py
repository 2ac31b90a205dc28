"""Windows as integers: what every later state adds up, whatever it adds over.

Time is in us, fractions in parts per million, other quantities in thousandths (docs/method.md, "Sums").
The state of a GPU, its blocks and the job's series are all sums of these rows, so they agree exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from satscore.core.bounds import PROFILES, RESOURCES, SCORED, Bounds
from satscore.core.intervals import QUANTITIES, Q
from satscore.core.losses import PARTS, LossTree, loss_tree
from satscore.core.readings import BoolArray, FloatArray, IntArray, filled
from satscore.core.score import WindowScores, known_mean, score_windows
from satscore.core.units import NS_PER_US, PPM
from satscore.core.windows import WindowTable

MILLI = 1_000
FRACTIONS = frozenset(name for name in QUANTITIES if not name.endswith(("_mhz", "_w", "_c", "_mib")))
SCALE = np.array([PPM if name in FRACTIONS else MILLI for name in QUANTITIES])
"""Parts in which each quantity is summed."""
POWER_HIGH_FRAC = 0.965
"""Power at this share of its limit counts as at the cap (docs/method.md, "Power and clocks")."""
ENGINE_LOW_FRAC = 0.02
"""Below this share of engine-active time a window counts as idle."""
LEVELS = ("v1", "v2", "v2_lo", "v3", "v4")
SIDES = ("sat", "sat_hi", "lo", "hi")

SHARES: tuple[str, ...] = (
    *(f"{side}:{profile}" for profile in SCORED for side in SIDES),  # lo and hi over all windows
    "attainable",
    *(f"by:{resource}" for resource in RESOURCES),
    *(f"loss:{part}" for part in PARTS),
    *(f"loss_attainable:{part}" for part in PARTS),
    *LEVELS,  # over levels_us
    "v2_squared",
)
TIMES: tuple[str, ...] = (
    "time_us",
    *(f"complete_us:{profile}" for profile in SCORED),
    "exceeds_bound_us",
    "exceeds_ceiling_us",
    "levels_us",  # complete, and engine and SM active are known
    "power_high_us:gpu",
    "power_high_us:module",
    "engine_low_us",
)
SHARE = {name: i for i, name in enumerate(SHARES)}
TIME = {name: i for i, name in enumerate(TIMES)}


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRows:
    """m windows of one GPU in integers.

    Attributes:
        index: shape (m,), seconds of wall time, ascending.
        length_us: shape (m,), us.
        shares: shape (len(SHARES), m), parts per million of the window's length.
        times_us: shape (len(TIMES), m), us.
        means: shape (len(QUANTITIES), m), mean in parts of SCALE; 0 where never known.
        known_us: shape (len(QUANTITIES), m), us in which the quantity is known.
    """

    index: IntArray
    length_us: IntArray
    shares: IntArray
    times_us: IntArray
    means: IntArray
    known_us: IntArray

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.index)

    def select(self, chosen: BoolArray | slice) -> "WindowRows":
        """Return some of the windows."""
        return WindowRows(
            index=self.index[chosen],
            length_us=self.length_us[chosen],
            shares=self.shares[:, chosen],
            times_us=self.times_us[:, chosen],
            means=self.means[:, chosen],
            known_us=self.known_us[:, chosen],
        )

    def share(self, name: str) -> IntArray:
        """Return one of SHARES, shape (m,), ppm."""
        row: IntArray = self.shares[SHARE[name]]
        return row

    def time_us(self, name: str) -> IntArray:
        """Return one of TIMES, shape (m,), us."""
        row: IntArray = self.times_us[TIME[name]]
        return row

    def mean(self, quantity: str) -> FloatArray:
        """Return a quantity's means in its own unit, shape (m,), NaN where never known."""
        column = Q[quantity]
        return np.where(self.known_us[column] > 0, self.means[column] / SCALE[column], np.nan)


def concatenate_rows(parts: Sequence[WindowRows]) -> WindowRows:
    """Return the windows of several (at least one), in their order."""
    return WindowRows(
        index=np.concatenate([p.index for p in parts]),
        length_us=np.concatenate([p.length_us for p in parts]),
        shares=np.concatenate([p.shares for p in parts], axis=1),
        times_us=np.concatenate([p.times_us for p in parts], axis=1),
        means=np.concatenate([p.means for p in parts], axis=1),
        known_us=np.concatenate([p.known_us for p in parts], axis=1),
    )


def window_rows(windows: WindowTable, bounds: Bounds, profile: str) -> WindowRows:
    """Score windows and return them in integers.

    Args:
        windows: m windows of one GPU.
        bounds: Its bounds.
        profile: Key of PROFILES whose loss tree, attainable score and levels are taken.
    """
    length_us = windows.length_ns // NS_PER_US
    shares, times_us = dict[str, IntArray](), {"time_us": length_us}
    for each in SCORED:
        scores = score_windows(windows, bounds, each)
        times_us[f"complete_us:{each}"] = np.where(scores.complete, length_us, 0)
        sides = (scores.sat, scores.sat_hi, scores.lo, scores.hi)
        shares |= {f"{side}:{each}": _ppm(values) for side, values in zip(SIDES, sides, strict=True)}
        if each == profile:
            _add_headline(shares, times_us, scores, windows, profile)
    known_us = np.rint(windows.known_frac.T * length_us).astype(np.int64)
    for scope in ("gpu", "module"):
        high = known_mean(windows, f"power_frac_{scope}") >= POWER_HIGH_FRAC
        times_us[f"power_high_us:{scope}"] = np.where(high, known_us[Q[f"power_frac_{scope}"]], 0)
    idle = known_mean(windows, "engine") < ENGINE_LOW_FRAC
    times_us["engine_low_us"] = np.where(idle, known_us[Q["engine"]], 0)
    return WindowRows(
        index=windows.index,
        length_us=length_us,
        shares=np.stack([shares[name] for name in SHARES]),
        times_us=np.stack([times_us[name] for name in TIMES]),
        means=np.rint(filled(windows.mean.T, 0.0) * SCALE[:, None]).astype(np.int64),
        known_us=known_us,
    )


def _ppm(values: FloatArray) -> IntArray:
    """Return fractions in ppm; NaN becomes 0 (its time is not in the denominator)."""
    return np.rint(filled(values, 0.0) * PPM).astype(np.int64)


def _add_headline(
    shares: dict[str, IntArray],
    times_us: dict[str, IntArray],
    scores: WindowScores,
    windows: WindowTable,
    profile: str,
) -> None:
    length_us = times_us["time_us"]
    resources = PROFILES[profile]
    zero = np.zeros(len(windows), dtype=np.int64)
    for resource in RESOURCES:
        mine = scores.complete & (scores.limiting == resources.index(resource)) if resource in resources else None
        shares[f"by:{resource}"] = zero if mine is None else _ppm(np.where(mine, scores.sat, 0.0))
    shares["attainable"] = _ppm(scores.attainable)
    times_us["exceeds_bound_us"] = np.where(scores.exceeds_bound, length_us, 0)
    times_us["exceeds_ceiling_us"] = np.where(scores.exceeds_ceiling, length_us, 0)
    tree = loss_tree(windows, scores)
    shares |= {f"loss:{part}": tree.parts[part] for part in PARTS}
    attainable = loss_tree(windows, scores, attainable=True)
    shares |= {f"loss_attainable:{part}": attainable.parts[part] for part in PARTS}
    _add_levels(shares, times_us, tree, windows, scores.complete)


def _add_levels(
    shares: dict[str, IntArray],
    times_us: dict[str, IntArray],
    tree: LossTree,
    windows: WindowTable,
    complete: BoolArray,
) -> None:
    """Add the levels of windows in which all are known; V2 also at the lower end of what it may be."""
    known = complete & ~np.isnan(known_mean(windows, "engine")) & ~np.isnan(known_mean(windows, "sm_compute"))
    v1, v2, v3, v4 = tree.levels.T[1:]
    least = np.minimum(v2, np.maximum(v3, _ppm(np.minimum(1.0, known_mean(windows, "sm_compute_lo")))))
    for name, values in zip(LEVELS, (v1, v2, least, v3, v4), strict=True):
        shares[name] = np.where(known, values, 0)
    shares["v2_squared"] = _ppm((shares["v2"] / PPM) ** 2)
    times_us["levels_us"] = np.where(known, times_us["time_us"], 0)
