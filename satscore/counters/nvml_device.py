"""The intervals of one GPU: base line, closing, loss and return."""

from typing import Protocol

from satscore.core.fields import Quality, Reading, blank_reading
from satscore.counters import nvml_ids as ids
from satscore.counters.clock import Clock
from satscore.counters.nvml_api import Answer, Nvml
from satscore.counters.nvml_health import HealthReader
from satscore.counters.nvml_info import Found
from satscore.counters.nvml_notes import NoteBook
from satscore.counters.nvml_slow import SlowReader
from satscore.counters.nvml_tick import TickReader
from satscore.counters.source import MIN_GAP_NS


class Pipes(Protocol):
    """What a source with pipe counters adds to the intervals of a GPU (gpm.py)."""

    def take(self, now_ns: int) -> tuple[int, int]:
        """Mark the end of the interval; return the return code and when it was, ns."""
        ...

    def begin(self) -> None:
        """Make the mark just taken the start of the next interval."""
        ...

    def fill(self, reading: Reading, code: int) -> bool:
        """Write pipe counters; return False to let the interval go on."""
        ...

    def close(self) -> None:
        """Release driver objects."""
        ...


class NoPipes:
    """Gauges only: the interval ends when it is asked to."""

    def take(self, now_ns: int) -> tuple[int, int]:
        """Return the present time."""
        return ids.OK, now_ns

    def begin(self) -> None:
        """Do nothing."""

    def fill(self, reading: Reading, code: int) -> bool:
        """Leave the pipe fields NOT_READ."""
        del reading, code
        return True

    def close(self) -> None:
        """Do nothing."""


class Device:
    """Makes the readings of one GPU: back to back, without gap or overlap.

    Args:
        api: The library.
        found: The GPU.
        pipes: Its pipe counters, or NoPipes.
        gpu: Its index in the run.
        clock: The run's clock.
        notes: Where refusals are told.
    """

    def __init__(self, api: Nvml, found: Found, pipes: Pipes, gpu: int, clock: Clock, notes: NoteBook) -> None:
        self.gpu = gpu
        self.handle = found.handle
        self._pipes = pipes
        self.ticks = TickReader(api, found, gpu, clock, notes)
        self.slow = SlowReader(api, found, gpu, notes)
        self.health = HealthReader(api, found, gpu, notes)
        self._clock = clock
        self._notes = notes
        self._start_ns: int | None = None
        self._tried_ns = clock.now_ns() - MIN_GAP_NS
        self._lost = False
        self._retry_ns = 0

    def base_line(self) -> int:
        """Take the start of the first interval; one younger than MIN_GAP_NS is kept.

        Returns:
            Why the GPU or its pipe counters could not be read; OK if they could.
        """
        now_ns = self._clock.now_ns()
        if now_ns - self._tried_ns < MIN_GAP_NS:
            return ids.OK
        self._tried_ns = now_ns
        self._start_ns = None
        code, at_ns = self._pipes.take(now_ns)
        gone = code if ids.is_lost(code) else self._poll(at_ns)
        if gone:
            self._lose(gone, at_ns)
        else:
            self._begin(at_ns)
        return gone or code

    def tick(self) -> Reading | None:
        """Read the GPU and return the interval that ends now.

        Returns:
            The reading; None for the base line, less than MIN_GAP_NS after the last call, or when the
            interval goes on because a later read can still cover it exactly.
        """
        now_ns = self._clock.now_ns()
        if now_ns - self._tried_ns < MIN_GAP_NS:
            return None
        self._tried_ns = now_ns
        if self._lost and now_ns < self._retry_ns:
            return self._close_blank(now_ns, Quality.GPU_LOST)
        code, at_ns = self._pipes.take(now_ns)
        gone = code if ids.is_lost(code) else self._poll(at_ns)
        if gone:
            return self._lose(gone, at_ns)
        if self._start_ns is None or self._lost:
            return self._begin(at_ns)
        reading = blank_reading(self.gpu, self._start_ns, at_ns)
        if not self._pipes.fill(reading, code):
            return None
        self.ticks.fill(reading)
        self.slow.fill(reading)
        self.health.fill(reading)
        self._start_ns = at_ns
        return reading

    def add_xids(self, answer: Answer) -> None:
        """Take the number of Xid events since the last call."""
        self.slow.add_xids(answer)

    def fail(self, error: Exception) -> Reading | None:
        """Close the interval after a defect of ours, so that a run is never hurt by it."""
        self._notes.say(f"GPU {self.gpu}: reading counters failed ({error!r}); please report it")
        return self._close_blank(self._clock.now_ns(), Quality.ERROR)

    def close(self) -> None:
        """Release driver objects."""
        self._pipes.close()

    def _poll(self, at_ns: int) -> int:
        """Read all that is due beside the pipe counters; return the first code that says that the GPU is lost."""
        return self.ticks.poll() or self.slow.poll(at_ns) or self.health.poll(at_ns)

    def _begin(self, at_ns: int) -> Reading | None:
        """Take the base line; if the GPU comes back from being lost, close the time in between."""
        if self._lost:
            self._lost = False
            self._notes.say(f"GPU {self.gpu}: answers again")
        self.ticks.rebase()
        self.slow.rebase()
        self.health.rebase()
        self._pipes.begin()
        return self._close_blank(at_ns, Quality.GPU_LOST)

    def _lose(self, code: int, at_ns: int) -> Reading | None:
        self._lost = True
        self._retry_ns = at_ns + ids.LOST_RETRY_NS
        meaning = ids.code_of(code)
        self._notes.say(f"GPU {self.gpu}: {meaning.text}; its counters are unknown from here on ({meaning.remedy})")
        return self._close_blank(at_ns, Quality.GPU_LOST)

    def _close_blank(self, at_ns: int, reason: Quality) -> Reading | None:
        start_ns, self._start_ns = self._start_ns, at_ns
        if start_ns is None or at_ns <= start_ns:
            return None
        return blank_reading(self.gpu, start_ns, at_ns, reason)
