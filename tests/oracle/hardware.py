"""What the oracle divides by, read from a hardware model file by the rules of docs/method.md, "Bounds"."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "hwmodels"
PIPES = ("tensor", "fp64", "fp32", "fp16")
EVERY = (*PIPES, "dram")


@dataclass(kw_only=True)
class Hardware:
    """Peaks and ceilings of one GPU in its state; dicts by resource, links by name, per direction."""

    rated_mhz: dict[str, float]
    gain: dict[str, float]
    dram_bytes_s_per_mhz: float
    dram_peak_bytes_s: float
    best: dict[str, float]
    """Best known fraction of the peak, 1 where none is known."""
    best_active: dict[str, float]
    """What the counter of that resource reads meanwhile, 1 where that is not known."""
    link_bytes_s: dict[str, float]
    clock_max_mhz: float
    tensor_cap_mhz: float | None = None
    module_cap_w: float | None = None
    """A cap on the module that the site states."""
    other_state: bool = False
    """A ceiling is of another power cap, or of a vBoost level that may not be ours."""
    flops: dict[str, float] = field(default_factory=dict)
    """Tensor peaks by data type: SMs x FLOP/clock/SM x rated clock."""


def read(model_id: str, *, gpu_w: float | None, module_w: float | None, vboost: int | None) -> Hardware:
    """Read a shipped model for a GPU with these power limits in force."""
    raw = tomllib.loads((FOLDER / f"{model_id}.toml").read_text())
    chip = raw["chip"]
    per_mhz = chip["memory_bus_bits"]["value"] / 8 * 2 * 1e6
    dram = chip["mem_clock_mhz"]["value"] * per_mhz
    if raw["dram"].get("bound") != "derived":
        dram = raw["dram"]["peak"]["value"]
    rated = {pipe: raw["rated_clock_mhz"][pipe]["value"] for pipe in PIPES}
    cap = chip.get("tensor_clock_cap_mhz")
    made = Hardware(
        rated_mhz=rated,
        gain={resource: raw.get("counter_gain", {}).get(resource, {"value": 1.0})["value"] for resource in EVERY},
        dram_bytes_s_per_mhz=per_mhz,
        dram_peak_bytes_s=dram,
        best=dict.fromkeys(EVERY, 1.0),
        best_active=dict.fromkeys(EVERY, 1.0),
        link_bytes_s={name: number["value"] for name, number in raw.get("link", {}).items()},
        clock_max_mhz=chip["sm_clock_max_mhz"]["value"],
        tensor_cap_mhz=cap["value"] if cap else None,
        flops={
            row["dtype"]: chip["sm_count"]["value"]
            * row["flop_per_clk_sm"]["value"]
            * rated["fp64" if row["dtype"] == "fp64" else "tensor"]
            * 1e6
            for row in raw.get("flops", [])
            if row["pipe"] == "tensor"
        },
    )
    _choose_ceilings(made, raw.get("attainable", []), {"gpu": _lower(gpu_w, module_w), "module": module_w}, vboost)
    return made


def _lower(gpu_w: float | None, module_w: float | None) -> float | None:
    """The GPU can draw no more than its module."""
    return gpu_w if gpu_w is None or module_w is None else min(gpu_w, module_w)


def _choose_ceilings(made: Hardware, rows: list, caps: dict[str, float | None], vboost: int | None) -> None:
    """Take the entry whose cap is nearest in proportion, never one of another vBoost level."""
    for resource in ("tensor", "dram"):
        nearest = None
        for row in rows:
            limit, level = caps[row["cap_scope"]], row.get("vboost_level")
            of_another_type = resource == "tensor" and row.get("dtype") not in ("bf16", "fp16")
            of_another_level = level is not None and vboost is not None and level != vboost
            if row["resource"] != resource or of_another_type or of_another_level or limit is None:
                continue
            apart = abs(limit / row["cap_w"] - 1)
            if nearest is None or apart < nearest[0]:
                nearest = (apart, row)
        if nearest is None:
            continue
        apart, row = nearest
        made.best[resource] = row["attainable_frac"]["value"]
        if "attainable_active_frac" in row:
            made.best_active[resource] = row["attainable_active_frac"]["value"]
        unsure = row.get("vboost_level") is not None and row["vboost_level"] != vboost
        made.other_state = made.other_state or apart > 0.02 or unsure
