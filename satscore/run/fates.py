"""How the ranks of a job ended, as the types of the core."""

from collections.abc import Sequence
from datetime import datetime

from satscore.core.attendance import RankFate
from satscore.core.units import NS_PER_S
from satscore.record.run_file import RunFile
from satscore.run.members import Member


def fates_of(members: Sequence[Member]) -> list[RankFate]:
    """Return how each rank ended, and until when it was read."""
    firsts = [m.source.first_ns + m.header.grid_offset_ns for m in members if m.source.first_ns is not None]
    first_ns = min(firsts, default=0)
    return [_fate(member, first_ns) for member in members]


def _fate(member: Member, first_ns: int) -> RankFate:
    content, last_ns = member.content, member.source.last_ns
    end = content.end
    has_failed = end is not None and content.start.kind == "command" and end.exit_code != 0
    return RankFate(
        rank=member.header.rank,
        hostname=member.header.hostname,
        has_ended=end is not None,
        has_failed=has_failed,
        exit_code=end.exit_code if end else None,
        exit_signal=end.exit_signal if end else None,
        ended_s=_ended_s(content) if has_failed else None,
        covered_s=None if last_ns is None else (last_ns + member.header.grid_offset_ns - first_ns) / NS_PER_S,
    )


def _ended_s(content: RunFile) -> float | None:
    """Return the wall time of the end of a rank's command, by the clock of the job."""
    try:
        started_s = datetime.fromisoformat(content.start.started_utc).timestamp()
    except (ValueError, OverflowError):
        return None
    return started_s + (content.end.duration_s if content.end else 0.0) + content.clock_correction_ns / NS_PER_S
