"""GPM and DCGM beside each other: GPM's readings are scored, DCGM's are compared with them."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from satscore.core.fields import FIELDS, Kind, Quality, Reading
from satscore.core.summary import ComparisonItem
from satscore.core.units import NS_PER_S
from satscore.counters.source import Source, SourceKind, lend_cpu_power

_COMPARED = tuple(i for i, field in enumerate(FIELDS) if field.kind is Kind.MEAN)
_MAX_WAITING = 4_096
"""Readings of one source for which the other has none yet: ten minutes of one GPU at 0.15 s."""
_SHARE_UNIT = "1"
MIN_COMMON_S = 1.0
"""Less common time says nothing about a difference."""


class _Sum:
    """Integrals of one field over the time in which both sources know it."""

    __slots__ = ("dcgm", "gpm", "span_ns")

    def __init__(self) -> None:
        self.gpm = self.dcgm = 0.0
        self.span_ns = 0


class Comparison:
    """Means of two sources over their common time, for one GPU."""

    def __init__(self) -> None:
        self._gpm: deque[Reading] = deque(maxlen=_MAX_WAITING)
        self._dcgm: deque[Reading] = deque(maxlen=_MAX_WAITING)
        self.sums = {i: _Sum() for i in _COMPARED}

    def add(self, gpm: Sequence[Reading], dcgm: Sequence[Reading]) -> None:
        """Take readings of both, each in the order of time; what the other does not cover yet waits."""
        self._gpm.extend(gpm)
        self._dcgm.extend(dcgm)
        while self._gpm and self._dcgm:
            one, other = self._gpm[0], self._dcgm[0]
            span_ns = min(one.end_ns, other.end_ns) - max(one.start_ns, other.start_ns)
            if span_ns > 0:
                self._add(one, other, span_ns)
            if one.end_ns <= other.end_ns:
                self._gpm.popleft()
            if other.end_ns <= one.end_ns:
                self._dcgm.popleft()

    def _add(self, gpm: Reading, dcgm: Reading, span_ns: int) -> None:
        for i, total in self.sums.items():
            if gpm.quality[i] == Quality.OK == dcgm.quality[i]:
                total.gpm += gpm.values[i] * span_ns
                total.dcgm += dcgm.values[i] * span_ns
                total.span_ns += span_ns


class _Pair(NamedTuple):
    """The two sources' numbers of the same GPU."""

    gpm: int
    dcgm: int


class BothSource:
    """Readings of GPM, with DCGM read beside them.

    Args:
        gpm: Whose readings count.
        dcgm: Whose readings are compared; its GPUs are matched by UUID.
    """

    name = "both"
    kind: SourceKind = "measured"

    def __init__(self, gpm: Source, dcgm: Source) -> None:
        self.has_pipe_counters = gpm.has_pipe_counters
        self.gpus = gpm.gpus
        self.clock = gpm.clock
        self.grid_offset_ns = gpm.grid_offset_ns
        self._gpm = gpm
        self._dcgm = dcgm
        numbers = {gpu.uuid: gpu.index for gpu in dcgm.gpus if gpu.uuid}
        pairs = [_Pair(gpu.index, numbers[gpu.uuid]) for gpu in gpm.gpus if gpu.uuid in numbers]
        self._comparisons = {pair: Comparison() for pair in pairs}

    def read(self) -> list[Reading]:
        """Return GPM's readings; see ``Source.read``."""
        gpm, dcgm = self._gpm.read(), self._dcgm.read()
        for pair, comparison in self._comparisons.items():
            comparison.add([r for r in gpm if r.gpu == pair.gpm], [r for r in dcgm if r.gpu == pair.dcgm])
        return gpm

    def comparison(self) -> list[ComparisonItem]:
        """Return the means of each field over the time in which both know it, per GPU."""
        return [
            ComparisonItem(
                gpu_index=pair.gpm,
                field=FIELDS[i].name,
                unit=FIELDS[i].unit,
                mean_gpm=total.gpm / total.span_ns,
                mean_dcgm=total.dcgm / total.span_ns,
                difference=(total.dcgm - total.gpm) / total.span_ns,
                common_s=total.span_ns / NS_PER_S,
            )
            for pair, comparison in self._comparisons.items()
            for i, total in comparison.sums.items()
            if total.span_ns > 0
        ]

    def use_cpu_power(self, read_w: Callable[[int], float | None]) -> None:
        """Have the CPU's power read elsewhere, for GPM's readings: DCGM's numbers of the GPUs may differ."""
        lend_cpu_power(self._gpm, read_w)

    def processes(self) -> dict[str, list[int]] | None:
        """Return the ids of the processes that compute on each GPU, by UUID; see ``Source.processes``."""
        return self._gpm.processes()

    def helper_cost(self) -> tuple[float, int]:
        """Return the cost of the process that reads DCGM."""
        return self._dcgm.helper_cost()

    def labels(self) -> list[str]:
        """Return by which counters each GPU is read (for ``doctor``)."""
        return [label for source in (self._gpm, self._dcgm) for label in getattr(source, "labels", list)()]

    def notes(self) -> list[str]:
        """Return the notes of both, and how far they agree until now."""
        return [*self._gpm.notes(), *self._dcgm.notes(), comparison_note(self.comparison())]

    def close(self) -> None:
        """Release both."""
        self._gpm.close()
        self._dcgm.close()


def comparison_note(rows: Sequence[ComparisonItem]) -> str:
    """Return one line on how far the sources agree: the share with the largest difference."""
    units = {field.name: field.unit for field in FIELDS}
    shares = [row for row in rows if units[row.field] == _SHARE_UNIT and row.common_s >= MIN_COMMON_S]
    if not shares:
        return "GPM and DCGM were not compared: they have no second in common"
    worst = max(shares, key=lambda row: abs(row.difference))
    return (
        f"GPM and DCGM over {worst.common_s:.0f} s in common: the largest difference of a share is "
        f"{worst.field} of GPU {worst.gpu_index}: {worst.mean_gpm:.3f} by GPM, {worst.mean_dcgm:.3f} by DCGM"
    )
