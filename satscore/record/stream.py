"""The recording of readings: an Arrow IPC stream, one row per reading, written batch by batch.

Every whole batch on disk is readable whatever happens afterwards: a batch is made in memory and
written at once, and a write that fails half-way is cut off again.
"""

import contextlib
import fcntl
import io
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import nanoarrow as na
import numpy as np
from nanoarrow import ipc

from satscore.core.fields import FIELDS, INDEX, N_FIELDS, Quality
from satscore.core.readings import ReadingTable
from satscore.core.units import NS_PER_S
from satscore.errors import RecordError
from satscore.record.files import FILE_MODE
from satscore.record.run_file import StreamHeader, decode_checked

_CONTINUATION = b"\xff\xff\xff\xff"
"""What every message of an Arrow IPC stream begins with."""
HEADER_KEY = b"satscore"
NOT_OURS_HINT = "name a recording of satscore (readings-*.arrows) or its run directory"
QUALITY_NAMES = ", ".join(f"{int(q)}={q.name.lower()}" for q in Quality)


def _schema(header: StreamHeader) -> na.Schema:
    columns = {
        "gpu": na.Schema(na.uint16(), nullable=False),
        "start_ns": na.Schema(na.int64(), nullable=False, metadata={"unit": "ns"}),
        "end_ns": na.Schema(na.int64(), nullable=False, metadata={"unit": "ns"}),
    }
    for field in FIELDS:
        metadata = {"unit": field.unit, "kind": field.kind.value, "meaning": field.meaning}
        columns[field.name] = na.Schema(na.float32(), nullable=False, metadata=metadata)
    columns["quality"] = na.Schema(
        na.fixed_size_binary(N_FIELDS), nullable=False, metadata={"one byte per field": QUALITY_NAMES}
    )
    metadata = {HEADER_KEY.decode(): msgspec.json.encode(header).decode()}
    return na.Schema(na.Type.STRUCT, fields=columns, nullable=False, metadata=metadata)


def _begins_as_a_stream(path: Path) -> bool:
    """Return whether a file begins with the mark of an Arrow message."""
    with path.open("rb") as file:
        return file.read(len(_CONTINUATION)) == _CONTINUATION


def _wrong_column(schema: na.Schema, header: StreamHeader) -> str | None:
    """Return the first column that cannot be read; counters may be missing or unknown (other versions)."""
    columns = {field.name: field for field in schema.fields}
    types = {"gpu": na.Type.UINT16, "start_ns": na.Type.INT64, "end_ns": na.Type.INT64}
    types |= {field.name: na.Type.FLOAT for field in FIELDS if field.name in columns}
    wrong = [name for name, kind in types.items() if name not in columns or columns[name].type != kind]
    quality = columns.get("quality")
    if quality is None or quality.type != na.Type.FIXED_SIZE_BINARY or quality.byte_width != len(header.fields):
        wrong.append("quality")
    return wrong[0] if wrong else None


def _batch(table: ReadingTable, schema: na.Schema) -> object:
    n = len(table)
    values = table.values.astype(np.float32)
    children = [
        na.c_array(table.gpu.astype(np.uint16)),
        na.c_array(np.ascontiguousarray(table.start_ns)),
        na.c_array(np.ascontiguousarray(table.end_ns)),
        *(na.c_array(np.ascontiguousarray(values[:, i])) for i in range(N_FIELDS)),
        na.c_array_from_buffers(
            na.fixed_size_binary(N_FIELDS), n, [None, np.ascontiguousarray(table.quality).tobytes()], null_count=0
        ),
    ]
    return na.c_array_from_buffers(schema, length=n, buffers=[None], children=children)


class StreamWriter:
    """Appends readings to a new recording.

    Args:
        path: File to create; it must not exist.
        header: What the recording is about.

    Raises:
        OSError: The file cannot be created.
    """

    def __init__(self, path: Path, header: StreamHeader) -> None:
        self.path = path
        self.bytes_written = 0
        self._schema = _schema(header)
        self._buffer = io.BytesIO()
        self._writer = ipc.StreamWriter.from_writable(self._buffer)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        with contextlib.suppress(OSError):  # not every file system has locks; see Recording.is_live
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def append(self, table: ReadingTable) -> None:
        """Write readings as one batch.

        Raises:
            OSError: The disk is full or gone; the file then ends with the last whole batch, and
                nothing more can be appended.
        """
        if self._fd < 0:
            raise OSError(f"{self.path}: the recording has ended")
        if len(table):
            self._writer.write_array(_batch(table, self._schema))
            self._flush()

    def close(self) -> None:
        """Write the end marker and close the file.

        Raises:
            OSError: The disk is full or gone; what was written stays readable.
        """
        if self._fd < 0:
            return
        try:
            if self.bytes_written:
                self._writer.close()
                self._flush()
        finally:
            self._close_file()

    def _flush(self) -> None:
        data = memoryview(self._buffer.getvalue())
        self._buffer.seek(0)
        self._buffer.truncate()
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError:
            os.ftruncate(self._fd, self.bytes_written)
            self._close_file()
            raise
        self.bytes_written += written

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Recording:
    """A recording opened for reading.

    Args:
        path: The file.

    Raises:
        RecordError: It cannot be opened, holds no whole batch, or was not written by satscore.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut_off = False
        """Set once ``batches`` has met a part of a batch at the end of the file."""
        self.header = self._header()
        fields = self.header.fields
        self._theirs = [i for i, name in enumerate(fields) if name in INDEX and name in self._names]
        self._ours = [INDEX[fields[i]] for i in self._theirs]
        self._columns = [self._names.index(fields[i]) for i in self._theirs]

    def is_live(self) -> bool | None:
        """Return whether somebody still writes the recording; None where the file system cannot tell."""
        try:
            with self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return None
        return False

    def age_s(self) -> float:
        """Return how long ago the file was last written, in s of wall time; 0 if that is unknown."""
        try:
            return (time.time_ns() - self.path.stat().st_mtime_ns) / NS_PER_S
        except OSError:
            return 0.0

    def _stream(self) -> na.ArrayStream:
        return na.ArrayStream.from_path(str(self.path))

    def _header(self) -> StreamHeader:
        try:
            status = self.path.stat()
            if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
                raise RecordError(f"{self.path}: not a file", hint=NOT_OURS_HINT)
            if status.st_size == 0:
                raise RecordError(f"{self.path}: empty: the run ended before its first readings were written")
            schema = self._stream().schema
            metadata = dict((schema.metadata or {}).items())
            self._names = [field.name for field in schema.fields]
        except OSError as error:
            raise RecordError(f"{self.path}: {error.strerror or error}", hint=NOT_OURS_HINT) from error
        except (ValueError, RuntimeError) as error:
            if _begins_as_a_stream(self.path):
                raise RecordError(f"{self.path}: cut off inside its header: no reading is left") from error
            raise RecordError(f"{self.path}: not an Arrow stream: {error}", hint=NOT_OURS_HINT) from error
        if HEADER_KEY not in metadata:
            raise RecordError(f"{self.path}: an Arrow stream, but not a recording of satscore", hint=NOT_OURS_HINT)
        header = decode_checked(metadata[HEADER_KEY], StreamHeader, f"{self.path} (header)")
        wrong = _wrong_column(schema, header)
        if wrong:
            hint = "the file was rewritten by another program, or damaged"
            raise RecordError(f"{self.path}: column '{wrong}' is missing or of another type", hint=hint)
        return header

    def batches(self) -> Iterator[ReadingTable]:
        """Yield the readings of every whole batch; a part at the end is left out and ``cut_off`` set."""
        stream = iter(na.c_array_stream(self._stream()))
        while True:
            try:
                array = next(stream)
            except StopIteration:
                return
            except (ValueError, RuntimeError, OSError):
                self.cut_off = True
                return
            yield self._table(array.view())

    def _table(self, batch: object) -> ReadingTable:
        """Return one batch as a table; columns are found by name, unknown ones are ignored."""
        buffers = [child.buffer(1) for child in batch.children]  # type: ignore[attr-defined]
        named = dict(zip(self._names, buffers, strict=True))
        n = batch.length  # type: ignore[attr-defined]
        values = np.full((n, N_FIELDS), np.nan, order="F")
        quality = np.full((n, N_FIELDS), int(Quality.NOT_READ), dtype=np.uint8)
        if self._columns:  # all of them by one call: a batch has some 100 rows, a day of four GPUs 17,280 batches
            joined = np.concatenate([buffers[i] for i in self._columns])
            values[:, self._ours] = joined.reshape(len(self._columns), n).T
        stored = np.frombuffer(named["quality"], dtype=np.uint8).reshape(n, len(self.header.fields))
        quality[:, self._ours] = np.minimum(stored[:, self._theirs], int(Quality.ERROR))  # later versions may know more
        return ReadingTable(
            gpu=np.asarray(named["gpu"]).astype(np.int64),
            start_ns=np.asarray(named["start_ns"]).astype(np.int64),
            end_ns=np.asarray(named["end_ns"]).astype(np.int64),
            values=values,
            quality=quality,
        )


def repair(recording: Recording) -> None:
    """Rewrite a cut-off recording as its valid prefix, so that any Arrow reader opens it.

    Not to be called while it is live: the writer would go on in the replaced file.

    Raises:
        OSError: The directory cannot be written; the recording is left as it was.
    """
    whole = recording.path.with_name(f".{recording.path.name}.{os.getpid()}.tmp")
    whole.unlink(missing_ok=True)
    writer = StreamWriter(whole, recording.header)
    try:
        for table in recording.batches():
            writer.append(table)
    finally:
        writer.close()
    whole.replace(recording.path)
