"""What the rules judge beyond the means of counters: the job, its phases, its ranks."""

from typing import Literal

import msgspec

from satscore.core.rank_row import RankName

DipKind = Literal["checkpoint", "gc", "unknown"]
SuspectKind = Literal["slow", "overloaded"]
SuspectCause = Literal["thermal", "power", "hw", "clock", "same_clock", "unknown"]
"""Why a slow GPU is slow: what held its clock down, or that its clock is like the others'."""


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    """A rank for which the others wait."""

    name: RankName
    kind: SuspectKind
    """slow: less done per busy second than the others; overloaded: as much, but busy for longer."""
    cause: SuspectCause
    z: float
    """Robust distance of its busy share from the median (docs/method.md, "Stragglers")."""
    excess_frac: float
    """Its busy share above the median."""
    efficiency_ratio: float
    """Its score per busy second over the median one."""
    sm_clock_mhz: float | None
    median_clock_mhz: float | None
    temp_max_c: float | None
    speed_up: float
    """How much faster the job would run without it (an estimate, >= 1)."""


class DipFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Dips that come at regular times."""

    kind: DipKind
    count: int
    period_s: float
    duration_s: float
    duty_frac: float
    cost_points: float
    """Points that the whole run would have more without them."""


class RegimeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A lasting change of the level within the steady phase."""

    at_s: float
    """Since the first window, s."""
    before_points: float
    after_points: float


class JobFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of the whole job; the defaults are those of one GPU without phases."""

    has_pipe_counters: bool = True
    no_counters_reason: str | None = None
    gpus_count: int = 1
    local_gpus_count: int = 1
    """The most GPUs of the job on one node."""
    run_s: float = 0.0
    phase_s: dict[str, float] = msgspec.field(default_factory=dict)
    """Seconds per phase (startup, warmup, steady, dip, tail); empty where phases are not told apart."""
    start_cost_points: float | None = None
    """Points that the whole run would have more, had start-up and warm-up been steady; None: no phases."""
    never_steady: bool | None = None
    regime_changes: tuple[RegimeFacts, ...] | None = None
    periodic: DipFacts | None = None
    load_balance: float | None = None
    """J4/J3 of the job tree."""
    rank_spread: float | None = None
    """Standard deviation of the busy share over ranks within a window, root mean square over time, without what
    the ranks differ by on average."""
    block_s: float | None = None
    """Resolution of the job tree."""
    suspects: tuple[Suspect, ...] = ()
    idle_ranks: tuple[RankName, ...] = ()
    least_waiting: RankName | None = None
    """The rank that waits least, where the others wait and it does not."""
    shared_frac: float | None = None
    """Share of the time judged with processes of others there, of the GPU with the largest; None: not known."""
    foreign_processes: int = 0
    ci_points: float | None = None
    """Half width of the confidence interval of the score; None: there is none."""
