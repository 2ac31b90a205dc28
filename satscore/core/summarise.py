"""From sums to the summary's blocks: scores, losses, rates. No number is computed after this."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import msgspec

from satscore.core.bounds import PROFILES, Bounds
from satscore.core.facts import nearest_cap, profile_points
from satscore.core.fields import FIELDS, SPARSE_FIELDS, Quality
from satscore.core.gpu import GpuInfo
from satscore.core.hwmodel import HardwareModel
from satscore.core.intervals import ACTIVE_FIELD, LINK_DIRECTIONS
from satscore.core.job_series import JobSeries, Series
from satscore.core.labels import Label
from satscore.core.loss_parts import loss_tree
from satscore.core.placement import is_shared
from satscore.core.rank_blocks import RankBlocks
from satscore.core.summary_gpu import GpuUse, Grade, Loss, Score
from satscore.core.sums import Sums
from satscore.core.units import PPM, US_PER_S, points
from satscore.core.vboost import CONSTRAINT_VARIABLES

SCORE_COVERAGE_FRAC = 0.5
"""Below this coverage there is no score, only its bounds."""
FULL_COVERAGE_FRAC = 0.95
MISSING_TEXT = {
    Quality.NOT_READ: "not read by this source",
    Quality.NOT_SUPPORTED: "not supported by this GPU or driver",
    Quality.NO_PERMISSION: "no permission",
    Quality.BLANK: "the driver answered without a value",
    Quality.STALE: "the driver repeated an old value",
    Quality.GPU_LOST: "the GPU was lost",
    Quality.OUT_OF_RANGE: "impossible values",
    Quality.ERROR: "driver error",
}


class GpuResult(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known about one GPU at a point of the run."""

    info: GpuInfo
    model: HardwareModel | None
    model_note: str | None
    bounds: Bounds
    sums: Sums
    phase_sums: dict[Label, Sums] = msgspec.field(default_factory=dict)
    """Sums of the windows of each phase, as told apart while they came."""
    series: Series = msgspec.field(default_factory=JobSeries)
    blocks: RankBlocks = msgspec.field(default_factory=RankBlocks)
    use: GpuUse = "visible"
    shared_frac: float | None = None
    """Share of the time judged in which processes of others computed on it; None: not known."""
    foreign_count: int = 0
    """The most of them at a look."""


class ScopeContext(msgspec.Struct, frozen=True, kw_only=True):
    """What the numbers of a scope depend on besides its sums."""

    profile: str
    has_pipe_counters: bool
    no_score_reason: str | None
    """Set where there can be no score at all: no pipe counters, unknown GPU, MIG."""
    is_doubtful: bool
    """Grade C at most (``is_doubtful``)."""
    dtype: str | None


def is_doubtful(gpus: Iterable[GpuResult]) -> bool:
    """Return whether what is known of some GPUs allows grade C at most.

    Attainable rates are of another power cap or vBoost level, or of a level that nobody has verified; processes of
    others compute there (counters are of the whole GPU); or pipe counters take turns, so that each saw a part of
    the time only.
    """
    return any(
        gpu.bounds.ceilings_at_other_cap
        or is_shared(gpu.shared_frac)
        or gpu.info.pipes_multiplexed
        or gpu.info.vboost_source in CONSTRAINT_VARIABLES
        for gpu in gpus
    )


def score_of(sums: Sums, context: ScopeContext) -> Score:
    """Return the score block of a scope (docs/method.md, "Windows" and "Missing data")."""
    scope_us, complete_us = sums.total("time_us"), sums.total(f"complete_us:{context.profile}")
    coverage = complete_us / scope_us if scope_us else 0.0
    why = context.no_score_reason or _low_coverage(sums, coverage, context.profile)
    judged = context.no_score_reason is None and scope_us > 0
    link_name, link = _best_link(sums)
    power_scope, power = nearest_cap({s: sums.mean(f"power_frac_{s}") for s in ("gpu", "module")})
    grade = _grade(coverage, scope_us, context)
    named = {"link_name": link_name, "power_scope": power_scope, "grade": grade}
    values: dict[str, float | None] = {
        "score_pct": _complete(sums, f"sat:{context.profile}", complete_us, why),
        "score_hi_pct": _complete(sums, f"sat_hi:{context.profile}", complete_us, why),
        "score_attainable_pct": _complete(sums, "attainable", complete_us, why),
        "score_min_pct": _bound(sums, context.profile, "lo") if judged else None,
        "score_max_pct": _bound(sums, context.profile, "hi") if judged else None,
        "score_hpc_pct": _beside(sums, "hpc", context),
        "tensor_score_pct": _beside(sums, "tensor", context),
        "dram_score_pct": _beside(sums, "dram", context),
        "sm_active_pct": _pct(sums.mean("sm")),
        "link_pct": _pct(link),
        "power_pct": _pct(power),
        "bound_exceeded_frac": sums.total("exceeds_bound_us") / complete_us if judged and complete_us else None,
        "ceiling_exceeded_frac": sums.total("exceeds_ceiling_us") / complete_us if judged and complete_us else None,
    }
    return Score(
        **values,
        link_name=link_name,
        power_scope=power_scope,
        by_resource_pct=_by_resource(sums, context.profile, complete_us, why),
        coverage_frac=coverage,
        grade=grade,
        partial=SCORE_COVERAGE_FRAC <= coverage < FULL_COVERAGE_FRAC,
        windows_count=sums.total("windows"),
        complete_gpu_s=complete_us / US_PER_S,
        scope_gpu_s=scope_us / US_PER_S,
        missing=_why_missing({**values, **named}, why, sums),
    )


def _low_coverage(sums: Sums, coverage: float, profile: str) -> str | None:
    """Return why too little is known for a score, naming the counters, or None."""
    if sums.total("time_us") == 0:
        return "no complete reading: the run was shorter than two reads"
    if coverage >= SCORE_COVERAGE_FRAC:
        return None
    needed = [*(ACTIVE_FIELD[r] for r in PROFILES[profile]), "sm_clock_mhz", "mem_clock_mhz"]
    reasons = missing_reasons(sums)
    lacking = ", ".join(f"{field} ({reasons[field]})" for field in needed if field in reasons) or "a counter"
    return (
        f"only {coverage:.0%} of the time is complete and a score needs {SCORE_COVERAGE_FRAC:.0%}; missing: {lacking}"
    )


def _complete(sums: Sums, name: str, complete_us: int, why: str | None) -> float | None:
    if why is not None or complete_us == 0:
        return None
    return points(sums.total(name) / PPM / complete_us)


def _beside(sums: Sums, profile: str, context: ScopeContext) -> float | None:
    """Return the score of another profile, by the same rule of coverage as the headline."""
    time_us = sums.total("time_us")
    enough = sums.total(f"complete_us:{profile}") >= SCORE_COVERAGE_FRAC * time_us
    return profile_points(sums, profile) if context.no_score_reason is None and time_us and enough else None


def _bound(sums: Sums, profile: str, side: str) -> float:
    """Return S_min ("lo") or S_max ("hi") over the whole scope."""
    return points(sums.total(f"{side}:{profile}") / PPM / sums.total("time_us"))


def _pct(frac: float | None) -> float | None:
    return None if frac is None else points(frac)


def _by_resource(sums: Sums, profile: str, complete_us: int, why: str | None) -> dict[str, float]:
    if why is not None or complete_us == 0:
        return {}
    return {r: points(sums.total(f"by:{r}") / PPM / complete_us) for r in PROFILES[profile]}


def _grade(coverage: float, scope_us: int, context: ScopeContext) -> Grade | None:
    """Return the grade of docs/method.md, "Missing data". A is kept for ceilings calibrated on this GPU."""
    if not context.has_pipe_counters:
        return "D"
    if context.no_score_reason is not None or scope_us == 0 or coverage < SCORE_COVERAGE_FRAC:
        return None
    if coverage < FULL_COVERAGE_FRAC or context.is_doubtful:
        return "C"
    return "B"


def _best_link(sums: Sums) -> tuple[str | None, float | None]:
    known = {way: share for way in LINK_DIRECTIONS if (share := sums.mean(f"link_{way}")) is not None}
    name = max(known, key=lambda way: known[way], default=None)
    return name, known.get(name) if name else None


def _why_missing(values: Mapping[str, object], why: str | None, sums: Sums) -> dict[str, str]:
    out = {}
    for key, value in values.items():
        if value is None:
            scored = key not in ("sm_active_pct", "link_pct", "link_name", "power_pct", "power_scope")
            out[key] = why if why and (scored or sums.read_us == 0) else _field_reason(sums, key)
    return out


def _field_reason(sums: Sums, key: str) -> str:
    fields = {
        "sm_active_pct": "sm_active_frac",
        "link_pct": "nvlink_tx_bytes_s",
        "link_name": "nvlink_tx_bytes_s",
        "power_pct": "power_gpu_w",
        "power_scope": "power_gpu_w",
        "tensor_score_pct": "tensor_active_frac",
        "dram_score_pct": "dram_active_frac",
        "score_hpc_pct": "fp64_active_frac",
    }
    return missing_reasons(sums).get(fields.get(key, key), "a counter or its bound is unknown")


def missing_reasons(sums: Sums) -> dict[str, str]:
    """Return, per field that was ever unknown, the reason that held longest."""
    longest: dict[str, tuple[int, str]] = {}
    for key, time_us in sums.quality_us.items():
        field, code = key.rsplit(":", 1)
        longest[field] = max(longest.get(field, (0, "")), (time_us, MISSING_TEXT[Quality(int(code))]))
    return {field: text for field, (_, text) in sorted(longest.items())}


def known_fracs(sums: Sums) -> dict[str, float]:
    """Return, per field that was ever unknown, the share of read time in which it was known.

    Error counts and the state of links are left out: they stand in few readings by design.
    """
    unknown_us: dict[str, int] = {}
    for key, time_us in sums.quality_us.items():
        field = key.rsplit(":", 1)[0]
        unknown_us[field] = unknown_us.get(field, 0) + time_us
    order = [f.name for f in FIELDS if f.name in unknown_us and f.name not in SPARSE_FIELDS]
    return {name: max(0.0, 1.0 - unknown_us[name] / sums.read_us) for name in order if sums.read_us}


def loss_of(sums: Sums, profile: str, score: Score) -> Loss | None:
    """Return both loss trees of a scope; None where there is no score."""
    if score.score_pct is None:
        return None
    complete_us = sums.total(f"complete_us:{profile}")

    def points_of(prefix: str, names: Sequence[str]) -> float:
        return points(sum(sums.total(f"{prefix}:{name}") for name in names) / PPM / complete_us)

    return Loss(
        datasheet=loss_tree(partial(points_of, "loss")),
        attainable=loss_tree(partial(points_of, "loss_attainable")),
    )
