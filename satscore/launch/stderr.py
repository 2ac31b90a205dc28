"""The wrapper's own voice: single lines on standard error that can never fail.

Straight to the descriptor, so that a full or closed stderr is met here and not by the interpreter's
flush at exit, which would turn into status 120.
"""

import os

STDERR_FD = 2


def say(text: str) -> None:
    """Write one message to standard error; a failure to write is nobody's failure."""
    data = (text + "\n").encode("utf-8", "backslashreplace")
    while data:
        try:
            data = data[os.write(STDERR_FD, data) :]
        except OSError:
            return
