"""What a job keeps of one GPU: its row in the comparison of ranks, of the phases that are judged; else a few sums."""

from collections.abc import Collection

import msgspec

from satscore.core.facts import profile_points
from satscore.core.intervals import THROTTLE_REASONS
from satscore.core.job_series import JobSeries
from satscore.core.labels import ALL_LABELS, Label
from satscore.core.rank_blocks import B, RankBlocks
from satscore.core.rank_row import RankName, RankRow
from satscore.core.run_facts import RankResult
from satscore.core.summarise import SCORE_COVERAGE_FRAC, GpuResult
from satscore.core.sums import Sums, merge_all
from satscore.core.units import PPM, US_PER_S
from satscore.core.window_rows import MILLI

WORK_LABELS = frozenset((Label.WARMUP, Label.STEADY, Label.DIP))
"""From the first to the last work: ranks that start at different times differ in nothing else."""
KEPT_TOTALS = tuple(f"{kind}:{name}" for name in ("engine", "power_module_w") for kind in ("sum", "known_us"))
"""What the notes of a job look at in every GPU."""


def name_of(rank: RankResult, gpu: GpuResult) -> RankName:
    """Return how the user finds a GPU again."""
    return RankName(rank=rank.rank, gpu_index=gpu.info.index, nvml_index=gpu.info.nvml_index, hostname=rank.hostname)


def sums_over(gpu: GpuResult, labels: Collection[Label]) -> Sums:
    """Return a GPU's sums over some phases; over all of them, those of the whole run."""
    if len(labels) == len(ALL_LABELS):
        return gpu.sums
    return merge_all(gpu.phase_sums[label] for label in sorted(labels) if label in gpu.phase_sums)


def row_of(
    rank: RankResult, gpu: GpuResult, labels: frozenset[Label], *, scored: Sums, profile: str, group: str
) -> RankRow:
    """Return the row of one GPU.

    Args:
        rank: Whose GPU.
        gpu: Its results.
        labels: The phases over which it is compared.
        scored: Its sums over the phases of which its score is.
        profile: Key of PROFILES.
        group: GPUs that it is compared with.
    """
    sums, levels = sums_over(gpu, labels), gpu.blocks.total(labels)
    known_us = int(levels[B["known_us"]])

    def share(*columns: str) -> float | None:
        return sum(int(levels[B[c]]) for c in columns) / PPM / known_us if known_us else None

    coverage_frac = _coverage_frac(scored, profile)
    known_engine_us = gpu.sums.total("known_us:engine")
    return RankRow(
        name=name_of(rank, gpu),
        group=group,
        known_s=known_us / US_PER_S,
        engine=share("v1") if known_us else sums.mean("engine"),
        busy=share("v2"),
        busy_lo=share("v2_lo"),
        saturation=share("v4"),
        idle_frac=share("idle_long", "idle_short"),
        comm_frac=share("comm"),
        wait_frac=share("wait", "comm_or_wait"),
        # Of the whole run: a rank that never works has no phases of its own.
        engine_low_frac=gpu.sums.total("engine_low_us") / known_engine_us if known_engine_us else None,
        score_points=profile_points(scored, profile) if coverage_frac >= SCORE_COVERAGE_FRAC else None,
        coverage_frac=coverage_frac,
        sm_clock_mhz=sums.mean("sm_clock_mhz"),
        temp_max_c=sums.maxima["temp_gpu_c"] / MILLI if "temp_gpu_c" in sums.maxima else None,
        throttle={reason: sums.mean(f"throttle_{reason}") for reason in THROTTLE_REASONS},
        ecc_uncorrected_count=gpu.sums.counts.get("ecc_uncorrected_count"),
        xid_count=gpu.sums.counts.get("xid_count"),
    )


def _coverage_frac(sums: Sums, profile: str) -> float:
    time_us = sums.total("time_us")
    return sums.total(f"complete_us:{profile}") / time_us if time_us else 0.0


def without_state(gpu: GpuResult) -> GpuResult:
    """Return a GPU without what only the job needs of it."""
    return msgspec.structs.replace(gpu, phase_sums={}, series=JobSeries(), blocks=RankBlocks())


def light(gpu: GpuResult) -> GpuResult:
    """Return what the notes and bounds of the job need of a GPU: there may be 10,000."""
    totals = {name: gpu.sums.total(name) for name in KEPT_TOTALS}
    return without_state(msgspec.structs.replace(gpu, sums=Sums(totals=totals)))
