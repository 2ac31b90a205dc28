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
"""A GPU that is so far behind the others (it was lost, say) is not waited for: it has no part in its labels."""
WORKING_ENGINE_FRAC = 0.2
"""GPUs with less work do not count while others have more: not all that are visible are used."""


class OnlineLabels:
    """Labels the windows of one process in order.

    How windows are batched changes nothing while all GPUs are within LAG_S of each other; beyond that it decides
    whether those of the last one come in time to count.

    Args:
        profile: Key of PROFILES: whose score is looked at.
    """

    def __init__(self, profile: str) -> None:
        self._first_index = 0
        self._profile = profile
        self._phases = OnlinePhases()
        self._waiting: dict[int, list[tuple[float, float]]] = {}
        self._last: dict[int, int] = {}
        self._next_index: int | None = None
        self._labels = bytearray()
        self._settled_count = 0
        """Of the labels, the first ones that no window needs any more."""

    def take(self, gpu: int, rows: WindowRows) -> None:
        """Take windows of one GPU, in time order."""
        complete = rows.time_us(f"complete_us:{self._profile}") > 0
        sat = np.where(complete, rows.share(f"sat:{self._profile}") / PPM, np.nan)
        for index, pair in zip(rows.index.tolist(), zip(sat, rows.mean("engine"), strict=True), strict=True):
            self._waiting.setdefault(index, []).append(pair)
        self._last[gpu] = int(rows.index[-1])
        # One that is far behind has yet to get labels which the others have had.
        self._settled_count = max(0, min(self._settled_count, int(rows.index[0]) - self._first_index))

    def settle(self) -> tuple[int, IntArray]:
        """Return the labels that windows may wait for which were taken since the last call, or had none then.

        Returns:
            Second of the first label; and the labels, of consecutive seconds from there to the last: shape (k,).
        """
        start, self._settled_count = self._settled_count, len(self._labels)
        return self._first_index + start, np.frombuffer(self._labels[start:], dtype=np.uint8).astype(np.int64)

    @property
    def last(self) -> Label | None:
        """The last label; None: there is none yet."""
        return Label(self._labels[-1]) if self._labels else None

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
            self._next_index = min(self._waiting)
        for index in range(self._next_index, last_index + 1):
            sat, engine = _together(self._waiting.pop(index, ()))
            self._append(self._phases.add(index, sat, engine))
        self._next_index = max(self._next_index, last_index + 1)

    def _append(self, labelled: Iterable[tuple[int, Label]]) -> None:
        for index, label in labelled:
            # Until there is a label no window is before the first one.
            if not self._labels:
                self._first_index = index
            self._labels.append(label)


def _together(pairs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return the score and the activity of the GPUs that work, or of all where none does; NaN: unknown."""
    known = list(pairs)
    engine = max((g for _, g in known if not math.isnan(g)), default=math.nan)
    working = [
        u for u, g in known if not math.isnan(u) and (g >= WORKING_ENGINE_FRAC or not engine >= WORKING_ENGINE_FRAC)
    ]
    return (sum(working) / len(working) if working else math.nan), engine
