"""What a rank's own threads and its fleet thread share: one lock, no sockets."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from satscore.fleet.outbox import Outbox
from satscore.fleet.wire import LiveRank

MOST_LINES = 32
_LOOK_S = 0.02
"""How soon a wait notices that there is a hurry."""


class Wakeup:
    """A descriptor that becomes readable when another thread has something to say."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._is_open = True

    def set(self) -> None:
        """Make it readable."""
        with self._lock:
            if self._is_open:
                os.eventfd_write(self.descriptor, 1)

    def clear(self) -> None:
        """Make it unreadable."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.descriptor)

    def close(self) -> None:
        """Give the descriptor back."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                os.close(self.descriptor)


class Notes:
    """Lines for the user, each once, in the order in which they came up; beyond MOST_LINES they are only counted."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}
        self._more_count = 0
        self._lock = threading.Lock()

    def add(self, line: str) -> None:
        """Add a line."""
        with self._lock:
            if line in self._lines:
                return
            if len(self._lines) < MOST_LINES:
                self._lines[line] = None
            else:
                self._more_count += 1

    def lines(self) -> list[str]:
        """Return them all."""
        with self._lock:
            more = [f"... and {self._more_count} more of this kind"] if self._more_count else []
            return [*self._lines, *more]


class Shared:
    """The state of a member; it is changed within ``with shared.changing()``.

    Args:
        rank: Of this process.
        run_id: Of this start of it.
    """

    def __init__(self, rank: int, run_id: str) -> None:
        self.wakeup = Wakeup()
        self.notes = Notes()
        self.outbox = Outbox(rank, run_id)
        self.row: LiveRank | None = None
        """Not passed on yet."""
        self.offset_ns: int | None = None
        self.contact_s: float | None = None
        """When the collector's last word was, time.monotonic; None: there was none."""
        self.others_wait = False
        """This is the leader, and another rank's final part has not been acknowledged."""
        self.has_way = False
        """What is sent now gets to the collector."""
        self.is_finishing = False
        self.is_closing = False
        self.has_left = False
        """The fleet thread has ended."""
        self._condition = threading.Condition()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Have the state for oneself; who waits for a change looks again afterwards."""
        with self._condition:
            yield
            self._condition.notify_all()

    def wait_until(self, done: Callable[[], bool], deadline_s: float, hurry: threading.Event) -> bool:
        """Wait until something is so; return whether it is.

        Args:
            done: Looked at under the lock.
            deadline_s: time.monotonic; not longer than until then.
            hurry: Ends the wait.
        """
        with self._condition:
            while not done():
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or hurry.is_set():
                    return False
                self._condition.wait(min(left_s, _LOOK_S))
            return True
