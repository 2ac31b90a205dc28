"""``satscore demo``: a simulated node of four GH200 through everything, and how to read what comes out."""

import argparse
import os
import shlex
import shutil

from satscore.cli.parser import Parser
from satscore.cli.watch import EXIT_NOTHING, duration_s, watch
from satscore.errors import UsageError
from satscore.launch.ending import end_like
from satscore.launch.request import RunOptions
from satscore.launch.stderr import STDERR_FD, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

SPEED = 20
SOURCE = f"sim:gh200x4,speed={SPEED}"
LASTS_S = 30.0
LINE_S = 5.0
"""Seconds between two lines of progress where there is no terminal to rewrite one."""
BAR_WIDTH = 30
BEGIN = """\
satscore demo: SIMULATED. No GPU is read and no command runs: a model of a node
with four GH200 that train a language model, one of them slower, is scored as a
real run would be. {minutes} simulated minutes in {seconds:g} s; Ctrl-C ends it sooner."""
END = """
SIMULATED: nothing above was measured. 'saturation' is how much of the
hardware's roof was reached, 'lost' where the rest went, 'next' what to run.
{score}
try next
{report}  satscore doctor                what can be read on this machine
  satscore -- python train.py    score a command; without a GPU: --source sim"""
EXAMPLES = """\
examples:
  satscore demo                        10 simulated minutes in 30 s
  satscore demo --duration 5 --out d   shorter, with the files in d
"""


def main(argv: list[str]) -> "NoReturn":
    """Run the command and end with its exit status.

    Args:
        argv: The words after ``demo``.

    Raises:
        UsageError: A wrong flag.
    """
    options = _parser().parse_args(argv)
    lasts_s = _duration(options.duration)
    say(BEGIN.format(minutes=_clock(SPEED * lasts_s), seconds=lasts_s))
    progress = _Progress(lasts_s)
    telemetry = watch(RunOptions(source=SOURCE, label="demo", out=options.out), lasts_s, progress.show)
    if telemetry.summary is None:
        end_like(EXIT_NOTHING, None)
    headline, run = telemetry.summary.headline, telemetry.summary.run.directory
    score = f"In one line: {headline.score_pct:.1f} of 100." if headline.score_pct else f"No score: {headline.reason}"
    report = f"  satscore report {shlex.quote(run)}\n" if run else ""
    say(END.format(score=score, report=report))
    end_like(0, None)


class _Progress:
    """One line that is rewritten on a terminal, else a line every LINE_S.

    Args:
        lasts_s: Length of the demo, s.
    """

    def __init__(self, lasts_s: float) -> None:
        self._lasts_s = lasts_s
        self._rewrites = os.isatty(STDERR_FD)
        self._next_s = 0.0

    def show(self, since_s: float) -> None:
        """Say how far it is.

        Args:
            since_s: Seconds since the start.
        """
        frac = min(1.0, since_s / self._lasts_s)
        text = f"SIMULATED {_clock(SPEED * since_s)} of {_clock(SPEED * self._lasts_s)} min"
        if self._rewrites:
            bar = "#" * round(frac * BAR_WIDTH)
            _rewrite(f"[{bar:<{BAR_WIDTH}}] {text}")
        elif since_s >= self._next_s:
            self._next_s += LINE_S
            say(text)


def _rewrite(text: str) -> None:
    width = shutil.get_terminal_size().columns - 1
    try:
        os.write(STDERR_FD, f"\r{text[:width]}".encode())
    except OSError:
        return


def _clock(seconds: float) -> str:
    """Return minutes and seconds: 3:20."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _duration(text: str) -> float:
    try:
        return duration_s(text)
    except UsageError as error:
        raise UsageError(f"satscore demo: --duration: {error.message}", hint=error.hint) from None


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="satscore demo",
        description="Score a simulated node of four GH200, twenty times as fast as it would be.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--duration", metavar="S", default=f"{LASTS_S:g}", help="real seconds (default 30)")
    parser.add_argument("--out", metavar="DIR", help="run directory (default: satscore-runs/<time>-demo)")
    return parser
