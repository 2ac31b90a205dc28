"""Types of ``summary.json`` for one scope: score, losses, rates, and one GPU with its bounds."""

from typing import Literal

import msgspec

PowerState = Literal["gpu-limited", "module-limited"]
Grade = Literal["A", "B", "C", "D"]
GpuUse = Literal["process", "environment", "visible", "local_rank", "assumed"]
"""How it is known that the command uses a GPU: it computes there; the environment of its processes shows
them the GPU; satscore's own environment does, and nothing surer is known; the rank's number on its node picks it
among those that are visible; or an environment names it by a number that CUDA may count in another order."""
KnownBy = Literal["process", "environment", "local_rank", "claimed"]
"""By what it is known which GPUs the command uses: its processes were seen to compute, or their environment tells;
of several ranks on a node: the number of the rank there picks another GPU, or another rank counts this one."""


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
    power_cpu_w: float | None
    """Of the CPU on the same module."""
    power_limit_gpu_w: float | None
    power_limit_module_w: float | None
    power_gpu_max_w: float | None
    power_module_max_w: float | None
    power_headroom_w: float | None
    """Until GPU or module reaches its limit; only where both have one (a module that GPU and CPU share)."""
    power_state: PowerState | Literal["below both"] | None
    """gpu-limited: the GPU is at its own limit; module-limited: the module is, and the GPU below."""
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


class GpuHealth(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of a GPU's health beside the score; null: not read, or too little to tell."""

    xid_count: int | None
    """Critical Xid events during the run."""
    ecc_corrected_count: int | None
    ecc_uncorrected_count: int | None
    remapped_rows_before_count: int | None
    """Memory rows that were remapped when the run began."""
    remapped_rows_count: int | None
    """Those that were remapped during the run."""
    remap_pending: bool | None
    """Whether a row waited for a reset when the run began."""
    remap_failed: bool | None
    """Whether a row could not be remapped."""
    pcie_generation: int | None
    """Under load; of several states the one below the best that lasted longest."""
    pcie_generation_max: int | None
    """The best that GPU and slot support."""
    pcie_lanes_count: int | None
    pcie_lanes_max_count: int | None
    pcie_lost_frac: float | None
    """Share of the PCIe bandwidth that was missing under load, time mean."""
    pcie_replay_count: int | None
    nvlink_active_count: int | None
    nvlink_count: int | None
    """Connections that the board has."""
    nvlink_lost_frac: float | None
    """Share of them that was not active, time mean; 0 where the board has none or uses none."""
    nvlink_error_count: int | None
    """CRC, replay and recovery errors."""
    temp_margin_c: float | None
    """How far the temperature stayed below the one at which the GPU slows itself down."""
    foreign_processes_count: int
    """The most processes of others that were seen to compute on it at once."""


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
    """null: not known."""
    vboost_source: str | None
    """What told it: the driver's tool, or a variable of the job that nobody has verified."""
    may_have_vboost: bool
    """Whether this kind of GPU has the slider."""
    health: GpuHealth
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
    """The command's processes compute on other GPUs, or their environment shows them others only; the rank's number
    on its node picks another one, and nothing surer is known; or another rank of the job counts it."""
    engine_active_frac: float | None
    """How much of the time it worked, for whomever; null: not known."""


class UnreadGpu(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU that the command is known to use and that nobody reads: the score is of a part of its GPUs."""

    nvml_index: int | None
    uuid: str
    known_by: KnownBy
    """The command's processes compute there, or their environment shows it to them."""
