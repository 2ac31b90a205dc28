"""Low stretches inside a run: whether they come at a period, and what they look like."""

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from satscore.core.job_facts import DipKind
from satscore.core.readings import FloatArray

PERIODIC_DIPS_MIN = 4
PERIODIC_VARIATION_MAX = 0.25
"""Largest standard deviation over mean of the gaps between the starts of periodic dips."""
SHORT_DIP_S = 2.0
TRAFFIC_FRAC = 0.05
"""Device-to-host traffic from this share of the link on is a copy of state, not of a loss value."""


class Dip(msgspec.Struct, frozen=True, kw_only=True):
    """A passing low stretch: windows [start, stop) of 1 s."""

    start: int
    stop: int

    @property
    def duration_s(self) -> float:
        """Return its length."""
        return float(self.stop - self.start)


class Periodic(msgspec.Struct, frozen=True, kw_only=True):
    """Dips that come at a period."""

    dips_count: int
    period_s: float
    """Median time from start to start."""
    duration_mean_s: float
    duty_frac: float
    """Share of all windows that is inside dips."""


def periodicity(dips: Sequence[Dip], n_windows: int) -> Periodic | None:
    """Return the period of dips; None for fewer than 4 dips or gaps that vary by 25 % or more.

    Args:
        dips: In order of time.
        n_windows: Windows of 1 s of which the dips are a share: those of the run, > 0.
    """
    if len(dips) < PERIODIC_DIPS_MIN:
        return None
    gaps_s = np.diff([float(dip.start) for dip in dips])
    if float(gaps_s.std(ddof=1)) >= PERIODIC_VARIATION_MAX * float(gaps_s.mean()):
        return None
    inside_s = sum(dip.duration_s for dip in dips)
    return Periodic(
        dips_count=len(dips),
        period_s=float(np.median(gaps_s)),
        duration_mean_s=inside_s / len(dips),
        duty_frac=inside_s / n_windows,
    )


def dip_kind(dips: Sequence[Dip], host_tx_frac: FloatArray) -> DipKind:
    """Return what dips look like, taken together: counters cannot tell what the program did.

    Like a checkpoint: longer than 2 s, with traffic from the device to the host. Like a garbage collection: up
    to 2 s and no such traffic, so the host is busy with something short.

    Args:
        dips: Windows of the run.
        host_tx_frac: shape (n,), traffic from device to host over PCIe or C2C per window of the run, over
            the peak of that direction; NaN where unknown.
    """
    inside = np.concatenate([host_tx_frac[dip.start : dip.stop] for dip in dips]) if dips else np.empty(0)
    known = inside[~np.isnan(inside)]
    if len(known) == 0:
        return "unknown"
    traffic = float(known.mean()) >= TRAFFIC_FRAC
    is_short = math.fsum(dip.duration_s for dip in dips) <= SHORT_DIP_S * len(dips)
    if traffic == is_short:
        return "unknown"
    return "gc" if is_short else "checkpoint"
