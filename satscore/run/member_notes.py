"""What several ranks say of themselves, in as few lines as tell who said what."""

from collections.abc import Iterable, Sequence

from satscore.core.attendance import numbers
from satscore.run.members import NO_SOURCE, Member

MOST_NOTES = 64
"""Texts of single ranks: of thousands of ranks each may have one of its own."""


def of_ranks(said: Iterable[tuple[int, Sequence[str]]]) -> list[str]:
    """Return the texts of ranks, once each: as they are where all say so, else with the ranks that do.

    Args:
        said: rank and its texts, for every rank that could have said something.
    """
    by_text, count = dict[str, list[int]](), 0
    for rank, texts in said:
        count += 1
        for text in dict.fromkeys(texts):
            by_text.setdefault(text, []).append(rank)
    out = [text if len(ranks) == count else f"{_who(ranks)}: {text}" for text, ranks in by_text.items()]
    rest = len(out) - MOST_NOTES
    return [*out[:MOST_NOTES], f"{rest} more notes of single ranks are in their run-*.json"] if rest > 0 else out


def differences(members: Sequence[Member]) -> list[str]:
    """Return in what the ranks of one job differ though they should not."""
    starts = [(member.header.rank, member.content) for member in members]
    lines = (
        _different("versions of satscore", [(rank, one.satscore_version) for rank, one in starts]),
        _different("profiles (rank 0's is scored)", [(rank, one.start.profile) for rank, one in starts]),
        _different("data types (rank 0's is scored)", [(rank, str(one.start.dtype)) for rank, one in starts]),
        _different("sources", [(m.header.rank, m.header.source) for m in members if m.header.source != NO_SOURCE]),
    )
    return [line for line in lines if line]


def _different(what: str, values: Iterable[tuple[int, str]]) -> str | None:
    by_value = dict[str, list[int]]()
    for rank, value in values:
        by_value.setdefault(value, []).append(rank)
    if len(by_value) < 2:
        return None
    return f"ranks have different {what}: " + ", ".join(f"{v} ({_who(ranks)})" for v, ranks in by_value.items())


def _who(ranks: Sequence[int]) -> str:
    return f"rank{'s' if len(set(ranks)) > 1 else ''} {numbers(ranks)}"
