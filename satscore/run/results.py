"""From the state of a run to its summary: the one path of the live view, the exit and ``report``."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from satscore.core.assemble import assemble
from satscore.core.placement import NOTHING_KNOWN, Placement
from satscore.core.run_facts import RankResult, RunFacts
from satscore.core.summary import Cost, DataKind, RunInfo, SourceInfo, Summary
from satscore.core.summary_gpu import UnreadGpu
from satscore.core.units import NS_PER_S
from satscore.record.marks_file import MARKS_FILE
from satscore.record.run_file import RunEnd, RunFile, RunStart, StreamHeader, json_text
from satscore.run.aside import NOTHING_ASIDE, Aside

UNFINISHED_NOTE = (
    "the end of the run was not recorded: satscore was killed, the disk was full, or the run still goes on"
)
LIVE_NOTE = "the run is still going on: this is what has been recorded so far"
NO_COST = Cost(cpu_s=None, cpu_pct_of_core=None, rss_max_bytes=None, read_mean_s=None, recording_bytes=None)


class RankSource(Protocol):
    """What a summary is made from, per rank: a closed session, or what is stored of one."""

    @property
    def first_ns(self) -> int | None:
        """Begin of the first reading on the axis of the readings; None: there was none."""

    @property
    def last_ns(self) -> int | None:
        """End of the last one."""

    @property
    def intervals_count(self) -> int:
        """Readings in which at least one counter answered."""

    @property
    def intervals_ns(self) -> int:
        """Their length, summed over GPUs."""

    def notes(self, placement: Placement) -> list[str]:
        """Return what must be said about the rank."""

    def result(
        self,
        *,
        rank: int,
        local_rank: int | None,
        hostname: str,
        placement: Placement,
        unread: Sequence[UnreadGpu],
    ) -> RankResult:
        """Return the results of its GPUs.

        Raises:
            RecordError: What is stored of it cannot be read.
        """


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
    facts = facts_of_run(content, ranks, directory=directory, live=live, aside=aside)
    return assemble(facts, list(rank_results(ranks, content.placement or NOTHING_KNOWN)))


def facts_of_run(
    content: RunFile,
    ranks: Sequence[tuple[StreamHeader, RankSource]],
    *,
    directory: str | None,
    live: bool,
    aside: Aside,
) -> RunFacts:
    """Return what the summary needs besides the results of the ranks; arguments are those of ``summarise``."""
    start, end, placement = content.start, content.end, content.placement or NOTHING_KNOWN
    said = aside.said
    sources = [source for _, source in ranks]
    notes = _unread_notes(_unread(placement, ranks))
    notes += end.notes if end else [LIVE_NOTE if live else UNFINISHED_NOTE]
    notes += [note for source in sources for note in source.notes(placement)]
    notes += [f"{said.damaged_count} lines of {MARKS_FILE} cannot be read: left out"] if said.damaged_count else []
    return RunFacts(
        satscore_version=content.satscore_version,
        data_kind=_data_kind([header for header, _ in ranks]),
        run=_run_info(start, end, sources, directory),
        source=_source_info(start, end, ranks),
        profile=start.profile,
        dtype=start.dtype,
        group_by=start.group_by,
        marks=said.marks,
        progress=said.progress,
        hosts=aside.hosts,
        has_pipe_counters=any(header.has_pipe_counters for header, _ in ranks),
        no_pipes_reason=end.no_pipes_reason if end else None,
        notes=tuple(dict.fromkeys(notes)),
        cost=end.cost if end else NO_COST,
    )


def rank_results(ranks: Sequence[tuple[StreamHeader, RankSource]], placement: Placement) -> Iterator[RankResult]:
    """Yield the results of the ranks, one by one."""
    # What is known of the command's GPUs is kept once per run: by its first rank.
    unread = _unread(placement, ranks)
    for header, source in ranks:
        yield source.result(
            rank=header.rank,
            local_rank=header.local_rank,
            hostname=header.hostname,
            placement=placement,
            unread=unread,
        )
        unread = []


def _unread(placement: Placement, ranks: Sequence[tuple[StreamHeader, RankSource]]) -> list[UnreadGpu]:
    """Return the GPUs that the command uses and that nobody reads."""
    known_by = placement.known_by
    if known_by is None or not ranks:
        return []
    outside = placement.used_outside({gpu.uuid for header, _ in ranks for gpu in header.gpus})
    return [UnreadGpu(nvml_index=gpu.nvml_index, uuid=gpu.uuid, known_by=known_by) for gpu in outside]


def _unread_notes(unread: Sequence[UnreadGpu]) -> list[str]:
    if not unread:
        return []
    which = ", ".join(f"GPU {gpu.nvml_index} ({gpu.uuid})" for gpu in unread)
    verb = "uses" if unread[0].known_by == "process" else "is shown"
    remedy = "start satscore with the CUDA_VISIBLE_DEVICES (and CUDA_DEVICE_ORDER) of the command, or without"
    return [f"the command {verb} {which}, which nobody reads: {remedy}"]


def _data_kind(headers: Sequence[StreamHeader]) -> DataKind:
    """One simulated rank marks the whole run."""
    kinds = {header.data_kind for header in headers}
    if "simulated" in kinds:
        return "simulated"
    return "replay" if "replay" in kinds else "measured"


def _run_info(start: RunStart, end: RunEnd | None, sources: Sequence[RankSource], directory: str | None) -> RunInfo:
    firsts = [s.first_ns for s in sources if s.first_ns is not None]
    lasts = [s.last_ns for s in sources if s.last_ns is not None]
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
    )


def _source_info(start: RunStart, end: RunEnd | None, ranks: Sequence[tuple[StreamHeader, RankSource]]) -> SourceInfo:
    intervals = sum(source.intervals_count for _, source in ranks)
    length_ns = sum(source.intervals_ns for _, source in ranks)
    gpus = [gpu for header, _ in ranks for gpu in header.gpus]
    return SourceInfo(
        name=ranks[0][0].source if ranks else "none",
        scenario=ranks[0][0].scenario if ranks else None,
        period_s=start.period_s,
        interval_mean_s=length_ns / NS_PER_S / intervals if intervals else None,
        readings_count=intervals,
        late_reads_count=end.late_reads_count if end else None,
        latest_read_s=end.latest_read_s if end else None,
        resolution="readings",
        driver_version=gpus[0].driver_version if gpus else None,
        cuda_driver_version=gpus[0].cuda_driver_version if gpus else None,
        comparison=end.comparison if end else [],
    )
