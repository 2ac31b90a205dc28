"""``satscore mark``: put a mark into the run around us, from a shell."""

import argparse
import os

from satscore.cli.parser import Parser
from satscore.launch.marks import MARKS_VARIABLE
from satscore.launch.stderr import say
from satscore.marks import mark

EPILOG = """\
names of phases (startup, warmup, steady, dip, tail) state the phase of the run from now on, auto ends
that; every other name is a note at this time. From Python: satscore.mark("steady").

examples:
  satscore mark steady                                              warm-up is over, whatever the counters say
  satscore mark "eval 1000"                                         a note
  echo '{"mark": "eval 1000"}' >> "$SATSCORE_MARKS"                  the same where satscore is not installed

exit status: 0, also where no mark can be put: a script goes on. 125: wrong usage.
"""


def main(argv: list[str]) -> int:
    """Put the mark; a mark that cannot be put is one line on stderr and no failure.

    Args:
        argv: The words after ``mark``.

    Raises:
        UsageError: There is not exactly one name, or an unknown flag.
    """
    name: str = _parser().parse_args(argv).name
    if not name.strip():
        say("satscore: no mark put: its name is empty")
    elif not mark(name):
        say(f"satscore: no mark put: {_why_not()}")
    return 0


def _why_not() -> str:
    path = os.environ.get(MARKS_VARIABLE)
    if not path:
        return f"not inside a satscore run ({MARKS_VARIABLE} is not set)"
    return (
        f"{path} ({MARKS_VARIABLE}) cannot be written: the run has ended, this is another machine or container, "
        "or its disk is full"
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="satscore mark",
        description="Put a mark into the satscore run around this command; outside a run it does nothing, and says so.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="what begins or happens now")
    return parser
