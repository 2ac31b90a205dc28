"""What a rank has to do with the others of its job: where they meet, what it tells, what it hears.

A rank alone has nothing to do here; whatever fails here is a note, and the rank goes on alone.
"""

import contextlib
import dataclasses
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from satscore.errors import SatscoreError
from satscore.launch.request import Identity, RunOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from satscore.fleet.collector import Collected, Collector
    from satscore.fleet.member import Member
    from satscore.fleet.wire import LiveRank, Part
    from satscore.record.meeting import Meeting

COVERED_S = 150.0
"""So long after the collector's last word a rank keeps its own sums again."""
LAST_WORD_S = 10.0
"""A collector that has been silent for so long is not waited for at the end."""
LINGER_S = 1.0
"""So long a rank stays until rank 0 has summed up; that one may go on with its command for hours."""
YOUNG_S = 20.0
"""A collector that has not been found for so long is not there."""
HURRIED_S = 0.6
"""Of the time at the end that is kept for other work than waiting for ranks."""
PER_RANK_S = 0.003
FULL_RANKS = 64
"""Jobs of up to so many ranks keep every reading, unless the user says otherwise, and look at the host from each."""


class Crew:
    """The other ranks, as this one sees them.

    Args:
        identity: Which rank this is.
        options: What the user asked for.
    """

    def __init__(self, identity: Identity, options: RunOptions) -> None:
        self.identity = identity
        self.hostname = socket.gethostname()
        self.meeting: Meeting | None = None
        """Where the ranks meet; None: not there yet, or nowhere."""
        self._options = options
        self._run_id = f"{os.getpid()}-{time.time_ns()}"
        self._member: Member | None = None
        self._collector: Collector | None = None
        self._notes = list(identity.notes)
        self._lock = threading.Lock()
        self._closed = False
        self._sent = 0
        self._waiting: Part | None = None
        self._met_s: float | None = None
        """When this rank began to look for the others, s of CLOCK_MONOTONIC."""

    @property
    def run_id(self) -> str:
        """Of this start of the rank; another one has another."""
        return self._run_id

    @property
    def is_alone(self) -> bool:
        """Whether there are no others, or none that could be found."""
        return self.identity.world <= 1 or self.identity.key is None

    @property
    def leads(self) -> bool:
        """Whether this rank speaks for the job."""
        return self.identity.rank == 0

    def enter(self, wanted: Path) -> Path:
        """Make the job's run directory or join it, and meet the others there; waits for the disk only.

        Raises:
            OSError: The file system refuses.
            RecordError: What lies there is not ours to use.
        """
        from satscore.record.meeting import Meeting, enter  # noqa: PLC0415 - only in jobs

        assert self.identity.key is not None
        if self.meeting is not None:
            return self.meeting.directory
        key, rank = self.identity.key, self.identity.rank
        try:
            self.meeting = enter(wanted, key, hostname=self.hostname, rank=rank, now_ns=time.time_ns())
        except (OSError, SatscoreError):
            if self._options.collector and self._options.collector_key:  # then they meet without a directory
                self._meet(Meeting(directory=wanted, key=key, secret=b"", begun_ns=0, file=wanted))
            raise
        self._meet(self.meeting)
        return self.meeting.directory

    def try_to_enter(self, wanted: Path) -> None:
        """Enter, or leave it to whoever needs the directory to say what is in the way."""
        with contextlib.suppress(OSError, SatscoreError):
            self.enter(wanted)

    def begun_ns(self) -> int | None:
        """Return the wall time at which the job began, as its ranks agreed; None: they did not."""
        return None if self.meeting is None else self.meeting.begun_ns

    def _meet(self, meeting: "Meeting") -> None:
        """Begin to look for the others, once."""
        if not self.is_alone and self._met_s is None:
            self._met_s = time.monotonic()
            self._guarded(lambda: self._join(meeting))

    def _join(self, meeting: "Meeting") -> None:
        from satscore.fleet.collector import Collector  # noqa: PLC0415 - ZeroMQ
        from satscore.fleet.member import Member  # noqa: PLC0415

        identity, options = self.identity, self._options
        if options.collector_key:
            from satscore.fleet.keys import read_key_file  # noqa: PLC0415

            meeting = dataclasses.replace(meeting, secret=read_key_file(Path(options.collector_key)))
        with self._lock:
            if self._closed:
                return
            if self.leads:
                self._collector = Collector(meeting, identity.world, listen=options.collector)
                self._collector.start()
                return
            self._member = Member(
                meeting,
                rank=identity.rank,
                world=identity.world,
                hostname=self.hostname,
                run_id=self._run_id,
                collector=options.collector,
            )
            self._member.start()
            if self._waiting is not None:
                self._member.send(self._waiting)

    def tell(self, live: "LiveRank") -> None:
        """Tell how the rank is doing."""
        teller = self._collector or self._member
        if teller is not None:
            teller.tell(live)

    @property
    def is_ready(self) -> bool:
        """Whether the last part has arrived, so that the next one may be made."""
        return self._member is not None and self._member.acknowledged >= self._sent

    @property
    def reads_host(self) -> bool:
        """Whether this rank looks at its host: in large jobs one rank of a node does."""
        return self.identity.world <= FULL_RANKS or not self.identity.local_rank

    def send(self, part: "Part") -> None:
        """Send a part; it is kept until it has arrived."""
        with self._lock:
            self._sent = part.number
            if self._member is None:
                self._waiting = part  # of a short run: the disk has not answered yet
            else:
                self._member.send(part)

    @property
    def covers(self) -> bool:
        """Whether the collector has what this rank knows, but for the last minutes."""
        heard_s = self._member.last_contact_s if self._member else None
        return heard_s is not None and heard_s < COVERED_S

    def offset_ns(self) -> int | None:
        """Return the collector's wall clock minus this host's; None: not known."""
        return self._member.offset_ns if self._member else None

    def deliver(self, until_s: float, hurry: threading.Event) -> bool:
        """Wait until the last part has arrived, if somebody is there to take it; return whether it has.

        Of a short run the collector may only just begin to listen.

        Args:
            until_s: Not beyond this time, s of CLOCK_MONOTONIC.
            hurry: Ends the waiting.
        """
        member = self._member
        heard_s = member.last_contact_s if member else None
        is_young = self._met_s is not None and time.monotonic() - self._met_s < YOUNG_S
        if member is None or (not is_young if heard_s is None else heard_s > LAST_WORD_S):
            return False
        is_delivered = member.finish(until_s, hurry)
        if is_delivered:  # launchers end the other ranks once one has left, and rank 0 has yet to speak
            member.linger(min(until_s, time.monotonic() + LINGER_S), hurry)
        return is_delivered

    def gather(self, part: "Part", until_s: float, hurry: threading.Event) -> "Collected | None":
        """Wait for the last parts of all ranks; return what came, or None where nobody collects.

        Args:
            part: This rank's own.
            until_s: Not beyond this time, s of CLOCK_MONOTONIC.
            hurry: Ends the waiting.
        """
        if self._collector is None:
            return None
        self._collector.take(part)
        self._collector.wait(until_s, hurry)
        return self._collector.collected()

    def waits_until_s(self, ended_ns: int, exit_wait_s: float) -> float:
        """Return until when others may be waited for, s of CLOCK_MONOTONIC; the rest is for making the summary."""
        kept_s = min(0.5 * exit_wait_s, HURRIED_S + PER_RANK_S * self.identity.world)
        return ended_ns / 1e9 + exit_wait_s - kept_s

    def notes(self) -> list[str]:
        """Return what did not work between the ranks, once each."""
        return [*self._notes, *(self._member.notes() if self._member else [])]

    def close(self) -> None:
        """Leave; nobody is waited for."""
        with self._lock:
            self._closed = True
        for one in (self._member, self._collector):
            if one is not None:
                self._guarded(one.close)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except SatscoreError as error:
            self._notes.append(f"the ranks could not meet: {error.message}; {error.hint}")
        except Exception as error:  # noqa: BLE001 - the rank goes on alone
            self._notes.append(
                f"the ranks do not know of each other ({type(error).__name__}: {error}); satscore report joins them"
            )
