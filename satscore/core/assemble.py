"""Put the summary together from the results of all GPUs. Live and final views use the same function."""

from collections.abc import Sequence

import msgspec

from satscore.core.bounds import PROFILES
from satscore.core.facts import facts_of
from satscore.core.hwmodel import HardwareModel
from satscore.core.rules import Finding, NotJudged, evaluate
from satscore.core.rules_gpu import RULES
from satscore.core.summarise import (
    GpuResult,
    ScopeContext,
    known_fracs,
    loss_of,
    missing_reasons,
    rates_of,
    score_of,
)
from satscore.core.summary import (
    SCHEMA_VERSION,
    Bound,
    Cost,
    DataKind,
    EvidenceItem,
    Extreme,
    FindingItem,
    GpuSummary,
    Headline,
    JobSummary,
    MethodInfo,
    NotJudgedItem,
    RankSummary,
    RunInfo,
    Score,
    SourceInfo,
    Summary,
)
from satscore.core.sums import merge_all
from satscore.core.units import NS_PER_S
from satscore.core.windows import WINDOW_NS

SHORT_RUN_WINDOWS = 120
IDLE_GPU_ENGINE_FRAC = 0.02


class RankResult(msgspec.Struct, frozen=True, kw_only=True):
    """One rank's GPUs."""

    rank: int
    local_rank: int | None
    hostname: str
    gpus: tuple[GpuResult, ...]


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the summary needs besides the counters."""

    satscore_version: str
    data_kind: DataKind
    run: RunInfo
    source: SourceInfo
    profile: str
    dtype: str | None
    has_pipe_counters: bool
    no_pipes_reason: str | None
    """Why the source has no pipe counters (or there is no source), with the remedy."""
    notes: tuple[str, ...]
    cost: Cost


def assemble(facts: RunFacts, ranks: Sequence[RankResult]) -> Summary:
    """Return the summary of a run (or of its part so far)."""
    gpus = [gpu for rank in ranks for gpu in rank.gpus]
    context = _context(facts, gpus)
    rank_blocks = [_rank(rank, facts) for rank in ranks]
    job = _job(ranks, rank_blocks, gpus, context)
    findings, not_judged = _findings(gpus, facts.profile, job.score)
    return Summary(
        schema_version=SCHEMA_VERSION,
        satscore_version=facts.satscore_version,
        data_kind=facts.data_kind,
        headline=_headline(job.score, gpus, facts),
        run=facts.run,
        source=facts.source,
        method=MethodInfo(
            profile=facts.profile,
            resources=list(PROFILES[facts.profile]),
            window_s=WINDOW_NS / NS_PER_S,
            dtype=facts.dtype,
        ),
        job=job,
        ranks=rank_blocks,
        findings=findings,
        not_judged=not_judged,
        notes=[*facts.notes, *_own_notes(gpus, job.score)],
        cost=facts.cost,
    )


def _context(facts: RunFacts, gpus: Sequence[GpuResult]) -> ScopeContext:
    return ScopeContext(
        profile=facts.profile,
        has_pipe_counters=facts.has_pipe_counters,
        no_score_reason=_no_score_reason(facts, gpus),
        stale_ceiling=any(gpu.bounds.ceilings_at_other_cap for gpu in gpus),
        dtype=facts.dtype,
    )


def _no_score_reason(facts: RunFacts, gpus: Sequence[GpuResult]) -> str | None:
    """Return why a scope cannot have a score at all: one GPU that cannot be scored is enough."""
    if not gpus:
        return facts.no_pipes_reason or "no GPU was read"
    if not facts.has_pipe_counters:
        return facts.no_pipes_reason or f"no pipe counters from source '{facts.source.name}'"
    return next((gpu.model_note or "no hardware model" for gpu in gpus if gpu.model is None), None)


def _rank(rank: RankResult, facts: RunFacts) -> RankSummary:
    context = _context(facts, rank.gpus)
    sums = merge_all(gpu.sums for gpu in rank.gpus)
    score = score_of(sums, context)
    return RankSummary(
        rank=rank.rank,
        local_rank=rank.local_rank,
        hostname=rank.hostname,
        score=score,
        loss=loss_of(sums, facts.profile, score),
        rates=rates_of(sums, context, rank.gpus),
        gpus=[_gpu(gpu, facts) for gpu in rank.gpus],
    )


def _gpu(gpu: GpuResult, facts: RunFacts) -> GpuSummary:
    context = _context(facts, [gpu])
    score = score_of(gpu.sums, context)
    return GpuSummary(
        index=gpu.info.index,
        uuid=gpu.info.uuid,
        name=gpu.info.name,
        model_id=gpu.model.id if gpu.model else None,
        model_note=gpu.model_note,
        vboost_level=gpu.info.vboost_level,
        score=score,
        loss=loss_of(gpu.sums, facts.profile, score),
        rates=rates_of(gpu.sums, context, [gpu]),
        bounds=_bounds(gpu) if gpu.model else [],
        fields_known_frac=known_fracs(gpu.sums),
        fields_missing=missing_reasons(gpu.sums),
    )


def _job(
    ranks: Sequence[RankResult],
    blocks: Sequence[RankSummary],
    gpus: Sequence[GpuResult],
    context: ScopeContext,
) -> JobSummary:
    sums = merge_all(gpu.sums for gpu in gpus)
    score = score_of(sums, context)
    scored = [
        Extreme(rank=r.rank, gpu_index=g.index, hostname=r.hostname, score_pct=g.score.score_pct)
        for r in blocks
        for g in r.gpus
        if g.score.score_pct is not None
    ]
    by_score = sorted(scored, key=lambda e: (e.score_pct, e.rank, e.gpu_index))
    return JobSummary(
        ranks_count=len(ranks),
        nodes_count=len({rank.hostname for rank in ranks}),
        gpus_count=len(gpus),
        score=score,
        loss=loss_of(sums, context.profile, score),
        rates=rates_of(sums, context, gpus),
        worst=by_score[0] if by_score else None,
        best=by_score[-1] if by_score else None,
    )


def _headline(score: Score, gpus: Sequence[GpuResult], facts: RunFacts) -> Headline:
    """Return the number to print first. Phases are not told apart yet, so it is that of the whole run."""
    if score.score_pct is None:
        reason = _no_score_reason(facts, gpus) or score.missing.get("score_pct", "no score")
        return Headline(kind="none", score_pct=None, score_hi_pct=None, short_run=False, reason=reason)
    short = score.scope_s < len(gpus) * SHORT_RUN_WINDOWS * WINDOW_NS / NS_PER_S
    return Headline(
        kind="total",
        score_pct=score.score_pct,
        score_hi_pct=score.score_hi_pct,
        short_run=short,
        reason=None,
    )


def _findings(gpus: Sequence[GpuResult], profile: str, score: Score) -> tuple[list[FindingItem], list[NotJudgedItem]]:
    if score.score_pct is None:
        return [], [NotJudgedItem(id=rule.id, missing=["score"]) for rule in RULES]
    found, not_judged = evaluate(RULES, facts_of([gpu.sums for gpu in gpus], profile))
    return [_finding_item(f) for f in found], [_not_judged_item(n) for n in not_judged]


def _finding_item(finding: Finding) -> FindingItem:
    return FindingItem(
        id=finding.id,
        title=finding.title,
        severity=finding.severity,
        points_pct=finding.points,
        evidence=[
            EvidenceItem(name=e.name, value=e.value, unit=e.unit, threshold=e.threshold) for e in finding.evidence
        ],
        action=finding.action,
        hint=finding.hint,
        next_command=finding.next_command,
        false_positives=finding.false_positives,
    )


def _not_judged_item(item: NotJudged) -> NotJudgedItem:
    return NotJudgedItem(id=item.id, missing=list(item.missing))


def _bounds(gpu: GpuResult) -> list[Bound]:
    """Return the bounds that the numbers of this GPU stand on, each with its source."""
    assert gpu.model is not None
    model = gpu.model
    rows = [
        _bound(model, "dram", "dram_peak_bytes_s", "B/s", None, "datasheet peak"),
        *(
            _bound(model, f"tensor {dtype}", f"flops_peak.{dtype}", "FLOP/s", _rated(model, dtype), "dense")
            for dtype in model.flops_peak
        ),
        *(
            _bound(
                model,
                f"{pipe} pipe",
                f"vector_flops_peak.{pipe}",
                "FLOP/s",
                model.rated_clock_mhz[pipe],
                "no tensor",
            )
            for pipe in model.vector_flops_peak
        ),
        *(
            _bound(model, link, f"link_peak_bytes_s.{link}", "B/s", None, "per direction")
            for link in model.link_peak_bytes_s
        ),
    ]
    for entry in gpu.bounds.ceilings:
        vboost = "unknown" if entry.vboost_level is None else str(entry.vboost_level)
        rows.append(
            Bound(
                resource=f"{entry.resource} attainable",
                kind=entry.kind,
                value=entry.attainable_frac,
                unit="frac",
                clock_mhz=None,
                condition=f"{entry.cap_scope} cap {entry.cap_w:g} W, vBoost {vboost}, {entry.dtype or 'any type'}",
                uncertainty_frac=entry.uncertainty_frac,
                source=entry.source.label,
            )
        )
    return rows


def _rated(model: HardwareModel, dtype: str) -> float:
    return model.rated_clock_mhz["fp64" if dtype == "fp64" else "tensor"]


def _bound(model: HardwareModel, resource: str, key: str, unit: str, clock_mhz: float | None, condition: str) -> Bound:
    number = model.numbers[key]
    return Bound(
        resource=resource,
        kind=number.kind,
        value=number.value,
        unit=unit,
        clock_mhz=clock_mhz,
        condition=condition,
        uncertainty_frac=number.uncertainty_frac,
        source=number.source.label,
    )


def _own_notes(gpus: Sequence[GpuResult], score: Score) -> list[str]:
    """Return what the numbers themselves call for: bounds exceeded, stale ceilings, GPUs without work."""
    notes = []
    idle = [str(g.info.index) for g in gpus if (e := g.sums.mean("engine")) is not None and e < IDLE_GPU_ENGINE_FRAC]
    if idle and len(idle) < len(gpus):
        notes.append(
            f"GPU {', '.join(idle)} had no work and counts in the mean: "
            "set CUDA_VISIBLE_DEVICES to the GPUs of this run"
        )
    if score.bound_exceeded_frac > 0:
        notes.append(
            f"a counter was above 102 % of its bound for {score.bound_exceeded_frac:.1%} of the time: "
            "wrong model or bound"
        )
    if score.ceiling_exceeded_frac > 0.05:
        notes.append(
            f"the attainable rate was exceeded for {score.ceiling_exceeded_frac:.0%} of the time: its entry is stale"
        )
    if any(g.bounds.ceilings_at_other_cap for g in gpus):
        notes.append("attainable rates were measured at another power cap or vBoost level: grade at most C")
    return notes
