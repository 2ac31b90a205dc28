"""What a rank tells the others of itself, and when: a row as often as it scores, a part a minute and at the end."""

import time
import zlib

from satscore.core.hosts import Hosts
from satscore.core.placement import NOTHING_KNOWN, Placement
from satscore.fleet.wire import Part
from satscore.record.run_file import RunEnd, RunFile, RunStart
from satscore.run.crew import Crew
from satscore.run.job_hosts import encode_hosts
from satscore.run.part_maker import PartMaker
from satscore.run.recorder import Recorder
from satscore.run.scored import ScoredRank

FIRST_PART_S = 5.0
PART_S = 60.0
"""A part a minute from every rank, spread over the minute; the first one sooner."""
MOST_HOST_ROWS = 1024
"""Of larger jobs the collector does not get the rows of the hosts: a day of them is 0.3 MB."""


class Telling:
    """Tells; whatever fails here costs what the others know, and a note.

    Args:
        crew: The other ranks.
        recorder: Of the rank's own files.
        start: What ran.
    """

    def __init__(self, crew: Crew, recorder: Recorder, start: RunStart) -> None:
        self.notes: list[str] = []
        """What could not be told."""
        self.crew = crew
        self._recorder = recorder
        self._start = start
        self._maker = PartMaker(crew.hostname, crew.identity.rank, crew.run_id)
        self._due_s: float | None = None

    def tell(self, scored: ScoredRank, placement: Placement | None) -> None:
        """Tell how the rank is doing, and once a minute all that it knows; hear by which clock its windows lie.

        Args:
            scored: This rank.
            placement: What is known of the command's GPUs.
        """
        if self.notes:
            return
        try:
            self.line_up(scored)
            self.crew.tell(scored.live(placement, has_ended=False))
            if self._is_due(time.monotonic()):
                self._recorder.placement = placement
                self.crew.send(self._part(self._recorder.content(self._start), scored, placement))
        except Exception as error:  # noqa: BLE001 - scoring and recording go on
            self._note(error)

    def line_up(self, scored: ScoredRank) -> None:
        """Lay the windows on the clock of the job, once more before the last ones are closed.

        Args:
            scored: This rank, its session open.
        """
        scored.correct(self.crew.offset_ns())
        self._recorder.clock_correction_ns = scored.correction_ns

    def last_part(
        self, end: RunEnd, scored: ScoredRank | None, placement: Placement | None, hosts: Hosts
    ) -> Part | None:
        """Tell that the command has ended, and return all that this rank knows; None: it could not be made.

        Args:
            end: How the run ended.
            scored: This rank, its session closed; None: it has no source.
            placement: What is known of the command's GPUs.
            hosts: What the host did.
        """
        try:
            if scored is not None:
                self.crew.tell(scored.live(placement, has_ended=True))
            sends_hosts = self.crew.reads_host and self.crew.identity.world <= MOST_HOST_ROWS
            encoded = encode_hosts(hosts) if sends_hosts else b""
            content = self._recorder.content(self._start, end)
            return self._part(content, scored, placement, is_final=True, hosts=encoded)
        except Exception as error:  # noqa: BLE001 - the rank's own files are written all the same
            self._note(error)
            return None

    def _part(
        self,
        content: RunFile,
        scored: ScoredRank | None,
        placement: Placement | None,
        *,
        is_final: bool = False,
        hosts: bytes = b"",
    ) -> Part:
        header, session = scored.moved_pair if scored else (None, None)
        counted = session.counted(placement or NOTHING_KNOWN) if session else ()
        return self._maker.make(content, header, session, counted, is_final=is_final, hosts=hosts)

    def _is_due(self, now_s: float) -> bool:
        """Return whether a part should be made now: the last one has arrived, and its minute is over."""
        if self.crew.leads:  # it has the collector beside it: the last part is enough
            return False
        if self._due_s is None:
            self._due_s = now_s + FIRST_PART_S * (1.0 + _spread(self.crew.hostname, self.crew.identity.rank))
        if now_s < self._due_s or not self.crew.is_ready:
            return False
        self._due_s = max(self._due_s, now_s - PART_S) + PART_S
        return True

    def _note(self, error: Exception) -> None:
        self.notes = [
            f"the other ranks were not (wholly) told how this one does ({error!r}): satscore report joins their files"
        ]


def _spread(hostname: str, rank: int) -> float:
    """Return a share of 1 that differs from rank to rank."""
    return zlib.crc32(f"{hostname}/{rank}".encode()) / 2**32
