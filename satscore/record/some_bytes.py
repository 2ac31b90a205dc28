"""Bytes that are read in pieces: of a file, or of what has come by another way."""

import os
from pathlib import Path

from satscore.errors import RecordError


class FileBytes:
    """The bytes of a file that stays open: one that is replaced meanwhile goes on to be what it was.

    Args:
        path: The file.
        hint: What to name instead, if it is none.

    Attributes:
        size: Bytes in all.

    Raises:
        OSError: It cannot be opened.
        RecordError: It is no regular file.
    """

    def __init__(self, path: Path, hint: str) -> None:
        if not path.is_file():  # opening a pipe would wait for its writer
            raise RecordError(f"{path}: not a file", hint=hint)
        self._file = path.open("rb", buffering=0)
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes from an offset on, fewer at the end.

        Raises:
            OSError: The file system refuses.
        """
        return os.pread(self._file.fileno(), size, offset)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class MemoryBytes:
    """Bytes in memory, read in the same way.

    Args:
        data: All of them.

    Attributes:
        size: Bytes in all.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes from an offset on, fewer at the end."""
        return self._data[offset : offset + size]

    def close(self) -> None:
        """Nothing is open."""
