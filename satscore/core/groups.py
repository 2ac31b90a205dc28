"""Which ranks are compared with each other: the values of ``--group-by`` (docs/method.md, "Stragglers").

Standard library only: the value is checked before the command starts.
"""

from satscore.errors import UsageError

FORMS = "none, host, local_rank, rank//N or rank%N"


def checked_grouping(spec: str) -> str:
    """Return the text of a grouping that is one.

    ``none`` compares all ranks, ``host`` those of a node, ``local_rank`` those with the same number on their
    nodes, ``rank//N`` N consecutive ones, ``rank%N`` every N-th.

    Raises:
        UsageError: It is none of these; names them.
    """
    if spec not in {"none", "host", "local_rank"}:
        _divisor(spec)
    return spec


def group_of(spec: str, *, rank: int, local_rank: int | None, hostname: str, world: int) -> str:
    """Return the name of a rank's group.

    Args:
        spec: A grouping.
        rank: The rank, from 0.
        local_rank: Its number on its node; None: not known, then it is in a group of its like.
        hostname: Its node.
        world: Ranks of the job.

    Raises:
        UsageError: The grouping is none.
    """
    if spec == "none":
        return "all ranks"
    if spec == "host":
        return hostname
    if spec == "local_rank":
        return "local rank unknown" if local_rank is None else f"local rank {local_rank}"
    operator, n = _divisor(spec)
    if operator == "%":
        return f"ranks {rank % n} + {n}k"
    first = rank // n * n
    last = max(rank, min(first + n, world) - 1)
    return f"rank {first}" if first == last else f"ranks {first}-{last}"


def _divisor(spec: str) -> tuple[str, int]:
    """Return operator and N of ``rank//N`` or ``rank%N``."""
    for operator in ("//", "%"):
        digits = spec.removeprefix(f"rank{operator}")
        # isdecimal is true of other scripts' digits, too; no number of ranks has more than nine.
        if digits != spec and digits.isascii() and digits.isdecimal() and len(digits) < 10 and int(digits) > 0:
            return operator, int(digits)
    raise UsageError(f"{spec!r} is not a grouping of ranks: {FORMS}", hint="for 4 pipeline stages of 8 ranks: rank//8")
