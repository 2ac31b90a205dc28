"""A job's summary from the sums of its ranks, in two passes: heads and series, then rank by rank.

However many ranks there are, the sums of one file and one job-wide series are in memory.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import msgspec

from satscore.core.assemble import Outline, assemble_stream
from satscore.core.gate import RANKS_MISSING
from satscore.core.job_series import SeriesSum
from satscore.core.labels import Label
from satscore.core.rank_blocks import RankBlocks
from satscore.core.run_facts import RankResult
from satscore.core.summarise import GpuResult
from satscore.core.summary import Summary
from satscore.core.wire import StoredSeries
from satscore.errors import RecordError
from satscore.record.sums_file import sums_name
from satscore.run.aside import NOTHING_ASIDE, Aside
from satscore.run.members import Member, without_doubles
from satscore.run.rank_files import UNREADABLE, rank_in_name
from satscore.run.rank_gpus import Hardware
from satscore.run.results import Job, facts_of_run, rank_results
from satscore.run.stored_rank import StoredRank, SumsContent, SumsReader
from satscore.run.sums_pass import Key, Ranks, SumsPart, SumsSources, read_part, trimmed

MOST_APART_S = 7 * 86_400
"""Time without a row of any rank between the first and the last: more is no job, but a damaged time."""
FAR_APART = f"its time is more than {MOST_APART_S} s from that of other ranks"
FAR_APART_HINT = "the files are of different runs, or the clock of a node is wrong"
MOST_SAID = 8
"""Files that cannot be read and are said one by one."""
DOUBLE_NOTE = "GPU {uuid} is still twice in the phases and the interval: its seconds are not stored apart"


class StoredRun:
    """The ranks of a run that are there as sums: the first pass over them.

    What cannot be read, or was made for something else than the run, is left out.

    Args:
        sources: Where they are.
        ranks: What else is known of the ranks.
        hardware: Where hardware models are found.
        more: Ranks that are there as readings, scored: they count instead of their sums.
        is_read_whole: Whether each place is read to its end before its ranks count; else heads and series only.

    Attributes:
        missing: What is left out and why, a note per place.
        why_missing: rank -> that it cannot be read.
        members: The ranks that are there, each place and each rank once.

    Raises:
        RecordError: Nothing is left, or it is of different runs; names file and key.
    """

    def __init__(
        self,
        sources: SumsSources,
        ranks: Ranks,
        hardware: Hardware,
        more: Sequence[Member] = (),
        *,
        is_read_whole: bool = False,
    ) -> None:
        self.missing: list[str] = []
        self.why_missing: dict[int, str] = {}
        self._ranks = ranks
        self._hardware = hardware
        self._is_read_whole = is_read_whole
        self._given = sources.series
        self._total = SeriesSum()
        self._rows_s = 0
        self._range_s: tuple[int, int] | None = None
        self._reader = SumsReader()
        self._errors = list[RecordError]()
        own = {sums_name(member.header) for member in more} | {content.path.name for content in sources.ranks}
        whole = self._part(sources.whole, but=own) if sources.whole else None
        self._apart = whole.keys_in_series if whole else frozenset[Key]()
        """Ranks whose seconds are in the series of all."""
        self._members = [*more]
        for content in sources.ranks:
            self._take(self._part(content), content)
        if whole is not None and sources.whole is not None:
            self._take(whole, sources.whole, is_whole=True)
        if self._errors and not self._members:
            raise self._errors[0]
        self.members: Sequence[Member] = self._members
        self._more = {member.key for member in more}

    def summary(
        self,
        *,
        directory: str | None,
        live: bool,
        aside: Aside = NOTHING_ASIDE,
        others: Sequence[Member] = (),
        why_missing: Mapping[int, str] | None = None,
        notes: Sequence[str] = (),
    ) -> Summary:
        """Return the summary: the second pass.

        Args:
            directory: The run directory as shown to the user.
            live: Whether the run is still being recorded.
            aside: What the command said and the hosts did.
            others: Ranks without anything to read.
            why_missing: rank -> why it is not there, where something is known of it.
            notes: What must be said of how the ranks came together.
        """
        members, dropped, doubles = without_doubles(sorted([*self._members, *others], key=lambda one: one.order))
        doubles += self._without(dropped)
        said = [*self._missing_notes(), *notes, *doubles]
        job = Job(lead=self._ranks.lead, members=members, why_missing=why_missing or {}, notes=said)
        facts = facts_of_run(job, directory=directory, live=live, aside=aside)
        if any(isinstance(member.source, StoredRank) for member in members):
            source = msgspec.structs.replace(facts.source, resolution="sums")
            facts = msgspec.structs.replace(facts, source=source, resolution="sums")
        try:
            outline = self._outline(members)
            return assemble_stream(facts, self._known(rank_results(members), outline.block_s), outline)
        finally:
            self._reader.close()

    def _missing_notes(self) -> list[str]:
        rest = len(self.missing) - MOST_SAID
        return (
            [*self.missing[:MOST_SAID], f"{RANKS_MISSING}{rest} more files cannot be read"]
            if rest > 0
            else self.missing
        )

    def _outline(self, members: Sequence[Member]) -> Outline:
        """Return what must be known of all ranks before the first is taken; those with readings add their series."""
        sizes, rank_gpus = list[tuple[int, int]](), [0]
        scored = [member for member in members if member.key in self._more]
        for result in rank_results(scored):
            sizes += [self._size_of(gpu) for gpu in result.gpus]
            rank_gpus.append(len(result.gpus))
            if (result.hostname, result.rank) not in self._apart and self._given is None:
                for gpu in result.gpus:
                    self._total.add(gpu.series.first_index, len(gpu.series), gpu.series.columns())
        for member in members:
            if isinstance(member.source, StoredRank):
                mine = member.source.sizes(member.placement)
                sizes += mine
                rank_gpus.append(len(mine))
        return Outline(
            series=trimmed(self._total.series()) if self._given is None else self._given,
            block_s=max((block_s for block_s, _ in sizes), default=RankBlocks().length_s),
            ranks_count=len(members),
            gpus_count=len(sizes),
            rank_gpus_max=max(rank_gpus),
            steady_us=sum(steady_us for _, steady_us in sizes),
        )

    @staticmethod
    def _size_of(gpu: GpuResult) -> tuple[int, int]:
        steady = gpu.phase_sums.get(Label.STEADY)
        return gpu.blocks.length_s, steady.total("time_us") if steady else 0

    @staticmethod
    def _known(results: Iterator[RankResult], block_s: int) -> Iterator[RankResult]:
        """Pass results on; one whose blocks have grown since the first pass cannot be compared."""
        for result in results:
            if any(gpu.blocks.length_s > block_s for gpu in result.gpus):
                raise RecordError(
                    f"the sums of rank {result.rank} have grown while they were read", hint="run the report again"
                )
            yield result

    def _part(self, content: SumsContent, but: Collection[str] = ()) -> SumsPart | None:
        """Return what the first pass takes from a place; None: it is left out, or all is there in other places.

        Args:
            content: The place.
            but: Names of places with one rank each that are there beside it.
        """
        try:
            with content.open() as file:
                if but and all(sums_name(head.header()) in but for head in file.head.ranks):
                    return None
                return read_part(
                    file,
                    content,
                    self._ranks,
                    self._hardware,
                    self._reader,
                    with_series=self._given is None,
                    is_read_whole=self._is_read_whole,
                )
        except RecordError as error:
            self._errors.append(error)
            rank = rank_in_name(content.path)
            if rank is not None:
                self.why_missing[rank] = UNREADABLE
            self.missing.append(RANKS_MISSING + error.message)
            return None

    def _take(self, part: SumsPart | None, content: SumsContent, *, is_whole: bool = False) -> None:
        """Let the ranks of a place count, and their series, but of ranks whose seconds are in the series of all."""
        if part is None:
            return
        for keys, series in part.series:
            if is_whole or not keys <= self._apart:
                self._add_series(series, content)
        taken = {member.key for member in self._members} if is_whole else frozenset[Key]()
        self._members += [member for member in part.members if member.key not in taken]

    def _without(self, dropped: Sequence[tuple[Member, str]]) -> list[str]:
        """Take the series of GPUs that count for another rank out of the sum; return what cannot be taken out."""
        notes = []
        for member, uuid in dropped:
            is_apart = self._given is not None or member.key in self._apart
            if not is_apart and not isinstance(member.source, StoredRank):
                continue  # the series of readings is added later
            alone = None
            if not is_apart and isinstance(member.source, StoredRank):
                alone = member.source.series_alone(uuid)
            if alone is None:
                notes.append(DOUBLE_NOTE.format(uuid=uuid))
            else:
                taken = {name: -column.astype("i8") for name, column in alone.columns.items()}
                self._total.add(alone.first_index, alone.length, taken)
        return notes

    def _add_series(self, stored: StoredSeries, content: SumsContent) -> None:
        if stored.length == 0:
            return
        stop = stored.first_index + stored.length
        low, high = self._range_s or (stored.first_index, stop)
        self._range_s = min(low, stored.first_index), max(high, stop)
        self._rows_s += stored.length
        if self._range_s[1] - self._range_s[0] > self._rows_s + MOST_APART_S:
            raise RecordError(f"{content.path}: $.series: {FAR_APART}", hint=FAR_APART_HINT)
        self._total.add(stored.first_index, stored.length, stored.columns)


def summary_of_sums(
    sources: SumsSources,
    ranks: Ranks,
    hardware: Hardware,
    more: Sequence[Member],
    summarise: Callable[[StoredRun], Summary],
) -> tuple[Summary, Sequence[str]]:
    """Return the summary, and what is left out of it and why.

    Damage that shows in the second pass only is rare, so places are read whole beforehand only then.

    Args:
        sources: Where the sums are.
        ranks: What else is known of the ranks.
        hardware: Where hardware models are found.
        more: Ranks that are there as readings, scored.
        summarise: Calls ``StoredRun.summary`` with what belongs to the run.

    Raises:
        RecordError: Nothing is left, or it is of different runs; names file and key.
    """
    run = StoredRun(sources, ranks, hardware, more)
    try:
        return summarise(run), run.missing
    except RecordError:
        run = StoredRun(sources, ranks, hardware, more, is_read_whole=True)
        return summarise(run), run.missing
