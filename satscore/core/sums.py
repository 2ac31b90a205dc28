"""The mergeable state: integer sums of one GPU, whatever the length of the run.

All are Python integers, so merging is exactly associative and commutative and never overflows
(docs/method.md, "Sums"). Scores of disjoint scopes add: S(A+B) = (N_A+N_B) / (D_A+D_B).
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec
import numpy as np

from satscore.core.fields import FIELDS, Quality
from satscore.core.intervals import QUANTITIES, Q
from satscore.core.links import time_in_states
from satscore.core.readings import IntArray, ReadingTable
from satscore.core.units import NS_PER_US, PPM
from satscore.core.window_rows import FRACTIONS, MILLI, SHARES, TIMES, WindowRows

SUM_CHUNK = 4096
COUNTS = (
    "ecc_corrected_count",
    "ecc_uncorrected_count",
    "xid_count",
    "pcie_replay_count",
    "nvlink_error_count",
    "remapped_rows_count",
)
MAXIMA = ("temp_gpu_c", "memory_used_mib", "power_gpu_w", "power_module_w")
CLOCK_BIN_MHZ = 5
CLOCK_ENGINE_FRAC = 0.5
"""Clocks of windows with less work say nothing: an idle GPU lowers its clock."""
_K = TypeVar("_K", str, int)


class Sums(msgspec.Struct, kw_only=True):
    """Sums over one GPU or over any union of GPUs and times.

    Attributes:
        totals: name -> integer: ``windows``; TIMES in us; SHARES in ppm us; per quantity q
            ``known_us:q`` and ``sum:q`` in ppm us or thousandths us. A total of 0 is left out.
        maxima: quantity -> largest window mean, thousandths of its unit.
        clock_us: bin of the SM clock (5 MHz wide, by its lower edge) -> us in windows with work.
        quality_us: "field:quality" -> us in which the field had that quality; unknown ones only.
        read_us: us covered by readings.
        counts: error counter -> events; a key is there once the counter was known.
        pcie_us: state of the PCIe link (links.py) -> us in readings under load.
        nvlink_us: active NVLink connections -> us.
    """

    totals: dict[str, int] = msgspec.field(default_factory=dict)
    maxima: dict[str, int] = msgspec.field(default_factory=dict)
    clock_us: dict[int, int] = msgspec.field(default_factory=dict)
    quality_us: dict[str, int] = msgspec.field(default_factory=dict)
    read_us: int = 0
    counts: dict[str, int] = msgspec.field(default_factory=dict)
    pcie_us: dict[int, int] = msgspec.field(default_factory=dict)
    nvlink_us: dict[int, int] = msgspec.field(default_factory=dict)

    def merge(self, other: "Sums") -> "Sums":
        """Return the sums of both; neither is changed."""
        return Sums(
            totals=_merged(self.totals, other.totals),
            maxima=_merged(self.maxima, other.maxima, max),
            clock_us=_merged(self.clock_us, other.clock_us),
            quality_us=_merged(self.quality_us, other.quality_us),
            read_us=self.read_us + other.read_us,
            counts=_merged(self.counts, other.counts),
            pcie_us=_merged(self.pcie_us, other.pcie_us),
            nvlink_us=_merged(self.nvlink_us, other.nvlink_us),
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


def _plus(a: int, b: int) -> int:
    return a + b


def _merged(a: dict[_K, int], b: dict[_K, int], combine: Callable[[int, int], int] = _plus) -> dict[_K, int]:
    out = a | b
    for key in a.keys() & b.keys():
        out[key] = combine(a[key], b[key])
    return out


def merge_all(many: Iterable[Sums]) -> Sums:
    """Return the sums of all; the order does not matter to the bit."""
    out = Sums()
    for one in many:
        out = out.merge(one)
    return out


def add_readings(sums: Sums, table: ReadingTable) -> None:
    """Add for how long each field was unknown and why, the errors that were counted, and the states of links."""
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
    pcie_us, nvlink_us = time_in_states(table)
    sums.pcie_us = _merged(sums.pcie_us, pcie_us)
    sums.nvlink_us = _merged(sums.nvlink_us, nvlink_us)


def add_rows(sums: Sums, rows: WindowRows) -> None:
    """Add windows."""
    if len(rows) == 0:
        return
    _add(sums, ["windows"], [int((rows.length_us > 0).sum())])
    _add(sums, TIMES, _times(rows.times_us, np.ones(1, dtype=np.int64)))
    _add(sums, SHARES, _times(rows.shares, rows.length_us))
    _add(sums, [f"known_us:{name}" for name in QUANTITIES], _times(rows.known_us, np.ones(1, dtype=np.int64)))
    _add(sums, [f"sum:{name}" for name in QUANTITIES], _times(rows.means, rows.known_us))
    for name in MAXIMA:
        known = rows.known_us[Q[name]] > 0
        if known.any():
            peak = int(rows.means[Q[name], known].max())
            sums.maxima[name] = max(peak, sums.maxima.get(name, peak))
    _add_clocks(sums, rows)


def _add(sums: Sums, names: Iterable[str], amounts: Iterable[int]) -> None:
    for name, amount in zip(names, amounts, strict=True):
        if amount:
            sums.totals[name] = sums.totals.get(name, 0) + amount


def _times(rows: IntArray, time_us: IntArray) -> list[int]:
    """Return the sum of value x time of each row; ``time_us`` broadcasts to the rows, shape (k, m).

    In Python integers over chunks: 64 bits overflow after some 65,000 windows of memory use.
    """
    totals = [0] * len(rows)
    weights = np.broadcast_to(time_us, rows.shape)
    for i in range(0, rows.shape[1], SUM_CHUNK):
        part = np.einsum("km,km->k", rows[:, i : i + SUM_CHUNK], weights[:, i : i + SUM_CHUNK])
        totals = [total + amount for total, amount in zip(totals, part.tolist(), strict=True)]
    return totals


def _add_clocks(sums: Sums, rows: WindowRows) -> None:
    engine, clock = rows.mean("engine"), rows.mean("sm_clock_mhz")
    working = (engine >= CLOCK_ENGINE_FRAC) & ~np.isnan(clock)
    edges = (clock[working] // CLOCK_BIN_MHZ).astype(np.int64) * CLOCK_BIN_MHZ
    for edge in np.unique(edges).tolist():
        time_us = int(rows.length_us[working][edges == edge].sum())
        sums.clock_us[edge] = sums.clock_us.get(edge, 0) + time_us
