"""The blocks of one rank and of its GPUs, and what a score of theirs depends on."""

from collections.abc import Sequence

from satscore.core.bound_rows import bound_rows
from satscore.core.health import health_of
from satscore.core.own_notes import gpu_numbers
from satscore.core.rates import rates_of
from satscore.core.run_facts import RankResult, RunFacts
from satscore.core.summarise import (
    GpuResult,
    ScopeContext,
    is_doubtful,
    known_fracs,
    loss_of,
    missing_reasons,
    score_of,
)
from satscore.core.summary import RankSummary
from satscore.core.summary_gpu import GpuSummary, UnusedGpu
from satscore.core.sums import merge_all

MOST_NUMBERED = 8
"""Of more GPUs a reason tells how many there are."""


def context_of(facts: RunFacts, gpus: Sequence[GpuResult], unused: Sequence[UnusedGpu] = ()) -> ScopeContext:
    """Return what the numbers of some GPUs depend on; ``unused`` are those that are read but do not count."""
    return ScopeContext(
        profile=facts.profile,
        has_pipe_counters=facts.has_pipe_counters,
        no_score_reason=_no_score_reason(facts, gpus, unused),
        is_doubtful=is_doubtful(gpus),
        dtype=facts.dtype,
    )


def _no_score_reason(facts: RunFacts, gpus: Sequence[GpuResult], unused: Sequence[UnusedGpu]) -> str | None:
    """Return why a scope cannot have a score at all: one GPU that cannot be scored is enough."""
    if not gpus and unused:
        return _unused_reason(unused)
    if not gpus:
        return facts.no_pipes_reason or "no GPU was read"
    if not facts.has_pipe_counters:
        return facts.no_pipes_reason or f"no pipe counters from source '{facts.source.name}'"
    return next((gpu.model_note or "no hardware model" for gpu in gpus if gpu.model is None), None)


def _unused_reason(unused: Sequence[UnusedGpu]) -> str:
    """Return why none of the GPUs that were read counts."""
    each = {gpu.uuid or str(gpu.nvml_index): gpu for gpu in unused}.values()  # ranks of a node read the same ones
    which = f"GPU {gpu_numbers(each)}" if len(each) <= MOST_NUMBERED else f"{len(each):,} GPUs"
    ways = {gpu.known_by for gpu in unused}
    if ways == {"environment"}:
        return f"the command is not shown the GPUs that were read ({which})"
    if ways == {"claimed"}:
        return f"other ranks count the GPUs that were read ({which})"
    if ways <= {"claimed", "local_rank"}:
        return f"the GPUs that were read are left to other ranks of the node ({which})"
    return f"the command does not use the GPUs that were read ({which})"


def rank_summary(rank: RankResult, facts: RunFacts) -> RankSummary:
    """Return the block of one rank."""
    context = context_of(facts, rank.gpus, rank.unused)
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
        finished=rank.finished,
        exit_code=rank.exit_code,
        exit_signal=rank.exit_signal,
    )


def _gpu(gpu: GpuResult, facts: RunFacts) -> GpuSummary:
    context = context_of(facts, [gpu])
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
        vboost_source=gpu.info.vboost_source,
        may_have_vboost=gpu.info.may_have_vboost,
        health=health_of(gpu.info, gpu.sums, gpu.foreign_count),
        ceilings_missing=list(gpu.bounds.ceilings_missing),
        score=score,
        loss=loss_of(gpu.sums, facts.profile, score),
        rates=rates_of(gpu.sums, context, [gpu]),
        bounds=bound_rows(gpu),
        fields_known_frac=known,
        fields_missing={name: reason for name, reason in missing_reasons(gpu.sums).items() if name in known},
    )
