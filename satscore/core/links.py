"""PCIe and NVLink against what GPU and board support (docs/method.md, "Links").

PCIe lowers its generation at idle to save power, so it counts only in readings with work. What is kept of a
run is the time in each state: integers that add up over any parts of it, in any order.
"""

from collections.abc import Mapping

import msgspec
import numpy as np

from satscore.core.gpu import GpuInfo
from satscore.core.readings import BoolArray, FloatArray, IntArray, ReadingTable
from satscore.core.units import NS_PER_US, US_PER_S

LOADED_ENGINE_FRAC = 0.5
"""With so much engine-active time in a reading the GPU is no longer idle, and its link has no reason to rest."""
LOADED_BYTES_S = 1e9
"""Nor with such traffic, more than a tenth of what the slowest link in use (generation 3, 8 lanes) can move."""
LANES_BASE = 100
"""Keys of PCIe states are generation x 100 + lanes."""
MOST_STATE = 1_000
"""Keys of states are below: what is not is no state (generation 10, 1,000 connections)."""
LOST_FRAC = 0.01
"""Links are said to be degraded from this loss on."""
REPLAYS_PER_MIN_GBIT_S = 0.06
"""Replays per minute and Gbit/s at the bit error rate of 1e-12 that PCIe allows (PCI Express Base
Specification; NVIDIA's DCGM warns above the same figure): 1e-12 x 1e9 x 60."""
NVLINK_ERRORS_PER_MIN = 1.0
"""NVLink errors per minute that are normal at most (NVIDIA's DCGM warns from one on)."""
LEAST_MIN = 1.0
"""Rates of errors are taken over a minute at least: one error in a short run is no rate."""


class LinkFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Links of one GPU as they were, and as they could be; None where not known.

    Where a link was in several states, it is in the one below the best that lasted longest.
    """

    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    pcie_lanes_count: int | None = None
    pcie_lanes_max_count: int | None = None
    pcie_lost_frac: float | None = None
    """Share of the PCIe bandwidth that was missing under load, time mean."""
    nvlink_active_count: int | None = None
    nvlink_count: int | None = None
    """Connections that the board has."""
    nvlink_lost_frac: float | None = None
    """Share of the connections that was not active, time mean; 0 where the board has or uses none."""
    error_ratio: float | None = None
    """PCIe replays or NVLink errors per minute over what is normal, whichever is more."""


def under_load(table: ReadingTable) -> BoolArray:
    """Return in which readings the PCIe link has no reason to save power, shape (n,).

    By the engine-active share or, where no source reads that, by NVML's utilisation; or by PCIe traffic.
    """
    engine, util = table.column("engine_active_frac"), table.column("gpu_util_frac")
    traffic = np.fmax(table.column("pcie_tx_bytes_s"), table.column("pcie_rx_bytes_s"))
    busy = np.where(np.isnan(engine), util, engine) >= LOADED_ENGINE_FRAC
    loaded: BoolArray = busy | (traffic >= LOADED_BYTES_S)
    return loaded


def time_in_states(table: ReadingTable) -> tuple[dict[int, int], dict[int, int]]:
    """Return for how long links were in which state, us: PCIe under load by its key, NVLink by active connections."""
    length_us = (table.end_ns - table.start_ns) // NS_PER_US
    pcie = table.column("pcie_generation") * LANES_BASE + table.column("pcie_lanes_count")
    always = np.ones(len(table), dtype=np.bool_)
    pcie_us = _time_by(pcie, length_us, under_load(table))
    return pcie_us, _time_by(table.column("nvlink_active_count"), length_us, always)


def _time_by(state: FloatArray, length_us: IntArray, counted: BoolArray) -> dict[int, int]:
    counted = counted & (state >= 0) & (state < MOST_STATE)
    keys, lengths = state[counted].astype(np.int64), length_us[counted]
    return {key: int(lengths[keys == key].sum()) for key in np.unique(keys).tolist()}


def links_of(
    info: GpuInfo,
    pcie_us: Mapping[int, int],
    nvlink_us: Mapping[int, int],
    counts: Mapping[str, int],
    read_us: int,
) -> LinkFacts:
    """Return the links of a GPU over a run.

    Args:
        info: What GPU and board support.
        pcie_us: us in each PCIe state under load, by key.
        nvlink_us: us with so many active NVLink connections.
        counts: Events of the run, by field.
        read_us: us in which they could be counted.
    """
    generation, lanes = _shown(pcie_us, info)
    active = _shown_nvlink(nvlink_us, info.nvlink_count)
    minutes = max(LEAST_MIN, read_us / US_PER_S / 60)
    return LinkFacts(
        pcie_generation=generation,
        pcie_generation_max=info.pcie_generation_max,
        pcie_lanes_count=lanes,
        pcie_lanes_max_count=info.pcie_lanes_max_count,
        pcie_lost_frac=_pcie_lost(pcie_us, info),
        nvlink_active_count=active,
        nvlink_count=info.nvlink_count,
        nvlink_lost_frac=_nvlink_lost(nvlink_us, info.nvlink_count),
        error_ratio=_error_ratio(counts, info, minutes),
    )


def _gbit_s(generation: int, lanes: int) -> int:
    """Return what a PCIe link can move, Gbit/s, to 2 %: a lane 2 in generation 1, twice as much in each later one."""
    return lanes << generation


def _best_gbit_s(info: GpuInfo) -> int | None:
    if info.pcie_generation_max is None or info.pcie_lanes_max_count is None:
        return None
    return _gbit_s(info.pcie_generation_max, info.pcie_lanes_max_count)


def _pcie_lost(pcie_us: Mapping[int, int], info: GpuInfo) -> float | None:
    best, time_us = _best_gbit_s(info), sum(pcie_us.values())
    if best is None or not time_us:
        return None
    had = sum(min(best, _gbit_s(*divmod(key, LANES_BASE))) * us for key, us in pcie_us.items())
    return 1.0 - had / (best * time_us)


def _shown(pcie_us: Mapping[int, int], info: GpuInfo) -> tuple[int | None, int | None]:
    """Return generation and lanes of the state to show."""
    best = _best_gbit_s(info)
    below = {key: us for key, us in pcie_us.items() if best is not None and _gbit_s(*divmod(key, LANES_BASE)) < best}
    key = _longest(below or pcie_us)
    return (None, None) if key is None else divmod(key, LANES_BASE)


def _nvlink_lost(nvlink_us: Mapping[int, int], count: int | None) -> float | None:
    """Return 0 where nothing can be lost: a board without NVLink, or one that never had a connection."""
    time_us = sum(nvlink_us.values())
    if count == 0:
        return 0.0
    if count is None or not time_us:
        return None
    if max(nvlink_us) == 0:
        return 0.0
    return 1.0 - sum(min(count, active) * us for active, us in nvlink_us.items()) / (count * time_us)


def _shown_nvlink(nvlink_us: Mapping[int, int], count: int | None) -> int | None:
    below = {active: us for active, us in nvlink_us.items() if count is not None and active < count}
    return _longest(below or nvlink_us)


def _longest(time_us: Mapping[int, int]) -> int | None:
    """Return the key with the most time; of several the smallest."""
    return min(time_us, key=lambda key: (-time_us[key], key), default=None)


def _error_ratio(counts: Mapping[str, int], info: GpuInfo, minutes: float) -> float | None:
    """Return errors per minute over what is normal, of the worse link; None where neither can be told."""
    ratios = []
    best, replays = _best_gbit_s(info), counts.get("pcie_replay_count")
    if best is not None and replays is not None:
        ratios.append(replays / minutes / (REPLAYS_PER_MIN_GBIT_S * best))
    errors = counts.get("nvlink_error_count")
    if errors is not None:
        ratios.append(errors / minutes / NVLINK_ERRORS_PER_MIN)
    return max(ratios, default=None)
