"""Which part of the loss tree grew with the number of GPUs (docs/outputs.md, "Scaling trials")."""

from collections.abc import Sequence

import msgspec

from satscore.core.scaling_types import GrownPart
from satscore.core.summary import Summary
from satscore.core.summary_gpu import LossPart

BETWEEN_RANKS = frozenset({"transient", "persistent", "idle_ranks"})
"""Parts that a single GPU cannot have: 0 there."""
SHOWN_POINTS = 0.05
"""A part that grew by less would be printed as 0.0."""
ONE_GPU_NOTE = (
    "{directory} has one GPU and no job tree: its loss tree stands for it, in which nobody waits for another rank"
)
MEANS_NOTE = "{directory} has no job tree: losses beside it are means over GPUs, waiting for a rank is in coverage"
SCOPES_NOTE = "the losses of {first} are of the {first_scope}, those of {other} of the {other_scope}"
SCOPE_WORDS = {"steady": "steady phase", "total": "whole run"}


class LossGrowth(msgspec.Struct, frozen=True, kw_only=True):
    """How the loss tree of a run differs from that of the first one.

    ``growth_points`` has every part, in points; empty where the two trees have different parts. ``grown`` is the
    one that grew most; None where none did.
    """

    growth_points: dict[str, float]
    grown: GrownPart | None
    notes: tuple[str, ...]


def loss_growth(first: tuple[str, Summary], other: tuple[str, Summary]) -> LossGrowth:
    """Return which losses of a run exceed those of the first one.

    Job trees are compared where both have one; the loss tree of a single GPU is its job tree (docs/method.md,
    "Job tree"). Else the mean loss trees over GPUs are.

    Args:
        first: Directory and summary of the first run.
        other: Those of the other one.
    """
    before, now = _job_parts(first[1], other[1]), _job_parts(other[1], first[1])
    notes = _tree_notes(first, other)
    if not before or not now:
        before, now = _mean_parts(first[1], "steady"), _mean_parts(other[1], "steady")
        without = first[0] if _lacks_tree(first[1]) else other[0]
        notes = (MEANS_NOTE.format(directory=without),)
    if not before or not now or before.keys() - BETWEEN_RANKS != now.keys() - BETWEEN_RANKS:
        return LossGrowth(growth_points={}, grown=None, notes=())
    names = [*dict.fromkeys((*now, *before))]
    growth = {name: now.get(name, 0.0) - before.get(name, 0.0) for name in names}
    most = max(growth, key=lambda name: growth[name])
    grown = GrownPart(name=most, first_pct=before.get(most, 0.0), here_pct=now.get(most, 0.0))
    return LossGrowth(growth_points=growth, grown=grown if growth[most] >= SHOWN_POINTS else None, notes=notes)


def _job_parts(summary: Summary, beside: Summary) -> dict[str, float]:
    """Return the parts of a job's tree by name, points; empty where it has none.

    Of a single GPU they are of the same time as those of the run beside it, as far as that is known.
    """
    if summary.job.tree is not None:
        return _points(summary.job.tree.parts)
    if summary.job.gpus_count != 1:
        return {}
    return _mean_parts(summary, "steady" if beside.job.tree is None else beside.job.tree.scope)


def _mean_parts(summary: Summary, scope: str) -> dict[str, float]:
    """Return the parts of the mean loss tree over GPUs; of the whole run where there is no steady phase."""
    job = summary.job
    if scope == "steady" and job.steady is not None:
        return _points(job.steady.loss)
    return _points(job.loss.datasheet) if job.loss else {}


def _points(parts: Sequence[LossPart]) -> dict[str, float]:
    return {part.name: part.points_pct for part in parts}


def _lacks_tree(summary: Summary) -> bool:
    return summary.job.tree is None and summary.job.gpus_count != 1


def _tree_notes(first: tuple[str, Summary], other: tuple[str, Summary]) -> tuple[str, ...]:
    """Return what is not alike in two trees that are compared all the same."""
    if first[1].job.gpus_count == 1:
        return (ONE_GPU_NOTE.format(directory=first[0]),) if other[1].job.gpus_count > 1 else ()
    trees = first[1].job.tree, other[1].job.tree
    if trees[0] is None or trees[1] is None or trees[0].scope == trees[1].scope:
        return ()
    scopes = [SCOPE_WORDS[tree.scope] for tree in trees if tree is not None]
    return (SCOPES_NOTE.format(first=first[0], first_scope=scopes[0], other=other[0], other_scope=scopes[1]),)
