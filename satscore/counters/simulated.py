"""The simulated source: readings of GPUs that do not exist, with a truth that is known.

For trying, teaching and testing satscore without a GPU. Everything that it feeds is marked
SIMULATED. Given the times of the reads, the readings are always the same.
"""

import time
from dataclasses import dataclass

from satscore.core.fields import Reading
from satscore.core.gpu import GpuInfo
from satscore.core.units import NS_PER_S
from satscore.counters.clock import Clock, MonotonicClock, ScaledClock
from satscore.counters.sim.cooling import HARD_SLOW_C
from satscore.counters.sim.faults import FaultyReads
from satscore.counters.sim.power import CLOCK_MAX_MHZ
from satscore.counters.sim.ranks import SimRank, build_ranks
from satscore.counters.sim.readings import ReadingMaker, Truth, kernel_seconds, truth
from satscore.counters.sim.scenarios import SCENARIOS
from satscore.counters.sim.spec import SimSpec, parse_spec
from satscore.counters.sim.workload import Scenario
from satscore.counters.source import SourceKind
from satscore.errors import CounterError

__all__ = [
    "SCENARIOS",
    "Placement",
    "SimulatedRank",
    "SimulatedSource",
    "Truth",
    "open_simulated",
    "sim_origin_ns",
]

_SM_COUNT = 132
_UNAGREED_NS = 10 * NS_PER_S
"""Ranks that have not agreed on a begin take the last full 10 s of wall time: most of them the same."""
MOST_BEHIND_S = 3600.0
"""Simulated time that a rank which starts late makes up for, s: 1.1 to 3.7 s of one x86_64 core, by scenario (2.2 s for
gh200x4). A rank that is later begins as if it were so late, and its barriers are not those of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which part of a simulated job lives in this process, where it is not the whole job.

    ``origin_ns`` is the job's time 0 on the clock's axis, the same in every process; None: now.
    """

    rank: int
    world: int
    origin_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRank:
    """Which rank of a job a process simulates.

    ``begun_ns`` is the wall time at which the job began, as its ranks agreed, in ns; None: they did not.
    """

    rank: int
    world: int
    begun_ns: int | None = None


def sim_origin_ns(clock: Clock, wall_ns: int) -> int:
    """Return an instant of wall time on the axis of a clock: time 0 of the simulation, in ns.

    All processes that start from one wall time have simulated the same time at every instant, however late they
    began and however fast their clocks run, for a scaled clock is taken back to that instant at its own speed.

    Args:
        clock: Axis of the readings' times.
        wall_ns: The instant.
    """
    return clock.from_monotonic_ns(wall_ns - time.time_ns() + time.monotonic_ns())


class _Device:
    """One simulated GPU as a driver shows it: exact totals, read at times, with the scenario's faults.

    Args:
        index: Of the GPU in the source.
        rank: Whose GPU, of the whole job.
        physics: What it does.
        seed: Of the simulation.
    """

    def __init__(self, index: int, rank: int, physics: SimRank, seed: int) -> None:
        self.scenario = physics.scenario
        self.info = _gpu_info(index, rank, self.scenario)
        self.totals = physics.totals(0.0)
        self._physics = physics
        self._maker = ReadingMaker(index, self.scenario)
        faults = self.scenario.faults
        self._faults = FaultyReads(faults, seed, rank) if any(faults) else None
        self._last_ns: int | None = None

    def read(self, origin_ns: int, now_ns: int) -> Reading | None:
        """Return the reading from the last read to now; None for the first, or if no time has passed."""
        if self._faults is not None:
            delay_s = self._faults.delay_s((now_ns - origin_ns) / NS_PER_S)
            now_ns = max(origin_ns, now_ns - round(delay_s * NS_PER_S))
        start_ns, before = self._last_ns, self.totals
        if start_ns is not None and now_ns <= start_ns:
            return None
        self._last_ns, self.totals = now_ns, self._physics.totals((now_ns - origin_ns) / NS_PER_S)
        if start_ns is None:
            return None
        reading = self._maker.reading(start_ns, now_ns, before, self.totals)
        if self._faults is None:
            return reading
        return self._faults.spoil(reading, before.time_s, self.totals.time_s)


class SimulatedSource:
    """Simulated GPUs behind the contract of a counter source.

    Args:
        spec: What to simulate.
        clock: Axis of the readings' times.
        placement: This process's rank; None: the whole scenario runs in this process.
        begun_ns: Wall time of the placement's origin in ns, if the windows shall be laid by it; else by the clock.
    """

    def __init__(
        self, spec: SimSpec, clock: Clock, placement: Placement | None = None, *, begun_ns: int | None = None
    ) -> None:
        scenario = spec.scenario
        self.name = "sim"
        self.kind: SourceKind = "simulated"
        self.has_pipe_counters = True
        self.clock = clock
        self.grid_offset_ns: int | None = None
        self._scenario = scenario
        world, ranks = _place(spec, placement)
        physics = build_ranks(scenario, seed=spec.seed, world=world, ranks=ranks)
        self._devices = [
            _Device(i, rank, own, spec.seed) for i, (rank, own) in enumerate(zip(ranks, physics, strict=True))
        ]
        self.gpus = tuple(device.info for device in self._devices)
        now_ns, origin_ns = clock.now_ns(), None if placement is None else placement.origin_ns
        self._origin_ns = now_ns if origin_ns is None else origin_ns
        if begun_ns is not None:
            # Simulated instants have the same wall time in every process, at any speed.
            self.grid_offset_ns = begun_ns - self._origin_ns
        self._behind_s = (now_ns - self._origin_ns) / NS_PER_S
        if self._behind_s > MOST_BEHIND_S:
            self._origin_ns = now_ns - round(MOST_BEHIND_S * NS_PER_S)

    def read(self) -> list[Reading]:
        """Return one reading per GPU since the last call; empty for the first (the base line)."""
        now_ns = max(self.clock.now_ns(), self._origin_ns)
        readings = [device.read(self._origin_ns, now_ns) for device in self._devices]
        return [reading for reading in readings if reading is not None]

    def processes(self) -> None:
        """Return None: nobody computes on a GPU that does not exist."""

    def helper_cost(self) -> tuple[float, int]:
        """Return nothing: no process reads beside this one."""
        return 0.0, 0

    def notes(self) -> list[str]:
        """Return what is simulated, so that nobody takes it for a measurement."""
        scenario = self._scenario
        what = f"{len(self.gpus)} x {scenario.board.name}, scenario {scenario.name!r}: {scenario.summary}"
        faults = f" Read faults: {scenario.faults.as_text()}." if any(scenario.faults) else ""
        notes = [f"SIMULATED: no GPU is read. {what}. The power and clock model is illustrative.{faults}"]
        if self._behind_s > MOST_BEHIND_S:
            notes.append(
                f"this rank began {self._behind_s:.0f} simulated s after its job, more than the {MOST_BEHIND_S:.0f} s "
                "that are made up for: its barriers are not those of the other ranks"
            )
        return notes

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def truth(self, gpu: int = 0) -> Truth:
        """Return what really happened on a GPU from time 0 to the last read (for tests).

        Args:
            gpu: Index of the GPU in this source.
        """
        device = self._devices[gpu]
        return truth(device.scenario, device.totals)

    def kernel_seconds(self, gpu: int = 0) -> dict[str, float]:
        """Return for how many seconds a GPU ran each kernel from time 0 to the last read (for tests).

        Keys are names of sim/kernels.py: ``spin`` is waiting at the barrier, ``comm`` and ``host-comm`` are
        communication, ``idle``, ``save`` and ``load`` leave the SMs empty, the others compute.

        Args:
            gpu: Index of the GPU in this source.
        """
        return kernel_seconds(self._devices[gpu].totals)


def _place(spec: SimSpec, placement: Placement | None) -> tuple[int, list[int]]:
    """Return the number of the job's ranks and those that this process simulates.

    Replicas count on from process to process, so that UUIDs differ.

    Raises:
        CounterError: The selection states another number of ranks than there are processes.
    """
    ranks = spec.scenario.ranks
    if ranks is None:
        gpus = spec.gpus or 1
        first, processes = (0, 1) if placement is None else (placement.rank * gpus, placement.world)
        return processes * gpus, list(range(first, first + gpus))
    if placement is None:
        world = spec.world or ranks.world
        return world, list(range(world))
    if spec.world not in (None, placement.world):
        raise CounterError(
            f"option world={spec.world} of the simulator does not fit a job of {placement.world} processes",
            hint="leave world out: each process simulates its own rank",
        )
    return placement.world, [placement.rank]


def _gpu_info(index: int, rank: int, scenario: Scenario) -> GpuInfo:
    board = scenario.board
    return GpuInfo(
        index=index,
        uuid=f"{board.uuid_stem}-{rank}",
        name=board.name,
        sm_count=_SM_COUNT,
        memory_bus_bits=board.memory_bus_bits,
        memory_total_bytes=board.memory_total_bytes,
        sm_clock_max_mhz=CLOCK_MAX_MHZ,
        mem_clock_max_mhz=board.mem_clock_mhz,
        compute_capability=(9, 0),
        power_limit_gpu_w=scenario.power_limit_gpu_w,
        power_limit_module_w=board.power_limit_module_w,
        vboost_level=scenario.vboost_level,
        has_os_memory=board.c2c_peak_bytes_s is not None,
        temp_slowdown_c=HARD_SLOW_C,
        pcie_generation_max=board.pcie_generation,
        pcie_lanes_max_count=board.pcie_lanes_count,
        nvlink_count=board.nvlink_count,
        remapped_rows_count=0,
        remap_pending=False,
        remap_failed=False,
        mig_enabled=False,
        model_hint=board.model_hint,
    )


def open_simulated(
    spec: str, clock: Clock | None = None, *, placement: Placement | None = None, job: SimulatedRank | None = None
) -> SimulatedSource:
    """Open the simulator; time 0 of the simulation is now, unless placement or job say otherwise.

    Args:
        spec: ``sim``, ``sim:SCENARIO`` or ``sim:SCENARIO,seed=N,speed=X,world=N`` (sim/spec.py has all options).
        clock: Axis of the readings' times; None: CLOCK_MONOTONIC, ``speed`` times as fast.
        placement: This process's rank, if the job's ranks are simulated in several processes.
        job: The same, by wall time; a job of one rank is none.

    Raises:
        CounterError: The spec names an unknown scenario, option or value, or one that does not fit the placement.
    """
    parsed = parse_spec(spec)
    if clock is None:
        clock = MonotonicClock() if parsed.speed == 1.0 else ScaledClock(parsed.speed)
    if job is None or job.world <= 1:
        return SimulatedSource(parsed, clock, placement)
    now_ns = time.time_ns()
    # A job that begins in our future began on a node whose clock is ahead of ours: nothing would be read until then.
    begun_ns = now_ns // _UNAGREED_NS * _UNAGREED_NS if job.begun_ns is None else min(job.begun_ns, now_ns)
    origin_ns = sim_origin_ns(clock, begun_ns)
    placement = Placement(rank=job.rank, world=job.world, origin_ns=origin_ns)
    return SimulatedSource(parsed, clock, placement, begun_ns=begun_ns)
