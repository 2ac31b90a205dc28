"""A GPU that several ranks of a job counted: in the job's result it counts once.

Ranks that see each other's claims (core.gpu_claims) do not come so far.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from satscore.core.summary_gpu import GpuUse

_SUREST: tuple[GpuUse, ...] = ("process", "environment", "visible", "local_rank", "assumed")


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedGpu:
    """A GPU that a rank counts."""

    rank: int
    hostname: str
    uuid: str
    use: GpuUse


@dataclass(frozen=True, slots=True, kw_only=True)
class Contested:
    """A GPU that more than one rank counts.

    Attributes:
        owner: For whom it goes on to count.
        others: For whom no more.
    """

    owner: CountedGpu
    others: Sequence[CountedGpu]


def counted_twice(counted: Iterable[CountedGpu]) -> list[Contested]:
    """Return the GPUs that more than one rank counts, and whose each is.

    It is that of the rank whose use is surest, of equal ones the lower. A UUID is looked for within one node only:
    a name that two nodes give to their GPUs is not proof enough to leave one out.
    """
    by_gpu = dict[tuple[str, str], list[CountedGpu]]()
    for one in counted:
        by_gpu.setdefault((one.hostname, one.uuid), []).append(one)
    several = (sorted(each, key=_order) for each in by_gpu.values() if len({one.rank for one in each}) > 1)
    return [Contested(owner=each[0], others=each[1:]) for each in several]


def counted_twice_notes(contested: Sequence[Contested], most: int = 8) -> list[str]:
    """Return a line per GPU that several ranks counted, and one for all beyond ``most``."""
    notes = [
        f"GPU {one.owner.uuid} on {one.owner.hostname} was counted by ranks "
        f"{', '.join(str(c.rank) for c in (one.owner, *one.others))}: it counts once, for rank {one.owner.rank}"
        for one in contested[:most]
    ]
    rest = len(contested) - most
    return [*notes, f"{rest} more GPUs were counted by several ranks: each counts once"] if rest > 0 else notes


def _order(one: CountedGpu) -> tuple[int, int]:
    return _SUREST.index(one.use), one.rank
