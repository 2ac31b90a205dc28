"""The exceptions that reach a user: what went wrong, where, and what to do.

Exit codes are an API (README, "Exit codes"): 125 is our own failure before the command started,
126 and 127 follow the shell, 3 and 5 are those of a gate (``--fail-under``) after a command that
succeeded; everything else is the command's own.
"""

EXIT_BELOW = 3
EXIT_UNDECIDED = 5
EXIT_OURS = 125
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127


class SatscoreError(Exception):
    """A failure with a remedy.

    Args:
        message: What went wrong and where (file, key, value).
        hint: What the user can do about it; empty if there is nothing to do.
        exit_code: The process's exit status if this error ends it.
    """

    def __init__(self, message: str, *, hint: str = "", exit_code: int = EXIT_OURS) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


class UsageError(SatscoreError):
    """A wrong flag, value or combination on the command line or in the environment."""


class LaunchError(SatscoreError):
    """The command could not be started (126 not executable, 127 not found)."""


class ModelError(SatscoreError):
    """A hardware model file is wrong: names file, key and the nearest valid key."""


class CounterError(SatscoreError):
    """A counter source cannot be used here: says why and how to get it."""


class RecordError(SatscoreError):
    """A run directory or recording cannot be read or written."""
