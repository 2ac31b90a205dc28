"""Shared by the process tests: the program as a user starts it, and waiting without bare sleeps."""

import contextlib
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[2]
CHILDREN = Path(__file__).resolve().parent / "children"
PROGRAM = [sys.executable, "-m", "satscore"]
TIMEOUT_S = 20.0
PATIENT = {"SATSCORE_EXIT_WAIT_S": str(TIMEOUT_S)}
"""Added to the environment where a summary must come however loaded the machine is."""
END = "RTMAX"
END_STATUS = 42

# Numbers of the system call in which the wrapper waits: arch/x86/entry/syscalls, asm-generic/unistd.h.
RT_SIGTIMEDWAIT = {"x86_64": "128", "aarch64": "137"}[platform.machine()]
T = TypeVar("T")


def environment(**added: str) -> dict[str, str]:
    """The environment of the tests: nothing of an outer satscore, Slurm step or continuous integration."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SATSCORE_", "SLURM_", "PYTEST_", "COV_", "COLUMNS"))
    }
    return kept | {"PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"} | added


def satscore(*command: str, options: Sequence[str] = ()) -> list[str]:
    """The words that run this command under satscore, silently."""
    return [*PROGRAM, "--quiet", "--record", "no", *options, "--", *command]


def sampled(seconds: float, until: Path | None = None) -> list[str]:
    """The words of a command that is sampled for so many seconds, and on until a file exists."""
    script = str(CHILDREN / "sampled.py")
    return [sys.executable, "-I", "-S", script, str(seconds), *([str(until)] if until else [])]


def finish(
    command: Sequence[str | bytes],
    *,
    data: bytes | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run to the end, with a deadline, patiently; a negative return code is the signal it died of."""
    return subprocess.run(
        list(command),
        input=data,
        stdin=subprocess.DEVNULL if data is None else None,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd=cwd,
        env=environment(**PATIENT) if env is None else env,
    )


def wait_for(predicate: Callable[[], T], what: str, timeout_s: float = TIMEOUT_S) -> T:
    """Return the first true answer; fail with ``what`` when none comes in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        answer = predicate()
        if answer:
            return answer
        time.sleep(0.005)
    raise AssertionError(f"waited {timeout_s} s for {what}")


def state_of(pid: int) -> str:
    """The state letter of a process (R, S, T, Z ...); empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def children_of(pid: int) -> list[int]:
    """The direct children of a process."""
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(word) for word in words]


def lives(pid: int) -> bool:
    """Whether a process runs, sleeps or is stopped."""
    return state_of(pid) not in {"", "Z", "X"}


def has_handled_all(pid: int) -> bool:
    """Whether the main thread waits for the next signal, with none pending."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        syscall = Path(f"/proc/{pid}/syscall").read_text().split()[0]
    except OSError:
        return False
    pending = sum(int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd")))
    return pending == 0 and syscall == RT_SIGTIMEDWAIT


class Reporter:
    """The log of children/reporter.py, and the words that start it.

    Args:
        folder: Where its log goes.
        taken: The signals it takes, by name or number.
    """

    def __init__(self, folder: Path, *taken: str) -> None:
        self.log = folder / "signals.log"
        self.command = [
            sys.executable,
            *("-I", "-S"),
            str(CHILDREN / "reporter.py"),
            str(self.log),
            ",".join(taken),
            END,
            str(END_STATUS),
        ]

    def lines(self) -> list[str]:
        """What it wrote so far."""
        return self.log.read_text().split("\n")[:-1] if self.log.exists() else []

    def wait_ready(self) -> int:
        """Wait until it takes signals; return its process id."""
        wait_for(self.lines, "the reporter to start")
        return int(self.lines()[0].split()[1])

    def received(self) -> list[int]:
        """The signals so far."""
        return [int(line) for line in self.lines()[1:]]

    def wait_received(self, signo: int, times: int = 1) -> None:
        """Wait until it has received this signal so many times."""
        wait_for(lambda: self.received().count(signo) >= times, f"signal {signo}; log {self.received()}")


@contextlib.contextmanager
def running(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, new_session: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Start in the background; whatever still lives afterwards is killed."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment() if env is None else env,
        start_new_session=new_session,
    )
    try:
        yield process
    finally:
        for pid in [*children_of(process.pid), process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=TIMEOUT_S)


def end_and_collect(process: subprocess.Popen[bytes], reporter: Reporter) -> list[int]:
    """End the reporter by its last signal; return all that it received before, and check its status."""
    process.send_signal(getattr(signal, f"SIG{END}"))
    assert process.wait(TIMEOUT_S) == END_STATUS
    return reporter.received()[:-1]
