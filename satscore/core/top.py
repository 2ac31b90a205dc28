"""The k smallest of any number of values: worst lists of jobs with more GPUs than a page has lines."""

import bisect
import math
from typing import NamedTuple

from satscore.core.rank_row import RankName


class Entry(NamedTuple):
    """A value of a GPU. Entries compare by value, then rank, then GPU: no two GPUs tie."""

    value: float
    rank: int
    gpu_index: int
    name: RankName


class TopK:
    """The k smallest values of all that were added; for the largest add them negated.

    Of a union it keeps the same, in whatever order and grouping it was merged. An entry that comes twice
    counts once, so merging the same part again changes nothing.

    Args:
        k: How many are kept, at least 1.
    """

    def __init__(self, k: int) -> None:
        if k < 1:
            raise ValueError(f"cannot keep the {k} smallest")
        self.k = k
        self._entries: list[Entry] = []

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The smallest so far, smallest first."""
        return tuple(self._entries)

    def add(self, value: float, name: RankName) -> None:
        """Add a value; unknown ones stay out, since they are neither small nor large.

        Raises:
            ValueError: The value is NaN.
        """
        if math.isnan(value):
            raise ValueError(
                f"the value of rank {name.rank}, GPU {name.gpu_index} is unknown: it has no place in order"
            )
        self._put(Entry(value, name.rank, name.gpu_index, name))

    def merge(self, other: "TopK") -> "TopK":
        """Return the k smallest of both; neither is changed.

        Raises:
            ValueError: They keep different numbers of values.
        """
        if other.k != self.k:
            raise ValueError(f"the {self.k} smallest and the {other.k} smallest have no union to tell the smallest of")
        out = TopK(self.k)
        for entry in (*self.entries, *other.entries):
            out._put(entry)
        return out

    def _put(self, entry: Entry) -> None:
        at = bisect.bisect_left(self._entries, entry[:3], key=lambda e: e[:3])
        if at == len(self._entries) or self._entries[at][:3] != entry[:3]:
            self._entries.insert(at, entry)
            del self._entries[self.k :]
