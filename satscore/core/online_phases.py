"""Phases while the run goes on: one pass, constant memory (docs/method.md, "Phases").

For the live view and for sums that cannot wait for the end. A label is final once it is returned, so warm-up
is at least a minute here; the phases of the finished run are those of ``satscore.core.phases``.
"""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from satscore.core.labels import Label
from satscore.core.levels import (
    LASTING_FRAC,
    LASTING_WINDOWS,
    LEVEL_MIN_FRAC,
    LOW_ENTER_FRAC,
    LOW_LEAVE_FRAC,
    RHYTHM_WINDOWS,
    WORK_AROUND_WINDOWS,
    WORKING_FRAC,
    worked,
)
from satscore.core.readings import FloatArray
from satscore.core.trend import TREND_POINTS, is_flat

SMOOTH_WINDOWS = 5
LOOK_AHEAD = SMOOTH_WINDOWS // 2
TURN_WINDOWS = 3
"""So many windows in a row begin or end a dip; their labels are taken back to the first."""
SPARSE_WORK_WINDOWS = 60
"""So many windows of work are a beginning, however short the pieces are in which they come."""
WARMUP_MAX_WINDOWS = 900
"""After so many windows without a level the run goes on as steady: it may never keep one."""
DIP_TEST_EVERY = 10
"""A long dip is tested for being a level of its own every so many windows: the test is not free."""
LEVEL_BINS = 1000
LEVEL_MEMORY_WINDOWS = 3600
"""The level is the median of about the last hour or two: older windows lose half of their weight."""


@dataclass(slots=True)
class _Window:
    index: int
    sat: float
    works: bool
    label: Label


class _Level:
    """Median of the accepted windows, from a histogram with bins of a tenth of a point."""

    def __init__(self) -> None:
        self._weights = np.zeros(LEVEL_BINS + 1)

    def add(self, sat: float) -> None:
        self._weights[round(min(max(sat, 0.0), 1.0) * LEVEL_BINS)] += 1.0
        if self._weights.sum() > LEVEL_MEMORY_WINDOWS:
            self._weights /= 2.0

    def median(self) -> float:
        """Return the median; 0 while nothing was added."""
        until = np.cumsum(self._weights)
        return float(np.searchsorted(until, until[-1] / 2.0)) / LEVEL_BINS


class _Recent:
    """The last 60 known windows."""

    def __init__(self) -> None:
        self._windows: deque[_Window] = deque(maxlen=TREND_POINTS)

    def add(self, window: _Window) -> None:
        self._windows.append(window)

    def sat(self) -> FloatArray:
        return np.array([window.sat for window in self._windows])

    def is_level(self) -> bool:
        """Return whether they are 60, work and keep a level."""
        working_count = sum(window.works for window in self._windows)
        return (
            len(self._windows) == TREND_POINTS and working_count >= WORKING_FRAC * TREND_POINTS and is_flat(self.sat())
        )


class OnlinePhases:
    """Labels the windows of a job one by one.

    What is returned depends on the windows alone, not on when they are given, and is never taken back.
    """

    def __init__(self) -> None:
        self._label = Label.STARTUP
        self._arrived: deque[_Window] = deque(maxlen=WORK_AROUND_WINDOWS)
        self._open: deque[_Window] = deque()
        """Windows whose label may still change, the oldest first; the last ones are not smoothed yet."""
        self._smoothed_count = 0
        """Of the open windows, those that have been judged."""
        self._worked_count = 0
        """Windows with work since the start; not counted any more once the warm-up has begun."""
        self._recent = _Recent()
        self._level = _Level()
        self._known_count = 0
        self._last_low_at = -RHYTHM_WINDOWS
        """Known windows until the last low stretch was noticed."""
        self._since_count = 0
        """Known windows since the current label began."""
        self._turning_count = 0
        """Windows in a row that speak for leaving steady, or the dip."""

    def add(self, index: int, sat: float, engine: float) -> list[tuple[int, Label]]:
        """Take one window and return those whose label has become final, in order.

        Args:
            index: The window's number, greater than the last one's. Numbers left out are unknown windows
                of which nothing is returned.
            sat: U, mean over ranks, 0..1; NaN where unknown: such a window goes with those around it.
            engine: Engine active, 0..1, NaN where unknown.
        """
        works = bool(worked(np.array([sat]), np.array([engine]))[0])
        window = _Window(index, sat, works, self._label)
        self._arrived.append(window)
        self._open.append(window)
        if self._label is Label.STARTUP:
            self._look_for_work()
        if len(self._open) - self._smoothed_count > LOOK_AHEAD:
            self._judge_next()
        return self._final(keep=LOOK_AHEAD + TURN_WINDOWS - 1)

    def flush(self) -> list[tuple[int, Label]]:
        """Return the labels of the last windows; where the run ends low, they are its tail."""
        while self._smoothed_count < len(self._open):
            self._judge_next()
        last_low = self._turning_count if self._label is Label.STEADY else 0
        for at, window in enumerate(self._open):
            if window.label is Label.DIP or at >= len(self._open) - last_low:
                window.label = Label.TAIL
        return self._final(keep=0)

    def _final(self, *, keep: int) -> list[tuple[int, Label]]:
        done = []
        while len(self._open) > keep:
            window = self._open.popleft()
            self._smoothed_count -= 1
            done.append((window.index, window.label))
        return done

    def _look_for_work(self) -> None:
        """Begin the warm-up at the first open window that works, once 5 of the last 10 do, or 60 of all."""
        self._worked_count += self._arrived[-1].works
        dense = 2 * sum(window.works for window in self._arrived) >= WORK_AROUND_WINDOWS
        if not dense and self._worked_count < SPARSE_WORK_WINDOWS:
            return
        first = next((at for at, window in enumerate(self._open) if window.works), len(self._open) - 1)
        self._enter(Label.WARMUP, back=len(self._open) - first)

    def _enter(self, label: Label, *, back: int) -> None:
        """Change the label, from so many open windows ago on (those not judged yet included)."""
        self._label = label
        self._since_count = self._turning_count = 0
        for at in range(max(len(self._open) - back, 0), len(self._open)):
            self._open[at].label = label

    def _judge_next(self) -> None:
        """Judge the first open window that was not: give it the present label, then see whether that ends."""
        at = self._smoothed_count
        self._smoothed_count += 1
        window, sat = self._open[at], self._smoothed(at)
        if window.label is not Label.STARTUP:  # the warm-up may have begun after this window
            window.label = self._label
        if math.isnan(sat):
            self._turning_count = 0
            return
        if not math.isnan(window.sat):
            self._known_count += 1
            self._since_count += 1
            self._recent.add(window)
        match self._label:
            case Label.WARMUP:
                self._judge_warmup()
            case Label.STEADY:
                self._judge_steady(window, sat)
            case Label.DIP:
                self._judge_dip(sat)
            case _:
                pass

    def _smoothed(self, at: int) -> float:
        """Return the median of the known ones of up to five windows around one; NaN if there are none."""
        around = [self._open[i] for i in range(max(at - LOOK_AHEAD, 0), min(at + LOOK_AHEAD + 1, len(self._open)))]
        known = sorted(window.sat for window in around if not math.isnan(window.sat))
        half = len(known) // 2
        if not known:
            return math.nan
        return known[half] if len(known) % 2 else (known[half - 1] + known[half]) / 2.0

    def _judge_warmup(self) -> None:
        if self._since_count < TREND_POINTS:
            return
        if self._recent.is_level() or self._since_count >= WARMUP_MAX_WINDOWS:
            self._begin_level()

    def _begin_level(self) -> None:
        """Go on as steady at the level of the last minute."""
        self._level = _Level()
        for sat in self._recent.sat():
            self._level.add(float(sat))
        self._enter(Label.STEADY, back=self._unjudged + 1)

    @property
    def _unjudged(self) -> int:
        return len(self._open) - self._smoothed_count

    def _turn(self, label: Label, *, turning: bool) -> None:
        """Count a window for or against another label, and change to it when three in a row speak for it."""
        self._turning_count = self._turning_count + 1 if turning else 0
        if self._turning_count == TURN_WINDOWS:
            self._enter(label, back=self._unjudged + TURN_WINDOWS)

    def _judge_steady(self, window: _Window, sat: float) -> None:
        level = self._level.median()
        low = level >= LEVEL_MIN_FRAC and sat < LOW_ENTER_FRAC * level
        if not math.isnan(window.sat):
            self._level.add(window.sat)
        if low and self._turning_count + 1 == TURN_WINDOWS:
            is_rhythm = self._known_count - self._last_low_at < RHYTHM_WINDOWS
            self._last_low_at = self._known_count
            if is_rhythm:  # the beat of the steps is part of their level
                self._turning_count = TURN_WINDOWS
                return
        self._turn(Label.DIP, turning=low)

    def _judge_dip(self, sat: float) -> None:
        self._turn(Label.STEADY, turning=sat >= LOW_LEAVE_FRAC * self._level.median())
        lasts = self._since_count > max(LASTING_WINDOWS, LASTING_FRAC * self._known_count)
        due = self._since_count % DIP_TEST_EVERY == 0
        if self._label is Label.DIP and lasts and due and self._recent.is_level():
            self._begin_level()
