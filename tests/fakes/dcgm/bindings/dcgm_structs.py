# ruff: noqa: N801, N802, N807, N816 - the vendor's names
"""Stand-in for the vendor's module of that name: what a client of the fake library needs, by the same names.

Written from the interface, not from the vendor's code. What the vendor's does and surprises, this one does:
errors are classes made from the status names, text arrives as str, the library is looked for along
LD_LIBRARY_PATH when the process has started it, then in fixed folders.
"""

import ctypes
import os
import platform
import string
import threading
from ctypes import (
    c_byte,
    c_char,
    c_double,
    c_int,
    c_int64,
    c_short,
    c_uint,
    c_uint16,
    c_uint32,
    c_uint64,
    c_ushort,
    c_void_p,
)

from variant import VERSION

DCGM_MAX_STR_LENGTH = 256
DCGM_MAX_BLOB_LENGTH = 4096
DCGM_MAX_NUM_DEVICES = 32
DCGM_MAX_NUM_GROUPS = 64
DCGM_MAX_CLOCKS = 256
DCGM_MAX_FIELD_IDS_PER_FIELD_GROUP = 128
DCGM_GROUP_MAX_ENTITIES_V2 = 1024 if VERSION >= (4,) else 64
DCGM_PROF_MAX_NUM_GROUPS_V2 = 10
DCGM_PROF_MAX_FIELD_IDS_PER_GROUP_V2 = 64

DCGM_OPERATION_MODE_AUTO, DCGM_OPERATION_MODE_MANUAL = 1, 2
DCGM_ORDER_ASCENDING, DCGM_ORDER_DESCENDING = 1, 2
DCGM_GROUP_DEFAULT, DCGM_GROUP_EMPTY = 0, 1
DCGM_GROUP_ALL_GPUS = 0x7FFFFFFF
DCGM_FV_FLAG_LIVE_DATA = 1

_STATUSES = {
    "OK": (0, "success"),
    "BADPARAM": (-1, "a parameter is wrong"),
    "GENERIC_ERROR": (-3, "an error of no special kind"),
    "MEMORY": (-4, "out of memory"),
    "NOT_CONFIGURED": (-5, "not configured"),
    "NOT_SUPPORTED": (-6, "not supported"),
    "INIT_ERROR": (-7, "initialisation failed"),
    "NVML_ERROR": (-8, "an error of NVML"),
    "PENDING": (-9, "pending"),
    "UNINITIALIZED": (-10, "not initialised"),
    "TIMEOUT": (-11, "timed out"),
    "VER_MISMATCH": (-12, "versions of the interface differ"),
    "UNKNOWN_FIELD": (-13, "unknown field"),
    "NO_DATA": (-14, "no data"),
    "STALE_DATA": (-15, "data is stale"),
    "NOT_WATCHED": (-16, "the field is not watched"),
    "NO_PERMISSION": (-17, "no permission"),
    "GPU_IS_LOST": (-18, "the GPU is lost"),
    "RESET_REQUIRED": (-19, "the GPU needs a reset"),
    "FUNCTION_NOT_FOUND": (-20, "no such function"),
    "CONNECTION_NOT_VALID": (-21, "the connection to the host engine is gone"),
    "GPU_NOT_SUPPORTED": (-22, "the GPU is not supported"),
    "GROUP_INCOMPATIBLE": (-23, "the GPUs of the group do not go together"),
    "MAX_LIMIT": (-24, "a limit was reached"),
    "LIBRARY_NOT_FOUND": (-25, "the library was not found"),
    "DUPLICATE_KEY": (-26, "the key exists already"),
    "REQUIRES_ROOT": (-29, "the host engine must run as root"),
    "INSUFFICIENT_SIZE": (-31, "too small"),
    "FIELD_UNSUPPORTED_BY_API": (-32, "the call does not support the field"),
    "MODULE_NOT_LOADED": (-33, "the module that serves this is not loaded"),
    "IN_USE": (-34, "in use"),
    "GROUP_IS_EMPTY": (-35, "the group is empty"),
    "PROFILING_NOT_SUPPORTED": (-36, "profiling is not supported on the GPU"),
    "PROFILING_LIBRARY_ERROR": (-37, "the profiling library failed"),
    "PROFILING_MULTI_PASS": (-38, "the metrics cannot be collected in one pass"),
    "PAUSED": (-54, "paused"),
    "NVML_NOT_LOADED": (-56, "NVML is not loaded"),
    "NVML_DRIVER_TIMEOUT": (-57, "the driver timed out"),
}
if VERSION < (4,):
    del _STATUSES["NVML_DRIVER_TIMEOUT"]
globals().update({f"DCGM_ST_{name}": value for name, (value, _) in _STATUSES.items()})
if VERSION[:2] == (4, 2):
    DCGM_ST_NVML_DRIVER_TIMEOUT = (-57,)  # there is a comma too much in the vendor's
_TEXTS = dict(_STATUSES.values())


class DCGMError(Exception):
    """A status other than 0, as ``value``; made as the class of that status."""

    _classes: dict[int, type["DCGMError"]] = {}  # noqa: RUF012

    def __new__(cls, value):
        made = Exception.__new__(cls._classes.get(value, cls) if cls is DCGMError else cls)
        made.value = value
        return made

    def __init__(self, value=None):
        super().__init__()

    def __str__(self):
        return _TEXTS.get(self.value) or str(_dcgmErrorString(self.value))

    def __eq__(self, other):
        return self.value == other.value

    def __hash__(self):
        return hash(self.value)


def _error_class(name, value):
    def __new__(cls):
        return DCGMError.__new__(cls, value)

    return type(f"DCGMError_{string.capwords(name, '_').replace('_', '')}", (DCGMError,), {"__new__": __new__})


DCGMError._classes = {value: _error_class(name, value) for name, (value, _) in _STATUSES.items()}
globals().update({made.__name__: made for made in DCGMError._classes.values()})


def dcgmExceptionClass(error_code):
    return DCGMError._classes.get(error_code)


class _Decoded:
    def __getattribute__(self, key):
        value = super().__getattribute__(key)
        return value.decode() if isinstance(value, bytes) else value


class _Structure(_Decoded, ctypes.Structure):
    pass


def _words(*names):
    return [(name, c_uint) for name in names]


def _texts(*names):
    return [(name, c_char * DCGM_MAX_STR_LENGTH) for name in names]


def _struct(name, *fields):
    made = type(name, (_Structure,), {"_fields_": list(fields)})
    made.__module__ = __name__
    return made


def make_dcgm_version(struct, ver):
    return ctypes.sizeof(struct) | ver << 24


c_dcgmConnectV2Params_v1 = _struct("c_dcgmConnectV2Params_v1", *_words("version", "persistAfterDisconnect"))
c_dcgmConnectV2Params_version1 = make_dcgm_version(c_dcgmConnectV2Params_v1, 1)
c_dcgmConnectV2Params_v2 = _struct(
    "c_dcgmConnectV2Params_v2", *_words("version", "persistAfterDisconnect", "timeoutMs", "addressIsUnixSocket")
)
c_dcgmConnectV2Params_version2 = c_dcgmConnectV2Params_version = make_dcgm_version(c_dcgmConnectV2Params_v2, 2)
if VERSION >= (4, 5):
    c_dcgmConnectV3Params_v1 = _struct(
        "c_dcgmConnectV3Params_v1", *_words("version", "persistAfterDisconnect", "timeoutMs")
    )
    c_dcgmConnectV3Params_version1 = c_dcgmConnectV3Params_version = make_dcgm_version(c_dcgmConnectV3Params_v1, 1)

c_dcgmGroupEntityPair_t = _struct("c_dcgmGroupEntityPair_t", ("entityGroupId", c_uint32), ("entityId", c_uint32))
_GROUP_INFO = 3 if VERSION >= (4,) else 2
_group_info = _struct(
    f"c_dcgmGroupInfo_v{_GROUP_INFO}",
    *_words("version", "count"),
    *_texts("groupName"),
    ("entityList", c_dcgmGroupEntityPair_t * DCGM_GROUP_MAX_ENTITIES_V2),
)
globals()[_group_info.__name__] = _group_info
globals()[f"c_dcgmGroupInfo_version{_GROUP_INFO}"] = make_dcgm_version(_group_info, _GROUP_INFO)

c_dcgmClockSet_v1 = _struct("c_dcgmClockSet_v1", *_words("version", "memClock", "smClock"))
c_dcgmDeviceSupportedClockSets_v1 = _struct(
    "c_dcgmDeviceSupportedClockSets_v1", *_words("version", "count"), ("clockSet", c_dcgmClockSet_v1 * DCGM_MAX_CLOCKS)
)
c_dcgmDeviceThermals_v1 = _struct("c_dcgmDeviceThermals_v1", *_words("version", "slowdownTemp", "shutdownTemp"))
_LIMITS = ("curPowerLimit", "defaultPowerLimit", "enforcedPowerLimit", "minPowerLimit", "maxPowerLimit")
c_dcgmDevicePowerLimits_v1 = _struct("c_dcgmDevicePowerLimits_v1", *_words("version", *_LIMITS))
c_dcgmDeviceIdentifiers_v1 = _struct(
    "c_dcgmDeviceIdentifiers_v1",
    *_words("version"),
    *_texts("brandName", "deviceName", "pciBusId", "serial", "uuid", "vbios", "inforomImageVersion"),
    *_words("pciDeviceId", "pciSubSystemId"),
    *_texts("driverVersion"),
    *_words("virtualizationMode"),
)
c_dcgmDeviceMemoryUsage_v1 = _struct(
    "c_dcgmDeviceMemoryUsage_v1", *_words("version", "bar1Total", "fbTotal", "fbUsed", "fbFree")
)
c_dcgmDeviceSettings_v2 = _struct(
    "c_dcgmDeviceSettings_v2", *_words("version", "persistenceModeEnabled", "migModeEnabled", "confidentialComputeMode")
)
c_dcgmDeviceAttributes_v3 = _struct(
    "c_dcgmDeviceAttributes_v3",
    *_words("version"),
    ("clockSets", c_dcgmDeviceSupportedClockSets_v1),
    ("thermalSettings", c_dcgmDeviceThermals_v1),
    ("powerLimits", c_dcgmDevicePowerLimits_v1),
    ("identifiers", c_dcgmDeviceIdentifiers_v1),
    ("memoryUsage", c_dcgmDeviceMemoryUsage_v1),
    ("settings", c_dcgmDeviceSettings_v2),
)
dcgmDeviceAttributes_version3 = make_dcgm_version(c_dcgmDeviceAttributes_v3, 3)


class c_dcgmFieldValue_v1_value(_Decoded, ctypes.Union):
    _fields_ = (
        ("i64", c_int64),
        ("dbl", c_double),
        ("str", c_char * DCGM_MAX_STR_LENGTH),
        ("blob", c_byte * DCGM_MAX_BLOB_LENGTH),
    )


_VALUE = (("fieldId", c_ushort), ("fieldType", c_short), ("status", c_int))
c_dcgmFieldValue_v1 = _struct(
    "c_dcgmFieldValue_v1", *_words("version"), *_VALUE, ("ts", c_int64), ("value", c_dcgmFieldValue_v1_value)
)
dcgmFieldValue_version1 = make_dcgm_version(c_dcgmFieldValue_v1, 1)
c_dcgmFieldValue_v2 = _struct(
    "c_dcgmFieldValue_v2",
    *_words("version", "entityGroupId", "entityId"),
    *_VALUE,
    *_words("unused"),
    ("ts", c_int64),
    ("value", c_dcgmFieldValue_v1_value),
)
dcgmFieldValue_version2 = make_dcgm_version(c_dcgmFieldValue_v2, 2)

c_dcgmFieldGroupInfo_v1 = _struct(
    "c_dcgmFieldGroupInfo_v1",
    *_words("version", "numFieldIds"),
    ("fieldGroupId", c_void_p),
    *_texts("fieldGroupName"),
    ("fieldIds", c_uint16 * DCGM_MAX_FIELD_IDS_PER_FIELD_GROUP),
)
dcgmFieldGroupInfo_version1 = make_dcgm_version(c_dcgmFieldGroupInfo_v1, 1)

c_dcgmProfMetricGroupInfo_v2 = _struct(
    "c_dcgmProfMetricGroupInfo_v2",
    ("majorId", c_ushort),
    ("minorId", c_ushort),
    ("numFieldIds", c_uint32),
    ("fieldIds", c_ushort * DCGM_PROF_MAX_FIELD_IDS_PER_GROUP_V2),
)
c_dcgmProfGetMetricGroups_v3 = _struct(
    "c_dcgmProfGetMetricGroups_v3",
    *_words("version", "unused", "gpuId", "numMetricGroups"),
    ("metricGroups", c_dcgmProfMetricGroupInfo_v2 * DCGM_PROF_MAX_NUM_GROUPS_V2),
)
dcgmProfGetMetricGroups_version3 = make_dcgm_version(c_dcgmProfGetMetricGroups_v3, 3)
DCGM_MAX_NUM_CPUS, DCGM_MAX_NUM_CPU_CORES = 8, 1024
c_dcgmCpuHierarchyOwnedCores_v1 = _struct(
    "c_dcgmCpuHierarchyOwnedCores_v1", *_words("version"), ("bitmask", c_uint64 * (DCGM_MAX_NUM_CPU_CORES // 64))
)
c_dcgmCpuHierarchyCpu_v1 = _struct(
    "c_dcgmCpuHierarchyCpu_v1", *_words("cpuId"), ("ownedCores", c_dcgmCpuHierarchyOwnedCores_v1)
)
c_dcgmCpuHierarchy_v1 = _struct(
    "c_dcgmCpuHierarchy_v1",
    *_words("version", "numCpus"),
    ("cpus", c_dcgmCpuHierarchyCpu_v1 * DCGM_MAX_NUM_CPUS),
)
dcgmCpuHierarchy_version1 = make_dcgm_version(c_dcgmCpuHierarchy_v1, 1)
c_dcgmVersionInfo_v2 = _struct(
    "c_dcgmVersionInfo_v2", *_words("version"), ("rawBuildInfoString", c_char * (2 * DCGM_MAX_STR_LENGTH))
)
dcgmVersionInfo_version2 = make_dcgm_version(c_dcgmVersionInfo_v2, 2)

# ---- the library ----

_SONAME = f"libdcgm.so.{VERSION[0]}"
dcgmLib = None
libLoadLock = threading.Lock()


def _folders(path):
    return [
        *([path] if path else []),
        *os.environ.get("LD_LIBRARY_PATH", "").split(":"),
        f"/usr/lib/{platform.machine()}-linux-gnu",
        "/usr/lib64",
    ]


def _LoadDcgmLibrary(libDcgmPath=None):
    global dcgmLib  # noqa: PLW0603
    with libLoadLock:
        for folder in _folders(libDcgmPath):
            file = f"{folder}/{_SONAME}"
            if dcgmLib is None and os.path.isfile(file):  # noqa: PTH113
                try:
                    dcgmLib = ctypes.CDLL(file)
                except OSError:
                    continue
        if dcgmLib is None:
            raise DCGMError(-25)


def _dcgmInit(libDcgmPath=None):
    _LoadDcgmLibrary(libDcgmPath)


def _dcgmGetFunctionPointer(name):
    if dcgmLib is None:
        raise DCGMError(-10)
    try:
        return getattr(dcgmLib, name)
    except AttributeError:
        raise DCGMError(-20) from None


def _dcgmCheckReturn(ret):
    if ret != 0:
        raise DCGMError(ret)
    return ret


def _dcgmShutdown():
    _dcgmCheckReturn(_dcgmGetFunctionPointer("dcgmShutdown")())


def _dcgmErrorString(result):
    function = _dcgmGetFunctionPointer("dcgmErrorString")
    function.restype = ctypes.c_char_p
    return function(result)
