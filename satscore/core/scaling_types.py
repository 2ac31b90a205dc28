"""Types of a scaling trial: runs of one program on more and more GPUs (docs/outputs.md, "Scaling trials").

The rules of the format are those of ``summary.json`` (satscore.core.summary): the unit is in every key, what is
unknown is null with its reason in ``missing``, later versions only add.
"""

from typing import Literal

import msgspec

from satscore.core.summary import DataKind, HeadlineKind
from satscore.core.summary_gpu import Grade

SCHEMA_VERSION = "1.0"
Basis = Literal["tokens", "steps", "duration", "none"]
BASIS_FIELDS: dict[Basis, str] = {"tokens": "tokens_s", "steps": "step_time_p50_s", "duration": "duration_s"}
"""What tells how fast the work went, the surest first, and the field that has it."""


class GrownPart(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the loss tree that grew most since the first run, points of 100."""

    name: str
    first_pct: float
    here_pct: float


class ScoreChange(msgspec.Struct, frozen=True, kw_only=True):
    """A score minus that of the first run (docs/method.md, "Two runs")."""

    difference_pct: float
    ci95_low_pct: float
    ci95_high_pct: float
    is_beyond_noise: bool
    """The interval does not hold 0."""


class ScalingRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run: its size, how full, how fast, and how both compare with the first run; null: see ``missing``."""

    directory: str
    marks: list[str]
    """What keeps its numbers from being what they seem: simulated, failed, partial, ranks missing, ..."""
    label: str | None
    nodes_count: int
    ranks_count: int
    gpus_count: int
    """Those in its numbers."""
    is_whole: bool
    """Every rank is in its numbers; else there were more GPUs, and there is no efficiency."""
    headline_kind: HeadlineKind
    score_pct: float | None
    ci95_low_pct: float | None
    ci95_high_pct: float | None
    ci95_reliable: bool | None
    grade: Grade | None
    coverage_frac: float
    """Of the whole run."""
    tokens_s: float | None
    step_time_p50_s: float | None
    duration_s: float | None
    """Of a command that succeeded; that of another says nothing of its work."""
    efficiency_frac: float | None = None
    """(rate / first rate) / (GPUs / first GPUs), by tokens/s: the same for strong and weak scaling."""
    efficiency_strong_frac: float | None = None
    """first time x first GPUs / (time x GPUs), if the work of all runs is the same."""
    efficiency_weak_frac: float | None = None
    """first time / time, if the work per GPU is the same."""
    score_ratio: float | None = None
    """Score over that of the first run: efficiency as the counters see it."""
    score_change: ScoreChange | None = None
    loss_growth_pct: dict[str, float] = {}
    """Points by which each part of the loss tree exceeds that of the first run; empty: not comparable."""
    grown: GrownPart | None = None
    """null: no part grew by 0.05 points or more, or they are not comparable."""
    missing: dict[str, str] = {}


class Scaling(msgspec.Struct, frozen=True, kw_only=True):
    """Several runs in order of their GPUs; the first is what the others are compared with."""

    schema_version: str
    satscore_version: str
    data_kind: DataKind
    """simulated or replay as soon as one run is."""
    basis: Basis
    """What efficiencies are made from; none: nothing that the first run and another one have."""
    profile: str
    dtype: str | None
    model_id: str | None
    runs: list[ScalingRun]
    notes: list[str]


def encode(scaling: Scaling) -> bytes:
    """Return a scaling trial as indented JSON, UTF-8, ending in a newline."""
    return msgspec.json.format(msgspec.json.encode(scaling), indent=2) + b"\n"
