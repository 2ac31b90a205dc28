"""From the state of a run to its summary: the one path of the live view, the exit and ``report``."""

from collections.abc import Sequence

from satscore.core.assemble import RunFacts, assemble
from satscore.core.placement import NOTHING_KNOWN, Placement
from satscore.core.summary import Cost, DataKind, RunInfo, SourceInfo, Summary, UnreadGpu
from satscore.core.units import NS_PER_S
from satscore.record.run_file import RunEnd, RunStart, StreamHeader, json_text
from satscore.run.session import Session

UNFINISHED_NOTE = (
    "the end of the run was not recorded: satscore was killed, the disk was full, or the run still goes on"
)
LIVE_NOTE = "the run is still going on: this is what has been recorded so far"
NO_COST = Cost(cpu_s=None, cpu_pct_of_core=None, rss_max_bytes=None, read_mean_s=None, recording_bytes=None)


def summarise(
    start: RunStart,
    end: RunEnd | None,
    ranks: Sequence[tuple[StreamHeader, Session]],
    *,
    version: str,
    directory: str | None,
    live: bool = False,
    placement: Placement | None = None,
) -> Summary:
    """Return the summary of a run.

    Args:
        start: What ran.
        end: How it ended; None if that was not recorded.
        ranks: Header and closed session of every rank; empty if there was no source.
        version: satscore's version that measured.
        directory: The run directory as shown to the user, or None.
        live: Whether the run is still being recorded.
        placement: Which GPUs the command uses; None: nobody looked.
    """
    placement = placement or NOTHING_KNOWN
    sessions = [session for _, session in ranks]
    notes = [note for session in sessions for note in session.notes(placement)]
    unread = _unread(placement, ranks)
    notes += _unread_notes(unread)
    notes += end.notes if end else [LIVE_NOTE if live else UNFINISHED_NOTE]
    facts = RunFacts(
        satscore_version=version,
        data_kind=_data_kind([header for header, _ in ranks]),
        run=_run_info(start, end, sessions, directory),
        source=_source_info(start, end, ranks),
        profile=start.profile,
        dtype=start.dtype,
        has_pipe_counters=any(header.has_pipe_counters for header, _ in ranks),
        no_pipes_reason=end.no_pipes_reason if end else None,
        notes=tuple(dict.fromkeys(notes)),
        cost=end.cost if end else NO_COST,
    )
    # What is known of the command's GPUs is kept once per run: by its first rank.
    results = [
        session.result(
            rank=header.rank,
            local_rank=header.local_rank,
            hostname=header.hostname,
            placement=placement,
            unread=unread if i == 0 else (),
        )
        for i, (header, session) in enumerate(ranks)
    ]
    return assemble(facts, results)


def _unread(placement: Placement, ranks: Sequence[tuple[StreamHeader, Session]]) -> list[UnreadGpu]:
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


def _run_info(start: RunStart, end: RunEnd | None, sessions: Sequence[Session], directory: str | None) -> RunInfo:
    firsts = [s.first_ns for s in sessions if s.first_ns is not None]
    lasts = [s.last_ns for s in sessions if s.last_ns is not None]
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


def _source_info(start: RunStart, end: RunEnd | None, ranks: Sequence[tuple[StreamHeader, Session]]) -> SourceInfo:
    intervals = sum(session.intervals_count for _, session in ranks)
    length_ns = sum(session.intervals_ns for _, session in ranks)
    gpus = [gpu for header, _ in ranks for gpu in header.gpus]
    return SourceInfo(
        name=ranks[0][0].source if ranks else "none",
        scenario=ranks[0][0].scenario if ranks else None,
        period_s=start.period_s,
        interval_mean_s=length_ns / NS_PER_S / intervals if intervals else None,
        readings_count=intervals,
        late_reads_count=end.late_reads_count if end else None,
        latest_read_s=end.latest_read_s if end else None,
        driver_version=gpus[0].driver_version if gpus else None,
        cuda_driver_version=gpus[0].cuda_driver_version if gpus else None,
    )
