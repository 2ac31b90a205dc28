"""What the counters say of the time over which the command reported its progress."""

from collections.abc import Sequence

import numpy as np

from satscore.core.job_phases import mean_points
from satscore.core.job_series import CENTI, JobSeries
from satscore.core.progress import JobNumbers
from satscore.core.readings import BoolArray
from satscore.core.summarise import FULL_COVERAGE_FRAC, GpuResult
from satscore.core.summary_gpu import Rates
from satscore.core.units import NS_PER_S


def job_numbers(
    series: JobSeries, range_ns: tuple[int, int] | None, rates: Rates, gpus: Sequence[GpuResult], dtype: str | None
) -> JobNumbers:
    """Return the numbers of the job that progress is set against.

    Args:
        series: Of all GPUs that count.
        range_ns: Wall time of the first and the last call; None: there is no range.
        rates: Of the job over the whole run.
        gpus: Those that count.
        dtype: As stated by the user.
    """
    inside = _inside(series, range_ns)
    energy_j = {"gpu": rates.energy_gpu_j, "module": rates.energy_module_j}
    power_w = {scope: _power_w(series, scope, inside, len(gpus)) for scope in ("gpu", "module")}
    return JobNumbers(
        power_w={scope: value for scope, value in power_w.items() if value is not None},
        energy_j={scope: value for scope, value in energy_j.items() if value is not None},
        tensor_score_pct=mean_points(series, inside, "tensor", "tensor_ms"),
        dtype=dtype,
        peak_flops_s=_peak_flops_s(gpus, dtype),
    )


def _inside(series: JobSeries, range_ns: tuple[int, int] | None) -> BoolArray:
    """Return which whole windows lie within a range of wall time; shape (n,)."""
    seconds = series.first_index + np.arange(len(series))
    if range_ns is None:
        return np.zeros(len(series), dtype=np.bool_)
    first, last = range_ns
    chosen: BoolArray = (seconds >= first // NS_PER_S) & (seconds <= last // NS_PER_S)
    return chosen


def _power_w(series: JobSeries, scope: str, inside: BoolArray, gpus_count: int) -> float | None:
    """Return the mean power of all GPUs together, W; None where it was unknown for more than 5 % of the time."""
    known_ms = series.total(f"power_{scope}_ms", inside)
    if known_ms == 0 or known_ms < FULL_COVERAGE_FRAC * series.total("time_ms", inside):
        return None
    return series.total(f"power_{scope}", inside) / known_ms / CENTI * gpus_count


def _peak_flops_s(gpus: Sequence[GpuResult], dtype: str | None) -> float | None:
    """Return the dense peak of all GPUs for a number format; None where one of them has none."""
    peaks = [gpu.model.flops_peak.get(dtype) if gpu.model and dtype else None for gpu in gpus]
    known = [peak for peak in peaks if peak is not None]
    return sum(known) if known and len(known) == len(peaks) else None
