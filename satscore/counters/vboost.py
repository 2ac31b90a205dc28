"""Asks the driver's tool for the vBoost level of each GPU, once and beside the run; never changes it."""

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Sequence

from satscore.core.gpu import GpuInfo
from satscore.core.vboost import TOOL, Vboost, last_line, told, unknown

COMMAND = tuple(TOOL.split())
DEADLINE_S = 5.0
"""A node whose driver starts its GPUs when asked takes some 2 s."""
_POLL_S = 0.02
_END_S = 0.5
_MOST_BYTES = 1 << 16
_TOO_LATE = "too late"


class VboostReader:
    """Asks the tool once, in a thread of its own, which nobody has to wait for.

    Args:
        command: The tool and its arguments.
        deadline_s: It is killed after this time, with all that it started.
    """

    def __init__(self, command: Sequence[str] = COMMAND, deadline_s: float = DEADLINE_S) -> None:
        self._command = list(command)
        self._deadline_s = deadline_s
        self._given_up = threading.Event()
        self._answered = threading.Event()
        self._answer = Vboost()

    def start(self, gpus: Sequence[GpuInfo]) -> None:
        """Ask, if any of the GPUs can have a level; returns at once."""
        if not any(gpu.may_have_vboost for gpu in gpus):
            self._answered.set()
            return
        try:
            threading.Thread(target=self._run, name="satscore-vboost", daemon=True).start()
        except RuntimeError as error:  # a limit on threads
            self._tell(unknown(str(error)))

    def levels(self, timeout_s: float, stop: threading.Event) -> Vboost:
        """Return what the tool told; if it has not yet, wait, and then give it up for good.

        Args:
            timeout_s: To wait at most.
            stop: Ends the wait: the command has ended.
        """
        give_up_s = time.monotonic() + timeout_s
        while not self._answered.is_set() and not stop.is_set() and time.monotonic() < give_up_s:
            self._answered.wait(_POLL_S)
        if not self._answered.is_set():
            self._given_up.set()
            self._answered.wait(_END_S)  # for the tool to be gone
            why = "the command ended before it answered" if stop.is_set() else f"it was not waited for {timeout_s:g} s"
            return unknown(why)
        return self._answer

    def _run(self) -> None:
        try:
            output, problem = _ask(self._command, self._deadline_s, self._given_up)
            self._tell(unknown(problem) if problem else told(output))
        except Exception as error:  # noqa: BLE001 - a defect here must never hurt the user's command
            self._tell(unknown(f"asking for it failed ({error!r}); please report it"))

    def _tell(self, answer: Vboost) -> None:
        self._answer = answer
        self._answered.set()


def _ask(command: Sequence[str], deadline_s: float, given_up: threading.Event) -> tuple[str, str]:
    """Return what a tool prints, and why that is no answer (empty if it is)."""
    give_up_s = time.monotonic() + deadline_s
    try:
        # Descriptors of ours are closed in it; in a session of its own, Ctrl-C does not reach it.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"LC_ALL": "C"},
            start_new_session=True,
        )
    except FileNotFoundError:
        return "", f"{command[0]} is not on PATH here"
    except OSError as error:
        return "", f"it cannot be started ({error.strerror})"
    assert process.stdout is not None
    with process.stdout as stream:
        output, problem = _read(stream.fileno(), give_up_s, given_up)
    has_ended = _ends(process.pid, 0.0 if problem else _END_S)
    # Before it is collected: until then its number is nobody else's.
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):  # in a driver that hangs nothing can be killed
        process.wait(_END_S)
    if problem == _TOO_LATE:
        problem = f"no answer within {deadline_s:g} s; look at dmesg on the node"
    return output, problem or (_fate(process.returncode, output) if has_ended else "it does not end")


def _read(fd: int, give_up_s: float, given_up: threading.Event) -> tuple[str, str]:
    """Return what came until the output was closed, and why that is not all (empty if it is)."""
    data, poll = b"", select.poll()
    poll.register(fd, select.POLLIN)
    problem = _TOO_LATE
    while not given_up.is_set() and time.monotonic() < give_up_s:
        chunk = os.read(fd, _MOST_BYTES) if poll.poll(_POLL_S * 1e3) else None
        data += chunk or b""
        if chunk == b"" or len(data) > _MOST_BYTES:
            problem = "it prints too much" if chunk else ""
            break
    return data.decode("utf-8", "replace"), problem


def _ends(pid: int, wait_s: float) -> bool:
    """Return whether a child ends within a time; it is not collected."""
    give_up_s = time.monotonic() + wait_s
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() >= give_up_s:
            return False
        time.sleep(_POLL_S)
    return True


def _fate(status: int | None, output: str) -> str:
    """Return how a tool that ended has failed; empty if it has not."""
    if not status:
        return ""
    how = f"died of signal {-status}" if status < 0 else f"ended with status {status}"
    return f"it {how} ({last_line(output) or 'and said nothing'})"
