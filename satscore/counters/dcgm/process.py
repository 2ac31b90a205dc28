"""The process that talks to DCGM, as satscore sees it: two pipes, and an end that nobody waits for.

It is started like the tools of launch/tool.py: in a session of its own, with no signal blocked and with none of
our descriptors, so that a Ctrl-C does not reach it and it cannot hold the command's pipes open. Only its own id
is ever waited for: the command's end is the supervisor's (launch/supervise.py).
"""

import contextlib
import os
import select
import signal
import sys
import time

from satscore.descriptors import inherited_descriptors

MAX_LINE_BYTES = 16 << 20
"""A minute of eight GPUs at 0.12 s has 4 MB; whatever is longer is no message."""
_CHUNK_BYTES = 1 << 16
_MAX_CHUNKS = 512
"""So much is read at once at the most: a process that never stops writing must not hold the sampler."""
_GRACE_S, _KILLED_S, _LOOK_S = 0.2, 0.2, 0.01
# The working directory is not ours to hold: it may be a file system that goes away.
_START = "import os, runpy; os.chdir('/'); runpy.run_module('satscore.counters.dcgm.worker', run_name='__main__')"
WORKER = (sys.executable, "-P", "-c", _START)
# What makes an interpreter behave otherwise (warnings as errors, profiling, inspection) is meant for the command.
_KEPT_VARIABLES = ("PYTHONHOME",)


class BrokenStreamError(Exception):
    """What comes through the pipe is no line of the protocol."""


class WorkerProcess:
    """A running process. Nothing here blocks but ``close``, for at most half a second.

    Args:
        command: What to run; the worker, but for tests.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, command: tuple[str, ...] = WORKER) -> None:
        self._buffer = bytearray()
        self._status: int | None = None
        ours_read, theirs_write = os.pipe()
        theirs_read, ours_write = os.pipe()
        try:
            self.pid = os.posix_spawn(
                command[0],
                command,
                _environment(),
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs_read, 0),
                    (os.POSIX_SPAWN_DUP2, theirs_write, 1),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                    *((os.POSIX_SPAWN_CLOSE, fd) for fd in inherited_descriptors()),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
            )
        except BaseException:
            os.close(ours_read)
            os.close(ours_write)
            raise
        finally:
            os.close(theirs_read)
            os.close(theirs_write)
        os.set_blocking(ours_read, False)
        os.set_blocking(ours_write, False)
        self._read_fd, self._write_fd = ours_read, ours_write

    def send(self, line: bytes) -> bool:
        """Send a line; return False if it did not go through: a reader that is not there, or does not read."""
        data = line + b"\n"
        try:
            return os.write(self._write_fd, data) == len(data)
        except OSError:
            return False

    def wait_readable(self, timeout_s: float) -> None:
        """Wait until something can be read, or it has ended."""
        poll = select.poll()
        poll.register(self._read_fd, select.POLLIN)
        poll.poll(timeout_s * 1e3)

    def lines(self) -> tuple[list[bytes], bool]:
        """Return the whole lines that have come, and whether the pipe is at its end.

        Raises:
            BrokenStreamError: A line has no end.
        """
        at_end = False
        for _ in range(_MAX_CHUNKS):
            try:
                chunk = os.read(self._read_fd, _CHUNK_BYTES)
            except BlockingIOError:
                break
            except OSError:
                chunk = b""
            if not chunk:
                at_end = True
                break
            self._buffer += chunk
        whole, newline, rest = self._buffer.rpartition(b"\n")
        if newline:
            self._buffer = rest
        if len(self._buffer) > MAX_LINE_BYTES:
            raise BrokenStreamError(f"a line longer than {MAX_LINE_BYTES >> 20} MiB")
        return (bytes(whole).split(b"\n") if newline else []), at_end

    def ending(self) -> str:
        """Return how it ended, for people; empty while it runs."""
        if not self.reap():
            return ""
        status = self._status or 0
        if os.WIFSIGNALED(status):
            return f"it died of signal {os.WTERMSIG(status)}"
        return f"it ended with status {os.WEXITSTATUS(status)}"

    def reap(self) -> bool:
        """Collect its status if it has ended; return whether it has."""
        if self._status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else's wait took it
                pid, status = self.pid, 0
            if pid:
                self._status = status
                self._close_pipes()
        return self._status is not None

    def kill(self) -> None:
        """End it at once, and whatever it has started; one that hangs in the driver dies when the driver lets it."""
        if not self.reap():
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
        self._close_pipes()

    def close(self) -> None:
        """Let it end: it does so when its input closes; killed if it does not."""
        self._close_pipes()
        if not self._ends_within(_GRACE_S):
            self.kill()
            self._ends_within(_KILLED_S)

    def _close_pipes(self) -> None:
        fds, self._read_fd, self._write_fd = {self._read_fd, self._write_fd} - {-1}, -1, -1
        for fd in fds:
            os.close(fd)

    def _ends_within(self, seconds: float) -> bool:
        until_s = time.monotonic() + seconds
        while not self.reap():
            if time.monotonic() >= until_s:
                return False
            time.sleep(_LOOK_S)
        return True


def _environment() -> dict[str, str]:
    """Return our environment, by which the process finds what we have found and nothing of the command's tuning."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") or k in _KEPT_VARIABLES}
    return kept | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if os.path.isabs(path))}  # noqa: PTH117
