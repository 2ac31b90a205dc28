"""The file through which the command speaks to its run: made before the command starts, gone after it.

Imported before the command starts: standard library only, and little of it (``tempfile`` costs 10 ms).
"""

import _thread
import os

MARKS_VARIABLE = "SATSCORE_MARKS"
MEMORY_FOLDER = "/dev/shm"  # noqa: S108 - here as below: the name is random, the file is new (O_EXCL) and private
"""Memory of this machine: no disk and no server that could hang. Not every container has it."""
LOCAL_FOLDER = "/tmp"  # noqa: S108
"""Rarely, but sometimes, a file system over the network; TMPDIR often is one."""
OPEN_WAIT_S = 0.02
"""The command waits so long for a folder that does not answer, and no longer."""
_PAGE_BYTES = 4096
_FILE_MODE = 0o600


class MarksFile:
    """The file of one run.

    Args:
        path: Where it is; None: it could not be made.
        descriptor: Open for reading and closed on exec; -1 where there is none. What the command
            deletes, or what is removed here, can be read through it all the same.
        problem: Why there is none, for the summary; None if there is one.
    """

    __slots__ = ("descriptor", "path", "problem", "was_deleted")

    def __init__(self, path: str | None, descriptor: int, problem: str | None) -> None:
        self.path = path
        self.descriptor = descriptor
        self.problem = problem
        self.was_deleted: bool | None = None
        """Whether it was gone, or another stood in its place, when it was removed; None: not removed yet."""

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
        try:
            if self.was_deleted is None:
                self.was_deleted = os.fstat(self.descriptor).st_nlink == 0
            os.unlink(self.path)  # noqa: PTH108 - pathlib is not imported yet
        except OSError:
            pass


def make_marks_file() -> MarksFile:
    """Make an empty private file; never fails, waits at most 20 ms per folder, and says why there is none.

    In memory if the machine has such a folder, else in /tmp, else in TMPDIR: the first that takes it
    and is not full. All of them are of this machine and of this container, if not of this job alone;
    what runs elsewhere does not reach the file.
    """
    refusals = []
    for folder in (MEMORY_FOLDER, LOCAL_FOLDER, os.environ.get("TMPDIR")):
        if not folder:
            continue
        try:
            return _make_in_time(folder)
        except OSError as error:
            refusals.append(f"{folder}: {error.strerror or error}")
    problem = f"no marks and no progress: no file can be made in {', '.join(refusals)}; set TMPDIR to a writable folder"
    return MarksFile(None, -1, problem)


def _make(folder: str) -> MarksFile:
    name = f"satscore-marks-{os.getpid()}-{os.urandom(8).hex()}"
    path = os.path.join(os.path.abspath(folder), name)  # noqa: PTH100, PTH118
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    made = MarksFile(path, os.open(path, flags, _FILE_MODE), None)
    space = os.fstatvfs(made.descriptor)
    if space.f_blocks and space.f_bavail * space.f_frsize < _PAGE_BYTES:
        _discard(made)
        raise OSError("it is full")
    return made


def _discard(made: MarksFile) -> None:
    made.remove()
    os.close(made.descriptor)


def _make_in_time(folder: str) -> MarksFile:
    """Make the file in a thread, which is left behind if the folder hangs; a file that comes too late goes again.

    The thread has ended before the command is spawned, unless it hangs; ``posix_spawn`` copies no
    thread. It takes no signal of the command: those are blocked by now.

    Raises:
        OSError: The folder refuses, or does not answer.
    """
    is_decided, answered = _thread.allocate_lock(), _thread.allocate_lock()
    answers: list[MarksFile | OSError] = []

    def attempt() -> None:
        try:
            answer: MarksFile | OSError = _make(folder)
        except OSError as error:
            answer = error
        if is_decided.acquire(blocking=False):
            answers.append(answer)
            answered.release()
        elif isinstance(answer, MarksFile):
            _discard(answer)

    answered.acquire()
    try:
        _thread.start_new_thread(attempt, ())
    except RuntimeError as error:  # a limit of processes or memory
        raise OSError(str(error)) from error
    if not answered.acquire(timeout=OPEN_WAIT_S):
        if is_decided.acquire(blocking=False):
            raise OSError(f"no answer within {1000 * OPEN_WAIT_S:g} ms")
        answered.acquire()  # the answer came just now
    answer = answers[0]
    if isinstance(answer, OSError):
        raise answer
    return answer
