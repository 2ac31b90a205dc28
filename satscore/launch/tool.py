"""Asking a tool of the machine (scontrol, nvidia-smi) without letting it touch the run."""

import contextlib
import os
import select
import time

from satscore.descriptors import inherited_descriptors
from satscore.launch.signals import signal

_LINGER_S = 0.02
_LINGER_CHECKS = 10


def read_output(command: list[str], deadline_s: float) -> str | None:
    """Return what the tool prints, or None: absent, failed or too slow.

    It runs in a session of its own with no signal blocked and with none of our descriptors, so
    that a Ctrl-C does not reach it and it cannot hold the command's pipes open.

    Args:
        command: The tool and its arguments.
        deadline_s: It is killed after this time in s.
    """
    read_fd, write_fd = os.pipe()
    try:
        pid = _spawn_apart(command, write_fd)
    except OSError:
        os.close(read_fd)
        return None
    finally:
        os.close(write_fd)
    output, complete = _read_until(read_fd, time.monotonic() + deadline_s)
    os.close(read_fd)
    status = _reap(pid, linger=complete)
    return output.decode("utf-8", "replace") if complete and status == 0 else None


def _spawn_apart(command: list[str], write_fd: int) -> int:
    return os.posix_spawnp(
        command[0],
        command,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, write_fd, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            *((os.POSIX_SPAWN_CLOSE, fd) for fd in inherited_descriptors()),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
    )


def _read_until(fd: int, deadline: float) -> tuple[bytes, bool]:
    """Return what came, and whether that was all."""
    chunks: list[bytes] = []
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1e3):
        chunk = os.read(fd, 65536)
        if not chunk:
            return b"".join(chunks), True
        chunks.append(chunk)
    return b"".join(chunks), False


def _reap(pid: int, *, linger: bool) -> int | None:
    """Collect the tool's status; kill it if it does not end by itself."""
    for _ in range(_LINGER_CHECKS if linger else 0):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(_LINGER_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None
