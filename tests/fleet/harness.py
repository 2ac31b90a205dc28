"""Shared by the tests of the fleet: jobs with real sockets, in this process and in others."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from satscore.core.job_series import JobSeries
from satscore.core.wire import encode_series
from satscore.fleet.collector import Collector
from satscore.fleet.member import Member
from satscore.fleet.wire import LiveRank, Part
from satscore.record.meeting import Meeting, enter
from tests.process.harness import ROOT, environment, wait_for

KEY = "cluster-7.0"
PATIENCE_S = 20.0
NEVER = threading.Event()
CHILD = [sys.executable, "-m", "tests.fleet.rank"]


def soon() -> float:
    """A deadline that only a failing test reaches."""
    return time.monotonic() + PATIENCE_S


def meet(directory: Path, rank: int, hostname: str = "n0", key: str = KEY) -> Meeting:
    return enter(directory, key, hostname=hostname, rank=rank, now_ns=time.time_ns())


def row(rank: int, hostname: str = "n0") -> LiveRank:
    return LiveRank(rank=rank, hostname=hostname, gpus_count=1, score_ppm=rank)


def seconds(first: int, length: int, amount: int = 1) -> bytes:
    """A series of equal rows, as a part has it."""
    column = np.full(length, amount, dtype=np.int64)
    return encode_series([JobSeries(first, {"gpus": column, "time_ms": 1000 * column})])


def part(rank: int, number: int = 1, *, hostname: str = "n0", run_id: str = "", **other: Any) -> Part:
    fields: dict[str, Any] = {"is_final": True, "about": b"{}", "sums": b"s", "series": b""} | other
    return Part(hostname=hostname, rank=rank, run_id=run_id or f"start-of-{rank}", number=number, **fields)


def gpu_seconds(series: Any) -> int:
    """How many rows of how many GPUs were counted."""
    total: int = series.series().total("gpus")
    return total


class Job:
    """Ranks of a job in this process, closed at its end."""

    def __init__(self, directory: Path, world: int) -> None:
        self.directory = directory
        self.world = world
        self._open: list[Member | Collector] = []

    def collector(self, **options: Any) -> Collector:
        meeting = options.pop("meeting", None) or meet(self.directory, 0)
        one = Collector(meeting, self.world, **options)
        self._start(one)
        return one

    def member(self, rank: int, hostname: str = "n0", **options: Any) -> Member:
        meeting = options.pop("meeting", None) or meet(self.directory, rank, hostname)
        run_id = options.pop("run_id", f"start-of-{rank}")
        one = Member(meeting, rank=rank, world=self.world, hostname=hostname, run_id=run_id, **options)
        self._start(one)
        return one

    def _start(self, one: Member | Collector) -> None:
        self._open.append(one)
        one.start()

    def close(self) -> None:
        for one in self._open:
            one.close()


@contextlib.contextmanager
def job(directory: Path, world: int) -> Iterator[Job]:
    one = Job(directory, world)
    try:
        yield one
    finally:
        one.close()


class Process:
    """A rank in a process of its own (tests.fleet.rank)."""

    def __init__(self, directory: Path, rank: int, world: int, hostname: str = "n0", run_id: str = "") -> None:
        settings = {
            "directory": str(directory),
            "key": KEY,
            "rank": rank,
            "world": world,
            "hostname": hostname,
            "run_id": run_id or f"start-of-{rank}",
        }
        self._process = subprocess.Popen(
            [*CHILD, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(),
        )
        self.pid = self._process.pid

    def ask(self, what: str, **arguments: Any) -> Any:
        """Have it do something, and return what it says."""
        self.tell(what, **arguments)
        return self.answer()

    def tell(self, what: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what} | arguments) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the rank ended"
        return json.loads(line)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Kill it if it is there, and close its pipes."""
        if self._process.poll() is None:
            self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@contextlib.contextmanager
def processes() -> Iterator[Any]:
    """Yield a maker of ranks; all of them are gone afterwards."""
    made: list[Process] = []

    def make(*arguments: Any, **options: Any) -> Process:
        made.append(Process(*arguments, **options))
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.end()


def connections_to(directory: Path) -> int:
    """How many connections the collector of a run has accepted and not lost."""
    port = port_of(directory)
    lines = Path("/proc/net/tcp").read_text().splitlines() + Path("/proc/net/tcp6").read_text().splitlines()
    local = [line.split()[1:4] for line in lines]
    return sum(one[0].endswith(f":{port:04X}") and one[2] == "01" for one in local)


def port_of(directory: Path) -> int:
    file = directory / "collector.json"
    wait_for(file.exists, "the collector's address")
    return int(json.loads(file.read_bytes())["port"])


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
