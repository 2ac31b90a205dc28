"""What the numbers of a run themselves call for: sentences for its notes."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from satscore.core.placement import is_shared
from satscore.core.summarise import GpuResult
from satscore.core.summary import RunInfo
from satscore.core.summary_gpu import Score

IDLE_GPU_ENGINE_FRAC = 0.02
SLOW_READS_S = 0.9
"""Less than the second from which on it holds: the last read of a run is short."""
CAP_EXCEEDED_FRAC = 1.1
"""A mean so far above a cap is no overshoot of the regulation: the cap is not the one in force."""
START_FRAC = 0.1
"""So much of a short run may be start-up without a word."""
MISSED_FRAC, MISSED_S = 0.05, 1.0
"""So much of a command may lie outside of what was read without a word: opening the counters takes time."""


def own_notes(
    gpus: Sequence[GpuResult], score: Score, *, dtype: str | None, interval_mean_s: float | None
) -> list[str]:
    """Return what the numbers themselves call for.

    Args:
        gpus: Those that count.
        score: The job's.
        dtype: As stated by the user, or None.
        interval_mean_s: Mean length of a reading; None: there is none.
    """
    notes = [*_placement_notes(gpus), *_idle_note(gpus), *_cap_notes(gpus)]
    if score.score_pct is None:
        return notes
    lacking = sorted({g.model.name for g in gpus if g.model and dtype and dtype not in g.model.flops_peak})
    if lacking:
        notes.append(f"--dtype {dtype}: {', '.join(lacking)} has no such tensor rate, so it decides nothing")
    if any(g.bounds.ceilings_at_other_cap for g in gpus):
        notes.append("attainable rates are of another power cap, or of a vBoost level that may not be ours: grade C")
    turns = gpu_numbers(g.info for g in gpus if g.info.pipes_multiplexed)
    if turns:
        notes.append(f"GPU {turns}: pipe counters take turns, each saw a part of the time only: grade C")
    missing = sorted({f"{r} of {g.model.name}" for g in gpus if g.model for r in g.bounds.ceilings_missing})
    if missing:
        notes.append(f"no attainable rate is known for {', '.join(missing)}: 100 % is taken, S_att is a lower value")
    if (interval_mean_s or 0.0) >= SLOW_READS_S:
        notes.append(
            f"reads of {interval_mean_s:.2g} s: no window is shorter than they are, the clock part is a lower bound"
        )
    return notes


def startup_note(startup_s: float, whole_s: float) -> str | None:
    """Return how much of a run without phases passed before the first work on a GPU, where that matters."""
    if whole_s <= 0 or startup_s < START_FRAC * whole_s or startup_s >= whole_s:
        return None
    return f"the first {startup_s:.0f} s had no work on the GPU: start-up, which is in S but in no finding"


def start_note(run: RunInfo) -> str | None:
    """Return how much of a measured command was over before the first read, where that matters.

    Time after the first read that nobody read is in the coverage.
    """
    if run.kind != "command" or run.duration_s is None or not run.observed_s:
        return None
    missed_s = run.duration_s - run.observed_s
    if missed_s <= max(MISSED_S, MISSED_FRAC * run.duration_s):
        return None
    return (
        f"the first {missed_s:.1f} of the command's {run.duration_s:.1f} s are in no number: "
        "opening the counters took so long"
    )


def _cap_notes(gpus: Sequence[GpuResult]) -> list[str]:
    """Return which caps that the site states are contradicted by the power that was measured."""
    caps: dict[tuple[float, str], float] = {}
    for gpu in gpus:
        cap_w, mean_w = gpu.info.module_cap_w, gpu.sums.mean("power_module_w")
        if cap_w is not None and mean_w is not None and mean_w > CAP_EXCEEDED_FRAC * cap_w:
            key = cap_w, gpu.info.module_cap_source or "source not recorded"
            caps[key] = max(caps.get(key, 0.0), mean_w)
    return [
        f"the stated cap of {cap_w:g} W cannot be right: the module drew {mean_w:.0f} W on average ({source})"
        for (cap_w, source), mean_w in caps.items()
    ]


def _placement_notes(gpus: Sequence[GpuResult]) -> list[str]:
    """Return what must be said about whose GPUs these are."""
    notes = []
    shared = gpu_numbers(gpu.info for gpu in gpus if is_shared(gpu.shared_frac))
    if shared:
        notes.append(f"GPU {shared}: processes of others compute there too; counters are of the whole GPU: grade C")
    if any(gpu.use == "assumed" for gpu in gpus):
        notes.append(
            "the GPUs here differ and CUDA counts the fastest first: which ones the command uses is assumed from the "
            "driver's order; set CUDA_DEVICE_ORDER=PCI_BUS_ID or name them by UUID"
        )
    return notes


def _idle_note(gpus: Sequence[GpuResult]) -> list[str]:
    idle = [gpu.info for gpu in gpus if is_idle(gpu)]
    if not idle or len(idle) < len(gpus):
        return []
    # One idle GPU among others is a finding.
    return [f"GPU {gpu_numbers(idle)} had no work: did the command use these GPUs?"]


class Numbered(Protocol):
    """A GPU in any of its forms."""

    @property
    def nvml_index(self) -> int | None:
        """The driver's number."""

    @property
    def index(self) -> int:
        """The position among the GPUs of the rank."""


def gpu_numbers(gpus: Iterable[Numbered]) -> str:
    """Return the numbers by which people know GPUs, ``0, 1``."""
    return ", ".join(gpu_number(gpu.nvml_index, gpu.index) for gpu in gpus)


def gpu_number(nvml_index: int | None, index: int) -> str:
    """Return the number by which people know a GPU: the driver's, where there is one."""
    return str(index if nvml_index is None else nvml_index)


def is_idle(gpu: GpuResult) -> bool:
    """Return whether a GPU is known to have had no work."""
    engine = gpu.sums.mean("engine")
    return engine is not None and engine < IDLE_GPU_ENGINE_FRAC
