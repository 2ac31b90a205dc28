"""The job tree as it stands in the summary: its parts, and within them those of single ranks."""

from typing import Literal

from satscore.core.job_tree import JobTree, job_leaves
from satscore.core.loss_parts import loss_part, points_in
from satscore.core.summary_job import JobTreeItem
from satscore.core.sums import Sums


def job_tree_item(tree: JobTree, scope: Literal["steady", "total"], sums: Sums, idle_frac: float) -> JobTreeItem:
    """Return the tree.

    Args:
        tree: Of the job.
        scope: The part of the run that it is of.
        sums: Of the same GPUs and phases.
        idle_frac: Share of the GPUs that never worked.
    """
    leaves = job_leaves(tree, sums, idle_frac)
    idle_ranks = ("idle_ranks",) if leaves["idle_ranks"] > 0 else ()
    names = ("idle", "coverage", "transient", "persistent", *idle_ranks, "issue", "clock")
    return JobTreeItem(
        scope=scope,
        levels_frac=list(tree.levels),
        parts=[loss_part(name, points_in(leaves)) for name in names],
        score_pct=tree.score_points,
        product_frac=tree.product,
        pacing=tree.pacing,
        pacing_frac=tree.pacing_frac,
        block_s=tree.block_s,
        time_s=tree.time_s,
        ranks_count=tree.ranks_count,
    )
