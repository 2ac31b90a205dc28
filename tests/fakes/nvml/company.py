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
from satscore.run.lookout import GpuChoice, Lookout

__all__ = [
    "FOLDER", "ME", "Path", "computes", "emit", "end", "gpus", "lookout", "orphan", "os", "start", "subprocess",
    "sys", "threading", "told", "with_cuda",
]  # fmt: skip

FOLDER, CUDA = sys.argv[1:]
ME = os.getpid()
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
    whole = {**os.environ, "SATSCORE_PARENT": str(ME), **added} if environ is None else environ
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


def orphan(**added: str) -> int:
    """Start a process whose parent ends at once; return its id."""
    path = Path(FOLDER) / f"orphan-{len(_orphans)}"
    leave = 'setsid sh -c \'echo $$ > "$0".new; mv "$0".new "$0"; exec sleep 600\' "$0" > /dev/null 2>&1 &'
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


def lookout(wrapper: int = ME, **environ: str) -> Lookout:
    """Return a lookout for the commands of a wrapper, which was started with this environment."""
    choice = GpuChoice(environ)
    return Lookout(open_nvml(FakeClock(), choice.choose), choice, wrapper, threading.Event())


def gpus(uuids: Iterable[str]) -> list[int]:
    """Return the numbers of the fake's GPUs."""
    return sorted(int(uuid[-1]) for uuid in uuids)


def told(look: Look) -> list[Any]:
    """Return what a look told, by number: computing, environment, processes of others."""
    return [
        gpus(look.computing),
        {int(uuid[-1]): how for uuid, how in look.environment.items()},
        {int(uuid[-1]): count for uuid, count in look.foreign.items()},
    ]


@atexit.register
def _end_all() -> None:
    for pid in _orphans:
        os.kill(pid, signal.SIGKILL)
    for process in _started:
        if process.poll() is None:
            process.kill()
            process.communicate()
