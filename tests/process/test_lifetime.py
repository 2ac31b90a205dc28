"""Who outlives whom: the wrapper waits for the command alone and never takes it along."""

import os
import signal
import sys
from pathlib import Path

from tests.process.harness import (
    TIMEOUT_S,
    Reporter,
    children_of,
    lives,
    running,
    satscore,
    state_of,
    wait_for,
)


def test_grandchild_that_outlives_the_command_does_not_hold_us(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 60 > /dev/null 2>&1 & echo $! > {pid_file}; exit 4"
    with running(satscore("sh", "-c", script)) as wrapper:
        assert wrapper.wait(TIMEOUT_S) == 4
        grandchild = int(pid_file.read_text())
        assert lives(grandchild)
        os.kill(grandchild, signal.SIGKILL)


def test_killed_wrapper_leaves_the_command_to_finish_its_work(tmp_path: Path) -> None:
    """It still has its streams, gets no signal, and writes to the end."""
    fifo, out = tmp_path / "go", tmp_path / "out"
    os.mkfifo(fifo)
    script = f"echo started; read line < {fifo}; for i in 1 2 3; do echo $i; done > {out}; echo done >> {out}"
    with running(satscore("sh", "-c", script)) as wrapper:
        assert wrapper.stdout is not None
        assert wrapper.stdout.readline() == b"started\n"
        (child,) = children_of(wrapper.pid)
        wrapper.kill()
        assert wrapper.wait(TIMEOUT_S) == -signal.SIGKILL
        assert lives(child)
        fifo.write_text("go\n")
        wait_for(lambda: not lives(child), "the command to end")
    assert out.read_text() == "1\n2\n3\ndone\n"


def test_no_zombie_is_left(tmp_path: Path) -> None:
    """When the wrapper has ended, the command's process is gone, not dead and uncollected."""
    pid_file = tmp_path / "pid"
    with running(satscore("sh", "-c", f"echo $$ > {pid_file}")) as wrapper:
        assert wrapper.wait(TIMEOUT_S) == 0
        assert state_of(int(pid_file.read_text())) == ""


def test_command_is_the_only_child_and_has_no_death_signal(tmp_path: Path) -> None:
    get_pdeathsig = (
        "import ctypes; n = ctypes.c_int(-1); ctypes.CDLL(None).prctl(2, ctypes.byref(n), 0, 0, 0); exit(n.value)"
    )
    with running(satscore(sys.executable, "-c", get_pdeathsig)) as wrapper:
        assert wrapper.wait(TIMEOUT_S) == 0
    reporter = Reporter(tmp_path)
    with running(satscore(*reporter.command)) as wrapper:
        child = reporter.wait_ready()
        assert child in children_of(wrapper.pid)
