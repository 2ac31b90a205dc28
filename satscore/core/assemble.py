"""Put the summary together from the results of all GPUs. Live and final views use the same function."""

from collections.abc import Sequence

import msgspec

from satscore.core.bound_rows import bound_rows
from satscore.core.bounds import PROFILES
from satscore.core.facts import facts_of
from satscore.core.rates import rates_of
from satscore.core.rules import evaluate
from satscore.core.rules_gpu import RULES
from satscore.core.summarise import (
    GpuResult,
    ScopeContext,
    known_fracs,
    loss_of,
    missing_reasons,
    score_of,
)
from satscore.core.summary import (
    SCHEMA_VERSION,
    Cost,
    DataKind,
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
from satscore.core.sums import Sums, merge_all
from satscore.core.units import NS_PER_S
from satscore.core.windows import WINDOW_NS

SHORT_RUN_WINDOWS = 120
IDLE_GPU_ENGINE_FRAC = 0.02
STALE_CEILING_FRAC = 0.05
SLOW_READS_S = 1.0


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
        headline=_headline(job.score, len(gpus)),
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
        notes=[*facts.notes, *_own_notes(gpus, job.score, facts)],
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
    score, known = score_of(gpu.sums, context), known_fracs(gpu.sums)
    return GpuSummary(
        index=gpu.info.index,
        nvml_index=gpu.info.nvml_index,
        pci_bus_id=gpu.info.pci_bus_id,
        uuid=gpu.info.uuid,
        name=gpu.info.name,
        model_id=gpu.model.id if gpu.model else None,
        model_note=gpu.model_note,
        vboost_level=gpu.info.vboost_level,
        ceilings_missing=list(gpu.bounds.ceilings_missing),
        score=score,
        loss=loss_of(gpu.sums, facts.profile, score),
        rates=rates_of(gpu.sums, context, [gpu]),
        bounds=bound_rows(gpu),
        fields_known_frac=known,
        fields_missing={name: reason for name, reason in missing_reasons(gpu.sums).items() if name in known},
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
        Extreme(
            rank=r.rank,
            gpu_index=g.index,
            nvml_index=g.nvml_index,
            hostname=r.hostname,
            score_pct=g.score.score_pct,
        )
        for r in blocks
        for g in r.gpus
        if g.score.score_pct is not None
    ]
    by_score = sorted(scored, key=lambda e: (e.score_pct, e.rank, e.gpu_index))
    return JobSummary(
        ranks_count=len(ranks),
        nodes_count=len({rank.hostname for rank in ranks}),
        gpus_count=len(gpus),
        gpus_scored_count=len(scored),
        score=score,
        loss=loss_of(sums, context.profile, score),
        rates=rates_of(sums, context, gpus),
        worst=by_score[0] if by_score else None,
        best=by_score[-1] if by_score else None,
    )


def _headline(score: Score, gpus_count: int) -> Headline:
    """Return the number to print first. Phases are not told apart yet, so it is that of the whole run."""
    if score.score_pct is None:
        why = score.missing["score_pct"]
        return Headline(kind="none", score_pct=None, score_hi_pct=None, short_run=False, reason=why)
    short = score.scope_gpu_s < gpus_count * SHORT_RUN_WINDOWS * WINDOW_NS / NS_PER_S
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
    working = [gpu.sums for gpu in gpus if not is_idle(gpu)]
    if not working:
        return [], [NotJudgedItem(id=rule.id, missing=["work on the GPU"]) for rule in RULES]
    return evaluate(RULES, facts_of(working, profile), _share_of_time(working, gpus, profile))


def _share_of_time(working: Sequence[Sums], gpus: Sequence[GpuResult], profile: str) -> float:
    """Return how much of the scored time is of GPUs that worked: for their points in the job."""
    name = f"complete_us:{profile}"
    whole = sum(gpu.sums.total(name) for gpu in gpus)
    return sum(sums.total(name) for sums in working) / whole if whole else 0.0


def _own_notes(gpus: Sequence[GpuResult], score: Score, facts: RunFacts) -> list[str]:
    """Return what the numbers themselves call for."""
    notes = _idle_note(gpus)
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
    lacking = sorted({g.model.name for g in gpus if g.model and facts.dtype and facts.dtype not in g.model.flops_peak})
    if lacking:
        notes.append(f"--dtype {facts.dtype}: {', '.join(lacking)} has no such tensor rate, so it decides nothing")
    if any(g.bounds.ceilings_at_other_cap for g in gpus):
        notes.append("attainable rates are of another power cap, or of a vBoost level that may not be ours: grade C")
    missing = sorted({f"{r} of {g.model.name}" for g in gpus if g.model for r in g.bounds.ceilings_missing})
    if missing:
        notes.append(f"no attainable rate is known for {', '.join(missing)}: 100 % is taken, S_att is a lower value")
    if facts.source.period_s >= SLOW_READS_S:
        notes.append("reads of 1 s or more: windows are as long as the reads, the clock part is a lower bound")
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
