"""The file through which the command speaks to its run: made before the command starts, gone after it.

Imported before the command starts: standard library only, and little of it (``tempfile`` costs 10 ms).
"""

import os

MARKS_VARIABLE = "SATSCORE_MARKS"
_FALLBACK_FOLDER = "/tmp"  # noqa: S108 - the name is random, the file is new (O_EXCL) and private
_FILE_MODE = 0o600


class MarksFile:
    """The file of one run.

    Args:
        path: Where it is; None: it could not be made.
        descriptor: Open for reading and closed on exec; -1 where there is none. What the command
            deletes, or what is removed here, can be read through it all the same.
        problem: Why there is none, for the summary; None if there is one.
    """

    __slots__ = ("descriptor", "path", "problem")

    def __init__(self, path: str | None, descriptor: int, problem: str | None) -> None:
        self.path = path
        self.descriptor = descriptor
        self.problem = problem

    def environment(self) -> dict[bytes, bytes]:
        """Return the variable that names it to the command.

        A value that we carry ourselves is of another run (sbatch hands the environment on): without a
        file of our own it is emptied, so that no mark goes there.
        """
        if self.path is None and MARKS_VARIABLE not in os.environ:
            return {}
        return {MARKS_VARIABLE.encode(): os.fsencode(self.path or "")}

    def remove(self) -> None:
        """Remove the file; whatever holds it open can still read and write it."""
        if self.path is None:
            return
        try:  # noqa: SIM105 - contextlib costs the start 5 ms
            os.unlink(self.path)  # noqa: PTH108 - pathlib is not imported yet
        except OSError:
            pass


def make_marks_file() -> MarksFile:
    """Make an empty private file in TMPDIR, else in /tmp; never fails, and says why there is none."""
    refusals = []
    for folder in (os.environ.get("TMPDIR"), _FALLBACK_FOLDER):
        if not folder:
            continue
        try:
            name = f"satscore-marks-{os.getpid()}-{os.urandom(8).hex()}"
            path = os.path.join(os.path.abspath(folder), name)  # noqa: PTH100, PTH118
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            return MarksFile(path, os.open(path, flags, _FILE_MODE), None)
        except OSError as error:
            refusals.append(f"{folder}: {error.strerror}")
    problem = f"no marks and no progress: no file can be made in {', '.join(refusals)}; set TMPDIR to a writable folder"
    return MarksFile(None, -1, problem)
