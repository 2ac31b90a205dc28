"""What differs between two runs, beside the difference of their scores: overlap of batches, moved losses."""

import math
from collections.abc import Mapping

import msgspec
import numpy as np

from satscore.core.readings import FloatArray


class RankCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the batch means of two sides overlap, by ranks alone. A check: it decides nothing."""

    cliffs_delta: float
    """Share of pairs with B above A less the share with B below: from -1 (B always below) to 1."""
    mann_whitney_p: float
    """Two-sided. It knows nothing of run-to-run spread: small p, same program is no contradiction."""


class MovedPart(msgspec.Struct, frozen=True, kw_only=True):
    """By how much a part of the loss tree grew from A to B."""

    name: str
    moved_points: float


def rank_check(a: FloatArray, b: FloatArray) -> RankCheck | None:
    """Return how the values of two sides overlap; None if a side has none.

    ``U`` is the number of pairs with B above A, ties counting half; Cliff's delta is ``2 U / (n m) - 1``. The
    p-value is that of Mann and Whitney, by the normal approximation with corrections for ties and continuity.

    Args:
        a: shape (n,), batch means of the baseline, any unit.
        b: shape (m,), batch means of the run compared with it.
    """
    pairs = len(a) * len(b)
    if pairs == 0:
        return None
    ordered = np.sort(a)
    below = np.searchsorted(ordered, b, side="left").sum()
    not_above = np.searchsorted(ordered, b, side="right").sum()
    u = float(below + not_above) / 2
    _, ties = np.unique(np.concatenate([a, b]), return_counts=True)
    total = len(a) + len(b)
    tied = float((ties.astype(np.float64) ** 3 - ties).sum()) / (total * (total - 1))
    variance = pairs / 12 * (total + 1 - tied)
    distance = max(0.0, abs(u - pairs / 2) - 0.5)
    p = math.erfc(distance / math.sqrt(2 * variance)) if variance > 0 else 1.0
    return RankCheck(cliffs_delta=2 * u / pairs - 1, mann_whitney_p=p)


def moved_parts(a: Mapping[str, float], b: Mapping[str, float]) -> tuple[MovedPart, ...]:
    """Return by how much each part of the loss tree grew from A to B, the largest change first.

    The parts of a tree and its score add up to 100, so the moves add up to minus the difference of the scores:
    exactly for whole numbers (parts per million), else to the rounding of floats. Where a run could not tell two
    parts apart ("coverage|issue"), they are added up in the other run, too: a part that is not known did not move
    to 0.

    Args:
        a: Parts of one level of the baseline's tree, all of them; those of 0 points may be left out.
        b: The same level of the other run's tree.
    """
    moved = []
    for members in _tellable([*a, *b]):
        before, after = (
            math.fsum(points for name, points in tree.items() if members.keys() >= set(name.split("|")))
            for tree in (a, b)
        )
        moved.append(MovedPart(name="|".join(members), moved_points=after - before))
    return tuple(sorted(moved, key=lambda part: (-abs(part.moved_points), part.name)))


def _tellable(names: list[str]) -> list[dict[str, None]]:
    """Return the smallest groups of parts that both trees can tell from all others; keys are the parts in order."""
    groups: list[dict[str, None]] = []
    for name in sorted(names, key=lambda name: "|" not in name):
        members = dict.fromkeys(name.split("|"))
        apart = [group for group in groups if members.keys().isdisjoint(group)]
        joined = [group for group in groups if group not in apart]
        groups = [*apart, dict.fromkeys(part for group in (*joined, members) for part in group)]
    return groups
