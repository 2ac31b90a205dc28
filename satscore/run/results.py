"""From the state of a run to its summary: the one path of the live view, the exit and ``report``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from satscore.core.assemble import assemble
from satscore.core.attendance import MOST_NAMED, attendance, attendance_notes
from satscore.core.job_cost import job_cost
from satscore.core.run_facts import RankResult, RunFacts
from satscore.core.summary import DataKind, RunInfo, SourceInfo, Summary
from satscore.core.summary_gpu import UnreadGpu
from satscore.core.summary_job import LaunchItem
from satscore.core.units import NS_PER_S, NS_PER_US
from satscore.record.marks_file import MARKS_FILE
from satscore.record.run_file import RunFile, StreamHeader, json_text
from satscore.run.aside import NOTHING_ASIDE, Aside
from satscore.run.fates import fates_of
from satscore.run.member_notes import differences, of_ranks
from satscore.run.members import NO_SOURCE, Member, RankSource, member_of, without_doubles

UNFINISHED_NOTE = (
    "the end of the run was not recorded: satscore was killed, the disk was full, or the run still goes on"
)
LIVE_NOTE = "the run is still going on: this is what has been recorded so far"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """All ranks of a run that are known, in order.

    Attributes:
        lead: What the rank that stands for the run said of itself: rank 0.
        members: The ranks, each GPU counted once.
        why_missing: rank -> why it is not among them, where something is known of it.
        notes: What must be said of how they came together.
    """

    lead: RunFile
    members: Sequence[Member]
    why_missing: Mapping[int, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def world(self) -> int | None:
        """How many ranks there should be; None: nobody said."""
        return self.lead.start.job.world if self.lead.start.job else None


def summarise(
    content: RunFile,
    ranks: Sequence[tuple[StreamHeader, RankSource]],
    *,
    directory: str | None,
    live: bool = False,
    aside: Aside = NOTHING_ASIDE,
) -> Summary:
    """Return the summary of a run.

    Args:
        content: What ran, how it ended, and which GPUs the command uses.
        ranks: Header and results of every rank; empty if there was no source.
        directory: The run directory as shown to the user, or None.
        live: Whether the run is still being recorded.
        aside: What the command said and the hosts did.
    """
    members = [member_of(header, source, content) for header, source in ranks]
    return summarise_job(content, members, directory=directory, live=live, aside=aside)


def summarise_job(
    lead: RunFile,
    members: Sequence[Member],
    *,
    directory: str | None,
    live: bool = False,
    aside: Aside = NOTHING_ASIDE,
    why_missing: Mapping[int, str] | None = None,
    notes: Sequence[str] = (),
) -> Summary:
    """Return the summary of ranks that each know themselves.

    Args:
        lead: What the rank that stands for the run said of itself.
        members: The ranks, in any order.
        directory: The run directory as shown to the user, or None.
        live: Whether the run is still being recorded.
        aside: What the command said and the hosts did.
        why_missing: rank -> why it is not among them, where something is known of it.
        notes: What must be said of how they came together.
    """
    settled, _, doubles = without_doubles(sorted(members, key=lambda one: one.order))
    job = Job(lead=lead, members=settled, why_missing=why_missing or {}, notes=[*notes, *doubles])
    facts = facts_of_run(job, directory=directory, live=live, aside=aside)
    return assemble(facts, list(rank_results(settled)))


def facts_of_run(job: Job, *, directory: str | None, live: bool, aside: Aside) -> RunFacts:
    """Return what the summary needs besides the results of the ranks; arguments are those of ``summarise_job``."""
    lead, members, said = job.lead, job.members, aside.said
    start, end = lead.start, lead.end
    fates = fates_of(members) if start.job else []
    present = [member.header.rank for member in members]
    # Nobody is lost while all go on.
    found = attendance(job.world, fates, is_live=live and end is None)
    notes = [*job.notes, *attendance_notes(job.world, present, job.why_missing, found), *differences(members)]
    notes += _unread_notes([gpu for unread in _unread(members) for gpu in unread])
    notes += [] if end else [LIVE_NOTE if live else UNFINISHED_NOTE]
    notes += of_ranks([(rank, one.end.notes) for rank, one in _contents(job) if one.end])
    notes += of_ranks([(m.header.rank, m.source.notes(m.placement)) for m in members])
    notes += [f"{said.damaged_count} lines of {MARKS_FILE} cannot be read: left out"] if said.damaged_count else []
    has_pipes = any(member.header.has_pipe_counters for member in members)
    return RunFacts(
        satscore_version=lead.satscore_version,
        data_kind=_data_kind(members),
        run=_run_info(lead, members, directory),
        source=_source_info(job),
        profile=start.profile,
        dtype=start.dtype,
        group_by=start.group_by,
        marks=said.marks,
        progress=said.progress,
        hosts=aside.hosts,
        has_pipe_counters=has_pipes,
        no_pipes_reason=_no_pipes_reason(job),
        notes=tuple(dict.fromkeys(notes)),
        cost=job_cost([one.end.cost for _, one in _contents(job) if one.end]),
        attendance=found,
    )


def rank_results(members: Sequence[Member]) -> Iterator[RankResult]:
    """Yield the results of the ranks, one by one."""
    last_ns = max((member.last_wall_ns for member in members), default=0)
    for member, unread in zip(members, _unread(members), strict=True):
        header, end = member.header, member.content.end
        result = member.source.result(
            rank=header.rank,
            local_rank=header.local_rank,
            hostname=header.hostname,
            placement=member.placement,
            unread=unread,
        )
        yield msgspec.structs.replace(
            result,
            finished=end is not None,
            exit_code=end.exit_code if end else None,
            exit_signal=end.exit_signal if end else None,
            over_us=max(0, last_ns - member.last_wall_ns) // NS_PER_US if end and member.last_wall_ns else 0,
        )


def _contents(job: Job) -> list[tuple[int, RunFile]]:
    """Return what each rank said of itself, once where several share it, and of the lead in any case."""
    found = dict[tuple[str, int], RunFile]()
    for content in (job.lead, *(member.content for member in job.members)):
        start = content.start
        found.setdefault((start.hostname, start.job.rank if start.job else 0), content)
    return [(rank, content) for (_, rank), content in found.items()]


def _unread(members: Sequence[Member]) -> list[list[UnreadGpu]]:
    """Return for each rank the GPUs that its command uses and that nobody reads; what ranks share, once."""
    read = {gpu.uuid for member in members for gpu in member.header.gpus}
    out, seen = list[list[UnreadGpu]](), set[int]()
    for member in members:
        known_by = member.placement.known_by
        is_new = id(member.content) not in seen
        seen.add(id(member.content))
        outside = member.placement.used_outside(read) if known_by and is_new else ()
        out.append(
            [UnreadGpu(nvml_index=gpu.nvml_index, uuid=gpu.uuid, known_by=known_by) for gpu in outside if known_by]
        )
    return out


def _unread_notes(unread: Sequence[UnreadGpu]) -> list[str]:
    if not unread:
        return []
    which = ", ".join(f"GPU {gpu.nvml_index} ({gpu.uuid})" for gpu in unread[:MOST_NAMED])
    which += f" and {len(unread) - MOST_NAMED:,} more" if len(unread) > MOST_NAMED else ""
    verb = "uses" if unread[0].known_by == "process" else "is shown"
    remedy = "start satscore with the CUDA_VISIBLE_DEVICES (and CUDA_DEVICE_ORDER) of the command, or without"
    return [f"the command {verb} {which}, which nobody reads: {remedy}"]


def _no_pipes_reason(job: Job) -> str | None:
    """Return why there are no pipe counters: by the lead, or where that has some, by the first that knows."""
    if job.lead.end and job.lead.end.no_pipes_reason:
        return job.lead.end.no_pipes_reason
    if any(member.header.has_pipe_counters for member in job.members):
        return None
    return next((one.end.no_pipes_reason for _, one in _contents(job) if one.end and one.end.no_pipes_reason), None)


def _data_kind(members: Sequence[Member]) -> DataKind:
    """One simulated rank marks the whole run."""
    kinds = {member.header.data_kind for member in members}
    if "simulated" in kinds:
        return "simulated"
    return "replay" if "replay" in kinds else "measured"


def _run_info(lead: RunFile, members: Sequence[Member], directory: str | None) -> RunInfo:
    start, end, job = lead.start, lead.end, lead.start.job
    # Readings of different hosts are on axes of their own.
    firsts = [m.source.first_ns + m.header.grid_offset_ns for m in members if m.source.first_ns is not None]
    lasts = [m.source.last_ns + m.header.grid_offset_ns for m in members if m.source.last_ns is not None]
    return RunInfo(
        run_id=start.run_id,
        label=start.label,
        command=list(start.command),
        hostname=start.hostname,
        started_utc=start.started_utc,
        duration_s=end.duration_s if end else None,
        observed_s=(max(lasts) - min(firsts)) / NS_PER_S if firsts and lasts else 0.0,
        finished=end is not None,
        exit_code=end.exit_code if end else None,
        exit_signal=end.exit_signal if end else None,
        directory=None if directory is None else json_text(directory),
        kind=start.kind,
        job=LaunchItem(launcher=job.launcher, ranks_count=job.world, key=job.key, restarts_count=job.restart)
        if job
        else None,
    )


def _source_info(job: Job) -> SourceInfo:
    members, ends = job.members, [one.end for _, one in _contents(job) if one.end]
    intervals = sum(member.source.intervals_count for member in members)
    length_ns = sum(member.source.intervals_ns for member in members)
    first = next((m.header for m in members if m.header.source != NO_SOURCE), None)
    gpu = next((gpu for member in members for gpu in member.header.gpus), None)
    return SourceInfo(
        name=first.source if first else NO_SOURCE,
        scenario=first.scenario if first else None,
        period_s=job.lead.start.period_s,
        interval_mean_s=length_ns / NS_PER_S / intervals if intervals else None,
        readings_count=intervals,
        late_reads_count=sum(end.late_reads_count for end in ends) if ends else None,
        latest_read_s=max((end.latest_read_s for end in ends), default=None),
        resolution="readings",
        driver_version=gpu.driver_version if gpu else None,
        cuda_driver_version=gpu.cuda_driver_version if gpu else None,
        comparison=job.lead.end.comparison if job.lead.end else [],
    )
