"""Standard output of the subcommands: straight to the descriptor, so that a failure is met here; and its width.

The interpreter's own flush at exit would turn a full or closed output into status 120.
"""

import os
from pathlib import Path

from satscore.errors import RecordError, SatscoreError
from satscore.record.files import write_requested

_STDOUT_FD = 1
NO_TERMINAL_WIDTH = 100
LEAST_WIDTH = 40


def write_stdout(text: str) -> None:
    """Write all of a text; a reader that went away (``| head``) has what it wanted.

    Raises:
        SatscoreError: The output cannot be written (a full disk, a closed descriptor).
    """
    data = text.encode("utf-8", "backslashreplace")
    try:
        while data:
            data = data[os.write(_STDOUT_FD, data) :]
    except BrokenPipeError:
        return
    except OSError as error:
        raise SatscoreError(f"cannot write to standard output: {os.strerror(error.errno or 0)}") from error


def terminal_width(descriptor: int = _STDOUT_FD) -> int:
    """Return the columns of the terminal behind a descriptor; without one those of COLUMNS, or NO_TERMINAL_WIDTH.

    A launcher puts a pipe between its ranks and the terminal.
    """
    try:
        return os.get_terminal_size(descriptor).columns
    except OSError:
        stated = os.environ.get("COLUMNS", "")
        is_number = stated.isascii() and stated.isdecimal() and 0 < len(stated) < 5
        return max(LEAST_WIDTH, int(stated)) if is_number else NO_TERMINAL_WIDTH


def write_file(name: str, data: bytes) -> None:
    """Write a file that the user named.

    Raises:
        RecordError: It cannot be written.
    """
    try:
        write_requested(Path(name), data)
    except OSError as error:
        raise RecordError(f"cannot write {name}: {error.strerror}") from error
