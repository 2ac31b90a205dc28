"""``satscore doctor``: what can be read here, by which source, why not, and what to do about it."""

import argparse
import os

import msgspec

from satscore.cli.options import parse
from satscore.cli.output import terminal_width, write_file, write_stdout
from satscore.cli.parser import Parser
from satscore.cli.run import check_recording
from satscore.core.diagnosis import Diagnosis
from satscore.run.diagnosis import diagnose

SCORED_GRADES = ("A", "B")
EXAMPLES = """\
examples:
  satscore doctor                      what a run would find on this machine, as this user
  srun --gpus 1 satscore doctor        the same on a node of the cluster
  satscore doctor --dcgm node7:5555    with this host engine of DCGM
  satscore doctor --source sim         how it looks where everything works (simulated)
  satscore doctor --json doctor.json   the same for an issue: names of user and host and values of
                                       variables are hidden, UUIDs are cut to 8 characters

exit codes: 0 a score of grade A or B is possible, 1 it is not, 125 wrong usage
"""


def main(argv: list[str]) -> int:
    """Run the command and return its exit status.

    Args:
        argv: The words after ``doctor``.

    Raises:
        UsageError: A wrong flag or variable, or a recording that cannot be replayed.
        RecordError: The file for the JSON cannot be written.
    """
    # One thread is enough for what is scored here, and no library may start more: we fork.
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    options = _parser().parse_args(argv)
    stated = [(flag, getattr(options, flag)) for flag in ("source", "dcgm") if getattr(options, flag)]
    values = parse([word for flag, value in stated for word in (f"--{flag}", value)], os.environ).values
    source = values.get("source", "auto")
    check_recording(source)
    diagnosis = diagnose(source, values.get("out"), os.environ, dcgm=values.get("dcgm"))
    data = msgspec.json.format(msgspec.json.encode(diagnosis), indent=2) + b"\n"
    if options.json == "-":
        write_stdout(data.decode())
    else:
        if options.json:
            write_file(options.json, data)
        write_stdout(_text(diagnosis))
    return 0 if diagnosis.grade in SCORED_GRADES else 1


def _text(diagnosis: Diagnosis) -> str:
    from satscore.views.doctor import render_diagnosis  # noqa: PLC0415 - numpy, whose threads no fork may meet

    return render_diagnosis(diagnosis, terminal_width())


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="satscore doctor",
        description="Say what can be read on this machine, by which source, why not, and what to do.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", metavar="SOURCE", help="look at this source alone (default: all that a run tries)")
    parser.add_argument("--dcgm", metavar="ENGINE", help="DCGM's host engine: HOST:PORT or unix://PATH")
    parser.add_argument(
        "--json", metavar="FILE", nargs="?", const="-", help="write it as JSON to FILE; without FILE to standard output"
    )
    return parser
