"""How a rank is doing now, in one row: what its leader gets as often as it scores."""

from collections.abc import Sequence

import numpy as np

from satscore.core.gpu_series import GpuSeries
from satscore.core.readings import ReadingTable
from satscore.core.units import PPM
from satscore.fleet.wire import LiveRank

LAST_ROWS = 5
"""Windows over which the score of now is taken: steps are as long as a second or two."""
_HELD_DOWN = ("throttle_power_frac", "throttle_thermal_frac", "throttle_hw_frac")


def live_rank(
    rank: int, hostname: str, table: ReadingTable, series: Sequence[GpuSeries], *, phase: int | None, has_ended: bool
) -> LiveRank:
    """Return the row of a rank.

    Args:
        rank: Its number in the job.
        hostname: Its node.
        table: What was read last, of the GPUs that count; may be empty.
        series: Of the same GPUs.
        phase: Code of the label of the last window that has one.
        has_ended: Whether its command has ended.
    """
    held_down = [share for name in _HELD_DOWN if (share := _mean(table, name)) is not None]
    module_w = _mean(table, "power_module_w")
    scope = "gpu" if module_w is None else "module"
    return LiveRank(
        rank=rank,
        hostname=hostname,
        gpus_count=len(series),
        has_ended=has_ended,
        scored_s=max((one.first_index + len(one) - 1 for one in series if len(one)), default=None),
        score_ppm=_score_ppm(series),
        engine_ppm=_ppm(_mean(table, "engine_active_frac")),
        sm_ppm=_ppm(_mean(table, "sm_active_frac")),
        tensor_ppm=_ppm(_mean(table, "tensor_active_frac")),
        dram_ppm=_ppm(_mean(table, "dram_active_frac")),
        clock_mhz=_whole(_mean(table, "sm_clock_mhz")),
        power_w=_whole(_mean(table, f"power_{scope}_w")),
        power_cap_w=_whole(_mean(table, f"power_limit_{scope}_w")),
        temp_max_c=_whole(_most(table, "temp_gpu_c")),
        throttle_ppm=_ppm(max(held_down, default=None)),
        phase=phase,
    )


def _score_ppm(series: Sequence[GpuSeries]) -> int | None:
    """Return the score over the last windows that are complete, ppm."""
    sat = known_ms = 0
    for one in series:
        begin = max(0, len(one) - LAST_ROWS)
        sat += int(one.column("sat", begin).sum())
        known_ms += int(one.column("complete_ms", begin).sum())
    return sat // known_ms if known_ms else None


def _mean(table: ReadingTable, name: str) -> float | None:
    known = _known(table, name)
    return float(known.mean()) if len(known) else None


def _most(table: ReadingTable, name: str) -> float | None:
    known = _known(table, name)
    return float(known.max()) if len(known) else None


def _known(table: ReadingTable, name: str) -> "np.typing.NDArray[np.float64]":
    column = table.column(name)
    return column[np.isfinite(column)]


def _ppm(share: float | None) -> int | None:
    return None if share is None else round(share * PPM)


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
