"""From a stream of readings to the state of one GPU, live and final by the same code."""

import numpy as np

from satscore.core.bounds import Bounds
from satscore.core.gpu_series import GpuSeries
from satscore.core.intervals import QUANTITIES, quantities
from satscore.core.labels import Label
from satscore.core.rank_blocks import BLOCK_COLUMNS, RankBlocks
from satscore.core.readings import IntArray, ReadingTable
from satscore.core.sums import Sums, add_readings, add_rows
from satscore.core.window_rows import WindowRows, concatenate_rows, window_rows
from satscore.core.windows import WindowGrid, WindowTable

BLOCK_SHARES = (*BLOCK_COLUMNS[1:6], *(f"loss:{part}" for part in BLOCK_COLUMNS[6:]))


class GpuScorer:
    """Turns the readings of one GPU into sums, window by window.

    Args:
        bounds: The GPU's bounds.
        profile: Key of PROFILES: whose loss tree and attainable score are kept.
        grid_offset_ns: Wall time minus run axis (the window grid is the job's, not the rank's).

    Attributes:
        sums: Over all whole windows so far.
        series: The same windows, second by second.
        phase_sums: Sums per phase, of the windows whose phase is known.
        blocks: Their levels in blocks of time, per phase.
    """

    def __init__(self, bounds: Bounds, profile: str, *, grid_offset_ns: int = 0) -> None:
        self.bounds = bounds
        self.profile = profile
        self.sums = Sums()
        self.series = GpuSeries(profile)
        self.phase_sums: dict[Label, Sums] = {}
        self.blocks = RankBlocks()
        self._waiting: list[WindowRows] = []
        self._grid = WindowGrid(len(QUANTITIES), grid_offset_ns=grid_offset_ns)

    def add(self, table: ReadingTable) -> WindowRows | None:
        """Take more readings of this GPU, in time order; return the windows that they complete."""
        if len(table) == 0:
            return None
        add_readings(self.sums, table)
        values = quantities(table, self.bounds)
        return self._take(self._grid.add(table.start_ns, table.end_ns, values))

    def close(self) -> WindowRows | None:
        """Return the last window, clipped. Nothing may be added afterwards."""
        return self._take(self._grid.finish())

    def finish(self) -> Sums:
        """Add the last, clipped window and return the sums. Nothing may be added afterwards."""
        self.close()
        return self.sums

    def settle(self, first_index: int, labels: IntArray) -> None:
        """Add the windows whose phases are known to the sums and blocks of these.

        Args:
            first_index: Second of the first label.
            labels: shape (k,), a Label each, of consecutive seconds; later windows go on waiting.
        """
        if not self._waiting:
            return
        rows = concatenate_rows(self._waiting)
        known = rows.index < first_index + len(labels)
        self._waiting = [rows.select(~known)] if not known.all() else []
        rows = rows.select(known)
        # A GPU that was read before all others began has windows before the first label.
        phase = np.where(rows.index < first_index, Label.STARTUP, labels[np.maximum(rows.index - first_index, 0)])
        for label in map(Label, np.unique(phase).tolist()):
            mine = rows.select(phase == label)
            add_rows(self.phase_sums.setdefault(label, Sums()), mine)
            self.blocks.add(mine.index, label, _block_rows(mine))

    def _take(self, windows: WindowTable) -> WindowRows | None:
        if len(windows) == 0:
            return None
        rows = window_rows(windows, self.bounds, self.profile)
        add_rows(self.sums, rows)
        self.series.append(rows)
        self._waiting.append(rows)
        return rows


def _block_rows(rows: WindowRows) -> IntArray:
    """Return what windows add to their blocks, shape (m, len(BLOCK_COLUMNS)): only those with known levels."""
    known_us = rows.time_us("levels_us")
    shares = np.stack([rows.share(name) for name in BLOCK_SHARES])
    return np.concatenate([known_us[None, :], shares * known_us]).T
