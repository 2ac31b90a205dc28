"""An Arrow IPC stream on disk that any cut leaves readable: written batch by batch, with a header of ours.

Every whole batch on disk is readable whatever happens afterwards: a batch is made in memory and
written at once, and a write that fails half-way is cut off again.
"""

import contextlib
import fcntl
import io
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import nanoarrow as na
from nanoarrow import ipc

from satscore.core.units import NS_PER_S
from satscore.errors import RecordError
from satscore.record.files import FILE_MODE

_CONTINUATION = b"\xff\xff\xff\xff"
"""What every message of an Arrow IPC stream begins with."""
Batch_contra = TypeVar("Batch_contra", contravariant=True)
_Decoded = TypeVar("_Decoded")


class ArrowWriter:
    """Appends batches to a new file.

    Args:
        path: File to create; it must not exist.
        schema: Of every batch.

    Raises:
        OSError: The file cannot be created.
    """

    def __init__(self, path: Path, schema: na.Schema) -> None:
        self.path = path
        self.bytes_written = 0
        self.schema = schema
        self._buffer = io.BytesIO()
        self._writer = ipc.StreamWriter.from_writable(self._buffer)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        with contextlib.suppress(OSError):  # not every file system has locks; see ArrowFile.is_live
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def append_columns(self, columns: list[object], length: int) -> None:
        """Write one batch; without rows nothing.

        Args:
            columns: An array per column of the schema.
            length: Rows of each.

        Raises:
            OSError: The disk is full or gone; the file then ends with the last whole batch, and
                nothing more can be appended.
        """
        if self._fd < 0:
            raise OSError(f"{self.path}: the recording has ended")
        if length:
            self._writer.write_array(
                na.c_array_from_buffers(self.schema, length=length, buffers=[None], children=columns)
            )
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


class ArrowFile:
    """Such a file opened for reading.

    Args:
        path: The file.
        key: Under which key of the schema's metadata the header is.
        what: What the file should be, for messages: ``recording``.
        hint: What to name instead, if it is none.

    Attributes:
        schema: Of every batch.
        names: Of its columns.
        header_json: The header.
        cut_off: Set once ``arrays`` has met a part of a batch at the end of the file.

    Raises:
        RecordError: It cannot be opened, holds no whole batch, or was not written by satscore.
    """

    def __init__(self, path: Path, key: bytes, what: str, hint: str) -> None:
        self.path = path
        self.cut_off = False
        self.schema, self.names, metadata = self._read_schema(hint)
        if key not in metadata:
            raise RecordError(f"{path}: an Arrow stream, but not a {what} of satscore", hint=hint)
        self.header_json: bytes = metadata[key]

    def is_live(self) -> bool | None:
        """Return whether somebody still writes the file; None where the file system cannot tell."""
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

    def arrays(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield every whole batch as a view per column, by name, and its length; a part at the end is left out."""
        stream = iter(na.c_array_stream(self._stream()))
        while True:
            try:
                batch = next(stream).view()
            except StopIteration:
                return
            except (ValueError, RuntimeError, OSError):
                self.cut_off = True
                return
            yield dict(zip(self.names, batch.children, strict=True)), batch.length

    def decoded(self, decode: Callable[[dict[str, Any], int], _Decoded]) -> Iterator[_Decoded]:
        """Yield what ``decode`` makes of every whole batch, given as by ``arrays``.

        Raises:
            RecordError: A batch that cannot be decoded.
        """
        for columns, n in self.arrays():
            try:
                decoded = decode(columns, n)
            except (ValueError, IndexError, RuntimeError) as error:
                raise RecordError(
                    f"{self.path}: a batch cannot be read: {error}", hint="the file was damaged"
                ) from error
            yield decoded

    def _stream(self) -> na.ArrayStream:
        return na.ArrayStream.from_path(str(self.path))

    def _read_schema(self, hint: str) -> tuple[na.Schema, list[str], dict[bytes, bytes]]:
        try:
            status = self.path.stat()
            if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
                raise RecordError(f"{self.path}: not a file", hint=hint)
            if status.st_size == 0:
                raise RecordError(f"{self.path}: empty: the run ended before its first readings were written")
            schema = self._stream().schema
            names = [field.name for field in schema.fields]
            return schema, names, dict((schema.metadata or {}).items())
        except OSError as error:
            raise RecordError(f"{self.path}: {error.strerror or error}", hint=hint) from error
        except (ValueError, RuntimeError) as error:
            if _begins_as_a_stream(self.path):
                raise RecordError(f"{self.path}: cut off inside its header: no reading is left") from error
            raise RecordError(f"{self.path}: not an Arrow stream: {error}", hint=hint) from error


class Appender(Protocol[Batch_contra]):
    """Writes batches of one kind to a new file."""

    def append(self, batch: Batch_contra, /) -> None:
        """Write one."""
        ...

    def close(self) -> None:
        """End the file."""
        ...


def rewrite(path: Path, open_writer: Callable[[Path], Appender[Batch_contra]], batches: Iterable[Batch_contra]) -> None:
    """Replace a file by these batches, so that it is the old one or a whole new one.

    Args:
        path: The file.
        open_writer: Creates a new file of that kind.
        batches: Its whole content.

    Raises:
        OSError: The directory cannot be written; the file is left as it was.
    """
    whole = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    whole.unlink(missing_ok=True)
    writer = open_writer(whole)
    try:
        for batch in batches:
            writer.append(batch)
    finally:
        writer.close()
    whole.replace(path)


def _begins_as_a_stream(path: Path) -> bool:
    """Return whether a file begins with the mark of an Arrow message."""
    with path.open("rb") as file:
        return file.read(len(_CONTINUATION)) == _CONTINUATION
