"""A rank's side of the fleet: tells how it is doing, delivers its parts, knows the collector's clock."""

import threading
import time

from satscore.fleet.keys import job_keys, leader_endpoint
from satscore.fleet.member_thread import MemberThread, Place
from satscore.fleet.shared import Shared
from satscore.fleet.wire import MOST_BYTES, LiveRank, Part
from satscore.record.meeting import Meeting

SEARCH_S = 5.0
"""A collector that is not found within this time is worth a note; shorter runs just end before."""
LEADER_STAYS_S = 0.5
"""So much longer a leader whose own part has arrived stays for the ranks of its node: they end together, and
each change of the leader costs the collector a handshake."""


class Member:
    """A rank but rank 0, which has the Collector in its process and tells that directly.

    Nothing here raises or blocks, unless a method says so; what fails becomes a note. No process may be forked
    between ``start`` and ``close``; one may be spawned.

    Args:
        meeting: Where the job meets; its secret is that of the key file where the user named one.
        rank: Of this process.
        world: Ranks of the job.
        hostname: Of this node: its members share a leader.
        run_id: Of this start of the rank.
        collector: HOST:PORT where the user said it; None: it is found in the run directory.

    Raises:
        OSError: There is no descriptor left (by the constructor only).
    """

    def __init__(
        self, meeting: Meeting, *, rank: int, world: int, hostname: str, run_id: str, collector: str | None = None
    ) -> None:
        self._meeting = meeting
        self._hostname = hostname
        self._collector = collector
        self._world = world
        self._shared = Shared(rank, run_id)
        self._began_s = time.monotonic()
        self._thread: MemberThread | None = None

    @property
    def acknowledged(self) -> int:
        """Number of the last part that the collector has; 0: none."""
        return self._shared.outbox.acknowledged

    @property
    def offset_ns(self) -> int | None:
        """The collector's wall clock minus ours, ns; None: not known (yet)."""
        return self._shared.offset_ns

    @property
    def last_contact_s(self) -> float | None:
        """Age of the last sign of life of the collector, s; None: there was none."""
        contact_s = self._shared.contact_s
        return None if contact_s is None else max(0.0, time.monotonic() - contact_s)

    def start(self) -> None:
        """Begin to look for the others, in a thread; returns at once."""
        try:
            place = Place(
                hostname=self._hostname,
                keys=job_keys(self._meeting),
                leader=leader_endpoint(self._meeting, self._hostname),
                directory=self._meeting.directory,
                collector=self._collector,
                world=self._world,
            )
            self._thread = MemberThread(place, self._shared)
            self._thread.start()
        except Exception as error:  # noqa: BLE001 - no thread, no descriptor, no key: the rank goes on alone
            self._thread = None
            self._shared.has_left = True
            self._shared.notes.add(f"the other ranks cannot be met ({type(error).__name__}: {error})")

    def tell(self, row: LiveRank) -> None:
        """Say how this rank is doing now; a later row replaces one that was not passed on yet."""
        with self._shared.changing():
            self._shared.row = row

    def send(self, part: Part) -> None:
        """Deliver a part: it is kept, and sent as often as needed, until it is acknowledged.

        Parts are numbered from 1 on without gaps. The next one is sent when the last one was acknowledged; the
        final one may be sent before that.
        """
        with self._shared.changing():
            if not self._shared.outbox.put(part):
                self._shared.notes.add(
                    f"rank {part.rank}: its part {part.number} is larger than the {MOST_BYTES >> 20} MiB that can be"
                    " sent: satscore report reads it from the files"
                )
        self._shared.wakeup.set()

    def finish(self, deadline_monotonic_s: float, hurry: threading.Event) -> bool:
        """Wait until the final part is acknowledged; return whether it was.

        The leader of a node stays up to LEADER_STAYS_S longer for the ranks whose parts go through it.

        Args:
            deadline_monotonic_s: No longer than until then (time.monotonic).
            hurry: Set, also while waiting: return soon.
        """
        shared = self._shared
        with shared.changing():
            shared.is_finishing = True
        shared.wakeup.set()
        shared.wait_until(
            lambda: shared.outbox.is_finished or shared.outbox.is_refused or shared.has_left,
            deadline_monotonic_s,
            hurry,
        )
        if shared.outbox.is_finished:
            stays_until_s = min(deadline_monotonic_s, time.monotonic() + LEADER_STAYS_S)
            shared.wait_until(lambda: not shared.others_wait or shared.has_left, stays_until_s, hurry)
        return shared.outbox.is_finished

    def linger(self, deadline_monotonic_s: float, hurry: threading.Event) -> None:
        """Wait until the collector has gone: it stays until it has said what there is to say.

        Args:
            deadline_monotonic_s: No longer than until then (time.monotonic).
            hurry: Set, also while waiting: return soon.
        """
        shared = self._shared
        shared.wait_until(lambda: not shared.has_way or shared.has_left, deadline_monotonic_s, hurry)

    def notes(self) -> list[str]:
        """Return what a user should know of it: one line each."""
        lines = self._shared.notes.lines()
        has_searched = time.monotonic() - self._began_s >= SEARCH_S
        if self._thread is not None and self._shared.contact_s is None and has_searched and not lines:
            lines.append(f"no collector was found: {self._thread.search_reason}")
        return lines

    def close(self) -> None:
        """Leave, within 0.2 s; what was not delivered is lost."""
        with self._shared.changing():
            self._shared.is_closing = True
        self._shared.wakeup.set()
        if self._thread is not None:
            self._thread.join()
        else:
            self._shared.wakeup.close()
