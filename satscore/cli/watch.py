"""``satscore watch``: the sampler without a command; scores what runs on the visible GPUs anyway."""

import os
import socket
import time

from satscore.cli.gate import pass_gate
from satscore.cli.options import OPTIONS, Option, misspelt, option_lines, parse, run_options
from satscore.cli.output import write_stdout
from satscore.cli.run import load_view
from satscore.errors import UsageError
from satscore.launch.ending import end_like
from satscore.launch.identity import identify
from satscore.launch.request import Identity, RunOptions
from satscore.launch.signals import default_interrupt, signal
from satscore.launch.stderr import STDERR_FD, say
from satscore.run.loop import Telemetry, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Progress = Callable[[float], None]

EXIT_NOTHING = 1
MAX_DURATION_S = 31 * 86_400.0
OPENING_CHECK_S = 0.1
PROGRESS_S = 0.5
LONG_WAIT_S = 3600.0
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ALONE = Identity()
CHILDLESS = tuple(option for option in OPTIONS if option.field != "forward")


def duration_s(text: str) -> float:
    """Return a duration in s of real time.

    Raises:
        UsageError: It is none.
    """
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a number of seconds", hint="for example 60") from None
    if not 0 < value <= MAX_DURATION_S:
        raise UsageError(f"{text} s is out of range: above 0, at most 31 days", hint="for example 60")
    return value


DURATION = Option("duration", "duration_s", duration_s, "S", "end after S seconds (default: at Ctrl-C, TERM or HUP)")
HELP = """\
usage: satscore watch [--duration S] [OPTIONS]

Score what runs on the visible GPUs without starting anything, for S seconds or until Ctrl-C, TERM
or HUP. Prints the same block and writes the same files as a run.

options:
"""
EXAMPLES = """\
examples:
  satscore watch --duration 60                               a minute of what runs on this machine
  srun --overlap --jobid=JOB satscore watch --duration 60    a minute of a running Slurm job
  satscore watch --source sim:gh200x4,speed=20 --duration 9  simulated; S is real time all the same

exit codes:
    0  there were counters to read (and the score passed --fail-under)
    1  no counters could be read, or no summary was made; satscore doctor says why
    3  --fail-under: the score is too low
    5  --fail-under: there is no score that can be judged
  125  wrong usage
"""


def main(argv: list[str]) -> int:
    """Run the command and end with its exit status; returns one where nothing was measured.

    Args:
        argv: The words after ``watch``.

    Raises:
        UsageError: A wrong flag or variable, or one that needs a command.
    """
    invocation = parse(argv, os.environ, (DURATION,))
    if invocation.action == "help":
        write_stdout(HELP + "\n".join(option_lines((DURATION, *CHILDLESS))) + "\n\n" + EXAMPLES)
        return 0
    if invocation.command:
        raise UsageError("watch takes no command", hint="satscore -- CMD runs and scores a command")
    if "forward" in parse(argv, {}, (DURATION,)).values:
        raise UsageError("--forward: watch starts no command to forward signals to", hint="leave it out")
    for line in misspelt(os.environ):
        say(f"satscore: {line}")
    values = invocation.values | {"forward": "auto"}
    lasts_s = values.pop("duration_s", None)
    options = run_options(values)
    if not options.quiet and os.isatty(STDERR_FD):
        say(f"satscore: watching {f'for {lasts_s:g} s' if lasts_s else 'until Ctrl-C'}, then the score follows")
    # Returning would wait for threads that hang in a driver.
    return end_like(
        _status(watch(options, lasts_s, identity=identify(os.environ, socket.gethostname())), options), None
    )


def watch(
    options: RunOptions,
    lasts_s: float | None,
    progress: "Progress | None" = None,
    *,
    identity: Identity = ALONE,
) -> Telemetry:
    """Measure until the time is over or a signal ends it; print the block and write the files.

    Further signals are held back from here on: a second Ctrl-C does not lose the files.

    Args:
        options: What the user asked for.
        lasts_s: Real seconds, counted from the opening of the source; None: until a signal comes.
        progress: Told the s since then, about twice a second.
        identity: Which rank of which job this is.

    Returns:
        The measurement, finished.
    """
    default_interrupt()
    # One that is ignored (nohup, a script's &) stays so: blocking it would make it count.
    ending = frozenset(signo for signo in ENDING_SIGNALS if signal.getsignal(signo) != signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    telemetry = start(options, [], time.monotonic_ns(), load_view, identity)
    _wait(telemetry, ending, lasts_s, progress)
    telemetry.finish(None, None)
    return telemetry


def _wait(telemetry: Telemetry, ending: frozenset[int], lasts_s: float | None, progress: "Progress | None") -> None:
    """Return when it is to end, or when it is known that there is nothing to read, here or by other ranks."""
    begun_s, opened = time.monotonic(), False
    while telemetry.has_source() is not False or telemetry.has_others:
        if not opened and telemetry.has_source() is not None:
            begun_s, opened = time.monotonic(), True
        since_s = time.monotonic() - begun_s
        if lasts_s is not None and since_s >= lasts_s:
            return
        if opened and progress is not None:
            progress(since_s)
        pause_s = OPENING_CHECK_S if not opened else PROGRESS_S if progress else LONG_WAIT_S
        if signal.sigtimedwait(ending, pause_s if lasts_s is None else min(pause_s, lasts_s - since_s)):
            return


def _status(telemetry: Telemetry, options: RunOptions) -> int:
    if not (telemetry.has_source() or telemetry.has_others):
        return EXIT_NOTHING
    if not telemetry.judges:
        return 0
    summary = telemetry.summary
    nothing = EXIT_NOTHING if summary is None or not summary.job.gpus_count else 0
    return pass_gate(summary, options.fail_under) or nothing
