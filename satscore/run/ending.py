"""The command's end: when, how, and the event that wakes all who wait for it. Standard library only."""

import signal
import threading
import time


class Ending:
    """Set once by the main thread; the sampler and the controller wait for ``event``."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.hurry = threading.Event()
        """Set when even the end must end soon: nobody waits for other ranks any longer."""
        self.at_ns: int | None = None
        """CLOCK_MONOTONIC at the command's end; None while it runs."""
        self.exit_code: int | None = None
        self.signal: int | None = None

    @property
    def signal_name(self) -> str | None:
        """SIGTERM for 15, SIGRTMIN+2 for 36; None if no signal ended it."""
        if self.signal is None:
            return None
        try:
            return signal.Signals(self.signal).name
        except ValueError:
            return f"SIGRTMIN+{self.signal - signal.SIGRTMIN}"

    def set(self, exit_code: int | None, signal: int | None) -> None:
        """Say that the command has ended now.

        Args:
            exit_code: Its exit status, or None if a signal ended it.
            signal: The signal that ended it, or None.
        """
        self.at_ns = time.monotonic_ns()
        self.exit_code, self.signal = exit_code, signal
        self.event.set()
