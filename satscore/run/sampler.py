"""The sampling thread: absolute deadlines, honest lateness, and nothing else in the tick."""

import contextlib
import random
import threading
from collections import deque

from satscore.core.fields import Reading
from satscore.core.units import NS_PER_S
from satscore.counters.replay import PREFIX, parse_replay
from satscore.counters.source import MIN_GAP_NS, Source
from satscore.launch.request import RunOptions

MAX_WAITING = 20_000
"""Readings handed over but not yet taken, about 17 min of four GPUs: memory is bounded whatever the disk does."""
JITTER_FRAC = 0.1
"""Deadlines are shifted by up to this share of the period, so that reads do not beat with steps."""


def read_period_s(options: RunOptions) -> float:
    """Return the time between reads on the source's axis; a replay is asked once a period of real time."""
    is_replay = options.source.startswith(PREFIX)
    return options.period_s * (parse_replay(options.source).speed if is_replay else 1.0)


class Sampler:
    """Reads a source at its deadlines in a thread of its own.

    Args:
        source: Opened; this thread becomes its only user.
        period_s: Nominal time between reads.
        stop: Set by whoever ends the run: the last read is taken at once. None: only by ``stop``.

    Whatever the driver does to this thread (a slow call, a hang), nobody waits for it: readings are
    handed over through a queue, and the counts below may be read at any time.
    """

    def __init__(self, source: Source, period_s: float, stop: threading.Event | None = None) -> None:
        self.reads_count = 0
        self.late_reads_count = 0
        self.latest_read_s = 0.0
        self.read_time_s = 0.0
        self.dropped_count = 0
        """Readings lost because nobody took them in time, oldest first."""
        self.failure: str | None = None
        self.base_ns = source.clock.now_ns()
        """The beginning of the time that the readings should cover, ns on the source's axis."""
        self._source = source
        self._period_ns = round(period_s * NS_PER_S)
        self._queue: deque[Reading] = deque()
        self._lock = threading.Lock()
        self._stop = stop or threading.Event()
        self._read_last = threading.Event()
        self._jitter = random.Random(0)  # noqa: S311 - against aliasing, not against guessing
        self._thread = threading.Thread(target=self._run, name="satscore-sampler", daemon=True)

    def start(self) -> None:
        """Take the base line and start sampling."""
        self.base_ns = self._source.clock.now_ns()
        self._thread.start()

    def drain(self) -> list[Reading]:
        """Return the readings since the last call."""
        with self._lock:
            out = list(self._queue)
            self._queue.clear()
        return out

    def notes(self) -> list[str]:
        """Return what went wrong."""
        notes = [f"sampling stopped: {self.failure}"] if self.failure else []
        if self.dropped_count:
            notes.append(f"{self.dropped_count} readings were lost: the disk or the processor held satscore up")
        return notes

    def stop(self, timeout_s: float) -> bool:
        """Ask for a last read and wait for it; return whether it came in time.

        That the driver's objects are released is not waited for: nothing depends on it any more.
        """
        self._stop.set()
        return self._read_last.wait(timeout_s)

    def _run(self) -> None:
        clock = self._source.clock
        try:
            last_ns = self._read()
            start_ns, tick = last_ns, 0
            while True:
                tick += 1
                deadline_ns = start_ns + tick * self._period_ns
                jitter_ns = round(self._period_ns * self._jitter.uniform(-JITTER_FRAC, JITTER_FRAC))
                target_ns = max(deadline_ns + jitter_ns, last_ns + MIN_GAP_NS)
                stopped = clock.wait_until(target_ns, self._stop)
                if stopped and clock.now_ns() - last_ns < MIN_GAP_NS:
                    break
                late_ns = 0 if stopped else clock.now_ns() - target_ns
                self._count_lateness(late_ns)
                last_ns = self._read()
                if stopped:
                    break
                # Deadlines missed altogether are skipped, not caught up: the interval is measured anyway.
                tick += max(0, last_ns - deadline_ns) // self._period_ns
        except Exception as error:  # noqa: BLE001 - a source must never take the run down
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            self._read_last.set()
            with contextlib.suppress(Exception):
                self._source.close()

    def _count_lateness(self, late_ns: int) -> None:
        self.latest_read_s = max(self.latest_read_s, late_ns / NS_PER_S)
        if late_ns > self._period_ns / 2:
            self.late_reads_count += 1

    def _read(self) -> int:
        clock = self._source.clock
        began_ns = clock.now_ns()
        readings = self._source.read()
        self.read_time_s += (clock.now_ns() - began_ns) / NS_PER_S
        if readings:
            self.reads_count += 1
            self._hand_over(readings)
        return began_ns

    def _hand_over(self, readings: list[Reading]) -> None:
        with self._lock:
            self._queue.extend(readings)
            while len(self._queue) > MAX_WAITING:
                self._queue.popleft()
                self.dropped_count += 1
