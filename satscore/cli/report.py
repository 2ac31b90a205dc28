"""``satscore report``: every output of a run again, from its recording."""

import argparse
from pathlib import Path

from satscore.cli.gate import pass_gate
from satscore.cli.output import terminal_width, write_file, write_stdout
from satscore.cli.parser import Parser
from satscore.cli.values import checked_points
from satscore.core.groups import checked_grouping
from satscore.core.summary import encode
from satscore.launch.stderr import say
from satscore.run.replay import rebuild
from satscore.views.text import render

EXAMPLES = """\
examples:
  satscore report satscore-runs/20260314T093000-pretrain            the text again
  satscore report RUN --json summary.json                           the summary as JSON
  satscore report RUN --json -                                      JSON to standard output, no text
  satscore report RUN --fail-under 40                               a gate: exit 3 below 40, 5 without a score
"""


def main(argv: list[str]) -> int:
    """Run the command and return its exit status: 0, or what ``--fail-under`` makes of the score.

    Args:
        argv: The words after ``report``.

    Raises:
        UsageError: A wrong flag.
        RecordError: The run cannot be read, or the output cannot be written.
    """
    options = _parser().parse_args(argv)
    lowest_pct = None if options.fail_under is None else checked_points("--fail-under", options.fail_under)
    grouping = None if options.group_by is None else checked_grouping(options.group_by)
    rebuilt = rebuild(Path(options.run), group_by=grouping)
    for warning in rebuilt.warnings:
        say(f"satscore: {warning}")
    data = encode(rebuilt.summary)
    if options.json == "-":
        write_stdout(data.decode())
        return pass_gate(rebuilt.summary, lowest_pct)
    if options.json:
        write_file(options.json, data)
    write_stdout(render(rebuilt.summary, terminal_width()).lstrip("\n") + "\n")
    return pass_gate(rebuilt.summary, lowest_pct)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="satscore report",
        description="Rebuild the outputs of a run from its recording; works on runs whose satscore was killed.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="run directory")
    parser.add_argument("--json", metavar="FILE", help="write the summary as JSON; - is standard output")
    parser.add_argument(
        "--group-by", metavar="HOW", help="compare ranks within: none, host, local_rank, rank//N, rank%%N"
    )
    parser.add_argument(
        "--fail-under",
        metavar="S",
        help="exit 3 if the score is below S (0 to 100), 5 if there is no whole one, or the command failed",
    )
    return parser
