"""Opening a recording as a counter source: which file, is it whole, and what it says about itself."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from satscore.core.readings import ReadingTable
from satscore.counters.clock import ScaledClock
from satscore.counters.replay import Recorded, ReplaySource, ReplaySpec
from satscore.errors import RecordError
from satscore.launch.request import RunOptions
from satscore.record.run_file import RunFile, RunStart, read_run_file
from satscore.record.stream import NOT_OURS_HINT, Recording

SHOWN_FILES = 4


def check_replay(spec: ReplaySpec) -> None:
    """Refuse, before a command starts, what could not be replayed beside it.

    Raises:
        RecordError: As for ``open_replay``.
    """
    _open(spec.path)


def open_replay(spec: ReplaySpec, started_ns: int) -> tuple[ReplaySource, RunFile | None]:
    """Open a recording; it plays from its first time on while the command runs.

    Args:
        spec: Which recording, and how fast.
        started_ns: CLOCK_MONOTONIC at the command's start, which is the recording's first time: what
            opening it takes is caught up by the first read.

    Returns:
        The source, and the ``run.json`` beside the recording; None: it stands alone, and every GPU in it counts.

    Raises:
        RecordError: There is no such recording, it is not ours, or it holds nothing; names the file.
    """
    recording, first, rest = _open(spec.path)
    header = recording.header
    recorded = Recorded(
        origin=_origin(recording, spec.speed),
        kind="simulated" if header.data_kind == "simulated" else "replay",
        has_pipe_counters=header.has_pipe_counters,
        grid_offset_ns=header.grid_offset_ns,
        gpus=tuple(header.gpus),
    )
    clock = ScaledClock(spec.speed, since_ns=started_ns, reads_ns=int(first.start_ns.min()))
    source = ReplaySource(recorded, chain([first], rest), clock, lambda: recording.cut_off)
    return source, _run_file(recording.path.parent)


def _run_file(directory: Path) -> RunFile | None:
    try:
        return read_run_file(directory)
    except RecordError:
        return None


def other_options(recorded: RunStart, options: RunOptions) -> list[str]:
    """Return a note where a recorded run was asked for something else than the run that replays it."""
    pairs = (
        ("profile", recorded.profile, options.profile),
        ("dtype", recorded.dtype, options.dtype),
        ("period", f"{recorded.period_s:g}", f"{options.period_s:g}"),
    )
    differing = [(name, before, now) for name, before, now in pairs if before != now]
    if not differing:
        return []
    then = ", ".join(f"--{name} {before}" if before else f"no --{name}" for name, before, _ in differing)
    here = ", ".join(f"--{name} {now}" if now else f"no --{name}" for name, _, now in differing)
    return [f"the recording was made with {then}; the numbers are this run's, with {here}"]


def _origin(recording: Recording, speed: float) -> str:
    header = recording.header
    scenario = f" ({header.scenario})" if header.scenario else ""
    what = f"{recording.path}: source {header.source}{scenario} on {header.hostname}, rank {header.rank}"
    return what if speed == 1 else f"{what}, at {speed:g} times its speed"


def _open(path: Path) -> tuple[Recording, ReadingTable, Iterator[ReadingTable]]:
    """Return a recording, its first batch and those after it."""
    recording = Recording(_find(path))
    if not recording.header.gpus:
        raise RecordError(f"{recording.path}: the header lists no GPU", hint=NOT_OURS_HINT)
    tables = recording.batches()
    first = next(tables, None)
    if first is None or len(first) == 0:
        hint = "the run was cut off before its first readings were written whole; name another recording"
        raise RecordError(f"{recording.path}: no whole batch of readings", hint=hint)
    return recording, first, tables


def _find(path: Path) -> Path:
    """Return the one recording of a run directory, or the file itself.

    A directory of several ranks is not played together: they may have been on other machines and clocks.
    """
    if not path.is_dir():
        return path
    found = sorted(path.glob("readings-*.arrows"))
    if not found:
        raise RecordError(
            f"{path}: no recording of readings (readings-*.arrows)",
            hint="name a run directory that was not made with --record no",
        )
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:SHOWN_FILES]) + (", ..." if len(found) > SHOWN_FILES else "")
        raise RecordError(f"{path}: holds {len(found)} recordings: {names}", hint=f"name one: replay:{found[0]}")
    return found[0]
