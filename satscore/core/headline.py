"""The number to print first: of which part of the run it is, and how sure."""

from collections.abc import Sequence

from satscore.core.job_items import confidence_item
from satscore.core.job_phases import JobPhases
from satscore.core.own_notes import is_idle
from satscore.core.summarise import GpuResult
from satscore.core.summary import Headline
from satscore.core.summary_gpu import Score
from satscore.core.summary_job import SteadyItem
from satscore.core.units import NS_PER_S
from satscore.core.windows import WINDOW_NS

SHORT_RUN_WINDOWS = 120


def headline_of(
    phases: JobPhases, steady: SteadyItem | None, score: Score, gpus: Sequence[GpuResult], dtype: str | None
) -> Headline:
    """Return the headline: of the steady phase where there is one, else of the whole run.

    Args:
        phases: Of the job.
        steady: Scores of its steady phase, where there is one.
        score: Of the whole run.
        gpus: Those that count.
        dtype: Tensor data type stated by the user, whose peak is one of the bounds.
    """
    if score.score_pct is None:
        return Headline(
            kind="none",
            score_pct=None,
            score_hi_pct=None,
            short_run=False,
            reason=score.missing["score_pct"],
            ci95=None,
            ci_reason="there is no score",
        )
    is_short = steady is None and phases.found.is_short and _is_brief(score, gpus)
    if steady:
        interval, why_none = confidence_item(phases, _bound_uncertainty_frac(gpus, dtype))
    else:
        interval, why_none = None, _why_not_steady(phases, is_short=is_short)
    shown = steady or score
    return Headline(
        kind="steady" if steady else "total",
        score_pct=shown.score_pct,
        score_hi_pct=shown.score_hi_pct,
        short_run=is_short,
        reason=None,
        ci95=interval,
        ci_reason=why_none,
    )


def _why_not_steady(phases: JobPhases, *, is_short: bool) -> str:
    if is_short:
        return "a short run: fewer than 120 windows of work"
    if phases.found.never_steady:
        return "the level drifts throughout: another stretch would have another score"
    return "there is no steady phase whose counters are known"


def _is_brief(score: Score, gpus: Sequence[GpuResult]) -> bool:
    """Return whether there was little work; a long run without any is not short."""
    is_over_soon = score.scope_gpu_s < len(gpus) * SHORT_RUN_WINDOWS * WINDOW_NS / NS_PER_S
    return is_over_soon or not all(is_idle(gpu) for gpu in gpus)


def _bound_uncertainty_frac(gpus: Sequence[GpuResult], dtype: str | None) -> float:
    """Return the largest relative uncertainty of the peaks that S divides by."""
    keys = ("dram_peak_bytes_s", f"flops_peak.{dtype or 'bf16'}")
    models = {gpu.model.id: gpu.model for gpu in gpus if gpu.model}.values()
    return max((m.numbers[key].uncertainty_frac for m in models for key in keys if key in m.numbers), default=0.0)
