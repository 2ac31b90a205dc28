"""What a command says of itself: the lines of SATSCORE_MARKS as values, and marks that state a phase.

A line is a JSON object (docs/outputs.md, "Marks"): ``{"mark": NAME}`` or any of ``step``, ``tokens``
and ``flop``, with ``time_ns`` (wall time), ``pid`` and ``rank`` where they are known.
"""

from collections.abc import Iterable

import msgspec

from satscore.core.labels import Label, PhaseMark
from satscore.core.units import NS_PER_S

LINE_MAX_BYTES = 4096
"""PIPE_BUF of Linux; satscore's own lines are shorter."""
NAME_MAX_CHARS = 200
STEP_MAX = 1 << 53
TOKENS_MAX = 1e18
FLOP_MAX = 1e27
"""In one call. 10,752 GPUs at 1e16 FLOP/s do 1e27 in less than three hours: more is no amount."""
AUTOMATIC = "auto"
_PHASES: dict[str, Label | None] = {label.text: label for label in Label} | {AUTOMATIC: None}


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A point in time that the command has named.

    Attributes:
        time_ns: Wall time in ns.
        name: 1 to 200 printable characters.
    """

    time_ns: int
    name: str


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One call of ``progress`` by one process.

    Attributes:
        time_ns: Wall time in ns.
        pid: The process; 0 where the line does not say.
        rank: Its rank, which tells processes of several PID namespaces apart; None: not stated.
        step: Number of the step that is complete; None: not given, or no number.
        tokens: Tokens since its last call; None as above.
        flop: FLOP since its last call; None as above.
        wrong_count: Values that were given and are none.
    """

    time_ns: int
    pid: int = 0
    rank: int | None = None
    step: int | None = None
    tokens: int | None = None
    flop: int | None = None
    wrong_count: int = 0


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    time_ns: int | None = None
    pid: int = 0
    rank: int | None = None
    mark: str | None = None
    step: int | float | None = None
    tokens: int | float | None = None
    flop: int | float | None = None
    wrong_count: int = 0


_decode = msgspec.json.Decoder(_Line).decode


def parse_line(line: bytes, read_ns: int) -> Mark | Step | None:
    """Return what a line says; None if it is nothing of ours.

    Args:
        line: The line, with or without its end.
        read_ns: Wall time in ns at which it was read: the time of a line that states none.
    """
    if len(line) > LINE_MAX_BYTES:
        return None
    try:
        said = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    time_ns = read_ns if said.time_ns is None else said.time_ns
    if said.mark is not None:
        name = clean_name(said.mark)
        return Mark(time_ns=time_ns, name=name) if name else None
    return _step(said, time_ns)


def _step(said: _Line, time_ns: int) -> Step | None:
    step = _whole(said.step, -STEP_MAX, STEP_MAX)
    if step is not None and step != said.step:
        step = None  # 5.5 is no number of a step
    tokens, flop = _whole(said.tokens, 0, TOKENS_MAX), _whole(said.flop, 0, FLOP_MAX)
    pairs = ((said.step, step), (said.tokens, tokens), (said.flop, flop))
    wrong_count = max(0, said.wrong_count) + sum(given is not None and taken is None for given, taken in pairs)
    if not wrong_count and step is None and tokens is None and flop is None:
        return None
    return Step(
        time_ns=time_ns, pid=said.pid, rank=said.rank, step=step, tokens=tokens, flop=flop, wrong_count=wrong_count
    )


def _whole(value: float | None, lowest: float, highest: float) -> int | None:
    """Return a value rounded to a whole number; None if it is none or out of range."""
    return round(value) if value is not None and lowest <= value <= highest else None


def clean_name(text: str) -> str:
    """Return a name that may stand in any output: printable, single spaces, at most 200 characters; may be empty."""
    shown = "".join(c if c.isprintable() else " " for c in text[:LINE_MAX_BYTES])
    return " ".join(shown.split())[:NAME_MAX_CHARS].rstrip()


def phase_marks(marks: Iterable[Mark], first_index: int, *, window_ns: int = NS_PER_S) -> list[PhaseMark]:
    """Return the marks that state a phase, by window; all other names are notes.

    A mark takes effect with the window in which it falls; of several in one window the last counts, and
    one before the first window counts from that on. Upper and lower case are the same.

    Args:
        marks: In any order, times on the wall-clock grid of the windows.
        first_index: Number on that grid of the window that becomes index 0.
        window_ns: Length of a window in ns.
    """
    labels: dict[int, Label | None] = {}
    for mark in sorted(marks, key=lambda mark: mark.time_ns):
        name = mark.name.lower()
        if name in _PHASES:
            labels[max(0, mark.time_ns // window_ns - first_index)] = _PHASES[name]
    return [PhaseMark(index, label) for index, label in labels.items()]
