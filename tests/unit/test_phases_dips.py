"""Whether dips come at a period, and what they look like."""

import numpy as np
import pytest

from satscore.core.dips import Dip, Periodic, dip_kind, periodicity
from satscore.core.job_facts import DipKind


def dips(*spans: tuple[int, int]) -> list[Dip]:
    return [Dip(start=start, stop=stop) for start, stop in spans]


def test_dips_at_a_period() -> None:
    found = periodicity(dips((100, 110), (400, 412), (702, 710), (1000, 1010)), 1200)
    assert found == Periodic(dips_count=4, period_s=300.0, duration_mean_s=10.0, duty_frac=40 / 1200)


def test_three_dips_are_no_period() -> None:
    assert periodicity(dips((100, 110), (400, 410), (700, 710)), 900) is None
    assert periodicity([], 900) is None


@pytest.mark.parametrize(
    ("gaps_s", "period_s"),
    [
        ((100, 100, 150), 100.0),  # standard deviation 24.7 % of the mean
        ((100, 100, 152), None),  # 25.6 %
        ((90, 110, 100, 95, 105), 100.0),
        ((100, 100, 100, 200), None),
    ],
)
def test_gaps_may_vary_by_a_quarter(gaps_s: tuple[int, ...], period_s: float | None) -> None:
    starts = [0, *np.cumsum(gaps_s).tolist()]
    found = periodicity(dips(*((start, start + 5) for start in starts)), 1000)
    assert (found.period_s if found else None) == period_s


@pytest.mark.parametrize(
    ("length", "tx", "kind"),
    [
        (10, 0.05, "checkpoint"),
        (10, 0.049, "unknown"),
        (3, 0.2, "checkpoint"),
        (2, 0.0, "gc"),
        (2, 0.2, "unknown"),
        (10, np.nan, "unknown"),
    ],
)
def test_kind(length: int, tx: float, kind: DipKind) -> None:
    traffic = np.full(400, 0.9 if kind == "gc" else 0.0)  # between the dips it does not matter
    spans = [(100, 100 + length), (300, 300 + length)]
    for start, stop in spans:
        traffic[start:stop] = tx
    assert dip_kind(dips(*spans), traffic) is kind


def test_kind_is_of_the_windows_that_are_known() -> None:
    traffic = np.full(100, np.nan)
    traffic[15] = 0.3
    assert dip_kind(dips((10, 20)), traffic) == "checkpoint"
    assert dip_kind([], traffic) == "unknown"
