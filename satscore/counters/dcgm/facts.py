"""What an engine says about its GPUs once, as the facts that choose a hardware model. Pure."""

from collections.abc import Mapping

import msgspec

from satscore.core.gpu import GpuInfo
from satscore.core.units import MIB
from satscore.counters import nvml_ids
from satscore.counters.dcgm import ids
from satscore.counters.dcgm.wire import EngineGpu, StaticValue

_Facts = Mapping[int, StaticValue]


def uuid_of(gpu: EngineGpu) -> str | None:
    """Return an engine's UUID of a GPU."""
    return _text(gpu.static, ids.UUID)


def info_of(gpu: EngineGpu, index: int) -> GpuInfo:
    """Return the facts of a GPU as the engine tells them.

    Args:
        gpu: The engine's answer.
        index: Its position in the run.
    """
    facts = gpu.static
    total_mib = _number(facts, ids.MEMORY_TOTAL_MIB)
    return GpuInfo(
        index=index,
        nvml_index=_whole(facts, ids.NVML_INDEX, 0),
        uuid=_text(facts, ids.UUID),
        name=_text(facts, ids.NAME),
        pci_bus_id=_text(facts, ids.PCI_BUS_ID),
        pci_device_id=_whole(facts, ids.PCI_DEVICE_ID, 1),
        memory_total_bytes=round(total_mib * MIB) if total_mib else None,
        sm_clock_max_mhz=_mhz(facts, ids.SM_CLOCK_MAX),
        mem_clock_max_mhz=_mhz(facts, ids.MEM_CLOCK_MAX),
        compute_capability=_capability(_whole(facts, ids.COMPUTE_CAPABILITY, 1)),
        power_limit_gpu_w=power_limit_w(gpu),
        mig_enabled=_flag(facts, ids.MIG_MODE),
        driver_version=_text(facts, ids.DRIVER_VERSION),
        cuda_driver_version=_cuda(_whole(facts, ids.CUDA_VERSION, 1)),
        temp_slowdown_c=_number(facts, ids.TEMP_SLOWDOWN),
        pcie_generation_max=_whole(facts, ids.PCIE_GENERATION_MAX, 1),
        pcie_lanes_max_count=_whole(facts, ids.PCIE_LANES_MAX, 1),
        remapped_rows_count=_sum(facts, ids.REMAPPED_ROWS),
        remap_pending=_flag(facts, ids.REMAP_PENDING),
        remap_failed=_flag(facts, ids.REMAP_FAILED),
    )


def completed(known: GpuInfo, told: GpuInfo) -> GpuInfo:
    """Return facts of NVML, completed by those of the engine where NVML has none."""
    lacking = {name for name in GpuInfo.__struct_fields__ if getattr(known, name) is None}
    return msgspec.structs.replace(known, **{name: getattr(told, name) for name in lacking})


def power_limit_w(gpu: EngineGpu) -> float | None:
    """Return the power limit in force, W."""
    limits = (_number(gpu.static, field_id) for field_id in ids.POWER_LIMITS)
    return next((limit for limit in limits if limit and limit <= nvml_ids.MAX_POWER_W), None)


def _number(facts: _Facts, field_id: int) -> float | None:
    value = facts.get(field_id)
    return None if value is None or isinstance(value, str) else float(value)


def _whole(facts: _Facts, field_id: int, lowest: int) -> int | None:
    value = _number(facts, field_id)
    return int(value) if value is not None and lowest <= value < 0xFFFF_FFFF else None


def _flag(facts: _Facts, field_id: int) -> bool | None:
    value = _number(facts, field_id)
    return None if value is None else value == 1


def _text(facts: _Facts, field_id: int) -> str | None:
    value = facts.get(field_id)
    return value.strip() or None if isinstance(value, str) else None


def _mhz(facts: _Facts, field_id: int) -> float | None:
    clock = _number(facts, field_id)
    return clock if clock is not None and 0 < clock <= nvml_ids.MAX_CLOCK_MHZ else None


def _sum(facts: _Facts, field_ids: tuple[int, ...]) -> int | None:
    known = [value for value in (_whole(facts, i, 0) for i in field_ids) if value is not None]
    return sum(known) if known else None


def _capability(packed: int | None) -> tuple[int, int] | None:
    """The major version is in the upper 16 bits: what the engine does, where its header says 32."""
    return None if packed is None else (packed >> 16, packed & 0xFFFF)


def _cuda(version: int | None) -> str | None:
    return None if version is None else f"{version // 1000}.{version % 1000 // 10}"
