"""``run.json``: what ran, under which options, and how it ended. Everything but the counters."""

import os
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from satscore.core.gpu import GpuInfo
from satscore.core.int_columns import DAMAGED_HINT
from satscore.core.placement import Placement
from satscore.core.summary import ComparisonItem, Cost, DataKind, RunKind
from satscore.errors import RecordError
from satscore.record.files import write_atomic

RUN_FILE = "run.json"
FORMAT_VERSION = 2
"""Of all files of a run. 1: in recordings of readings a byte per quality, and every counter a column of its own."""
MOST_BYTES = 64 << 20
"""A hundred times what the longest command and its notes take."""
MOST_NS = 3 << 60
"""A century: sums of such times stay within 64 bits."""
Times = Annotated[int, msgspec.Meta(ge=-MOST_NS, le=MOST_NS)]
"""ns."""
END_ROOM_BYTES = 4096
"""Kept free in the file of a run that goes on, so that a disk which is full at its end holds the end."""


class JobIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Which rank of which job this is (launch.request.Identity, without its notes)."""

    launcher: str
    rank: int
    world: int
    local_rank: int | None
    local_world: int | None
    key: str | None
    restart: int = 0


class RunStart(msgspec.Struct, frozen=True, kw_only=True):
    """Known when the command starts. The command is already redacted."""

    run_id: str
    label: str | None
    command: list[str]
    hostname: str
    started_utc: str
    profile: str
    dtype: str | None
    period_s: float
    python_version: str
    kernel_version: str
    kind: RunKind = "command"
    group_by: str = "none"
    """Which ranks are compared with each other."""
    job: JobIdentity | None = None
    """None: there is no launcher, this process is the whole job."""


class RunEnd(msgspec.Struct, frozen=True, kw_only=True):
    """Known when the command has ended; absent if satscore was killed before.

    ``no_pipes_reason`` is why there were no pipe counters, or no source at all; None if there were.
    ``comparison`` is of GPM against DCGM (``--source both``).
    ``scored_until_ns`` is the end of the last reading on the axis of the readings: a recording that ends
    before it has lost its tail.
    """

    exit_code: int | None
    exit_signal: str | None
    duration_s: float
    late_reads_count: int
    latest_read_s: float
    notes: list[str]
    cost: Cost
    no_pipes_reason: str | None = None
    comparison: list[ComparisonItem] = []
    scored_until_ns: Times | None = None


class RunFile(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``run.json``."""

    format_version: int
    satscore_version: str
    start: RunStart
    placement: Placement | None = None
    """Which GPUs the command uses, kept up to date during the run; None: no GPU was measured."""
    end: RunEnd | None = None
    clock_correction_ns: Times = 0
    """To be added to this host's wall time to have that of the collector, where windows were scored by it."""


class StreamHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What one recording of readings is about; stored in the Arrow schema's metadata.

    ``fields`` is the order of the qualities; ``grid_offset_ns`` is wall time minus the axis of
    the readings' times.
    """

    format_version: int
    hostname: str
    rank: int
    local_rank: int | None
    source: str
    scenario: str | None
    data_kind: DataKind
    has_pipe_counters: bool
    grid_offset_ns: int
    fields: list[str]
    gpus: list[GpuInfo]


_T = TypeVar("_T", bound=msgspec.Struct)


def json_text(text: str) -> str:
    """Return text that JSON can hold: bytes of an argument or a path that are not UTF-8 become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def rank_file_name(hostname: str, rank: int) -> str:
    """Return the name of a rank's own file: ``run.json`` of rank 0, which stands for the job."""
    return RUN_FILE if rank == 0 else f"run-{hostname}-{rank}.json"


def own_file_name(start: RunStart) -> str:
    """Return the name of the file of the rank that a start describes."""
    return rank_file_name(start.hostname, start.job.rank if start.job else 0)


def write_run_file(directory: Path, content: RunFile) -> None:
    """Write the rank's own file; without an end it is padded with spaces, so that the end fits in later.

    Raises:
        OSError: The file system refuses.
    """
    data = msgspec.json.format(msgspec.json.encode(content), indent=2)
    room = END_ROOM_BYTES if content.end is None else 0
    write_atomic(directory / own_file_name(content.start), data + b" " * room + b"\n")


def end_run_file(directory: Path, content: RunFile) -> None:
    """Write the rank's own file at the end of the run; where the disk is full, into the space kept for it.

    Raises:
        OSError: The file system refuses that as well.
    """
    try:
        write_run_file(directory, content)
    except OSError:
        if not _overwrite(directory / own_file_name(content.start), content):
            raise


def _overwrite(path: Path, content: RunFile) -> bool:
    """Replace a file's bytes without a change of its size, at the cost of notes; return whether it fits.

    Raises:
        OSError: The file cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        size = os.fstat(descriptor).st_size
        data = msgspec.json.encode(content)
        while len(data) > size and content.end and content.end.notes:
            content = msgspec.structs.replace(
                content, end=msgspec.structs.replace(content.end, notes=content.end.notes[:-1])
            )
            data = msgspec.json.encode(content)
        return len(data) <= size and file.write(data.ljust(size)) == size


def read_run_file(directory: Path) -> RunFile:
    """Read ``run.json`` of a run directory.

    Raises:
        RecordError: It is missing, not JSON, of a newer format, or a key is wrong (named).
    """
    path = directory / RUN_FILE
    try:
        data = read_some(path)
    except OSError as error:
        hint = f"'{directory}' is not a run directory of satscore" if directory.is_dir() else "name a run directory"
        raise RecordError(f"{path}: {error.strerror}", hint=hint) from error
    return decode_checked(data, RunFile, str(path))


def read_some(path: Path) -> bytes:
    """Return the bytes of a rank's own file.

    Raises:
        OSError: The file system refuses.
        RecordError: It is no regular file, or far too large.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait for its writer
        raise RecordError(f"{path}: not a file", hint=DAMAGED_HINT)
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise RecordError(f"{path}: more than {MOST_BYTES >> 20} MiB", hint=DAMAGED_HINT)
    return data


def decode_checked(data: bytes, kind: type[_T], where: str) -> _T:
    """Decode JSON of ours; a newer format is said before any key is complained about."""
    try:
        version = msgspec.json.decode(data, type=_Version).format_version
        if version > FORMAT_VERSION:
            raise RecordError(
                f"{where}: format_version {version} is newer than this satscore knows ({FORMAT_VERSION})",
                hint="use a satscore at least as new as the one that recorded the run",
            )
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise RecordError(f"{where}: {error}", hint=DAMAGED_HINT) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"{where}: not JSON: {error}", hint="the file was cut off or damaged") from error


class _Version(msgspec.Struct):
    format_version: int
