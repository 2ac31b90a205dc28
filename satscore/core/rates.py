"""The means that stand beside a score as evidence: activity, clocks, power, links, errors, FLOP rates."""

import math
from collections.abc import Sequence

from satscore.core.facts import tensor_flops_s
from satscore.core.fields import LINK_FIELDS
from satscore.core.hwmodel import HardwareModel
from satscore.core.intervals import THROTTLE_REASONS
from satscore.core.power_caps import power_caps
from satscore.core.summarise import FULL_COVERAGE_FRAC, GpuResult, ScopeContext, missing_reasons
from satscore.core.summary_gpu import Rates
from satscore.core.sums import Sums
from satscore.core.units import MIB, US_PER_S
from satscore.core.window_rows import MILLI

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
    "power_cpu_w": "power_cpu_w",
    "power_limit_gpu_w": "power_limit_gpu_w",
    "power_limit_module_w": "power_limit_module_w",
}
_FALLBACK_REASONS = dict.fromkeys(("power_headroom_w", "power_state"), "needs power and limit of GPU and module")
COUNT_FIELDS = ("ecc_corrected_count", "ecc_uncorrected_count", "xid_count")


def rates_of(sums: Sums, context: ScopeContext, gpus: Sequence[GpuResult]) -> Rates:
    """Return the rates of a scope; every null has its reason in ``missing``."""
    throttle = {reason: sums.mean(f"throttle_{reason}") for reason in THROTTLE_REASONS}
    caps = power_caps(
        **{name: sums.mean(name) for name in ("power_gpu_w", "power_limit_gpu_w")},
        **{name: sums.mean(name) for name in ("power_module_w", "power_limit_module_w")},
    )
    links = {way: sums.mean(f"link_{way}") for way in _links_of(gpus)}
    values: dict[str, float | None] = {
        **{field: sums.mean(quantity) for field, quantity in RATE_FIELDS.items()},
        **_maxima(sums),
        "energy_gpu_j": _energy_j(sums, "gpu"),
        "energy_module_j": _energy_j(sums, "module"),
        "power_headroom_w": caps.headroom_w if caps else None,
        **_work_rates(sums, context, gpus),
    }
    counts = {name: sums.counts.get(name) for name in COUNT_FIELDS}
    named: dict[str, float | None] = {
        **values,
        **counts,
        **({} if caps else {"power_state": None}),
        **{f"throttle_frac.{reason}": share for reason, share in throttle.items()},
        **{f"link_frac.{way}": share for way, share in links.items()},
    }
    reasons = missing_reasons(sums)
    return Rates(
        **values,
        ecc_corrected_count=counts["ecc_corrected_count"],
        ecc_uncorrected_count=counts["ecc_uncorrected_count"],
        xid_count=counts["xid_count"],
        power_state=(caps.state or "below both") if caps else None,
        throttle_frac=throttle,
        link_frac=links,
        missing={key: _reason(key, reasons, context, gpus) for key, value in named.items() if value is None},
    )


def _links_of(gpus: Sequence[GpuResult]) -> list[str]:
    """Return the links and directions that any of the GPUs has, by its hardware model."""
    present = {link for gpu in gpus for link in gpu.bounds.link_peak_bytes_s}
    return [f"{link}_{way}" for link in LINK_FIELDS if link in present for way in ("tx", "rx")]


def _maxima(sums: Sums) -> dict[str, float | None]:
    def largest(name: str, scale: float = 1.0) -> float | None:
        return sums.maxima[name] / MILLI * scale if name in sums.maxima else None

    return {
        "power_gpu_max_w": largest("power_gpu_w"),
        "power_module_max_w": largest("power_module_w"),
        "temp_gpu_max_c": largest("temp_gpu_c"),
        "memory_used_max_bytes": largest("memory_used_mib", MIB),
    }


def _energy_j(sums: Sums, scope: str) -> float | None:
    """Return mean power x time; None where power was unknown for more than 5 % of it."""
    power, known_us = sums.mean(f"power_{scope}_w"), sums.total(f"known_us:power_{scope}_w")
    if power is None or known_us < FULL_COVERAGE_FRAC * sums.total("time_us"):
        return None
    return power * sums.total("time_us") / US_PER_S


def _work_rates(sums: Sums, context: ScopeContext, gpus: Sequence[GpuResult]) -> dict[str, float | None]:
    """Return bytes/s and FLOP/s; only for GPUs of one kind, for peaks of several cannot be averaged."""
    tensor = sums.mean("u_tensor")
    one_kind = len({gpu.bounds.model_id for gpu in gpus}) == 1
    model = gpus[0].model if one_kind else None
    peaks = model.flops_peak if model else {}
    slowest = "tf32" if "tf32" in peaks else "fp16"
    fastest = max((peaks[d] for d in ("fp16", "bf16", "fp8", "fp4") if d in peaks), default=None)
    return {
        "dram_bytes_s": _dram_bytes_s(sums, gpus[0]) if one_kind else None,
        "tensor_flops_s": _flops(tensor, peaks.get(context.dtype or "")),
        "tensor_flops_min_s": _flops(tensor, _at_rated_clock(model, slowest, context)),
        "tensor_flops_max_s": _flops(tensor, fastest if context.dtype != "fp64" else peaks.get("fp64")),
    }


def _at_rated_clock(model: HardwareModel | None, dtype: str, context: ScopeContext) -> float | None:
    """Return a peak for the tensor fraction; with FP64 stated that fraction is FP64's."""
    return None if model is None else model.flops_peak.get("fp64" if context.dtype == "fp64" else dtype)


def _dram_bytes_s(sums: Sums, gpu: GpuResult) -> float | None:
    """Achieved DRAM rate; without a model, from what the chip says of its bus."""
    saturation, bounds = sums.mean("u_dram"), gpu.bounds
    if saturation is not None:
        return saturation * bounds.dram_peak_bytes_s * bounds.counter_gain["dram"]
    active, clock = sums.mean("x_dram"), sums.mean("mem_clock_mhz")
    if active is None or clock is None or math.isnan(bounds.dram_clock_bytes_s_per_mhz):
        return None
    return active * clock * bounds.dram_clock_bytes_s_per_mhz


def _flops(saturation: float | None, peak: float | None) -> float | None:
    return None if saturation is None or peak is None else tensor_flops_s(saturation, peak)


def _reason(key: str, reasons: dict[str, str], context: ScopeContext, gpus: Sequence[GpuResult]) -> str:
    """Return why a rate is null: no GPU, not stated, several models, or the counter's own reason."""
    if not gpus:
        return context.no_score_reason or "no GPU was read"
    if key == "tensor_flops_s" and context.dtype is None:
        return "needs --dtype: counters cannot tell the data type"
    if key in ("dram_bytes_s", "tensor_flops_s", "tensor_flops_min_s", "tensor_flops_max_s"):
        if len({gpu.bounds.model_id for gpu in gpus}) > 1:
            return "GPUs of several models: see each GPU"
        if key == "tensor_flops_s" and gpus[0].model is not None and context.dtype not in gpus[0].model.flops_peak:
            return f"this GPU has no {context.dtype} tensor rate"
    if key.startswith("energy_") and _counter_of(key) not in reasons:
        return "power was not known long enough"
    fallback = _FALLBACK_REASONS.get(key, "a counter or its bound is unknown")
    return reasons.get(key) or reasons.get(_counter_of(key)) or fallback


def _counter_of(key: str) -> str:
    """Return the counter that a rate is made from."""
    group, _, rest = key.partition(".")
    if group == "throttle_frac":
        return f"throttle_{rest}_frac"
    if group == "link_frac":
        return f"{rest}_bytes_s"
    if key.startswith("energy_"):
        return key.replace("energy", "power").replace("_j", "_w")
    if "flops" in key:
        return "tensor_active_frac"
    return {"dram_bytes_s": "dram_active_frac"}.get(key, key.replace("_max_", "_"))
