"""MSER-5 against the case worked by hand and against its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core.mser import truncation


def by_definition(values: list[float], most: int) -> dict[int, float]:
    """Return the error of every truncation that may be chosen, from the formula as it is written."""
    batches = [float(np.mean(values[i : i + 5])) for i in range(0, len(values) - 4, 5)]
    errors = {}
    for cut in range(len(batches) - 4):
        if 5 * cut <= most:
            kept = batches[cut:]
            mean = sum(kept) / len(kept)
            errors[5 * cut] = sum((y - mean) ** 2 for y in kept) / len(kept) ** 2
    return errors


def test_ramp_of_20_windows_is_left_out() -> None:
    values = [10 + (40 if i >= 20 else 2 * i) + ((i % 3) - 1) for i in range(120)]
    assert truncation(np.array(values, dtype=float)) == 20


@given(st.lists(st.integers(0, 1000), min_size=0, max_size=80), st.integers(0, 100))
@settings(deadline=None)
def test_no_other_truncation_has_a_smaller_error(values: list[int], most: int) -> None:
    errors = by_definition([float(v) for v in values], most)
    chosen = truncation(np.array(values, dtype=float), most)
    if errors:
        assert errors[chosen] <= min(errors.values()) + 1e-6
    else:
        assert chosen == 0


@pytest.mark.parametrize("n", [0, 4, 5, 24, 25, 29])
def test_five_batches_are_always_kept(n: int) -> None:
    assert truncation(np.linspace(0.0, 1.0, n) ** 4) == 0


def test_a_sixth_batch_may_go() -> None:
    assert truncation(np.repeat([0.0, 1.0, 1.0, 1.0, 1.0, 1.0], 5)) == 5


@pytest.mark.parametrize("value", [0.0, 0.3, 0.1 + 0.2, 1e9])
def test_a_constant_series_loses_nothing_to_rounding(value: float) -> None:
    assert truncation(np.full(5000, value)) == 0


def test_the_search_can_be_limited() -> None:
    values = np.concatenate([np.zeros(100), np.ones(100)])
    assert truncation(values) == 100
    assert truncation(values, most=99) == 95
    assert truncation(values, most=100) == 100
