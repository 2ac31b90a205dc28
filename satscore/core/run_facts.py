"""What a summary is made from: the results of all ranks, and what is known of the run besides the counters."""

from typing import Literal

import msgspec

from satscore.core.attendance import Attendance
from satscore.core.hosts import NOT_READ, Hosts
from satscore.core.marks import Mark
from satscore.core.progress_state import ProgressState
from satscore.core.summarise import GpuResult
from satscore.core.summary import Cost, DataKind, RunInfo, SourceInfo
from satscore.core.summary_gpu import UnreadGpu, UnusedGpu


class RankResult(msgspec.Struct, frozen=True, kw_only=True):
    """One rank's GPUs."""

    rank: int
    local_rank: int | None
    hostname: str
    gpus: tuple[GpuResult, ...]
    """Those that the command uses, as far as known."""
    unused: tuple[UnusedGpu, ...] = ()
    unread: tuple[UnreadGpu, ...] = ()
    finished: bool = True
    """Whether the end of its command is known."""
    exit_code: int | None = None
    exit_signal: str | None = None
    over_us: int = 0
    """Time of the job after the end of its command, us."""


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the summary needs besides the counters."""

    satscore_version: str
    data_kind: DataKind
    run: RunInfo
    source: SourceInfo
    profile: str
    dtype: str | None
    has_pipe_counters: bool
    no_pipes_reason: str | None
    """Why the source has no pipe counters (or there is no source), with the remedy."""
    notes: tuple[str, ...]
    cost: Cost
    group_by: str = "none"
    """Ranks are compared within these groups (docs/method.md, "Stragglers")."""
    marks: tuple[Mark, ...] = ()
    """The user's marks, in order of time."""
    progress: ProgressState = ProgressState()
    """What the command said of its progress."""
    hosts: Hosts = NOT_READ
    """What was read of the hosts."""
    grid_offset_ns: int = 0
    resolution: Literal["readings", "sums"] = "readings"
    attendance: Attendance = Attendance()
    """Which ranks are missing, failed or lost."""
