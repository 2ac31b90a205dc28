"""Whether a GPU can count all wanted pipe fields at once (docs/method.md, "Counters and units")."""

from collections.abc import Collection, Iterable
from itertools import product


def takes_turns(groups: Iterable[tuple[int, Collection[int]]], wanted: Collection[int]) -> bool:
    """Return whether the engine counts some of the fields only part of the time, in turns.

    Metric groups of one major id use the same hardware: only one of them is counted at a time
    (dcgm_structs.h, dcgmProfMetricGroupInfo_v2). A field may be in groups of several major ids.

    Args:
        groups: Major id and field ids of each metric group; none if the engine does not say.
        wanted: Field ids that are watched; those in no group do not matter.
    """
    majors: dict[int, list[frozenset[int]]] = {}
    for major, fields in groups:
        majors.setdefault(major, []).append(frozenset(fields))
    counted = frozenset(wanted) & frozenset(
        field for choices in majors.values() for group in choices for field in group
    )
    return not any(counted <= frozenset().union(*choice) for choice in product(*majors.values()))
