"""Work in a process of its own, with a limit: what hangs or crashes there costs its answer and nothing else.

A driver call can hang where no signal reaches it; a thread in it would hold up even our exit. Not for
use beside threads: it forks.
"""

import contextlib
import ctypes
import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from typing import NoReturn

_STAGE, _FAILURE, _ANSWER, _END = b"s", b"f", b"a", b"\n"
_REAP_CHECKS = 40
_REAP_PAUSE_S = 0.01
_PR_SET_PDEATHSIG = 1
"""prctl(2)."""

_read_fds: set[int] = set()
"""Where this process listens: a child that inherits an end would keep the others from noticing that we are gone."""

Say = Callable[[str], None]
"""Tells the parent what is being done now."""


class Apart:
    """A piece of work in a child process.

    Args:
        work: Returns the answer; its argument tells the stage of the work. Its standard streams are
            /dev/null.
        own_limits_s: Time within which the work itself ends what hangs; only after that it is taken to hang.
    """

    def __init__(self, work: Callable[[Say], bytes], own_limits_s: float = 0.0) -> None:
        self.own_limits_s = own_limits_s
        self.failure = ""
        """Why there is no answer."""
        self.heard_s = time.monotonic()
        """CLOCK_MONOTONIC in s when it last said something."""
        self._buffer = b""
        self._has_ended = False
        self.read_fd, write_fd = os.pipe()
        _read_fds.add(self.read_fd)
        parent_pid = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            _work_and_exit(work, write_fd, parent_pid)
        os.close(write_fd)

    def listen(self) -> bool:
        """Take what it has said, once there is something; return whether it has said all."""
        chunk = os.read(self.read_fd, 1 << 16)
        self._buffer += chunk
        self._has_ended = not chunk
        self.heard_s = time.monotonic()
        return self._has_ended

    def answer(self) -> bytes | None:
        """Return the answer, or None if there is none: then ``failure`` says why. It is ended by this."""
        _read_fds.discard(self.read_fd)
        os.close(self.read_fd)
        status = self._end(patient=self._has_ended)
        stage, rest = "starting", self._buffer
        while rest[:1] == _STAGE:
            line, _, rest = rest[1:].partition(_END)
            stage = line.decode("utf-8", "replace")
        if rest[:1] == _ANSWER and rest[-1:] == _END:
            return rest[1:-1]
        told = rest[1:-1].decode("utf-8", "replace") if rest[:1] == _FAILURE else ""
        self.failure = f"{stage}: {told or (_fate(status) if self._has_ended else 'no answer in time, it hangs')}"
        return None

    def _end(self, *, patient: bool) -> int | None:
        """Kill it, if it does not end by itself, and collect it; one that cannot even be killed is left behind."""
        for check in range(_REAP_CHECKS):
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if check == (_REAP_CHECKS // 2 if patient else 0):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
            time.sleep(_REAP_PAUSE_S)
        return None


def wait_all(aparts: Iterable[Apart], stall_s: float) -> None:
    """Wait until each has said all, or nothing new for so long.

    A machine that is busy makes everything slow; only what no longer gets ahead is taken to hang.
    """
    waiting = {apart.read_fd: apart for apart in aparts}
    while waiting:
        poll = select.poll()
        for fd in waiting:
            poll.register(fd, select.POLLIN)
        due_s = min(apart.heard_s + apart.own_limits_s for apart in waiting.values()) + stall_s
        for fd, _ in poll.poll(max(0.0, due_s - time.monotonic()) * 1e3):
            if waiting[fd].listen():
                del waiting[fd]
        now_s = time.monotonic()
        waiting = {fd: apart for fd, apart in waiting.items() if now_s < apart.heard_s + apart.own_limits_s + stall_s}


def _fate(status: int | None) -> str:
    if status is not None and status < 0:
        return f"died of {signal.Signals(-status).name}"
    return "ended without an answer"


def _work_and_exit(work: Callable[[Say], bytes], write_fd: int, parent_pid: int) -> NoReturn:
    """Be the child; never return to the parent's code."""
    try:
        _die_with(parent_pid)
        for descriptor in _read_fds:
            os.close(descriptor)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        with os.fdopen(write_fd, "wb", buffering=0) as pipe:

            def say(stage: str) -> None:
                pipe.write(_line(_STAGE, stage))

            try:
                answer = _ANSWER + work(say) + _END
            except Exception as error:  # noqa: BLE001 - told to the parent, which goes on
                pipe.write(_line(_FAILURE, f"{type(error).__name__}: {error}; please report it"))
            else:
                _write_all(pipe.fileno(), answer)
    finally:
        os._exit(0)


def _die_with(parent_pid: int) -> None:
    """Let the kernel kill this process when its parent dies: in a driver that hangs it would stay for ever."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(0)


def _line(kind: bytes, text: str) -> bytes:
    return kind + " ".join(text.split()).encode("utf-8", "replace") + _END


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
