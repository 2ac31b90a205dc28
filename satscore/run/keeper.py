"""What is written while a run goes on, and when: readings batch by batch, or sums again and again."""

import threading
from collections.abc import Callable, Sequence
from functools import partial

from satscore.core.host import HostReading
from satscore.core.placement import Placement
from satscore.core.readings import ReadingTable
from satscore.core.units import NS_PER_S
from satscore.record.host_file import HostHeader
from satscore.record.marks_file import marks_lines
from satscore.record.run_file import RunStart, StreamHeader
from satscore.record.sums_file import RankRecord, encode_sums, sums_name
from satscore.run.disk import DiskThread
from satscore.run.marks import News
from satscore.run.rank_gpus import certain_gpus
from satscore.run.recorder import Recorder
from satscore.run.session import Session

SUMS_S = 60.0
"""Sums are rewritten this often: what a killed satscore loses of them at most; in its first minute, half of it."""

HOST_BATCH = 30
"""Readings of the host that are written together, half a minute of them: what a killed satscore loses at most."""


class Keeper:
    """Gives the disk thread its work; nothing here waits for it but ``settle``.

    Args:
        recorder: Writes the run directory.
        start: What ran.
        with_sums: Whether sums are kept instead of readings.
        covers: Whether somebody else has what the sums would say, so that only the last ones are written.
    """

    def __init__(
        self, recorder: Recorder, start: RunStart, *, with_sums: bool, covers: Callable[[], bool] = lambda: False
    ) -> None:
        self._recorder = recorder
        self._start = start
        self._with_sums = with_sums
        self._covers = covers
        self._placement = recorder.placement
        """As ``run.json`` has it by the time of the sums that follow."""
        self._disk = DiskThread()
        self._idle = threading.Event()
        """Set while no sums wait to be written: a disk that hangs must not collect them."""
        self._idle.set()
        self._sums_failure: str | None = None
        self._first_ns: int | None = None
        self._due_ns = 0
        self._host_header: HostHeader | None = None
        self._host_waiting: list[HostReading] = []

    def begin(self, header: StreamHeader | None) -> None:
        """Make the run directory."""
        self._disk.submit(partial(self._recorder.begin, self._start, header))

    def placement(self, placement: Placement) -> None:
        """Keep which GPUs the command uses."""
        self._disk.submit(partial(self._recorder.update, placement))
        self._placement = placement

    def add(self, table: ReadingTable, rank: tuple[StreamHeader, Session], now_ns: int) -> None:
        """Keep what was read since the last call.

        Args:
            table: The readings.
            rank: What they were added to.
            now_ns: The time, on any axis that goes on evenly.
        """
        if not self._with_sums:
            self._disk.submit(partial(self._recorder.append, table))
        elif now_ns >= self._due_ns and self._idle.is_set():
            self._first_ns = now_ns if self._first_ns is None else self._first_ns
            self._due_ns = now_ns + min(round(SUMS_S * NS_PER_S), now_ns - self._first_ns)
            if not self._covers():
                self._submit_sums(rank)

    def host(self, header: HostHeader, readings: Sequence[HostReading]) -> None:
        """Keep what was read of the host; it is written rarely, because small batches are mostly headings."""
        self._host_header = header
        self._host_waiting += readings
        if len(self._host_waiting) >= HOST_BATCH:
            self._submit_host()

    def _submit_host(self) -> None:
        if self._host_header is not None and self._host_waiting:
            self._disk.submit(partial(self._recorder.append_host, self._host_header, self._host_waiting))
        self._host_waiting = []

    def said(self, news: News) -> None:
        """Keep what the command said."""
        lines = marks_lines(*news)
        if lines:
            self._disk.submit(partial(self._recorder.append_marks, lines))

    def finish(self, rank: tuple[StreamHeader, Session] | None, placement: Placement | None) -> None:
        """Keep the last state of a closed session; ``settle`` waits until that is written.

        Args:
            rank: The session; None: there was no source.
            placement: Which GPUs the command uses; None: nobody looked.
        """
        if self._with_sums and rank is not None:
            if placement is not None:
                self.placement(placement)  # sums are grouped by it, so run.json must know it first
            self._submit_sums(rank)  # even if somebody else has them: that one may be ended before it writes
        self._submit_host()
        self._disk.submit(partial(self._recorder.append_marks, b""))  # those that were refused

    def settle(self, until_s: float | None = None) -> bool:
        """Wait until everything is written, after ``finish``; return whether it is.

        Args:
            until_s: Not beyond this time, s of CLOCK_MONOTONIC; None: without limit. It may be asked again.
        """
        return self._disk.finish(until_s)

    def notes(self) -> list[str]:
        """Return what is not on the disk because of it."""
        return [*([self._sums_failure] if self._sums_failure else []), *self._disk.notes()]

    def _submit_sums(self, rank: tuple[StreamHeader, Session]) -> None:
        """Encode the state here, before more is added to it; the disk thread only writes."""
        try:
            name, data = self._sums_of(*rank)
        except Exception as error:  # noqa: BLE001 - scoring goes on without them
            self._sums_failure = f"the sums are not up to date ({error!r}); please report it"
            return
        self._sums_failure = None
        self._idle.clear()
        if self._disk.submit(partial(self._write_sums, name, data)):
            self._idle.set()

    def _sums_of(self, header: StreamHeader, session: Session) -> tuple[str, bytes]:
        record = RankRecord(
            header=header,
            state=session.state(),
            bounds_keys=session.bounds_keys,
            certain=certain_gpus(self._placement, header.gpus),
        )
        return sums_name(header), encode_sums(self._start.profile, self._start.dtype, [record])

    def _write_sums(self, name: str, data: bytes) -> None:
        try:
            self._recorder.rewrite_sums(name, data)
        finally:
            self._idle.set()
