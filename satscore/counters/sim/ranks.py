"""Ranks of a simulated job: which segments each runs, and when the step's barrier opens.

A barrier opens when the declared slowest rank arrives. That rank never waits, so its arrivals
follow from a simulation of it alone: every process can do it, and all find the same times without
a word between them.
"""

import itertools
from collections.abc import Iterator, Sequence

from satscore.counters.sim.gpu import SimGpu, Totals
from satscore.counters.sim.kernels import SPIN, Segment, span
from satscore.counters.sim.scenarios import Scenario


class SimRank:
    """One rank's GPU and its endless list of segments."""

    def __init__(self, gpu: SimGpu, program: Iterator[Segment]) -> None:
        self._gpu = gpu
        self._program = program

    def totals(self, at_s: float) -> Totals:
        """Return the cumulative counters at a time in s, not before the last call's."""
        while self._gpu.advance(at_s):
            self._gpu.begin(next(self._program))
        return self._gpu.totals(at_s)


def slow_rank(seed: int, world: int) -> int:
    """Return which rank is the slow one."""
    return seed % world


def build_ranks(scenario: Scenario, *, seed: int, world: int, ranks: Sequence[int]) -> list[SimRank]:
    """Return the given ranks of a job of ``world`` ranks; the others need not be simulated.

    Args:
        scenario: What each rank runs.
        seed: Chooses the slow rank where the scenario has one.
        world: Ranks of the job.
        ranks: Those that live in this process.
    """
    if scenario.slow_ceiling_mhz is None:
        return [_independent(scenario) for _ in ranks]
    # tee keeps an arrival only until the last rank of this process has used it.
    arrivals = itertools.tee(_arrivals_s(scenario), len(ranks))
    slow = slow_rank(seed, world)
    pairs = zip(ranks, arrivals, strict=True)
    return [_synchronous(scenario, opens_s, slow=rank == slow) for rank, opens_s in pairs]


def _independent(scenario: Scenario) -> SimRank:
    return SimRank(SimGpu(scenario.limits()), itertools.cycle(scenario.own + scenario.common))


def _synchronous(scenario: Scenario, opens_s: Iterator[float], *, slow: bool) -> SimRank:
    gpu = SimGpu(scenario.limits(slow=slow))
    return SimRank(gpu, _steps(scenario, gpu, opens_s))


def _steps(scenario: Scenario, gpu: SimGpu, opens_s: Iterator[float]) -> Iterator[Segment]:
    for open_s in opens_s:
        yield from scenario.own
        if open_s > gpu.now_s:
            yield span(SPIN, open_s - gpu.now_s)
        yield from scenario.common


def _arrivals_s(scenario: Scenario) -> Iterator[float]:
    """Yield, step by step, the time in s at which the slowest rank reaches the barrier."""
    gpu = SimGpu(scenario.limits(slow=True))
    while True:
        for segment in scenario.own:
            gpu.run(segment)
        yield gpu.now_s
        for segment in scenario.common:
            gpu.run(segment)
