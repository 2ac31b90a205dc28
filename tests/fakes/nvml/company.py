"""Processes that the fake NVML lists as computing, for code that starts with ``from company import *``.

The script must say ``process K from FOLDER/K`` for every GPU K; arguments: FOLDER and a library named as
CUDA's (tests/unit/test_lookout.py). Whatever was started is ended with the interpreter.
"""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from child import FakeClock, emit, open_nvml

from satscore.core.placement import Look
from satscore.launch.ancestry import mark_of
from satscore.run.lookout import GpuChoice, Lookout

__all__ = [
    "CUDA", "FOLDER", "MARK", "ME", "Path", "child_of", "computes", "emit", "end", "gpus", "lookout", "orphan", "os",
    "start", "subprocess", "sys", "threading", "told", "with_cuda",
]  # fmt: skip

FOLDER, CUDA = sys.argv[1:]
ME = os.getpid()
MARK = mark_of(ME)
OPEN_CUDA = "import ctypes, sys; ctypes.CDLL(sys.argv[1]); print('ready', flush=True); sys.stdin.read()"
_started: list["subprocess.Popen[str]"] = []
_orphans: list[int] = []


def start(*command: str, environ: dict[str, str] | None = None, **added: str | None) -> "subprocess.Popen[str]":
    """Start a process that prints ``ready`` and then waits for its input to end; by default a shell.

    Args:
        *command: Its words.
        environ: Its whole environment; None: ours with the mark of a command below us.
        **added: Further variables; None takes one away.
    """
    whole = {**os.environ, "SATSCORE_PARENT": MARK, **added} if environ is None else environ
    made = subprocess.Popen(
        command or ("sh", "-c", "echo ready; read line"),
        env={name: value for name, value in whole.items() if value is not None},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    _started.append(made)
    assert made.stdout is not None
    assert made.stdout.readline() == "ready\n"
    return made


def with_cuda(**added: str | None) -> "subprocess.Popen[str]":
    """Start a process that has CUDA's library mapped."""
    return start(sys.executable, "-S", "-c", OPEN_CUDA, CUDA, **added)


def orphan(then: str = "exec sleep 600", **added: str | None) -> int:
    """Start a process whose parent ends at once; return its id.

    Args:
        then: What its shell does; no single quotes.
        **added: As for ``start``.
    """
    path = Path(FOLDER) / f"orphan-{len(_orphans)}"
    leave = f'setsid sh -c \'echo $$ > "$0".new; mv "$0".new "$0"; {then}\' "$0" > /dev/null 2>&1 &'
    end(
        start(
            "sh", "-c", f'{leave} while ! test -e "$0"; do sleep 0.01; done; echo ready; read line', str(path), **added
        )
    )
    _orphans.append(int(path.read_text()))
    return _orphans[-1]


def end(process: "subprocess.Popen[str]") -> None:
    """Let a process end, and wait until it is gone."""
    with contextlib.suppress(BrokenPipeError):
        process.communicate("end\n")


def computes(gpu: int, *pids: int) -> None:
    """Let the fake driver list these processes on a GPU."""
    with (Path(FOLDER) / str(gpu)).open("a") as file:
        file.write("".join(f"{pid}\n" for pid in pids))


def child_of(pid: int) -> int:
    """Return the one child of a process, once there is one."""
    file = Path(f"/proc/{pid}/task/{pid}/children")
    while not file.read_text().split():
        threading.Event().wait(0.01)
    return int(file.read_text().split()[0])


def lookout(wrapper: int = ME, *, comparable: bool = True, all_shown: bool = True, **environ: str) -> Lookout:
    """Return a lookout for the commands of a wrapper, which was started with this environment.

    Args:
        wrapper: Its process id.
        comparable: Whether the driver's ids are taken to be of our namespace, wherever these tests run.
        all_shown: Whether /proc is taken to show all users' processes.
        **environ: What it was started with.
    """
    choice = GpuChoice(environ)
    made = Lookout(open_nvml(FakeClock(), choice.choose), choice, wrapper, threading.Event())
    made._processes.comparable, made._processes.all_shown = comparable, all_shown
    return made


def gpus(uuids: Iterable[str]) -> list[int]:
    """Return the numbers of the fake's GPUs."""
    return sorted(int(uuid[-1]) for uuid in uuids)


def told(look: Look) -> list[Any]:
    """Return what a look told, by number: the command's GPUs, environment, and whoever else was there."""
    others = {
        int(uuid[-1]): {name: getattr(seen, name) for name in ("foreign", "perhaps", "hidden") if getattr(seen, name)}
        for uuid, seen in look.seen.items()
    }
    return [
        gpus(uuid for uuid, seen in look.seen.items() if seen.ours),
        {int(uuid[-1]): how for uuid, how in look.environment.items()},
        {gpu: counts for gpu, counts in others.items() if counts},
    ]


@atexit.register
def _end_all() -> None:
    for pid in _orphans:
        os.kill(pid, signal.SIGKILL)
    for process in _started:
        if process.poll() is None:
            process.kill()
            process.communicate()
