"""From DCGM's samples to the readings of one GPU: back to back, in the order of time, nothing twice. Pure.

A sample of a profiling field is a mean up to its own time, over the engine's period: so it closes an interval
(docs/method.md, "Counters by DCGM").
"""

import math
from collections.abc import Iterable, Sequence
from operator import attrgetter

from satscore.core.fields import INDEX, Quality, Reading, blank_reading, put, put_missing
from satscore.core.units import NS_PER_S
from satscore.counters.dcgm import ids
from satscore.counters.dcgm.gauges import Gauges, Sample
from satscore.counters.dcgm.misses import Misses
from satscore.counters.nvml_api import Answer
from satscore.counters.nvml_values import scaled

MAX_STEP_PERIODS = 1.75
"""A longer step between samples has lost one: it then stands for the last period only."""
HELD_PERIODS = 1.25
"""So long a field's sample stands in where a round ends before the field's next one: the mean of about its time."""
_SILENCE_NS, _SILENCE_PERIODS = NS_PER_S, 4
"""No pipe sample for the longer of these: the time is given out as unknown without waiting for more."""
_BY_TIME = attrgetter("at_ns")
_CLOCK = INDEX["sm_clock_mhz"]
"""The ordinary field that tells whether the engine still reads the GPU."""


class Round:
    """The profiling samples that the engine took of one GPU within one period: one per field, each at its own time.

    They are mostly microseconds apart. But the engine keeps a schedule per field: once it was held up between two
    fields (a busy node suffices), they stay apart, by anything up to the period.

    Args:
        at_ns: Time of the first of them.
    """

    def __init__(self, at_ns: int) -> None:
        self.at_ns = at_ns
        self.samples: dict[int, Sample] = {}


class GpuIntervals:
    """Makes the readings of one GPU.

    Args:
        gpu: Its index in the run.
        pipes: The profiling fields that are watched.
        period_ns: Nominal time between samples.
        superchip: Whether the GPU sits on a module with its CPU.
        refused: Codes of fields that the engine would not watch; may change with the engine.
        misses: Where refusals are told.
    """

    def __init__(
        self,
        gpu: int,
        pipes: Sequence[ids.PipeField],
        *,
        period_ns: int,
        superchip: bool,
        refused: dict[int, int],
        misses: Misses,
    ) -> None:
        self.gpu = gpu
        self.end_ns: int | None = None
        """Up to here the time is given out; None before the base line."""
        self._pipes = tuple(pipes)
        self._period_ns = period_ns
        self._refused = refused
        self._watched = {pipe.id for pipe in pipes}
        self._gauges = Gauges(period_ns=period_ns, superchip=superchip, refused=refused, misses=misses)
        self._misses = misses
        self._is_silent = False
        self._open: Round | None = None
        self._whole: list[Round] = []
        self._held: dict[int, Sample] = {}
        """The last sample of each profiling field in a round that is closed."""

    def begin(self, at_ns: int) -> None:
        """Take the start of the first interval; what was sampled before is not of the run."""
        self.end_ns = at_ns
        self._open, self._whole, self._held = None, [], {}
        self._gauges.begin(at_ns)

    def take(self, samples: Iterable[Sample], *, fetched_ns: int) -> None:
        """Take the samples of one fetch.

        Args:
            samples: In any order; those of a field come in the order of time, over all fetches.
            fetched_ns: After the fetch, on the run's axis: what began a period before is whole.
        """
        for sample in sorted(samples, key=_BY_TIME):
            if sample.field >= ids.FIRST_PIPE_ID:
                self._take_pipe(sample)
            else:
                self._gauges.add(sample)
        if self._open is not None and (
            self._watched - self._refused.keys() <= self._open.samples.keys()
            or fetched_ns >= self._open.at_ns + self._period_ns
        ):
            self._close_round()

    def _take_pipe(self, sample: Sample) -> None:
        """Put a sample with those of its round, which ends when a field comes again, or at the latest after a period.

        So rounds begin after the longest pause between fields by themselves, wherever the first one began.
        """
        if self._open is not None and (
            sample.field in self._open.samples or sample.at_ns >= self._open.at_ns + self._period_ns
        ):
            self._close_round()
        if self._open is None:
            self._open = Round(sample.at_ns)
        self._open.samples[sample.field] = sample

    def _close_round(self) -> None:
        if self._open is not None:
            oldest_ns = self._open.at_ns - HELD_PERIODS * self._period_ns
            held = {field: sample for field, sample in self._held.items() if sample.at_ns >= oldest_ns}
            self._open.samples = self._held = held | self._open.samples
            self._whole.append(self._open)
            self._open = None

    def flush(self) -> None:
        """Let no further sample join what the engine took last."""
        self._close_round()

    def readings(self, away: Quality) -> list[Reading]:
        """Return a reading per update of the engine, and one for the time before it that none speaks for.

        Args:
            away: Why no sample came for long, if none did.
        """
        rounds, self._whole = self._whole, []
        return [reading for whole in rounds for reading in self._close(whole, away)]

    def overdue(self, now_ns: int, away: Quality, *, is_lost: bool = False) -> Reading | None:
        """Give up the time that no sample has come for, so that coverage is honest even if none ever comes.

        Once it is given up, so is every later moment until a sample comes.

        Args:
            now_ns: Present time on the run's axis.
            away: Why no sample came.
            is_lost: Whether none of this time can come any more.
        """
        limit_ns = 0 if self._is_silent or is_lost else max(_SILENCE_NS, _SILENCE_PERIODS * self._period_ns)
        if self.end_ns is None or now_ns - self.end_ns <= limit_ns:
            return None
        self._is_silent = True
        self._open = None  # part of an update, which now comes too late
        return self._give_up(now_ns, away)

    def _give_up(self, until_ns: int, away: Quality) -> Reading:
        assert self.end_ns is not None
        reading = blank_reading(self.gpu, self.end_ns, until_ns, away)
        self.end_ns = until_ns
        self._gauges.restart()
        return reading

    def _close(self, whole: Round, away: Quality) -> list[Reading]:
        self._is_silent = False  # also by one that comes too late: the next would, too, if no time were left for it
        if self.end_ns is None or whole.at_ns <= self.end_ns:
            return []
        readings = []
        if whole.at_ns - self.end_ns > MAX_STEP_PERIODS * self._period_ns:
            readings.append(self._give_up(whole.at_ns - self._period_ns, away))
        reading = blank_reading(self.gpu, self.end_ns, whole.at_ns)
        self.end_ns = whole.at_ns
        has_pipes = self._fill_pipes(reading, whole)
        self._gauges.fill(reading)
        self._misses.see_all(reading, has_pipes=has_pipes, has_clock=reading.quality[_CLOCK] == Quality.OK)
        return [*readings, reading]

    def _fill_pipes(self, reading: Reading, whole: Round) -> bool:
        """Write the profiling fields; return whether any of them is known."""
        known = False
        for pipe in self._pipes:
            if pipe.id in self._refused:
                answer: Answer = (self._refused[pipe.id], math.nan)
            else:
                sample = whole.samples.get(pipe.id)
                answer = scaled(sample.answer if sample else None, 1.0, 0.0, pipe.high)
            code, value = answer
            if code == ids.OK:
                known = True
                put(reading, pipe.field, value)
            else:
                put_missing(reading, pipe.field, ids.quality_of(code))
            self._misses.see(reading, pipe.field, code)
        return known
