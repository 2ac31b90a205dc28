"""The run's clocks: real, scaled for simulated and replayed runs, and manual for tests.

One axis for everything: nanoseconds of CLOCK_MONOTONIC (or a scaled copy of it). Wall time exists
once, in the run's metadata.
"""

import math
import threading
import time
from typing import Protocol

from satscore.errors import CounterError

MIN_SPEED = 0.01
"""Much slower, the date of a window would overflow."""


class Clock(Protocol):
    """A monotonic time axis on which one can wait."""

    def now_ns(self) -> int:
        """Return the present time in ns on the run's axis."""
        ...

    def from_monotonic_ns(self, monotonic_ns: int) -> int:
        """Return an instant of CLOCK_MONOTONIC, in ns, on the run's axis."""
        ...

    def wait_until(self, deadline_ns: int, stop: threading.Event) -> bool:
        """Wait until the deadline or until ``stop`` is set; return whether it was set."""
        ...


def wall_offset_ns(clock: Clock) -> int:
    """Return wall time minus a clock's axis in ns, as of now."""
    return time.time_ns() - clock.now_ns()


def _wait(stop: threading.Event, seconds: float) -> bool:
    """Wait for a stop; centuries, which a thread cannot wait for, end early rather than in an exception."""
    return stop.wait(min(max(0.0, seconds), threading.TIMEOUT_MAX))


class MonotonicClock:
    """CLOCK_MONOTONIC itself."""

    def now_ns(self) -> int:
        """Return CLOCK_MONOTONIC in ns."""
        return time.monotonic_ns()

    def from_monotonic_ns(self, monotonic_ns: int) -> int:
        """Return the same: this is the axis."""
        return monotonic_ns

    def wait_until(self, deadline_ns: int, stop: threading.Event) -> bool:
        """Wait in real time."""
        return _wait(stop, (deadline_ns - time.monotonic_ns()) / 1e9)


class ScaledClock:
    """A clock that runs ``speed`` times faster than real time; for simulated and replayed runs only.

    Args:
        speed: Seconds of this clock per real second, > 0.
        since_ns: The instant of CLOCK_MONOTONIC, in ns, from which on it does; None: now.
        reads_ns: What it reads at that instant, in ns; None: CLOCK_MONOTONIC.
    """

    def __init__(self, speed: float, *, since_ns: int | None = None, reads_ns: int | None = None) -> None:
        self.speed = speed
        self._since_ns = time.monotonic_ns() if since_ns is None else since_ns
        self._reads_ns = self._since_ns if reads_ns is None else reads_ns

    def now_ns(self) -> int:
        """Return the scaled time in ns."""
        return self.from_monotonic_ns(time.monotonic_ns())

    def from_monotonic_ns(self, monotonic_ns: int) -> int:
        """Return the scaled time at an instant."""
        return self._reads_ns + round((monotonic_ns - self._since_ns) * self.speed)

    def wait_until(self, deadline_ns: int, stop: threading.Event) -> bool:
        """Wait until the scaled deadline."""
        return _wait(stop, (deadline_ns - self.now_ns()) / self.speed / 1e9)


class ManualClock:
    """A clock that moves only when somebody waits: a simulated hour takes as long as its arithmetic."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """Return the present time in ns."""
        return self._now_ns

    def from_monotonic_ns(self, monotonic_ns: int) -> int:
        """Return the same: a test states instants on the clock's own axis."""
        return monotonic_ns

    def wait_until(self, deadline_ns: int, stop: threading.Event) -> bool:
        """Jump to the deadline."""
        self._now_ns = max(self._now_ns, deadline_ns)
        return stop.is_set()


def parse_speed(value: str, *, of: str, seconds: str, highest: float) -> float:
    """Return how many times faster than real time a source's clock shall run.

    Args:
        value: As the user wrote it.
        of: Whose option it is, for the error: ``the simulator``.
        seconds: Which seconds pass faster: ``simulated``.
        highest: The largest speed.

    Raises:
        CounterError: It is no number, or out of range.
    """
    try:
        speed = float(value)
    except ValueError:
        speed = math.nan
    if not MIN_SPEED <= speed <= highest:
        raise CounterError(
            f"option speed={value!r} of {of} is out of range",
            hint=f"speed is {seconds} seconds per real second, at least {MIN_SPEED:g} and at most {highest:g}",
        )
    return speed
