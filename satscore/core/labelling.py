"""Phases of the windows of one process while they come: by what its GPUs do together.

The report labels the whole job anew, with hindsight; these labels split the sums that are kept per GPU.
"""

import math
from collections.abc import Iterable

import numpy as np

from satscore.core.labels import Label
from satscore.core.online_phases import OnlinePhases
from satscore.core.readings import IntArray
from satscore.core.units import PPM
from satscore.core.window_rows import WindowRows

LAG_S = 600
"""A GPU that is so far behind the others (it was lost, say) is not waited for."""
WORKING_ENGINE_FRAC = 0.2
"""GPUs with less work do not count while others have more: not all that are visible are used."""


class OnlineLabels:
    """Labels the windows of one process in order; how they are batched changes nothing.

    Args:
        profile: Key of PROFILES: whose score is looked at.
    """

    def __init__(self, profile: str) -> None:
        self.first_index = 0
        self._profile = profile
        self._phases = OnlinePhases()
        self._waiting: dict[int, list[tuple[float, float]]] = {}
        self._last: dict[int, int] = {}
        self._next_index: int | None = None
        self._labels = bytearray()

    @property
    def current(self) -> Label:
        """The phase of the newest window that has one."""
        return self._phases.current

    @property
    def labels(self) -> IntArray:
        """The labels so far, of consecutive seconds from ``first_index`` on: shape (k,)."""
        return np.frombuffer(bytes(self._labels), dtype=np.uint8).astype(np.int64)

    def take(self, gpu: int, rows: WindowRows) -> None:
        """Take windows of one GPU, in time order."""
        complete = rows.time_us(f"complete_us:{self._profile}") > 0
        sat = np.where(complete, rows.share(f"sat:{self._profile}") / PPM, np.nan)
        for index, pair in zip(rows.index.tolist(), zip(sat, rows.mean("engine"), strict=True), strict=True):
            self._waiting.setdefault(index, []).append(pair)
        self._last[gpu] = int(rows.index[-1])

    def advance(self) -> None:
        """Label the windows that every GPU has completed."""
        if self._last:
            self._label_until(max(min(self._last.values()), max(self._last.values()) - LAG_S))

    def flush(self) -> None:
        """Label all windows; nothing may be added afterwards."""
        if self._last:
            self._label_until(max(self._last.values()))
            self._append(self._phases.flush())

    def _label_until(self, last_index: int) -> None:
        if self._next_index is None:
            self._next_index = self.first_index = min(self._waiting)
        for index in range(self._next_index, last_index + 1):
            sat, engine = _together(self._waiting.pop(index, ()))
            self._append(self._phases.add(index, sat, engine))
        self._next_index = max(self._next_index, last_index + 1)

    def _append(self, labelled: Iterable[tuple[int, Label]]) -> None:
        self._labels.extend(label for _, label in labelled)


def _together(pairs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return the score and the activity of the GPUs that work, or of all where none does; NaN: unknown."""
    known = list(pairs)
    engine = max((g for _, g in known if not math.isnan(g)), default=math.nan)
    working = [
        u for u, g in known if not math.isnan(u) and (g >= WORKING_ENGINE_FRAC or not engine >= WORKING_ENGINE_FRAC)
    ]
    return (sum(working) / len(working) if working else math.nan), engine
