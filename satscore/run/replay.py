"""A recorded run through the same path as a live one: run directory in, summary out."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from satscore.core.hwmodel import HardwareModel
from satscore.core.int_columns import DAMAGED_HINT
from satscore.core.summary import Summary
from satscore.core.units import NS_PER_S
from satscore.errors import RecordError
from satscore.record.marks_file import NOTHING_SAID, Said, read_marks
from satscore.record.run_file import RunFile, StreamHeader
from satscore.record.stream import Recording
from satscore.run.aside import Aside
from satscore.run.host_report import read_hosts
from satscore.run.members import Member, member_of
from satscore.run.models import folder_to_add, load_library
from satscore.run.rank_files import RankFiles, rank_in_name, read_rank_files
from satscore.run.rank_gpus import Hardware
from satscore.run.recordings import RecordedFiles, age_s, chunks, mend, recorded_files
from satscore.run.results import summarise_job
from satscore.run.session import Session
from satscore.run.stored_rank import SumsContent
from satscore.run.sums_pass import SumsSources
from satscore.run.sums_report import FAR_APART, FAR_APART_HINT, MOST_APART_S, StoredRun, summary_of_sums

MOST_LOST_S = 31 * 86_400
"""More time without a recording, which its end tells of, is no job, but a damaged time."""
SUMS_QUIET_S = 120.0
"""Sums are rewritten every minute; twice that without a word is a run that was killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """A summary made from a recording, and what the reader should hear about it."""

    summary: Summary
    warnings: tuple[str, ...]


def rebuild(directory: Path, *, group_by: str | None = None) -> Rebuilt:
    """Score a run again from its recording.

    A recording that was cut off (satscore killed, power cut) is scored as far as it goes and rewritten
    as its valid prefix, so that other Arrow readers open it too; but never one that may still be written.
    Ranks without readings are taken from their sums. A rank whose files cannot be read is left out and named.

    Args:
        directory: The run directory.
        group_by: How ranks are grouped for their comparison; None: as in the run.

    Raises:
        RecordError: There is no run, no recording, or one that is not ours; names the file.
    """
    ranks, files, library = read_rank_files(directory, group_by), recorded_files(directory), load_library(os.environ)
    found = _score(files.readings, ranks, library.models, has_sums=bool(files.sums or files.job))
    said, unread = _said(directory)
    hosts, unread_hosts = read_hosts(directory, lambda hostname, rank: _correction_ns(ranks.content(hostname, rank)))
    run = _Recorded(directory, ranks, found, Aside(said=said, hosts=hosts))
    sums = _sums_of(files)
    if sums:
        hardware = Hardware(library.models, ranks.lead.start.dtype, folder_to_add(os.environ))
        summary, missing = run.of_sums(sums, hardware, is_young=age_s([*files.sums, *_some(files.job)]) < SUMS_QUIET_S)
    else:
        summary, missing = run.of_readings(), ()
    unread = (*unread, *unread_hosts)
    summary = msgspec.structs.replace(summary, notes=[*unread, *summary.notes])
    return Rebuilt(summary=summary, warnings=(*library.notes(), *found.warnings, *ranks.notes, *missing, *unread))


def _check_new(header: StreamHeader, members: Sequence[Member], path: Path) -> None:
    if any(member.key == (header.hostname, header.rank) for member in members):
        raise RecordError(f"{path}: rank {header.rank} on {header.hostname} is there twice: it counts once")


@dataclass(slots=True, kw_only=True)
class _Scored:
    """The ranks that are there as readings."""

    members: list[Member] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    is_live: bool = False


def _score(paths: Sequence[Path], ranks: RankFiles, models: Sequence[HardwareModel], *, has_sums: bool) -> _Scored:
    """Score the readings of all ranks; one that cannot be read is left out, unless nothing else is there.

    Raises:
        RecordError: None is left.
    """
    found, errors = _Scored(), list[tuple[Path, RecordError]]()
    for path in paths:
        try:
            recording = Recording(path)
            content = ranks.content(recording.header.hostname, recording.header.rank)
            if content is None:
                continue
            header = _moved(recording.header, content)
            _check_new(header, found.members, path)
            member = member_of(header, _replay(recording, header, content, ranks.lead, models), content)
            _check_near(member, found.members, path)
        except RecordError as error:
            errors.append((path, error))
            continue
        found.members.append(member)
        is_live = recording.is_live()
        found.is_live = found.is_live or is_live is True
        if recording.cut_off and not is_live:
            found.warnings.append(mend(recording, has_ended=is_live is False and content.end is not None))
    if errors and not found.members and not has_sums:
        raise errors[0][1]
    for path, problem in errors:
        ranks.leave_out(problem, rank_in_name(path))
    return found


def _check_near(member: Member, others: Sequence[Member], path: Path) -> None:
    """Refuse a rank whose time is far from that of the first one: all seconds between would be held in memory.

    Raises:
        RecordError: It is.
    """
    times_ns = [extent for extent in map(_extent_ns, (*others[:1], member)) if extent is not None]
    if len(times_ns) < 2:
        return
    (first, last), (begin, end) = times_ns
    if max(begin - last, first - end) > MOST_APART_S * NS_PER_S:
        raise RecordError(f"{path}: {FAR_APART}", hint=FAR_APART_HINT)


def _extent_ns(member: Member) -> tuple[int, int] | None:
    source, offset_ns = member.source, member.header.grid_offset_ns
    if source.first_ns is None or source.last_ns is None:
        return None
    return source.first_ns + offset_ns, source.last_ns + offset_ns


def _moved(header: StreamHeader, content: RunFile) -> StreamHeader:
    """Return a header whose windows lie on the grid of the job."""
    return msgspec.structs.replace(header, grid_offset_ns=header.grid_offset_ns + content.clock_correction_ns)


def _correction_ns(content: RunFile | None) -> int:
    return content.clock_correction_ns if content else 0


def _replay(
    recording: Recording, header: StreamHeader, content: RunFile, lead: RunFile, models: Sequence[HardwareModel]
) -> Session:
    session = Session.of(header, lead.start, models, folder_to_add(os.environ))
    for table in chunks(recording.batches()):
        session.add(table)
    until_ns, last_ns = content.end.scored_until_ns if content.end else None, session.last_ns
    if until_ns is not None:
        if last_ns is not None and until_ns - last_ns > MOST_LOST_S * NS_PER_S:
            raise RecordError(
                f"{recording.path}: ends more than {MOST_LOST_S} s before the time until which it is said to go",
                hint=DAMAGED_HINT,
            )
        session.add_lost(until_ns)
    session.close()
    return session


def _sums_of(files: RecordedFiles) -> SumsSources | None:
    """Return where the sums are that are needed; None: the readings of all are there."""
    if not files.sums and files.job is None:
        return None
    return SumsSources(
        ranks=[SumsContent(path=path) for path in files.sums],
        whole=SumsContent(path=files.job) if files.job else None,
    )


def _some(path: Path | None) -> list[Path]:
    return [path] if path else []


class _Recorded:
    """What is known of a run besides its sums."""

    def __init__(self, directory: Path, ranks: RankFiles, found: _Scored, aside: Aside) -> None:
        self._directory = str(directory)
        self._ranks = ranks
        self._found = found
        self._aside = aside

    def of_readings(self) -> Summary:
        others = self._ranks.without_gpu(self._found.members)
        return summarise_job(
            self._ranks.lead,
            [*self._found.members, *others],
            directory=self._directory,
            live=self._found.is_live,
            aside=self._aside,
            why_missing=self._ranks.why_missing,
            notes=self._ranks.notes,
        )

    def of_sums(self, sums: SumsSources, hardware: Hardware, *, is_young: bool) -> tuple[Summary, Sequence[str]]:
        live = self._found.is_live or (self._ranks.lead.end is None and is_young)

        def summarise(run: StoredRun) -> Summary:
            others = self._ranks.without_gpu(run.members)
            return run.summary(
                directory=self._directory,
                live=live,
                aside=self._aside,
                others=others,
                why_missing=self._ranks.why_missing | run.why_missing,
                notes=self._ranks.notes,
            )

        return summary_of_sums(sums, self._ranks, hardware, self._found.members, summarise)


def _said(directory: Path) -> tuple[Said, tuple[str, ...]]:
    """Return what the command said, and why that is not known: the score does not depend on it."""
    try:
        return read_marks(directory), ()
    except RecordError as error:
        return NOTHING_SAID, (f"marks and progress cannot be read: {error.message}",)
