"""Levels of one GPU in blocks of time, by phase: what ranks are compared by (docs/method.md, "Job tree").

Blocks lie on an absolute grid, the same for every rank. Their length follows from the time that they span:
4 s at first, an eighth of a short run, 64 s of a long one, and longer where there would be more than
512 of them. Everything is a sum of integers: adding, merging and coarsening commute exactly.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from satscore.core.labels import Label
from satscore.core.readings import IntArray

BLOCK_COLUMNS = (
    "known_us",  # time with known levels; the others are ppm x us over it
    "v1",
    "v2",
    "v2_lo",
    "v3",
    "v4",
    "idle_long",
    "idle_short",
    "comm",
    "wait",
    "comm_or_wait",
    "grid",
)
B = {name: i for i, name in enumerate(BLOCK_COLUMNS)}
FIRST_LENGTH_S, USUAL_LENGTH_S = 4, 64
BLOCKS_PER_SHORT_RUN = 8
MOST_BLOCKS = 512
"""Some 50 kB of integers per GPU, however long the run is."""

Key = tuple[Label, int]
"""Phase, and number of the block: its start over its length, in seconds of wall time."""


def block_length_s(span_s: int) -> int:
    """Return the length in s of the blocks of a run that spans so many seconds: a power of two."""
    length_s = FIRST_LENGTH_S
    while length_s < USUAL_LENGTH_S and span_s >= 2 * length_s * BLOCKS_PER_SHORT_RUN:
        length_s *= 2
    while span_s > length_s * (MOST_BLOCKS - 1):
        length_s *= 2
    return length_s


class RankBlocks:
    """Sums of one GPU per phase and block.

    Attributes:
        length_s: Length of a block in s.
        first_s: First second that was added, on the grid of windows; None: nothing yet.
        last_s: Last one.
    """

    def __init__(self) -> None:
        self.length_s = FIRST_LENGTH_S
        self.first_s: int | None = None
        self.last_s: int | None = None
        self._sums: dict[Key, IntArray] = {}

    @classmethod
    def of(cls, sums: Mapping[Key, IntArray], length_s: int, first_s: int | None, last_s: int | None) -> "RankBlocks":
        """Return blocks from their parts, e.g. decoded ones."""
        out = cls()
        out.length_s, out.first_s, out.last_s, out._sums = length_s, first_s, last_s, dict(sums)
        return out

    def add(self, index: IntArray, label: Label, rows: IntArray) -> None:
        """Add windows of one phase.

        Args:
            index: shape (m,), seconds of wall time, ascending.
            label: Their phase.
            rows: shape (m, len(BLOCK_COLUMNS)).
        """
        if len(index) == 0:
            return
        self._reach(int(index[0]), int(index[-1]))
        block = index // self.length_s
        starts = np.flatnonzero(np.r_[True, block[1:] != block[:-1]])
        for number, row in zip(block[starts].tolist(), np.add.reduceat(rows, starts, axis=0), strict=True):
            self._put((label, number), row)

    def merge(self, other: "RankBlocks") -> "RankBlocks":
        """Return the sums of both; neither is changed."""
        ends = [(b.first_s, b.last_s) for b in (self, other) if b.first_s is not None and b.last_s is not None]
        if not ends:
            return RankBlocks()
        first_s, last_s = min(first for first, _ in ends), max(last for _, last in ends)
        length_s = max(self.length_s, other.length_s, block_length_s(last_s - first_s + 1))
        sums = dict(self.coarsened(length_s))
        for key, row in other.coarsened(length_s).items():
            sums[key] = sums[key] + row if key in sums else row
        return RankBlocks.of(sums, length_s, first_s, last_s)

    def coarsened(self, length_s: int) -> dict[Key, IntArray]:
        """Return the sums in blocks of a length in s that is a multiple of the present one."""
        if length_s == self.length_s:
            return self._sums
        factor, out = length_s // self.length_s, dict[Key, IntArray]()
        for (label, number), row in self._sums.items():
            key = label, number // factor
            out[key] = out[key] + row if key in out else row
        return out

    def items(self) -> Iterator[tuple[Key, IntArray]]:
        """Yield every block with its phase."""
        yield from self._sums.items()

    def total(self, labels: frozenset[Label]) -> IntArray:
        """Return the sums over some phases, shape (len(BLOCK_COLUMNS),)."""
        mine = [row for (label, _), row in self._sums.items() if label in labels]
        return np.sum(mine, axis=0) if mine else np.zeros(len(BLOCK_COLUMNS), dtype=np.int64)

    def same_as(self, other: "RankBlocks") -> bool:
        """Return whether all sums are the same, to the bit."""
        mine = (self.length_s, self.first_s, self.last_s, dict(self.items()))
        theirs = (other.length_s, other.first_s, other.last_s, dict(other.items()))
        same_keys = mine[:3] == theirs[:3] and mine[3].keys() == theirs[3].keys()
        return same_keys and all(np.array_equal(row, theirs[3][key]) for key, row in mine[3].items())

    def _reach(self, first_s: int, last_s: int) -> None:
        """Take in a range of seconds; blocks grow with the span."""
        self.first_s = first_s if self.first_s is None else min(self.first_s, first_s)
        self.last_s = last_s if self.last_s is None else max(self.last_s, last_s)
        self._coarsen(block_length_s(self.last_s - self.first_s + 1))

    def _coarsen(self, length_s: int) -> None:
        if length_s > self.length_s:
            self._sums, self.length_s = self.coarsened(length_s), length_s

    def _put(self, key: Key, row: IntArray) -> None:
        self._sums[key] = self._sums[key] + row if key in self._sums else row
