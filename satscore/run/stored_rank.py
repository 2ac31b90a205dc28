"""One rank of a file of sums, as a summary takes it: its sums are read when its results are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from satscore.core.placement import Placement
from satscore.core.rank_state import GpuState
from satscore.core.run_facts import RankResult
from satscore.core.summary_gpu import UnreadGpu
from satscore.core.units import NS_PER_S
from satscore.core.wire import StoredSeries
from satscore.errors import RecordError
from satscore.record.sums_file import SumsFile
from satscore.record.sums_head import RankHead
from satscore.run.rank_gpus import Hardware, RankGpus

OTHER_BOUNDS_NOTE = (
    "GPU {which}: the sums were made with bounds that the hardware models of this satscore no longer give: scores "
    "are those of the run, bounds those of today"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SumsContent:
    """Where sums are: in a file, or in memory; then ``path`` is what messages call them."""

    path: Path
    data: bytes | None = None

    def open(self) -> SumsFile:
        """Return them, opened for reading.

        Raises:
            RecordError: They cannot be read.
        """
        return SumsFile(self.path, self.data)


class SumsReader:
    """Reads the sums of ranks; keeps the file of the last one open, as those of one file come together."""

    def __init__(self) -> None:
        self._file: SumsFile | None = None

    def gpus(self, content: SumsContent, at: int, count: int) -> tuple[GpuState, ...]:
        """Return what was added up of the GPUs of one rank, without series.

        Args:
            content: Where the sums are.
            at: Position of the rank there.
            count: GPUs that it had when the file's head was read.

        Raises:
            RecordError: The sums cannot be read, or others have taken their place.
        """
        if self._file is None or self._file.path != content.path:
            self.close()
            self._file = content.open()
        if at >= len(self._file.head.ranks) or len(self._file.head.ranks[at].gpus) != count:
            raise RecordError(f"{content.path}: has changed while it was read", hint="run the report again")
        return self._file.gpus(at)

    def close(self) -> None:
        """Close the file that is open, if any."""
        if self._file is not None:
            self._file.close()
            self._file = None


class StoredRank:
    """One rank of a file; its sums are read when its results are asked for.

    Args:
        content: Where its sums are.
        at: Position of the rank there.
        head: What the file's head says of the rank.
        hardware: Where hardware models are found.
        until_ns: Until when the rank was scored, where that was recorded.
        reader: Reads its sums.
    """

    def __init__(
        self,
        content: SumsContent,
        at: int,
        head: RankHead,
        hardware: Hardware,
        until_ns: int | None,
        reader: SumsReader,
    ) -> None:
        self.first_ns = head.first_ns
        self.last_ns = head.last_ns
        self.intervals_count = head.intervals_count
        self.intervals_ns = head.intervals_ns
        self._content = content
        self._at = at
        self._heads = head.gpus
        self._engine = [gpu.engine_active_frac for gpu in head.gpus]
        self._gpus = RankGpus([gpu.info for gpu in head.gpus], hardware)
        self._until_ns = until_ns
        self._reader = reader

    def counted(self, placement: Placement) -> list[bool]:
        """Return which of its GPUs count."""
        return [use is not None for use in self._gpus.uses(placement, self._engine)]

    def sizes(self, placement: Placement) -> list[tuple[int, int]]:
        """Return the length of the blocks in s, and the time labelled steady in us, of each GPU that counts."""
        return [
            (head.block_s, head.steady_us)
            for head, counts in zip(self._heads, self.counted(placement), strict=True)
            if counts
        ]

    def series_alone(self, uuid: str) -> StoredSeries | None:
        """Return the series of one of its GPUs, where that is stored apart from others.

        Raises:
            RecordError: It cannot be read.
        """
        with self._content.open() as file:
            for i in range(len(file.head.series)):
                members = file.members(i)
                if len(members) == 1 and members[0][0] == self._at and self._heads[members[0][1]].info.uuid == uuid:
                    return file.series(i)
        return None

    def notes(self, placement: Placement) -> list[str]:
        """Return what must be said about the rank."""
        notes = []
        if self._until_ns is not None and self.last_ns is not None and self._until_ns > self.last_ns:
            lost_s = (self._until_ns - self.last_ns) / NS_PER_S
            notes.append(f"the sums lack the last {lost_s:.1f} s that were read: they are in no number")
        matched = zip(self._heads, self._gpus.matched, strict=True)
        changed = [str(i) for i, (head, now) in enumerate(matched) if head.bounds_key != now.bounds_key]
        if changed:
            notes.append(OTHER_BOUNDS_NOTE.format(which=", ".join(changed)))
        return [*notes, *self._gpus.notes(placement, self._engine)]

    def result(
        self,
        *,
        rank: int,
        local_rank: int | None,
        hostname: str,
        placement: Placement,
        unread: Sequence[UnreadGpu],
    ) -> RankResult:
        """Return the results of its GPUs; their series are not among them.

        Raises:
            RecordError: The sums cannot be read.
        """
        states = self._reader.gpus(self._content, self._at, len(self._heads))
        uses = self._gpus.uses(placement, self._engine)
        return RankResult(
            rank=rank,
            local_rank=local_rank,
            hostname=hostname,
            gpus=tuple(
                self._gpus.result(at, state, use, placement)
                for at, (state, use) in enumerate(zip(states, uses, strict=True))
                if use
            ),
            unused=self._gpus.unused(placement, self._engine),
            unread=tuple(unread),
        )
