"""The host read for real: a command with children, on this machine. No figure depends on how loaded it is."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from satscore.core.host import COMMAND_FIELDS, HOST_INDEX, HostReading
from satscore.counters.clock import MonotonicClock
from satscore.counters.host.reader import HostReader
from satscore.counters.host.sampler import HostSampler
from satscore.launch.processes import CommandProcesses
from tests.process.harness import environment, wait_for

NS = 1_000_000_000
SPIN = "import time; t = time.thread_time()\nwhile time.thread_time() - t < {s}: pass\n"


@contextlib.contextmanager
def child(code: str) -> Iterator[subprocess.Popen[str]]:
    """A Python child, which gets lines by ``say`` and answers each; all that is left of its group is killed."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def say(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(word + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


class Reading:
    """Readings by hand, as if a second lay between two, so that only CPU time is real."""

    def __init__(self, reader: HostReader) -> None:
        self.reader = reader
        self.second = 1
        reader.read(NS)

    def __call__(self, name: str) -> float:
        return self.next().values[HOST_INDEX[name]]

    def next(self) -> HostReading:
        self.second += 1
        reading = self.reader.read(self.second * NS)
        assert reading is not None
        return reading

    def cpu_s(self, readings: int) -> float:
        return sum(self("command_cpu_cores") for _ in range(readings))


def test_cpu_time_is_that_which_the_command_measures_of_itself():
    code = SPIN.format(s=0) + "import time\nfor line in open(0):\n    t = time.process_time()\n"
    code += "    while time.process_time() - t < float(line): pass\n    print(time.process_time(), flush=True)\n"
    with child(code) as process:
        before_s = float(say(process, "0.05"))
        reading = Reading(HostReader(process.pid))
        after_s = float(say(process, "0.5"))
        # A reading of a second holds at most a second of every CPU; ticks are 10 ms.
        assert reading.cpu_s(3) == pytest.approx(after_s - before_s, abs=0.05)


WORKERS = """
import os, subprocess, sys
spin = "import sys, time\\nfor line in sys.stdin:\\n    t = time.process_time()\\n"
spin += "    while time.process_time() - t < float(line): pass\\n    print(1, flush=True)\\n"
workers = []
for line in open(0):
    word, _, value = line.strip().partition(" ")
    if word == "start":
        for _ in range(int(value)):
            workers.append(subprocess.Popen([sys.executable, "-I", "-S", "-c", spin],
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    if word == "work":
        for worker in workers:
            worker.stdin.write(value + "\\n"); worker.stdin.flush()
        for worker in workers:
            worker.stdout.readline()
    if word == "end":
        for worker in workers:
            worker.stdin.close()
            worker.wait()
        workers = []
    print(word, flush=True)
"""


def test_workers_are_found_and_what_they_did_is_told_once_when_they_are_gone():
    with child(WORKERS) as process:
        say(process, "start 0")
        reading = Reading(HostReader(process.pid))
        say(process, "start 4")
        wait_for(lambda: reading("command_processes_count") == 5, "the workers to be found")
        reading.cpu_s(30)  # their start
        say(process, "work 0.2")
        assert reading.cpu_s(30) == pytest.approx(0.8, abs=0.15)
        say(process, "end")
        assert 0 <= reading.cpu_s(30) < 0.3
        assert reading("command_processes_count") == 1


ORPHAN = """
import os, sys
for line in open(0):
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            print(os.getpid(), flush=True)
            sys.stdout.close()
            while True:
                os.read(int(os.environ["HOLD"]), 1) or os._exit(0)
        os._exit(0)
    os.wait()
"""


def test_a_daemon_of_the_command_is_known_by_its_mark():
    """Forked twice and of another session before anybody looked: only its environment says whose it is."""
    hold, release = os.pipe()
    processes = CommandProcesses(os.getpid())
    marked = environment(SATSCORE_PARENT=processes._mark, HOLD=str(hold))
    command = [sys.executable, "-I", "-S", "-c", ORPHAN]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=marked, pass_fds=[hold]
    )
    try:
        reading = Reading(HostReader(process.pid, processes.owns))
        pid = int(say(process, "go"))
        wait_for(lambda: reading("command_processes_count") == 2, "the daemon to be found")
        assert not Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert pid != process.pid
    finally:
        os.close(release)
        os.close(hold)
        process.kill()
        process.communicate()


def sampled(
    child_pid: int | None, enough: Callable[[list[HostReading]], bool]
) -> tuple[HostSampler, list[HostReading]]:
    stop, readings = threading.Event(), list[HostReading]()
    sampler = HostSampler(child_pid, MonotonicClock(), stop)
    sampler.start()
    try:

        def enough_now() -> bool:
            readings.extend(sampler.drain())
            return enough(readings)

        wait_for(enough_now, "readings")
    finally:
        stop.set()
    return sampler, readings


def test_the_thread_reads_this_machine():
    with child("import sys; sys.stdin.read()") as process:
        sampler, readings = sampled(process.pid, lambda r: len(r) >= 2)
    first, second = readings[:2]
    assert first.end_ns == second.start_ns
    assert second.values[HOST_INDEX["command_processes_count"]] == 1
    assert second.values[HOST_INDEX["command_rss_bytes"]] > 1e6
    assert 0 <= second.values[HOST_INDEX["cpu_busy_frac"]] <= 1
    assert second.values[HOST_INDEX["memory_available_bytes"]] > 0
    info = sampler.info()
    assert info.cpus_usable_count
    assert info.workdir_fs
    assert sampler.notes() == []
    assert sampler.cpu_s > 0
    assert sampler.drain() == []


def test_without_a_command_the_node_is_read():
    sampler, (reading, *_) = sampled(None, bool)
    known = {name for name, i in HOST_INDEX.items() if reading.values[i] == reading.values[i]}
    assert not known & set(COMMAND_FIELDS)
    assert "memory_available_bytes" in known
    assert sampler.notes() == []


def test_a_command_that_nobody_can_see_is_one_note():
    with child("") as process:
        process.wait()
    sampler, _ = sampled(process.pid, bool)
    (note,) = sampler.notes()
    assert note.endswith(f"is not known: /proc/{process.pid}/stat cannot be read")


def test_what_breaks_the_thread_is_a_note(monkeypatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(HostReader, "read", broken)
    sampler = HostSampler(None, MonotonicClock(), threading.Event())
    sampler.start()
    (note,) = wait_for(sampler.notes, "the note")
    assert "ZeroDivisionError" in note
    assert sampler.drain() == []


def test_a_limit_on_threads_is_a_note(monkeypatch):
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    sampler = HostSampler(None, MonotonicClock(), threading.Event())
    sampler.start()
    assert sampler.notes() == ["the host is not read: can't start new thread"]
