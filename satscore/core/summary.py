"""The summary: versioned types of ``summary.json``. Every view is a function of it.

Rules of the format: the unit is in every key (``_pct`` points of 100, ``_frac`` 1 = the bound, ``_s``,
``_w``, ``_mhz``, ``_bytes``, ``_bytes_s``, ``_flops_s``, ``_c``, ``_j``, ``_count``); what is unknown is
null, and the block's ``missing`` says why under the same key; later versions only add.
"""

from typing import Any, Literal

import msgspec

SCHEMA_VERSION = "1.2"
DataKind = Literal["measured", "simulated", "replay"]
Grade = Literal["A", "B", "C", "D"]
Severity = Literal["high", "medium", "low", "info"]
RunKind = Literal["command", "watch"]
HeadlineKind = Literal["total", "steady", "none"]
GpuUse = Literal["process", "environment", "visible", "assumed"]
"""How it is known that the command uses a GPU: it computes there; the environment of its processes shows
them the GPU; satscore's own environment does, and nothing surer is known; or that one names it by a number
that CUDA may count in another order."""
KnownBy = Literal["process", "environment"]
"""By what it is known which GPUs the command uses: its processes were seen to compute, or their environment tells."""


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


class SourceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Where the numbers come from and how densely they were read."""

    name: str
    """gpm, nvml, sim, replay, or none."""
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
    driver_version: str | None
    cuda_driver_version: str | None


class MethodInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Definitions that belong to the number."""

    profile: str
    resources: list[str]
    window_s: float
    dtype: str | None
    """As stated by the user (--dtype); counters cannot tell it."""


class Headline(msgspec.Struct, frozen=True, kw_only=True):
    """The one number, and of which part of the run it is."""

    kind: HeadlineKind
    """steady: the steady phase; total: the whole run; none: no score, ``reason`` says why."""
    score_pct: float | None
    score_hi_pct: float | None
    short_run: bool
    """Fewer than 120 windows: no phases and no confidence interval."""
    reason: str | None


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of one scope, in points of 100 (docs/method.md)."""

    score_pct: float | None
    """S: time mean of the largest fraction of a datasheet peak; a lower bound of speed-of-light time."""
    score_hi_pct: float | None
    """Upper bound from the same counters, as long as no kernel beats the known attainable rates."""
    score_attainable_pct: float | None
    """The same against the best rate ever measured on this GPU model at its cap."""
    score_min_pct: float | None
    """S if every missing counter had been 0."""
    score_max_pct: float | None
    """S if every missing counter had been at its limit."""
    score_hpc_pct: float | None
    tensor_score_pct: float | None
    """T: executed tensor FLOP/s over the dense peak of whatever data type ran (HFU)."""
    dram_score_pct: float | None
    sm_active_pct: float | None
    link_pct: float | None
    """Busiest link and direction, mean over its peak."""
    link_name: str | None
    power_pct: float | None
    """Power over the limit in force, of the scope nearest to its limit."""
    power_scope: str | None
    by_resource_pct: dict[str, float]
    """Points of S by the resource that was the largest; they add up to S."""
    coverage_frac: float
    """Share of the scope's time in which every counter of the profile was known."""
    grade: Grade | None
    partial: bool
    windows_count: int
    """Windows, summed over GPUs."""
    complete_gpu_s: float
    """GPU-seconds in complete windows."""
    scope_gpu_s: float
    """GPU-seconds from first to last read."""
    bound_exceeded_frac: float | None
    """Share of time above 102 % of a bound: wrong model, bound or counter."""
    ceiling_exceeded_frac: float | None
    """Share of time more than 3 % above the attainable rate: its entry is stale."""
    missing: dict[str, str]


class LossPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the loss tree; its ``parts`` add up to its points."""

    name: str
    points_pct: float
    parts: list["LossPart"]


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """Where the rest went: the top parts and S add up to 100 over complete windows."""

    datasheet: list[LossPart]
    attainable: list[LossPart]
    """The same against the attainable rates; adds up to 100 with score_attainable_pct."""


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Means over the scope (maxima where the name says so); evidence, never part of the score."""

    engine_active_frac: float | None
    sm_active_frac: float | None
    sm_occupancy_frac: float | None
    tensor_active_frac: float | None
    fp64_active_frac: float | None
    fp32_active_frac: float | None
    fp16_active_frac: float | None
    dram_active_frac: float | None
    gpu_util_frac: float | None
    sm_clock_mhz: float | None
    mem_clock_mhz: float | None
    power_gpu_w: float | None
    power_module_w: float | None
    power_limit_gpu_w: float | None
    power_limit_module_w: float | None
    power_gpu_max_w: float | None
    power_module_max_w: float | None
    energy_gpu_j: float | None
    """Over the whole scope; null if power was known for less than 95 % of it."""
    energy_module_j: float | None
    temp_gpu_max_c: float | None
    memory_used_max_bytes: float | None
    ecc_corrected_count: int | None
    ecc_uncorrected_count: int | None
    xid_count: int | None
    """Critical Xid events of the driver."""
    dram_bytes_s: float | None
    tensor_flops_s: float | None
    """Only with a stated data type."""
    tensor_flops_min_s: float | None
    """If all tensor work were the slowest tensor data type of the training types (TF32)."""
    tensor_flops_max_s: float | None
    """If all were the fastest (FP8, where the GPU has it)."""
    throttle_frac: dict[str, float | None]
    link_frac: dict[str, float | None]
    """Per link and direction that this GPU model has."""
    missing: dict[str, str]


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """One upper bound and where it comes from."""

    resource: str
    """tensor, dram, fp64, fp32, fp16 (pipes), nvlink, pcie, c2c, power_module."""
    dtype: str | None
    """Data type of a tensor bound."""
    role: Literal["peak", "attainable", "cap"]
    """What S divides by, the fraction of it that the best known kernel reaches, or a power cap that the site states."""
    kind: str
    """datasheet, derived, measured or assumed; stated (a cap)."""
    value: float
    unit: str
    clock_mhz: float | None
    condition: str
    uncertainty_frac: float | None
    source: str


class GpuSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU: what it is, its bounds, its score."""

    index: int
    """Position among the GPUs of the rank."""
    nvml_index: int | None
    """The driver's number, as nvidia-smi shows it."""
    pci_bus_id: str | None
    uuid: str | None
    name: str | None
    use: GpuUse
    """How it is known that the command uses it."""
    shared_frac: float | None
    """Share of the time judged in which processes of others computed on it; null: no look could tell."""
    model_id: str | None
    model_note: str | None
    """Why no hardware model fits, and the file to add."""
    vboost_level: int | None
    """null: not read."""
    ceilings_missing: list[str]
    """Resources of the profile without a known attainable rate; 1 is taken, so S_att is a lower value."""
    score: Score
    loss: Loss | None
    rates: Rates
    bounds: list[Bound]
    fields_known_frac: dict[str, float]
    """Share of read time in which a counter was known; only those below 1."""
    fields_missing: dict[str, str]
    """Main reason, for the same counters."""


class UnusedGpu(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU that is read but known not to be used by the command: it is in no score."""

    index: int
    nvml_index: int | None
    uuid: str | None
    known_by: KnownBy
    """The command's processes compute on other GPUs, or their environment shows them others only."""
    engine_active_frac: float | None
    """How much of the time it worked, for whomever; null: not known."""


class UnreadGpu(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU that the command is known to use and that nobody reads: the score is of a part of its GPUs."""

    nvml_index: int | None
    uuid: str
    known_by: KnownBy
    """The command's processes compute there, or their environment shows it to them."""


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
    worst: Extreme | None
    best: Extreme | None


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


class NotJudgedItem(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that lacked a counter."""

    id: str
    missing: list[str]


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What satscore itself used; null where the run did not finish."""

    cpu_s: float | None
    cpu_pct_of_core: float | None
    rss_max_bytes: int | None
    read_mean_s: float | None
    """Mean time of one read of all GPUs, most of it inside the driver."""
    recording_bytes: int | None


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
