"""From a hardware model and the GPU's state to the bounds that a score divides by.

Two kinds of bound, never mixed in one number (docs/method.md, "Bounds"): the *datasheet* peak of each
resource, and the *attainable* fraction of it, measured on this SKU at a power cap.
"""

import math
from collections.abc import Mapping

import msgspec

from satscore.core.gpu import GpuInfo
from satscore.core.hwmodel import Attainable, HardwareModel, dram_bytes_s

SM_PIPES = ("tensor", "fp64", "fp32", "fp16")
RESOURCES = (*SM_PIPES, "dram")
PROFILES: dict[str, tuple[str, ...]] = {
    "train": ("tensor", "dram"),
    "hpc": RESOURCES,
    "tensor": ("tensor",),
}
"""Resources that may saturate (docs/method.md, first section). Pipes share hardware: maximised, never summed."""

SCORED = {**PROFILES, "dram": ("dram",)}
"""What is scored of every window: the profiles, and DRAM alone, which stands beside the headline."""
CEILING_RESOURCES = ("tensor", "dram")
CAP_TOLERANCE_FRAC = 0.02
"""A cap within 2 % of an entry's is the same cap: boards report 699.9 W for 700 W."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of one GPU in its present state.

    Dicts are keyed by resource (RESOURCES). ``attainable_frac`` and ``attainable_active_frac`` are
    1 where unknown, which keeps every number valid, only wider (docs/method.md, "Bounds").
    """

    model_id: str
    rated_clock_mhz: dict[str, float]
    counter_gain: dict[str, float]
    dram_clock_bytes_s_per_mhz: float
    """Bytes/s that the memory interface can move per MHz of memory clock."""
    dram_peak_bytes_s: float
    attainable_frac: dict[str, float]
    attainable_active_frac: dict[str, float]
    link_peak_bytes_s: dict[str, float]
    sm_clock_max_mhz: float
    module_cap_w: float | None = None
    """Cap on the module that the site states: the limit in force where the driver's is higher or unknown."""
    tensor_clock_cap_mhz: float | None = None
    ceilings: tuple[Attainable, ...] = ()
    """The entries of the hardware model behind ``attainable_frac``."""
    ceilings_at_other_cap: bool = False
    """An entry was measured at another power cap, or at a vBoost level that may not be ours: grade C at most."""
    ceilings_missing: tuple[str, ...] = ()
    """Of tensor and DRAM, those without a known attainable rate."""


def resolve(model: HardwareModel, gpu: GpuInfo, dtype: str | None = None) -> Bounds:
    """Return the bounds of a GPU: peaks of its model, ceilings for the caps in force.

    Args:
        model: The hardware model that matches the GPU.
        gpu: Its limits and vBoost level.
        dtype: The tensor data type that the user states; chooses the tensor ceiling.
    """
    caps = _caps_in_force(gpu)
    usable = (*model.attainable, *model.attainable_if_stated)
    usable = tuple(e for e in usable if e.resource != "tensor" or e.dtype in _ceiling_dtypes(dtype))
    chosen = {r: _ceiling(usable, r, caps, gpu.vboost_level) for r in CEILING_RESOURCES}
    entries = {r: found for r, found in chosen.items() if found is not None}
    return Bounds(
        model_id=model.id,
        rated_clock_mhz={pipe: model.rated_clock_mhz[_rating(pipe, dtype)] for pipe in SM_PIPES},
        counter_gain={resource: model.counter_gain.get(resource, 1.0) for resource in RESOURCES},
        dram_clock_bytes_s_per_mhz=dram_bytes_s(1.0, model.memory_bus_bits),
        dram_peak_bytes_s=model.dram_peak_bytes_s,
        attainable_frac={r: entries[r].attainable_frac if r in entries else 1.0 for r in RESOURCES},
        attainable_active_frac={
            r: (entries[r].attainable_active_frac or 1.0) if r in entries else 1.0 for r in RESOURCES
        },
        link_peak_bytes_s=dict(model.link_peak_bytes_s),
        sm_clock_max_mhz=gpu.sm_clock_max_mhz or model.sm_clock_max_mhz,
        module_cap_w=gpu.module_cap_w,
        tensor_clock_cap_mhz=model.tensor_clock_cap_mhz,
        ceilings=tuple(entries.values()),
        ceilings_missing=tuple(r for r in CEILING_RESOURCES if r not in entries),
        ceilings_at_other_cap=any(not _same_state(e, caps, gpu.vboost_level) for e in entries.values()),
    )


def _caps_in_force(gpu: GpuInfo) -> dict[str, float | None]:
    """Return the cap of each scope in W; that of the GPU is never above its module's, however high its own is."""
    own_w, module_w = gpu.power_limit_gpu_w, gpu.module_limit_w
    return {"gpu": own_w if own_w is None or module_w is None else min(own_w, module_w), "module": module_w}


def _ceiling_dtypes(dtype: str | None) -> tuple[str | None, ...]:
    """Return the data types whose tensor ceiling holds: BF16 and FP16 run at one rate, others have their own."""
    return ("bf16", "fp16") if dtype in (None, "bf16", "fp16") else (dtype,)


def _rating(pipe: str, dtype: str | None) -> str:
    """Return whose rated clock holds for a pipe: FP64 on tensor cores is rated at the FP64 clock."""
    return "fp64" if pipe == "tensor" and dtype == "fp64" else pipe


def unmodelled(gpu: GpuInfo) -> Bounds:
    """Return bounds that are all unknown (NaN): achieved rates can be given, a score cannot."""
    unknown = dict.fromkeys(RESOURCES, math.nan)
    bus_bits = gpu.memory_bus_bits if gpu.memory_bus_bits is not None else math.nan
    return Bounds(
        model_id="",
        rated_clock_mhz=unknown,
        counter_gain=dict.fromkeys(RESOURCES, 1.0),
        dram_clock_bytes_s_per_mhz=dram_bytes_s(1.0, bus_bits),
        dram_peak_bytes_s=math.nan,
        attainable_frac=dict.fromkeys(RESOURCES, 1.0),
        attainable_active_frac=dict.fromkeys(RESOURCES, 1.0),
        link_peak_bytes_s={},
        sm_clock_max_mhz=gpu.sm_clock_max_mhz or math.nan,
        module_cap_w=gpu.module_cap_w,
    )


def _ceiling(
    entries: tuple[Attainable, ...], resource: str, caps: Mapping[str, float | None], vboost: int | None
) -> Attainable | None:
    """Return the entry of our state, else the one whose cap is nearest to a cap in force; None if none may be used.

    The ceiling of another vBoost level is never used (docs/method.md, "Bounds"); an unknown level is not another
    one, but a recorded one is better.
    """
    usable = [
        e
        for e in entries
        if e.resource == resource
        and caps.get(e.cap_scope) is not None
        and (vboost is None or e.vboost_level is None or e.vboost_level == vboost)
    ]

    def rank(entry: Attainable) -> tuple[bool, float, bool]:
        distance = _cap_distance(entry, caps)
        same_cap = distance <= CAP_TOLERANCE_FRAC
        return not _same_state(entry, caps, vboost), 0.0 if same_cap else distance, entry.vboost_level != vboost

    return min(usable, key=rank, default=None)


def _cap_distance(entry: Attainable, caps: Mapping[str, float | None]) -> float:
    cap_w = caps.get(entry.cap_scope)
    return abs(cap_w / entry.cap_w - 1.0) if cap_w is not None else float("inf")


def _same_state(entry: Attainable, caps: Mapping[str, float | None], vboost: int | None) -> bool:
    same_cap = _cap_distance(entry, caps) <= CAP_TOLERANCE_FRAC
    return same_cap and (entry.vboost_level is None or entry.vboost_level == vboost)
