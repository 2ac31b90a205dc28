"""Which GPUs a rank claims, so that no other rank of its node counts them as well. Pure."""

from collections.abc import Collection

import msgspec

from satscore.core.placement import Placement


def wanted_gpus(placement: Placement, read: Collection[str | None]) -> frozenset[str]:
    """Return the GPUs that a rank has to claim: those that count unless another rank holds them.

    One that another rank holds is tried again only if a process of the command was seen there: two ranks that took
    each other's GPU for theirs change places, and a rank that ends early leaves its GPU to nobody else.

    Args:
        placement: What is known.
        read: Names of the GPUs that are read.
    """
    unclaimed = msgspec.structs.replace(placement, claimed=())
    uses = {uuid: unclaimed.use_of(uuid, worked=True) for uuid in read if uuid is not None}
    return frozenset(uuid for uuid, use in uses.items() if use == "process" or (use and uuid not in placement.claimed))


def with_claims(placement: Placement, wanted: Collection[str], refused: Collection[str]) -> Placement:
    """Return what is known after an attempt to claim GPUs.

    Args:
        placement: What was known before.
        wanted: Those that were tried.
        refused: Those of them that another rank holds.
    """
    others = (set(placement.claimed) - set(wanted)) | set(refused)
    return msgspec.structs.replace(placement, claimed=tuple(sorted(others)))
