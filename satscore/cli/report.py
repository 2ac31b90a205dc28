"""``satscore report``: every output of a run again, from its recording."""

import argparse
from pathlib import Path

from satscore.cli.output import write_stdout
from satscore.cli.parser import Parser
from satscore.core.summary import encode
from satscore.errors import RecordError
from satscore.launch.stderr import say
from satscore.record.files import write_requested
from satscore.run.replay import rebuild
from satscore.views.text import render

EXAMPLES = """\
examples:
  satscore report satscore-runs/20260314T093000-pretrain            the text again
  satscore report RUN --json summary.json                           the summary as JSON
  satscore report RUN --json -                                      JSON to standard output, no text
"""


def main(argv: list[str]) -> int:
    """Run the command and return its exit status.

    Args:
        argv: The words after ``report``.

    Raises:
        UsageError: A wrong flag.
        RecordError: The run cannot be read, or the output cannot be written.
    """
    options = _parser().parse_args(argv)
    rebuilt = rebuild(Path(options.run))
    for warning in rebuilt.warnings:
        say(f"satscore: {warning}")
    data = encode(rebuilt.summary)
    if options.json == "-":
        write_stdout(data.decode())
        return 0
    if options.json:
        try:
            write_requested(Path(options.json), data)
        except OSError as error:
            raise RecordError(f"cannot write {options.json}: {error.strerror}") from error
    write_stdout(render(rebuilt.summary).lstrip("\n") + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="satscore report",
        description="Rebuild the outputs of a run from its recording; works on runs whose satscore was killed.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="run directory")
    parser.add_argument("--json", metavar="FILE", help="write the summary as JSON; - is standard output")
    return parser
