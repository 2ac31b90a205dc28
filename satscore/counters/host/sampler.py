"""The thread that reads the host beside the run: once a second, or more rarely where that is dear."""

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from satscore.core.host import HostInfo, HostReading
from satscore.core.units import NS_PER_S
from satscore.counters.clock import Clock
from satscore.counters.host.reader import HostReader

PERIOD_S, LONGEST_PERIOD_S = 1.0, 10.0
CPU_SHARE = 0.0018
"""Of a core. Reads that cost more come more rarely: /proc/stat of a node with 288 CPUs takes milliseconds."""
MAX_WAITING = 20_000
"""Readings handed over but not yet taken: some five hours, whatever the disk does."""
_SMOOTHING = 0.2
_ENDED_S = 0.5
"""Within this time of a command's end whoever waits for it has said so."""


class HostSampler:
    """Reads the host in a thread of its own, for which nobody waits; one that fails costs evidence only.

    Args:
        child_pid: The command's first process; None: there is no command, and only the node is read.
        clock: The run's axis, of a measured source: what is simulated or replayed has no host to read.
        stop: Set when the command has ended.
        owns: Whether a process that descends from none of the command's known ones is the command's all the
            same; called in this thread only. None: descent alone decides.
        root: Where /proc and /sys are.
    """

    def __init__(
        self,
        child_pid: int | None,
        clock: Clock,
        stop: threading.Event,
        *,
        owns: Callable[[int], bool] | None = None,
        root: Path = Path("/"),
    ) -> None:
        self.cpu_s = 0.0
        """CPU time of the thread so far."""
        self._child_pid = child_pid
        self._clock = clock
        self._stop = stop
        self._owns = owns
        self._root = root
        self._lock = threading.Lock()
        """Held for ``_info``, ``_notes`` and ``_waiting``."""
        self._info = HostInfo(missing={"host": "not read yet"})
        self._notes: list[str] = []
        self._waiting: deque[HostReading] = deque(maxlen=MAX_WAITING)

    def start(self) -> None:
        """Start reading; returns at once."""
        try:
            threading.Thread(target=self._run, name="satscore-host", daemon=True).start()
        except RuntimeError as error:  # a limit on threads
            self._note(f"the host is not read: {error}")

    def drain(self) -> list[HostReading]:
        """Return the readings since the last call."""
        with self._lock:
            out = list(self._waiting)
            self._waiting.clear()
        return out

    def info(self) -> HostInfo:
        """Return what does not change; whole once there is a reading."""
        with self._lock:
            return self._info

    def notes(self) -> list[str]:
        """Return, once each, what went wrong."""
        with self._lock:
            return list(self._notes)

    def _run(self) -> None:
        try:
            reader = HostReader(self._child_pid, self._owns, self._root)
            # One that ended before anybody could look at it is no news.
            if self._child_pid is not None and reader.no_command_reason and not self._stop.wait(_ENDED_S):
                self._note(f"what the command's processes use of the host is not known: {reader.no_command_reason}")
            self._sample(reader)
        except Exception as error:  # noqa: BLE001 - evidence only: the run goes on without it
            self._note(f"the host is not read any more ({error!r}); please report it")

    def _sample(self, reader: HostReader) -> None:
        cost_s, stopped = 0.0, False
        while not stopped:
            now_ns, began_s = self._clock.now_ns(), self.cpu_s
            reading = reader.read(now_ns)
            with self._lock:
                self._info = reader.info
                self._waiting.extend([reading] if reading else [])
            self.cpu_s = time.thread_time()
            cost_s += _SMOOTHING * (self.cpu_s - began_s - cost_s) if reading else 0.0
            period_s = min(LONGEST_PERIOD_S, max(PERIOD_S, cost_s / CPU_SHARE))
            stopped = self._clock.wait_until(now_ns + round(period_s * NS_PER_S), self._stop)

    def _note(self, text: str) -> None:
        with self._lock:
            self._notes.append(text)
