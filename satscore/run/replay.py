"""A recorded run through the same path as a live one: run directory in, summary out."""

import contextlib
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from satscore.core.bounds import PROFILES
from satscore.core.groups import checked_grouping
from satscore.core.hwmodel import HardwareModel
from satscore.core.int_columns import DAMAGED_HINT
from satscore.core.readings import ReadingTable, concatenate
from satscore.core.summary import Summary
from satscore.core.units import NS_PER_S
from satscore.errors import RecordError, UsageError
from satscore.record.marks_file import NOTHING_SAID, Said, read_marks
from satscore.record.run_file import RUN_FILE, RunFile, read_run_file
from satscore.record.stream import Recording, repair
from satscore.record.sums_file import PATTERN, readings_beside
from satscore.run.aside import Aside
from satscore.run.host_report import read_hosts
from satscore.run.models import folder_to_add, load_library
from satscore.run.rank_gpus import Hardware
from satscore.run.results import summarise
from satscore.run.session import Session
from satscore.run.sums_report import summary_of_sums

CUT_NOTE = "the recording of rank {rank} was cut off: what came after its last whole batch is lost"
QUIET_S = 60.0
"""A recording that nobody has written to for this long has ended: a batch is written at least every 30 s."""
SUMS_QUIET_S = 120.0
"""Sums are rewritten every minute; twice that without a word is a run that was killed."""
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
    content = _content(directory, group_by)
    readings, sums = _recordings(directory)
    library = load_library(os.environ)
    ranks, warnings, live = [], library.notes(), False
    for path in readings:
        recording = Recording(path)
        ranks.append((recording.header, _replay(recording, content, library.models)))
        is_live = recording.is_live()
        live = live or is_live is True
        if recording.cut_off and not is_live:
            warnings.append(_mend(recording, has_ended=is_live is False and content.end is not None))
    said, unread = _said(directory)
    hosts, unread_hosts = read_hosts(directory)
    aside = Aside(said=said, hosts=hosts)
    if sums:
        live = live or (content.end is None and _age_s(sums) < SUMS_QUIET_S)
        hardware = Hardware(library.models, content.start.dtype, folder_to_add(os.environ))
        summary, missing = summary_of_sums(
            sums, content, hardware, ranks, directory=str(directory), live=live, aside=aside
        )
    else:
        summary = summarise(content, ranks, directory=str(directory), live=live, aside=aside)
        missing = ()
    unread = (*unread, *unread_hosts)
    summary = msgspec.structs.replace(summary, notes=[*unread, *summary.notes])
    return Rebuilt(summary=summary, warnings=(*warnings, *missing, *unread))


def _content(directory: Path, group_by: str | None) -> RunFile:
    """Return ``run.json`` with another grouping, where one is given; what it names exists."""
    content = read_run_file(directory)
    start, path = content.start, directory / RUN_FILE
    if start.profile not in PROFILES:
        raise RecordError(
            f"{path}: $.start.profile: {start.profile!r} is not one of {', '.join(PROFILES)}", hint=DAMAGED_HINT
        )
    try:
        grouping = checked_grouping(start.group_by if group_by is None else group_by)
    except UsageError as error:
        raise RecordError(f"{path}: $.start.group_by: {error.message}", hint="name another one: --group-by") from error
    return msgspec.structs.replace(content, start=msgspec.structs.replace(start, group_by=grouping))


def _recordings(directory: Path) -> tuple[list[Path], list[Path]]:
    """Return the files with readings, and those with sums of other ranks."""
    readings = sorted(directory.glob("readings-*.arrows"))
    sums = sorted(path for path in directory.glob(PATTERN) if readings_beside(path) not in readings)
    if not readings and not sums:
        raise RecordError(
            f"{directory}: no recording of readings (readings-*.arrows) or sums ({PATTERN})",
            hint="the run was made with --record no or without a GPU (summary.json has the result, if any), or it "
            "was killed before the first sums were written",
        )
    return readings, sums


def _said(directory: Path) -> tuple[Said, tuple[str, ...]]:
    """Return what the command said, and why that is not known: the score does not depend on it."""
    try:
        return read_marks(directory), ()
    except RecordError as error:
        return NOTHING_SAID, (f"marks and progress cannot be read: {error.message}",)


def _age_s(paths: Iterable[Path]) -> float:
    """Return how long ago the youngest of some files was written, in s of wall time; infinite if unknown."""
    ages_s = [math.inf]
    for path in paths:
        with contextlib.suppress(OSError):
            ages_s.append((time.time_ns() - path.stat().st_mtime_ns) / NS_PER_S)
    return min(ages_s)


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
