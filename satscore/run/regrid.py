"""Windows of all ranks on one clock: laid anew when a node's turns out to be wrong (docs/method.md, "Windows").

Windows lie on whole seconds of wall time. How far the clock of a node is from that of the collector is known some
seconds after the start, so the first readings are kept until then. From its begin on, a grid follows a clock that
nobody sets: what happens to the wall clock of a node later does not move its windows.
"""

from collections.abc import Callable

from satscore.core.readings import ReadingTable
from satscore.core.units import NS_PER_S
from satscore.run.session import Session

KEPT_S = 60.0
"""Readings are kept so long: 0.5 MB for four GPUs."""
WRONG_NS = NS_PER_S // 10
"""Less does not matter in windows of 1 s, and is within the doubt of a slow network."""


class Regridder:
    """Keeps the first readings of a session, to make it anew on another grid.

    Args:
        make_session: Makes a session without readings; its argument is to be added to the grid's offset, ns.
        hostname: Whose clock this is about.

    Attributes:
        correction_ns: What has been added to this host's wall time to have that of the collector.
        note: What is wrong with the clock, and what became of the windows; None: nothing.
    """

    def __init__(self, make_session: Callable[[int], Session], hostname: str) -> None:
        self.correction_ns = 0
        self.note: str | None = None
        self._make_session = make_session
        self._hostname = hostname
        self._kept: list[ReadingTable] = []
        self._first_ns: int | None = None
        self._in_time = True
        self._was_told = False

    def add(self, table: ReadingTable) -> None:
        """Take the readings that the session takes, in the same order, before or after it."""
        if not self._in_time or len(table) == 0:
            return
        if self._first_ns is None:
            self._first_ns = int(table.start_ns.min())
        self._in_time = int(table.end_ns.max()) - self._first_ns <= KEPT_S * NS_PER_S
        self._kept = [*self._kept, table] if self._in_time else []

    def correct(self, offset_ns: int) -> Session | None:
        """Hear how far the clocks are apart; an offset that was told in time is not doubted afterwards.

        Args:
            offset_ns: The collector's wall time minus this host's.

        Returns:
            The session to go on with in place of the one so far; None: go on with that.
        """
        is_wrong = abs(offset_ns - self.correction_ns) >= WRONG_NS
        if not self._in_time:
            if is_wrong and not self._was_told:
                self.note = _too_late(self._hostname, offset_ns)
            self._was_told = True
            return None
        self._was_told = True
        if not is_wrong:
            return None
        session = self._make_session(offset_ns)
        for table in self._kept:
            session.add(table)
        self.correction_ns = offset_ns
        self.note = _lined_up(self._hostname, offset_ns)
        return session


def _lined_up(hostname: str, offset_ns: int) -> str:
    return (
        f"{_wrong(hostname, offset_ns)}: its windows were laid on that clock; have the clocks of the nodes synchronised"
    )


def _too_late(hostname: str, offset_ns: int) -> str:
    return (
        f"{_wrong(hostname, offset_ns)}, which was known too late: its windows do not line up with those of other"
        " nodes; have the clocks of the nodes synchronised"
    )


def _wrong(hostname: str, offset_ns: int) -> str:
    side = "ahead of" if offset_ns < 0 else "behind"
    return f"the clock of {hostname} is {abs(offset_ns) / NS_PER_S:.1f} s {side} that of rank 0"
