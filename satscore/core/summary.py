"""The summary: versioned types of ``summary.json``. Every view is a function of it.

Rules of the format: the unit is in every key (``_pct`` points of 100, ``_frac`` 1 = the bound, ``_s``,
``_w``, ``_mhz``, ``_bytes``, ``_bytes_s``, ``_flops_s``, ``_c``, ``_j``, ``_count``); what is unknown is
null, and the block's ``missing`` says why under the same key; later versions only add.
"""

from typing import Any, Literal

import msgspec

from satscore.core.progress import Progress
from satscore.core.rank_row import RankName
from satscore.core.summary_gpu import GpuSummary, Loss, Rates, Score, UnreadGpu, UnusedGpu
from satscore.core.summary_host import HostItem
from satscore.core.summary_job import (
    ConfidenceItem,
    FailedRankItem,
    JobTreeItem,
    LaunchItem,
    LostRankItem,
    MarkItem,
    PhasesItem,
    Quantiles,
    SteadyItem,
    SuspectItem,
)

SCHEMA_VERSION = "1.5"
DataKind = Literal["measured", "simulated", "replay"]
Severity = Literal["high", "medium", "low", "info"]
RunKind = Literal["command", "watch"]
HeadlineKind = Literal["total", "steady", "none"]


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What ran, when, and how it ended. The command is redacted (docs/outputs.md)."""

    run_id: str
    label: str | None
    command: list[str]
    hostname: str
    started_utc: str
    duration_s: float | None
    """From the child's start to its end; null if satscore itself was killed."""
    observed_s: float
    """From the first to the last read, the time that is scored."""
    finished: bool
    """False if satscore did not see the command end (it was killed; the recording was recovered)."""
    exit_code: int | None
    exit_signal: str | None
    """Name of the signal that ended the command, e.g. SIGTERM."""
    directory: str | None
    kind: RunKind
    """command: satscore started it; watch: whatever ran on the GPUs was scored, and there is no command."""
    job: LaunchItem | None = None
    """null: there is no launcher, one satscore measured the whole job."""


class ComparisonItem(msgspec.Struct, frozen=True, kw_only=True):
    """One field as two sources read it, over the time in which both knew it."""

    gpu_index: int
    """The GPU's position in the rank's list."""
    field: str
    unit: str
    """Of both means and of their difference."""
    mean_gpm: float
    mean_dcgm: float
    difference: float
    """DCGM minus GPM."""
    common_s: float


class SourceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Where the numbers come from and how densely they were read."""

    name: str
    """gpm, dcgm, nvml, both, sim, replay, or none."""
    scenario: str | None
    """What is simulated or replayed, as it was asked for."""
    period_s: float
    """Nominal time between reads; the measured one is in ``interval_mean_s``."""
    interval_mean_s: float | None
    readings_count: int
    """Intervals read, summed over GPUs."""
    late_reads_count: int | None
    """Reads that came more than half a period after their deadline."""
    latest_read_s: float | None
    """The largest lateness."""
    resolution: Literal["readings", "sums"]
    """What the numbers were made from: every reading, or the sums that were kept of them."""
    driver_version: str | None
    cuda_driver_version: str | None
    comparison: list[ComparisonItem] = []
    """Of ``both`` alone: GPM, which is scored, against DCGM."""


class MethodInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Definitions that belong to the number."""

    profile: str
    resources: list[str]
    window_s: float
    dtype: str | None
    """As stated by the user (--dtype); counters cannot tell it."""
    group_by: str
    """Ranks are compared within these groups: none, host, local_rank, rank//N, rank%N."""


class Headline(msgspec.Struct, frozen=True, kw_only=True):
    """The one number, and of which part of the run it is."""

    kind: HeadlineKind
    """steady: the steady phase; total: the whole run; none: no score, ``reason`` says why."""
    score_pct: float | None
    score_hi_pct: float | None
    short_run: bool
    """Fewer than 120 windows of work: no phases and no confidence interval."""
    reason: str | None
    ci95: ConfidenceItem | None
    ci_reason: str | None
    """Why there is no interval."""


class RankSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One rank (one process of the job) and its GPUs."""

    rank: int
    local_rank: int | None
    hostname: str
    score: Score
    loss: Loss | None
    rates: Rates
    gpus: list[GpuSummary]
    gpus_unused: list[UnusedGpu]
    gpus_unread: list[UnreadGpu]
    finished: bool = True
    """False if the end of its command is not known."""
    exit_code: int | None = None
    exit_signal: str | None = None


class Extreme(msgspec.Struct, frozen=True, kw_only=True):
    """The GPU at one end of the job."""

    rank: int
    gpu_index: int
    nvml_index: int | None
    hostname: str
    score_pct: float


class JobSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The whole job: time-weighted sums over all GPUs."""

    ranks_count: int
    nodes_count: int
    gpus_count: int
    gpus_scored_count: int
    score: Score
    loss: Loss | None
    rates: Rates
    host: HostItem | None
    """What the hosts did beside the GPUs; null: nobody read them (simulated and replayed runs)."""
    worst: Extreme | None
    best: Extreme | None
    over_gpus: Quantiles | None
    """Quantiles of the score; null for one GPU."""
    phases: PhasesItem | None
    """null: a short run, or no score."""
    steady: SteadyItem | None
    tree: JobTreeItem | None
    """null: one GPU (``loss`` is its tree), or the levels are not known."""
    suspects: list[SuspectItem]
    """The ranks furthest ahead, at most 64."""
    suspects_count: int
    ranks_expected_count: int | None = None
    """Ranks that the launcher started; null: nobody said."""
    ranks_missing: list[int] = []
    """Those that are in no number here, at most 64; ``notes`` says why."""
    ranks_missing_count: int = 0
    ranks_failed: list[FailedRankItem] = []
    """Those whose command failed, at most 64, in the order in which they ended."""
    ranks_failed_count: int = 0
    ranks_lost: list[LostRankItem] = []
    """Those whose end is not known, at most 64."""
    ranks_lost_count: int = 0


class EvidenceItem(msgspec.Struct, frozen=True, kw_only=True):
    """A number behind a finding."""

    key: str
    """Stable name for programs; ``name`` is for people."""
    name: str
    value: float
    unit: str
    threshold: float | None


class FindingItem(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, what it is worth, and what to do next."""

    id: str
    title: str
    severity: Severity
    points_pct: float
    evidence: list[EvidenceItem]
    action: str
    hint: str
    next_command: str
    false_positives: str
    ranks: list[RankName]
    """The GPUs that it is about, at most 64; empty: the whole job."""
    tied_with: list[str]
    """Findings whose points cannot be told from these: within 2 points, or within the confidence interval."""


class NotJudgedItem(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that lacked a counter."""

    id: str
    missing: list[str]


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What satscore itself used; null where the run did not finish. Of a job: over all ranks that said it."""

    cpu_s: float | None
    """With that of a process that reads a source (DCGM). Of a job the sum."""
    cpu_pct_of_core: float | None
    """Of a job the mean over its ranks, each of which has a satscore of its own."""
    rss_max_bytes: int | None
    """The largest resident memory, with that of such a process. Of a job that of the largest rank."""
    read_mean_s: float | None
    """Mean time of one read of all GPUs, most of it inside the driver."""
    recording_bytes: int | None
    helper_cpu_s: float = 0.0
    """The part of ``cpu_s`` that a process of the source used."""
    helper_rss_max_bytes: int = 0
    """The part of ``rss_max_bytes`` that a process of the source had."""
    ranks_count: int = 1
    """Over how many satscores the numbers are."""
    cpu_max_pct_of_core: float | None = None
    """Of a job that of the rank with the most."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of ``summary.json``."""

    schema_version: str
    satscore_version: str
    data_kind: DataKind
    headline: Headline
    run: RunInfo
    source: SourceInfo
    method: MethodInfo
    job: JobSummary
    ranks: list[RankSummary]
    """All of up to 1,024 ranks; of more the 64 with the lowest scores (``job.ranks_count`` has the number)."""
    marks: list[MarkItem]
    progress: Progress | None
    """What the command said of its own progress; null: nothing."""
    findings: list[FindingItem]
    not_judged: list[NotJudgedItem]
    notes: list[str]
    """What was missing or wrong, once each, with the remedy."""
    cost: Cost


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of ``summary.json``."""
    schema = msgspec.json.schema(Summary)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "satscore summary", **schema}


def encode(summary: Summary) -> bytes:
    """Return a summary as indented JSON, UTF-8, ending in a newline."""
    return msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"


def decode(data: bytes) -> Summary:
    """Return the summary in a ``summary.json``.

    Raises:
        msgspec.ValidationError: If a key is missing or has another type; names the path.
        msgspec.DecodeError: If it is not JSON.
    """
    return msgspec.json.decode(data, type=Summary)
