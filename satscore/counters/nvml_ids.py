"""What NVML calls the fields of a reading: ids, scales, error codes. Data only, no vendor library.

Ids are written out instead of taken from the binding: some moved between driver branches while the
binding's names stayed, so a name can silently read another field (NVIDIA's nvml.h of CUDA 12.9 to 13.3).
"""

from typing import NamedTuple

from satscore.core.fields import Quality
from satscore.core.units import MIB

PERCENT = 1e-2
MILLI = 1e-3

SLOW_PERIOD_NS = 1_000_000_000
"""Age up to which temperatures, limits, memory and utilisation are repeated."""
HEALTH_PERIOD_NS = 10_000_000_000
"""How often links and memory are asked for errors: a call with some 25 values, or 75."""
LOST_RETRY_NS = 10_000_000_000
"""How often a lost GPU is asked again: calls on a lost GPU can take long."""
MAX_BRIDGED = 2
"""Failed GPM pairs in a row that one longer pair may cover, before the time is given up as unknown."""

MAX_SHARE = 1.05
"""Shares up to here are rounding of the driver's clock against ours; above they are no shares."""
MAX_CLOCK_MHZ = 20_000.0
"""The memory clock of GDDR parts is the largest: 10501 MHz on an RTX 4090, 14001 on GDDR7."""
MAX_POWER_W = 5_000.0
MAX_TRAFFIC_BYTES_S = 1e13
MAX_TEMP_C = 150.0
MAX_PCIE_GENERATION = 9
MAX_PCIE_LANES = 32
MAX_NVLINKS = 64
"""NVML's own limit is 36."""


class Metric(NamedTuple):
    """A GPM metric: its id, the field it fills and the factor to the field's unit."""

    id: int
    field: str
    scale: float


GPM_METRICS: tuple[Metric, ...] = (
    Metric(1, "engine_active_frac", PERCENT),
    Metric(2, "sm_active_frac", PERCENT),
    Metric(3, "sm_occupancy_frac", PERCENT),
    Metric(4, "integer_active_frac", PERCENT),
    Metric(5, "tensor_active_frac", PERCENT),
    Metric(6, "tensor_dfma_active_frac", PERCENT),
    Metric(7, "tensor_hmma_active_frac", PERCENT),
    Metric(8, "tensor_dmma_active_frac", PERCENT),
    Metric(9, "tensor_imma_active_frac", PERCENT),
    Metric(10, "dram_active_frac", PERCENT),
    Metric(11, "fp64_active_frac", PERCENT),
    Metric(12, "fp32_active_frac", PERCENT),
    Metric(13, "fp16_active_frac", PERCENT),
    Metric(20, "pcie_tx_bytes_s", MIB),
    Metric(21, "pcie_rx_bytes_s", MIB),
    Metric(60, "nvlink_rx_bytes_s", MIB),  # RX first here ...
    Metric(61, "nvlink_tx_bytes_s", MIB),
    # ... and TX first here. The totals, headers included, not the payload (102, 103): a link's bound
    # is its raw rate, so that headers are part of what fills it.
    Metric(100, "c2c_tx_bytes_s", MIB),
    Metric(101, "c2c_rx_bytes_s", MIB),
)
GPM_FIELDS: tuple[str, ...] = tuple(metric.field for metric in GPM_METRICS)

SCOPE_GPU = 0
SCOPE_MODULE = 1
SCOPE_NAMES = ("gpu", "module")

CLOCK_SM = 1
CLOCK_MEM = 2
EVENT_XID = 0x8
MEMORY_V2 = 0x0200_0028
"""Version word of the 40 byte memory struct that states the driver's reserve separately."""

FI_ECC_CORRECTED = 3
FI_ECC_UNCORRECTED = 4
FI_TEMP_MEM = 82
FI_NVLINK_COUNT = 91
FI_PCIE_REPLAYS = 94
FI_REMAPPED_CORRECTABLE = 142
FI_REMAPPED_UNCORRECTABLE = 143
FI_REMAP_PENDING = 144
FI_REMAP_FAILED = 145
FI_NVLINK_STATE = 165
"""Scope: the connection. Hopper and newer; before there is nvmlDeviceGetNvLinkState."""
FI_POWER_AVERAGE = 185
FI_POWER_INSTANT = 186
FI_POWER_LIMIT = 190
FI_ENERGY = 191
FI_SLOWDOWN_MARGIN = 194
"""How far above its highest operating temperature a GPU slows itself down, as a margin: -2 is 2 C above."""
FI_NVLINK_ERRORS_TOTAL = ((38, 0), (45, 0), (52, 0), (59, 0))
"""CRC of flow control and of data, replays, recoveries: of all connections."""
FI_NVLINK_ERRORS = (161, 162, 163)
"""Replays, recoveries, CRC. Scope: the connection."""
NVLINK_UP = (1, 2)
"""States of a connection that is there: active, asleep (it saves power)."""
THRESHOLD_SLOWDOWN = 1

THROTTLE_IDS: dict[str, int] = {
    "throttle_power_frac": 74,
    "throttle_thermal_frac": 75,
    "throttle_sync_boost_frac": 76,
    "throttle_board_frac": 77,
    "throttle_app_clocks_frac": 80,
}
"""Accumulated ns per reason; these ids never moved."""

FIRST_BRANCH_MOVED = 590


def hw_throttle_ids(driver_version: str | None) -> tuple[int, int] | None:
    """Return the ids of hardware thermal slowdown and power brake for a driver.

    From branch 590 on they are 270 and 271, where 252 and 253 mean power smoothing; a wrong guess
    would read another field without any error.

    Args:
        driver_version: As NVML states it, like ``580.65.06``.

    Returns:
        The two ids, or None if the branch is unknown: then they are not read.
    """
    branch = (driver_version or "").split(".", 1)[0]
    if not branch.isdecimal() or int(branch) == 0:
        return None
    return (270, 271) if int(branch) >= FIRST_BRANCH_MOVED else (252, 253)


class Code(NamedTuple):
    """What an NVML return code means for a field that could not be read."""

    quality: Quality
    text: str
    permanent: bool = False
    """The same call on the same GPU will always answer this: it is not repeated."""
    remedy: str = ""


OK = 0
INVALID_ARGUMENT = 2
NOT_SUPPORTED = 3
NO_PERMISSION = 4
DRIVER_NOT_LOADED = 9
TIMEOUT = 10
LIBRARY_NOT_FOUND = 12
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
LIB_RM_VERSION_MISMATCH = 18
VERSION_MISMATCH = 25
GPU_NOT_FOUND = 28
UNKNOWN = 999

NO_VALUE = -1
"""Our own: the driver answered 'success' with a blank."""
RANGE = -2
"""Our own: the driver answered with a number that cannot be true."""
INTERNAL = -3
"""Our own: a defect of this program, not of the driver."""
UNMOVED = -4
"""Our own: a counter that always moves stands where it stood at the last read."""
MIG_ENABLED = -5
"""Our own: the GPU is cut into instances, and its pipe counters with it."""

_UPDATE = "a newer NVIDIA driver may have it"
_LOST = "see 'dmesg | grep -i xid'; the node needs a GPU reset or a reboot"
_PERMISSION = "ask the site to allow it"

CODES: dict[int, Code] = {
    NO_VALUE: Code(Quality.BLANK, "no value"),
    RANGE: Code(Quality.OUT_OF_RANGE, "a value that cannot be true", remedy="not used"),
    INTERNAL: Code(Quality.ERROR, "an error in satscore", remedy="please report it"),
    MIG_ENABLED: Code(
        Quality.NOT_SUPPORTED,
        "MIG is on, pipe counters exist per instance",
        permanent=True,
        remedy="satscore scores whole GPUs: use a GPU without MIG",
    ),
    UNMOVED: Code(Quality.STALE, "the counter did not move in an interval"),
    1: Code(Quality.ERROR, "NVML was shut down"),
    INVALID_ARGUMENT: Code(Quality.NOT_SUPPORTED, "not known to this driver", remedy=_UPDATE),
    NOT_SUPPORTED: Code(Quality.NOT_SUPPORTED, "not supported by this GPU or driver", permanent=True),
    NO_PERMISSION: Code(Quality.NO_PERMISSION, "no permission", remedy=_PERMISSION),
    6: Code(Quality.BLANK, "no value"),
    DRIVER_NOT_LOADED: Code(Quality.ERROR, "driver not loaded"),
    TIMEOUT: Code(Quality.ERROR, "the driver did not answer in time"),
    FUNCTION_NOT_FOUND: Code(
        Quality.NOT_SUPPORTED, "the driver library has no such function", permanent=True, remedy=_UPDATE
    ),
    GPU_IS_LOST: Code(Quality.GPU_LOST, "the GPU is lost", remedy=_LOST),
    16: Code(Quality.GPU_LOST, "the GPU needs a reset", remedy=_LOST),
    LIB_RM_VERSION_MISMATCH: Code(Quality.ERROR, "driver and library are of different versions"),
    21: Code(Quality.BLANK, "no value yet"),
    22: Code(Quality.NOT_SUPPORTED, "not supported with this vGPU", permanent=True),
    VERSION_MISMATCH: Code(
        Quality.NOT_SUPPORTED, "the driver does not know this version of the call", permanent=True, remedy=_UPDATE
    ),
    26: Code(Quality.NOT_SUPPORTED, "removed from this driver", permanent=True),
    27: Code(Quality.BLANK, "not ready"),
    GPU_NOT_FOUND: Code(Quality.GPU_LOST, "the GPU was not found", remedy=_LOST),
}
"""The one table from NVML's return codes to the reason in a reading."""


def code_of(code: int) -> Code:
    """Return the meaning of a return code; codes that nobody foresaw are errors, tried again."""
    return CODES.get(code) or Code(Quality.ERROR, f"NVML error {code}")


def is_lost(code: int) -> bool:
    """Return whether a code says that the whole GPU is gone."""
    return code_of(code).quality is Quality.GPU_LOST


_CORES_PER_SM: dict[int, int] = {7: 64, 9: 128, 10: 128, 11: 128, 12: 128}


def cores_per_sm(compute_capability: tuple[int, int] | None) -> int | None:
    """Return FP32 lanes per SM, as NVML counts cores; None for an architecture not known here."""
    if compute_capability is None:
        return None
    major, minor = compute_capability
    if major == 8:  # GA100 has half the FP32 lanes of every later 8.x chip
        return 64 if minor == 0 else 128
    return _CORES_PER_SM.get(major)
