"""From the engine's wall clock to the run's axis. Pure."""

from collections import deque
from collections.abc import Iterable

from satscore.core.units import NS_PER_S, NS_PER_US
from satscore.counters.dcgm.wire import Samples

NEAR_NS = NS_PER_S // 2
"""The newest sample is at most a period older than its fetch, and this much more where somebody is slow."""
FAR_NS = 2 * NS_PER_S
"""What is further away than this beyond a period is another clock at the first sight."""
_SIGHTS = 5
"""So many fetches in a row have to say the same of a clock that is not far away."""
_STEP_NS = NS_PER_S // 50
"""Wall minus monotonic time moves by less than this between two fetches, unless somebody sets the clock."""
_REMEMBERED = 300
"""Fetches, a minute at 0.2 s: a clock that runs away from ours is followed."""


class EngineAxis:
    """Places samples on the run's axis.

    An engine on this machine shares its wall clock, whose distance to the monotonic clock each fetch tells
    exactly. An engine on another machine has a clock of its own: there, the sample that came fastest of the last
    minute counts as taken when it came.

    Args:
        period_ns: Nominal time between samples.
    """

    def __init__(self, period_ns: int) -> None:
        self.other_clock_s: float | None = None
        """How far the engine's clock is ahead of ours (behind: negative), if it is another one; s."""
        self._near_ns, self._far_ns = NEAR_NS + period_ns, FAR_NS + period_ns
        self._distance_ns: int | None = None
        self._delays: deque[tuple[int, bool]] = deque(maxlen=_REMEMBERED)
        """Monotonic time of a fetch minus its newest stamp, and whether the stamp was near our wall clock."""

    def offset_ns(self, fetch: Samples, stamps_us: Iterable[int]) -> int:
        """Return what to add to the engine's stamps of a fetch, in ns, to get instants of CLOCK_MONOTONIC.

        Args:
            fetch: When it was.
            stamps_us: Those of its samples.
        """
        newest_us = max(stamps_us, default=None)
        distance_ns = fetch.fetched_ns - fetch.wall_ns
        was_set = self._distance_ns is not None and abs(distance_ns - self._distance_ns) > _STEP_NS
        self._distance_ns = distance_ns
        if newest_us is not None:
            newest_ns = newest_us * NS_PER_US
            if was_set and self.other_clock_s is None:
                self._delays.clear()  # the stamps of this fetch may be from before the step
            else:
                near = abs(newest_ns - fetch.wall_ns) <= self._near_ns
                self._delays.append((fetch.fetched_ns - newest_ns, near))
                self._judge(newest_ns - fetch.wall_ns)
        shortest_ns = min((delay_ns for delay_ns, _ in self._delays), default=distance_ns)
        # Never in the future, also where the other machine's clock is a little ahead.
        return shortest_ns if self.other_clock_s is not None else min(distance_ns, shortest_ns)

    def _judge(self, ahead_ns: int) -> None:
        """Call the clock another one while no sample of the last minute was stamped near ours."""
        if any(near for _, near in self._delays):
            self.other_clock_s = None
        elif self.other_clock_s is None and (len(self._delays) >= _SIGHTS or abs(ahead_ns) > self._far_ns):
            self.other_clock_s = ahead_ns / NS_PER_S
