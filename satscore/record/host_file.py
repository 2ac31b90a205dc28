"""The recording of the host: an Arrow IPC stream beside that of the GPUs, one row per reading."""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import nanoarrow as na
import numpy as np

from satscore.core.host import HOST_FIELDS, HostInfo, HostReading
from satscore.core.readings import IntArray
from satscore.errors import RecordError
from satscore.record.arrow_file import ArrowFile, ArrowWriter, rewrite
from satscore.record.run_file import decode_checked

HOST_KEY = b"satscore_host"
"""Not the key of a recording of GPUs: neither file is ever taken for the other."""
HOST_PATTERN = "host-*.arrows"
_HINT = "name a recording of the host by satscore (host-*.arrows)"
_LONGEST_NS = 10**17
"""Three years: times further apart are no times."""
_TIMES = ("start_ns", "end_ns")


class HostHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a recording of the host is about; stored in the Arrow schema's metadata.

    ``format_version`` is that of all files of a run (run_file.FORMAT_VERSION); ``grid_offset_ns`` is wall
    time minus the axis of the readings' times.
    """

    format_version: int
    hostname: str
    rank: int
    grid_offset_ns: int
    info: HostInfo


def host_file_name(hostname: str, rank: int) -> str:
    """Return the name of a rank's recording of its host."""
    return f"host-{hostname}-{rank}.arrows"


class HostWriter:
    """Appends readings of the host to a new recording.

    Args:
        path: File to create; it must not exist.
        header: What the recording is about.

    Raises:
        OSError: The file cannot be created.
    """

    def __init__(self, path: Path, header: HostHeader) -> None:
        self._file = ArrowWriter(path, _schema(header))

    @property
    def bytes_written(self) -> int:
        """Size of the file."""
        return self._file.bytes_written

    def append(self, readings: Sequence[HostReading]) -> None:
        """Write readings as one batch.

        Raises:
            OSError: The disk is full or gone; the file then ends with the last whole batch, and
                nothing more can be appended.
        """
        self._file.append_columns(_columns(readings) if readings else [], len(readings))

    def close(self) -> None:
        """Write the end marker and close the file.

        Raises:
            OSError: The disk is full or gone; what was written stays readable.
        """
        self._file.close()


def _columns(readings: Sequence[HostReading]) -> list[object]:
    times: list[object] = [na.c_array(np.array([getattr(r, name) for r in readings], np.int64)) for name in _TIMES]
    values = np.array([reading.values for reading in readings], dtype=np.float32)
    return [*times, *(na.c_array(np.ascontiguousarray(column)) for column in values.T)]


class HostRecording(ArrowFile):
    """A recording of the host opened for reading.

    Args:
        path: The file.

    Raises:
        RecordError: It cannot be opened, holds no whole batch, or was not written by satscore.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, HOST_KEY, "recording of the host", _HINT)
        self.header = decode_checked(self.header_json, HostHeader, f"{path} (header)")
        types = {column.name: column.type for column in self.schema.fields}
        wanted = dict.fromkeys(_TIMES, na.Type.INT64)
        wanted |= {field.name: na.Type.FLOAT for field in HOST_FIELDS if field.name in types}
        wrong = [name for name, kind in wanted.items() if types.get(name) != kind]
        if wrong:
            hint = "the file was rewritten by another program, or damaged"
            raise RecordError(f"{path}: column '{wrong[0]}' is missing or of another type", hint=hint)
        self._names = [field.name for field in HOST_FIELDS if field.name in types]

    def batches(self) -> Iterator[list[HostReading]]:
        """Yield the readings of every whole batch; a part at the end is left out and ``cut_off`` set.

        Fields of other versions are ignored, and those that this file lacks are unknown.

        Raises:
            RecordError: Times that no run could have.
        """
        last_ns: int | None = None
        for start, end, rows in self.decoded(self._rows):
            n = len(start)
            if n and last_ns is None:
                last_ns = int(start[0])
            if n and not _is_in_order(start, end, last_ns or 0):
                raise RecordError(f"{self.path}: times that are not in order", hint="the file was damaged")
            last_ns = int(end[-1]) if n else last_ns
            each = zip(start.tolist(), end.tolist(), rows, strict=True)
            yield [HostReading(start_ns, end_ns, row) for start_ns, end_ns, row in each]

    def _rows(self, columns: dict[str, Any], n: int) -> tuple[IntArray, IntArray, list[list[float]]]:
        """Return starts and ends of a batch in ns, and the values of each reading."""
        start, end = (np.asarray(columns[name].buffer(1), dtype=np.int64) for name in _TIMES)
        known = {name: np.asarray(columns[name].buffer(1), dtype=np.float64).tolist() for name in self._names}
        unknown = [math.nan] * n
        rows = zip(*(known.get(field.name, unknown) for field in HOST_FIELDS), strict=True)
        return start, end, [list(row) for row in rows]


def repair_host(recording: HostRecording) -> None:
    """Rewrite a cut-off recording as its valid prefix, so that any Arrow reader opens it; not while it is live.

    Raises:
        OSError: The directory cannot be written; the recording is left as it was.
    """
    rewrite(recording.path, lambda path: HostWriter(path, recording.header), recording.batches())


def _is_in_order(start: IntArray, end: IntArray, last_ns: int) -> bool:
    times = np.concatenate([[last_ns], np.stack([start, end], axis=1).reshape(-1)]).tolist()
    return all(0 <= later - earlier <= _LONGEST_NS for earlier, later in itertools.pairwise(times))


def _schema(header: HostHeader) -> na.Schema:
    columns = {name: na.Schema(na.int64(), nullable=False, metadata={"unit": "ns"}) for name in _TIMES}
    for field in HOST_FIELDS:
        metadata = {"unit": field.unit, "kind": field.kind.value, "meaning": field.meaning}
        columns[field.name] = na.Schema(na.float32(), nullable=False, metadata=metadata)
    metadata = {HOST_KEY.decode(): msgspec.json.encode(header).decode()}
    return na.Schema(na.Type.STRUCT, fields=columns, nullable=False, metadata=metadata)
