"""Put the summary together from the results of all GPUs. Live and final views use the same function."""

from collections.abc import Sequence

import msgspec

from satscore.core.bound_rows import bound_rows
from satscore.core.bounds import PROFILES
from satscore.core.facts import Facts, facts_of
from satscore.core.own_notes import gpu_numbers, is_idle, own_notes, start_note
from satscore.core.placement import is_shared
from satscore.core.rates import rates_of
from satscore.core.rules import evaluate
from satscore.core.rules_gpu import RULES
from satscore.core.rules_shared import GPU_SHARED
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
    UnreadGpu,
    UnusedGpu,
)
from satscore.core.sums import Sums, merge_all
from satscore.core.units import NS_PER_S
from satscore.core.windows import WINDOW_NS

SHORT_RUN_WINDOWS = 120


class RankResult(msgspec.Struct, frozen=True, kw_only=True):
    """One rank's GPUs."""

    rank: int
    local_rank: int | None
    hostname: str
    gpus: tuple[GpuResult, ...]
    """Those that the command uses, as far as known."""
    unused: tuple[UnusedGpu, ...] = ()
    unread: tuple[UnreadGpu, ...] = ()


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
    context = _context(facts, gpus, [gpu for rank in ranks for gpu in rank.unused])
    rank_blocks = [_rank(rank, facts) for rank in ranks]
    job = _job(ranks, rank_blocks, gpus, context)
    findings, not_judged = _findings(gpus, facts, job.score)
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
        notes=[*facts.notes, *_own_notes(facts, gpus, job.score)],
        cost=facts.cost,
    )


def _own_notes(facts: RunFacts, gpus: Sequence[GpuResult], score: Score) -> list[str]:
    missed = start_note(facts.run) if facts.data_kind == "measured" else None
    notes = own_notes(gpus, score, dtype=facts.dtype, interval_mean_s=facts.source.interval_mean_s)
    return [missed, *notes] if missed else notes


def _context(facts: RunFacts, gpus: Sequence[GpuResult], unused: Sequence[UnusedGpu] = ()) -> ScopeContext:
    return ScopeContext(
        profile=facts.profile,
        has_pipe_counters=facts.has_pipe_counters,
        no_score_reason=_no_score_reason(facts, gpus, unused),
        stale_ceiling=any(gpu.bounds.ceilings_at_other_cap for gpu in gpus),
        dtype=facts.dtype,
        shared=any(is_shared(gpu.shared_frac) for gpu in gpus),
    )


def _no_score_reason(facts: RunFacts, gpus: Sequence[GpuResult], unused: Sequence[UnusedGpu]) -> str | None:
    """Return why a scope cannot have a score at all: one GPU that cannot be scored is enough."""
    if not gpus and unused:
        numbers = gpu_numbers(unused)
        if all(gpu.known_by == "environment" for gpu in unused):
            return f"the command is not shown the GPUs that were read (GPU {numbers})"
        return f"the command does not use the GPUs that were read (GPU {numbers})"
    if not gpus:
        return facts.no_pipes_reason or "no GPU was read"
    if not facts.has_pipe_counters:
        return facts.no_pipes_reason or f"no pipe counters from source '{facts.source.name}'"
    return next((gpu.model_note or "no hardware model" for gpu in gpus if gpu.model is None), None)


def _rank(rank: RankResult, facts: RunFacts) -> RankSummary:
    context = _context(facts, rank.gpus, rank.unused)
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
        gpus_unused=list(rank.unused),
        gpus_unread=list(rank.unread),
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
        use=gpu.use,
        shared_frac=gpu.shared_frac,
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


def _findings(
    gpus: Sequence[GpuResult], facts: RunFacts, score: Score
) -> tuple[list[FindingItem], list[NotJudgedItem]]:
    shared, not_shared = evaluate((GPU_SHARED,), _facts_of_company(gpus, facts))
    working = [gpu.sums for gpu in gpus if not is_idle(gpu)]
    if score.score_pct is None or not working:
        missing = ["score" if score.score_pct is None else "work on the GPU"]
        return shared, [*(NotJudgedItem(id=rule.id, missing=missing) for rule in RULES), *not_shared]
    share = _share_of_time(working, gpus, facts.profile)
    findings, not_judged = evaluate(RULES, facts_of(working, facts.profile), share)
    # What makes the counters themselves doubtful comes first.
    return [*shared, *findings], [*not_judged, *not_shared]


def _facts_of_company(gpus: Sequence[GpuResult], facts: RunFacts) -> Facts:
    """Return who else computed on the GPUs; nobody does on a GPU that does not exist."""
    known = [gpu.shared_frac for gpu in gpus if gpu.shared_frac is not None]
    return msgspec.structs.replace(
        facts_of([gpu.sums for gpu in gpus], facts.profile),
        shared_frac=0.0 if facts.data_kind == "simulated" else max(known, default=None),
        foreign_processes=max((gpu.foreign_count for gpu in gpus), default=0),
    )


def _share_of_time(working: Sequence[Sums], gpus: Sequence[GpuResult], profile: str) -> float:
    """Return how much of the scored time is of GPUs that worked: for their points in the job."""
    name = f"complete_us:{profile}"
    whole = sum(gpu.sums.total(name) for gpu in gpus)
    return sum(sums.total(name) for sums in working) / whole if whole else 0.0
