"""The result of a job from what its ranks have sent: the same as a report makes of their files."""

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from satscore.core.gate import RANKS_MISSING
from satscore.core.host_series import merge_bins
from satscore.core.hosts import Hosts
from satscore.core.hwmodel import HardwareModel
from satscore.core.int_columns import DAMAGED_HINT
from satscore.core.job_series import JobSeries, SeriesSum
from satscore.core.placement import NOTHING_KNOWN
from satscore.core.state_check import check_series
from satscore.core.summary import Summary
from satscore.errors import RecordError
from satscore.fleet.ledger import Collected
from satscore.fleet.wire import Part
from satscore.record.files import FILE_MODE
from satscore.record.host_file import host_file_name
from satscore.record.marks_file import NOTHING_SAID, Said
from satscore.record.run_file import RunFile, decode_checked
from satscore.record.sums_job import JOB_SUMS_FILE, RankPart, job_sums
from satscore.run.aside import Aside
from satscore.run.job_hosts import decode_hosts
from satscore.run.models import folder_to_add, load_library
from satscore.run.rank_files import RankFiles
from satscore.run.rank_gpus import Hardware
from satscore.run.results import summarise_job
from satscore.run.stored_rank import StoredRank, SumsContent, SumsReader
from satscore.run.sums_pass import SumsSources, trimmed
from satscore.run.sums_report import StoredRun, summary_of_sums

SERIES_NOTE = (
    "the seconds of the job are damaged ({why}): there are no phases and no interval; the score is of all time"
)
AT_WORK = "heard of, but its end did not come in time: satscore report counts it once its files are there"


def summary_of_parts(
    content: RunFile,
    collected: Collected,
    *,
    directory: str | None,
    said: Said = NOTHING_SAID,
    models: Sequence[HardwareModel] | None = None,
    live: bool = False,
) -> Summary:
    """Return the summary of all ranks that have sent something; never raises for what they sent.

    Args:
        content: What rank 0 says of itself; its sums are among the parts.
        collected: What has come.
        directory: The run directory as shown to the user, or None.
        said: What the command said.
        models: All known hardware models; None: they are read now.
        live: Whether the run still goes on.
    """
    parts = sorted(collected.parts.values(), key=lambda part: (part.rank, part.hostname))
    ranks, notes = _rank_files(content, parts), list(collected.notes)
    series, damage = _checked(collected.series)
    hosts, unread = _hosts(parts)
    notes = [*damage, *ranks.notes, *notes, *unread]
    aside = Aside(said=said, hosts=hosts)
    if models is None:
        models = load_library(os.environ).models
    hardware = Hardware(models, content.start.dtype, folder_to_add(os.environ))
    at_work = dict.fromkeys(collected.live.keys() - collected.parts.keys(), AT_WORK)
    sources = SumsSources(ranks=[_content_of(part) for part in parts if part.sums], series=series)

    def summarise(run: StoredRun) -> Summary:
        others = ranks.without_gpu(run.members)
        why = at_work | ranks.why_missing | run.why_missing
        return run.summary(directory=directory, live=live, aside=aside, others=others, why_missing=why, notes=notes)

    try:
        return summary_of_sums(sources, ranks, hardware, (), summarise)[0]
    except RecordError as error:  # of no rank anything can be used
        notes = [RANKS_MISSING + error.message, *notes]
        others, why = ranks.without_gpu(()), at_work | ranks.why_missing
        return summarise_job(content, others, directory=directory, live=live, aside=aside, why_missing=why, notes=notes)


def write_job_sums(directory: Path, collected: Collected) -> list[str]:
    """Write the sums of all ranks as one file, rank by rank; return what went wrong.

    Args:
        directory: The run directory.
        collected: What has come.
    """
    parts = sorted(collected.parts.values(), key=lambda part: (part.rank, part.hostname))
    good, problems = list[RankPart](), list[str]()
    options: tuple[str, str | None] | None = None
    for part in parts:
        if not part.sums:
            continue
        try:
            made, found = _rank_part(part)
        except RecordError as error:
            problems.append(error.message)
            continue
        options = options or found
        if found == options:  # sums of another profile cannot stand beside them
            good.append(made)
    path = directory / JOB_SUMS_FILE
    try:
        if good:
            _write(path, job_sums(good, trimmed(collected.series.series())))
    except (OSError, RecordError) as error:
        problems.append(f"cannot write {path}: {error}")
    return problems


def _rank_files(content: RunFile, parts: Iterable[Part]) -> RankFiles:
    """Return what the ranks said of themselves; one that cannot be believed is left out."""
    job = content.start.job
    own = content.start.hostname, job.rank if job else 0
    others, errors = list[tuple[str, RunFile]](), list[tuple[Part, RecordError]]()
    for part in parts:
        if (part.hostname, part.rank) == own:
            continue
        where = f"what rank {part.rank} on {part.hostname} sent"
        try:
            others.append((where, _own_words(part, where)))
        except RecordError as error:
            errors.append((part, error))
    ranks = RankFiles(content, others)
    for part, problem in errors:
        ranks.leave_out(problem, part.rank)
    return ranks


def _own_words(part: Part, where: str) -> RunFile:
    said = decode_checked(part.about, RunFile, where)
    rank = said.start.job.rank if said.start.job else 0
    if (said.start.hostname, rank) != (part.hostname, part.rank):
        raise RecordError(f"{where}: it names rank {rank} on {said.start.hostname}", hint=DAMAGED_HINT)
    return said


def _content_of(part: Part) -> SumsContent:
    return SumsContent(path=Path(f"part-{part.hostname}-{part.rank}.sums"), data=part.sums)


def _checked(total: SeriesSum) -> tuple[JobSeries, list[str]]:
    """Return the series of the job if it is one that windows give, else an empty one; and what to say of that."""
    series = trimmed(total.series())
    if not len(series):
        return series, []
    try:
        check_series(series.columns(), int(series.column("gpus").max()), "series")
    except RecordError as error:
        return JobSeries(), [SERIES_NOTE.format(why=error.message)]
    return series, []


def _hosts(parts: Sequence[Part]) -> tuple[Hosts, list[str]]:
    """Return what was read of the hosts, in the order of the files that a report reads; and what cannot be."""
    found, unread = list[Hosts](), list[str]()
    for part in sorted(parts, key=lambda part: host_file_name(part.hostname, part.rank)):
        try:
            found += [decode_hosts(part.hosts, f"rank {part.rank} on {part.hostname}")] if part.hosts else []
        except RecordError as error:
            unread.append(f"what a host did cannot be read: {error.message}")
    infos = tuple(info for hosts in found for info in hosts.infos)
    return Hosts(bins=merge_bins(hosts.bins for hosts in found), infos=infos), unread


def _rank_part(part: Part) -> tuple[RankPart, tuple[str, str | None]]:
    """Return a part as the file of all has it, and the options that its sums were made with."""
    content = _content_of(part)
    placement = decode_checked(part.about, RunFile, f"rank {part.rank} on {part.hostname}").placement
    with content.open() as file:
        if len(file.head.ranks) != 1:
            raise RecordError(f"{content.path}: {len(file.head.ranks)} ranks in a part of one")
        # Bounds do not matter for what counts.
        rank = StoredRank(content, 0, file.head.ranks[0], Hardware((), None, ""), None, SumsReader())
        counted = rank.counted(placement or NOTHING_KNOWN)
        options = file.head.profile, file.head.dtype
    return RankPart(where=content.path, sums=part.sums, about=part.about, counted=counted), options


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file so that it is there whole or not at all, without all of it in memory."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(pieces)
        temporary.replace(path)
    except (OSError, RecordError):
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
