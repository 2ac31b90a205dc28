"""Types of ``summary.json`` that only the job as a whole has: confidence, phases, job tree, ranks compared."""

from typing import Literal

import msgspec

from satscore.core.rank_row import RankName
from satscore.core.summary_gpu import LossPart

PhaseName = Literal["startup", "warmup", "steady", "dip", "tail"]


class ConfidenceItem(msgspec.Struct, frozen=True, kw_only=True):
    """95 % interval of the steady score (docs/method.md, "Uncertainty"): how far another stretch would differ."""

    low_pct: float
    high_pct: float
    half_width_pct: float
    windows_count: int
    batch_windows_count: int
    """Windows averaged into one batch mean, so that neighbours no longer depend on each other."""
    batches_count: int
    dof: float
    """Degrees of freedom after the inflation for what dependence is left."""
    reliable: bool
    """Steady at one level for 300 windows or more. With fewer the interval covers the truth less often than it
    says; of several levels it is that of their mean, where no stretch of the run lies."""
    systematic_pct: float
    """What a comparison across machines adds, linearly: clock sampling and the bound's own uncertainty."""


class PhaseItem(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of phase, all its stretches together."""

    label: PhaseName
    time_s: float
    share_frac: float
    score_pct: float | None


class SegmentItem(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch of a phase; times since the first window."""

    label: PhaseName
    start_s: float
    stop_s: float


class RegimeItem(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the steady phase with a level of its own; there are several only where the level changed."""

    start_s: float
    stop_s: float
    score_pct: float | None


class DipsItem(msgspec.Struct, frozen=True, kw_only=True):
    """The passing low stretches of the run."""

    dips_count: int
    time_s: float
    cost_pct: float
    """Points that the whole run would have more without them."""
    periodic: bool
    period_s: float | None
    duration_s: float | None
    """Mean length of one."""
    kind: Literal["checkpoint", "gc", "unknown"] | None
    """What regular dips look like: data leaves for the host (checkpoint), or short without traffic (gc)."""


class MarkItem(msgspec.Struct, frozen=True, kw_only=True):
    """A user's mark."""

    name: str
    at_s: float
    """Since the first window."""


class PhasesItem(msgspec.Struct, frozen=True, kw_only=True):
    """The phases of the whole job, labelled with hindsight (docs/method.md, "Phases")."""

    phases: list[PhaseItem]
    segments: list[SegmentItem]
    """In order of time, at most 1,000."""
    segments_count: int
    never_steady: bool
    run_score_pct: float | None
    """S over steady time and dips: what the training itself reached."""
    start_cost_pct: float
    """Points that the whole run would have more, had start-up and warm-up been steady."""
    dips: DipsItem
    regimes: list[RegimeItem]


class SteadyItem(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of the steady phase; the loss parts and the score add up to 100."""

    time_s: float
    score_pct: float
    score_hi_pct: float
    score_attainable_pct: float
    tensor_score_pct: float | None
    dram_score_pct: float | None
    coverage_frac: float
    loss: list[LossPart]


class JobTreeItem(msgspec.Struct, frozen=True, kw_only=True):
    """The loss tree of several ranks (docs/method.md, "Job tree"): parts and score add up to 100."""

    scope: Literal["steady", "total"]
    levels_frac: list[float]
    """J0 to J6, fractions."""
    parts: list[LossPart]
    score_pct: float
    product_frac: dict[str, float | None]
    """The same as factors, outer causes first; their product is score_pct / 100. null behind a level of 0."""
    pacing: RankName
    """The GPU that set the pace for the longest time: busy, and waiting for nobody."""
    pacing_frac: float
    """For which share of the time."""
    block_s: float
    """Imbalance that alternates faster than this looks like waiting that is common to all."""
    time_s: float
    ranks_count: int


class SuspectItem(msgspec.Struct, frozen=True, kw_only=True):
    """A rank for which the others wait (docs/method.md, "Stragglers"). Assumes equal work per rank."""

    name: RankName
    kind: Literal["slow", "overloaded"]
    cause: str
    """thermal, power, hw, clock (low, no reason given), same_clock, unknown."""
    z: float
    excess_pct: float
    """Its busy share above the median, points."""
    efficiency_ratio: float
    """Its score per busy second over the median one."""
    sm_clock_mhz: float | None
    median_clock_mhz: float | None
    temp_max_c: float | None
    speed_up: float
    """How much faster the job would run without it: an estimate."""


class LaunchItem(msgspec.Struct, frozen=True, kw_only=True):
    """Which job the ranks belong to, as their launcher said."""

    launcher: str
    """slurm, torchrun, openmpi, ... (docs/launchers.md)."""
    ranks_count: int
    """Ranks of the job."""
    key: str | None
    """The same in all ranks of this job's step and in no other; null: nothing tells its runs apart."""
    restarts_count: int
    """How often the job, or torchrun's workers, began anew."""


class FailedRankItem(msgspec.Struct, frozen=True, kw_only=True):
    """A rank whose command failed."""

    rank: int
    hostname: str
    exit_code: int | None
    exit_signal: str | None
    """Name of the signal that ended the command, e.g. SIGKILL."""


class LostRankItem(msgspec.Struct, frozen=True, kw_only=True):
    """A rank whose end is not known: it was lost, or was still at work when the summary was made."""

    rank: int
    hostname: str
    covered_s: float | None
    """Until when it was read, since the first reading of the job; null: it never was."""


class Quantiles(msgspec.Struct, frozen=True, kw_only=True):
    """Of the score over GPUs."""

    p5_pct: float
    p50_pct: float
    p95_pct: float
