"""The loss tree of a job: what all ranks lose together, and what they lose by waiting for each other.

``100 = S + idle + coverage + transient + persistent + issue + clock`` (docs/method.md, "Job tree"). Ranks
are added one by one, so only one rank's blocks are in memory at a time. Everything is integers until
the last division: the order of ranks changes nothing, to the bit.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise

import msgspec
import numpy as np

from satscore.core.labels import ALL_LABELS, Label
from satscore.core.losses import CLOCK_PARTS, COVERAGE_PARTS, IDLE_PARTS, ISSUE_PARTS
from satscore.core.rank_blocks import BLOCK_COLUMNS, FIRST_LENGTH_S, B, RankBlocks
from satscore.core.rank_row import RankName
from satscore.core.readings import BoolArray, FloatArray, IntArray
from satscore.core.sums import Sums
from satscore.core.units import PPM, US_PER_S, points

JOB_PARTS = (*IDLE_PARTS, *COVERAGE_PARTS, "transient", "persistent", "issue", "clock")
FACTORS = ("availability", "communication", "transient_balance", "load_balance", "issue", "clock")
WAIT_DISCOUNT = 0.5
"""How far waiting devalues a busy share when the pacing rank is chosen.

A rank whose loader stalls is exactly as busy as those that wait for it, so noise alone would decide between
them; what tells it apart is that it does not wait. At a busy share of 0.6, half lets a wait of 0.3 outweigh
a difference of 0.1. A rank without work does not wait either: as a factor this never prefers it.
"""


class JobTree(msgspec.Struct, frozen=True, kw_only=True):
    """Levels and losses of a job, over the time in which a GPU's levels are known.

    The *pacing rank* of a block is the busiest one that does not wait; what it loses, all lose.
    """

    levels: tuple[float, ...]
    """J0 to J6, fractions, not increasing: 1; engine active and SM active of the busiest rank of each block;
    SM active of the rank that is busiest on the whole; SM active, active share and score of all."""
    parts: dict[str, float]
    """JOB_PARTS in points: with the score they add up to 100. Those of idle and coverage are the pacing rank's."""
    score_points: float
    product: dict[str, float | None]
    """The same as FACTORS, each independent of the outer ones; their product is score_points / 100.
    None behind a level of 0: of nothing there are no shares."""
    block_s: float
    """Length of the blocks: imbalance that alternates faster looks like waiting that is common to all."""
    time_s: float
    """Time with known levels, mean over ranks."""
    ranks_count: int
    """GPUs with known levels."""
    pacing: RankName
    """The GPU that was the pacing rank for the longest time."""
    pacing_frac: float
    """For which share of the time."""


def common_length_s(blocks: Iterable[RankBlocks]) -> int:
    """Return the length in s of the blocks that several ranks can be laid on: the longest of theirs."""
    return max((b.length_s for b in blocks), default=FIRST_LENGTH_S)


class JobTreeBuilder:
    """Makes the tree from the blocks of one rank after the other, in any order.

    Args:
        length_s: Length of the blocks in s, as ``common_length_s`` says it.
        labels: The phases that are judged; blocks of the same time are added up over them.
        least_known_us: Known time from which on a GPU may lead a block at all: of one that was hardly read
            the largest share is chance.
    """

    def __init__(self, length_s: int, labels: frozenset[Label], *, least_known_us: int = 0) -> None:
        self._length_s = length_s
        self._labels = labels
        self._numbers: IntArray = np.empty(0, dtype=np.int64)
        self._known_us: IntArray = np.empty(0, dtype=np.int64)
        self._least_known_us = least_known_us
        self._busiest = _Leaders(4)
        self._pacing = _Leaders(5)
        self._totals: dict[RankName, list[int]] = {}

    def add(self, name: RankName, blocks: RankBlocks) -> None:
        """Add a GPU; each only once.

        Raises:
            ValueError: The blocks do not fit into those of this tree.
        """
        if self._length_s % blocks.length_s:
            raise ValueError(f"blocks of {blocks.length_s} s cannot be laid on blocks of {self._length_s} s")
        numbers, rows = self._judged(blocks)
        if len(numbers) == 0:
            return
        at = self._places(numbers)
        self._known_us[at] += rows[:, B["known_us"]]
        share = rows / (rows[:, :1] * PPM)
        busy, waits = share[:, B["v2"]], share[:, B["wait"]] + share[:, B["comm_or_wait"]]
        order = np.broadcast_to(np.array([-name.rank, -name.gpu_index], dtype=np.float64), (len(at), 2))
        fit = self._fit(blocks, rows[:, B["known_us"]])
        self._busiest.offer(at, np.column_stack([fit, busy, order]), rows)
        pace = busy * (1.0 - WAIT_DISCOUNT * waits)
        self._pacing.offer(at, np.column_stack([fit, pace, share[:, B["v1"]], order]), rows)
        self._totals[name] = rows.sum(axis=0).tolist()

    def _fit(self, blocks: RankBlocks, known_us: IntArray) -> FloatArray:
        """Return in which blocks a GPU was known for long enough to lead before others, 1 or 0: shape (m,).

        That is half as long as it usually was: where the run begins or ends, all are known for less.
        """
        enough = int(blocks.total(ALL_LABELS)[B["known_us"]]) >= self._least_known_us
        fit: FloatArray = ((2 * known_us >= np.median(known_us)) & enough).astype(np.float64)
        return fit

    def tree(self) -> JobTree | None:
        """Return the tree of the ranks so far; None where no level of any is known.

        The tree of a single GPU is its rank tree: nothing is lost to imbalance.
        """
        if not self._totals:
            return None
        inner = dict.fromkeys((*IDLE_PARTS, *COVERAGE_PARTS), 0)
        for known_us, busiest, pacing in zip(
            self._known_us.tolist(), self._busiest.rows.tolist(), self._pacing.rows.tolist(), strict=True
        ):
            for part, amount in _outer_parts(known_us, busiest, pacing).items():
                inner[part] += amount
        levels = self._levels(inner)
        pacing_us = self._pacing_us()
        pacing = min(pacing_us, key=lambda name: (-pacing_us[name], name.rank, name.gpu_index))
        known_us = self._known_us.sum().item()
        return JobTree(
            levels=tuple(level / levels[0] for level in levels),
            parts={part: points(amount / levels[0]) for part, amount in _parts(levels, inner).items()},
            score_points=points(levels[6] / levels[0]),
            product=dict(zip(FACTORS, map(_ratio, levels[1:], levels), strict=True)),
            block_s=float(self._length_s),
            time_s=known_us / len(self._totals) / US_PER_S,
            ranks_count=len(self._totals),
            pacing=pacing,
            pacing_frac=pacing_us[pacing] / known_us,
        )

    def _judged(self, blocks: RankBlocks) -> tuple[IntArray, IntArray]:
        """Return numbers and sums of the blocks with known levels, in order, added up over the phases."""
        laid = blocks.coarsened(self._length_s).items()
        mine = [(number, row) for (label, number), row in laid if label in self._labels and row[B["known_us"]] > 0]
        if not mine:
            return np.empty(0, dtype=np.int64), np.empty((0, len(BLOCK_COLUMNS)), dtype=np.int64)
        numbers, places = np.unique([number for number, _ in mine], return_inverse=True)
        rows = np.zeros((len(numbers), len(BLOCK_COLUMNS)), dtype=np.int64)
        np.add.at(rows, places, np.stack([row for _, row in mine]))
        return numbers, rows

    def _places(self, numbers: IntArray) -> IntArray:
        """Return where blocks are in the state, made longer by those that are new."""
        union = np.union1d(self._numbers, numbers)
        if len(union) > len(self._numbers):
            old = np.searchsorted(union, self._numbers)
            known_us = np.zeros(len(union), dtype=np.int64)
            known_us[old] = self._known_us
            self._numbers, self._known_us = union, known_us
            self._busiest.spread(old, len(union))
            self._pacing.spread(old, len(union))
        return np.searchsorted(union, numbers)

    def _levels(self, inner: dict[str, int]) -> list[int]:
        """Return J0 to J6 in ppm us of all GPUs, made nested from the bottom.

        J3 is a maximum over ranks, each over its own time: one that was known for a few blocks only may
        exceed J2. So ranks count that were known for at least half as long as they are on average.
        """
        known_us = self._known_us.sum().item()
        whole = PPM * known_us
        v2, v3, v4 = (sum(row[B[level]] for row in self._totals.values()) for level in ("v2", "v3", "v4"))
        enough = [row for row in self._totals.values() if 2 * len(self._totals) * row[B["known_us"]] >= known_us]
        steadily = max(row[B["v2"]] * known_us // row[B["known_us"]] for row in enough)
        v1_busiest = whole - sum(inner[part] for part in IDLE_PARTS)
        # Shares that are equal as floats may differ by a few ppm us, which the busiest rank then lacks.
        v2_busiest = max(v2, v1_busiest - sum(inner[part] for part in COVERAGE_PARTS))
        return [whole, max(v1_busiest, v2_busiest), v2_busiest, min(v2_busiest, max(v2, steadily)), v2, v3, v4]

    def _pacing_us(self) -> Counter[RankName]:
        """Return for how much known time, over all GPUs, each was the pacing rank."""
        names = {(name.rank, name.gpu_index): name for name in self._totals}
        out = Counter[RankName]()
        for (*_, rank, gpu_index), known_us in zip(self._pacing.keys.tolist(), self._known_us.tolist(), strict=True):
            out[names[-int(rank), -int(gpu_index)]] += known_us
        return out


def job_leaves(tree: JobTree, sums: Sums, idle_frac: float) -> dict[str, float]:
    """Return the leaves of a job's tree in points: with the score they add up to 100.

    Issue and clock are split as their leaves are on average over ranks.

    Args:
        tree: Of the job.
        sums: Of the same GPUs and phases; their windows are the same but for those with an unknown level.
        idle_frac: Share of the GPUs that never worked: what they lose is no imbalance.
    """
    leaves = {part: lost for part, lost in tree.parts.items() if part not in ("issue", "clock")}
    for part, names in (("issue", ISSUE_PARTS), ("clock", CLOCK_PARTS)):
        leaves |= _shared(tree.parts[part], {name: sums.total(f"loss:{name}") for name in names})
    return idle_apart(leaves, tree.product["load_balance"], idle_frac)


def idle_apart(loss_points: Mapping[str, float], load_balance: float | None, idle_frac: float) -> dict[str, float]:
    """Return the parts of a job's loss tree with what idle GPUs lose taken out of `persistent`.

    A GPU that never works waits for the busiest rank all the time: of persistent = J3 - J4 it holds J3 times
    its share of the GPUs, and J3 = persistent / (1 - load balance) (docs/method.md, "Job tree").

    Args:
        loss_points: Parts of the job tree, points.
        load_balance: J4 / J3; None: not known.
        idle_frac: Share of the job's GPUs that never worked.

    Returns:
        The same parts with the same sum, and `idle_ranks` besides.
    """
    persistent = loss_points.get("persistent", 0.0)
    busiest = persistent / (1.0 - load_balance) if load_balance is not None and load_balance < 1.0 else 0.0
    idle = min(persistent, idle_frac * busiest)
    return {**loss_points, "persistent": persistent - idle, "idle_ranks": idle}


class _Leaders:
    """The sums of the GPU that leads each block: the one with the largest key, columns compared in order."""

    def __init__(self, columns: int) -> None:
        self.keys: FloatArray = np.empty((0, columns))
        self.rows: IntArray = np.empty((0, len(BLOCK_COLUMNS)), dtype=np.int64)

    def spread(self, at: IntArray, count: int) -> None:
        """Move the blocks to other places among more of them; nobody leads the new ones."""
        keys = np.full((count, self.keys.shape[1]), -np.inf)
        rows = np.zeros((count, len(BLOCK_COLUMNS)), dtype=np.int64)
        keys[at], rows[at] = self.keys, self.rows
        self.keys, self.rows = keys, rows

    def offer(self, at: IntArray, keys: FloatArray, rows: IntArray) -> None:
        """Let a GPU lead where its keys are larger."""
        ahead = _exceeds(keys, self.keys[at])
        self.keys[at[ahead]], self.rows[at[ahead]] = keys[ahead], rows[ahead]


def _exceeds(keys: FloatArray, others: FloatArray) -> BoolArray:
    """Return in which rows the first column that differs is the larger one, shape (m,)."""
    out, tied = np.zeros(len(keys), dtype=np.bool_), np.ones(len(keys), dtype=np.bool_)
    for mine, other in zip(keys.T, others.T, strict=True):
        out |= tied & (mine > other)
        tied &= mine == other
    return out


def _outer_parts(known_us: int, busiest: list[int], pacing: list[int]) -> dict[str, int]:
    """Return idle and coverage of one block in ppm us of all GPUs: those of the pacing rank.

    Args:
        known_us: Known time of all GPUs in the block.
        busiest: Sums of the busiest GPU.
        pacing: Sums of the pacing one; it may be a little less busy.
    """
    v2 = busiest[B["v2"]] * known_us // busiest[B["known_us"]]
    v1 = max(v2, pacing[B["v1"]] * known_us // pacing[B["known_us"]])
    idle = _split(PPM * known_us - v1, {part: pacing[B[part]] for part in IDLE_PARTS})
    return idle | _split(v1 - v2, {part: pacing[B[part]] for part in COVERAGE_PARTS})


def _split(amount: int, weights: dict[str, int]) -> dict[str, int]:
    """Split an amount in proportion, exactly: the last part takes what is left."""
    whole = sum(weights.values())
    out = {part: amount * weight // whole if whole else 0 for part, weight in weights.items()}
    out[[*weights][-1]] += amount - sum(out.values())
    return out


def _shared(lost_points: float, weights: dict[str, int]) -> dict[str, float]:
    """Split points in proportion; without weights the last part takes them, as in ``_split``."""
    whole = sum(weights.values())
    if not whole:
        return {**dict.fromkeys(weights, 0.0), [*weights][-1]: lost_points}
    return {part: lost_points * weight / whole for part, weight in weights.items()}


def _parts(levels: list[int], inner: dict[str, int]) -> dict[str, int]:
    """Return JOB_PARTS in the unit of the levels; together with the last level they are the first, exactly."""
    lost = [outer - level for outer, level in pairwise(levels)]
    idle = _split(lost[0], {part: inner[part] for part in IDLE_PARTS})
    coverage = _split(lost[1], {part: inner[part] for part in COVERAGE_PARTS})
    return idle | coverage | dict(zip(("transient", "persistent", "issue", "clock"), lost[2:], strict=True))


def _ratio(level: int, outer: int) -> float | None:
    return level / outer if outer else None
