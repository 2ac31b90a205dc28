"""Labels that are handed out while windows come: each window gets its own, however far behind its GPU is."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from satscore.core.intervals import QUANTITIES, Q
from satscore.core.labelling import LAG_S, OnlineLabels
from satscore.core.readings import IntArray
from satscore.core.units import PPM, US_PER_S
from satscore.core.window_rows import SHARE, SHARES, TIME, TIMES, WindowRows

FIRST = 1_700_000_000
IDLE_S = 60


def windows(start: int, stop: int) -> WindowRows:
    """Return windows of a GPU that begins to work after a minute and stops for 20 s every 200 s."""
    index = np.arange(FIRST + start, FIRST + stop, dtype=np.int64)
    at, n = index - FIRST, stop - start
    works = ((at >= IDLE_S) & (at % 200 < 180)).astype(np.int64)
    shares = np.zeros((len(SHARES), n), dtype=np.int64)
    shares[SHARE["sat:train"]] = works * (600_000 + at % 7 * 1_000)
    times_us = np.zeros((len(TIMES), n), dtype=np.int64)
    times_us[TIME["complete_us:train"]] = US_PER_S
    means = np.zeros((len(QUANTITIES), n), dtype=np.int64)
    means[Q["engine"]] = works * PPM
    return WindowRows(
        index=index,
        length_us=np.full(n, US_PER_S),
        shares=shares,
        times_us=times_us,
        means=means,
        known_us=np.full((len(QUANTITIES), n), US_PER_S),
    )


class Taker:
    """Takes windows of two GPUs and gives each the label that it is handed, as the scorers do."""

    def __init__(self) -> None:
        self.online = OnlineLabels("train")
        self.waiting: dict[int, set[int]] = {0: set(), 1: set()}
        self.got: dict[int, dict[int, int]] = {0: {}, 1: {}}
        self.handed_count = 0

    def take(self, gpu: int, start: int, stop: int) -> None:
        if start < stop:
            self.online.take(gpu, windows(start, stop))
            self.waiting[gpu] |= set(range(start, stop))

    def settle(self) -> None:
        first, labels = self.online.settle()
        self.handed_count += len(labels)
        for gpu, waiting in self.waiting.items():
            known = {at for at in waiting if FIRST + at < first + len(labels)}
            self.got[gpu] |= {at: int(labels[FIRST + at - first]) for at in known if FIRST + at >= first}
            assert known <= self.got[gpu].keys()
            waiting.difference_update(known)


def whole(n: int) -> IntArray:
    """Return the labels of a run that comes at once."""
    online = OnlineLabels("train")
    online.take(0, windows(0, n))
    online.flush()
    return online.settle()[1]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=40))
@example([(60, 60), *[(60, 0)] * 25, (0, 60), *[(0, 60)] * 24])  # one of them 1500 s behind
@example([(60, 60), *[(60, 0)] * 15, (1, 2), (0, 3), (0, 900)])
@settings(max_examples=60, deadline=None)
def test_every_window_gets_its_label_once_it_is_known(steps: list[tuple[int, int]]) -> None:
    taker, at = Taker(), [0, 0]
    for step in steps:
        for gpu, count in enumerate(step):
            taker.take(gpu, at[gpu], at[gpu] + count)
            at[gpu] += count
        taker.online.advance()
        taker.settle()
    taker.online.flush()
    taker.settle()
    expected = whole(max(at)).tolist() if max(at) else []
    for gpu, n in enumerate(at):
        assert [taker.got[gpu][i] for i in range(n)] == expected[:n]


def test_labels_that_no_window_waits_for_are_not_handed_out_again() -> None:
    taker, n = Taker(), 3 * LAG_S
    for start in range(0, n, 5):
        taker.take(0, start, start + 5)
        taker.take(1, start, start + 5)
        taker.online.advance()
        taker.settle()
    taker.online.flush()
    taker.settle()
    assert taker.handed_count == n


@pytest.mark.parametrize("behind_s", [LAG_S - 5, LAG_S + 5])
def test_a_gpu_is_waited_for_until_it_is_too_far_behind(behind_s: int) -> None:
    online = OnlineLabels("train")
    online.take(1, windows(0, 5))
    online.take(0, windows(0, 5 + behind_s))
    online.advance()
    assert (len(online.settle()[1]) > 5) == (behind_s > LAG_S)
