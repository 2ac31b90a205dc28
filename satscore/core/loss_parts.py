"""Loss trees as they stand in the summary, made from the points of their leaves (docs/method.md, "Loss tree")."""

import math
from collections.abc import Callable, Mapping, Sequence

from satscore.core.losses import CLOCK_PARTS, COVERAGE_PARTS, IDLE_PARTS, ISSUE_PARTS, MERGED_PARTS
from satscore.core.summary_gpu import LossPart

GROUPS = {"idle": IDLE_PARTS, "coverage": COVERAGE_PARTS, "issue": ISSUE_PARTS, "clock": CLOCK_PARTS}
"""Parts that have leaves of their own."""
PointsOf = Callable[[Sequence[str]], float]
"""Names of leaves -> the points that they lose together: whoever keeps integers can add these up."""


def loss_tree(points_of: PointsOf) -> list[LossPart]:
    """Return the parts of a rank's loss tree: all groups, and what was merged above 0."""
    merged = [loss_part(name, points_of) for name in MERGED_PARTS]
    return [*(loss_part(name, points_of) for name in GROUPS), *(part for part in merged if part.points_pct > 0)]


def loss_part(name: str, points_of: PointsOf) -> LossPart:
    """Return one part: a group with those of its leaves that are above 0, or a leaf."""
    names = GROUPS.get(name, ())
    leaves = [LossPart(name=leaf, points_pct=points_of((leaf,)), parts=[]) for leaf in names]
    return LossPart(
        name=name,
        points_pct=points_of(names or (name,)),
        parts=[leaf for leaf in leaves if leaf.points_pct > 0],
    )


def points_in(leaves: Mapping[str, float]) -> PointsOf:
    """Return the function that adds up leaves whose points are known; a leaf that is not there lost nothing."""
    return lambda names: math.fsum(leaves.get(name, 0.0) for name in names)
