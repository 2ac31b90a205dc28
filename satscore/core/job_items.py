"""From what was found about the job to the blocks of the summary that say it. No number is computed after this."""

import math
from collections.abc import Sequence

import numpy as np

from satscore.core.job_facts import Suspect
from satscore.core.job_phases import JobPhases, mean_points
from satscore.core.labels import ALL_LABELS, STEADY_LABELS, Label
from satscore.core.loss_parts import loss_tree, points_in
from satscore.core.marks import Mark
from satscore.core.rank_row import RankRow
from satscore.core.readings import BoolArray
from satscore.core.summary import Extreme
from satscore.core.summary_job import (
    ConfidenceItem,
    DipsItem,
    MarkItem,
    PhaseItem,
    PhaseName,
    PhasesItem,
    Quantiles,
    RegimeItem,
    SegmentItem,
    SteadyItem,
    SuspectItem,
)
from satscore.core.units import NS_PER_S, POINTS

MOST_SEGMENTS = 1000
CLOCK_SAMPLING_POINTS = 0.3
"""What reading the clock in samples can add to a score (docs/method.md, "Uncertainty")."""
NAMES: dict[Label, PhaseName] = {
    Label.STARTUP: "startup",
    Label.WARMUP: "warmup",
    Label.STEADY: "steady",
    Label.DIP: "dip",
    Label.TAIL: "tail",
}


def steady_item(job: JobPhases) -> SteadyItem | None:
    """Return the scores of the steady phase; None where there is none."""
    score, upper = job.score_points(STEADY_LABELS), job.score_points(STEADY_LABELS, "sat_hi")
    attainable = job.score_points(STEADY_LABELS, "attainable")
    if not job.is_steady or score is None or upper is None or attainable is None:
        return None
    chosen = job.chosen(STEADY_LABELS)
    time_ms = job.series.total("time_ms", chosen)
    return SteadyItem(
        time_s=job.time_s(STEADY_LABELS),
        score_pct=score,
        score_hi_pct=upper,
        score_attainable_pct=attainable,
        tensor_score_pct=job.score_points(STEADY_LABELS, "tensor", "tensor_ms"),
        dram_score_pct=job.score_points(STEADY_LABELS, "dram", "dram_ms"),
        coverage_frac=job.complete_ms(STEADY_LABELS) / time_ms if time_ms else 0.0,
        loss=loss_tree(points_in(job.loss_points(STEADY_LABELS))),
    )


def confidence_item(job: JobPhases, bound_uncertainty_frac: float) -> tuple[ConfidenceItem | None, str | None]:
    """Return the interval of the steady score, or why there is none."""
    found, score = job.confidence, job.score_points(STEADY_LABELS)
    if found is None or score is None:
        return None, "fewer than 64 steady windows"
    return ConfidenceItem(
        # Around the score itself: that weighs windows by their complete time, the interval's own mean does not.
        low_pct=max(0.0, score - found.half_width),
        high_pct=min(POINTS, score + found.half_width),
        half_width_pct=found.half_width,
        windows_count=found.n_windows,
        batch_windows_count=found.batch_windows,
        batches_count=found.batches_count,
        dof=found.dof,
        # A mean over several levels is that of no stretch, however exact it is.
        reliable=found.is_reliable and len(job.found.steady_segments) == 1,
        systematic_pct=CLOCK_SAMPLING_POINTS + score * bound_uncertainty_frac,
    ), None


def phases_item(job: JobPhases) -> PhasesItem | None:
    """Return the phases of the run; None where they are not told apart."""
    if job.found.is_short:
        return None
    labels = job.found.labels
    starts = np.flatnonzero(np.r_[True, labels[1:] != labels[:-1]]) if len(labels) else np.empty(0, dtype=np.int64)
    stops = np.r_[starts[1:], len(labels)]
    return PhasesItem(
        phases=[_phase(job, label) for label in Label if (labels == label).any()],
        segments=[
            SegmentItem(label=NAMES[Label(int(labels[a]))], start_s=float(a), stop_s=float(b))
            for a, b in zip(starts[:MOST_SEGMENTS], stops, strict=False)
        ],
        segments_count=len(starts),
        never_steady=job.found.never_steady,
        run_score_pct=job.score_points((Label.STEADY, Label.DIP)),
        start_cost_pct=job.cost_points((Label.STARTUP, Label.WARMUP)),
        dips=_dips(job),
        regimes=[_regime(job, low, high) for low, high in job.found.steady_segments],
    )


def _phase(job: JobPhases, label: Label) -> PhaseItem:
    time_s, whole_s = job.time_s((label,)), job.time_s(ALL_LABELS)
    return PhaseItem(
        label=NAMES[label],
        time_s=time_s,
        share_frac=time_s / whole_s if whole_s else 0.0,
        score_pct=job.score_points((label,)),
    )


def _dips(job: JobPhases) -> DipsItem:
    dips, periodic = job.found.dips, job.periodic
    time_s = math.fsum(dip.duration_s for dip in dips)
    return DipsItem(
        dips_count=len(dips),
        time_s=time_s,
        cost_pct=job.cost_points((Label.DIP,)),
        periodic=periodic is not None,
        period_s=periodic.period_s if periodic else None,
        duration_s=time_s / len(dips) if dips else None,
        # One or two low stretches tell nothing of their cause.
        kind=job.dip_kind if periodic else "unknown" if dips else None,
    )


def _regime(job: JobPhases, low: int, high: int) -> RegimeItem:
    chosen = job.chosen(STEADY_LABELS) & _between(len(job.series), low, high)
    return RegimeItem(start_s=float(low), stop_s=float(high), score_pct=mean_points(job.series, chosen, "sat"))


def _between(n: int, low: int, high: int) -> BoolArray:
    out = np.zeros(n, dtype=np.bool_)
    out[low:high] = True
    return out


def suspect_item(suspect: Suspect) -> SuspectItem:
    """Return a straggler as it stands in the summary."""
    values = {f: getattr(suspect, f) for f in SuspectItem.__struct_fields__ if f != "excess_pct"}
    return SuspectItem(**values, excess_pct=POINTS * suspect.excess_frac)


def mark_items(marks: Sequence[Mark], first_index: int) -> list[MarkItem]:
    """Return the user's marks with times since the first window."""
    return [MarkItem(name=mark.name, at_s=max(0.0, mark.time_ns / NS_PER_S - first_index)) for mark in marks]


def by_score(rows: Sequence[RankRow]) -> list[Extreme]:
    """Return the GPUs that have a score, the lowest first."""
    scored = sorted(
        (row.score_points, row.name.rank, row.name.gpu_index, row.name) for row in rows if row.score_points is not None
    )
    return [
        Extreme(
            rank=name.rank,
            gpu_index=name.gpu_index,
            nvml_index=name.nvml_index,
            hostname=name.hostname,
            score_pct=score_points,
        )
        for score_points, _, _, name in scored
    ]


def quantiles(rows: Sequence[RankRow]) -> Quantiles | None:
    """Return quantiles of the score over GPUs; None for one GPU or none."""
    scores = [row.score_points for row in rows if row.score_points is not None]
    if len(scores) < 2:
        return None
    p5, p50, p95 = np.quantile(scores, (0.05, 0.5, 0.95)).tolist()
    return Quantiles(p5_pct=p5, p50_pct=p50, p95_pct=p95)
