"""The ranks of a run, as a summary takes them: what was read of each, and what it said of itself."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from satscore.core.counted_twice import CountedGpu, counted_twice, counted_twice_notes
from satscore.core.fields import FIELDS
from satscore.core.placement import NOTHING_KNOWN, Placement
from satscore.core.run_facts import RankResult
from satscore.core.summary_gpu import UnreadGpu
from satscore.record.run_file import FORMAT_VERSION, RunFile, StreamHeader

NO_SOURCE = "none"


class RankSource(Protocol):
    """What a summary is made from, per rank: a closed session, or what is stored of one."""

    @property
    def first_ns(self) -> int | None:
        """Begin of the first reading on the axis of the readings; None: there was none."""

    @property
    def last_ns(self) -> int | None:
        """End of the last one."""

    @property
    def intervals_count(self) -> int:
        """Readings in which at least one counter answered."""

    @property
    def intervals_ns(self) -> int:
        """Their length, summed over GPUs."""

    def counted(self, placement: Placement) -> Sequence[bool]:
        """Return of each GPU whether it counts as the command's."""

    def notes(self, placement: Placement) -> list[str]:
        """Return what must be said about the rank."""

    def result(
        self,
        *,
        rank: int,
        local_rank: int | None,
        hostname: str,
        placement: Placement,
        unread: Sequence[UnreadGpu],
    ) -> RankResult:
        """Return the results of its GPUs.

        Raises:
            RecordError: What is stored of it cannot be read.
        """


class NothingRead:
    """Of a rank without a GPU of its own: it has no numbers, and harms none."""

    first_ns: int | None = None
    last_ns: int | None = None
    intervals_count = 0
    intervals_ns = 0

    def counted(self, placement: Placement) -> Sequence[bool]:  # noqa: ARG002 - whatever is known of others
        """Return nothing: there is no GPU."""
        return ()

    def notes(self, placement: Placement) -> list[str]:  # noqa: ARG002
        """Return nothing: why nothing was read is in the notes of the rank's end."""
        return []

    def result(
        self,
        *,
        rank: int,
        local_rank: int | None,
        hostname: str,
        placement: Placement,  # noqa: ARG002
        unread: Sequence[UnreadGpu],
    ) -> RankResult:
        """Return a result without GPUs."""
        return RankResult(rank=rank, local_rank=local_rank, hostname=hostname, gpus=(), unread=tuple(unread))


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One rank of a run.

    Attributes:
        header: Of its recording.
        source: What was read.
        content: What it said of itself; of an old run all ranks share one.
        placement: Which GPUs its command uses.
    """

    header: StreamHeader
    source: RankSource
    content: RunFile
    placement: Placement

    @property
    def order(self) -> tuple[int, str]:
        """Where it stands among the others."""
        return self.header.rank, self.header.hostname

    @property
    def last_wall_ns(self) -> int:
        """Wall time of the end of its last reading, by the clock of the job; 0: there is none."""
        last_ns = self.source.last_ns
        return 0 if last_ns is None else last_ns + self.header.grid_offset_ns

    @property
    def key(self) -> tuple[str, int]:
        """Which rank it is, of all that a directory may hold."""
        return self.header.hostname, self.header.rank


def member_of(header: StreamHeader, source: RankSource, content: RunFile) -> Member:
    """Return a rank with what it knew of its GPUs."""
    return Member(header=header, source=source, content=content, placement=content.placement or NOTHING_KNOWN)


def member_without_gpu(content: RunFile) -> Member | None:
    """Return a rank of which nothing was read because there was no GPU; None if that is not the reason."""
    start, end = content.start, content.end
    if end is None or end.scored_until_ns is not None:
        return None
    header = StreamHeader(
        format_version=FORMAT_VERSION,
        hostname=start.hostname,
        rank=start.job.rank if start.job else 0,
        local_rank=start.job.local_rank if start.job else None,
        source=NO_SOURCE,
        scenario=None,
        data_kind="measured",
        has_pipe_counters=False,
        grid_offset_ns=0,
        fields=[field.name for field in FIELDS],
        gpus=[],
    )
    return member_of(header, NothingRead(), content)


def without_doubles(members: Sequence[Member]) -> tuple[list[Member], list[tuple[Member, str]], list[str]]:
    """Return the ranks such that each GPU counts once; which rank lost which GPU by that; and what to say of it."""
    contested = counted_twice(_counted(members))
    lost = dict[tuple[str, int], set[str]]()
    for other in (other for one in contested for other in one.others):
        lost.setdefault((other.hostname, other.rank), set()).add(other.uuid)
    out, dropped = list[Member](), list[tuple[Member, str]]()
    for member in members:
        uuids = sorted(lost.get(member.key, ()))
        dropped += [(member, uuid) for uuid in uuids]
        claimed = (*member.placement.claimed, *uuids)
        placement = msgspec.structs.replace(member.placement, claimed=claimed) if uuids else member.placement
        out.append(replace(member, placement=placement))
    return out, dropped, counted_twice_notes(contested)


def _counted(members: Sequence[Member]) -> list[CountedGpu]:
    """Return who counts the GPUs that more than one rank of a node reads."""
    readers = dict[tuple[str, str], int]()
    for member in members:
        for gpu in member.header.gpus:
            name = member.header.hostname, gpu.uuid or ""
            readers[name] = readers.get(name, 0) + 1
    out = []
    for member in members:
        hostname, gpus = member.header.hostname, member.header.gpus
        if not any(gpu.uuid and readers[hostname, gpu.uuid] > 1 for gpu in gpus):
            continue
        for gpu, counts in zip(gpus, member.source.counted(member.placement), strict=True):
            use = member.placement.use_of(gpu.uuid, worked=True) if counts and gpu.uuid else None
            if use is not None and gpu.uuid is not None:
                out.append(CountedGpu(rank=member.header.rank, hostname=hostname, uuid=gpu.uuid, use=use))
    return out
