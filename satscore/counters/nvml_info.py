"""What NVML says about a GPU once, at open: the facts that choose a hardware model."""

import ctypes
from dataclasses import dataclass
from typing import Any

from satscore.core.gpu import GpuInfo
from satscore.counters import nvml_ids as ids
from satscore.counters.nvml_api import FieldBatch, Nvml


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """Versions of the driver; None where it does not say."""

    version: str | None
    cuda_version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One GPU that NVML lists and lets us open.

    Attributes:
        nvml_index: NVML's index, which is not CUDA's.
        handle: The device handle as an address.
        info: Its facts; ``info.index`` is the NVML index until the run's GPUs are chosen.
    """

    nvml_index: int
    handle: int
    info: GpuInfo


def read_driver(api: Nvml) -> Driver:
    """Return the driver's versions."""
    _, version = api.ask("nvmlSystemGetDriverVersion")
    code, cuda = api.ask("nvmlSystemGetCudaDriverVersion_v2")
    if code != ids.OK:
        _, cuda = api.ask("nvmlSystemGetCudaDriverVersion")
    cuda_text = f"{cuda // 1000}.{cuda % 1000 // 10}" if isinstance(cuda, int) and cuda > 0 else None
    return Driver(version=_text(version), cuda_version=cuda_text)


def find_gpus(api: Nvml, driver: Driver) -> tuple[list[Found], dict[int, int]]:
    """Return the GPUs that can be opened, and per NVML index the code of those that cannot.

    In a container or a job's cgroup NVML may list GPUs that this process must not touch.
    """
    found: list[Found] = []
    refused: dict[int, int] = {}
    code, count = api.ask("nvmlDeviceGetCount")
    if code != ids.OK:
        return [], {0: code}
    for index in range(count):
        code, handle = api.ask("nvmlDeviceGetHandleByIndex", index)
        address = ctypes.cast(handle, ctypes.c_void_p).value if code == ids.OK else None
        if address is None:
            refused[index] = code or ids.UNKNOWN
        else:
            info = read_info(api, index, handle, driver)
            found.append(Found(nvml_index=index, handle=address, info=info))
    return found, refused


def read_info(api: Nvml, index: int, handle: Any, driver: Driver) -> GpuInfo:  # noqa: ANN401 - pynvml has no types
    """Return the facts of one GPU; None for each that it does not tell."""
    pci = api.ask("nvmlDeviceGetPciInfo_v3", handle)[1]
    capability = api.ask("nvmlDeviceGetCudaComputeCapability", handle)[1]
    mig_enabled = _mig_enabled(*api.ask("nvmlDeviceGetMigMode", handle))
    return GpuInfo(
        index=index,
        uuid=_text(api.ask("nvmlDeviceGetUUID", handle)[1]),
        name=_text(api.ask("nvmlDeviceGetName", handle)[1]),
        pci_bus_id=_text(getattr(pci, "busId", None)),
        pci_device_id=_positive(getattr(pci, "pciDeviceId", None)),
        sm_count=_sm_count(api.ask("nvmlDeviceGetNumGpuCores", handle)[1], capability),
        memory_bus_bits=_positive(api.ask("nvmlDeviceGetMemoryBusWidth", handle)[1]),
        memory_total_bytes=_memory_total(api, handle),
        sm_clock_max_mhz=_mhz(api.ask("nvmlDeviceGetMaxClockInfo", handle, ids.CLOCK_SM)[1]),
        mem_clock_max_mhz=_mhz(api.ask("nvmlDeviceGetMaxClockInfo", handle, ids.CLOCK_MEM)[1]),
        compute_capability=capability,
        mig_enabled=mig_enabled,
        mig_devices=_mig_devices(api, handle) if mig_enabled else (),
        driver_version=driver.version,
        cuda_driver_version=driver.cuda_version,
        has_os_memory=_has_os_memory(api.ask("nvmlDeviceGetNumaNodeId", handle)[0]),
        temp_slowdown_c=_temp_slowdown_c(api, handle),
        # What GPU and slot support; the GPU alone (nvmlDeviceGetGpuMaxPcieLinkGeneration) may be better.
        pcie_generation_max=_small(api.ask("nvmlDeviceGetMaxPcieLinkGeneration", handle)[1], ids.MAX_PCIE_GENERATION),
        pcie_lanes_max_count=_small(api.ask("nvmlDeviceGetMaxPcieLinkWidth", handle)[1], ids.MAX_PCIE_LANES),
    )


def _text(answer: object) -> str | None:
    """Return text from bytes (older bindings) or str; None if there is none."""
    if isinstance(answer, bytes):
        answer = answer.decode(errors="replace")
    return answer.strip() or None if isinstance(answer, str) else None


def _positive(answer: object) -> int | None:
    """Return a positive number; zero and all ones are how some drivers say 'unknown'."""
    if isinstance(answer, int) and 0 < answer < 0xFFFF_FFFF:
        return answer
    return None


def _small(answer: object, highest: int) -> int | None:
    number = _positive(answer)
    return None if number is None or number > highest else number


def _mhz(answer: object) -> float | None:
    clock = _positive(answer)
    return None if clock is None or clock > ids.MAX_CLOCK_MHZ else float(clock)


def _sm_count(cores: object, capability: tuple[int, int] | None) -> int | None:
    per_sm = ids.cores_per_sm(capability)
    count = _positive(cores)
    if per_sm is None or count is None or count % per_sm:
        return None
    return count // per_sm


def _memory_total(api: Nvml, handle: Any) -> int | None:  # noqa: ANN401 - pynvml has no types
    code, memory = api.ask("nvmlDeviceGetMemoryInfo", handle, ids.MEMORY_V2)
    if code != ids.OK:  # the total is the same in both versions; only 'used' differs
        code, memory = api.ask("nvmlDeviceGetMemoryInfo", handle)
    total = getattr(memory, "total", None)
    return total if isinstance(total, int) and total > 0 else None


def _has_os_memory(code: int) -> bool | None:
    """Return whether the GPU is a NUMA node of the machine: only such GPUs tell its number."""
    if code in (ids.OK, ids.NOT_SUPPORTED):
        return code == ids.OK
    return None


def _temp_slowdown_c(api: Nvml, handle: Any) -> float | None:  # noqa: ANN401 - pynvml has no types
    """Return the temperature at which the GPU slows itself down; None if it tells neither that nor its margin."""
    threshold = _positive(api.ask("nvmlDeviceGetTemperatureThreshold", handle, ids.THRESHOLD_SLOWDOWN)[1])
    if threshold is None:
        return _by_margin(api, handle)
    return float(threshold) if threshold <= ids.MAX_TEMP_C else None


def _by_margin(api: Nvml, handle: Any) -> float | None:  # noqa: ANN401 - pynvml has no types
    """Return it from the temperature now, its margin to the highest operating one, and the slowdown's to that."""
    now = _positive(api.ask("nvmlDeviceGetTemperature", handle, 0)[1])
    margin = api.ask("nvmlDeviceGetMarginTemperature", handle)[1]
    address = ctypes.cast(handle, ctypes.c_void_p).value
    if now is None or not isinstance(margin, int) or address is None:
        return None
    _, fields = FieldBatch(api, address, [(ids.FI_SLOWDOWN_MARGIN, 0)]).read()
    code, beyond = fields[ids.FI_SLOWDOWN_MARGIN, 0]
    slowdown_c = now + margin - beyond
    return float(slowdown_c) if code == ids.OK and 0 < slowdown_c <= ids.MAX_TEMP_C else None


def _mig_enabled(code: int, modes: list[int] | None) -> bool | None:
    if code in (ids.NOT_SUPPORTED, ids.FUNCTION_NOT_FOUND):
        return False  # a GPU or driver without MIG
    return None if modes is None else modes[0] == 1


def _mig_devices(api: Nvml, handle: Any) -> tuple[str, ...]:  # noqa: ANN401 - pynvml has no types
    """Return the names of a GPU's slices; instance numbers may have gaps."""
    slots = api.ask("nvmlDeviceGetMaxMigDeviceCount", handle)[1] or 0
    slices = (api.ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, slot) for slot in range(slots))
    names = (_text(api.ask("nvmlDeviceGetUUID", found)[1]) for code, found in slices if code == ids.OK)
    return tuple(name for name in names if name)
