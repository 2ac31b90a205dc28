"""The one table of what a reading holds: names, units, kinds; and why a value can be unknown.

Every source fills the same fields (counters/nvml.py maps vendor ids to them), every later stage
reads them by name. This module imports no numpy: it is on the path of the samplers.
"""

import enum
import math
from typing import NamedTuple


class Kind(enum.Enum):
    """How a field behaves over the interval of its reading."""

    MEAN = "mean"
    """A mean over the interval, exact or as exact as the source can: may be integrated over time."""
    GAUGE = "gauge"
    """A value at the end of the interval."""
    INTEGRAL = "integral"
    """An amount accumulated during the interval (energy, error counts)."""


class Quality(enum.IntEnum):
    """Why a value is unknown; OK if it is known. A recording has four bits for it."""

    OK = 0
    NOT_READ = 1
    """This source does not ask for the field, or not at this tick."""
    NOT_SUPPORTED = 2
    """The driver or device says that it does not have the field."""
    NO_PERMISSION = 3
    BLANK = 4
    """The driver answered without a value (NaN, blank sentinel, first read)."""
    STALE = 5
    """The driver repeated an old value."""
    GPU_LOST = 6
    OUT_OF_RANGE = 7
    """A number that cannot be true (negative share, share far above 1): not used."""
    ERROR = 8
    """Any other error code of the driver."""


class Field(NamedTuple):
    """One row of the field table."""

    name: str
    unit: str
    kind: Kind
    meaning: str


FIELDS: tuple[Field, ...] = (
    Field("engine_active_frac", "1", Kind.MEAN, "share of time in which a graphics/compute engine had work (g)"),
    Field("sm_active_frac", "1", Kind.MEAN, "share of SM cycles with at least one resident warp (s)"),
    Field("sm_occupancy_frac", "1", Kind.MEAN, "resident warps over the maximum (o)"),
    Field("tensor_active_frac", "1", Kind.MEAN, "share of SM cycles in which any tensor pipe was active (x_T)"),
    Field("tensor_hmma_active_frac", "1", Kind.MEAN, "same, 16-bit float class (FP16, BF16, TF32)"),
    Field("tensor_imma_active_frac", "1", Kind.MEAN, "same, integer class"),
    Field("tensor_dfma_active_frac", "1", Kind.MEAN, "same, DFMA class"),
    Field("tensor_dmma_active_frac", "1", Kind.MEAN, "same, FP64 tensor"),
    Field("fp64_active_frac", "1", Kind.MEAN, "share of SM cycles in which the FP64 pipe was active, no tensor"),
    Field("fp32_active_frac", "1", Kind.MEAN, "same, FP32 pipe"),
    Field("fp16_active_frac", "1", Kind.MEAN, "same, FP16 pipe, no tensor"),
    Field("integer_active_frac", "1", Kind.MEAN, "same, integer pipe"),
    Field("dram_active_frac", "1", Kind.MEAN, "share of memory cycles with traffic (d)"),
    Field("sm_clock_mhz", "MHz", Kind.MEAN, "SM clock (f)"),
    Field("mem_clock_mhz", "MHz", Kind.MEAN, "memory clock (f_mem)"),
    Field("nvlink_tx_bytes_s", "B/s", Kind.MEAN, "NVLink bytes sent per second, all links"),
    Field("nvlink_rx_bytes_s", "B/s", Kind.MEAN, "NVLink bytes received per second, all links"),
    Field("pcie_tx_bytes_s", "B/s", Kind.MEAN, "PCIe bytes sent per second (device to host)"),
    Field("pcie_rx_bytes_s", "B/s", Kind.MEAN, "PCIe bytes received per second (host to device)"),
    Field("c2c_tx_bytes_s", "B/s", Kind.MEAN, "NVLink-C2C bytes sent per second (GPU to Grace)"),
    Field("c2c_rx_bytes_s", "B/s", Kind.MEAN, "NVLink-C2C bytes received per second (Grace to GPU)"),
    Field("power_gpu_w", "W", Kind.MEAN, "GPU power, GPU scope"),
    Field("power_module_w", "W", Kind.MEAN, "module power (CPU + GPU), module scope"),
    Field("power_limit_gpu_w", "W", Kind.GAUGE, "GPU power limit in force"),
    Field("power_limit_module_w", "W", Kind.GAUGE, "module power limit in force"),
    Field("energy_gpu_j", "J", Kind.INTEGRAL, "energy of the GPU scope during the interval"),
    Field("energy_module_j", "J", Kind.INTEGRAL, "energy of the module scope during the interval"),
    Field("temp_gpu_c", "C", Kind.GAUGE, "GPU temperature"),
    Field("temp_mem_c", "C", Kind.GAUGE, "memory temperature"),
    Field("memory_used_bytes", "B", Kind.GAUGE, "device memory in use, without the driver's reserve"),
    Field("gpu_util_frac", "1", Kind.GAUGE, "NVML 'GPU utilisation': share of time with a kernel resident"),
    Field("throttle_power_frac", "1", Kind.MEAN, "share of time with clocks held down by the power cap"),
    Field("throttle_thermal_frac", "1", Kind.MEAN, "share of time with clocks held down by temperature"),
    Field("throttle_hw_frac", "1", Kind.MEAN, "share of time in hardware slowdown or power brake"),
    Field("throttle_board_frac", "1", Kind.MEAN, "share of time at the board limit"),
    Field("throttle_sync_boost_frac", "1", Kind.MEAN, "share of time held down by sync boost"),
    Field("throttle_app_clocks_frac", "1", Kind.MEAN, "share of time held down by application clocks"),
    Field("ecc_corrected_count", "1", Kind.INTEGRAL, "corrected ECC errors during the interval"),
    Field("ecc_uncorrected_count", "1", Kind.INTEGRAL, "uncorrected ECC errors during the interval"),
    Field("xid_count", "1", Kind.INTEGRAL, "critical Xid events during the interval"),
    Field("power_cpu_w", "W", Kind.MEAN, "power of the CPU (Grace) on the GPU's module"),
    Field("pcie_generation", "1", Kind.GAUGE, "PCIe generation in force"),
    Field("pcie_lanes_count", "1", Kind.GAUGE, "PCIe lanes in force"),
    Field("pcie_replay_count", "1", Kind.INTEGRAL, "PCIe packets sent again during the interval"),
    Field("nvlink_active_count", "1", Kind.GAUGE, "NVLink connections that are active"),
    Field("nvlink_error_count", "1", Kind.INTEGRAL, "NVLink CRC, replay and recovery errors during the interval"),
    Field("remapped_rows_count", "1", Kind.INTEGRAL, "memory rows remapped during the interval"),
)

INDEX: dict[str, int] = {field.name: i for i, field in enumerate(FIELDS)}
N_FIELDS = len(FIELDS)

SPARSE_FIELDS = frozenset(field.name for field in FIELDS if field.kind is Kind.INTEGRAL) | {
    "pcie_generation",
    "pcie_lanes_count",
    "nvlink_active_count",
}
"""What stands only in the readings at whose end it was asked for: once a second, or more rarely."""
LINK_FIELDS: dict[str, tuple[str, str]] = {
    "nvlink": ("nvlink_tx_bytes_s", "nvlink_rx_bytes_s"),
    "pcie": ("pcie_tx_bytes_s", "pcie_rx_bytes_s"),
    "c2c": ("c2c_tx_bytes_s", "c2c_rx_bytes_s"),
}


class Reading(NamedTuple):
    """One interval of one GPU.

    ``start_ns`` and ``end_ns`` lie on the run's monotonic axis; their difference is the measured
    length of the interval, never the nominal period. ``values`` and ``quality`` have one entry per
    row of FIELDS, in that order; an unknown value is NaN and has a quality other than OK.
    """

    gpu: int
    start_ns: int
    end_ns: int
    values: list[float]
    quality: bytearray


def blank_reading(gpu: int, start_ns: int, end_ns: int, reason: Quality = Quality.NOT_READ) -> Reading:
    """Return a reading in which every field is unknown for the given reason."""
    return Reading(gpu, start_ns, end_ns, [math.nan] * N_FIELDS, bytearray([reason] * N_FIELDS))


def put(reading: Reading, name: str, value: float) -> None:
    """Set a known value; a NaN is recorded as BLANK, so that unknown is never mistaken for a number."""
    i = INDEX[name]
    reading.values[i] = value
    reading.quality[i] = Quality.BLANK if math.isnan(value) else Quality.OK


def put_missing(reading: Reading, name: str, reason: Quality) -> None:
    """Mark a field as unknown for a reason."""
    i = INDEX[name]
    reading.values[i] = math.nan
    reading.quality[i] = reason
