"""``satscore run``: start the command, measure beside it, end as it ended."""

import os
import time

from satscore.cli.options import Invocation, misspelt, run_options
from satscore.errors import EXIT_UNDECIDED, SatscoreError, UsageError
from satscore.launch.ancestry import command_mark, enclosing_run
from satscore.launch.child import PARENT_VARIABLE, child_environment, execute, spawn
from satscore.launch.ending import end_like, wait_and_end
from satscore.launch.marks import MarksFile, make_marks_file
from satscore.launch.signals import block_handled, default_interrupt, handled_signals
from satscore.launch.stderr import STDERR_FD, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from satscore.core.summary import Summary
    from satscore.launch.request import RunOptions
    from satscore.run.loop import Telemetry

_REMOVAL_WAIT_S = 0.2


def main(invocation: Invocation) -> "NoReturn":
    """Run the command and end as it ended.

    Spawn first, import later: what the measuring needs is imported while the command runs.

    Raises:
        LaunchError: The command could not be started.
    """
    default_interrupt()
    around = enclosing_run(dict(os.environ))
    if around is not None:
        _run_unmeasured(invocation, around)
    handled = handled_signals()
    mask = block_handled(handled)
    check_recording(str(invocation.values.get("source", "")))
    marks = make_marks_file()
    added = {PARENT_VARIABLE.encode(): command_mark(os.getpid(), dict(os.environ)).encode(), **marks.environment()}
    try:
        child_pid = spawn(invocation.command, child_environment(added), mask)
    except BaseException:
        marks.remove()
        raise
    started_ns = time.monotonic_ns()
    _accompany(invocation, child_pid, started_ns, handled, marks)


def _run_unmeasured(invocation: Invocation, around: int) -> None:
    asked = {"json", "out"} & invocation.values.keys()
    if asked or not invocation.values.get("quiet", False):
        say(f"satscore: already inside a satscore run (pid {around}): running the command unmeasured")
    if "fail_under" in invocation.values:
        say("satscore: --fail-under is not judged: the command runs unmeasured inside another satscore run")
    execute(invocation.command, child_environment({}))


def check_recording(source: str) -> None:
    """Refuse a recording that cannot be replayed; only replays pay for this import before the command starts.

    Signals are blocked by now: a thread that a library starts here must not take those of the command.

    Raises:
        UsageError: It cannot be played; names the file.
    """
    if not source.startswith("replay:"):
        return
    name = "OPENBLAS_NUM_THREADS"
    before = os.environ.get(name)
    os.environ[name] = "1"  # not in the command's environment
    try:
        from satscore.counters.replay import parse_replay  # noqa: PLC0415
        from satscore.run.replay_source import check_replay  # noqa: PLC0415

        check_replay(parse_replay(source))
    except SatscoreError as error:
        raise UsageError(f"--source: {error.message}", hint=error.hint) from None
    except Exception:  # noqa: BLE001 - fail open: where our own code is broken, the command runs and the end says so
        return
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def _accompany(
    invocation: Invocation, child_pid: int, started_ns: int, handled: frozenset[int], marks: MarksFile
) -> "NoReturn":
    """Measure and supervise; whatever breaks here (imports from a lost disk, limits), the command's end is ours."""
    try:
        _measure_and_end(invocation, child_pid, started_ns, handled, marks)
    except BaseException as error:  # noqa: BLE001 - fail open
        marks.remove()  # nobody reads it
        _say_unmeasured("signals are no longer passed on", error)
        wait_and_end(child_pid, EXIT_UNDECIDED if "fail_under" in invocation.values else 0)


def _measure_and_end(
    invocation: Invocation, child_pid: int, started_ns: int, handled: frozenset[int], marks: MarksFile
) -> "NoReturn":
    from satscore.cli.gate import pass_gate  # noqa: PLC0415 - after the spawn
    from satscore.launch.supervise import Supervisor  # noqa: PLC0415
    from satscore.launch.tracking import ask_slurm  # noqa: PLC0415

    # Our arithmetic is small; the command's threads need the cores. Not in the command's environment.
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    for line in misspelt(os.environ):
        say(f"satscore: {line}")
    options = run_options(invocation.values)
    telemetry = _start_telemetry(options, invocation.command, started_ns, marks, child_pid)
    supervisor = Supervisor(child_pid, handled, options.forward)
    if options.forward == "auto":
        supervisor.linuxproc = ask_slurm().is_linuxproc
    outcome = supervisor.wait()
    _remove_beside(marks)
    if telemetry is not None:
        try:
            telemetry.finish(outcome.exit_code, outcome.signal)
        except BaseException as error:  # noqa: BLE001 - fail open: the command's status is what counts
            _say_unmeasured("the summary failed", error)
    if outcome.exit_code == 0 and (telemetry is None or telemetry.judges):
        end_like(pass_gate(telemetry.summary if telemetry else None, options.fail_under), None)
    end_like(outcome.exit_code, outcome.signal)


def _remove_beside(marks: MarksFile) -> None:
    """Remove the command's file of marks, which is read through its descriptor; a disk that hangs holds nobody."""
    try:
        import threading  # noqa: PLC0415 - after the spawn

        removal = threading.Thread(target=marks.remove, name="satscore-unlink", daemon=True)
        removal.start()
        removal.join(_REMOVAL_WAIT_S)
    except (ImportError, RuntimeError, MemoryError):
        marks.remove()  # no thread to be had under a limit of processes or memory


def _start_telemetry(
    options: "RunOptions", command: list[str], started_ns: int, marks: MarksFile, child_pid: int
) -> "Telemetry | None":
    """Start measuring beside the command; None where that is impossible, which never hurts it."""
    try:
        import socket  # noqa: PLC0415 - after the spawn

        from satscore.launch.identity import identify  # noqa: PLC0415
        from satscore.run import loop  # noqa: PLC0415

        identity = identify(os.environ, socket.gethostname())
        return loop.start(options, command, started_ns, load_view, identity, marks, child_pid)
    except BaseException as error:  # noqa: BLE001 - fail open
        _say_unmeasured("measuring could not start", error)
        return None


def load_view() -> "Callable[[Summary], str]":
    """Import the view of the exit; called in the measuring thread while the command runs."""
    from functools import partial  # noqa: PLC0415 - after the spawn

    from satscore.cli.output import terminal_width  # noqa: PLC0415
    from satscore.views.text import render  # noqa: PLC0415

    return partial(render, width=terminal_width(STDERR_FD))


def _say_unmeasured(what: str, error: BaseException) -> None:
    say(f"satscore: {what}; the command is not affected ({type(error).__name__}: {error})")
