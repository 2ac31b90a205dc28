"""The mergeable state: integer sums of one GPU, whatever the length of the run.

Time is in us, fractions in parts per million, other quantities in thousandths, products of those:
all Python integers, so merging is exactly associative and commutative and never overflows
(docs/method.md, "Sums"). Scores of disjoint scopes add: S(A+B) = (N_A+N_B) / (D_A+D_B).
"""

from collections.abc import Callable, Iterable

import msgspec
import numpy as np

from satscore.core.bounds import PROFILES, SCORED, Bounds
from satscore.core.fields import FIELDS, Quality
from satscore.core.intervals import QUANTITIES, Q
from satscore.core.losses import PARTS, LossTree, loss_tree
from satscore.core.readings import FloatArray, IntArray, ReadingTable, filled
from satscore.core.score import WindowScores, known_mean, score_windows
from satscore.core.units import NS_PER_US, PPM
from satscore.core.windows import WindowTable

MILLI = 1_000
SUM_CHUNK = 4096
FRACTIONS = frozenset(name for name in QUANTITIES if not name.endswith(("_mhz", "_w", "_c", "_mib")))
SCALE = np.array([PPM if name in FRACTIONS else MILLI for name in QUANTITIES])
"""Parts in which each quantity is summed."""
COUNTS = ("ecc_corrected_count", "ecc_uncorrected_count", "xid_count")
MAXIMA = ("temp_gpu_c", "memory_used_mib", "power_gpu_w", "power_module_w")
POWER_HIGH_FRAC = 0.965
"""Power at this share of its limit counts as at the cap (docs/method.md, "Power and clocks")."""


class Sums(msgspec.Struct, kw_only=True):
    """Sums over one GPU or over any union of GPUs and times.

    Attributes:
        totals: name -> integer; see ``add_windows`` for the names and their units.
        maxima: quantity -> largest window mean, thousandths of its unit.
        quality_us: "field:quality" -> us in which the field had that quality; unknown ones only.
        read_us: us covered by readings.
        counts: error counter -> events; a key is there once the counter was known.
    """

    totals: dict[str, int] = msgspec.field(default_factory=dict)
    maxima: dict[str, int] = msgspec.field(default_factory=dict)
    quality_us: dict[str, int] = msgspec.field(default_factory=dict)
    read_us: int = 0
    counts: dict[str, int] = msgspec.field(default_factory=dict)

    def merge(self, other: "Sums") -> "Sums":
        """Return the sums of both; neither is changed."""
        return Sums(
            totals=_merged(self.totals, other.totals, lambda a, b: a + b),
            maxima=_merged(self.maxima, other.maxima, max),
            quality_us=_merged(self.quality_us, other.quality_us, lambda a, b: a + b),
            read_us=self.read_us + other.read_us,
            counts=_merged(self.counts, other.counts, lambda a, b: a + b),
        )

    def total(self, name: str) -> int:
        """Return a total; 0 if nothing was added under that name."""
        return self.totals.get(name, 0)

    def mean(self, quantity: str) -> float | None:
        """Return the time mean of a quantity over the time in which it is known, in its own unit."""
        time_us = self.total(f"known_us:{quantity}")
        if time_us == 0:
            return None
        scale = PPM if quantity in FRACTIONS else MILLI
        return self.total(f"sum:{quantity}") / time_us / scale


def _merged(a: dict[str, int], b: dict[str, int], combine: Callable[[int, int], int]) -> dict[str, int]:
    return {k: combine(a[k], b[k]) if k in a and k in b else a.get(k, b.get(k, 0)) for k in sorted(a.keys() | b.keys())}


def merge_all(many: Iterable[Sums]) -> Sums:
    """Return the sums of all; the order does not matter to the bit."""
    out = Sums()
    for one in many:
        out = out.merge(one)
    return out


def add_readings(sums: Sums, table: ReadingTable) -> None:
    """Add for how long each field was unknown and why, and the errors that were counted."""
    length_us = (table.end_ns - table.start_ns) // NS_PER_US
    sums.read_us += int(length_us.sum())
    for quality in Quality:
        mine = table.quality == quality
        if quality is Quality.OK or not mine.any():
            continue
        for column in np.flatnonzero(mine.any(axis=0)):
            key = f"{FIELDS[column].name}:{int(quality)}"
            sums.quality_us[key] = sums.quality_us.get(key, 0) + int(length_us[mine[:, column]].sum())
    for name in COUNTS:
        values = table.column(name)
        if not np.isnan(values).all():
            sums.counts[name] = sums.counts.get(name, 0) + round(float(np.nansum(values)))


def add_windows(sums: Sums, windows: WindowTable, bounds: Bounds, profile: str) -> None:
    """Score windows and add them.

    Names of totals, x a profile, r a resource, p a part of the loss tree, q a quantity:
    ``time_us``, ``windows``; ``complete_us:x`` and in ppm us ``sat:x``, ``sat_hi:x``, ``lo:x``,
    ``hi:x`` (the last two over all windows); for the run's profile ``attainable``,
    ``by:r``, ``loss:p``, ``loss_attainable:p``, and in us ``exceeds_bound_us``,
    ``exceeds_ceiling_us``; ``sum:q`` (ppm us or thousandths us) with ``known_us:q``; and in us
    ``power_high_us:scope``.
    """
    if len(windows) == 0:
        return
    length_us = windows.length_ns // NS_PER_US
    _add(sums, "windows", int((length_us > 0).sum()))
    _add(sums, "time_us", int(length_us.sum()))
    for each in SCORED:
        scores = score_windows(windows, bounds, each)
        _add_profile(sums, scores, length_us, each)
        if each == profile:
            _add_headline(sums, scores, windows, length_us, profile)
    _add_quantities(sums, windows, length_us)


def _add(sums: Sums, name: str, amount: int) -> None:
    sums.totals[name] = sums.totals.get(name, 0) + amount


def _times(rows: IntArray, time_us: IntArray) -> list[int]:
    """Return the sum of value x time of each row; ``time_us`` has shape (m,) or that of the rows, (k, m).

    In Python integers over chunks: 64 bits overflow after some 65,000 windows of memory use.
    """
    totals = [0] * len(rows)
    for i in range(0, rows.shape[1], SUM_CHUNK):
        part = (rows[:, i : i + SUM_CHUNK] * time_us[..., i : i + SUM_CHUNK]).sum(axis=1)
        totals = [total + amount for total, amount in zip(totals, part.tolist(), strict=True)]
    return totals


def _whole(values: FloatArray, scale: int | IntArray) -> IntArray:
    """Return values in whole parts of a scale; NaN becomes 0 (its time is not in the denominator)."""
    return np.rint(filled(values, 0.0) * scale).astype(np.int64)


def _add_fractions(sums: Sums, named: dict[str, FloatArray], length_us: IntArray) -> None:
    amounts = _times(_whole(np.stack(list(named.values())), PPM), length_us)
    for name, amount in zip(named, amounts, strict=True):
        _add(sums, name, amount)


def _add_profile(sums: Sums, scores: WindowScores, length_us: IntArray, profile: str) -> None:
    _add(sums, f"complete_us:{profile}", int(length_us[scores.complete].sum()))
    sides = {"sat": scores.sat, "sat_hi": scores.sat_hi, "lo": scores.lo, "hi": scores.hi}
    _add_fractions(sums, {f"{side}:{profile}": values for side, values in sides.items()}, length_us)


def _add_headline(sums: Sums, scores: WindowScores, windows: WindowTable, length_us: IntArray, profile: str) -> None:
    mine = {r: scores.complete & (scores.limiting == i) for i, r in enumerate(PROFILES[profile])}
    by = {f"by:{resource}": np.where(limits, scores.sat, 0.0) for resource, limits in mine.items()}
    _add_fractions(sums, {"attainable": scores.attainable, **by}, length_us)
    _add(sums, "exceeds_bound_us", int(length_us[scores.exceeds_bound].sum()))
    _add(sums, "exceeds_ceiling_us", int(length_us[scores.exceeds_ceiling].sum()))
    tree = loss_tree(windows, scores)
    _add_tree(sums, "loss", tree, length_us)
    _add_tree(sums, "loss_attainable", loss_tree(windows, scores, attainable=True), length_us)


def _add_tree(sums: Sums, prefix: str, tree: LossTree, length_us: IntArray) -> None:
    amounts = _times(np.stack([tree.parts[part] for part in PARTS]), length_us)
    for part, amount in zip(PARTS, amounts, strict=True):
        _add(sums, f"{prefix}:{part}", amount)


def _add_quantities(sums: Sums, windows: WindowTable, length_us: IntArray) -> None:
    known_us = np.rint(windows.known_frac.T * length_us).astype(np.int64)
    amounts = _times(_whole(windows.mean.T, SCALE[:, None]), known_us)
    for name, time_us, amount in zip(QUANTITIES, known_us.sum(axis=1).tolist(), amounts, strict=True):
        if time_us:
            _add(sums, f"known_us:{name}", time_us)
            _add(sums, f"sum:{name}", amount)
    for scope in ("gpu", "module"):
        high = known_mean(windows, f"power_frac_{scope}") >= POWER_HIGH_FRAC
        _add(sums, f"power_high_us:{scope}", int(known_us[Q[f"power_frac_{scope}"], high].sum()))
    for name in MAXIMA:
        values = windows.mean[:, Q[name]]
        if not np.isnan(values).all():
            peak = round(float(np.nanmax(values)) * MILLI)
            sums.maxima[name] = max(peak, sums.maxima.get(name, peak))
