"""The job tree as it stands in the summary: its parts, and within them those of single ranks."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from satscore.core.job_tree import COVERAGE_PARTS, IDLE_PARTS, JobTree
from satscore.core.losses import CLOCK_PARTS, ISSUE_PARTS
from satscore.core.rules_ranks import idle_apart
from satscore.core.summary_gpu import LossPart
from satscore.core.summary_job import JobTreeItem
from satscore.core.sums import Sums


def job_tree_item(tree: JobTree, scope: Literal["steady", "total"], sums: Sums, idle_frac: float) -> JobTreeItem:
    """Return the tree.

    Args:
        tree: Of the job.
        scope: The part of the run that it is of.
        sums: Of the same GPUs and phases: how issue and clock split is the mean over ranks.
        idle_frac: Share of the GPUs that never worked: what they lose is no imbalance.
    """
    between = idle_apart(tree.parts, tree.product["load_balance"], idle_frac)
    means = {part: float(sums.total(f"loss:{part}")) for part in (*ISSUE_PARTS, *CLOCK_PARTS)}
    return JobTreeItem(
        scope=scope,
        levels_frac=list(tree.levels),
        parts=[
            _group("idle", [_leaf(part, tree.parts[part]) for part in IDLE_PARTS]),
            _group("coverage", [_leaf(part, tree.parts[part]) for part in COVERAGE_PARTS]),
            _leaf("transient", tree.parts["transient"]),
            _leaf("persistent", between["persistent"]),
            *([_leaf("idle_ranks", between["idle_ranks"])] if between["idle_ranks"] > 0 else []),
            _group("issue", _shared(tree.parts["issue"], means, ISSUE_PARTS)),
            _group("clock", _shared(tree.parts["clock"], means, CLOCK_PARTS)),
        ],
        score_pct=tree.score_points,
        product_frac=tree.product,
        pacing=tree.pacing,
        pacing_frac=tree.pacing_frac,
        block_s=tree.block_s,
        time_s=tree.time_s,
        ranks_count=tree.ranks_count,
    )


def _leaf(name: str, points_pct: float) -> LossPart:
    return LossPart(name=name, points_pct=points_pct, parts=[])


def _group(name: str, leaves: Sequence[LossPart]) -> LossPart:
    shown = [leaf for leaf in leaves if leaf.points_pct > 0]
    return LossPart(name=name, points_pct=math.fsum(leaf.points_pct for leaf in leaves), parts=shown)


def _shared(points_pct: float, weights: Mapping[str, float], names: Sequence[str]) -> list[LossPart]:
    """Return a part split by weights; they are of the same windows but for those with an unknown level."""
    whole = sum(weights[name] for name in names)
    return [_leaf(name, points_pct * weights[name] / whole) for name in names if whole] or [
        _leaf(names[-1], points_pct)
    ]
