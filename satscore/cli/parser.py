"""argparse for the subcommands, with exit codes and errors of this program."""

import argparse
from typing import NoReturn

from satscore.errors import UsageError


class Parser(argparse.ArgumentParser):
    """argparse exits 2 on a wrong flag; exit codes are an API here, so it becomes a UsageError."""

    # typing.override needs Python 3.12, and typing_extensions is no dependency.
    def error(self, message: str) -> NoReturn:  # type: ignore[explicit-override]
        """Raise UsageError under the subcommand's name, also for a word below it (``models show``)."""
        name = " ".join(self.prog.split()[:2])
        raise UsageError(f"{name}: {message}", hint=f"see {name} --help")
