"""Following what the command writes to SATSCORE_MARKS: bounded work per visit, bounded memory per run."""

import contextlib
import ctypes
import os
import resource
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from satscore.core.marks import Mark, parse_line
from satscore.core.progress_state import ProgressMeter, ProgressState
from satscore.core.units import NS_PER_S
from satscore.counters.clock import Clock
from satscore.marks import FILE_MAX_BYTES
from satscore.record.marks_file import Said

VISIT_BYTES = 1 << 20
VISIT_LINES = 10_000
"""Read per visit, whichever is less: below 0.1 s."""
FINISH_LINES = 1000
FINISH_S = 0.15
"""Reading at the end of the command: as much as can be had in this time, in pieces of 10 ms."""
BACKLOG_BYTES = 64 << 20
"""More than this behind, the rest is skipped: it would never be caught up with."""
FREE_BYTES = 1 << 20
MARKS_MAX = 10_000
FUTURE_NS = NS_PER_S
"""A line may be this far ahead of the time at which it is read, or before the start of the run."""
_BLOCK_BYTES = 4096
_STAT_BLOCK_BYTES = 512
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2
"""<linux/falloc.h>."""
_CLOCK_READS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class GridTime:
    """Wall time as of one instant, and how it maps to the grid of the windows.

    The grid is the source's axis plus an offset fixed at the start (a simulation's runs faster), while
    wall time may be set at any moment: so the command's times are taken against CLOCK_MONOTONIC anew.

    Attributes:
        clock: The source's.
        grid_offset_ns: Grid minus the source's axis, ns.
        now_ns: Wall time of the instant, ns.
        wall_offset_ns: Wall time minus CLOCK_MONOTONIC at it, ns.
    """

    clock: Clock
    grid_offset_ns: int
    now_ns: int
    wall_offset_ns: int

    @classmethod
    def now(cls, clock: Clock, grid_offset_ns: int) -> "GridTime":
        """Return that of the present time."""
        _, now_ns, wall_offset_ns = min(_read_clocks() for _ in range(_CLOCK_READS))
        return cls(clock=clock, grid_offset_ns=grid_offset_ns, now_ns=now_ns, wall_offset_ns=wall_offset_ns)

    def of_wall(self, wall_ns: int) -> int:
        """Return a wall time in ns on the grid, ns."""
        return self.clock.from_monotonic_ns(wall_ns - self.wall_offset_ns) + self.grid_offset_ns


def _read_clocks() -> tuple[int, int, int]:
    """Return how long both took, wall time, and wall time minus CLOCK_MONOTONIC between them, ns."""
    before_ns, wall_ns, after_ns = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
    return after_ns - before_ns, wall_ns, wall_ns - (before_ns + after_ns) // 2


class News(NamedTuple):
    """What came since the last visit, times on the grid."""

    marks: tuple[Mark, ...]
    progress: ProgressState


class MarksTail:
    """Reads the file's new lines; one thread.

    Args:
        descriptor: The file, open for reading; -1: there is none, and nothing is ever said.
        started_ns: CLOCK_MONOTONIC at the command's start: no line is older.
    """

    def __init__(self, descriptor: int, started_ns: int) -> None:
        self.marks: list[Mark] = []
        self.progress = ProgressState()
        """All calls so far."""
        self._descriptor = descriptor
        self._started_ns = started_ns
        self._meter = ProgressMeter()
        self._offset = self._freed = 0
        self._in_long_line = False
        self._garbage_count = self._mistimed_count = self._refused_count = self._lost_bytes = 0
        self._refusals: set[str] = set()
        """Why the command could not write, at the times at which this looked."""
        self._failure: str | None = None

    def visit(self, at: GridTime) -> News:
        """Take what has come, at most 1 MiB and 10,000 lines of it; never fails."""
        return self._taken(self._read(at, VISIT_LINES, is_last=False))

    def finish(self, at: GridTime, now_s: Callable[[], float] = time.monotonic) -> News:
        """Take what is left, as much as 0.15 s allow: nothing is read afterwards. A last line needs no end.

        Args:
            at: The present time.
            now_s: A clock that goes on evenly, s.
        """
        marks = list[Mark]()
        ends_s = now_s() + FINISH_S
        while True:
            before = self._offset
            marks += self._read(at, FINISH_LINES, is_last=True)
            if self._offset == before or now_s() >= ends_s:
                break
        self._lose(max(0, self._size() - self._offset))
        return self._taken(marks)

    def said(self) -> Said:
        """Return all that was taken so far."""
        return Said(marks=tuple(self.marks), progress=self.progress)

    def notes(self) -> list[str]:
        """Return what the command wrote and is not taken, or not as it was written."""
        notes = [f"marks and progress were read until {self._failure}"] if self._failure else []
        if self._garbage_count:
            notes.append(f"{self._garbage_count} lines of SATSCORE_MARKS are neither marks nor progress: left out")
        if self._mistimed_count:
            notes.append(f"{self._mistimed_count} marks or steps had times outside the run: taken as of when they came")
        if self._refused_count:
            notes.append(f"{self._refused_count} marks left out: a run keeps {MARKS_MAX:,}")
        if self._lost_bytes:
            size_mb = self._lost_bytes / 1e6
            notes.append(f"{size_mb:.1f} MB of SATSCORE_MARKS were not read; marks among them are lost")
        if self._refusals:
            reasons = ", ".join(sorted(self._refusals))
            notes.append(f"SATSCORE_MARKS could not be written for a time ({reasons}): marks and progress may be lost")
        return notes

    def _taken(self, marks: Iterable[Mark]) -> News:
        found = list(marks)
        kept = found[: MARKS_MAX - len(self.marks)]
        self._refused_count += len(found) - len(kept)
        self.marks += kept
        news = News(marks=tuple(kept), progress=self._meter.take())
        self.progress = self.progress.merge(news.progress)
        return news

    def _read(self, at: GridTime, lines_max: int, *, is_last: bool) -> list[Mark]:
        if self._descriptor < 0:
            return []
        try:
            self._look()
            self._skip(self._size() - self._offset)
            data = os.pread(self._descriptor, VISIT_BYTES, self._offset)
        except OSError as error:
            self._failure = self._failure or f"the file failed: {error.strerror}"
            return []
        *lines, rest = data.split(b"\n", lines_max)
        whole = len(data) - len(rest)
        if len(lines) < lines_max and is_last and len(data) < VISIT_BYTES:
            lines, whole = [*lines, *filter(None, [rest])], len(data)
        is_cut = not whole and len(data) == VISIT_BYTES
        if is_cut:
            lines, whole = [data], VISIT_BYTES
        marks = self._parse(lines, at, is_cut=is_cut)
        self._offset += whole
        self._free()
        return marks

    def _look(self) -> None:
        """See whether the command can write at present.

        Raises:
            OSError: The file cannot be asked.
        """
        info, space = os.fstat(self._descriptor), os.fstatvfs(self._descriptor)
        if info.st_blocks * _STAT_BLOCK_BYTES >= FILE_MAX_BYTES:
            self._refusals.add(f"it held {FILE_MAX_BYTES >> 20} MiB")
        if space.f_blocks and not space.f_bavail:
            self._refusals.add("its file system was full")
        limit_bytes, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if limit_bytes != resource.RLIM_INFINITY and info.st_size >= limit_bytes:
            self._refusals.add("it had the largest size that ulimit -f allows")

    def _size(self) -> int:
        try:
            return os.fstat(self._descriptor).st_size if self._descriptor >= 0 else 0
        except OSError:
            return self._offset

    def _lose(self, size_bytes: int) -> None:
        self._lost_bytes += size_bytes
        self._meter.add_lost(size_bytes)

    def _skip(self, behind: int) -> None:
        if behind < 0:  # the command has emptied it (> instead of >>)
            self._offset = self._freed = 0
            self._in_long_line = False
        elif behind > BACKLOG_BYTES:
            self._lose(behind)
            self._offset += behind
            self._in_long_line = True

    def _parse(self, lines: list[bytes], at: GridTime, *, is_cut: bool) -> list[Mark]:
        """Return the marks among lines, and take the steps.

        Args:
            lines: Without their ends.
            at: The present time.
            is_cut: Whether it is one that is too long, and not its end.
        """
        marks = list[Mark]()
        if is_cut:
            self._in_long_line = True
            return marks
        if self._in_long_line and lines:  # the rest of a line whose beginning was not taken
            self._in_long_line = False
            self._garbage_count += 1
            lines = lines[1:]
        earliest_ns = self._started_ns + at.wall_offset_ns - FUTURE_NS
        for line in lines:
            found = parse_line(line, at.now_ns)
            if found is None:
                self._garbage_count += bool(line.strip())
                continue
            time_ns = found.time_ns
            if not earliest_ns <= time_ns <= at.now_ns + FUTURE_NS:
                self._mistimed_count += 1
                time_ns = at.now_ns
            found = msgspec.structs.replace(found, time_ns=at.of_wall(time_ns))
            if isinstance(found, Mark):
                marks.append(found)
            else:
                self._meter.add(found)
        return marks

    def _free(self) -> None:
        """Give the disk back what has been read (it may be memory of the job); not every file system can."""
        end = self._offset // _BLOCK_BYTES * _BLOCK_BYTES
        if end - self._freed < FREE_BYTES:
            return
        flags = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
        with contextlib.suppress(OSError, AttributeError):  # not every C library has it
            ctypes.CDLL(None).fallocate(self._descriptor, flags, ctypes.c_long(0), ctypes.c_long(end))
        self._freed = end
