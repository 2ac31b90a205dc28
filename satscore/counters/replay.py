"""The replay source: recorded readings, handed over when their time has come.

For looking at a run again, for testing and teaching without a GPU. Everything that it feeds is
marked REPLAY (and SIMULATED, where the recording itself was simulated).
"""

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from satscore.core.fields import Reading
from satscore.core.gpu import GpuInfo
from satscore.core.units import NS_PER_S
from satscore.counters.clock import Clock, parse_speed
from satscore.counters.source import SourceKind
from satscore.errors import CounterError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from satscore.core.readings import ReadingTable

PREFIX = "replay:"
_OPTION = re.compile(r",(\w+)=([^/,]*)$")
_MAX_SPEED = 100.0
"""Faster, a busy machine would lose readings between the threads."""
_NOTED_SILENCE_NS = NS_PER_S
"""A command that outlives the recording by less than a window loses nothing worth a note."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySpec:
    """A parsed selection."""

    path: Path
    """A recording, or a run directory with one."""
    speed: float = 1.0
    """Recorded seconds per real second."""


def parse_replay(text: str) -> ReplaySpec:
    """Parse ``replay:FILE`` or ``replay:FILE,speed=X``; a comma may also belong to the file's name.

    Raises:
        CounterError: No file is named, or an option or value is wrong; says which, and what is valid.
    """
    file, speed = text.removeprefix(PREFIX), "1"
    option = _OPTION.search(file)
    if option and difflib.get_close_matches(option[1], ["speed"]):
        if option[1] != "speed":
            raise CounterError(f"unknown option {option[1]!r} of a replay", hint="did you mean speed?")
        file, speed = file[: option.start()], option[2]
    if not file:
        raise CounterError(f"{text!r} names no recording", hint="write replay:FILE or replay:RUN")
    checked = parse_speed(speed, of="a replay", seconds="recorded", highest=_MAX_SPEED)
    return ReplaySpec(path=Path(file), speed=checked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a recording says about itself, as far as its replay needs it."""

    origin: str
    """Which recording, and where its readings come from; for people."""
    kind: SourceKind
    has_pipe_counters: bool
    grid_offset_ns: int
    gpus: tuple[GpuInfo, ...]


class ReplaySource:
    """Recorded readings behind the contract of a counter source.

    Args:
        recorded: What they are readings of.
        tables: The readings in the order of the recording; taken one table at a time.
        clock: Runs along the axis of the recording.
        is_cut_off: Whether the tables taken so far ended in the middle of one.
    """

    def __init__(
        self,
        recorded: Recorded,
        tables: "Iterator[ReadingTable]",
        clock: Clock,
        is_cut_off: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name = "replay"
        self.kind = recorded.kind
        self.has_pipe_counters = recorded.has_pipe_counters
        self.gpus = recorded.gpus
        self.clock = clock
        self.grid_offset_ns: int | None = recorded.grid_offset_ns
        self._origin = recorded.origin
        self._is_cut_off = is_cut_off
        self._readings = _rows(tables)
        self._next = next(self._readings, None)
        self._first_ns = clock.now_ns() if self._next is None else self._next.start_ns
        self._played_ns = self._first_ns
        self._asked_ns: int | None = None

    def read(self) -> list[Reading]:
        """Return the recorded readings that have ended since the last call; empty for the first."""
        is_first, self._asked_ns = self._asked_ns is None, self.clock.now_ns()
        out = list[Reading]()
        while not is_first and self._next is not None and self._next.end_ns <= self._asked_ns:
            out.append(self._next)
            self._played_ns = max(self._played_ns, self._next.end_ns)
            self._next = next(self._readings, None)
        return out

    def processes(self) -> None:
        """Return None: what computed on these GPUs then is not recorded."""

    def helper_cost(self) -> tuple[float, int]:
        """Return nothing: no process reads beside this one."""
        return 0.0, 0

    def notes(self) -> list[str]:
        """Return what is replayed, so that nobody takes it for a measurement of now, and how far it went."""
        played_s = (self._played_ns - self._first_ns) / NS_PER_S
        notes = [f"REPLAY: no GPU is read. {self._origin}"]
        if self._next is not None:
            notes.append(f"the first {played_s:.1f} s of the recording were played, the command was shorter")
        elif self._asked_ns is not None and self._asked_ns - self._played_ns > _NOTED_SILENCE_NS:
            notes.append(f"the recording ended after {played_s:.1f} s, before the command: the rest is not scored")
        if self._is_cut_off():
            notes.append("the recording was cut off: its whole batches were played")
        return notes

    def close(self) -> None:
        """Do nothing: the recording is closed with its last batch."""


def _rows(tables: "Iterator[ReadingTable]") -> Iterator[Reading]:
    """Yield the readings of tables; no more than one table is held."""
    for table in tables:
        for i in range(len(table)):
            yield Reading(
                gpu=int(table.gpu[i]),
                start_ns=int(table.start_ns[i]),
                end_ns=int(table.end_ns[i]),
                values=table.values[i].tolist(),
                quality=bytearray(table.quality[i].tobytes()),
            )
