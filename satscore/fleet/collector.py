"""The collector beside rank 0: takes what all ranks send and keeps the latest of each."""

import socket
import threading
import time

import msgspec

from satscore.fleet.collector_thread import CollectorThread, Post
from satscore.fleet.keys import job_keys
from satscore.fleet.ledger import Collected, Ledger
from satscore.fleet.shared import Notes
from satscore.fleet.wire import LiveRank, Part, Rows
from satscore.record.meeting import Meeting

__all__ = ["Collected", "Collector"]

_LOOK_S = 0.02
"""How soon a wait notices that there is a hurry."""


class Collector:
    """Listens for the leaders of the nodes, in a thread.

    Nothing here raises or blocks, unless a method says so; what fails becomes a note. No process may be forked
    between ``start`` and ``close``; one may be spawned.

    Args:
        meeting: Where the job meets; its secret is that of the key file where the user named one.
        world: Ranks of the job.
        listen: HOST:PORT at which the others were told to find it; None: any port, told in the run directory.
    """

    def __init__(self, meeting: Meeting, world: int, listen: str | None = None) -> None:
        self._meeting = meeting
        self._world = world
        self._listen = listen
        self._notes = Notes()
        self._ledger = Ledger(world, self._notes)
        self._thread: CollectorThread | None = None

    def start(self) -> None:
        """Begin to listen, in a thread; returns at once."""
        try:
            post = Post(
                directory=self._meeting.directory,
                hostname=socket.gethostname(),
                keys=job_keys(self._meeting),
                listen=self._listen,
                world=self._world,
            )
            thread = CollectorThread(post, self._ledger, self._notes)
            thread.start()
            self._thread = thread
        except Exception as error:  # noqa: BLE001 - no thread, no descriptor, no key: the ranks have their files
            self._notes.add(f"the other ranks cannot be met ({type(error).__name__}: {error})")

    def tell(self, row: LiveRank) -> None:
        """Say how rank 0 is doing now."""
        self._ledger.take_rows(Rows(hostname=row.hostname, rows=[row], offset_ns=0), time.monotonic())

    def take(self, part: Part) -> None:
        """Take a part of rank 0 itself: numbered, and counted once, as all others."""
        self._ledger.take(part, time.monotonic())

    def wait(self, deadline_monotonic_s: float, hurry: threading.Event) -> None:
        """Wait until all ranks have delivered their final parts; not where nothing can come any more.

        Args:
            deadline_monotonic_s: No longer than until then (time.monotonic).
            hurry: Set, also while waiting: return soon.
        """
        thread = self._thread
        while not hurry.is_set() and (left_s := deadline_monotonic_s - time.monotonic()) > 0:
            if thread is None or not thread.goes_on or self._ledger.wait(min(left_s, _LOOK_S)):
                return

    def collected(self) -> Collected:
        """Return what is there now; it costs a copy of the series."""
        collected = self._ledger.collected(time.monotonic())
        counts = self._thread.notes() if self._thread is not None else []
        return msgspec.structs.replace(collected, notes=[*collected.notes, *counts])

    def close(self) -> None:
        """Stop listening, within 0.2 s; what was collected stays readable."""
        if self._thread is not None:
            self._thread.stop()
