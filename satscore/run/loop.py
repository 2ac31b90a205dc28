"""The telemetry beside the command: one controller thread, one sampling thread, bounded at the end.

Only the standard library is imported here; the rest is imported in the controller thread, while the
command already runs.
"""

import os
import threading
import time

from satscore.launch.request import Identity, RunOptions
from satscore.launch.signals import signal
from satscore.launch.stderr import say
from satscore.run.ending import Ending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from satscore.core.summary import Summary
    from satscore.launch.marks import MarksFile
    from satscore.run.measurement import Measurement

EXIT_WAIT_VARIABLE = "SATSCORE_EXIT_WAIT_S"
EXIT_WAIT_S = 3.0
"""Nobody waits for the summary longer than this at the end of the command."""
MAX_EXIT_WAIT_S = 60.0
NOT_STARTED = "the driver had not answered, or the machine was too busy to start in time"
MAX_MESSAGE = 300
HURRY_CHECK_S = 0.05
ENDING_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}


class Telemetry:
    """Measures in the background; ``finish`` is the only thing the command's end waits for.

    Args:
        options: What the user asked for.
        command: The command line, verbatim.
        started_ns: CLOCK_MONOTONIC at the command's start.
        load_view: Imports and returns what makes the text to print; called in the controller thread.
        identity: Which rank of which job this is.
        marks: What the command writes its marks to; None: there is no command.
        child_pid: Its first process; None: there is no command.
    """

    def __init__(
        self,
        options: RunOptions,
        command: "Sequence[str]",
        started_ns: int,
        load_view: "Callable[[], Callable[[Summary], str]]",
        identity: Identity,
        marks: "MarksFile | None" = None,
        child_pid: int | None = None,
    ) -> None:
        self._identity = identity
        self._child_pid = child_pid
        self._marks = marks
        self._options = options
        self._command = list(command)
        self._started_ns = started_ns
        self._load_view = load_view
        self._ending = Ending()
        self._opened = threading.Event()
        self._done = threading.Event()
        self._block: str | None = None
        self.summary: Summary | None = None
        """The result, once ``finish`` has returned; None: there is none, or it did not come in time."""
        self._problems: list[str] = []
        self._measurement: Measurement | None = None
        self._thread = threading.Thread(target=self._run, name="satscore-telemetry", daemon=True)

    def start(self) -> None:
        """Start measuring; returns at once."""
        self._thread.start()

    @property
    def has_others(self) -> bool:
        """Whether there are other ranks, which may have counters where this one has none."""
        return self._identity.world > 1 and self._identity.key is not None

    def has_source(self) -> bool | None:
        """Return whether there are counters to read; None while that is not known yet."""
        if not (self._opened.is_set() or self._done.is_set()):
            return None
        return self._measurement is not None and self._measurement.has_source

    def finish(self, exit_code: int | None, signal: int | None) -> None:
        """Say how the run went. Bounded by SATSCORE_EXIT_WAIT_S (3 s).

        ``--quiet`` takes the block away; a failure is one line all the same. Of a job rank 0 speaks; the others
        are silent unless asked, for their failures are in its block, or they are missing there.

        Args:
            exit_code: The command's exit status, or None if a signal ended it.
            signal: The signal that ended it, or None.
        """
        self._ending.set(exit_code, signal)
        if not self._wait(_exit_wait_s()):
            self._give_up()
        if not self._speaks:
            return
        if self._block and not self._options.quiet:
            say(self._block)
        after = "; the command is not affected" if self._command else ""
        for problem in self._problems:
            say(f"satscore: {problem}{after}")

    @property
    def judges(self) -> bool:
        """Whether the result of the whole job is this process's to judge (``--fail-under``)."""
        return self._identity.rank == 0 or self._identity.key is None

    @property
    def _speaks(self) -> bool:
        return self.judges or self._options.quiet is False or bool(os.environ.get("SATSCORE_DEBUG"))

    def _wait(self, wait_s: float) -> bool:
        """Wait for the summary; a signal that ends processes, sent to us now, hurries it on."""
        until_s = time.monotonic() + wait_s
        while not self._done.wait(min(HURRY_CHECK_S, max(0.0, until_s - time.monotonic()))):
            if time.monotonic() >= until_s:
                return False
            if ENDING_SIGNALS & signal.sigpending():
                self._ending.hurry.set()
        return True

    def _give_up(self) -> None:
        """Say what is missing because it did not come in time; the text may be there already."""
        if self._block is not None:
            self._problems = ["files not (all) written in time"]
        elif self._opened.is_set():
            self._problems = ["no summary: the driver or the disk did not answer in time"]
        elif self._options.json or self._options.out:
            self._problems = [f"no score and no summary: {NOT_STARTED}"]
        else:
            self._block = f"satscore: no score: {NOT_STARTED}"

    def _run(self) -> None:
        try:
            from satscore.run.measurement import Measurement  # noqa: PLC0415 - heavy, and the command runs already

            measurement = Measurement(
                self._options,
                self._command,
                self._started_ns,
                self._load_view,
                self._identity,
                self._marks,
                self._child_pid,
            )
            self._measurement = measurement
            measurement.run(self._opened, self._ending)
            self._problems = measurement.conclude(self._ending, _exit_wait_s(), self._publish)
        except Exception as error:  # noqa: BLE001 - fail open: whatever breaks here is one line at the end
            lost = "no summary" if self._block is None else "files not (all) written"
            self._problems = [f"{lost}: {type(error).__name__}: {_telling_line(error)} (SATSCORE_DEBUG=1 shows where)"]
            if os.environ.get("SATSCORE_DEBUG"):
                import traceback  # noqa: PLC0415

                self._problems.append(traceback.format_exc())
        finally:
            self._done.set()

    def _publish(self, block: str, summary: "Summary | None") -> None:
        """Take the text to print, and the summary if there is one; the last ones count."""
        self._block = block
        self.summary = summary


def _telling_line(error: Exception) -> str:
    """Return the line of a message that says it; numpy writes a page on how to ask for help, and then the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1 if isinstance(error, ImportError) else 0][:MAX_MESSAGE] if lines else ""


def _exit_wait_s() -> float:
    """Return SATSCORE_EXIT_WAIT_S, at most 60 s; the default where it is no time to wait."""
    try:
        wait_s = float(os.environ.get(EXIT_WAIT_VARIABLE, EXIT_WAIT_S))
    except ValueError:
        return EXIT_WAIT_S
    return min(wait_s, MAX_EXIT_WAIT_S) if wait_s >= 0 else EXIT_WAIT_S


def start(
    options: RunOptions,
    command: "Sequence[str]",
    started_ns: int,
    load_view: "Callable[[], Callable[[Summary], str]]",
    identity: Identity,
    marks: "MarksFile | None" = None,
    child_pid: int | None = None,
) -> Telemetry:
    """Start measuring beside a command that has just been started; returns at once."""
    telemetry = Telemetry(options, command, started_ns, load_view, identity, marks, child_pid)
    telemetry.start()
    return telemetry
