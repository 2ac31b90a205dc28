"""What DCGM calls the fields of a reading: ids, scales, statuses. Data only, no vendor library.

Numeric ids, from the vendor's dcgm_fields.h: they are the same from 3.3 to 4.6, while the names changed.
Where a field has several ids, the first one that answers counts.
"""

from typing import NamedTuple

from satscore.core.fields import Quality
from satscore.core.units import MIB
from satscore.counters import nvml_ids
from satscore.counters.dcgm.wire import BLANK

FIRST_PIPE_ID = 1001
"""Profiling fields begin here: in a watch of their own, never asked for live values."""


class PipeField(NamedTuple):
    """A profiling field: its id, the field that it fills, in that field's unit, and the largest value that can be."""

    id: int
    field: str
    high: float = nvml_ids.MAX_SHARE


class Gauge(NamedTuple):
    """A momentary value: ids, factor to the field's unit, and the range of what can be true.

    ``is_mean``: the mean of the values at both ends of an interval stands for it; else the last one.
    """

    ids: tuple[int, ...]
    field: str
    scale: float
    low: float
    high: float
    is_mean: bool = False


class Counter(NamedTuple):
    """Counters since some start, whose differences are added."""

    ids: tuple[int, ...]
    field: str


_BYTES_S = nvml_ids.MAX_TRAFFIC_BYTES_S
# On Hopper and newer DCGM answers these by GPM, metric for metric as nvml_ids.GPM_METRICS has them. All traffic
# is as the GPU sees it, headers included. There is no ratio of the DMMA pipe (FP64 on tensor cores): it shows
# in 1004 alone.
_COMMON_PIPES: tuple[PipeField, ...] = (
    PipeField(1001, "engine_active_frac"),
    PipeField(1002, "sm_active_frac"),
    PipeField(1003, "sm_occupancy_frac"),
    PipeField(1004, "tensor_active_frac"),
    PipeField(1005, "dram_active_frac"),
    PipeField(1006, "fp64_active_frac"),
    PipeField(1007, "fp32_active_frac"),
    PipeField(1008, "fp16_active_frac"),
    PipeField(1009, "pcie_tx_bytes_s", _BYTES_S),
    PipeField(1010, "pcie_rx_bytes_s", _BYTES_S),
    PipeField(1011, "nvlink_tx_bytes_s", _BYTES_S),
    PipeField(1012, "nvlink_rx_bytes_s", _BYTES_S),
    PipeField(1013, "tensor_imma_active_frac"),
    PipeField(1014, "tensor_hmma_active_frac"),
    PipeField(1015, "tensor_dfma_active_frac"),
    PipeField(1016, "integer_active_frac"),
)
_C2C_PIPES: tuple[PipeField, ...] = (
    PipeField(1076, "c2c_tx_bytes_s", _BYTES_S),
    PipeField(1078, "c2c_rx_bytes_s", _BYTES_S),
)

POWER_INSTANT = 157
"""By a field value of GPU scope (DcgmCacheManager.cpp)."""
POWER_USAGE = 155
"""By nvmlDeviceGetPowerUsage, which has no scope: on a superchip it may be the whole module's."""
ENERGY = 156
"""mJ; without a scope, too, and with a time stamp of NVML's own."""
XID = 230
"""The last critical Xid: a new time stamp is an event. Of several within a period only the last one is seen."""

GAUGES: tuple[Gauge, ...] = (
    Gauge((100,), "sm_clock_mhz", 1.0, 1.0, nvml_ids.MAX_CLOCK_MHZ, is_mean=True),
    Gauge((101,), "mem_clock_mhz", 1.0, 1.0, nvml_ids.MAX_CLOCK_MHZ, is_mean=True),
    Gauge((164, 160), "power_limit_gpu_w", 1.0, 1.0, nvml_ids.MAX_POWER_W),
    Gauge((150,), "temp_gpu_c", 1.0, 1.0, nvml_ids.MAX_TEMP_C),
    Gauge((140,), "temp_mem_c", 1.0, 1.0, nvml_ids.MAX_TEMP_C),
    Gauge((252,), "memory_used_bytes", float(MIB), 0.0, float(1 << 50)),  # without the driver's reserve, which is 253
    Gauge((203,), "gpu_util_frac", nvml_ids.PERCENT, 0.0, 1.0),  # per cent, whatever its name says
    Gauge((237,), "pcie_generation", 1.0, 1.0, 16.0),
    Gauge((238,), "pcie_lanes_count", 1.0, 1.0, 32.0),
)
POWER = Gauge((POWER_INSTANT, POWER_USAGE), "power_gpu_w", 1.0, 1e-3, nvml_ids.MAX_POWER_W, is_mean=True)

THROTTLE_IDS: dict[int, str] = {
    240: "throttle_power_frac",
    241: "throttle_thermal_frac",
    242: "throttle_sync_boost_frac",
    243: "throttle_board_frac",
    246: "throttle_app_clocks_frac",
}
"""Accumulated ns per reason: NVML's own counters 74, 75, 76, 77 and 80.

Hardware slowdown (1423, 1424) is not read: DCGM asks NVML by ids that moved between driver branches, so a
DCGM built for another branch answers with another counter.
"""

COUNTERS: tuple[Counter, ...] = (
    Counter((310,), "ecc_corrected_count"),
    Counter((311,), "ecc_uncorrected_count"),
    Counter((202,), "pcie_replay_count"),
    Counter((409, 419, 429, 439), "nvlink_error_count"),  # CRC of flits and data, replays, recoveries
    Counter((393, 394), "remapped_rows_count"),
)

CPU_POWER, MODULE_POWER = 1130, 1133
CPU_GAUGES: tuple[Gauge, ...] = (
    Gauge((CPU_POWER,), "power_cpu_w", 1.0, 0.0, nvml_ids.MAX_POWER_W),
    Gauge((MODULE_POWER,), "power_module_w", 1.0, 0.0, nvml_ids.MAX_POWER_W),
)
"""Of a CPU: the ACPI meters ``CPU Power Socket N`` and ``Module Power Socket N``, in W; 0 where there is none.

The engine reads them as root (DcgmSystemMonitor.cpp). The cap of the CPU (1131) and the power beside its cores
(1132) are in no reading.
"""
CPU_IDS = frozenset(i for gauge in CPU_GAUGES for i in gauge.ids)
CPU_PERIOD_S = 1.0
"""Time between samples of CPUs, or more: such a meter may take up to a second to answer."""

DRIVER_VERSION, CUDA_VERSION, NAME, NVML_INDEX, UUID, PCI_BUS_ID, PCI_DEVICE_ID = 1, 5, 50, 52, 54, 57, 58
COMPUTE_CAPABILITY, MIG_MODE, SM_CLOCK_MAX, MEM_CLOCK_MAX, TEMP_SLOWDOWN = 63, 67, 113, 114, 158
POWER_LIMITS, PCIE_GENERATION_MAX, PCIE_LANES_MAX, MEMORY_TOTAL_MIB = (164, 160), 235, 236, 250
REMAPPED_ROWS, REMAP_FAILED, REMAP_PENDING = (393, 394), 395, 396
CPU_AFFINITY = (70, 71, 72, 73)
"""The cores near a GPU, as a mask in words of 64 bits, lowest first: by nvmlDeviceGetCpuAffinity."""
STATIC_IDS: tuple[int, ...] = (
    *(DRIVER_VERSION, CUDA_VERSION, NAME, NVML_INDEX, UUID, PCI_BUS_ID, PCI_DEVICE_ID, COMPUTE_CAPABILITY, MIG_MODE),
    *(SM_CLOCK_MAX, MEM_CLOCK_MAX, TEMP_SLOWDOWN, *POWER_LIMITS, PCIE_GENERATION_MAX, PCIE_LANES_MAX),
    *(MEMORY_TOTAL_MIB, *REMAPPED_ROWS, REMAP_FAILED, REMAP_PENDING, *CPU_AFFINITY),
)
"""Asked once, when the engine is found."""


def pipe_fields(*, superchip: bool) -> tuple[PipeField, ...]:
    """Return the profiling fields to watch; the link between GPU and CPU only where there is one."""
    return _COMMON_PIPES + (_C2C_PIPES if superchip else ())


def other_ids() -> list[int]:
    """Return the ordinary fields to watch."""
    wanted = [*(i for gauge in (*GAUGES, POWER) for i in gauge.ids), ENERGY, *THROTTLE_IDS, XID]
    return [*wanted, *(i for counter in COUNTERS for i in counter.ids)]


OK = nvml_ids.OK
NOT_SUPPORTED, VERSION, CONNECTION, LIBRARY, GENERIC = -6, -12, -21, -25, -3
NO_PERMISSION, NEEDS_ROOT = -17, -29
MODULE_NOT_LOADED, IN_USE, PROFILING_NOT_SUPPORTED, PROFILING_LIBRARY, MULTI_PASS = -33, -34, -36, -37, -38
PAUSED, NO_NVML, TIMEOUT = -54, -56, -11

_CODES: dict[int, int] = {
    0: nvml_ids.OK,
    BLANK: nvml_ids.NO_VALUE,
    -14: nvml_ids.NO_VALUE,  # no data yet
    -16: nvml_ids.NO_VALUE,  # not watched, which passes: a watch of ours is being made
    NOT_SUPPORTED: nvml_ids.NOT_SUPPORTED,
    PROFILING_NOT_SUPPORTED: nvml_ids.NOT_SUPPORTED,
    NO_PERMISSION: nvml_ids.NO_PERMISSION,
    NEEDS_ROOT: nvml_ids.NO_PERMISSION,
}
_OTHER_CODES = -1000
"""Statuses without a meaning of NVML's are codes of their own, below all of nvml_ids."""


def code_of_status(status: int) -> int:
    """Return the code by which nvml_values handles a status of DCGM, so that both sources give the same reasons."""
    return _CODES.get(status, _OTHER_CODES + status)


def quality_of(code: int) -> Quality:
    """Return the reason that a code stands for in a reading."""
    return nvml_ids.code_of(code).quality


def text_of(code: int) -> str:
    """Return what a code means, for people."""
    if code <= _OTHER_CODES:
        return f"DCGM status {code - _OTHER_CODES}"
    return nvml_ids.code_of(code).text
