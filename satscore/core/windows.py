"""Readings on a job-wide grid of fixed windows: a window takes its exact share of each reading.

Counters are treated as cumulative integrals that are linear between reads (docs/method.md, "Windows"),
so any read times that hit the window edges give the same window, at any sampling period.
"""

from dataclasses import dataclass

import numpy as np

from satscore.core.readings import FloatArray, IntArray, filled
from satscore.core.units import NS_PER_S

WINDOW_NS = NS_PER_S
"""W0 = 1 s is part of the score's definition (docs/method.md, "Windows")."""
KNOWN_QUORUM_FRAC = 0.8
"""A quantity counts as known in a window if it is known for at least this share of its length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowTable:
    """m windows of one GPU.

    Attributes:
        index: shape (m,), window number on the grid (wall-clock seconds for 1 s windows).
        length_ns: shape (m,), length; edge windows are clipped to the first and last read.
        mean: shape (m, quantity), mean over the time in which the quantity is known; NaN if never.
        known_frac: shape (m, quantity), share of the window in which it is known, 0..1.
    """

    index: IntArray
    length_ns: IntArray
    mean: FloatArray
    known_frac: FloatArray

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.index)


class WindowGrid:
    """Lays the readings of one GPU on the grid; emits windows once they are complete.

    Args:
        n_quantities: Number of columns of what is averaged.
        grid_offset_ns: Wall time minus run axis, so that windows are those of the whole job.
        window_ns: Length of a window.

    A window is always computed from all its readings at once, so how readings are batched never
    changes a bit of the result.
    """

    def __init__(self, n_quantities: int, *, grid_offset_ns: int = 0, window_ns: int = WINDOW_NS) -> None:
        self._n = n_quantities
        self._offset_ns = grid_offset_ns
        self._window_ns = window_ns
        self._first_ns: int | None = None
        self._next_index = 0
        self._start_ns = np.empty(0, dtype=np.int64)
        self._end_ns = np.empty(0, dtype=np.int64)
        self._values = np.empty((n_quantities, 0))  # one row per quantity: sums run along contiguous memory

    def add(self, start_ns: IntArray, end_ns: IntArray, values: FloatArray) -> WindowTable:
        """Take n more readings in time order and return the windows that they complete.

        Args:
            start_ns: shape (n,), ns on the run's axis.
            end_ns: shape (n,), ns, > start_ns.
            values: shape (n, quantity), means over each reading, NaN where unknown.
        """
        if len(start_ns) == 0:
            return self._empty()
        if self._first_ns is None:
            self._first_ns = int(start_ns[0])
            self._next_index = self._index_of(self._first_ns)
        self._start_ns = np.concatenate([self._start_ns, start_ns])
        self._end_ns = np.concatenate([self._end_ns, end_ns])
        self._values = np.concatenate([self._values, values.T], axis=1)
        return self._emit(self._index_of(int(self._end_ns.max())))

    def finish(self) -> WindowTable:
        """Return the last window, clipped to the last read."""
        if len(self._end_ns) == 0:
            return self._empty()
        return self._emit(self._index_of(int(self._end_ns.max()) - 1) + 1)

    def _index_of(self, time_ns: int) -> int:
        return (time_ns + self._offset_ns) // self._window_ns

    def _edge_ns(self, index: int) -> int:
        return index * self._window_ns - self._offset_ns

    def _emit(self, stop_index: int) -> WindowTable:
        """Return windows [next, stop) and keep the readings that reach beyond them."""
        m = stop_index - self._next_index
        if m <= 0:
            return self._empty()
        table = self._windows(self._next_index, m)
        self._next_index = stop_index
        kept = self._end_ns > self._edge_ns(stop_index)
        self._start_ns, self._end_ns = self._start_ns[kept], self._end_ns[kept]
        self._values = self._values[:, kept]
        return table

    def _windows(self, first_index: int, m: int) -> WindowTable:
        edges = self._edge_ns(first_index) + self._window_ns * np.arange(m + 1, dtype=np.int64)
        reading, window, piece_ns = _split(self._start_ns, self._end_ns, edges)
        value_ns, known_ns = _integrals(self._values.take(reading, axis=1), window, piece_ns, m)
        assert self._first_ns is not None
        last_ns = int(self._end_ns.max()) if len(self._end_ns) else edges[-1]
        length_ns = np.minimum(edges[1:], last_ns) - np.maximum(edges[:-1], self._first_ns)
        length_ns = np.maximum(length_ns, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = value_ns / known_ns
            known_frac = np.minimum(1.0, known_ns / length_ns)
        return WindowTable(
            index=np.arange(first_index, first_index + m, dtype=np.int64),
            length_ns=length_ns,
            mean=mean.T,
            known_frac=filled(known_frac, 0.0).T,
        )

    def _empty(self) -> WindowTable:
        return WindowTable(
            index=np.empty(0, dtype=np.int64),
            length_ns=np.empty(0, dtype=np.int64),
            mean=np.empty((0, self._n)),
            known_frac=np.empty((0, self._n)),
        )


def _split(start_ns: IntArray, end_ns: IntArray, edges: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Cut readings at the window edges.

    Returns:
        Per piece, in time order: index of its reading, index of its window (0 = first edge), and its
        length in ns. Pieces outside the edges are left out.
    """
    m = len(edges) - 1
    first = np.clip(np.searchsorted(edges, start_ns, side="right") - 1, 0, m)
    last = np.clip(np.searchsorted(edges, end_ns, side="left"), 0, m)
    counts = np.maximum(last - first, 0)
    reading = np.repeat(np.arange(len(start_ns)), counts)
    within = np.arange(len(reading)) - np.repeat(np.cumsum(counts) - counts, counts)
    window = first[reading] + within
    piece_ns = np.minimum(end_ns[reading], edges[window + 1]) - np.maximum(start_ns[reading], edges[window])
    order = np.argsort(window, kind="stable")
    order = order[piece_ns[order] > 0]
    return reading[order], window[order], piece_ns[order]


def _integrals(values: FloatArray, window: IntArray, piece_ns: IntArray, m: int) -> tuple[FloatArray, FloatArray]:
    """Integrate pieces over their windows.

    Args:
        values: shape (quantity, piece), NaN where unknown; overwritten.
        window: shape (piece,), window of each piece, ascending.
        piece_ns: shape (piece,), length of each piece.
        m: Number of windows.

    Returns:
        Value times ns, and ns in which the value is known: shape (quantity, m) each.
    """
    unknown = np.isnan(values)
    with_gaps = unknown.any(axis=1)
    length_ns = piece_ns.astype(np.float64)
    known_ns = np.empty((len(values), m))
    known_ns[:] = _sum_by(window, m, length_ns[None, :])
    known_ns[with_gaps] = _sum_by(window, m, np.where(unknown[with_gaps], 0.0, length_ns))
    np.copyto(values, 0.0, where=unknown)
    values *= length_ns
    return _sum_by(window, m, values), known_ns


def _sum_by(window: IntArray, m: int, rows: FloatArray) -> FloatArray:
    """Add the entries of each row that belong to the same window: shape (row, m)."""
    out = np.zeros((len(rows), m))
    if len(window):
        starts = np.flatnonzero(np.r_[True, window[1:] != window[:-1]])
        out[:, window[starts]] = np.add.reduceat(rows, starts, axis=1)
    return out
