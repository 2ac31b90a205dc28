"""Whole simulated runs in no time: source, windows, session and summary on a clock that only jumps."""

import threading

import msgspec

from satscore import __version__
from satscore.core.fields import FIELDS
from satscore.core.placement import Placement as Placed
from satscore.core.readings import table_of
from satscore.core.summary import Cost, Summary
from satscore.counters.clock import ManualClock
from satscore.counters.simulated import Placement, SimulatedSource, open_simulated
from satscore.record.run_file import FORMAT_VERSION, RunEnd, RunFile, RunStart, StreamHeader
from satscore.run.models import load_library
from satscore.run.results import summarise
from satscore.run.session import Session

NS = 1_000_000_000
# As measured for 60 s of sim:gh200x4 at 0.2 s on a 2-core x86_64 virtual machine, 2026-11-23.
COST = Cost(
    cpu_s=0.81,
    cpu_pct_of_core=1.35,
    rss_max_bytes=37_875_712,
    read_mean_s=0.000446,
    recording_bytes=300_272,
)


def simulated_rank(
    spec: str,
    seconds: float,
    *,
    rank: int = 0,
    placement: Placement | None = None,
    period_s: float = 0.2,
    profile: str = "train",
    hostname: str = "nid001234",
) -> tuple[StreamHeader, Session, SimulatedSource]:
    """Sample a scenario for a while and return the closed session with its header and source."""
    clock = ManualClock()
    source = open_simulated(spec, clock, placement=placement)
    header = StreamHeader(
        format_version=FORMAT_VERSION,
        hostname=hostname,
        rank=rank,
        local_rank=None if placement is None else rank,
        source=source.name,
        scenario=spec,
        data_kind=source.kind,
        has_pipe_counters=source.has_pipe_counters,
        grid_offset_ns=0,
        fields=[field.name for field in FIELDS],
        gpus=list(source.gpus),
    )
    session = Session(source.gpus, load_library({}).models, profile=profile, dtype=None, grid_offset_ns=0)
    never = threading.Event()
    readings = source.read()
    for tick in range(1, round(seconds / period_s) + 1):
        clock.wait_until(round(tick * period_s * NS), never)
        readings += source.read()
    session.add(table_of(readings))
    session.close()
    return header, session, source


def run_start(command: list[str], *, label: str | None = None, profile: str = "train") -> RunStart:
    """Return a fixed start of a run."""
    return RunStart(
        run_id="nid001234-20260314T093000-4711",
        label=label,
        command=command,
        hostname="nid001234",
        started_utc="2026-03-14T08:30:00.000+00:00",
        profile=profile,
        dtype=None,
        period_s=0.2,
        python_version="3.11.7",
        kernel_version="6.4.0",
    )


def run_file(
    start: RunStart, end: RunEnd | None, *, version: str = __version__, placement: Placed | None = None
) -> RunFile:
    """Return what run.json says."""
    return RunFile(format_version=FORMAT_VERSION, satscore_version=version, start=start, placement=placement, end=end)


def run_end(seconds: float, notes: list[str], no_pipes_reason: str | None = None) -> RunEnd:
    """Return a fixed, successful end of a run."""
    return RunEnd(
        exit_code=0,
        exit_signal=None,
        duration_s=seconds,
        late_reads_count=0,
        latest_read_s=0.004,
        notes=notes,
        no_pipes_reason=no_pipes_reason,
        cost=COST,
    )


def one_process(spec: str, seconds: float, command: list[str]) -> Summary:
    """Return the summary of a scenario in one process."""
    header, session, source = simulated_rank(spec, seconds)
    end = run_end(seconds, source.notes())
    directory = "satscore-runs/20260314T093000-pretrain"
    return summarise(run_file(run_start(command), end, version=__version__), [(header, session)], directory=directory)


def four_ranks(seconds: float, command: list[str]) -> Summary:
    """Return the summary of a job of four simulated ranks with one GPU each."""
    parts = [
        simulated_rank("sim:gh200x4", seconds, rank=rank, placement=Placement(rank=rank, world=4)) for rank in range(4)
    ]
    end = run_end(seconds, parts[0][2].notes())
    ranks = [(header, session) for header, session, _ in parts]
    return summarise(run_file(run_start(command), end, version=__version__), ranks, directory="daint-4711.0")


def no_gpu(command: list[str]) -> Summary:
    """Return the summary of a run on a machine without a GPU."""
    why = "NVML: libnvidia-ml.so.1 was not found: no NVIDIA driver on this machine"
    cost = Cost(cpu_s=0.18, cpu_pct_of_core=18.0, rss_max_bytes=36_000_000, read_mean_s=None, recording_bytes=None)
    end = msgspec.structs.replace(run_end(1.0, [why], why), cost=cost)
    return summarise(run_file(run_start(command), end, version=__version__), [], directory=None)
