"""``marks.jsonl`` of a run directory: what the command said of itself, kept while it runs.

Each line is a JSON object: ``{"mark": {...}}``, or ``{"progress": {...}}``, the sums of the calls since
the line before. Those of the whole file merge to the state of the run, so the file grows with time and
not with the number of steps, and a report knows of a killed run what the run itself knew.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from satscore.core.marks import Mark, clean_name
from satscore.core.progress_state import TIME_MAX_NS, ProgressState
from satscore.errors import RecordError
from satscore.record.files import FILE_MODE

MARKS_FILE = "marks.jsonl"


class _Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    mark: Mark | None = None
    progress: ProgressState | None = None


_decode = msgspec.json.Decoder(_Line).decode
MOST_RANKS = 10**9
NO_FILE_HINT = "it is left out of the report; everything else is in it"


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What the command said.

    Attributes:
        marks: In the order in which they were read.
        progress: All calls of ``progress``, merged.
        damaged_count: Lines of the file that cannot be read; the last one of a killed run may be cut.
    """

    marks: tuple[Mark, ...] = ()
    progress: ProgressState = ProgressState()
    damaged_count: int = 0


NOTHING_SAID = Said()


def marks_lines(marks: Iterable[Mark], progress: ProgressState) -> bytes:
    """Return the lines that keep these marks and these calls; nothing where there are none."""
    lines = [_Line(mark=mark) for mark in marks]
    if progress != ProgressState():
        lines.append(_Line(progress=progress))
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def marks_file_name(hostname: str, rank: int) -> str:
    """Return the name of the file of one rank; that of rank 0 is all that a run without a launcher has."""
    return MARKS_FILE if rank == 0 else f"marks-{hostname}-{rank}.jsonl"


def append_marks(path: Path, lines: bytes) -> None:
    """Append lines to a file of marks; without any it is not made.

    Raises:
        OSError: The file system refuses.
    """
    if not lines:
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, FILE_MODE), "wb") as file:
        file.write(lines)


def read_marks(directory: Path) -> Said:
    """Read what was said in a run: in a job, what the lowest rank said that said something.

    Raises:
        RecordError: The first file with anything in it cannot be read, or is no file.
    """
    said = read_marks_file(directory / MARKS_FILE)
    others = sorted(directory.glob("marks-*.jsonl"), key=_rank_of_file) if said == NOTHING_SAID else []
    for path in others:
        said = read_marks_file(path)
        if said != NOTHING_SAID:
            break
    return said


def _rank_of_file(path: Path) -> tuple[int, str]:
    """Return by which a file of marks stands among the others: names without a rank come last."""
    number = path.stem.rpartition("-")[2]
    return int(number) if number.isascii() and number.isdecimal() and len(number) < 10 else MOST_RANKS, path.name


def read_marks_file(path: Path) -> Said:
    """Read a file of marks; where there is none, nothing was said.

    Raises:
        RecordError: It is there and cannot be read, or is no file.
    """
    marks, progress, damaged_count = list[Mark](), ProgressState(), 0
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for its writer
            raise RecordError(f"{path}: not a file", hint=NO_FILE_HINT)
        with path.open("rb") as file:
            for text in file:
                line = _line_of(text)
                if line is None:
                    damaged_count += 1
                    continue
                marks += [line.mark] if line.mark else []
                progress = progress.merge(line.progress) if line.progress else progress
    except FileNotFoundError:
        return Said()
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}", hint=NO_FILE_HINT) from error
    return Said(marks=tuple(marks), progress=progress, damaged_count=damaged_count)


def _line_of(text: bytes) -> _Line | None:
    """Return what a line says; None if it is none that satscore writes."""
    try:
        line = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return line if line.mark is None or _is_sane(line.mark) else None


def _is_sane(mark: Mark) -> bool:
    return abs(mark.time_ns) < TIME_MAX_NS and mark.name != "" and clean_name(mark.name) == mark.name
