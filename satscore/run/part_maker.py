"""What one rank tells the collector of itself, again and again: sums that replace, series that add up.

The collector keeps one series of the whole job, whatever the number of ranks. So a rank does not send its own
again and again, but what has come since; and takes back the rows of a GPU that turns out not to be its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from satscore.core.gpu_series import GpuSeries, SeriesRows
from satscore.core.job_series import Series
from satscore.core.wire import encode_series
from satscore.fleet.wire import Part
from satscore.record.run_file import RunFile, StreamHeader
from satscore.record.some_bytes import packed
from satscore.record.sums_file import RankRecord, encode_sums
from satscore.run.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    """The rows of a GPU that are in the collector's sum, or have to be: the first ones of its series."""

    series: GpuSeries
    rows_count: int


class PartMaker:
    """Makes the parts of one start of a rank. Every part that is made must be counted once, in order.

    Args:
        hostname: Of the rank's node, as its files have it.
        rank: Its number in the job.
        run_id: Of this start.
    """

    def __init__(self, hostname: str, rank: int, run_id: str) -> None:
        self._hostname = hostname
        self._rank = rank
        self._run_id = run_id
        self._number = 0
        self._sent: dict[int, _Counts] = {}
        """By position of the GPU; those that do not count are not among them."""

    def make(
        self,
        content: RunFile,
        header: StreamHeader | None,
        session: Session | None,
        counted: Sequence[bool] = (),
        *,
        is_final: bool = False,
        hosts: bytes = b"",
    ) -> Part:
        """Return the next part.

        Args:
            content: What ran, how it ended, and which GPUs the command uses.
            header: Of the rank's readings; None, as the session: it has no source.
            session: What scored them. Another one than before, because the windows lie elsewhere now, takes back
                the rows of that.
            counted: Of each GPU of the session, whether it counts as the command's.
            is_final: Whether this is the last part, of a closed session.
            hosts: What is known of the host, encoded.
        """
        sums, counts = b"", dict[int, _Counts]()
        if header is not None and session is not None:
            state, keys = session.state(), session.bounds_keys
            record = RankRecord(header=header, state=state, bounds_keys=keys, certain=())
            sums = packed(encode_sums(content.start.profile, content.start.dtype, [record], with_series=False))
            counts = dict(_counting([gpu.series for gpu in state.gpus], counted))
        rows = [each for each in _difference(self._sent, counts) if len(each)]
        series = encode_series(rows) if rows else b""
        self._number += 1
        self._sent = counts
        return Part(
            hostname=self._hostname,
            rank=self._rank,
            run_id=self._run_id,
            number=self._number,
            is_final=is_final,
            about=msgspec.json.encode(content),
            sums=sums,
            series=series,
            hosts=hosts,
        )


def _counting(series: Sequence[Series], counted: Sequence[bool]) -> Iterator[tuple[int, _Counts]]:
    for at, (one, counts) in enumerate(zip(series, counted, strict=True)):
        if counts:
            assert isinstance(one, GpuSeries)  # that of a session which scores
            yield at, _Counts(series=one, rows_count=len(one))


def _difference(before: Mapping[int, _Counts], now: Mapping[int, _Counts]) -> Iterator[SeriesRows]:
    """Yield what has to be added to a sum of the one so that it is a sum of the other."""
    for at in sorted({*before, *now}):
        old, new = before.get(at), now.get(at)
        if old is not None and new is not None and old.series is new.series:
            yield SeriesRows(new.series, old.rows_count, new.rows_count)
            continue
        if old is not None:
            yield SeriesRows(old.series, 0, old.rows_count, is_taken=True)
        if new is not None:
            yield SeriesRows(new.series, 0, new.rows_count)
