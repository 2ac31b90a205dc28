"""Which ranks the others wait for, and which do nothing (docs/method.md, "Stragglers").

In synchronous training all ranks have the same score, so a low score names nobody. The rank that holds the
job up is the one that is *busier* than the others. All of this assumes equal work per rank within a group.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from satscore.core.job_facts import Suspect, SuspectCause
from satscore.core.rank_row import RankName, RankRow
from satscore.core.readings import FloatArray

LEAST_Z = 3.0
FALSE_ALARMS_FRAC = 0.05
"""Of jobs whose ranks differ by normal noise only, so many may name one: of 10,000 ranks some are 3 sd off."""
LEAST_EXCESS_FRAC = 0.03
SD_PER_MAD = 1.4826
"""Standard deviation over median absolute deviation, of normally distributed values."""
LEAST_SPREAD_FRAC = 0.005
"""Added to the spread: ranks that agree to less than this differ by noise only."""
SLOW_EFFICIENCY_RATIO = 0.95
SLOWNESS_SHARE_OF_EXCESS = 0.5
"""... or if that explains at least half of what it is busier by: a GPU may be named that is 4 % slow."""
CLOCK_SHARE_OF_SLOWNESS = 0.5
"""A clock explains a slow GPU if it lacks at least half of what the GPU lacks."""
REASON_EXCESS_FRAC = 0.05
REASON_CAUSES: dict[str, SuspectCause] = {"hw": "hw", "thermal": "thermal", "power": "power", "board": "power"}
"""Reasons of a low clock that say more than that it is low; the first of equally strong ones counts."""
IDLE_WINDOWS_FRAC = 0.95
WORKING_ENGINE_FRAC = 0.3
WAIT_GAP_FRAC = 0.05
MANY_RANKS = 64
ALIKE_KNOWN_FRAC = 0.9
"""A rank that was read for less of the time (it came late, its GPU was lost) is not compared."""
ALIKE_BUSY_FRAC = 0.05
"""Within this of the median a busy share does not tell a rank from the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The GPUs of a job, and those that are unlike the others.

    Attributes:
        rows: All of them.
        suspects: Those for which the others wait, as by ``find_suspects``.
        idle: Those without work, as by ``idle_ranks``.
        least_waiting: The one that does not wait, as by ``least_waiting``.
    """

    rows: Sequence[RankRow]
    suspects: tuple[Suspect, ...]
    idle: tuple[RankName, ...]
    least_waiting: RankName | None

    @property
    def idle_frac(self) -> float:
        """Share of the GPUs that never worked; 0 of none."""
        return len(self.idle) / max(1, len(self.rows))


def compare(rows: Sequence[RankRow]) -> Comparison:
    """Hold the GPUs of a job against each other."""
    suspects = find_suspects(rows)
    return Comparison(rows=rows, suspects=suspects, idle=idle_ranks(rows), least_waiting=least_waiting(rows, suspects))


def find_suspects(rows: Sequence[RankRow]) -> tuple[Suspect, ...]:
    """Return the ranks for which the others of their group wait, the one furthest ahead first.

    A rank is named if its busy share is above the median of its group by 0.03 and by 3 robust standard
    deviations (more among many ranks), at both ends of the range that mixed read intervals leave. It is slow
    if it reaches at most 95 % of the median score per busy second, else it has more work than the others.

    A median needs a majority: of four equally slow ranks among eight none is named, nor is the half of two
    equal halves; the loss then shows as persistent imbalance without a name. Of two ranks the busier is held
    against the other, and must be ahead by 0.06: the difference of two is noisier than that from a median.
    One rank alone is never named, nor are ranks without work.
    """
    found = [suspect for group in _groups(rows) for suspect in _suspects_of(group)]
    return tuple(sorted(found, key=lambda s: (-s.excess_frac, s.name.rank, s.name.gpu_index)))


def idle_ranks(rows: Sequence[RankRow]) -> tuple[RankName, ...]:
    """Return the ranks that had no work while others worked, in order.

    Idle is an engine active for less than 2 % in 95 % of the windows; the others work if their median
    engine is active for 30 % of the time.
    """
    working = [row.engine for row in rows if not _is_idle(row) and row.engine is not None]
    if not working or statistics.median(working) < WORKING_ENGINE_FRAC:
        return ()
    idle = [row.name for row in rows if _is_idle(row)]
    return tuple(sorted(idle, key=lambda name: (name.rank, name.gpu_index)))


def least_waiting(rows: Sequence[RankRow], suspects: Sequence[Suspect]) -> RankName | None:
    """Return the one rank that does not wait where all others of its group do; None: there is no such rank.

    That is the rank whose host stalls: it is as busy as those that wait for it, so its busy share does not
    tell, and none of the suspects is it. Every other one must wait for 5 points more; of several groups the one
    with the widest gap counts.
    """
    named = {suspect.name for suspect in suspects}
    found = [least for group in _groups(rows) if (least := _least_waiting_of(group)) and least[1] not in named]
    return min(found, key=lambda each: (-each[0], each[1].rank, each[1].gpu_index))[1] if found else None


def _is_idle(row: RankRow) -> bool:
    return row.engine_low_frac is not None and row.engine_low_frac >= IDLE_WINDOWS_FRAC


def _groups(rows: Sequence[RankRow]) -> list[list[RankRow]]:
    """Return the groups of at least two ranks with work and known levels.

    Ranks without work would pull the median down until every other one seems overloaded.
    """
    groups = defaultdict(list)
    for row in rows:
        if not _is_idle(row) and row.busy is not None and row.busy_lo is not None:
            groups[row.group].append(row)
    known = [_read_alike(group) for group in groups.values()]
    return [group for group in known if len(group) > 1]


def _read_alike(group: list[RankRow]) -> list[RankRow]:
    """Return the ranks that were read for about as long as the others: a mean over other times says nothing."""
    usual_s = statistics.median(row.known_s for row in group)
    return [row for row in group if row.known_s >= ALIKE_KNOWN_FRAC * usual_s]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Typical:
    """The ranks that a rank is held against, and their medians; None where none is known."""

    ranks: list[RankRow]
    busy: float
    efficiency: float | None
    sm_clock_mhz: float | None
    throttle: dict[str, float | None]

    def without(self, row: RankRow) -> "_Typical":
        """Return what is typical of the others; among many ranks one moves no median."""
        return self if len(self.ranks) > MANY_RANKS else _typical([other for other in self.ranks if other is not row])


def _suspects_of(group: list[RankRow]) -> list[Suspect]:
    busy, busy_lo = _values(r.busy for r in group), _values(r.busy_lo for r in group)
    pair = len(group) == 2
    against = [int(busy.argmin())] if pair else list(range(len(group)))
    least = (2 if pair else 1) * LEAST_EXCESS_FRAC
    (z, excess), (z_lo, excess_lo) = (_distance(values, values[against]) for values in (busy, busy_lo))
    least_z = _least_z(len(group))
    named = (z >= least_z) & (z_lo >= least_z) & (excess >= least) & (excess_lo >= least)
    if not named.any():
        return []
    typical = _typical([group[i] for i in against])
    z, excess = np.minimum(z, z_lo), np.minimum(excess, excess_lo)
    found = (
        _suspect(group[i], float(z[i]), float(excess[i]), typical, len(group)) for i in np.flatnonzero(named).tolist()
    )
    return [suspect for suspect in found if suspect is not None]


def _least_z(ranks_count: int) -> float:
    """Return from how many standard deviations on a rank of so many is no chance (Bonferroni): 3 up to 37 ranks."""
    return max(LEAST_Z, statistics.NormalDist().inv_cdf(1.0 - FALSE_ALARMS_FRAC / ranks_count))


def _values(values: Iterable[float | None]) -> FloatArray:
    """Return values as an array, NaN where unknown."""
    return np.array(list(values), dtype=np.float64)


def _distance(values: FloatArray, against: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return each value's distance from a median: in robust standard deviations, and as it is."""
    excess = values - np.median(against)
    spread = np.median(np.abs(against - np.median(against)))
    return excess / (SD_PER_MAD * spread + LEAST_SPREAD_FRAC), excess


def _typical(ranks: list[RankRow]) -> _Typical:
    busy, efficiency = _median(r.busy for r in ranks), _median(map(_efficiency, ranks))
    return _Typical(
        ranks=ranks,
        busy=busy or 0.0,
        efficiency=efficiency,
        sm_clock_mhz=_median(r.sm_clock_mhz for r in ranks),
        throttle={reason: _median(r.throttle.get(reason) for r in ranks) for reason in REASON_CAUSES},
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _efficiency(row: RankRow) -> float | None:
    """Return e = V4 / V2: what a rank reaches per busy second; None if it was never busy."""
    return row.saturation / row.busy if row.busy and row.saturation is not None else None


def _suspect(row: RankRow, z: float, excess_frac: float, typical: _Typical, ranks_count: int) -> Suspect | None:
    """Return the facts about a rank that is busier than the others; None if slow and overloaded look the same."""
    efficiency = _efficiency(row)
    if efficiency is None or not typical.efficiency:
        return None
    ratio = efficiency / typical.efficiency
    explained = SLOWNESS_SHARE_OF_EXCESS * (1.0 - typical.busy / (row.busy or 1.0))
    slow = ratio <= max(SLOW_EFFICIENCY_RATIO, 1.0 - explained)
    others = typical.without(row)
    return Suspect(
        name=row.name,
        # More per busy second than the others, and busy for longer, is more work still.
        kind="slow" if slow else "overloaded",
        cause=_cause(row, others, ratio) if slow else "unknown",
        z=z,
        excess_frac=excess_frac,
        efficiency_ratio=ratio,
        sm_clock_mhz=row.sm_clock_mhz,
        median_clock_mhz=others.sm_clock_mhz,
        temp_max_c=row.temp_max_c,
        speed_up=_speed_up(row, typical, ratio if slow else 0.0, ranks_count),
    )


def _cause(row: RankRow, others: _Typical, ratio: float) -> SuspectCause:
    """Return why a GPU is slow: what holds its clock down for longer than those of the others.

    Ranks that wait run at a higher clock than ranks that work, so the median clock is above that of a
    healthy rank at work: a clock is only low if it explains the slowness.
    """
    if row.sm_clock_mhz is None or not others.sm_clock_mhz:
        return "unknown"
    if 1.0 - row.sm_clock_mhz / others.sm_clock_mhz < CLOCK_SHARE_OF_SLOWNESS * (1.0 - ratio):
        return "same_clock"
    excess = {reason: (row.throttle.get(reason) or 0.0) - (others.throttle[reason] or 0.0) for reason in REASON_CAUSES}
    strongest = max(excess, key=lambda reason: excess[reason])
    return REASON_CAUSES[strongest] if excess[strongest] >= REASON_EXCESS_FRAC else "clock"


def _speed_up(row: RankRow, typical: _Typical, least_ratio: float, ranks_count: int) -> float:
    """Return how much faster the job would run if a rank, and all others that are named, were like the rest.

    Its working time shrinks to that of a typical rank, or by its lack of efficiency if that is less; of n
    ranks that share all of its work each would still have 1/n. Its idle time, communication and waits stay.

    Args:
        row: The rank.
        typical: The others.
        least_ratio: Working time shrinks to no less than this share.
        ranks_count: Ranks of the group.
    """
    busy = row.busy or 1.0
    shrinks_to = max(typical.busy / busy, least_ratio, 1.0 / ranks_count)
    others = (row.idle_frac, row.comm_frac, row.wait_frac)
    known = [share for share in others if share is not None]
    working = max(busy, 1.0 - sum(known)) if len(known) == len(others) else busy
    return 1.0 / (1.0 - working * (1.0 - shrinks_to))


def _least_waiting_of(group: list[RankRow]) -> tuple[float, RankName] | None:
    """Return the rank of a group that waits less than any other, and the gap to the next."""
    waits = sorted((row.wait_frac, i) for i, row in enumerate(group) if row.wait_frac is not None)
    if len(waits) < 2 or waits[1][0] - waits[0][0] < WAIT_GAP_FRAC:
        return None
    row = group[waits[0][1]]
    typical = _median(r.busy for r in group) or 0.0
    if abs((row.busy or 0.0) - typical) > ALIKE_BUSY_FRAC:
        return None
    return waits[1][0] - waits[0][0], row.name
