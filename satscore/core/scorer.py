"""From a stream of readings to sums: the state of a run, live and final by the same code."""

from satscore.core.bounds import Bounds
from satscore.core.intervals import QUANTITIES, quantities
from satscore.core.readings import ReadingTable
from satscore.core.sums import Sums, add_readings, add_windows
from satscore.core.windows import WindowGrid, WindowTable


class GpuScorer:
    """Turns the readings of one GPU into sums, window by window, in constant memory.

    Args:
        bounds: The GPU's bounds.
        profile: Key of PROFILES: whose loss tree and attainable score are kept.
        grid_offset_ns: Wall time minus run axis (the window grid is the job's, not the rank's).
    """

    def __init__(self, bounds: Bounds, profile: str, *, grid_offset_ns: int = 0) -> None:
        self.bounds = bounds
        self.profile = profile
        self.sums = Sums()
        self._grid = WindowGrid(len(QUANTITIES), grid_offset_ns=grid_offset_ns)

    def add(self, table: ReadingTable) -> None:
        """Take more readings of this GPU, in time order."""
        if len(table) == 0:
            return
        add_readings(self.sums, table)
        values = quantities(table, self.bounds)
        self._add_windows(self._grid.add(table.start_ns, table.end_ns, values))

    def finish(self) -> Sums:
        """Add the last, clipped window and return the sums. Nothing may be added afterwards."""
        self._add_windows(self._grid.finish())
        return self.sums

    def snapshot(self) -> Sums:
        """Return a copy of the sums of all whole windows so far."""
        return Sums().merge(self.sums)

    def _add_windows(self, windows: WindowTable) -> None:
        add_windows(self.sums, windows, self.bounds, self.profile)
