"""The first pass over the sums of a run: from one place the ranks that are known there, and their series."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from satscore.core.job_series import JobSeries
from satscore.core.placement import NOTHING_KNOWN
from satscore.core.wire import StoredSeries
from satscore.errors import RecordError
from satscore.record.run_file import RunFile
from satscore.record.sums_file import SumsFile
from satscore.run.members import Member, member_of
from satscore.run.rank_gpus import Hardware
from satscore.run.stored_rank import StoredRank, SumsContent, SumsReader

Key = tuple[str, int]
"""Host name and rank."""


class Ranks(Protocol):
    """What is known of the ranks of a run beside their sums."""

    @property
    def lead(self) -> RunFile:
        """What the rank that stands for the run said of itself."""

    def content(self, hostname: str, rank: int, about: bytes | None) -> RunFile | None:
        """Return what a rank said of itself; None: nothing that can be believed, so it is left out.

        Args:
            hostname: Of its node.
            rank: Its number.
            about: What lies beside its sums; None: nothing.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class SumsSources:
    """Where the sums of a run are.

    Attributes:
        ranks: A place for each rank, or for several.
        whole: One for many ranks, with one series of all: it stands back where a rank has readings or sums of its own.
        series: The series of all ranks, where it is known already; then none is read.
    """

    ranks: Sequence[SumsContent]
    whole: SumsContent | None = None
    series: JobSeries | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SumsPart:
    """What the first pass takes from one place: the ranks that are known there, and the series of those that count."""

    members: Sequence[Member]
    series: Sequence[tuple[frozenset[Key], StoredSeries]] = field(default_factory=list)

    @property
    def keys_in_series(self) -> frozenset[Key]:
        """The ranks whose seconds are in any of the series."""
        return frozenset(key for keys, _ in self.series for key in keys)


def trimmed(series: JobSeries) -> JobSeries:
    """Return a series without seconds at its ends in which no GPU has a window: rows were taken out of the sum."""
    rows = np.flatnonzero(series.column("gpus"))
    if len(rows) == 0:
        return JobSeries()
    begin, stop = int(rows[0]), int(rows[-1]) + 1
    if (begin, stop) == (0, len(series)):
        return series
    columns = {name: column[begin:stop] for name, column in series.columns().items()}
    return JobSeries(series.first_index + begin, columns)


def read_part(
    file: SumsFile,
    content: SumsContent,
    ranks: Ranks,
    hardware: Hardware,
    reader: SumsReader,
    *,
    with_series: bool,
    is_read_whole: bool,
) -> SumsPart:
    """Return what the first pass takes from a place.

    Args:
        file: It, opened.
        content: Where it is, for the second pass.
        ranks: What else is known of the ranks.
        hardware: Where hardware models are found.
        reader: Reads the sums of a rank in the second pass.
        with_series: Whether the series are read.
        is_read_whole: Whether all else is read as well, to find damage.

    Raises:
        RecordError: It is damaged, or was made for something else than the run.
    """
    _check(file, ranks.lead)
    members, counted, keys = list[Member](), list[Sequence[bool] | None](), list[Key]()
    for at, head in enumerate(file.head.ranks):
        keys.append((head.hostname, head.rank))
        said = ranks.content(head.hostname, head.rank, file.about(at))
        if said is None:
            counted.append(None)
            continue
        until_ns = said.end.scored_until_ns if said.end else None
        rank = StoredRank(content, at, head, hardware, until_ns, reader)
        members.append(member_of(head.header(), rank, said))
        counted.append(rank.counted(said.placement or NOTHING_KNOWN))
        if is_read_whole:
            file.gpus(at)
    return SumsPart(members=members, series=list(_used_series(file, counted, keys)) if with_series else [])


def _used_series(
    file: SumsFile, counted: Sequence[Sequence[bool] | None], keys: Sequence[Key]
) -> Iterator[tuple[frozenset[Key], StoredSeries]]:
    """Yield the series of the GPUs that count, and of which ranks they are; a rank that is not known does not tell."""
    stored = set[tuple[int, int]]()
    for at in range(len(file.head.series)):
        members = file.members(at)
        stored.update(members)
        flags = {mine[g] for r, g in members if (mine := counted[r]) is not None}
        if len(flags) > 1:
            raise RecordError(
                f"{file.path}: $.series[{at}]: a GPU that the command does not use is summed up with others",
                hint="run.json is older than the sums, or one of them was changed",
            )
        if True in flags:
            yield frozenset(keys[r] for r, _ in members), file.series(at)
    for r, mine in enumerate(counted):
        if any(counts and (r, g) not in stored for g, counts in enumerate(mine or ())):
            raise RecordError(
                f"{file.path}: $.ranks[{r}]: a GPU that the command uses is in no series",
                hint="run.json is younger than the sums, or one of them was changed",
            )


def _check(file: SumsFile, lead: RunFile) -> None:
    """Sums hold for the options that they were made with."""
    for key, made, wanted in (
        ("profile", file.head.profile, lead.start.profile),
        ("dtype", file.head.dtype, lead.start.dtype),
    ):
        if made != wanted:
            raise RecordError(
                f"{file.path}: $.{key}: the sums were made for {made}, run.json says {wanted}",
                hint="sums hold for one profile and data type; only readings (--record full) can be scored anew",
            )
