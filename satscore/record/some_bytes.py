"""Bytes that are read in pieces: of a file, or of what has come by another way."""

import os
import zlib
from pathlib import Path

from satscore.core.int_columns import DAMAGED_HINT
from satscore.errors import RecordError

MOST_UNPACKED_BYTES = 64 << 20
"""A thousand times what a rank has."""


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


def packed(data: bytes) -> bytes:
    """Return bytes small, for memory and the network: the collector of a large job keeps those of 10,000 ranks."""
    return zlib.compress(data, zlib.Z_BEST_SPEED)


class PackedBytes:
    """Packed bytes in memory, read in the same way.

    Args:
        data: What ``packed`` made.
        where: What messages call them.

    Attributes:
        size: Bytes in all, unpacked.

    Raises:
        RecordError: They are damaged, or far too many.
    """

    def __init__(self, data: bytes, where: Path) -> None:
        inflater = zlib.decompressobj()
        try:
            self._data = inflater.decompress(data, MOST_UNPACKED_BYTES)
        except zlib.error as error:
            raise RecordError(f"{where}: not a file of sums, packed: {error}", hint=DAMAGED_HINT) from error
        if not inflater.eof:
            raise RecordError(f"{where}: cut off, or far too large", hint=DAMAGED_HINT)
        self.size = len(self._data)

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes from an offset on, fewer at the end."""
        return self._data[offset : offset + size]

    def close(self) -> None:
        """Nothing is open."""
