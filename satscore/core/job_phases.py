"""From the job's series to its phases: labels with hindsight, their scores, and how sure the steady one is."""

from collections.abc import Collection, Sequence

import msgspec
import numpy as np

from satscore.core.confidence import Confidence, confidence_of
from satscore.core.dips import Periodic, dip_kind, periodicity
from satscore.core.job_facts import DipKind
from satscore.core.job_series import JobSeries
from satscore.core.labels import STEADY_LABELS, Label
from satscore.core.losses import PARTS
from satscore.core.marks import Mark, phase_marks
from satscore.core.phases import Phases, find_phases
from satscore.core.readings import BoolArray
from satscore.core.summarise import SCORE_COVERAGE_FRAC
from satscore.core.units import MS_PER_S, PPM, points


class JobPhases(msgspec.Struct, frozen=True, kw_only=True):
    """The series of a job, labelled. ``found`` has one label per row of the series."""

    series: JobSeries
    found: Phases
    periodic: Periodic | None
    dip_kind: DipKind
    confidence: Confidence | None
    """In points, of the steady phase."""
    is_marked: bool
    """Whether the user has said where phases begin: what was labelled while it came does not know that."""

    @property
    def is_steady(self) -> bool:
        """Whether there is a steady phase to take the headline from.

        It must keep a level, and be known for half of its time, as every score.
        """
        if self.found.is_short or self.found.never_steady:
            return False
        time_ms = self.series.total("time_ms", self.chosen(STEADY_LABELS))
        return time_ms > 0 and self.complete_ms(STEADY_LABELS) >= SCORE_COVERAGE_FRAC * time_ms

    def chosen(self, labels: Collection[Label]) -> BoolArray:
        """Return which rows belong to some phases, shape (n,)."""
        return np.isin(self.found.labels, [int(label) for label in labels])

    def time_s(self, labels: Collection[Label]) -> float:
        """Return the length of some phases; the first and the last window may be clipped."""
        gpus = np.maximum(1, self.series.column("gpus"))
        length_s = np.where(self.series.column("gpus") > 0, self.series.column("time_ms") / gpus / MS_PER_S, 1.0)
        return float(length_s[self.chosen(labels)].sum())

    def complete_ms(self, labels: Collection[Label]) -> int:
        """Return the complete time of some phases, GPU-ms."""
        return self.series.total("complete_ms", self.chosen(labels))

    def score_points(self, labels: Collection[Label], name: str = "sat", over: str = "complete_ms") -> float | None:
        """Return the mean of a column of the series over some phases, points; None where nothing is complete."""
        return mean_points(self.series, self.chosen(labels), name, over)

    def cost_points(self, labels: Collection[Label]) -> float:
        """Return the points that the whole run would have more, had some phases been steady."""
        steady, here = self.score_points(STEADY_LABELS), self.score_points(labels)
        whole_ms = self.series.total("complete_ms")
        if steady is None or here is None or whole_ms == 0:
            return 0.0
        return max(0.0, (steady - here) * self.complete_ms(labels) / whole_ms)

    def loss_points(self, labels: Collection[Label]) -> dict[str, float]:
        """Return the parts of the loss tree over some phases, points, means over GPUs."""
        chosen = self.chosen(labels)
        return {part: mean_points(self.series, chosen, f"loss:{part}") or 0.0 for part in PARTS}


def mean_points(series: JobSeries, chosen: BoolArray, name: str, over: str = "complete_ms") -> float | None:
    """Return the mean of a column over some rows, points."""
    time_ms = series.total(over, chosen)
    return points(series.total(name, chosen) / time_ms / PPM) if time_ms else None


def label_job(series: JobSeries, marks: Sequence[Mark] = ()) -> JobPhases:
    """Label a job's series (docs/method.md, "Phases").

    Args:
        series: Sums over all GPUs that count.
        marks: The user's, in wall time.
    """
    sat = series.mean("sat", "complete_ms") / PPM
    engine = series.mean("engine", "engine_ms") / PPM
    overrides = phase_marks(marks, series.first_index)
    found = find_phases(sat, engine, overrides)
    host_tx = series.mean("host_tx", "host_tx_ms") / PPM
    steady = (found.labels == Label.STEADY) & ~np.isnan(sat)
    parts = [points(1.0) * sat[low:high][steady[low:high]] for low, high in found.steady_segments]
    return JobPhases(
        series=series,
        found=found,
        periodic=None if found.is_short else periodicity(found.dips, max(1, len(series))),
        dip_kind=dip_kind(found.dips, host_tx),
        is_marked=bool(overrides),
        confidence=None
        if found.is_short or found.never_steady
        else confidence_of([part for part in parts if len(part)]),
    )
