"""Looks for the collector, in a thread of its own: directories and names may hang, and nobody waits for them."""

import threading
from collections.abc import Callable
from pathlib import Path

from satscore.fleet.address import CollectorAddress, reachable, read_address
from satscore.launch.host_port import parse_address

FIRST_PAUSE_S, MOST_PAUSE_S = 0.1, 5.0
PAUSE_PER_RANK_S = 1e-3
"""Large jobs look more seldom: with four ranks a node, 250 times a second all together."""
GROWTH = 1.5
"""Of the pause between two looks. Once read, ``collector.json`` is not read again: it never changes."""


class Finder:
    """One search: it ends with the first address that answers.

    Args:
        directory: The run directory.
        collector: HOST:PORT where the user said it; None: it is found in the run directory.
        world: Ranks of the job.
        wake: Called, in the search's thread, when something was found.
    """

    def __init__(self, directory: Path, collector: str | None, world: int, wake: Callable[[], None]) -> None:
        self._directory = directory
        self._stated = collector
        self._wake = wake
        self._most_pause_s = max(MOST_PAUSE_S, world * PAUSE_PER_RANK_S)
        self._lock = threading.Lock()
        self._found: list[str] = []
        self._address: CollectorAddress | None = None
        self._pause_s = FIRST_PAUSE_S
        self._hurry = threading.Event()
        self._stop = False
        self._thread: threading.Thread | None = None
        self.reason = "nobody has looked for it yet"
        """Why nothing was found so far."""

    def search(self, *, again: bool = False) -> None:
        """Begin to look, if nobody does.

        Args:
            again: What was found last did not work: begin with a pause.
        """
        with self._lock:
            if self._thread is None:
                arguments = (again,)
                self._thread = threading.Thread(target=self._run, args=arguments, daemon=True, name="satscore-find")
                self._thread.start()

    def found(self) -> list[str]:
        """Return the endpoints at which somebody listens, best first; empty as long as there is none."""
        with self._lock:
            found, self._found = self._found, []
            return found

    def was_right(self) -> None:
        """Say that the collector is where it was found: the next search begins without a long pause."""
        self._pause_s = FIRST_PAUSE_S

    def hurry(self) -> None:
        """End the present pause, and make the next ones short: there is little time left."""
        self._pause_s = FIRST_PAUSE_S
        self._hurry.set()

    def stop(self) -> None:
        """Look no further; waits for nothing."""
        self._stop = True
        self._hurry.set()

    def _run(self, again: bool) -> None:  # noqa: FBT001 - the arguments of a thread have no names
        if again:
            self._rest()
        found: list[str] = []
        while not self._stop and not found:
            try:
                found = self._look()
            except Exception as error:  # noqa: BLE001 - a file or an address is wrong; it may be right the next time
                self.reason = str(error) or type(error).__name__
            if not found:
                self._rest()
        with self._lock:
            self._found, self._thread = found, None
        if found:
            self._wake()

    def _look(self) -> list[str]:
        if self._stated is not None:
            host, port = parse_address(self._stated)
            self.reason = f"nobody listens at {self._stated}"
            return reachable([host], port)
        self._address = self._address or read_address(self._directory)
        if self._address is None:
            self.reason = f"none has written its address in {self._directory} (is it on a file system of all nodes?)"
            return []
        one = self._address
        self.reason = f"nobody listens at {one.hostname} ({', '.join(one.addresses)}), port {one.port}"
        return reachable(one.addresses, one.port)

    def _rest(self) -> None:
        self._hurry.wait(self._pause_s)
        self._hurry.clear()
        self._pause_s = min(GROWTH * self._pause_s, self._most_pause_s)
