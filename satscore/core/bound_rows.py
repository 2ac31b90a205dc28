"""The rows of bounds in a GPU's summary: every number that a score stands on, with its source."""

from satscore.core.gpu import GpuInfo
from satscore.core.hwmodel import Attainable, HardwareModel
from satscore.core.summarise import GpuResult
from satscore.core.summary_gpu import Bound


def bound_rows(gpu: GpuResult) -> list[Bound]:
    """Return the peaks of a GPU's model, the attainable fractions in force, and a cap that the site states."""
    cap = [] if gpu.info.module_cap_w is None else [_stated_cap(gpu.info, gpu.info.module_cap_w)]
    if gpu.model is None:
        return cap
    model = gpu.model
    return [
        _peak(model, "dram", "dram_peak_bytes_s", None),
        *(_peak(model, "tensor", f"flops_peak.{dtype}", _rated(model, dtype), dtype) for dtype in model.flops_peak),
        *(_peak(model, p, f"vector_flops_peak.{p}", model.rated_clock_mhz[p]) for p in model.vector_flops_peak),
        *(_peak(model, link, f"link_peak_bytes_s.{link}", None) for link in model.link_peak_bytes_s),
        *(_attainable(entry) for entry in gpu.bounds.ceilings),
        *cap,
    ]


def _rated(model: HardwareModel, dtype: str) -> float:
    return model.rated_clock_mhz["fp64" if dtype == "fp64" else "tensor"]


def _peak(model: HardwareModel, resource: str, key: str, clock_mhz: float | None, dtype: str | None = None) -> Bound:
    number = model.numbers[key]
    return Bound(
        resource=resource,
        dtype=dtype,
        role="peak",
        kind=number.kind,
        value=number.value,
        unit=number.unit,
        clock_mhz=clock_mhz,
        condition="per direction" if key.startswith("link_") else "dense" if dtype else "",
        uncertainty_frac=number.uncertainty_frac,
        source=number.source.label,
    )


def _attainable(entry: Attainable) -> Bound:
    vboost = "not stated" if entry.vboost_level is None else str(entry.vboost_level)
    return Bound(
        resource=entry.resource,
        dtype=entry.dtype,
        role="attainable",
        kind=entry.kind,
        value=entry.attainable_frac,
        unit="frac",
        clock_mhz=None,
        condition=f"{entry.cap_scope} cap {entry.cap_w:g} W, vBoost {vboost}",
        uncertainty_frac=entry.uncertainty_frac,
        source=entry.source.label,
    )


def _stated_cap(info: GpuInfo, cap_w: float) -> Bound:
    reported = "no limit" if info.power_limit_module_w is None else f"{info.power_limit_module_w:g} W"
    return Bound(
        resource="power_module",
        dtype=None,
        role="cap",
        kind="stated",
        value=cap_w,
        unit="W",
        clock_mhz=None,
        condition=f"whole module, stated by the site; the driver reports {reported}",
        uncertainty_frac=None,
        source=info.module_cap_source or "not recorded",
    )
