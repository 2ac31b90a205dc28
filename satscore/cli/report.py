"""``satscore report``: every output of a run again, from its recording; and several runs side by side."""

import argparse
from pathlib import Path

from satscore.cli.gate import pass_gate
from satscore.cli.output import terminal_width, write_file, write_stdout
from satscore.cli.parser import Parser
from satscore.cli.values import checked_points
from satscore.core.groups import checked_grouping
from satscore.core.scaling import RUNS_MIN, scaling_of
from satscore.core.scaling_types import encode as encode_scaling
from satscore.core.summary import Summary, encode
from satscore.errors import RecordError, UsageError
from satscore.launch.stderr import say
from satscore.run.replay import rebuild
from satscore.views.scaling import render as render_scaling
from satscore.views.text import render

EXAMPLES = """\
examples:
  satscore report satscore-runs/20260314T093000-pretrain            the text again
  satscore report RUN --json summary.json                           the summary as JSON
  satscore report RUN --json -                                      JSON to standard output, no text
  satscore report RUN --fail-under 40                               a gate: exit 3 below 40, 5 without a score
  satscore report RUN1 RUN2 RUN4 --scaling                          runs on 1, 2 and 4 nodes side by side

exit status: 0; 3 and 5 with --fail-under; 125 if a run cannot be read, or runs cannot be compared
"""
SCALING_HELP = "compare runs of one program on different numbers of GPUs: efficiency, scores, which loss grew"


def main(argv: list[str]) -> int:
    """Run the command and return its exit status: 0, or what ``--fail-under`` makes of the score.

    Args:
        argv: The words after ``report``.

    Raises:
        UsageError: A wrong flag, or runs that cannot be compared.
        RecordError: A run cannot be read, or the output cannot be written.
    """
    options = _parser().parse_args(argv)
    lowest_pct = None if options.fail_under is None else checked_points("--fail-under", options.fail_under)
    grouping = None if options.group_by is None else checked_grouping(options.group_by)
    if options.scaling:
        _check_scaling(options.runs, has_gate=lowest_pct is not None)
        return _scaling(options.runs, grouping, options.json)
    if len(options.runs) > 1:
        raise UsageError(
            f"report: {len(options.runs)} runs, but a report is of one",
            hint="to compare runs on different numbers of GPUs: --scaling",
        )
    (run,) = options.runs
    summary = _rebuilt(run, grouping)
    _show(encode(summary), render(summary, terminal_width()).lstrip("\n"), options.json)
    return pass_gate(summary, lowest_pct)


def _check_scaling(runs: list[str], *, has_gate: bool) -> None:
    """Refuse what a scaling trial cannot be made of before any run is read."""
    if len(runs) < RUNS_MIN:
        raise UsageError("report: --scaling needs two runs or more", hint="satscore report RUN1 RUN2 --scaling")
    if has_gate:
        raise UsageError("report: --fail-under judges one run, --scaling compares several", hint="use one of the two")
    seen = set[Path]()
    for run in runs:
        path = Path(run).resolve()
        if path in seen:
            raise UsageError(f"report: {run} is named twice", hint="name each run once")
        seen.add(path)


def _scaling(runs: list[str], grouping: str | None, json: str | None) -> int:
    scaling = scaling_of([(run, _rebuilt(run, grouping, is_one_of_many=True)) for run in runs])
    _show(encode_scaling(scaling), render_scaling(scaling, terminal_width()), json)
    return 0


def _rebuilt(run: str, grouping: str | None, *, is_one_of_many: bool = False) -> Summary:
    """Return the summary of a run; what the reader should hear about it is said, with its name if there are more.

    Raises:
        RecordError: It cannot be read; names its directory.
    """
    try:
        rebuilt = rebuild(Path(run), group_by=grouping)
    except RecordError as error:
        if run in error.message:
            raise
        raise RecordError(f"{run}: {error.message}", hint=error.hint) from error
    where = f"{run}: " if is_one_of_many else ""
    for warning in rebuilt.warnings:
        say(f"satscore: {where}{warning}")
    return rebuilt.summary


def _show(data: bytes, text: str, json: str | None) -> None:
    """Write JSON alone to standard output (``-``), or the text there and JSON to a file that was named."""
    if json == "-":
        write_stdout(data.decode())
        return
    if json:
        write_file(json, data)
    write_stdout(text + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="satscore report",
        description="Rebuild the outputs of a run from its recording; works on runs whose satscore was killed.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run directory; several only with --scaling")
    parser.add_argument("--scaling", action="store_true", help=SCALING_HELP)
    parser.add_argument("--json", metavar="FILE", help="write the result as JSON; - is standard output")
    parser.add_argument(
        "--group-by", metavar="HOW", help="compare ranks within: none, host, local_rank, rank//N, rank%%N"
    )
    parser.add_argument(
        "--fail-under",
        metavar="S",
        help="exit 3 if the score is below S (0 to 100), 5 if there is no whole one, or the command failed",
    )
    return parser
