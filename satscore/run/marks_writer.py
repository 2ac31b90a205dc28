"""Keeping a rank's file of marks over times in which the disk takes nothing."""

import os
from pathlib import Path

from satscore.record.marks_file import append_marks

WAITING_MAX_BYTES = 1 << 20
"""What the disk refused is kept in memory up to this size: some 10,000 marks."""


class MarksWriter:
    """Appends to the file of a rank; what was refused is tried again with what comes next.

    Args:
        path: The file, made with the first lines.
    """

    def __init__(self, path: Path) -> None:
        self.is_whole = True
        """False once lines are lost for good."""
        self._path = path
        self._waiting = b""

    def append(self, lines: bytes) -> None:
        """Write lines, and before them those that wait.

        Args:
            lines: Whole ones; none: only those that wait.

        Raises:
            OSError: The file system refuses; the file is as before, and the lines wait.
        """
        self._waiting += lines
        size: int | None = None
        try:
            size = self._size()
            append_marks(self._path, self._waiting)
        except OSError:
            if len(self._waiting) > WAITING_MAX_BYTES or not (size is None or self._cut(size)):
                self.is_whole, self._waiting = False, b""
            raise
        self._waiting = b""

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def _cut(self, size: int) -> bool:
        """Take back what was written of refused lines; return False if it may still be there.

        Written once more, they would count twice.
        """
        try:
            os.truncate(self._path, size)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True
