"""What the collector has of each rank; counts every part once. No sockets, no clock."""

import threading

import msgspec

from satscore.core.job_series import SeriesSum
from satscore.core.wire import StoredSeries, decode_series
from satscore.errors import RecordError
from satscore.fleet.shared import Notes
from satscore.fleet.wire import LiveRank, Part, Refused, Rows, Taken

MOST_GAP_S = 7 * 86_400
"""A series further from all others is of a clock that was never set, and the sum holds every second between."""
MOST_AMOUNT = 1 << 48
"""Per second and column, of one rank: that of a GPU fits into 32 bits (core.job_series)."""
MOST_NAME = 255
"""Characters of a host's name or of a run_id."""
_SMALL_ITEM_BYTES = 4


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What the collector has of all ranks at one moment; nothing in it changes any more.

    Attributes:
        parts: rank -> its latest part, with an empty series.
        series: The sum of the series of all parts of all ranks, each counted once.
        live: rank -> its latest row.
        last_heard_s: rank -> age of the last row or part, s.
        offsets_ns: Host name -> the collector's wall clock minus that host's, ns, as measured there.
        notes: What a user should know of it, one line each.
    """

    parts: dict[int, Part]
    series: SeriesSum
    live: dict[int, LiveRank]
    last_heard_s: dict[int, float]
    offsets_ns: dict[str, int]
    notes: list[str]


class _Start:
    """One start of a rank, from its first part on."""

    def __init__(self, part: Part) -> None:
        self.run_id = part.run_id
        self.hostname = part.hostname
        self.part: Part | None = None
        self.refusal: str | None = None

    @property
    def number(self) -> int:
        """Of the last part that was counted; 0: none was."""
        return self.part.number if self.part is not None else 0


class Ledger:
    """Takes rows and parts, from any thread.

    A rank that is started twice counts once. Who delivered a part first stays: what it sent is in the series, and
    nothing could take it out. The other one is refused by name; what it recorded stays in its own files.

    Args:
        world: Ranks of the job.
        notes: Gets what a user should know.
    """

    def __init__(self, world: int, notes: Notes) -> None:
        self._world = world
        self._notes = notes
        self._lock = threading.Condition()
        self._starts: dict[int, _Start] = {}
        self._live: dict[int, LiveRank] = {}
        self._heard_s: dict[int, float] = {}
        self._offsets_ns: dict[str, int] = {}
        self._series = SeriesSum()
        self._span: tuple[int, int] | None = None
        """First second of the series, and the one after its last."""
        self._final_count = 0

    def take_rows(self, rows: Rows, now_s: float) -> None:
        """Take the rows of a node."""
        with self._lock:
            is_known = rows.hostname in self._offsets_ns or len(self._offsets_ns) < self._world
            if rows.offset_ns is not None and is_known and 0 < len(rows.hostname) <= MOST_NAME:
                self._offsets_ns[rows.hostname] = rows.offset_ns
            for row in rows.rows:
                if self._is_rank(row.rank, row.hostname):
                    self._note_second(row)
                    self._live[row.rank] = row
                    self._heard_s[row.rank] = now_s

    def take(self, part: Part, now_s: float) -> Taken | Refused:
        """Take a part, unless it is there already or another one is missing before it; return the answer."""
        with self._lock:
            if not self._is_rank(part.rank, part.hostname) or len(part.run_id) > MOST_NAME or part.number < 1:
                return self._refuse(part, f"{_named(part)} is not one of the {self._world} ranks of this job")
            start = self._starts.get(part.rank)
            if start is None or (start.run_id != part.run_id and start.part is None):
                start = self._starts[part.rank] = _Start(part)
            if start.run_id != part.run_id:
                return self._refuse(
                    part,
                    f"rank {part.rank} was started twice, on {start.hostname} and on {part.hostname}: the first one to"
                    " be heard of counts, the other one is in its own files only",
                )
            self._heard_s[part.rank] = now_s
            if start.refusal is None and part.number == start.number + 1:
                self._count(start, part)
            if start.refusal is not None:
                return self._refuse(part, start.refusal)
            return Taken(rank=part.rank, run_id=part.run_id, number=start.number)

    def wait(self, timeout_s: float) -> bool:
        """Wait for a change, not longer than that; return whether all ranks have delivered their final part."""
        with self._lock:
            if self._final_count < self._world:
                self._lock.wait(timeout_s)
            return self._final_count >= self._world

    def collected(self, now_s: float) -> Collected:
        """Return what is there now; it costs a copy of the series."""
        with self._lock:
            series = SeriesSum()
            sum_ = self._series.series()
            series.add(sum_.first_index, len(sum_), sum_.columns())
            return Collected(
                parts={rank: start.part for rank, start in self._starts.items() if start.part is not None},
                series=series,
                live=dict(self._live),
                last_heard_s={rank: max(0.0, now_s - heard_s) for rank, heard_s in self._heard_s.items()},
                offsets_ns=dict(self._offsets_ns),
                notes=self._notes.lines(),
            )

    def _is_rank(self, rank: int, hostname: str) -> bool:
        return 0 <= rank < self._world and 0 < len(hostname) <= MOST_NAME

    def _note_second(self, row: LiveRank) -> None:
        known = self._live.get(row.rank)
        if known is not None and known.hostname != row.hostname:
            hosts = " and ".join(sorted((known.hostname, row.hostname)))
            self._notes.add(f"two processes say that they are rank {row.rank}: on {hosts}")

    def _checked(self, part: Part) -> StoredSeries | None:
        """Return the series of a part that can be added; None: it has none.

        Raises:
            RecordError: It is damaged, or would break the sum.
        """
        if not part.series:
            return None
        stored = decode_series(part.series, f"part {part.number}")
        for name, values in stored.columns.items():
            is_large = values.itemsize > _SMALL_ITEM_BYTES and len(values)
            if is_large and not -MOST_AMOUNT < values.min() <= values.max() < MOST_AMOUNT:
                raise RecordError(f"part {part.number}.{name}: no sum over the GPUs of a rank")
        if stored.length and self._span is not None:
            gap_s = max(stored.first_index - self._span[1], self._span[0] - stored.first_index - stored.length)
            if gap_s > MOST_GAP_S:
                raise RecordError(f"its clock is {gap_s // 86_400} days from that of the others")
        return stored

    def _add(self, stored: StoredSeries | None) -> None:
        if stored is None or not stored.length:
            return
        first, stop = stored.first_index, stored.first_index + stored.length
        self._series.add(first, stored.length, stored.columns)
        self._span = (min(first, self._span[0]), max(stop, self._span[1])) if self._span else (first, stop)

    def _count(self, start: _Start, part: Part) -> None:
        """Count the next part of a rank; one that is damaged is the end of that rank here."""
        try:
            self._add(self._checked(part))
        except RecordError as error:
            start.refusal = f"{_named(part)}: {error.message}: what it sent counts up to part {start.number}"
            return
        if part.is_final and not (start.part is not None and start.part.is_final):
            self._final_count += 1
            self._lock.notify_all()
        start.part = msgspec.structs.replace(part, series=b"")

    def _refuse(self, part: Part, reason: str) -> Refused:
        self._notes.add(reason)
        return Refused(rank=part.rank, run_id=part.run_id[:MOST_NAME], reason=reason)


def _named(part: Part) -> str:
    return f"rank {part.rank} on {part.hostname[:MOST_NAME]}"
