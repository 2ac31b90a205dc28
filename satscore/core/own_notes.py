"""What the numbers of a run themselves call for: sentences for its notes."""

from collections.abc import Sequence

from satscore.core.placement import is_shared
from satscore.core.summarise import GpuResult
from satscore.core.summary import Score

IDLE_GPU_ENGINE_FRAC = 0.02
STALE_CEILING_FRAC = 0.05
SLOW_READS_S = 1.0


def own_notes(gpus: Sequence[GpuResult], score: Score, *, dtype: str | None, period_s: float) -> list[str]:
    """Return what the numbers themselves call for.

    Args:
        gpus: Those that count.
        score: The job's.
        dtype: As stated by the user, or None.
        period_s: Nominal time between reads.
    """
    notes = [*_placement_notes(gpus), *_idle_note(gpus)]
    if score.bound_exceeded_frac:
        notes.append(
            f"a counter was above 102 % of its bound for {score.bound_exceeded_frac:.1%} of the time: "
            "wrong model or bound"
        )
    if (score.ceiling_exceeded_frac or 0.0) > STALE_CEILING_FRAC:
        notes.append(
            f"the attainable rate was exceeded for {score.ceiling_exceeded_frac:.0%} of the time: its entry is stale"
        )
    if score.score_pct is None:
        return notes
    lacking = sorted({g.model.name for g in gpus if g.model and dtype and dtype not in g.model.flops_peak})
    if lacking:
        notes.append(f"--dtype {dtype}: {', '.join(lacking)} has no such tensor rate, so it decides nothing")
    if any(g.bounds.ceilings_at_other_cap for g in gpus):
        notes.append("attainable rates are of another power cap, or of a vBoost level that may not be ours: grade C")
    missing = sorted({f"{r} of {g.model.name}" for g in gpus if g.model for r in g.bounds.ceilings_missing})
    if missing:
        notes.append(f"no attainable rate is known for {', '.join(missing)}: 100 % is taken, S_att is a lower value")
    if period_s >= SLOW_READS_S:
        notes.append("reads of 1 s or more: windows are as long as the reads, the clock part is a lower bound")
    return notes


def _placement_notes(gpus: Sequence[GpuResult]) -> list[str]:
    """Return what must be said about whose GPUs these are."""
    notes = []
    shared = [gpu_number(gpu.info.nvml_index, gpu.info.index) for gpu in gpus if is_shared(gpu.shared_frac)]
    if shared:
        notes.append(
            f"GPU {', '.join(shared)}: processes of others compute there too; counters are of the whole GPU: grade C"
        )
    if any(gpu.use == "assumed" for gpu in gpus):
        notes.append(
            "the GPUs here differ and CUDA counts the fastest first: which ones the command uses is assumed from the "
            "driver's order; set CUDA_DEVICE_ORDER=PCI_BUS_ID or name them by UUID"
        )
    return notes


def _idle_note(gpus: Sequence[GpuResult]) -> list[str]:
    idle = [gpu_number(gpu.info.nvml_index, gpu.info.index) for gpu in gpus if is_idle(gpu)]
    if not idle:
        return []
    which = f"GPU {', '.join(idle)} had no work"
    if len(idle) == len(gpus):
        return [f"{which}: did the command use these GPUs?"]
    return [f"{which} and counts in the mean: set CUDA_VISIBLE_DEVICES to the GPUs of this run"]


def gpu_number(nvml_index: int | None, index: int) -> str:
    """Return the number by which people know a GPU: the driver's, where there is one."""
    return str(index if nvml_index is None else nvml_index)


def is_idle(gpu: GpuResult) -> bool:
    """Return whether a GPU is known to have had no work."""
    engine = gpu.sums.mean("engine")
    return engine is not None and engine < IDLE_GPU_ENGINE_FRAC
