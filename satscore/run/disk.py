"""A thread for what waits for the disk, so that a file system that hangs costs files and not the summary."""

import queue
import threading
import time
from collections.abc import Callable

WAITING_MAX = 200
"""Pieces of work that may wait: a batch every 5 s is a quarter of an hour, some 20 MB with four GPUs."""


class DiskThread:
    """Does work in the order in which it was submitted; nobody waits for it but ``finish``."""

    def __init__(self) -> None:
        self.refused_count = 0
        self.failures: list[str] = []
        """What the work itself did not foresee."""
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(WAITING_MAX)
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="satscore-disk", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], None]) -> bool:
        """Take a piece of work; return whether it was refused (and counted), because too much waits already."""
        try:
            self._waiting.put_nowait(work)
        except queue.Full:
            self.refused_count += 1
            return True
        return False

    def finish(self, until_s: float | None = None) -> bool:
        """Wait until everything has been done, and return whether it has; nothing may be submitted afterwards.

        Args:
            until_s: Not beyond this time, s of CLOCK_MONOTONIC; None: without limit. It may be asked again.
        """
        try:
            if not self._is_closing:
                self._waiting.put(None, timeout=_left_s(until_s))
                self._is_closing = True
        except queue.Full:
            return False
        self._thread.join(_left_s(until_s))
        return not self._thread.is_alive()

    def notes(self) -> list[str]:
        """Return what is not on the disk because of it."""
        notes = [f"recording failed: {failure}" for failure in self.failures[:1]]
        if self.refused_count:
            notes.append(f"{self.refused_count} batches are not in the recording: the disk did not keep up")
        return notes

    def _run(self) -> None:
        while (work := self._waiting.get()) is not None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - the next batch may succeed, and the run goes on
                self.failures.append(f"{type(error).__name__}: {error}")


def _left_s(until_s: float | None) -> float | None:
    return None if until_s is None else max(0.0, until_s - time.monotonic())
