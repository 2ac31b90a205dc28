"""A GPU that several ranks of a job took for theirs: it counts once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from satscore.core.summary_gpu import GpuUse

_SUREST: tuple[GpuUse, ...] = ("process", "environment", "visible", "assumed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A GPU that a rank counts."""

    rank: int
    hostname: str
    uuid: str
    use: GpuUse


def claimed_twice(claims: Iterable[Claim]) -> list[tuple[Claim, list[Claim]]]:
    """Return the GPUs that more than one rank counts: whose it is, and the others.

    It is that of the rank whose use is surest, of equal ones the lower. A UUID is looked for within one node only:
    a name that two nodes give to their GPUs is not proof enough to leave one out.
    """
    by_gpu = dict[tuple[str, str], list[Claim]]()
    for claim in claims:
        by_gpu.setdefault((claim.hostname, claim.uuid), []).append(claim)
    contested = (sorted(each, key=_order) for each in by_gpu.values() if len({one.rank for one in each}) > 1)
    return [(each[0], each[1:]) for each in contested]


def claims_notes(contested: Sequence[tuple[Claim, Sequence[Claim]]], most: int = 8) -> list[str]:
    """Return a line per GPU that was claimed twice, and one for all beyond ``most``."""
    notes = [
        f"GPU {own.uuid} on {own.hostname} was claimed by ranks {', '.join(str(c.rank) for c in (own, *others))}: "
        f"it counts once, for rank {own.rank}"
        for own, others in contested[:most]
    ]
    rest = len(contested) - most
    return [*notes, f"{rest} more GPUs were claimed by several ranks: each counts once"] if rest > 0 else notes


def _order(claim: Claim) -> tuple[int, int]:
    return _SUREST.index(claim.use), claim.rank
