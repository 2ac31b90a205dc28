"""Counters in the groups by which people ask for them, and how much of each a source could read."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import msgspec

from satscore.core.fields import INDEX, Quality, Reading

GROUPS: dict[str, tuple[str, ...]] = {
    "pipes": (
        "engine_active_frac",
        "sm_active_frac",
        "sm_occupancy_frac",
        "tensor_active_frac",
        "tensor_hmma_active_frac",
        "tensor_imma_active_frac",
        "tensor_dfma_active_frac",
        "tensor_dmma_active_frac",
        "fp64_active_frac",
        "fp32_active_frac",
        "fp16_active_frac",
        "integer_active_frac",
        "dram_active_frac",
    ),
    "clocks": ("sm_clock_mhz", "mem_clock_mhz"),
    "power GPU": ("power_gpu_w", "power_limit_gpu_w", "energy_gpu_j"),
    "power module": ("power_module_w", "power_limit_module_w", "energy_module_j", "power_cpu_w"),
    "throttle reasons": (
        "throttle_power_frac",
        "throttle_thermal_frac",
        "throttle_hw_frac",
        "throttle_board_frac",
        "throttle_sync_boost_frac",
        "throttle_app_clocks_frac",
    ),
    "memory": ("memory_used_bytes",),
    "temperatures": ("temp_gpu_c", "temp_mem_c"),
    "utilisation": ("gpu_util_frac",),
    "nvlink": ("nvlink_tx_bytes_s", "nvlink_rx_bytes_s"),
    "pcie": ("pcie_tx_bytes_s", "pcie_rx_bytes_s"),
    "c2c": ("c2c_tx_bytes_s", "c2c_rx_bytes_s"),
    "errors": ("ecc_corrected_count", "ecc_uncorrected_count", "xid_count", "remapped_rows_count"),
    "link health": (
        "pcie_generation",
        "pcie_lanes_count",
        "pcie_replay_count",
        "nvlink_active_count",
        "nvlink_error_count",
    ),
}
"""Every field of a reading, in the groups by which people ask for them."""

GroupStatus = Literal["known", "partly", "unknown", "absent"]


class CounterGroup(msgspec.Struct, frozen=True, kw_only=True):
    """How much of one group of counters a source could read.

    ``absent``: this kind of GPU has none of it, which is no gap. ``missing`` has, per field that was not
    known on every GPU, the reason. ``rare`` are fields that are read too seldom to be seen here.
    """

    name: str
    status: GroupStatus
    missing: dict[str, str]
    rare: list[str] = []


def group_counters(
    readings: Sequence[Reading],
    reason_texts: Mapping[Quality, str],
    absent: Collection[str] = (),
    rare: Collection[str] = (),
) -> list[CounterGroup]:
    """Return how much of each group was read on all GPUs.

    A field is known on a GPU if any reading has it: error counts stand in few readings by design.

    Args:
        readings: Of any GPUs; none means that nothing is known.
        reason_texts: What the reasons are called.
        absent: Fields that these GPUs cannot have.
        rare: Fields that the source reads so seldom that it may not have come to them.
    """
    return [_group(name, fields, readings, reason_texts, absent, rare) for name, fields in GROUPS.items()]


def _group(
    name: str,
    fields: Sequence[str],
    readings: Sequence[Reading],
    reason_texts: Mapping[Quality, str],
    absent: Collection[str],
    rare: Collection[str],
) -> CounterGroup:
    reasons = {field: _reason(field, readings) for field in fields}
    unseen = [field for field, reason in reasons.items() if field in rare and readings and reason is Quality.NOT_READ]
    fields = [field for field in fields if field not in unseen]
    missing = {field: reason_texts[reasons[field]] for field in fields if reasons[field] is not Quality.OK}
    if not missing:
        status: GroupStatus = "known"
    elif set(missing) == set(fields) and set(fields) <= set(absent):
        status = "absent"
    else:
        status = "partly" if len(missing) < len(fields) else "unknown"
    return CounterGroup(name=name, status=status, missing=missing, rare=unseen)


def _reason(field: str, readings: Sequence[Reading]) -> Quality:
    """Return OK if every GPU had the field at least once, else the reason that the first GPU without it gave last."""
    by_gpu: dict[int, list[Quality]] = {}
    for reading in readings:
        by_gpu.setdefault(reading.gpu, []).append(Quality(reading.quality[INDEX[field]]))
    for qualities in by_gpu.values():
        if qualities[-1] is Quality.GPU_LOST:
            return Quality.GPU_LOST
        if Quality.OK not in qualities:
            told = [quality for quality in qualities if quality is not Quality.NOT_READ]
            return (told or qualities)[-1]
    return Quality.OK if by_gpu else Quality.NOT_READ
