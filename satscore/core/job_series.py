"""The job's series: integer sums over GPUs per second, of the whole run (docs/method.md, "Sums").

A day is 86,400 rows. Phases, the confidence interval and the score of the steady phase come from it.
Times are in ms and shares in ppm, so that the products of one GPU fit into 32 bits and those of a
million GPUs into 64.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np

from satscore.core.losses import PARTS
from satscore.core.readings import BoolArray, FloatArray, IntArray

SUM_CHUNK = 4096
CENTI = 100
"""Power is kept in hundredths of a watt: that of one GPU fits into 32 bits."""
SERIES_COLUMNS: tuple[str, ...] = (
    "gpus",  # GPUs with a window here
    "time_ms",
    "complete_ms",
    "sat",  # ppm ms from here on, each over the time before it
    "sat_hi",
    "attainable",
    *(f"loss:{part}" for part in PARTS),
    "tensor_ms",
    "tensor",
    "dram_ms",
    "dram",
    "engine_ms",
    "engine",
    "levels_ms",
    "v2",
    "v2_squared",
    "host_tx_ms",
    "host_tx",  # PCIe or C2C to the host, the busier one
    "power_gpu_ms",
    "power_gpu",  # W/100 x ms
    "power_module_ms",
    "power_module",
)


class JobSeries:
    """Sums over GPUs per second of wall time, as columns of SERIES_COLUMNS; a column that is not there is 0.

    Args:
        first_index: Second of the first row.
        columns: name -> shape (n,), all of one length.
    """

    def __init__(self, first_index: int = 0, columns: Mapping[str, IntArray] | None = None) -> None:
        self.first_index = first_index
        self._columns: dict[str, IntArray] = dict(columns or {})
        self._length = len(next(iter(self._columns.values()))) if self._columns else 0

    def __len__(self) -> int:
        """Return the number of seconds from the first row to the last."""
        return self._length

    def column(self, name: str) -> IntArray:
        """Return one of SERIES_COLUMNS, shape (n,)."""
        if name not in self._columns:
            return np.zeros(self._length, dtype=np.int64)
        return self._columns[name].astype(np.int64, copy=False)

    def columns(self) -> dict[str, IntArray]:
        """Return the columns that are there."""
        return {name: self.column(name) for name in SERIES_COLUMNS if name in self._columns}

    def mean(self, name: str, over: str) -> FloatArray:
        """Return a column over its time, shape (n,), in ppm or W/100; NaN where there is none."""
        time_ms = self.column(over)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(time_ms > 0, self.column(name) / time_ms, np.nan)

    def total(self, name: str, chosen: BoolArray | None = None) -> int:
        """Return a column's sum over all rows, or over some."""
        column = self.column(name) if chosen is None else self.column(name)[chosen]
        # In Python integers over chunks: ten days of 10,000 GPUs exceed 64 bits.
        return sum(column[i : i + SUM_CHUNK].sum().item() for i in range(0, len(column), SUM_CHUNK))

    def merge(self, other: "Series") -> "JobSeries":
        """Return the sums of both; neither is changed."""
        return merge_series((self, other))

    def same_as(self, other: "JobSeries") -> bool:
        """Return whether all sums are the same, to the bit."""
        same_rows = (self.first_index, len(self)) == (other.first_index, len(other))
        return same_rows and all(np.array_equal(self.column(n), other.column(n)) for n in SERIES_COLUMNS)


class Series(Protocol):
    """A series of one GPU or of several: a row per second."""

    first_index: int

    def __len__(self) -> int:
        """Return the number of rows."""

    def column(self, name: str) -> IntArray:
        """Return one of SERIES_COLUMNS, shape (n,)."""

    def columns(self) -> dict[str, IntArray]:
        """Return the columns that are there."""


def merge_series(many: Iterable[Series]) -> JobSeries:
    """Return the sums of several series; the order does not matter to the bit."""
    total = SeriesSum()
    for one in many:
        total.add(one.first_index, len(one), one.columns())
    return total.series()


class SeriesSum:
    """A running sum of series: one set of columns, whatever the number of series."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._columns: dict[str, IntArray] = {}
        self._length = 0

    def add(self, first_index: int, length: int, columns: Mapping[str, IntArray]) -> None:
        """Add a series of ``length`` rows.

        Args:
            first_index: Second of its first row.
            length: Its rows.
            columns: name -> shape (length,), any integer type.
        """
        if length == 0:
            return
        self._reach(first_index, first_index + length)
        assert self._first is not None
        at = first_index - self._first
        for name, values in columns.items():
            if name not in self._columns:
                self._columns[name] = np.zeros(self._length, dtype=np.int64)
            self._columns[name][at : at + length] += values

    def series(self) -> JobSeries:
        """Return the sum so far."""
        return JobSeries(self._first or 0, self._columns)

    def _reach(self, first: int, stop: int) -> None:
        if self._first is None:
            self._first, self._length = first, stop - first
            return
        before, after = max(0, self._first - first), max(0, stop - self._first - self._length)
        if before or after:
            self._columns = {name: np.pad(column, (before, after)) for name, column in self._columns.items()}
            self._first, self._length = self._first - before, self._length + before + after
