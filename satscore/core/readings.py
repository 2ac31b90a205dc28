"""Readings as columns: what the windows are made from and what the recording holds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from satscore.core.fields import INDEX, N_FIELDS, Quality, Reading

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingTable:
    """n readings as columns, in time order per GPU.

    Attributes:
        gpu: shape (n,), index into the run's GPU list.
        start_ns: shape (n,), ns on the run's axis.
        end_ns: shape (n,), ns on the run's axis, > start_ns.
        values: shape (n, field), units as in FIELDS, NaN where unknown. Rounded to float32 and
            held as float64, so that live numbers and numbers from the recording are the same.
            Fastest in Fortran order (each field contiguous), as everything here makes it.
        quality: shape (n, field), a Quality each; OK exactly where the value is known.
    """

    gpu: IntArray
    start_ns: IntArray
    end_ns: IntArray
    values: FloatArray
    quality: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        """Return the number of readings."""
        return len(self.gpu)

    def column(self, name: str) -> FloatArray:
        """Return one field, shape (n,), NaN where unknown."""
        column: FloatArray = self.values[:, INDEX[name]]
        return column

    def of_gpu(self, gpu: int) -> "ReadingTable":
        """Return the readings of one GPU, in their order."""
        mine = np.flatnonzero(self.gpu == gpu)
        return ReadingTable(
            gpu=self.gpu[mine],
            start_ns=self.start_ns[mine],
            end_ns=self.end_ns[mine],
            values=self.values.T.take(mine, axis=1).T,
            quality=self.quality.take(mine, axis=0),
        )


def filled(values: FloatArray, unknown: float) -> FloatArray:
    """Return values with a number in the place of each NaN."""
    return np.where(np.isnan(values), unknown, values)


def concatenate(tables: Sequence[ReadingTable]) -> ReadingTable:
    """Return the readings of several tables (at least one), in their order."""
    return ReadingTable(
        gpu=np.concatenate([t.gpu for t in tables]),
        start_ns=np.concatenate([t.start_ns for t in tables]),
        end_ns=np.concatenate([t.end_ns for t in tables]),
        values=np.concatenate([t.values for t in tables]),
        quality=np.concatenate([t.quality for t in tables]),
    )


def table_of(readings: Sequence[Reading]) -> ReadingTable:
    """Return readings as a table; a reading of no length is dropped (it holds no time)."""
    kept = [r for r in readings if r.end_ns > r.start_ns]
    values = np.array([r.values for r in kept], dtype=np.float32).reshape(len(kept), N_FIELDS)
    quality = np.frombuffer(b"".join(bytes(r.quality) for r in kept), dtype=np.uint8)
    quality = quality.reshape(len(kept), N_FIELDS).copy()
    quality[np.isnan(values) & (quality == Quality.OK)] = Quality.BLANK
    values[quality != Quality.OK] = np.nan
    return ReadingTable(
        gpu=np.array([r.gpu for r in kept], dtype=np.int64),
        start_ns=np.array([r.start_ns for r in kept], dtype=np.int64),
        end_ns=np.array([r.end_ns for r in kept], dtype=np.int64),
        values=values.astype(np.float64, order="F"),
        quality=quality,
    )
