"""What the rules are shown of a job, and what they find."""

import math
from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from satscore.core.facts import Facts, burst_terms, burstiness, facts_from, with_gpu
from satscore.core.job_facts import DipFacts, JobFacts, RegimeFacts
from satscore.core.job_items import NAMES
from satscore.core.job_phases import JobPhases
from satscore.core.job_tree import JobTree, job_leaves
from satscore.core.labels import ALL_LABELS, STEADY_LABELS, Label
from satscore.core.losses import MERGED_PARTS
from satscore.core.rank_row import RankName
from satscore.core.rules import evaluate
from satscore.core.rules_all import RULES
from satscore.core.run_facts import RunFacts
from satscore.core.stragglers import Comparison
from satscore.core.summarise import GpuResult
from satscore.core.summary import FindingItem, NotJudgedItem
from satscore.core.sums import Sums
from satscore.core.units import POINTS, PPM

START = "start"
"""Points lost before the first work of a short run: no rule claims them."""


class GpuFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU as the rules see it."""

    name: RankName
    facts: Facts
    burst: tuple[float, float]
    complete_us: int


class ScopeSums(msgspec.Struct, frozen=True, kw_only=True):
    """Sums of the phases that are judged."""

    whole: Sums
    """Over all GPUs."""
    working: Sums
    """Over those that worked."""


class JobFindings(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules say of a job."""

    findings: list[FindingItem]
    not_judged: list[NotJudgedItem]


def gpu_facts(name: RankName, gpu: GpuResult, sums: Sums, profile: str) -> GpuFacts:
    """Return the facts of one GPU over the phases whose sums are given."""
    facts = with_gpu(facts_from(sums, burstiness([burst_terms(sums)]), profile), gpu.info, gpu.sums)
    complete_us = sums.total(f"complete_us:{profile}")
    return GpuFacts(name=name, facts=facts, burst=burst_terms(sums), complete_us=complete_us)


def find(
    facts: RunFacts,
    phases: JobPhases,
    tree: JobTree | None,
    sums: ScopeSums,
    ranks: Comparison,
    gpus: Sequence[GpuFacts],
    company: tuple[float | None, int],
) -> JobFindings:
    """Judge a job.

    Args:
        facts: Of the run.
        phases: Of the job.
        tree: Its loss tree; None for one GPU.
        sums: Of the judged phases.
        ranks: All GPUs, compared.
        gpus: Those that worked, each by itself.
        company: The largest share of time with processes of others on a GPU, and the most of them at a look.
    """
    whole_us = sums.whole.total(f"complete_us:{facts.profile}")
    chosen = phases.chosen(STEADY_LABELS if phases.is_steady else ALL_LABELS)
    host = facts.hosts.facts(phases.series.first_index, chosen)
    judged = msgspec.structs.replace(
        _scope_facts(facts, phases, tree, sums, gpus, ranks.idle_frac),
        host=host,
        job=_job_facts(facts, phases, tree, ranks, company),
    )
    per_gpu = [
        (gpu.name, msgspec.structs.replace(gpu.facts, host=host), gpu.complete_us / whole_us if whole_us else 0.0)
        for gpu in gpus
    ]
    findings, not_judged = evaluate(RULES, judged, per_gpu=per_gpu)
    return JobFindings(findings=findings, not_judged=not_judged)


def find_unscored(
    facts: RunFacts, sums: ScopeSums, gpus: Sequence[GpuFacts], company: tuple[float | None, int]
) -> JobFindings:
    """Judge a job without a score: what needs one says so, the rest stands. Arguments as for ``find``."""
    judged = msgspec.structs.replace(
        _unscored(facts_from(sums.working, None, facts.profile)),
        job=JobFacts(
            has_pipe_counters=facts.has_pipe_counters,
            no_counters_reason=facts.no_pipes_reason,
            shared_frac=company[0],
            foreign_processes=company[1],
        ),
    )
    per_gpu = [(gpu.name, _unscored(gpu.facts), 0.0) for gpu in gpus]
    findings, not_judged = evaluate(RULES, judged, per_gpu=per_gpu)
    return JobFindings(findings=findings, not_judged=not_judged)


def _unscored(facts: Facts) -> Facts:
    return msgspec.structs.replace(facts, score_points=None, loss_points={})


def _scope_facts(
    facts: RunFacts,
    phases: JobPhases,
    tree: JobTree | None,
    sums: ScopeSums,
    gpus: Sequence[GpuFacts],
    idle_frac: float,
) -> Facts:
    """Return the means of the GPUs that worked, with the loss of the whole job."""
    base = facts_from(sums.working, burstiness([gpu.burst for gpu in gpus]), facts.profile)
    fullest = max((gpu.facts.memory_used_frac for gpu in gpus if gpu.facts.memory_used_frac is not None), default=None)
    base = msgspec.structs.replace(
        base, memory_used_frac=fullest, vboost_level=gpus[0].facts.vboost_level if gpus else None
    )
    if tree is not None:
        whole = facts_from(sums.whole, None, facts.profile)
        loss = job_leaves(tree, sums.whole, idle_frac) | dict.fromkeys(MERGED_PARTS, 0.0)
        base = msgspec.structs.replace(base, score_points=tree.score_points, score_by=whole.score_by, loss_points=loss)
    elif phases.is_steady:
        return msgspec.structs.replace(
            base, score_points=phases.score_points(STEADY_LABELS), loss_points=phases.loss_points(STEADY_LABELS)
        )
    return base if phases.is_steady else _without_start(base, phases)


def _without_start(base: Facts, phases: JobPhases) -> Facts:
    """Take the idle time before the first work out of what the rules judge: starting is no stall of the host.

    Only where nothing else has done so: in runs without a steady phase.
    """
    outside = phases.chosen((Label.STARTUP,))
    whole_ms = phases.series.total("complete_ms")
    if not whole_ms or outside.all():
        return base
    idle = POINTS * phases.series.total("loss:idle_long", outside) / PPM / whole_ms
    loss = base.loss_points
    kept = max(0.0, loss["idle_long"] - idle)
    return msgspec.structs.replace(base, loss_points={**loss, "idle_long": kept, START: loss["idle_long"] - kept})


def _job_facts(
    facts: RunFacts,
    phases: JobPhases,
    tree: JobTree | None,
    ranks: Comparison,
    company: tuple[float | None, int],
) -> JobFacts:
    told_apart = not phases.found.is_short
    labels = [label for label in Label if told_apart and phases.chosen((label,)).any()]
    return JobFacts(
        has_pipe_counters=facts.has_pipe_counters,
        no_counters_reason=facts.no_pipes_reason,
        gpus_count=len(ranks.rows),
        local_gpus_count=max(Counter(row.name.hostname for row in ranks.rows).values(), default=0),
        run_s=float(len(phases.series)),
        phase_s={NAMES[label]: float(phases.chosen((label,)).sum()) for label in labels},
        start_cost_points=phases.cost_points((Label.STARTUP, Label.WARMUP)) if told_apart else None,
        never_steady=phases.found.never_steady if told_apart else None,
        regime_changes=_regime_changes(phases) if told_apart else None,
        periodic=_periodic(phases),
        load_balance=tree.product["load_balance"] if tree else None,
        rank_spread=_alternating_spread(phases, ranks),
        block_s=tree.block_s if tree else None,
        suspects=ranks.suspects,
        idle_ranks=ranks.idle,
        least_waiting=ranks.least_waiting,
        shared_frac=company[0],
        foreign_processes=company[1],
        ci_points=phases.confidence.half_width if phases.confidence else None,
    )


def _regime_changes(phases: JobPhases) -> tuple[RegimeFacts, ...]:
    return tuple(
        RegimeFacts(
            at_s=float(change.index),
            before_points=POINTS * change.before_frac,
            after_points=POINTS * change.after_frac,
        )
        for change in phases.found.changes
    )


def _periodic(phases: JobPhases) -> DipFacts | None:
    found = phases.periodic
    if found is None:
        return None
    return DipFacts(
        kind=phases.dip_kind,
        count=found.dips_count,
        period_s=found.period_s,
        duration_s=found.duration_mean_s,
        duty_frac=found.duty_frac,
        cost_points=phases.cost_points((Label.DIP,)),
    )


def _alternating_spread(phases: JobPhases, ranks: Comparison) -> float | None:
    """Return the spread of V2 over ranks within a window, without what the ranks differ by all the time.

    Nor does it hold what sets ranks without any work apart: they add no busy time, and are left out of the count.
    """
    idle = set(ranks.idle)
    busy = [row.busy for row in ranks.rows if row.busy is not None and row.name not in idle]
    spread = _rank_spread(phases, 1.0 - ranks.idle_frac)
    if spread is None or not busy:
        return spread
    return math.sqrt(max(0.0, spread**2 - float(np.var(busy))))


def _rank_spread(phases: JobPhases, working_frac: float) -> float | None:
    """Return the standard deviation of V2 over ranks within a window, root mean square over time."""
    series = phases.series
    chosen = phases.chosen(STEADY_LABELS) if phases.is_steady else np.ones(len(series), dtype=np.bool_)
    time_ms = series.column("levels_ms")[chosen]
    known = time_ms > 0
    if not known.any():
        return None
    weight = working_frac * time_ms[known]
    mean = series.column("v2")[chosen][known] / weight / PPM
    squared = series.column("v2_squared")[chosen][known] / weight / PPM
    variance = np.maximum(0.0, squared - mean * mean)
    return math.sqrt(float((variance * weight).sum() / weight.sum()))
