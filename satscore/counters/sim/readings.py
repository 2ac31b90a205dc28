"""From cumulative counters to a Reading: what a driver would report between two reads."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from satscore.core.fields import INDEX, LINK_FIELDS, N_FIELDS, Quality, Reading
from satscore.counters.sim.gpu import Totals
from satscore.counters.sim.kernels import KERNELS, RATED_CLOCK_MHZ, Kernel, kernels_at
from satscore.counters.sim.power import CLOCK_MAX_MHZ
from satscore.counters.sim.workload import Scenario

_OF_TIME: dict[str, Callable[[Kernel], float]] = {
    "engine_active_frac": lambda k: k.engine,
    "dram_active_frac": lambda k: k.dram,
    "gpu_util_frac": lambda k: float(k.engine > 0.0),
    "nvlink": lambda k: k.nvlink,
    "host_tx": lambda k: k.host_tx,
    "host_rx": lambda k: k.host_rx,
}
"""What is a share of time, or of a link's peak."""
_OF_CYCLES: dict[str, Callable[[Kernel], float]] = {
    "sm_active_frac": lambda k: k.sm,
    "sm_occupancy_frac": lambda k: k.occupancy,
    "tensor_active_frac": lambda k: k.tensor,
    "fp32_active_frac": lambda k: k.fp32,
}
"""What is a share of SM cycles."""
_ZERO = (
    "tensor_imma_active_frac",
    "tensor_dfma_active_frac",
    "tensor_dmma_active_frac",
    "fp64_active_frac",
    "fp16_active_frac",
    "integer_active_frac",
    *LINK_FIELDS["pcie"],
    "throttle_hw_frac",
    "throttle_board_frac",
    "throttle_sync_boost_frac",
    "throttle_app_clocks_frac",
    "ecc_corrected_count",
    "ecc_uncorrected_count",
    "xid_count",
    "pcie_replay_count",
    "nvlink_error_count",
    "remapped_rows_count",
)
_MODULE = ("power_module_w", "power_limit_module_w", "energy_module_j", "power_cpu_w")
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
    """Return the truth of a rank's own scenario from time 0 to the time of the totals, > 0."""
    board, kernels = scenario.board, kernels_at(scenario.speed)
    dram_ratio = board.dram_bytes_s(scenario.mem_clock_mhz) / board.dram_peak_bytes_s
    tensor_s = [k.tensor * c / RATED_CLOCK_MHZ for k, c in zip(kernels, totals.cycles, strict=True)]
    dram_s = [k.dram * t * dram_ratio for k, t in zip(kernels, totals.seconds, strict=True)]
    return Truth(
        totals.time_s,
        sum(tensor_s) / totals.time_s,
        sum(map(max, tensor_s, dram_s)) / totals.time_s,
        sum(totals.cycles) / totals.time_s,
        totals.energy_j,
    )


def kernel_seconds(totals: Totals) -> dict[str, float]:
    """Return the time in s that each kernel ran, by its name; kernels that did not run are left out."""
    return {k.name: seconds for k, seconds in zip(KERNELS, totals.seconds, strict=True) if seconds}


class ReadingMaker:
    """Makes the readings of one GPU.

    Args:
        gpu: Index of the GPU in the run's list.
        scenario: What it runs, on which board: its rank's own.
    """

    def __init__(self, gpu: int, scenario: Scenario) -> None:
        self._gpu = gpu
        self._board = scenario.board
        self._module = scenario.module
        self._held_by = _held_by(scenario)
        kernels = kernels_at(scenario.speed)
        self._of_time = {name: tuple(map(share, kernels)) for name, share in _OF_TIME.items()}
        self._of_cycles = {name: tuple(map(share, kernels)) for name, share in _OF_CYCLES.items()}
        self._values = [math.nan] * N_FIELDS
        self._quality = bytearray(N_FIELDS)
        self._set_constants(scenario)

    def _set_constants(self, scenario: Scenario) -> None:
        board = self._board
        constants = dict.fromkeys(_ZERO, 0.0)
        constants["mem_clock_mhz"] = scenario.mem_clock_mhz
        constants["power_limit_gpu_w"] = scenario.power_limit_gpu_w
        constants["memory_used_bytes"] = float(round(scenario.memory_used_frac * board.memory_total_bytes))
        constants |= _links(scenario)
        if board.power_limit_module_w is not None:
            constants["power_limit_module_w"] = board.power_limit_module_w
        for name, value in constants.items():
            self._values[INDEX[name]] = value
        missing = dict.fromkeys(_NOT_MODELLED, Quality.NOT_READ)
        if board.power_limit_module_w is None:
            missing |= dict.fromkeys(_MODULE, Quality.NOT_SUPPORTED)
        if board.c2c_peak_bytes_s is None:
            missing |= dict.fromkeys(LINK_FIELDS["c2c"], Quality.NOT_SUPPORTED)
        for name, reason in missing.items():
            self._quality[INDEX[name]] = reason

    def reading(self, start_ns: int, end_ns: int, before: Totals, after: Totals) -> Reading:
        """Return what happened between two states, ``start_ns`` < ``end_ns``."""
        values = self._values.copy()
        for name, value in self._changes(before, after).items():
            values[INDEX[name]] = value
        return Reading(self._gpu, start_ns, end_ns, values, self._quality.copy())

    def _changes(self, before: Totals, after: Totals) -> dict[str, float]:
        changes = self._activity(before, after)
        dt_s = after.time_s - before.time_s
        power_w = (after.energy_j - before.energy_j) / dt_s
        changes["power_gpu_w"] = power_w
        changes["energy_gpu_j"] = power_w * dt_s
        changes["temp_gpu_c"] = after.temp_c
        capped = min(1.0, (after.power_capped_s - before.power_capped_s) / dt_s)
        heated = min(1.0, (after.heat_capped_s - before.heat_capped_s) / dt_s)
        changes["throttle_power_frac"] = capped
        changes["throttle_thermal_frac"] = heated
        if self._held_by is not None:
            # The driver names the cap or the heat, not the ceiling, while that is the lower of the two.
            changes[self._held_by] = max(0.0, 1.0 - capped - heated)
        if self._module is not None:
            beside_j = self._module.beside_gpu_j(after.time_s) - self._module.beside_gpu_j(before.time_s)
            module_w = power_w + beside_j / dt_s
            changes["power_module_w"] = module_w
            changes["energy_module_j"] = module_w * dt_s
            cpu = self._module.cpu
            changes["power_cpu_w"] = (cpu.energy_j(after.time_s) - cpu.energy_j(before.time_s)) / dt_s
        return changes

    def _activity(self, before: Totals, after: Totals) -> dict[str, float]:
        dt_s = after.time_s - before.time_s
        ran = [i for i, since_s in enumerate(before.seconds) if after.seconds[i] != since_s]
        seconds = [after.seconds[i] - before.seconds[i] for i in ran]
        cycles = [after.cycles[i] - before.cycles[i] for i in ran]
        all_cycles = sum(cycles)
        shares = {name: _mean(of, ran, seconds, dt_s) for name, of in self._of_time.items()}
        shares |= {name: _mean(of, ran, cycles, all_cycles) for name, of in self._of_cycles.items()}
        shares["tensor_hmma_active_frac"] = shares["tensor_active_frac"]
        shares["sm_clock_mhz"] = all_cycles / dt_s
        link_bytes_s = shares.pop("nvlink") * self._board.nvlink_peak_bytes_s
        shares |= dict.fromkeys(LINK_FIELDS["nvlink"], link_bytes_s)
        tx, rx = shares.pop("host_tx"), shares.pop("host_rx")
        to_host, peak_bytes_s = self._board.host_link
        return shares | dict(zip(LINK_FIELDS[to_host], (tx * peak_bytes_s, rx * peak_bytes_s), strict=True))


def _links(scenario: Scenario) -> dict[str, float]:
    """Return the state of the links, which is the same all the time."""
    board, lanes, active = scenario.board, scenario.pcie_lanes_count, scenario.nvlink_active_count
    return {
        "pcie_generation": float(board.pcie_generation),
        "pcie_lanes_count": float(board.pcie_lanes_count if lanes is None else lanes),
        "nvlink_active_count": float(board.nvlink_count if active is None else active),
    }


def _held_by(scenario: Scenario) -> str | None:
    """Return the field of the reason why the clock does not go above the ceiling; None: it is the board's own."""
    if scenario.ceiling_mhz >= CLOCK_MAX_MHZ:
        return None
    return "throttle_hw_frac" if scenario.is_hw_slowdown else "throttle_app_clocks_frac"


def _mean(shares: Sequence[float], rows: Sequence[int], amounts: Sequence[float], total: float) -> float:
    """Return the weighted mean of some rows' shares; rounding of the sums must not lift it above 1."""
    weighted = 0.0
    for row, amount in zip(rows, amounts, strict=True):
        weighted += shares[row] * amount
    return min(1.0, weighted / total)
