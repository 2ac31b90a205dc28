"""The parts that the collector does not have yet."""

from dataclasses import dataclass

from satscore.fleet.wire import MOST_BYTES, Part, encode

RETRY_S = 20.0
"""A part that got no answer is sent again then, and after twice that, ... Hardly any is lost on a way that holds,
and a collector that is slow to answer, as all ranks end at once, must not get everything twice."""
MOST_RETRY_S = 240.0
GAP_PAUSE_S = 0.5


@dataclass(slots=True)
class _Kept:
    number: int
    frame: bytes
    way: object = None
    """On which way to the collector it was sent; None: on none."""
    retry_s: float = RETRY_S
    due_s: float = 0.0


class Outbox:
    """Keeps parts until they are acknowledged. Not for several threads at once.

    Args:
        rank: Whose parts these are.
        run_id: Of this start of it.
    """

    def __init__(self, rank: int, run_id: str) -> None:
        self._who = (rank, run_id)
        self.acknowledged = 0
        """Number of the last part that the collector has."""
        self.is_refused = False
        """The collector takes nothing of this rank, ever."""
        self._kept: list[_Kept] = []
        self._final: int | None = None
        self._gap_s = 0.0

    @property
    def is_finished(self) -> bool:
        """Whether the collector has the final part."""
        return self._final is not None and self.acknowledged >= self._final

    def is_of(self, rank: int, run_id: str) -> bool:
        """Return whether an answer to this start of a rank is for these parts."""
        return self._who == (rank, run_id)

    def put(self, part: Part) -> bool:
        """Keep a part; return False where it is too large to be sent ever."""
        frame = encode(part)
        if len(frame) > MOST_BYTES:
            return False
        if part.is_final:
            self._final = part.number
        if not self.is_refused:
            self._kept.append(_Kept(number=part.number, frame=frame))
        return True

    def due(self, way: object, now_s: float) -> list[bytes]:
        """Return what to send now, in order.

        Args:
            way: Names the way to the collector: on a new one, all is sent again.
            now_s: Any time that goes on evenly, s.
        """
        return [kept.frame for kept in self._kept if kept.way != way or now_s >= kept.due_s]

    def sent(self, frame: bytes, way: object, now_s: float) -> None:
        """Note that a frame has left on this way."""
        for kept in self._kept:
            if kept.frame is frame:
                kept.retry_s = RETRY_S if kept.way != way else min(2 * kept.retry_s, MOST_RETRY_S)
                kept.way, kept.due_s = way, now_s + kept.retry_s

    def take(self, number: int, now_s: float) -> None:
        """Note that the collector has all up to a number; it says so as well when it lacks one before a later one."""
        if number > self.acknowledged:
            self.acknowledged = number
            self._kept = [kept for kept in self._kept if kept.number > number]
        elif now_s >= self._gap_s:
            self._gap_s = now_s + GAP_PAUSE_S
            for kept in self._kept:
                kept.due_s = min(kept.due_s, now_s + GAP_PAUSE_S)

    def refuse(self) -> None:
        """Note that no part of this rank will be taken."""
        self.is_refused = True
        self._kept.clear()
