"""When nothing was read and why, told once each."""

import datetime as dt

from satscore.core.units import NS_PER_S
from satscore.counters.clock import Clock, wall_offset_ns


class Outages:
    """The times without readings.

    Args:
        clock: The run's clock.
        place: Which engine it is, for people.
    """

    def __init__(self, clock: Clock, place: str) -> None:
        self._clock = clock
        self._place = place
        self._since_ns: int | None = None
        self._reason, self._remedy = "", ""
        self._said_on = False
        self._lines: list[str] = []

    def begin(self, at_ns: int, reason: str, remedy: str) -> None:
        """Note that nothing is read from here on.

        Args:
            at_ns: On the run's axis; an outage that goes on keeps its beginning.
            reason: What happened; the first reason with a remedy counts.
            remedy: What to do about it, or an empty text.
        """
        if self._since_ns is None:
            self._since_ns, self._reason, self._remedy = at_ns, reason, remedy
            self._said_on = False
        elif not self._remedy:
            self._reason, self._remedy = reason, remedy

    def end(self, at_ns: int) -> None:
        """Note that readings go on; one of a time before the outage ends none."""
        since_ns = self._since_ns
        if since_ns is not None and at_ns > since_ns:
            self._since_ns = None
            self._lines.append(
                f"DCGM: nothing was read from {self._utc(since_ns)} to {self._utc(at_ns)} (UTC) "
                f"({self._place}: {self._reason}); readings went on afterwards{self._advice()}"
            )

    def drain(self) -> list[str]:
        """Return what is new since the last call; also of an outage that has not ended."""
        lines, self._lines = self._lines, []
        if self._since_ns is not None and not self._said_on:
            self._said_on = True
            lines.append(
                f"DCGM: nothing was read from {self._utc(self._since_ns)} (UTC) on "
                f"({self._place}: {self._reason}){self._advice()}"
            )
        return lines

    def _advice(self) -> str:
        return f"; {self._remedy}" if self._remedy else ""

    def _utc(self, at_ns: int) -> str:
        wall_s = (at_ns + wall_offset_ns(self._clock)) / NS_PER_S
        return f"{dt.datetime.fromtimestamp(wall_s, tz=dt.UTC):%H:%M:%S}"
