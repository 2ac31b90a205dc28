"""A job's summary from the sums of its ranks, in two passes: heads and series, then rank by rank.

However many ranks there are, the sums of one file and one job-wide series are in memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from satscore.core.assemble import Outline, assemble_stream
from satscore.core.gate import RANKS_MISSING
from satscore.core.job_series import SeriesSum
from satscore.core.labels import Label
from satscore.core.placement import NOTHING_KNOWN
from satscore.core.rank_blocks import RankBlocks
from satscore.core.run_facts import RankResult
from satscore.core.summarise import GpuResult
from satscore.core.summary import Summary
from satscore.core.wire import StoredSeries
from satscore.errors import RecordError
from satscore.record.run_file import RunFile, StreamHeader
from satscore.record.sums_file import SumsFile, sums_name
from satscore.record.sums_head import RankHead
from satscore.run.aside import NOTHING_ASIDE, Aside
from satscore.run.rank_gpus import Hardware
from satscore.run.results import RankSource, facts_of_run, rank_results
from satscore.run.stored_rank import StoredRank, SumsReader

MOST_APART_S = 7 * 86_400
"""Time without a row of any rank between the first and the last: more is no job, but a damaged time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What the first pass takes from one file; ``used`` is by rank and GPU."""

    path: Path
    heads: Sequence[RankHead]
    ranks: Sequence[StoredRank]
    used: Sequence[Sequence[bool]]
    series: Sequence[StoredSeries]


class StoredRun:
    """The ranks of a run that are there as sums: the first pass over their files.

    A file that cannot be read, or was made for something else than the run, is left out.

    Args:
        paths: The files.
        content: Of the run.
        hardware: Where hardware models are found.
        whole: Whether each file is read to its end before its ranks count; else its heads and series only.

    Attributes:
        ranks: Header and source of each rank.
        missing: What is left out and why, a note per file.

    Raises:
        RecordError: No file is left, or they are of different runs; names file and key.
    """

    def __init__(self, paths: Sequence[Path], content: RunFile, hardware: Hardware, *, whole: bool = False) -> None:
        self.ranks: list[tuple[StreamHeader, StoredRank]] = []
        self.missing: list[str] = []
        self._placement = content.placement or NOTHING_KNOWN
        self._total = SeriesSum()
        self._rows_s = 0
        self._range_s: tuple[int, int] | None = None
        self._block_s = RankBlocks().length_s
        self._steady_us = self._gpus_count = 0
        self._reader = SumsReader()
        errors = list[RecordError]()
        for path in paths:
            try:
                part = self._part(path, content, hardware, whole=whole)
            except RecordError as error:
                errors.append(error)
                self.missing.append(RANKS_MISSING + error.message)
                continue
            self._add(part)
        if errors and not self.ranks:
            raise errors[0]

    def summary(
        self,
        content: RunFile,
        more: Sequence[tuple[StreamHeader, RankSource]],
        *,
        directory: str,
        live: bool,
        aside: Aside = NOTHING_ASIDE,
    ) -> Summary:
        """Return the summary: the second pass.

        Args:
            content: Of the run.
            more: Ranks that are there as readings, scored.
            directory: The run directory as shown to the user.
            live: Whether the run is still being recorded.
            aside: What the command said and the hosts did.
        """
        # In the order in which recordings of readings are read, however the ranks are spread over files.
        ranks: list[tuple[StreamHeader, RankSource]] = sorted([*more, *self.ranks], key=lambda one: sums_name(one[0]))
        facts = facts_of_run(content, ranks, directory=directory, live=live, aside=aside)
        source = msgspec.structs.replace(facts.source, resolution="sums")
        notes = (*self.missing, *facts.notes)
        facts = msgspec.structs.replace(facts, source=source, resolution="sums", notes=notes)
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

    def _part(self, path: Path, content: RunFile, hardware: Hardware, *, whole: bool) -> "_Part":
        """Return what the first pass takes from a file."""
        until_ns = content.end.scored_until_ns if content.end else None
        with SumsFile(path) as file:
            _check(file, content)
            heads = file.head.ranks
            ranks = [StoredRank(path, at, head, hardware, until_ns, self._reader) for at, head in enumerate(heads)]
            used = [rank.used(self._placement) for rank in ranks]
            if whole:
                for at in range(len(heads)):
                    file.gpus(at)
            return _Part(path=path, heads=heads, ranks=ranks, used=used, series=list(_used_series(file, used)))

    def _add(self, part: "_Part") -> None:
        for head, mine in zip(part.heads, part.used, strict=True):
            for gpu, counts in zip(head.gpus, mine, strict=True):
                if counts:
                    self._count(gpu.block_s, gpu.steady_us)
        for series in part.series:
            self._add_series(series, part.path)
        self.ranks += [(head.header(), one) for head, one in zip(part.heads, part.ranks, strict=True)]

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


def summary_of_sums(
    paths: Sequence[Path],
    content: RunFile,
    hardware: Hardware,
    more: Sequence[tuple[StreamHeader, RankSource]],
    *,
    directory: str,
    live: bool,
    aside: Aside = NOTHING_ASIDE,
) -> tuple[Summary, Sequence[str]]:
    """Return the summary, and which files are left out of it and why.

    The arguments are those of ``StoredRun`` and ``StoredRun.summary``. Damage that shows in the second pass only
    is rare, so files are read whole beforehand only then.

    Raises:
        RecordError: No file is left, or they are of different runs; names file and key.
    """
    run = StoredRun(paths, content, hardware)
    try:
        return run.summary(content, more, directory=directory, live=live, aside=aside), run.missing
    except RecordError:
        run = StoredRun(paths, content, hardware, whole=True)
        return run.summary(content, more, directory=directory, live=live, aside=aside), run.missing


def _used_series(file: SumsFile, used: Sequence[Sequence[bool]]) -> Iterator[StoredSeries]:
    """Yield the series of the GPUs that count."""
    for at in range(len(file.head.series)):
        counted = {used[r][g] for r, g in file.members(at)}
        if len(counted) > 1:
            raise RecordError(
                f"{file.path}: $.series[{at}]: a GPU that the command does not use is summed up with others",
                hint="run.json is older than the sums, or one of them was changed",
            )
        if True in counted:
            yield file.series(at)


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
