"""Per read interval: the products and conditions that must be formed before any averaging.

A resource fraction is a product (active share x clock); the product of means is not the mean of the
product. So products, the comm-like test and the long-idle test are evaluated on each interval, and
only their results are averaged (docs/method.md, "Windows" and "Loss tree").
"""

import numpy as np

from satscore.core.bounds import RESOURCES, SM_PIPES, Bounds
from satscore.core.fields import LINK_FIELDS
from satscore.core.readings import BoolArray, FloatArray, ReadingTable, filled
from satscore.core.units import MIB

ACTIVE_FIELD = {
    "tensor": "tensor_active_frac",
    "fp64": "fp64_active_frac",
    "fp32": "fp32_active_frac",
    "fp16": "fp16_active_frac",
    "dram": "dram_active_frac",
}
THROTTLE_REASONS = ("power", "thermal", "hw", "board", "sync_boost", "app_clocks")
LONG_IDLE_ENGINE_FRAC = 0.05
LINK_BUSY_FRAC = 0.05
COMM_SMS_FRAC = 16 / 132
"""Share of an H100's SMs that a communication kernel is taken to occupy (docs/method.md, "Loss tree")."""
LINK_DIRECTIONS = tuple(f"{link}_{way}" for link in LINK_FIELDS for way in ("tx", "rx"))

QUANTITIES: tuple[str, ...] = (
    *(f"u_{r}" for r in RESOURCES),  # fraction of the datasheet peak
    *(f"x_{r}" for r in RESOURCES),  # active share
    "engine",  # g
    "engine_squared",  # g^2, for gamma
    "sm",  # s
    "sm_compute",  # s outside comm-like intervals: level V2
    "sm_compute_lo",  # the same if mixed intervals held as much communication as they can
    *(f"room_{pipe}" for pipe in SM_PIPES),  # most that an unknown pipe can have done; 0 while it is known
    "occupancy",
    "clock_ratio_rated",  # f / f_ref of the tensor pipe, at the clock at which that runs
    "clock_ratio_max",  # f / NVML's maximum
    "sm_clock_mhz",
    "mem_clock_mhz",
    "idle_long",
    "comm",
    "wait",
    "comm_or_wait",  # comm-like, and no link counter that could tell which
    "comm_link",  # busiest link during comm, times comm
    "comm_nvlink",  # NVLink during comm, times comm
    *(f"throttle_{reason}" for reason in THROTTLE_REASONS),
    *(f"link_{way}" for way in LINK_DIRECTIONS),
    "power_gpu_w",
    "power_module_w",
    "power_cpu_w",
    "power_frac_gpu",
    "power_frac_module",
    "power_limit_gpu_w",
    "power_limit_module_w",
    "temp_gpu_c",
    "memory_used_mib",
    "gpu_util",
)
Q = {name: i for i, name in enumerate(QUANTITIES)}


def quantities(table: ReadingTable, bounds: Bounds) -> FloatArray:
    """Return what is averaged over windows: shape (n, len(QUANTITIES)), NaN where unknown.

    Args:
        table: n readings of GPUs that share these bounds.
        bounds: The bounds of those GPUs.
    """
    out = np.full((len(table), len(QUANTITIES)), np.nan, order="F")
    _fill_resources(out, table, bounds)
    _fill_activity(out, table, bounds)
    _fill_links(out, table, bounds)
    _fill_communication(out, table, bounds)
    _fill_power(out, table, bounds)
    for reason in THROTTLE_REASONS:
        out[:, Q[f"throttle_{reason}"]] = table.column(f"throttle_{reason}_frac")
    out[:, Q["temp_gpu_c"]] = table.column("temp_gpu_c")
    out[:, Q["memory_used_mib"]] = table.column("memory_used_bytes") / MIB
    out[:, Q["gpu_util"]] = table.column("gpu_util_frac")
    return out


def _fill_resources(out: FloatArray, table: ReadingTable, bounds: Bounds) -> None:
    clock = table.column("sm_clock_mhz")
    for pipe in SM_PIPES:
        active = table.column(ACTIVE_FIELD[pipe])
        cap = bounds.tensor_clock_cap_mhz if pipe == "tensor" else None
        pipe_clock = clock if cap is None else np.minimum(clock, cap)
        if pipe == "tensor":
            out[:, Q["clock_ratio_rated"]] = pipe_clock / bounds.rated_clock_mhz[pipe]
        out[:, Q[f"x_{pipe}"]] = active
        peak_clock = bounds.counter_gain[pipe] * bounds.rated_clock_mhz[pipe]
        done = active * pipe_clock / peak_clock
        out[:, Q[f"u_{pipe}"]] = done
        most = filled(table.column("sm_active_frac") * pipe_clock / peak_clock, 1.0)
        out[:, Q[f"room_{pipe}"]] = np.where(np.isnan(done), most, 0.0)
    dram = table.column(ACTIVE_FIELD["dram"])
    clock_bytes_s = table.column("mem_clock_mhz") * bounds.dram_clock_bytes_s_per_mhz
    out[:, Q["x_dram"]] = dram
    out[:, Q["u_dram"]] = dram * clock_bytes_s / (bounds.counter_gain["dram"] * bounds.dram_peak_bytes_s)


def _fill_activity(out: FloatArray, table: ReadingTable, bounds: Bounds) -> None:
    engine, sm = table.column("engine_active_frac"), table.column("sm_active_frac")
    clock = table.column("sm_clock_mhz")
    out[:, Q["engine"]] = engine
    out[:, Q["engine_squared"]] = engine * engine
    out[:, Q["sm"]] = sm
    out[:, Q["occupancy"]] = table.column("sm_occupancy_frac")
    out[:, Q["clock_ratio_max"]] = clock / bounds.sm_clock_max_mhz
    out[:, Q["sm_clock_mhz"]] = clock
    out[:, Q["mem_clock_mhz"]] = table.column("mem_clock_mhz")
    long_idle = np.where(engine < LONG_IDLE_ENGINE_FRAC, 1.0 - engine, 0.0)
    out[:, Q["idle_long"]] = np.where(np.isnan(engine), np.nan, long_idle)


def _fill_links(out: FloatArray, table: ReadingTable, bounds: Bounds) -> None:
    for link, fields in LINK_FIELDS.items():
        peak = bounds.link_peak_bytes_s.get(link)
        if peak is None:
            continue
        for way, field in zip(("tx", "rx"), fields, strict=True):
            out[:, Q[f"link_{link}_{way}"]] = table.column(field) / peak


def comm_like(table: ReadingTable) -> BoolArray:
    """Return which intervals only move or await data: shape (n,) (docs/method.md, "Loss tree").

    Its few resident SMs wait or copy, they do not compute. All five counters must be known.
    """
    g, s = table.column("engine_active_frac"), table.column("sm_active_frac")
    quiet_pipes = (table.column("tensor_active_frac") < 0.05) & (table.column("fp32_active_frac") < 0.05)
    few_sms = (s >= 0.02) & (s <= 0.35)
    result: BoolArray = (g >= 0.8) & few_sms & quiet_pipes & (table.column("dram_active_frac") < 0.25)
    return result


def _fill_communication(out: FloatArray, table: ReadingTable, bounds: Bounds) -> None:
    """Split comm-like time by whether any link moved data; undecided where a link was not readable."""
    engine, sm = out[:, Q["engine"]], out[:, Q["sm"]]
    like = comm_like(table)
    ways = [Q[f"link_{link}_{way}"] for link in bounds.link_peak_bytes_s for way in ("tx", "rx")]
    links = out[:, ways]
    moving = (links >= LINK_BUSY_FRAC).any(axis=1)
    readable = ~np.isnan(links).any(axis=1) & bool(ways)
    out[:, Q["sm_compute"]] = np.where(like, 0.0, sm)
    out[:, Q["sm_compute_lo"]] = np.where(like, 0.0, _least_compute(engine, sm))
    for name, mine in (("comm", moving), ("wait", ~moving & readable), ("comm_or_wait", ~moving & ~readable)):
        out[:, Q[name]] = np.where(np.isnan(engine), np.nan, np.where(like & mine, engine, 0.0))
    busiest = np.fmax.reduce(links, axis=1, initial=0.0) if ways else np.zeros(len(table))
    out[:, Q["comm_link"]] = out[:, Q["comm"]] * filled(busiest, 0.0)
    nvlink = np.fmax(out[:, Q["link_nvlink_tx"]], out[:, Q["link_nvlink_rx"]])
    out[:, Q["comm_nvlink"]] = np.where(np.isnan(nvlink), np.nan, out[:, Q["comm"]] * nvlink)


def _least_compute(engine: FloatArray, sm: FloatArray) -> FloatArray:
    """Return g (1 - e): SM-active time outside communication if that was as long as the counters allow.

    e = (1 - s/g) / (1 - s_c) is the largest share of active time that could be communication of s_c of the
    SMs (docs/method.md, "Loss tree").
    """
    safe = np.where(engine > 0, engine, 1.0)
    share = np.clip((1.0 - sm / safe) / (1.0 - COMM_SMS_FRAC), 0.0, 1.0)
    least: FloatArray = engine * (1.0 - share)
    return least


def _fill_power(out: FloatArray, table: ReadingTable, bounds: Bounds) -> None:
    """Power of each scope and its share of the limit in force: the driver's, or a lower one that the site states.

    The source has already made the mean power from the energy counter where it could: a counter that
    moves more slowly than the reads books several intervals at once, which only the source can tell.
    """
    out[:, Q["power_cpu_w"]] = table.column("power_cpu_w")
    for scope in ("gpu", "module"):
        power = table.column(f"power_{scope}_w")
        limit = table.column(f"power_limit_{scope}_w")
        if scope == "module" and bounds.module_cap_w is not None:
            limit = np.fmin(limit, bounds.module_cap_w)
        out[:, Q[f"power_{scope}_w"]] = power
        out[:, Q[f"power_limit_{scope}_w"]] = limit
        out[:, Q[f"power_frac_{scope}"]] = power / np.where(limit > 0, limit, np.nan)
