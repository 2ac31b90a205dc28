"""From cumulative counters to a Reading: what a driver would report between two reads."""

import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

from satscore.core.fields import INDEX, N_FIELDS, Quality, Reading
from satscore.counters.sim.gpu import Totals
from satscore.counters.sim.kernels import KERNELS, RATED_CLOCK_MHZ
from satscore.counters.sim.power import CLOCK_MAX_MHZ
from satscore.counters.sim.scenarios import Scenario

_ENGINE = tuple(k.engine for k in KERNELS)
_RESIDENT = tuple(float(k.engine > 0.0) for k in KERNELS)
_SM = tuple(k.sm for k in KERNELS)
_OCCUPANCY = tuple(k.occupancy for k in KERNELS)
_TENSOR = tuple(k.tensor for k in KERNELS)
_FP32 = tuple(k.fp32 for k in KERNELS)
_DRAM = tuple(k.dram for k in KERNELS)
_NVLINK = tuple(k.nvlink for k in KERNELS)

_ZERO = (
    "tensor_imma_active_frac",
    "tensor_dfma_active_frac",
    "tensor_dmma_active_frac",
    "fp64_active_frac",
    "fp16_active_frac",
    "integer_active_frac",
    "pcie_tx_bytes_s",
    "pcie_rx_bytes_s",
    "throttle_hw_frac",
    "throttle_board_frac",
    "throttle_sync_boost_frac",
    "ecc_corrected_count",
    "ecc_uncorrected_count",
    "xid_count",
)
_C2C = ("c2c_tx_bytes_s", "c2c_rx_bytes_s")
_MODULE = ("power_module_w", "power_limit_module_w", "energy_module_j")
_NOT_MODELLED = ("temp_mem_c",)


class Truth(NamedTuple):
    """What really happened on one GPU since time 0, from the activities of its kernels."""

    time_s: float
    hfu_frac: float
    """Mean of tensor activity x clock / rated clock: executed over peak tensor work."""
    saturation_frac: float
    """Share of speed-of-light time at the granularity of kernels (U* of the method)."""
    sm_clock_mhz: float
    energy_gpu_j: float


def truth(scenario: Scenario, totals: Totals) -> Truth:
    """Return the truth from time 0 to the time of the totals, > 0."""
    board = scenario.board
    dram_ratio = board.dram_bytes_s(scenario.mem_clock_mhz) / board.dram_peak_bytes_s
    tensor_s = [k.tensor * c / RATED_CLOCK_MHZ for k, c in zip(KERNELS, totals.cycles, strict=True)]
    dram_s = [k.dram * t * dram_ratio for k, t in zip(KERNELS, totals.seconds, strict=True)]
    return Truth(
        totals.time_s,
        sum(tensor_s) / totals.time_s,
        sum(map(max, tensor_s, dram_s)) / totals.time_s,
        sum(totals.cycles) / totals.time_s,
        totals.energy_j,
    )


class ReadingMaker:
    """Makes the readings of one GPU.

    Args:
        gpu: Index of the GPU in the run's list.
        scenario: What it runs, on which board.
        locked: Whether its clocks are held below the board's maximum.
    """

    def __init__(self, gpu: int, scenario: Scenario, *, locked: bool) -> None:
        self._gpu = gpu
        self._board = scenario.board
        self._module = scenario.module
        self._locked = locked
        self._values = [math.nan] * N_FIELDS
        self._quality = bytearray(N_FIELDS)
        self._set_constants(scenario)

    def _set_constants(self, scenario: Scenario) -> None:
        board = self._board
        constants = dict.fromkeys(_ZERO, 0.0)
        constants["mem_clock_mhz"] = scenario.mem_clock_mhz
        constants["power_limit_gpu_w"] = scenario.power_limit_gpu_w
        constants["memory_used_bytes"] = float(round(scenario.memory_used_frac * board.memory_total_bytes))
        if board.power_limit_module_w is not None:
            constants["power_limit_module_w"] = board.power_limit_module_w
        if board.has_c2c:
            constants |= dict.fromkeys(_C2C, 0.0)
        for name, value in constants.items():
            self._values[INDEX[name]] = value
        missing = dict.fromkeys(_NOT_MODELLED, Quality.NOT_READ)
        if board.power_limit_module_w is None:
            missing |= dict.fromkeys(_MODULE, Quality.NOT_SUPPORTED)
        if not board.has_c2c:
            missing |= dict.fromkeys(_C2C, Quality.NOT_SUPPORTED)
        for name, reason in missing.items():
            self._quality[INDEX[name]] = reason

    def reading(self, start_ns: int, end_ns: int, before: Totals, after: Totals) -> Reading:
        """Return what happened between two states, ``start_ns`` < ``end_ns``."""
        values = self._values.copy()
        for name, value in self._changes(before, after).items():
            values[INDEX[name]] = value
        return Reading(self._gpu, start_ns, end_ns, values, self._quality.copy())

    def _changes(self, before: Totals, after: Totals) -> dict[str, float]:
        dt_s = after.time_s - before.time_s
        seconds = [b - a for a, b in zip(before.seconds, after.seconds, strict=True)]
        cycles = [b - a for a, b in zip(before.cycles, after.cycles, strict=True)]
        all_cycles = sum(cycles)
        power_w = (after.energy_j - before.energy_j) / dt_s
        capped = min(1.0, (after.power_capped_s - before.power_capped_s) / dt_s)
        heated = min(1.0, (after.heat_capped_s - before.heat_capped_s) / dt_s)
        link_bytes_s = _mean(_NVLINK, seconds, dt_s) * self._board.nvlink_peak_bytes_s
        tensor = _mean(_TENSOR, cycles, all_cycles)
        changes = {
            "engine_active_frac": _mean(_ENGINE, seconds, dt_s),
            "sm_active_frac": _mean(_SM, cycles, all_cycles),
            "sm_occupancy_frac": _mean(_OCCUPANCY, cycles, all_cycles),
            "tensor_active_frac": tensor,
            "tensor_hmma_active_frac": tensor,
            "fp32_active_frac": _mean(_FP32, cycles, all_cycles),
            "dram_active_frac": _mean(_DRAM, seconds, dt_s),
            "sm_clock_mhz": all_cycles / dt_s,
            "nvlink_tx_bytes_s": link_bytes_s,
            "nvlink_rx_bytes_s": link_bytes_s,
            "power_gpu_w": power_w,
            "energy_gpu_j": power_w * dt_s,
            "temp_gpu_c": after.temp_c,
            "gpu_util_frac": _mean(_RESIDENT, seconds, dt_s),
            "throttle_power_frac": capped,
            "throttle_thermal_frac": heated,
            # The driver names the cap or the heat, not the lock, while that is the lower of the two.
            "throttle_app_clocks_frac": max(0.0, 1.0 - capped - heated) if self._locked else 0.0,
        }
        if self._module is not None:
            beside_j = self._module.beside_gpu_j(after.time_s) - self._module.beside_gpu_j(before.time_s)
            module_w = power_w + beside_j / dt_s
            changes["power_module_w"] = module_w
            changes["energy_module_j"] = module_w * dt_s
        return changes


def is_locked(ceiling_mhz: float) -> bool:
    """Return whether a clock ceiling in MHz holds a GPU below its maximum."""
    return ceiling_mhz < CLOCK_MAX_MHZ


def _mean(shares: Sequence[float], amounts: Sequence[float], total: float) -> float:
    """Return the weighted mean of shares; rounding of the sums must not lift it above 1."""
    weighted: float = sum(map(operator.mul, shares, amounts))
    return min(1.0, weighted / total)
