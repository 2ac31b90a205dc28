"""Whether stored sums can be sums at all: the limits that every state keeps by how it is made.

A file may be damaged, or written by somebody else. What is outside of these limits would give scores above
100 or numbers beyond 64 bits; what is within them may still be wrong, but is a score.
"""

from collections.abc import Iterable, Mapping
from itertools import repeat

import numpy as np

from satscore.core.bounds import RESOURCES, SCORED
from satscore.core.int_columns import DAMAGED_HINT
from satscore.core.intervals import QUANTITIES
from satscore.core.links import MOST_STATE
from satscore.core.losses import PARTS
from satscore.core.rank_blocks import BLOCK_COLUMNS, B, RankBlocks
from satscore.core.rank_state import GpuState
from satscore.core.readings import IntArray
from satscore.core.sums import Sums
from satscore.core.units import MS_PER_S, PPM, US_PER_S
from satscore.core.window_rows import LEVELS, TIMES
from satscore.errors import RecordError

MOST_WINDOWS = 1 << 33
"""Seconds of a run: 272 years. All sums but counts are limited by it."""
MOST_KNOWN_US = (2**63 - 1) // PPM
"""Known time of a GPU whose shares still fit into 64 bits: 106 days."""
MOST_PER_MS = (2**31 - 1) // MS_PER_S
"""Means in the series (power, link and engine shares) are cut there, so that a GPU's fit into 32 bits."""
NESTED = ("v4", "v3", "v2_lo", "v2", "v1")
"""Levels of blocks, the lowest first."""
_NESTED = np.array([B[name] for name in NESTED])

_SHARE_TIMES = {
    "complete_ms": ("sat", "sat_hi", "attainable", *(f"loss:{part}" for part in PARTS)),
    "tensor_ms": ("tensor",),
    "dram_ms": ("dram",),
    "levels_ms": ("v2", "v2_squared"),
}
_MEAN_TIMES = {"engine_ms": "engine", "host_tx_ms": "host_tx"} | {
    f"power_{scope}_ms": f"power_{scope}" for scope in ("gpu", "module")
}


def _sums_limits(profile: str) -> list[tuple[str, int, tuple[str, ...]]]:
    """Return which totals are limited by which other one, and by how much of it."""
    times = tuple(name for name in TIMES if name != "time_us")
    known = tuple(f"known_us:{name}" for name in QUANTITIES)
    headline = (
        "attainable",
        *(f"by:{resource}" for resource in RESOURCES),
        *(f"{tree}:{part}" for tree in ("loss", "loss_attainable") for part in PARTS),
    )
    limits = [
        ("windows", US_PER_S, ("time_us",)),
        ("time_us", 1, (*times, *known)),
        ("time_us", PPM, tuple(f"{side}:{each}" for each in SCORED for side in ("lo", "hi"))),
        ("levels_us", PPM, (*LEVELS, "v2_squared")),
    ]
    for each in SCORED:
        more = headline if each == profile else ()
        limits.append((f"complete_us:{each}", PPM, (f"sat:{each}", f"sat_hi:{each}", *more)))
    return limits


_SUMS_LIMITS = {profile: _sums_limits(profile) for profile in SCORED}


def check_gpu(gpu: GpuState, profile: str, where: str) -> None:
    """Check what was added up of one GPU, but for its series.

    Args:
        gpu: Its state.
        profile: Key of PROFILES that it was made for.
        where: File and key, for messages.

    Raises:
        RecordError: No readings give such sums; names the key.
    """
    check_sums(gpu.sums, profile, f"{where}.sums")
    for label, sums in gpu.phase_sums.items():
        check_sums(sums, profile, f"{where}.phase_sums[{int(label)}]")
    check_blocks(gpu.blocks, f"{where}.blocks")


def check_sums(sums: Sums, profile: str, where: str) -> None:
    """Check the sums of one GPU; arguments and errors are those of ``check_gpu``."""
    totals = sums.totals
    families: tuple[Iterable[int], ...] = (
        totals.values(),
        sums.clock_us.values(),
        sums.quality_us.values(),
        sums.counts.values(),
        sums.pcie_us.values(),
        sums.nvlink_us.values(),
        (sums.read_us,),
    )
    if min(map(min, filter(None, families))) < 0:
        raise RecordError(f"{where}: an amount is negative", hint=DAMAGED_HINT)
    if totals.get("windows", 0) > MOST_WINDOWS:
        raise RecordError(f"{where}.windows: {totals['windows']} s are no run", hint=DAMAGED_HINT)
    for name, time_us in (("pcie_us", sums.pcie_us), ("nvlink_us", sums.nvlink_us)):
        if sum(time_us.values()) > sums.read_us or max(time_us, default=0) >= MOST_STATE:
            raise RecordError(f"{where}.{name}: no states of links within {sums.read_us} us", hint=DAMAGED_HINT)
    for over, factor, names in _SUMS_LIMITS.get(profile, ()):
        limit = factor * totals.get(over, 0)
        if max(map(totals.get, names, repeat(0))) > limit:
            name = max(names, key=lambda each: totals.get(each, 0))
            raise RecordError(
                f"{where}.{name}: {totals[name]} exceeds the {limit} that {over} allows", hint=DAMAGED_HINT
            )


def check_blocks(blocks: RankBlocks, where: str) -> None:
    """Check the blocks of one GPU; arguments and errors are those of ``check_gpu``."""
    rows = np.array([row for _, row in blocks.items()], dtype=np.int64).reshape(-1, len(BLOCK_COLUMNS))
    known_us, shares = rows[:, B["known_us"]], rows[:, 1:]
    longest_us = min(blocks.length_s * US_PER_S, MOST_KNOWN_US)
    if not all(0 <= each <= longest_us for each in known_us.tolist()) or sum(known_us.tolist()) > MOST_KNOWN_US:
        raise RecordError(f"{where}.known_us: not a time within blocks of {blocks.length_s} s", hint=DAMAGED_HINT)
    # Below 0, an integer without a sign is above any share: one comparison for both ends.
    wrong = shares.view(np.uint64) > (PPM * known_us).view(np.uint64)[:, None]
    if wrong.any():
        name = BLOCK_COLUMNS[1 + int(np.argmax(wrong.any(axis=0)))]
        raise RecordError(f"{where}.{name}: not a share of the time that is known", hint=DAMAGED_HINT)
    levels = rows[:, _NESTED]
    if (levels[:, 1:] < levels[:, :-1]).any():
        raise RecordError(f"{where}: levels are not nested: {' <= '.join(NESTED)}", hint=DAMAGED_HINT)


def check_series(columns: Mapping[str, IntArray], gpus_count: int, where: str) -> None:
    """Check a series of seconds.

    Args:
        columns: name -> shape (n,), of any integer type; one that is not there is 0.
        gpus_count: GPUs that it is the sum of.
        where: File and key, for messages.

    Raises:
        RecordError: No windows give such a series; names the column.
    """
    zero = np.zeros(len(columns["gpus"]), dtype=np.int64)

    def column(name: str) -> IntArray:
        return columns.get(name, zero).astype(np.int64, copy=False)

    _within(columns, ("gpus",), np.full_like(zero, gpus_count), where)
    longest = MS_PER_S * column("gpus")
    _within(columns, ("time_ms", "complete_ms", "tensor_ms", "dram_ms", "levels_ms", *_MEAN_TIMES), longest, where)
    for over, names in _SHARE_TIMES.items():
        _within(columns, names, PPM * column(over), where)
    for over, name in _MEAN_TIMES.items():
        _within(columns, (name,), MOST_PER_MS * column(over), where)


def _within(columns: Mapping[str, IntArray], names: Iterable[str], limit: IntArray, where: str) -> None:
    for name in names:
        values = columns.get(name)
        if values is not None and len(values) and (values.min() < 0 or (values > limit).any()):
            at = int(np.argmax((values < 0) | (values > limit)))
            raise RecordError(f"{where}.{name}[{at}]: {values[at]} is not within 0 and {limit[at]}", hint=DAMAGED_HINT)
