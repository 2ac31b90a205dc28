"""How far another node's wall clock is from ours, by round trips.

An answer comes somewhere between question and receipt, so the offset is known to half the round trip, and the
quickest one of the last minutes counts (RFC 5905, section 10, does the same with eight of them).
"""

from collections import deque

LAST_TRIPS = 32
"""One in five seconds: 160 s, in which clocks drift by less than a round trip takes."""
MOST_STEP_NS = 1_000_000
"""If wall and even clock differ by more over a round trip, the wall clock was set meanwhile."""


class ClockOffset:
    """The peer's wall clock minus ours."""

    def __init__(self) -> None:
        self._trips = deque[tuple[int, int]](maxlen=LAST_TRIPS)

    @property
    def best_ns(self) -> int | None:
        """The offset by the quickest of the last round trips, ns; None: there was none."""
        return min(self._trips)[1] if self._trips else None

    def add(self, sent_ns: int, heard_ns: int, trip_ns: int, peer_ns: int) -> None:
        """Add a round trip.

        Args:
            sent_ns: Our wall clock when the question left.
            heard_ns: Our wall clock when the answer came.
            trip_ns: The time between by an even clock.
            peer_ns: The peer's wall clock when it answered.
        """
        if trip_ns >= 0 and abs(heard_ns - sent_ns - trip_ns) <= MOST_STEP_NS:
            self._trips.append((trip_ns, peer_ns - (sent_ns + heard_ns) // 2))
        else:
            self._trips.clear()
