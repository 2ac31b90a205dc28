"""From sums to the summary's blocks: scores, losses, rates. No number is computed after this."""

import math
from collections.abc import Mapping, Sequence

import msgspec

from satscore.core.bounds import PROFILES, Bounds
from satscore.core.facts import profile_points, tensor_flops_s
from satscore.core.fields import FIELDS, Quality
from satscore.core.gpu import GpuInfo
from satscore.core.hwmodel import HardwareModel
from satscore.core.intervals import ACTIVE_FIELD, LINK_DIRECTIONS, THROTTLE_REASONS
from satscore.core.losses import CLOCK_PARTS, COVERAGE_PARTS, IDLE_PARTS, ISSUE_PARTS, MERGED_PARTS
from satscore.core.summary import Grade, Loss, LossPart, Rates, Score
from satscore.core.sums import MILLI, Sums
from satscore.core.units import MIB, PPM, US_PER_S, points

SCORE_COVERAGE_FRAC = 0.5
"""Below this coverage there is no score, only its bounds."""
FULL_COVERAGE_FRAC = 0.95
RATE_FIELDS = {
    "engine_active_frac": "engine",
    "sm_active_frac": "sm",
    "sm_occupancy_frac": "occupancy",
    "tensor_active_frac": "x_tensor",
    "fp64_active_frac": "x_fp64",
    "fp32_active_frac": "x_fp32",
    "fp16_active_frac": "x_fp16",
    "dram_active_frac": "x_dram",
    "gpu_util_frac": "gpu_util",
    "sm_clock_mhz": "sm_clock_mhz",
    "mem_clock_mhz": "mem_clock_mhz",
    "power_gpu_w": "power_gpu_w",
    "power_module_w": "power_module_w",
    "power_limit_gpu_w": "power_limit_gpu_w",
    "power_limit_module_w": "power_limit_module_w",
}
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


class ScopeContext(msgspec.Struct, frozen=True, kw_only=True):
    """What the numbers of a scope depend on besides its sums."""

    profile: str
    has_pipe_counters: bool
    no_score_reason: str | None
    """Set where there can be no score at all: no pipe counters, unknown GPU, MIG."""
    stale_ceiling: bool
    dtype: str | None


def score_of(sums: Sums, context: ScopeContext) -> Score:
    """Return the score block of a scope (docs/method.md, "Windows" and "Missing data")."""
    scope_us, complete_us = sums.total("time_us"), sums.total(f"complete_us:{context.profile}")
    coverage = complete_us / scope_us if scope_us else 0.0
    why = context.no_score_reason or _low_coverage(sums, coverage, context.profile)
    judged = context.no_score_reason is None and scope_us > 0
    link_name, link = _best_link(sums)
    power_scope, power = _binding_power(sums)
    grade = _grade(coverage, scope_us, context)
    named = {"link_name": link_name, "power_scope": power_scope, "grade": grade}
    values: dict[str, float | None] = {
        "score_pct": _complete(sums, f"sat:{context.profile}", complete_us, why),
        "score_hi_pct": _complete(sums, f"sat_hi:{context.profile}", complete_us, why),
        "score_attainable_pct": _complete(sums, "attainable", complete_us, why),
        "score_min_pct": _bound(sums, context.profile, "lo") if judged else None,
        "score_max_pct": _bound(sums, context.profile, "hi") if judged else None,
        "score_hpc_pct": None if context.no_score_reason else profile_points(sums, "hpc"),
        "tensor_score_pct": None if context.no_score_reason else profile_points(sums, "tensor"),
        "dram_score_pct": None if context.no_score_reason else _pct(sums.mean("u_dram")),
        "sm_active_pct": _pct(sums.mean("sm")),
        "link_pct": _pct(link),
        "power_pct": _pct(power),
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
        complete_s=complete_us / US_PER_S,
        scope_s=scope_us / US_PER_S,
        bound_exceeded_frac=sums.total("exceeds_bound_us") / scope_us if scope_us else 0.0,
        ceiling_exceeded_frac=sums.total("exceeds_ceiling_us") / scope_us if scope_us else 0.0,
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
    if coverage < FULL_COVERAGE_FRAC or context.stale_ceiling:
        return "C"
    return "B"


def _best_link(sums: Sums) -> tuple[str | None, float | None]:
    known = {way: share for way in LINK_DIRECTIONS if (share := sums.mean(f"link_{way}")) is not None}
    name = max(known, key=lambda way: known[way], default=None)
    return name, known.get(name) if name else None


def _binding_power(sums: Sums) -> tuple[str | None, float | None]:
    known = {s: share for s in ("gpu", "module") if (share := sums.mean(f"power_frac_{s}")) is not None}
    scope = max(known, key=lambda s: known[s], default=None)
    return scope, known.get(scope) if scope else None


def _why_missing(values: Mapping[str, object], why: str | None, sums: Sums) -> dict[str, str]:
    out = {}
    for key, value in values.items():
        if value is None:
            scored = key.startswith(("score_", "tensor_", "dram_", "grade"))
            out[key] = why if scored and why else _field_reason(sums, key)
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
    """Return, per field that was ever unknown, the share of read time in which it was known."""
    unknown_us: dict[str, int] = {}
    for key, time_us in sums.quality_us.items():
        field = key.rsplit(":", 1)[0]
        unknown_us[field] = unknown_us.get(field, 0) + time_us
    order = [f.name for f in FIELDS if f.name in unknown_us]
    return {name: max(0.0, 1.0 - unknown_us[name] / sums.read_us) for name in order if sums.read_us}


def loss_of(sums: Sums, profile: str, score: Score) -> Loss | None:
    """Return both loss trees of a scope; None where there is no score."""
    if score.score_pct is None:
        return None
    complete_us = sums.total(f"complete_us:{profile}")
    return Loss(
        datasheet=_tree(sums, "loss", complete_us),
        attainable=_tree(sums, "loss_attainable", complete_us),
    )


def _tree(sums: Sums, prefix: str, complete_us: int) -> list[LossPart]:
    def leaf(name: str) -> LossPart:
        return LossPart(name=name, points_pct=points(sums.total(f"{prefix}:{name}") / PPM / complete_us), parts=[])

    def group(name: str, parts: Sequence[str]) -> LossPart:
        leaves = [leaf(part) for part in parts]
        total = sum(sums.total(f"{prefix}:{part}") for part in parts)
        shown = [part for part in leaves if part.points_pct > 0]
        return LossPart(name=name, points_pct=points(total / PPM / complete_us), parts=shown)

    tree = [
        group("idle", IDLE_PARTS),
        group("coverage", COVERAGE_PARTS),
        group("issue", ISSUE_PARTS),
        group("clock", CLOCK_PARTS),
    ]
    return tree + [part for name in MERGED_PARTS if (part := leaf(name)).points_pct > 0]


def rates_of(sums: Sums, context: ScopeContext, gpus: Sequence[GpuResult]) -> Rates:
    """Return the means that stand beside a score as evidence."""
    means = {field: sums.mean(quantity) for field, quantity in RATE_FIELDS.items()}
    tensor = sums.mean("u_tensor")
    models = [gpu.model for gpu in gpus if gpu.model is not None]
    peaks = models[0].flops_peak if models else {}
    memory_mib = sums.maxima.get("memory_used_mib")
    stated = _stated_peak(models[0], context.dtype) if models and context.dtype else None
    values: dict[str, float | None] = {
        **means,
        "power_gpu_max_w": _maximum(sums, "power_gpu_w"),
        "power_module_max_w": _maximum(sums, "power_module_w"),
        "energy_gpu_j": _energy_j(sums, "gpu"),
        "energy_module_j": _energy_j(sums, "module"),
        "temp_gpu_max_c": _maximum(sums, "temp_gpu_c"),
        "memory_used_max_bytes": None if memory_mib is None else memory_mib / MILLI * MIB,
        "dram_bytes_s": _dram_bytes_s(sums, gpus),
        "tensor_flops_s": _flops(tensor, stated),
        "tensor_flops_min_s": _flops(tensor, peaks.get("tf32")),
        "tensor_flops_max_s": _flops(tensor, peaks.get("fp8", peaks.get("bf16"))),
    }
    reasons = missing_reasons(sums)
    throttle = {reason: sums.mean(f"throttle_{reason}") for reason in THROTTLE_REASONS}
    named = {f"throttle_frac.{reason}": share for reason, share in throttle.items()}
    return Rates(
        **values,
        throttle_frac=throttle,
        link_frac={way: share for way in LINK_DIRECTIONS if (share := sums.mean(f"link_{way}")) is not None},
        missing={f: _rate_reason(f, reasons, context) for f, v in (values | named).items() if v is None},
    )


def _stated_peak(model: HardwareModel, dtype: str) -> float | None:
    """Return the peak of a data type at the clock to which the tensor fraction refers.

    FP64 is rated at another clock than the other tensor types, the counter is not.
    """
    peak = model.flops_peak.get(dtype)
    rated = model.rated_clock_mhz["fp64" if dtype == "fp64" else "tensor"]
    return None if peak is None else peak * model.rated_clock_mhz["tensor"] / rated


def _rate_reason(key: str, reasons: dict[str, str], context: ScopeContext) -> str:
    if key == "tensor_flops_s" and context.dtype is None:
        return "needs --dtype: counters cannot tell the data type"
    field = key.replace("_max_", "_").replace("energy", "power").replace("_j", "_w")
    if key.startswith("throttle_frac."):
        field = f"throttle_{key.partition('.')[2]}_frac"
    return reasons.get(key) or reasons.get(field) or "a counter or its bound is unknown"


def _maximum(sums: Sums, name: str) -> float | None:
    return sums.maxima[name] / MILLI if name in sums.maxima else None


def _energy_j(sums: Sums, scope: str) -> float | None:
    power = sums.mean(f"power_{scope}_w")
    return None if power is None else power * sums.total(f"known_us:power_{scope}_w") / US_PER_S


def _dram_bytes_s(sums: Sums, gpus: Sequence[GpuResult]) -> float | None:
    """Achieved DRAM rate; without a model, from what the chip says of its bus."""
    saturation, bounds = sums.mean("u_dram"), gpus[0].bounds if gpus else None
    if saturation is not None and bounds is not None:
        return saturation * bounds.dram_peak_bytes_s * bounds.counter_gain["dram"]
    active, clock = sums.mean("x_dram"), sums.mean("mem_clock_mhz")
    if active is None or clock is None or bounds is None or math.isnan(bounds.dram_clock_bytes_s_per_mhz):
        return None
    return active * clock * bounds.dram_clock_bytes_s_per_mhz


def _flops(saturation: float | None, peak: float | None) -> float | None:
    return None if saturation is None or peak is None else tensor_flops_s(saturation, peak)
