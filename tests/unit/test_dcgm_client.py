"""satscore's end of the pipes: deadlines, broken and dying processes, other attempts. With real processes."""

import contextlib
import fcntl
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from satscore.counters.dcgm import client as module
from satscore.counters.dcgm import ids
from satscore.counters.dcgm.address import checked_address
from satscore.counters.dcgm.client import Client, Event
from satscore.counters.dcgm.listener import Listener
from satscore.counters.dcgm.process import BrokenStreamError, WorkerProcess
from satscore.counters.dcgm.wire import Connect, EngineGpu, Failed, Found, Samples, Value, Watch, Watching
from satscore.errors import CounterError

TIMEOUT_S = 20.0
S = 1_000_000_000
FOUND = Found(bindings_version="4.6.0", gpus=[EngineGpu(entity=3, static={54: "GPU-a"})])
WATCHING = Watching(refused={1015: -6}, multiplexed=[3])
SAMPLES = Samples(
    fetched_ns=1, wall_ns=2, cpu_s=0.5, rss_bytes=1000, values=[Value(3, 1004, 10, 0, 0.5), Value(3, 1005, 10, 1, None)]
)
PRELUDE = """
import os, signal, sys, time
def hear(): return sys.stdin.readline()
def say(text): sys.stdout.write(text + "\\n"); sys.stdout.flush()
def found(): hear(); say(FOUND)
def watching(): found(); hear(); say(WATCHING)
def on(): watching(); say(SAMPLES)
"""


def child(body: str) -> tuple[str, ...]:
    """A process that plays the worker."""
    names = {"FOUND": FOUND, "WATCHING": WATCHING, "SAMPLES": SAMPLES}
    words = "".join(f"{name} = {msgspec.json.encode(said).decode()!r}\n" for name, said in names.items())
    return (sys.executable, "-I", "-S", "-c", PRELUDE + words + body)


class Clock:
    """CLOCK_MONOTONIC, that a test may move on."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def now_ns(self) -> int:
        return time.monotonic_ns() + self.ahead_ns

    def skip(self, seconds: float) -> None:
        self.ahead_ns += round(seconds * S)


class Run:
    """A client on a child, and all that has happened."""

    def __init__(self, body: str, address: str | None = None, arm: Callable[[Found], Watch] | None = None) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.found: list[Found] = []
        connect = Connect(bindings="/b", address=address, timeout_s=1, static_fields=[54])
        self.client = Client(connect, arm or self._arm, period_s=0.2, command=child(body), now_ns=self.clock.now_ns)

    def _arm(self, found: Found) -> Watch:
        self.found.append(found)
        return Watch(entities=[3], pipe_fields=[1004], other_fields=[100], period_us=200_000)

    def until(self, kind: type, count: int = 1) -> list[Event]:
        """Poll until so many events of a kind have come."""
        deadline = time.monotonic() + TIMEOUT_S
        while sum(isinstance(event, kind) for event in self.events) < count:
            assert time.monotonic() < deadline, f"waited for {kind.__name__}: {self.events}"
            self.events += self.client.poll()
            self.client.wait(0.01)
        return [event for event in self.events if isinstance(event, kind)]

    def failure(self) -> Failed:
        (failed,) = self.until(Failed)
        assert isinstance(failed, Failed)
        return failed

    def failures(self) -> int:
        return sum(isinstance(event, Failed) for event in self.events)

    def skip(self, seconds: float, step_s: float = 0.4) -> None:
        """Let time pass in ticks, as the sampler makes them."""
        for _ in range(round(seconds / step_s)):
            self.clock.skip(step_s)
            self.events += self.client.poll()


@pytest.fixture(name="run")
def _run() -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(*args, **options) -> Run:
        runs.append(Run(*args, **options))
        return runs[-1]

    yield start
    for each in runs:
        each.client.close()
    with pytest.raises(ChildProcessError):  # nothing is left behind
        os.waitpid(-1, os.WNOHANG)


def test_found_watching_and_samples_come_in_this_order(run):
    it = run("on(); say(SAMPLES); hear()")
    it.until(Samples, 2)
    assert it.events == [WATCHING, SAMPLES, SAMPLES]
    assert it.found == [FOUND]
    assert it.client.is_watching
    assert (it.client.cpu_s, it.client.rss_bytes) == (0.5, 1000)


def test_what_the_process_is_told(run, tmp_path):
    told = tmp_path / "told"
    it = run(f"""
first = hear(); say(FOUND); second = hear()
open({str(told)!r}, "w").write(first + second)
say(WATCHING); hear()""")
    it.until(Watching)
    first, second = told.read_text().splitlines()
    assert json.loads(first)["bindings"] == "/b"
    assert msgspec.json.decode(second, type=Watch).pipe_fields == [1004]


def test_a_line_may_come_in_pieces(run):
    it = run("""
watching()
half = len(SAMPLES) // 2
sys.stdout.write(SAMPLES[:half]); sys.stdout.flush(); time.sleep(0.1); say(SAMPLES[half:]); hear()""")
    assert it.until(Samples) == [SAMPLES]


def test_a_failure_that_the_process_tells_is_told_on_and_another_attempt_is_made(run):
    failed = Failed(stage="watch", status=-33, text="not loaded")
    it = run(f"found(); hear(); say({msgspec.json.encode(failed).decode()!r})")
    assert it.failure() == failed
    assert not it.client.is_watching
    assert len(it.found) == 1
    it.skip(0.8)
    assert len(it.found) == 1, "it rests first"
    it.clock.skip(0.3)
    it.until(Failed, 2)
    assert len(it.found) == 2


def rest_s(it: Run, attempts: Callable[[], int]) -> float:
    """Let time pass until another attempt is made; return how much, s."""
    before = attempts()
    for tick in range(1000):
        it.events += it.client.poll()
        if attempts() > before:
            return tick * 0.1
        it.clock.skip(0.1)
    raise AssertionError("it rests for ever")


def test_rests_after_processes_that_failed_grow_up_to_half_a_minute_and_start_anew_after_samples(run, tmp_path, starts):
    good = tmp_path / "good"
    it = run(f"on() if os.path.exists({str(good)!r}) else hear(); sys.exit(0)")
    rests = []
    for count in range(1, 8):
        it.until(Failed, count)
        rests.append(rest_s(it, starts.__len__))
        if count == 6:
            good.touch()
    assert rests == [pytest.approx(s, abs=0.2) for s in (1, 2, 4, 8, 16, 30, 1)]


@pytest.fixture(name="starts")
def _starts(monkeypatch) -> list[WorkerProcess]:
    """The processes that were started so far."""
    started: list[WorkerProcess] = []

    def start(command: tuple[str, ...]) -> WorkerProcess:
        started.append(WorkerProcess(command))
        return started[-1]

    monkeypatch.setattr(module, "WorkerProcess", start)
    return started


def test_while_nobody_listens_it_looks_every_second_and_finds_a_restarted_engine_at_once(run, tmp_path, starts):
    it = run("on(); sys.exit(0)", address=f"unix://{tmp_path}/engine")
    it.until(Failed)
    for _ in range(40):
        assert rest_s(it, it.failures) == pytest.approx(1, abs=0.2)
    assert not starts
    with listening(socket.AF_UNIX, str(tmp_path / "engine")):
        assert rest_s(it, starts.__len__) == pytest.approx(1, abs=0.2)
        it.until(Samples)


def test_looking_whether_somebody_listens_is_no_failure_of_a_process(run, tmp_path, starts):
    """An engine that answers none for long and is then restarted, and fails again, is still to be spared."""
    socket_path = tmp_path / "engine"
    it = run("hear(); sys.exit(0)", address=f"unix://{socket_path}")
    with listening(socket.AF_UNIX, str(socket_path)):
        for count in (1, 2, 3):
            it.until(Failed, count)
            rest_s(it, starts.__len__)
        it.until(Failed, 4)
    socket_path.unlink()
    it.clock.skip(8)
    it.until(Failed, 5)
    assert rest_s(it, it.failures) == pytest.approx(1, abs=0.2)
    with listening(socket.AF_UNIX, str(socket_path)):
        it.clock.skip(1)
        it.until(Failed, 7)
        assert rest_s(it, starts.__len__) == pytest.approx(16, abs=0.2)


def test_a_process_that_dies_is_noticed_with_its_signal(run):
    it = run("on(); os.kill(os.getpid(), signal.SIGABRT)")
    failed = it.failure()
    assert (failed.stage, failed.status) == ("died", None)
    assert f"signal {signal.SIGABRT.value}" in failed.text
    assert it.events[:2] == [WATCHING, SAMPLES], "what it had said before counts"


def test_a_process_that_ends_is_noticed_with_its_status(run):
    assert "status 3" in run("hear(); sys.exit(3)").failure().text


@pytest.mark.parametrize("garbage", ["nonsense", '{"type": "samples"}', "[1]", "", '{"type":"other"}', "\\x00\\xff"])
def test_garbage_ends_the_attempt(run, garbage):
    failed = run(f"watching(); say({garbage!r}); time.sleep(60)").failure()
    assert failed.stage == "defect"
    assert "odd answer" in failed.text


def test_answers_out_of_turn_end_the_attempt(run):
    assert "Samples came out of turn" in run("found(); say(SAMPLES); time.sleep(60)").failure().text


def test_a_line_without_end_is_not_kept_for_ever(monkeypatch):
    monkeypatch.setattr("satscore.counters.dcgm.process.MAX_LINE_BYTES", 1 << 18)
    process = WorkerProcess(child("while True: sys.stdout.write('x' * 10000)"))
    with pytest.raises(BrokenStreamError):
        read_for_long(process)
    process.kill()
    process.close()


def read_for_long(process: WorkerProcess) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        process.lines()


def test_one_that_writes_without_end_holds_a_poll_for_a_moment_only(run):
    it = run("watching()\nwhile True: say(SAMPLES)")
    it.until(Watching)
    for _ in range(20):
        it.client.wait(TIMEOUT_S)
        assert it.client.poll()
    assert it.client.is_watching


@pytest.mark.parametrize(("body", "limit_s", "stage"), [
    ("time.sleep(60)", module.FOUND_S, "connect"),
    ("found(); time.sleep(60)", module.WATCHING_S, "watch"),
    ("on(); time.sleep(60)", module.MIN_SILENCE_S, "fetch"),
])  # fmt: skip
def test_what_hangs_is_killed_after_its_time(run, body, limit_s, stage):
    it = run(body)
    if stage == "connect":
        it.events += it.client.poll()
    elif stage == "watch":
        while not it.found:
            it.events += it.client.poll()
    else:
        it.until(Samples)
    it.skip(limit_s - 1)
    assert not [event for event in it.events if isinstance(event, Failed)]
    it.skip(2)
    failed = it.failure()
    assert (failed.stage, failed.status) == (stage, ids.TIMEOUT)
    assert f"{limit_s:g} s" in failed.text


def test_time_in_which_nobody_looked_is_no_silence_of_the_process(run):
    """Both may have been stopped together: Slurm's suspend, a laptop's lid."""
    it = run("on(); time.sleep(60)")
    it.until(Samples)
    it.clock.skip(600)
    it.events += it.client.poll()
    assert it.client.is_watching


def test_one_that_goes_on_is_never_silent(run):
    it = run("watching()\nwhile True: say(SAMPLES); time.sleep(0.001)")
    it.until(Watching)
    for _ in range(20):
        it.until(Samples, sum(isinstance(event, Samples) for event in it.events) + 1)
        it.clock.skip(0.4)
    assert {type(event) for event in it.events} == {Watching, Samples}


def test_gpus_that_are_not_ours_end_the_attempt(run):
    def arm(found: Found) -> Watch:
        raise CounterError(f"{found.gpus[0].static[54]} is not ours")

    assert run("found(); time.sleep(60)", arm=arm).failure() == Failed(
        stage="gpus", status=None, text="GPU-a is not ours"
    )


def test_closing_takes_half_a_second_at_most_and_leaves_nothing(run):
    it = run("import signal\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\non(); time.sleep(60)")
    it.until(Samples)
    (pid,) = own_children()
    begun = time.monotonic()
    it.client.close()
    assert time.monotonic() - begun < TIMEOUT_S / 10
    assert not Path(f"/proc/{pid}").exists()
    assert it.client.poll() == []
    it.client.close()


def test_a_process_that_leaves_at_the_end_of_its_input_is_not_killed(run, tmp_path):
    mark = tmp_path / "left"
    it = run(f"on(); hear(); open({str(mark)!r}, 'w')")
    it.until(Samples)
    it.client.close()
    assert mark.exists()


def own_children() -> list[int]:
    return [int(word) for word in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def test_the_process_is_apart_from_us(run, tmp_path):
    """A session of its own, no signal blocked, none of our descriptors, no tuning of the command's Python."""
    out = tmp_path / "apart"
    handed_on = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(handed_on, True)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGALRM})
    try:
        os.environ["PYTHONWARNINGS"] = "error"
        it = run(f"""
fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
blocked = [int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, [])]
open({str(out)!r}, "w").write(repr((os.getsid(0) == os.getpid(), blocked, fds[:3], {handed_on} in fds,
    [v for v in os.environ if v.startswith("PYTHON")])))
on(); hear()""")
        it.until(Samples)
    finally:
        del os.environ["PYTHONWARNINGS"]
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(handed_on)
    assert out.read_text() == repr((True, [], [0, 1, 2], False, ["PYTHONPATH"]))


def test_a_limit_of_files_below_an_inherited_one_hinders_nothing(run):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    above = fcntl.fcntl(0, fcntl.F_DUPFD, soft - 1)
    os.set_inheritable(above, True)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (above, hard))
        run("on(); time.sleep(60)").until(Samples)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(above)


def test_the_end_of_another_child_is_not_taken_from_whoever_waits_for_it(run):
    other = os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", "-c", "raise SystemExit(7)"], os.environ)
    it = run("hear(); sys.exit(3)")
    it.failure()
    assert os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) == 7


@contextlib.contextmanager
def listening(family: int, address: Any) -> Iterator[socket.socket]:
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.bind(address)
        server.listen()
        yield server


def test_where_nobody_listens_no_process_is_started(run, tmp_path):
    it = run("on(); hear()", address=f"unix://{tmp_path}/engine")
    failed = it.failure()
    assert (failed.stage, failed.status) == ("connect", None)
    assert not own_children()
    with listening(socket.AF_UNIX, str(tmp_path / "engine")):
        it.clock.skip(1.1)
        assert it.until(Samples)


@pytest.mark.parametrize("named", ["127.0.0.1", "localhost"])
def test_a_listener_is_found_at_a_name_and_port(named):
    with listening(socket.AF_INET, ("127.0.0.1", 0)) as server:
        asked = Listener(f"{named}:{server.getsockname()[1]}")
        asked.begin()
        assert answer_of(asked) == ""
        port = server.getsockname()[1]
    refused = Listener(f"127.0.0.1:{port}")
    refused.begin()
    assert "refused" in answer_of(refused)


def test_a_name_that_does_not_exist_is_a_reason():
    asked = Listener("no-such-host.invalid:5555")
    asked.begin()
    assert answer_of(asked)


def answer_of(listener: Listener) -> str:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        answer = listener.answer()
        if answer is not None:
            return answer
        time.sleep(0.005)
    raise AssertionError("no answer")


def test_an_address_that_never_answers_costs_half_a_second(run, monkeypatch):
    monkeypatch.setattr(Listener, "answer", lambda self: None)
    it = run("on(); hear()", address="127.0.0.1:5555")
    it.skip(1)
    assert "timed out" in it.failure().text


@pytest.mark.parametrize("text", [
    "node7:5555", "127.0.0.1:1", "[::1]:5555", "[fe80::1%eth0]:65535", "unix:///tmp/nv-hostengine",
])  # fmt: skip
def test_addresses(text):
    assert checked_address(text) == text


@pytest.mark.parametrize(("text", "words"), [
    ("node7", "no port"), ("node7:", "no port"), (":5555", "no host"), ("[]:5555", "no host"),
    ("::1:5555", "ambiguous"),
    ("a:0", "no port from"), ("a:65536", "no port from"), ("a:x", "no port from"), ("a:٣", "no port from"),
    ("/tmp/engine", "is a path"), ("tcp://a:1", "no address"), ("unix://engine", "absolute"), ("unix://", "absolute"),
    ("unix:///" + "x" * 110, "longer"), ("", "no port"),
])  # fmt: skip
def test_wrong_addresses_say_what_is_wrong(text, words):
    with pytest.raises(CounterError) as caught:
        checked_address(text)
    assert words in caught.value.message
    assert caught.value.hint
