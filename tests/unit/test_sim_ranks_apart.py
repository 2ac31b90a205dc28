"""A simulated job whose ranks are processes of their own: one time for all, however late and fast each is."""

import json
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from satscore.counters import simulated
from satscore.counters.clock import ManualClock, MonotonicClock, ScaledClock
from satscore.counters.select import open_source
from satscore.counters.sim.gpu import SimGpu
from satscore.counters.simulated import MOST_BEHIND_S, Placement, SimulatedRank, open_simulated, sim_origin_ns

NS = 10**9
WALL_NS = 1_700_000_003 * NS + 123
UP_NS = 5_000 * NS
"""CLOCK_MONOTONIC at that wall time."""


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A wall clock and a monotonic one that a test moves: ``passed_ns`` since WALL_NS."""
    moved = SimpleNamespace(passed_ns=0)
    times = SimpleNamespace(time_ns=lambda: WALL_NS + moved.passed_ns, monotonic_ns=lambda: UP_NS + moved.passed_ns)
    monkeypatch.setattr(simulated, "time", times)
    monkeypatch.setattr("satscore.counters.clock.time", times)
    return moved


@pytest.mark.parametrize("speed", [1.0, 20.0, 0.5, 1000.0])
def test_all_processes_have_simulated_the_same_time_at_every_instant(now, speed):
    begun_ns = WALL_NS - 2 * NS
    sources = []
    for late_s in (0.0, 3.0, 0.25):
        now.passed_ns = round(late_s * NS)
        clock = ScaledClock(speed) if speed != 1.0 else MonotonicClock()
        placement = Placement(rank=0, world=4, origin_ns=sim_origin_ns(clock, begun_ns))
        sources.append((clock, placement.origin_ns))
    for passed_s in (3, 4.5, 3600):
        now.passed_ns = round(passed_s * NS)
        times = {clock.now_ns() - (origin_ns or 0) for clock, origin_ns in sources}
        assert times == {round((passed_s + 2) * NS * speed)}


@pytest.mark.parametrize("speed", [1, 20])
def test_windows_of_all_processes_lie_on_one_grid(now, speed):
    begun_ns = WALL_NS - 1 * NS
    grids = set()
    for rank, late_s in enumerate((0, 3)):
        now.passed_ns = late_s * NS
        job = SimulatedRank(rank=rank, world=2, begun_ns=begun_ns)
        source = open_simulated(f"sim:healthy,speed={speed}", job=job)
        assert source.grid_offset_ns is not None
        # Time 0 of the simulation is the job's begin in every process.
        grids.add(source._origin_ns + source.grid_offset_ns)
        assert source.clock.now_ns() - source._origin_ns == (late_s + 1) * NS * speed
    assert grids == {begun_ns}


def test_ranks_that_agreed_on_nothing_begin_at_the_last_full_ten_seconds(now):
    now.passed_ns = 5 * NS
    source = open_simulated("sim:healthy", job=SimulatedRank(rank=0, world=2))
    assert source._origin_ns + (source.grid_offset_ns or 0) == 1_700_000_000 * NS


def test_a_job_of_one_rank_is_simulated_whole_and_begins_now(now):
    source = open_simulated("sim:gh200x4", job=SimulatedRank(rank=0, world=1, begun_ns=WALL_NS - 99 * NS))
    assert len(source.gpus) == 4
    assert source.grid_offset_ns is None
    assert source._origin_ns == UP_NS


def test_a_rank_whose_clock_is_behind_begins_at_once(now):
    source = open_simulated("sim:gh200x4", job=SimulatedRank(rank=2, world=4, begun_ns=WALL_NS + 5 * NS))
    source.read()
    now.passed_ns = NS
    assert [reading.end_ns - reading.start_ns for reading in source.read()] == [NS]
    assert source.grid_offset_ns == WALL_NS - UP_NS


def test_a_source_is_opened_for_a_rank():
    source, notes = open_source("sim:gh200x4,seed=6", job=SimulatedRank(rank=2, world=10_752))
    assert notes == []
    assert source is not None
    assert [gpu.uuid for gpu in source.gpus] == [open_simulated("sim:gh200x4").gpus[2].uuid]
    refused, notes = open_source("sim:gh200x4,world=4", job=SimulatedRank(rank=2, world=8))
    assert refused is None
    assert "does not fit a job of 8 processes" in notes[0]


@pytest.mark.parametrize("late_s", [MOST_BEHIND_S - 1, MOST_BEHIND_S + 1, 100_000_000])
def test_what_a_late_rank_makes_up_for_is_bounded_and_said(now, monkeypatch, late_s):
    steps: list[float] = []
    monkeypatch.setattr(SimGpu, "advance", lambda gpu, until_s: steps.append(until_s))
    begun_ns = WALL_NS - round(late_s * NS)
    source = open_simulated("sim:llm", job=SimulatedRank(rank=0, world=2, begun_ns=begun_ns))
    source.read()
    assert max(steps) == pytest.approx(min(late_s, MOST_BEHIND_S))
    assert source.grid_offset_ns == WALL_NS - UP_NS, "windows lie where they belong in any case"
    told = [note for note in source.notes() if "not those of the other ranks" in note]
    assert bool(told) == (late_s > MOST_BEHIND_S)


CHILD = """
import json, sys, threading, time
from satscore.counters.select import open_source
from satscore.counters.simulated import SimulatedRank
spec, rank, begun_ns = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
source, notes = open_source(spec, job=SimulatedRank(rank=rank, world=4, begun_ns=begun_ns))
source.read()
found = []
for _ in range(12):
    threading.Event().wait(0.1)
    found += [[r.start_ns + source.grid_offset_ns, r.end_ns + source.grid_offset_ns, r.values] for r in source.read()]
print(json.dumps([source.gpus[0].uuid, found]))
"""


@pytest.mark.slow
def test_processes_that_start_apart_see_the_barriers_of_one_that_simulates_all():
    """Bit for bit what the whole world, simulated in one process, shows of their ranks at their reads."""
    spec, begun_ns = "sim:gh200x4,seed=1,speed=20", time.time_ns() - 2 * NS
    running = []
    for rank in (1, 3, 0):
        words = [sys.executable, "-c", CHILD, spec, str(rank), str(begun_ns)]
        running.append((rank, subprocess.Popen(words, stdout=subprocess.PIPE, text=True)))
        threading.Event().wait(3.0 if rank == 1 else 0.0)
    begins_s = []
    for rank, process in running:
        uuid, readings = json.loads(process.communicate(timeout=60)[0])
        clock = ManualClock(readings[0][0] - begun_ns)
        whole = open_simulated("sim:gh200x4,seed=1", clock, placement=None)
        whole._origin_ns = 0
        assert whole.gpus[rank].uuid == uuid
        whole.read()
        for start_ns, end_ns, values in readings:
            clock.wait_until(end_ns - begun_ns, threading.Event())
            expected = whole.read()[rank]
            assert (expected.start_ns, expected.end_ns) == (start_ns - begun_ns, end_ns - begun_ns)
            assert list(expected.values) == pytest.approx(values, rel=0, abs=0, nan_ok=True)
        assert len(readings) == 12
        begins_s.append((readings[0][0] - begun_ns) / NS)
    assert begins_s[1] - begins_s[0] > 50, "3 s of 20-fold time"
