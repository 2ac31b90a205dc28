"""Work in a process of its own: answers, failures, crashes, hangs. Real processes."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from satscore.run.apart import Apart, wait_all

# The tests' process has threads; doctor's own has none (tests/process/test_doctor.py).
forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def waited(work, stall_s: float = 20.0) -> tuple[Apart, bytes | None]:
    apart = Apart(work)
    wait_all([apart], stall_s)
    return apart, apart.answer()


@forks
def test_an_answer_of_any_size_and_content_comes_back():
    data = bytes(range(256)) * 4096

    def work(say) -> bytes:
        say("a\nb")
        return data

    assert waited(work)[1] == data


@forks
def test_a_failure_says_the_stage_and_the_error():
    def work(say) -> bytes:
        say("opening")
        raise ValueError("two\nlines")

    apart, answer = waited(work)
    assert answer is None
    assert apart.failure == "opening: ValueError: two lines; please report it"


@forks
def test_a_crash_is_named():
    def work(say) -> bytes:
        say("closing")
        os.kill(os.getpid(), signal.SIGKILL)
        return b"never"

    apart, answer = waited(work)
    assert answer is None
    assert apart.failure == "closing: died of SIGKILL"


@forks
def test_a_hang_ends_and_leaves_no_process():
    def work(say) -> bytes:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        say("reading")
        while True:
            time.sleep(60.0)

    apart, answer = waited(work, 0.3)
    assert answer is None
    assert "no answer in time" in apart.failure
    with pytest.raises(ChildProcessError):
        os.waitpid(apart._pid, 0)


@forks
def test_two_that_hang_cost_the_time_of_one_and_what_gets_ahead_is_waited_for() -> None:
    def hang(say) -> bytes:
        while True:
            time.sleep(60.0)

    def slow(say) -> bytes:
        for i in range(6):
            say(f"step {i}")
            time.sleep(0.4)
        return b"done"

    aparts = [Apart(hang), Apart(hang), Apart(slow)]
    begun = time.monotonic()
    wait_all(aparts, 2.0)
    took_s = time.monotonic() - begun
    assert [apart.answer() for apart in aparts] == [None, None, b"done"]
    assert took_s >= 2.4


@forks
def test_a_child_keeps_no_end_of_the_others_open() -> None:
    first = Apart(lambda say: b"first")
    pipe = str(Path(f"/proc/self/fd/{first.read_fd}").readlink())

    def work(say) -> bytes:
        numbers = [Path(f"/proc/self/fd/{n}") for n in range(first.read_fd + 16)]
        return " ".join(str(number.readlink()) for number in numbers if number.is_symlink()).encode()

    second = Apart(work)
    wait_all([first, second], 20.0)
    seen = (second.answer() or b"").decode()
    assert first.answer() == b"first"
    assert "/dev/null" in seen
    assert pipe not in seen


ORPHANS = """
import os, signal, sys, time
from satscore.run.apart import Apart, wait_all

def hang(say):
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    os.write(int(sys.argv[1]), b"%d " % os.getpid())
    while True:
        time.sleep(60.0)

wait_all([Apart(hang), Apart(hang)], 600.0)
"""


def read_until(descriptor: int, is_enough: Callable[[bytes], bool], limit_s: float = 30.0) -> bytes:
    """Return what was read until it is enough or all writers are gone; fail where neither comes."""
    data = b""
    while not is_enough(data):
        assert select.select([descriptor], [], [], limit_s)[0], "processes are left behind"
        chunk = os.read(descriptor, 4096)
        if not chunk:
            break
        data += chunk
    return data


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_children_that_hang_end_with_their_parent(signum: int) -> None:
    alive, write_fd = os.pipe()
    parent = subprocess.Popen([sys.executable, "-c", ORPHANS, str(write_fd)], pass_fds=[write_fd])
    os.close(write_fd)
    pids: list[int] = []
    try:
        pids = [int(pid) for pid in read_until(alive, lambda data: data.count(b" ") == 2).split()]
        assert len(pids) == 2
        parent.send_signal(signum)
        assert parent.wait(30.0) == -signum
        # The write end is closed when the last of them is gone.
        assert read_until(alive, lambda _: False) == b""
    finally:
        os.close(alive)
        parent.kill()
        parent.wait()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
