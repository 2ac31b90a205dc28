"""A thread for what the command says, so that a folder that hangs costs marks and not the summary."""

import os
import threading
import time
from collections.abc import Callable

from satscore.launch.marks import MarksFile
from satscore.record.marks_file import NOTHING_SAID, Said
from satscore.run.marks import GridTime, MarksTail, News

FIRST_VISIT_S = 1.0
VISIT_S = 5.0
FINISH_WAIT_S = 0.2
"""Nobody waits longer for the last words of the command."""


class MarksThread:
    """Reads beside the measuring; nobody waits for it but ``finish``, and that not for long.

    Args:
        file: What the command writes its marks to.
        started_ns: CLOCK_MONOTONIC at the command's start.
    """

    def __init__(self, file: MarksFile, started_ns: int) -> None:
        self._file = file
        self._tail = MarksTail(file.descriptor, started_ns)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        """Under the lock: what has been read, until ``finish`` closes it."""
        self._news: list[News] = []
        self._said: Said = NOTHING_SAID
        self._notes: list[str] = []
        self._is_closed = False

    def start(self, time_of: Callable[[], GridTime]) -> None:
        """Begin to read.

        Args:
            time_of: Returns the present time.
        """
        if self._file.descriptor < 0:
            return
        thread = threading.Thread(target=self._run, args=(time_of,), name="satscore-marks", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # a limit of processes or memory
            self._notes = [f"marks and progress are not read: {error}"]
            return
        self._thread = thread

    def take(self) -> list[News]:
        """Return what was read since the last call; never waits."""
        with self._lock:
            news, self._news = self._news, []
            return news

    def stop(self) -> None:
        """Say that the command has ended; the rest is read now."""
        self._stop.set()

    def finish(self) -> list[News]:
        """Wait for the rest, at most 0.2 s, and return it: nothing is taken afterwards."""
        self.stop()
        if self._thread is not None:
            self._thread.join(FINISH_WAIT_S)
        with self._lock:
            self._is_closed = True
            if self._thread is not None and self._thread.is_alive():
                where = os.path.dirname(self._file.path or "")  # noqa: PTH120 - a name, of whatever bytes
                self._notes = [
                    *self._notes,
                    f"marks and progress were not (wholly) read: {where} did not answer in time",
                ]
        return self.take()

    def said(self) -> Said:
        """Return all that was read so far."""
        with self._lock:
            return self._said

    def notes(self) -> list[str]:
        """Return what there is no mark or progress of, and why."""
        notes = [self._file.problem] if self._file.problem else []
        if self._file.was_deleted:
            notes.append(
                "the file of SATSCORE_MARKS was deleted or replaced during the run: "
                "what was written after that by processes that had not yet opened it is lost"
            )
        with self._lock:
            return notes + self._notes

    def _run(self, time_of: Callable[[], GridTime]) -> None:
        try:
            wait_s = FIRST_VISIT_S
            while not self._stop.wait(wait_s):
                self._hand_over(self._tail.visit(time_of()))
                wait_s = VISIT_S
            self._hand_over(self._tail.finish(time_of(), time.monotonic))
        except Exception as error:  # noqa: BLE001 - whatever breaks here, the run has its score
            with self._lock:
                self._notes = [*self._notes, f"marks and progress were not (wholly) read ({error!r}); please report it"]

    def _hand_over(self, news: News) -> None:
        said, notes = self._tail.said(), self._tail.notes()
        with self._lock:
            if not self._is_closed:
                self._news.append(news)
                self._said, self._notes = said, notes
