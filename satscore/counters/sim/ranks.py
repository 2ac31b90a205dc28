"""Ranks of a simulated job: GPUs that run their segments, and when the step's barrier opens.

A barrier opens when the last rank arrives. That is the odd rank or the last of the others: one GPU of
each, simulated everywhere, tells when. So every process can find out, and all find the same times without
a word between them.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from satscore.counters.sim.gpu import SimGpu, Totals
from satscore.counters.sim.job import Job, common, own
from satscore.counters.sim.kernels import IDLE, SPIN, Segment, span
from satscore.counters.sim.workload import Scenario

_LONG_S = 60.0
"""Length of one segment of a GPU without work; nothing depends on it."""


class SimRank:
    """A GPU and its endless list of segments: those of one rank, or of several that are all alike.

    Args:
        scenario: What this rank does.
        gpu: That does it.
        program: What it does.
    """

    def __init__(self, scenario: Scenario, gpu: SimGpu, program: Iterator[Segment]) -> None:
        self.scenario = scenario
        self._gpu = gpu
        self._program = program
        self._last = gpu.totals(0.0)

    def totals(self, at_s: float) -> Totals:
        """Return the cumulative counters at a time in s, not before the last call's."""
        if at_s != self._last.time_s:
            while self._gpu.advance(at_s):
                self._gpu.begin(next(self._program))
            self._last = self._gpu.totals(at_s)
        return self._last


def build_ranks(scenario: Scenario, *, seed: int, world: int, ranks: Sequence[int]) -> list[SimRank]:
    """Return the given ranks of a job of ``world`` ranks; the others need not be simulated.

    Ranks that are alike share one simulation, unless each is read at times of its own.

    Args:
        scenario: What the ranks run.
        seed: Chooses the odd rank and all variation, where the scenario has any.
        world: Ranks of the job.
        ranks: Those that live in this process.
    """
    job = Job(scenario=scenario, seed=seed, world=world)
    apart = job.are_all_unlike or scenario.faults.jitter > 0.0
    kinds = [rank if apart else rank == job.odd_rank for rank in ranks]
    of_kind = dict(zip(kinds, ranks, strict=True))
    scenarios = {kind: job.scenario_of(rank) for kind, rank in of_kind.items()}
    waiting = [kind for kind in of_kind if scenario.ranks is not None and not scenarios[kind].is_idle]
    # tee keeps an opening only until the last simulation of this process has used it.
    openings = dict(zip(waiting, itertools.tee(_openings_s(job), len(waiting)), strict=True))
    made = {kind: _rank(job, rank, scenarios[kind], openings.get(kind)) for kind, rank in of_kind.items()}
    return [made[kind] for kind in kinds]


def _rank(job: Job, rank: int, scenario: Scenario, opens_s: Iterator[float] | None) -> SimRank:
    gpu = SimGpu(scenario.limits())
    if scenario.is_idle:
        return SimRank(scenario, gpu, itertools.repeat(span(IDLE, _LONG_S)))
    part = _Part(job, rank, scenario, gpu)
    return SimRank(scenario, gpu, part.segments(opens_s or itertools.repeat(math.inf)))


class _Part(NamedTuple):
    """A rank of a job, on its GPU; rank None as in Job."""

    job: Job
    rank: int | None
    scenario: Scenario
    gpu: SimGpu

    def segments(self, opens_s: Iterable[float]) -> Iterator[Segment]:
        """Yield all that the rank does; a barrier that opens at infinity is none."""
        yield from self.scenario.phases.prologue
        for step, open_s in enumerate(opens_s):
            yield from self.arrive(step, open_s)
            if open_s < math.inf:
                yield from self.wait(open_s)
            yield from common(self.scenario, step)

    def arrive(self, step: int, open_s: float = math.inf) -> Iterator[Segment]:
        """Yield what the rank does up to the barrier, none of it after the barrier has opened.

        The rest's own GPU always has the most to do, so it never waits and begins its steps with the lowest clock.
        A rank that has as much to do once in a while is no later than that, but for the control ticks, which
        meet its kernels elsewhere. That hair of work (below 1e-3 of a step) it leaves out.
        """
        self.gpu.stop_s = open_s
        for segment in own(self.scenario, step, self.job.work(self.rank, step)):
            if self.gpu.now_s >= open_s:
                break
            yield segment
        self.gpu.stop_s = math.inf

    def wait(self, open_s: float) -> Iterator[Segment]:
        """Yield the wait for the barrier."""
        if open_s > self.gpu.now_s:
            yield span(SPIN, open_s - self.gpu.now_s)

    def run(self, segments: Iterable[Segment]) -> None:
        """Run segments on the GPU."""
        for segment in segments:
            self.gpu.run(segment)


def _openings_s(job: Job) -> Iterator[float]:
    """Yield, step by step, the time in s at which the last rank reaches the barrier."""
    parts = []
    for rank in job.last_ranks:
        scenario = job.scenario_of(rank)
        parts.append(_Part(job, rank, scenario, SimGpu(scenario.limits())))
    for part in parts:
        part.run(part.scenario.phases.prologue)
    for step in itertools.count():
        for part in parts:
            part.run(part.arrive(step))
        open_s = max(part.gpu.now_s for part in parts)
        yield open_s
        for part in parts:
            part.run(part.wait(open_s))
            part.run(common(part.scenario, step))
