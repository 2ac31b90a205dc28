"""The program's entry: which subcommand, and how errors reach the user."""

import os
import sys

from satscore.cli.options import Invocation, help_text, parse, usage_text
from satscore.errors import EXIT_OURS, SatscoreError, UsageError
from satscore.launch.child import fill_closed_descriptors
from satscore.launch.packages import prefer_own_packages
from satscore.launch.signals import default_interrupt
from satscore.launch.stderr import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# Subcommands other than run: the module that has ``main(argv) -> int``.
SUBCOMMANDS = {
    "watch": "satscore.cli.watch",
    "report": "satscore.cli.report",
    "doctor": "satscore.cli.doctor",
    "models": "satscore.cli.models",
    "mark": "satscore.cli.mark",
    "demo": "satscore.cli.demo",
}


def entry_point() -> "NoReturn":
    """Run the program; every way out is an exit status."""
    fill_closed_descriptors()
    prefer_own_packages()
    try:
        status = main(sys.argv[1:])
    except SatscoreError as error:
        say(f"satscore: error: {error.message}")
        if error.hint:
            say(f"satscore: hint: {error.hint}")
        status = error.exit_code
    except ImportError as error:
        say(f"satscore: error: the installation does not load: {error}")
        say("satscore: hint: install satscore again, in an environment of its own")
        status = EXIT_OURS
    sys.exit(status)


def main(words: list[str]) -> int:
    """Dispatch a command line; does not return from a run.

    A subcommand's name wins where a command could stand, unless ``--`` stood before it.

    Raises:
        SatscoreError: The user can mend it: wrong usage, or a command that could not be started.
    """
    if not words:
        say(usage_text())
        return EXIT_OURS
    if words[0] in SUBCOMMANDS:
        return _run_subcommand(words[0], words[1:])
    named = words[0] == "run"
    invocation = parse(words[1:] if named else words, os.environ)
    if not named and not invocation.separated and invocation.command:
        invocation = _subcommand_after_options(invocation)
    if invocation.action in ("help", "version"):
        return _show(invocation.action)
    if not invocation.command:
        raise UsageError("no command to run", hint="satscore [OPTIONS] -- CMD [ARG...]")
    from satscore.cli import run  # noqa: PLC0415 - help and reports need none of it

    return run.main(invocation)


def _subcommand_after_options(invocation: Invocation) -> Invocation:
    """Options of a run before a subcommand's name: fine before ``run``, a mistake before others."""
    first = invocation.command[0]
    if first in SUBCOMMANDS:
        raise UsageError(
            f"options of a run stand before the subcommand {first!r}",
            hint=f"satscore {first} ... for the subcommand, satscore [OPTIONS] -- {first} ... for the command",
        )
    if first != "run":
        return invocation
    rest = parse(invocation.command[1:], os.environ)
    rest.values = invocation.values | rest.values
    return rest


def _run_subcommand(name: str, words: list[str]) -> int:
    import importlib  # noqa: PLC0415 - not on the way to a command

    default_interrupt()  # before the imports, which take their time
    status: int = importlib.import_module(SUBCOMMANDS[name]).main(words)
    return status


def _show(what: str) -> int:
    """Print the help or the version."""
    from satscore import __version__  # noqa: PLC0415 - not on the way to a command
    from satscore.cli.output import write_stdout  # noqa: PLC0415

    write_stdout(help_text() if what == "help" else f"satscore {__version__}\n")
    return 0
