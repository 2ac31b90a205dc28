"""The host's series: integer sums, minima and maxima per 10 s of the job-wide grid, mergeable in any order.

A day of one host is 8,640 rows: while the run goes on they are appended and packed hour by hour.
"""

import zlib
from collections.abc import Iterable, Sequence

import numpy as np

from satscore.core.host import HOST_FIELDS, N_HOST_FIELDS, HostFacts, HostInfo, HostReading
from satscore.core.readings import BoolArray, FloatArray, IntArray

BIN_S = 10
"""Length of a row; as long as a sub-batch of the phases' levels."""
_BIN_MS = BIN_S * 1_000
_NS_PER_MS = 1_000_000
_LONGEST_MS = 86_400_000
"""A reading over more than a day is not believed: it would be spread over its whole time."""
_CHUNK = 360
"""Rows that are packed together: an hour."""
SUM, KNOWN_MS, LEAST, MOST = range(4)
"""What a row holds of each field: value x ms, ms in which it was known, the smallest and the largest value."""
_NONE = np.array([0, 0, np.iinfo(np.int64).max, np.iinfo(np.int64).min])
_MOST_PARTS = 2**40
"""Larger values are cut: sums of a million hosts still fit into 64 bits."""
_PARTS: FloatArray = np.array([field.parts for field in HOST_FIELDS])


class HostBins:
    """Rows of one host or of several.

    Attributes:
        index: Wall time of each row in units of 10 s, ascending, shape (n,).
        rows: SUM, KNOWN_MS, LEAST and MOST of every field, in parts of its unit, shape (4, fields, n).
    """

    def __init__(self, index: IntArray, rows: IntArray) -> None:
        self.index = index
        self.rows = rows

    def same_as(self, other: "HostBins") -> bool:
        """Return whether all sums are the same, to the bit."""
        return np.array_equal(self.index, other.index) and np.array_equal(self.rows, other.rows)


def merge_bins(many: Iterable[HostBins]) -> HostBins:
    """Return the rows of several hosts, or of pieces of one; the order does not matter to the bit."""
    given = list(many)
    indices = [bins.index for bins in given] or [np.zeros(0, dtype=np.int64)]
    index, where = np.unique(np.concatenate(indices), return_inverse=True)
    rows = _empty(len(index))
    if given:
        added = np.concatenate([bins.rows for bins in given], axis=2)
        for kind in (SUM, KNOWN_MS):
            np.add.at(rows[kind].T, where, added[kind].T)
        np.minimum.at(rows[LEAST].T, where, added[LEAST].T)
        np.maximum.at(rows[MOST].T, where, added[MOST].T)
    return HostBins(index, rows)


class HostSeries:
    """The rows of one host while the run goes on.

    Args:
        grid_offset_ns: Wall time minus the axis of the readings' times.
    """

    def __init__(self, grid_offset_ns: int) -> None:
        self._offset_ns = grid_offset_ns
        self._packed: list[tuple[IntArray, bytes]] = []
        self._index = np.zeros(_CHUNK, dtype=np.int64)
        self._open = _empty(_CHUNK)
        self._count = 0

    @property
    def packed_bytes(self) -> int:
        """Size of what is packed, in bytes."""
        return sum(index.nbytes + len(data) for index, data in self._packed)

    def append(self, readings: Sequence[HostReading]) -> None:
        """Add readings; each lies on the rows that it overlaps, in proportion to whole milliseconds."""
        for reading in readings:
            begin_ms = (reading.start_ns + self._offset_ns) // _NS_PER_MS
            end_ms = (reading.end_ns + self._offset_ns) // _NS_PER_MS
            if end_ms - begin_ms > _LONGEST_MS:
                continue
            known, parts = _in_parts(reading.values)
            while begin_ms < end_ms:
                row = begin_ms // _BIN_MS
                until_ms = min(end_ms, (row + 1) * _BIN_MS)
                self._add(row, until_ms - begin_ms, known, parts)
                begin_ms = until_ms

    def bins(self) -> HostBins:
        """Return all rows so far."""
        chunks = [HostBins(index, _unpack(data)) for index, data in self._packed]
        n = self._count
        return merge_bins([*chunks, HostBins(self._index[:n], self._open[:, :, :n])])

    def _add(self, row: int, time_ms: int, known: BoolArray, parts: IntArray) -> None:
        if self._count == 0 or self._index[self._count - 1] != row:
            if self._count == _CHUNK:
                self._packed.append((self._index, _pack(self._open)))
                self._index, self._open, self._count = np.zeros_like(self._index), _empty(_CHUNK), 0
            self._index[self._count] = row
            self._count += 1
        at = self._open[:, :, self._count - 1]
        at[SUM] += parts * time_ms
        at[KNOWN_MS] += known * time_ms
        at[LEAST][known] = np.minimum(at[LEAST], parts)[known]
        at[MOST][known] = np.maximum(at[MOST], parts)[known]


def host_facts(
    bins: HostBins, infos: Sequence[HostInfo], ranges_s: Sequence[tuple[float, float]] | None = None
) -> HostFacts:
    """Return what the host did over parts of a run.

    Args:
        bins: Of all hosts.
        infos: What does not change, of each host (of each rank, where several share one).
        ranges_s: Begin and end of the parts in s of wall time; a row belongs to the part that holds its
            middle. None: the whole run.
    """
    rows = bins.rows if ranges_s is None else bins.rows[:, :, _inside(bins.index, ranges_s)]
    known_ms, sums = rows[KNOWN_MS].sum(axis=1), rows[SUM].sum(axis=1)
    least, most = rows[LEAST].min(axis=1, initial=_NONE[LEAST]), rows[MOST].max(axis=1, initial=_NONE[MOST])
    names = [(i, field.name, field.parts) for i, field in enumerate(HOST_FIELDS) if known_ms[i] > 0]
    usable = [size for info in infos if (size := info.memory_usable_bytes) is not None]
    return HostFacts(
        mean={name: float(sums[i] / known_ms[i] / parts) for i, name, parts in names},
        least={name: float(least[i] / parts) for i, name, parts in names},
        most={name: float(most[i] / parts) for i, name, parts in names},
        cpus_count=_mean([info.cpus_count for info in infos]),
        cpus_usable_count=_mean([info.cpus_usable_count for info in infos]),
        memory_usable_bytes=min(usable, default=None),
        workdir_fs=tuple(sorted({info.workdir_fs for info in infos if info.workdir_fs})),
    )


def _inside(index: IntArray, ranges_s: Sequence[tuple[float, float]]) -> BoolArray:
    middle_s = (index + 0.5) * BIN_S
    inside = np.zeros(len(index), dtype=np.bool_)
    for begin_s, end_s in ranges_s:
        inside |= (middle_s >= begin_s) & (middle_s < end_s)
    return inside


def _in_parts(values: Sequence[float]) -> tuple[BoolArray, IntArray]:
    """Return which values are known, and all of them as integers, 0 where they are not.

    As float32, which is how they are recorded: then a report has the same integers.
    """
    with np.errstate(over="ignore"):
        given = np.array(values, dtype=np.float32).astype(np.float64)
    known = np.isfinite(given)
    parts = np.rint(np.clip(np.where(known, given, 0.0) * _PARTS, -_MOST_PARTS, _MOST_PARTS)).astype(np.int64)
    return known, parts


def _empty(count: int) -> IntArray:
    return np.broadcast_to(_NONE[:, None, None], (4, N_HOST_FIELDS, count)).copy()


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _pack(rows: IntArray) -> bytes:
    """Return rows small: byte by byte, first the lowest of every number, for the high ones are much alike."""
    return zlib.compress(rows.view(np.uint8).reshape(-1, rows.itemsize).T.tobytes())


def _unpack(data: bytes) -> IntArray:
    planes = np.frombuffer(zlib.decompress(data), dtype=np.uint8).reshape(8, -1)
    return np.ascontiguousarray(planes.T).view(np.int64).reshape(4, N_HOST_FIELDS, -1)
