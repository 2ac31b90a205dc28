"""What each rank of a simulated job does in each step: a function of scenario, seed, world, rank and step alone.

Nothing here depends on what happened before or on other ranks, so every process can tell what any rank
does, at a cost that does not grow with their number.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from satscore.counters.sim.kernels import IDLE, Segment, span
from satscore.counters.sim.noise import chance, pick
from satscore.counters.sim.workload import Ranks, Scenario

_ALIKE = Ranks(world=1)
_CHIP, _WORST_CHIP, _WORK, _MOST_WORK = range(4)
"""What a number is drawn for: draws for different things do not follow from each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A scenario with all that chance decides.

    Where a rank is asked for, None stands for the rest: a rank on the worst chip that in every step has as much
    to do as any, of all but the odd one. No such rank need exist; none of them is ever later than it.
    """

    scenario: Scenario
    seed: int
    world: int

    @property
    def odd_rank(self) -> int | None:
        """Which rank is unlike the others."""
        return None if self._ranks.odd is None else self.seed % self.world

    @property
    def last_ranks(self) -> tuple[int | None, ...]:
        """Those of which one is the last at the barrier, whatever the step."""
        odd_rank, odd = self.odd_rank, self._ranks.odd
        rest: tuple[None, ...] = (None,) if self.world > 1 or odd is None else ()
        return rest if odd is None or odd.is_idle else (odd_rank, *rest)

    @property
    def are_all_unlike(self) -> bool:
        """Whether each rank does something else, not only the odd one."""
        ranks = self._ranks
        return ranks.uneven is not None or ranks.jitter_frac > 0.0 or ranks.spread_frac > 0.0

    def scenario_of(self, rank: int | None) -> Scenario:
        """Return what a rank runs, on which chip."""
        odd, spread_frac = self._ranks.odd, self._ranks.spread_frac
        scenario = self.scenario
        if rank is not None and odd is not None and rank == self.odd_rank:
            scenario = scenario.changed_by(odd)
        if spread_frac and rank not in (None, self._other(_WORST_CHIP)):
            saved_frac = spread_frac * chance(self.seed, _CHIP, rank or 0)
            scenario = replace(scenario, entropy=scenario.entropy * (1.0 - saved_frac))
        return scenario

    def work(self, rank: int | None, step: int) -> float:
        """Return the own work of a rank in a step over that of its scenario."""
        uneven, jitter_frac = self._ranks.uneven, self._ranks.jitter_frac
        factor = 1.0
        if uneven is not None:
            turn = (step // uneven.every + self.seed) % self.world
            factor = uneven.work if rank == turn or (rank is None and turn != self.odd_rank) else 1.0
        if jitter_frac and rank not in (None, self._other(_MOST_WORK, step)):
            factor *= 1.0 - jitter_frac * chance(self.seed, _WORK, rank or 0, step)
        return factor

    @property
    def _ranks(self) -> Ranks:
        return self.scenario.ranks or _ALIKE

    def _other(self, *keys: int) -> int:
        """Return one of the ranks but the odd one, by chance."""
        odd_rank = self.odd_rank
        number = pick(self.world - (odd_rank is not None), self.seed, *keys)
        return number if odd_rank is None or number < odd_rank else number + 1


def own(scenario: Scenario, step: int, work: float) -> Iterator[Segment]:
    """Yield what a rank does in a step up to the barrier.

    Args:
        scenario: The rank's own.
        step: From 0 on.
        work: Factor on the scenario's own work.
    """
    yield from scenario.before
    factor = scenario.work * work
    for kernel, amount_s, pace in scenario.segments(step)[0]:
        yield Segment(kernel, amount_s * factor, pace)


def common(scenario: Scenario, step: int) -> Iterator[Segment]:
    """Yield what a rank does from the barrier to the end of a step."""
    yield from scenario.segments(step)[1]
    for pause in scenario.phases.pauses:
        if step % pause.every == pause.every - 1:
            yield from pause.segments
    ramp = scenario.phases.ramp
    if ramp is not None and step < ramp.steps:
        yield span(IDLE, ramp.gap_s * (1.0 - step / ramp.steps))
