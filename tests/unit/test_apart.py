"""Work in a process of its own: answers, failures, crashes, hangs. Real processes."""

import os
import signal
import time

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
