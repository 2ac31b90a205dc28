"""Which ranks of a job are in its result, which failed and which were lost: what makes the number less than whole."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

import msgspec

from satscore.core.gate import RANKS_MISSING
from satscore.core.summary import JobSummary
from satscore.core.summary_job import FailedRankItem, LostRankItem

MOST_LISTED = 64
"""Ranks of each sort that the summary lists; their number is told always."""
MOST_NAMED = 8
"""Ranks, or stretches of ranks, that a note names."""
RANKS_FAILED = "ranks failed: "
RANKS_LOST = "ranks without an end: "
NEVER_HEARD_OF = "never heard of"


class RankFate(msgspec.Struct, frozen=True, kw_only=True):
    """How one rank that is in the result ended."""

    rank: int
    hostname: str
    has_ended: bool
    """Its end was told; else it was lost, or is still at work."""
    has_failed: bool
    exit_code: int | None = None
    exit_signal: str | None = None
    ended_s: float | None = None
    """Wall time of its end, s; None: not known."""
    covered_s: float | None = None
    """Until when it was read, s since the first reading of the job; None: it never was."""


class Attendance(msgspec.Struct, frozen=True, kw_only=True):
    """The ranks of a job by what became of them; at most MOST_LISTED of each sort, and how many there are.

    Attributes:
        expected_count: Ranks of the job; None: nobody said.
        missing: Those that are in no number.
        failed: Those whose command failed, in the order in which they ended.
        lost: Those whose end is not known.
    """

    expected_count: int | None = None
    missing: tuple[int, ...] = ()
    missing_count: int = 0
    failed: tuple[FailedRankItem, ...] = ()
    failed_count: int = 0
    lost: tuple[LostRankItem, ...] = ()
    lost_count: int = 0


def attendance(world: int | None, fates: Sequence[RankFate], *, is_live: bool = False) -> Attendance:
    """Return which ranks are missing, failed or lost.

    Args:
        world: Ranks of the job, numbered from 0; None: nobody said.
        fates: Of the ranks that are in the result.
        is_live: Whether the job as a whole still goes on: then nobody is lost.
    """
    gaps = _gaps(world or 0, (fate.rank for fate in fates))
    failed = sorted((fate for fate in fates if fate.has_failed), key=_when)
    lost = [] if is_live else sorted((fate for fate in fates if not fate.has_ended), key=lambda fate: fate.rank)
    return Attendance(
        expected_count=world,
        missing=tuple(_first_of(gaps, MOST_LISTED)),
        missing_count=sum(len(gap) for gap in gaps),
        failed=tuple(
            FailedRankItem(rank=f.rank, hostname=f.hostname, exit_code=f.exit_code, exit_signal=f.exit_signal)
            for f in failed[:MOST_LISTED]
        ),
        failed_count=len(failed),
        lost=tuple(LostRankItem(rank=f.rank, hostname=f.hostname, covered_s=f.covered_s) for f in lost[:MOST_LISTED]),
        lost_count=len(lost),
    )


def with_attendance(job: JobSummary, found: Attendance) -> JobSummary:
    """Return the block of a job with what became of its ranks."""
    return msgspec.structs.replace(
        job,
        ranks_expected_count=found.expected_count,
        ranks_missing=list(found.missing),
        ranks_missing_count=found.missing_count,
        ranks_failed=list(found.failed),
        ranks_failed_count=found.failed_count,
        ranks_lost=list(found.lost),
        ranks_lost_count=found.lost_count,
    )


def attendance_notes(world: int | None, present: Iterable[int], why: Mapping[int, str], found: Attendance) -> list[str]:
    """Return a line for each sort of ranks that make the result less than whole.

    Args:
        world: Ranks of the job; None: nobody said.
        present: Those that are in the result.
        why: rank -> why it is not; without an entry it was never heard of.
        found: What ``attendance`` found of them.
    """
    notes = [RANKS_MISSING + text] if (text := _missing_text(world, set(present), why)) else []
    if found.failed:
        who = [f"rank {one.rank} on {one.hostname} ({ending(one)})" for one in found.failed[:MOST_NAMED]]
        notes.append(RANKS_FAILED + _with_rest(who, found.failed_count) + _first(found.failed_count))
    if found.lost:
        who = [f"rank {one.rank} on {one.hostname} ({covered(one)})" for one in found.lost[:MOST_NAMED]]
        notes.append(
            f"{RANKS_LOST}{_with_rest(who, found.lost_count)}: lost, or still at work; later time is not known"
        )
    return notes


def ending(one: FailedRankItem) -> str:
    """Return how a command ended, in words."""
    return one.exit_signal or f"exit {one.exit_code}"


def covered(one: LostRankItem) -> str:
    """Return until when a rank was read, in words."""
    return "never read" if one.covered_s is None else f"covered until {one.covered_s:.0f} s"


def numbers(ranks: Iterable[int]) -> str:
    """Return ranks in few words: ``3, 8-11``; of many stretches the first."""
    stretches = [
        [rank for _, rank in group]
        for _, group in groupby(enumerate(sorted(set(ranks))), key=lambda pair: pair[1] - pair[0])
    ]
    return _ranges([range(stretch[0], stretch[-1] + 1) for stretch in stretches])


def _missing_text(world: int | None, present: set[int], why: Mapping[int, str]) -> str:
    """Return which ranks are missing and why; without touching each of them, as ``world`` may be any number."""
    if world is None:
        return ""
    told = {rank: reason for rank, reason in why.items() if rank not in present}
    unheard = _gaps(world, {*present, *told})
    by_reason = dict[str, list[int]]()
    for rank, reason in sorted(told.items()):
        by_reason.setdefault(reason, []).append(rank)
    parts = [f"{numbers(ranks)} ({reason})" for reason, ranks in by_reason.items()]
    parts += [f"{_ranges(unheard)} ({NEVER_HEARD_OF})"] if unheard else []
    return _with_rest(parts[:MOST_NAMED], len(parts))


def _gaps(world: int, present: Iterable[int]) -> list[range]:
    """Return the stretches of ranks below ``world`` that are not present."""
    inside = sorted({rank for rank in present if 0 <= rank < world})
    edges = zip([-1, *inside], [*inside, world], strict=True)
    return [range(before + 1, after) for before, after in edges if after > before + 1]


def _first_of(gaps: Iterable[range], most: int) -> Iterable[int]:
    out = list[int]()
    for gap in gaps:
        out += gap[: most - len(out)]
    return out


def _ranges(ranges: Sequence[range]) -> str:
    texts = [f"{one[0]}" if len(one) == 1 else f"{one[0]}-{one[-1]}" for one in ranges[:MOST_NAMED]]
    rest = sum(len(one) for one in ranges[MOST_NAMED:])
    return ", ".join(texts) + (f" and {rest} more" if rest else "")


def _with_rest(texts: Sequence[str], count: int) -> str:
    return ", ".join(texts) + (f" and {count - len(texts)} more" if count > len(texts) else "")


def _first(count: int) -> str:
    return "; the first to end stands first" if count > 1 else ""


def _when(fate: RankFate) -> tuple[bool, float, int]:
    return fate.ended_s is None, fate.ended_s or 0.0, fate.rank
