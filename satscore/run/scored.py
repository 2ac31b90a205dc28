"""The readings of one rank on their way into windows, on the grid of the job."""

from collections.abc import Callable

import msgspec

from satscore.core.placement import NOTHING_KNOWN, Placement
from satscore.core.readings import ReadingTable, concatenate, table_of
from satscore.fleet.wire import LiveRank
from satscore.record.run_file import StreamHeader
from satscore.run.live import live_rank
from satscore.run.regrid import Regridder
from satscore.run.session import Session


class ScoredRank:
    """A rank with a source: its header, and the session that scores it.

    Args:
        header: Of its recording.
        make_session: Makes a session from a header.
        may_move: Whether its windows may be laid anew, on another clock than this host's.
    """

    def __init__(
        self, header: StreamHeader, make_session: Callable[[StreamHeader], Session], *, may_move: bool
    ) -> None:
        self.header = header
        self.session = make_session(header)
        self._make_session = make_session
        self._regridder = Regridder(self._moved, header.hostname) if may_move else None
        self._last = table_of(())

    @property
    def pair(self) -> tuple[StreamHeader, Session]:
        """Header and session, as a summary takes a rank."""
        return self.header, self.session

    @property
    def moved_pair(self) -> tuple[StreamHeader, Session]:
        """Header and session, the header with the clock by which the windows lie."""
        offset_ns = self.header.grid_offset_ns + self.correction_ns
        return msgspec.structs.replace(self.header, grid_offset_ns=offset_ns), self.session

    @property
    def correction_ns(self) -> int:
        """What was added to this host's clock for the windows, ns."""
        return self._regridder.correction_ns if self._regridder else 0

    @property
    def notes(self) -> list[str]:
        """What is wrong with this host's clock."""
        note = self._regridder.note if self._regridder else None
        return [note] if note else []

    def add(self, table: ReadingTable) -> None:
        """Score more readings."""
        self.session.add(table)
        self._last = table if len(table) else self._last
        if self._regridder is not None:
            self._regridder.add(table)

    def correct(self, offset_ns: int | None) -> None:
        """Lay the windows on the grid of the job, if its clock is another one and it is early enough.

        Args:
            offset_ns: The job's clock minus this host's; None: not known.
        """
        if self._regridder is None or offset_ns is None:
            return
        moved = self._regridder.correct(offset_ns)
        if moved is not None:
            self.session = moved

    def live(self, placement: Placement | None, *, has_ended: bool) -> LiveRank:
        """Return how the rank is doing.

        Args:
            placement: What is known of the command's GPUs.
            has_ended: Whether the command has ended.
        """
        header, session, last = self.header, self.session, self._last
        counted = session.counted(placement or NOTHING_KNOWN)
        if not all(counted):
            last = concatenate([table_of(()), *(last.of_gpu(i) for i, counts in enumerate(counted) if counts)])
        return live_rank(
            header.rank,
            header.hostname,
            last,
            [one for one, counts in zip(session.series, counted, strict=True) if counts],
            phase=session.phase,
            has_ended=has_ended,
        )

    def _moved(self, correction_ns: int) -> Session:
        offset_ns = self.header.grid_offset_ns + correction_ns
        return self._make_session(msgspec.structs.replace(self.header, grid_offset_ns=offset_ns))
