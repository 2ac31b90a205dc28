"""Ranks of a simulated job: which segments each runs, and when the step's barrier opens.

A barrier opens when the last rank arrives. There are two kinds of rank, the declared slow one and the
others, all alike: one GPU of each kind tells when that is. So every process can find out, and all find
the same times without a word between them.
"""

import itertools
from collections.abc import Iterator, Sequence

from satscore.counters.sim.gpu import SimGpu, Totals
from satscore.counters.sim.kernels import SPIN, Segment, span
from satscore.counters.sim.limits import Targets
from satscore.counters.sim.scenarios import Scenario


class SimRank:
    """A GPU and its endless list of segments: those of one rank, or of several that are all alike."""

    def __init__(self, gpu: SimGpu, program: Iterator[Segment]) -> None:
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


def slow_rank(seed: int, world: int) -> int:
    """Return which rank is the slow one."""
    return seed % world


def build_ranks(scenario: Scenario, *, seed: int, world: int, ranks: Sequence[int]) -> list[SimRank]:
    """Return the given ranks of a job of ``world`` ranks; the others need not be simulated.

    Ranks that are alike share one simulation, unless each is read at times of its own.

    Args:
        scenario: What each rank runs.
        seed: Chooses the slow rank where the scenario has one.
        world: Ranks of the job.
        ranks: Those that live in this process.
    """
    slow = None if scenario.slow_ceiling_mhz is None else slow_rank(seed, world)
    kinds = [rank if scenario.faults.jitter else rank == slow for rank in ranks]
    is_slow = {kind: rank == slow for kind, rank in zip(kinds, ranks, strict=True)}
    if slow is None:
        made = {kind: _independent(scenario) for kind in is_slow}
    else:
        # tee keeps an opening only until the last simulation of this process has used it.
        openings = itertools.tee(_openings_s(scenario, world), len(is_slow))
        pairs = zip(is_slow.items(), openings, strict=True)
        made = {kind: _synchronous(scenario, opens_s, slow=held) for (kind, held), opens_s in pairs}
    return [made[kind] for kind in kinds]


def _independent(scenario: Scenario) -> SimRank:
    return SimRank(SimGpu(scenario.limits()), itertools.cycle(scenario.own + scenario.common))


def _synchronous(scenario: Scenario, opens_s: Iterator[float], *, slow: bool) -> SimRank:
    gpu = SimGpu(scenario.limits(slow=slow))
    return SimRank(gpu, _steps(scenario, gpu, opens_s))


def _steps(scenario: Scenario, gpu: SimGpu, opens_s: Iterator[float]) -> Iterator[Segment]:
    for open_s in opens_s:
        yield from scenario.own
        yield from _after(scenario, gpu, open_s)


def _after(scenario: Scenario, gpu: SimGpu, open_s: float) -> Iterator[Segment]:
    """Yield what a rank does from its arrival at the barrier to the end of the step."""
    if open_s > gpu.now_s:
        yield span(SPIN, open_s - gpu.now_s)
    yield from scenario.common


def _openings_s(scenario: Scenario, world: int) -> Iterator[float]:
    """Yield, step by step, the time in s at which the last rank reaches the barrier."""
    slow, other = (scenario.limits(slow=is_slow) for is_slow in (True, False))
    # Only heat can hold back a rank whose clock is not held: without it the slow rank is the last.
    both = world > 1 and Targets(other).may_heat
    gpus = [SimGpu(limits) for limits in ((slow, other) if both else (slow,))]
    while True:
        for gpu in gpus:
            for segment in scenario.own:
                gpu.run(segment)
        open_s = max(gpu.now_s for gpu in gpus)
        yield open_s
        for gpu in gpus:
            for segment in _after(scenario, gpu, open_s):
                gpu.run(segment)
