"""The hosts of a run: what they did over time, and what of them does not change."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from satscore.core.host import NOTHING_READ, HostFacts, HostInfo
from satscore.core.host_series import BIN_S, HostBins, host_facts, merge_bins
from satscore.core.readings import BoolArray
from satscore.core.summary_host import HostItem, host_item


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """What was read of the hosts of a run, over all ranks that read one.

    Attributes:
        bins: Of all of them together.
        infos: Of each; empty: nobody read a host.
    """

    bins: HostBins = field(default_factory=lambda: merge_bins(()))
    infos: tuple[HostInfo, ...] = ()

    def facts(self, first_s: int, chosen: BoolArray) -> HostFacts:
        """Return what the hosts did in some windows, or in the whole run where no row of theirs can tell.

        Args:
            first_s: Begin of the first window in s of wall time.
            chosen: shape (window,), windows of 1 s.
        """
        if not self.infos:
            return NOTHING_READ
        ranges_s = _ranges_s(first_s, chosen)
        if sum(end_s - begin_s for begin_s, end_s in ranges_s) >= 2 * BIN_S:
            found = host_facts(self.bins, self.infos, ranges_s)
            if found.mean:  # short windows between dips may hold the middle of no row
                return found
        return host_facts(self.bins, self.infos)

    def item(self) -> HostItem | None:
        """Return the block of the summary, over the whole run; None where nobody read a host."""
        return host_item(self.infos, host_facts(self.bins, self.infos)) if self.infos else None


NOT_READ = Hosts()


def _ranges_s(first_s: int, chosen: BoolArray) -> Sequence[tuple[float, float]]:
    """Return begin and end of each stretch of chosen windows, s of wall time."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(np.int8), [0]])))
    return [(float(first_s + begin), float(first_s + end)) for begin, end in edges.reshape(-1, 2)]
