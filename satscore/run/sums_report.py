"""A job's summary from the sums of its ranks, in two passes: heads and series, then rank by rank.

However many ranks there are, the sums of one file and one job-wide series are in memory.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from satscore.core.assemble import Outline, assemble_stream
from satscore.core.job_series import SeriesSum
from satscore.core.labels import Label
from satscore.core.placement import NOTHING_KNOWN, Placement
from satscore.core.rank_blocks import RankBlocks
from satscore.core.rank_state import GpuState
from satscore.core.run_facts import RankResult
from satscore.core.summarise import GpuResult
from satscore.core.summary import Summary
from satscore.core.summary_gpu import UnreadGpu
from satscore.core.units import NS_PER_S
from satscore.core.wire import StoredSeries
from satscore.errors import RecordError
from satscore.record.marks_file import NOTHING_SAID, Said
from satscore.record.run_file import RunFile, StreamHeader
from satscore.record.sums_file import SumsFile, sums_name
from satscore.record.sums_head import RankHead
from satscore.run.rank_gpus import Hardware, RankGpus
from satscore.run.results import RankSource, facts_of_run, rank_results

MOST_APART_S = 7 * 86_400
"""Time without a row of any rank between the first and the last: more is no job, but a damaged time."""
OTHER_BOUNDS_NOTE = (
    "GPU {which}: the sums were made with bounds that the hardware models of this satscore no longer give: scores "
    "are those of the run, bounds those of today"
)


class StoredRank:
    """One rank of a file; its sums are read when its results are asked for.

    Args:
        path: The file.
        at: Position of the rank in it.
        head: What the file's head says of the rank.
        hardware: Where hardware models are found.
        until_ns: Until when the rank was scored, where that was recorded.
        reader: Reads its sums.
    """

    def __init__(
        self, path: Path, at: int, head: RankHead, hardware: Hardware, until_ns: int | None, reader: "_Reader"
    ) -> None:
        self.first_ns = head.first_ns
        self.last_ns = head.last_ns
        self.intervals_count = head.intervals_count
        self.intervals_ns = head.intervals_ns
        self._path = path
        self._at = at
        self._heads = head.gpus
        self._engine = [gpu.engine_active_frac for gpu in head.gpus]
        self._gpus = RankGpus([gpu.info for gpu in head.gpus], hardware)
        self._until_ns = until_ns
        self._reader = reader

    def used(self, placement: Placement) -> list[bool]:
        """Return which of its GPUs count."""
        return [use is not None for use in self._gpus.uses(placement, self._engine)]

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
        states = self._reader.gpus(self._path, self._at, len(self._heads))
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


class _Reader:
    """Keeps the file of the last rank open: those of one file come one after the other."""

    def __init__(self) -> None:
        self._file: SumsFile | None = None

    def gpus(self, path: Path, at: int, count: int) -> tuple[GpuState, ...]:
        if self._file is None or self._file.path != path:
            self.close()
            self._file = SumsFile(path)
        if at >= len(self._file.head.ranks) or len(self._file.head.ranks[at].gpus) != count:
            raise RecordError(f"{path}: has changed while it was read", hint="run the report again")
        return self._file.gpus(at)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class StoredRun:
    """The ranks of a run that are there as sums: the first pass over their files.

    Args:
        paths: The files.
        content: Of the run.
        hardware: Where hardware models are found.

    Raises:
        RecordError: A file cannot be read, or was made for something else than the run; names file and key.
    """

    def __init__(self, paths: Sequence[Path], content: RunFile, hardware: Hardware) -> None:
        self.ranks: list[tuple[StreamHeader, StoredRank]] = []
        self._placement = content.placement or NOTHING_KNOWN
        self._total = SeriesSum()
        self._rows_s = 0
        self._range_s: tuple[int, int] | None = None
        self._block_s = RankBlocks().length_s
        self._steady_us = self._gpus_count = 0
        self._reader = _Reader()
        until_ns = content.end.scored_until_ns if content.end else None
        for path in paths:
            with SumsFile(path) as file:
                _check(file, content)
                stored = [
                    StoredRank(path, at, head, hardware, until_ns, self._reader)
                    for at, head in enumerate(file.head.ranks)
                ]
                self._add(file, stored)
                self.ranks += [(head.header(), one) for head, one in zip(file.head.ranks, stored, strict=True)]

    def summary(
        self,
        content: RunFile,
        more: Sequence[tuple[StreamHeader, RankSource]],
        *,
        directory: str,
        live: bool,
        said: Said = NOTHING_SAID,
    ) -> Summary:
        """Return the summary: the second pass.

        Args:
            content: Of the run.
            more: Ranks that are there as readings, scored.
            directory: The run directory as shown to the user.
            live: Whether the run is still being recorded.
            said: What the command said of itself.
        """
        # In the order in which recordings of readings are read, however the ranks are spread over files.
        ranks: list[tuple[StreamHeader, RankSource]] = sorted([*more, *self.ranks], key=lambda one: sums_name(one[0]))
        facts = facts_of_run(content, ranks, directory=directory, live=live, said=said)
        source = msgspec.structs.replace(facts.source, resolution="sums")
        facts = msgspec.structs.replace(facts, source=source, resolution="sums")
        for gpu in (gpu for result in rank_results(more, self._placement) for gpu in result.gpus):
            self._add_result(gpu)
        outline = Outline(
            series=self._total.series(),
            block_s=self._block_s,
            ranks_count=len(ranks),
            gpus_count=self._gpus_count,
            steady_us=self._steady_us,
        )
        try:
            return assemble_stream(facts, self._known(rank_results(ranks, self._placement)), outline)
        finally:
            self._reader.close()

    def _known(self, results: Iterator[RankResult]) -> Iterator[RankResult]:
        """Pass results on; one whose blocks have grown since the first pass cannot be compared."""
        for result in results:
            if any(gpu.blocks.length_s > self._block_s for gpu in result.gpus):
                raise RecordError(
                    f"the sums of rank {result.rank} have grown while they were read", hint="run the report again"
                )
            yield result

    def _add(self, file: SumsFile, stored: Sequence[StoredRank]) -> None:
        used = [rank.used(self._placement) for rank in stored]
        for head, mine in zip(file.head.ranks, used, strict=True):
            for gpu, counts in zip(head.gpus, mine, strict=True):
                if counts:
                    self._count(gpu.block_s, gpu.steady_us)
        for at in range(len(file.head.series)):
            counted = {used[r][g] for r, g in file.members(at)}
            if len(counted) > 1:
                raise RecordError(
                    f"{file.path}: $.series[{at}]: a GPU that the command does not use is summed up with others",
                    hint="run.json is older than the sums, or one of them was changed",
                )
            if True in counted:
                self._add_series(file.series(at), file.path)

    def _count(self, block_s: int, steady_us: int) -> None:
        self._block_s = max(self._block_s, block_s)
        self._steady_us += steady_us
        self._gpus_count += 1

    def _add_result(self, gpu: GpuResult) -> None:
        steady = gpu.phase_sums.get(Label.STEADY)
        self._count(gpu.blocks.length_s, steady.total("time_us") if steady else 0)
        self._total.add(gpu.series.first_index, len(gpu.series), gpu.series.columns())

    def _add_series(self, stored: StoredSeries, path: Path) -> None:
        if stored.length == 0:
            return
        stop = stored.first_index + stored.length
        low, high = self._range_s or (stored.first_index, stop)
        self._range_s = min(low, stored.first_index), max(high, stop)
        self._rows_s += stored.length
        if self._range_s[1] - self._range_s[0] > self._rows_s + MOST_APART_S:
            raise RecordError(
                f"{path}: $.series: its time is more than {MOST_APART_S} s from that of other ranks",
                hint="the files are of different runs, or the clock of a node is wrong",
            )
        self._total.add(stored.first_index, stored.length, stored.columns)


def _check(file: SumsFile, content: RunFile) -> None:
    """Sums hold for the options that they were made with."""
    for key, made, wanted in (
        ("profile", file.head.profile, content.start.profile),
        ("dtype", file.head.dtype, content.start.dtype),
    ):
        if made != wanted:
            raise RecordError(
                f"{file.path}: $.{key}: the sums were made for {made}, run.json says {wanted}",
                hint="sums hold for one profile and data type; only readings (--record full) can be scored anew",
            )
