"""A recorded run through the same path as a live one: run directory in, summary out."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from satscore.core.bounds import PROFILES
from satscore.core.hwmodel import HardwareModel
from satscore.core.readings import ReadingTable, concatenate
from satscore.core.summary import Summary
from satscore.errors import RecordError
from satscore.record.marks_file import read_marks
from satscore.record.run_file import RUN_FILE, RunFile, read_run_file
from satscore.record.stream import Recording, repair
from satscore.record.sums_file import PATTERN, readings_beside
from satscore.run.models import folder_to_add, load_library
from satscore.run.rank_gpus import Hardware
from satscore.run.results import summarise
from satscore.run.session import Session
from satscore.run.sums_report import StoredRun

CUT_NOTE = "the recording of rank {rank} was cut off: what came after its last whole batch is lost"
QUIET_S = 60.0
"""A recording that nobody has written to for this long has ended: a batch is written at least every 30 s."""
CHUNK_READINGS = 16384
"""Readings scored at a time: a day of four GPUs is 17,280 batches, and each call costs milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """A summary made from a recording, and what the reader should hear about it."""

    summary: Summary
    warnings: tuple[str, ...]


def rebuild(directory: Path, *, group_by: str | None = None) -> Rebuilt:
    """Score a run again from its recording.

    A recording that was cut off (satscore killed, power cut) is scored as far as it goes and rewritten
    as its valid prefix, so that other Arrow readers open it too; but never one that may still be written.
    Ranks without readings are taken from their sums.

    Args:
        directory: The run directory.
        group_by: How ranks are grouped for their comparison; None: as in the run.

    Raises:
        RecordError: There is no run, no recording, or one that is not ours; names the file.
    """
    content = read_run_file(directory)
    if content.start.profile not in PROFILES:
        raise RecordError(
            f"{directory / RUN_FILE}: $.start.profile: {content.start.profile!r} is not one of {', '.join(PROFILES)}",
            hint="the file was changed or damaged",
        )
    if group_by is not None:
        content = msgspec.structs.replace(content, start=msgspec.structs.replace(content.start, group_by=group_by))
    readings = sorted(directory.glob("readings-*.arrows"))
    sums = sorted(path for path in directory.glob(PATTERN) if readings_beside(path) not in readings)
    if not readings and not sums:
        raise RecordError(
            f"{directory}: no recording of readings (readings-*.arrows) or sums ({PATTERN})",
            hint="the run was made with --record no or without a GPU; its summary.json has the result, if any",
        )
    library = load_library(os.environ)
    ranks, warnings, live = [], library.notes(), False
    for path in readings:
        recording = Recording(path)
        ranks.append((recording.header, _replay(recording, content, library.models)))
        is_live = recording.is_live()
        live = live or is_live is True
        if recording.cut_off and not is_live:
            warnings.append(_mend(recording, has_ended=is_live is False and content.end is not None))
    shown, said = str(directory), read_marks(directory)
    if sums:
        hardware = Hardware(library.models, content.start.dtype, folder_to_add(os.environ))
        summary = StoredRun(sums, content, hardware).summary(content, ranks, directory=shown, live=live, said=said)
        return Rebuilt(summary=summary, warnings=tuple(warnings))
    summary = summarise(content, ranks, directory=shown, live=live, said=said)
    return Rebuilt(summary=summary, warnings=tuple(warnings))


def _replay(recording: Recording, content: RunFile, models: Sequence[HardwareModel]) -> Session:
    session = Session.of(recording.header, content.start, models, folder_to_add(os.environ))
    for table in _chunks(recording.batches()):
        session.add(table)
    if content.end is not None and content.end.scored_until_ns is not None:
        session.add_lost(content.end.scored_until_ns)
    session.close()
    return session


def _chunks(batches: Iterable[ReadingTable]) -> Iterator[ReadingTable]:
    """Join small batches; how readings are batched never changes a result."""
    waiting, size = list[ReadingTable](), 0
    for table in batches:
        waiting.append(table)
        size += len(table)
        if size >= CHUNK_READINGS:
            yield concatenate(waiting)
            waiting, size = [], 0
    if waiting:
        yield concatenate(waiting)


def _mend(recording: Recording, *, has_ended: bool) -> str:
    """Repair a recording that nobody holds locked, once it is sure or old enough; return what to say.

    Locks may be missing or reach one node only (NFS, Lustre): then time has to tell.
    """
    text = CUT_NOTE.format(rank=recording.header.rank)
    if not has_ended and recording.age_s() < QUIET_S:
        return f"{text} (not repaired: it may still be written)"
    try:
        repair(recording)
    except OSError as error:
        return f"{text} (not repaired: {error.strerror})"
    return f"{text} (repaired)"
