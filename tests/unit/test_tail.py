"""The readings at the end of a run, and the clock that says where it is."""

import time

import pytest

from satscore.core.fields import INDEX, Quality, Reading, blank_reading, put
from satscore.counters.clock import ManualClock, MonotonicClock, ScaledClock
from satscore.run.tail import cut, unread

END = 1000


def reading(start_ns: int, end_ns: int) -> Reading:
    made = blank_reading(0, start_ns, end_ns)
    put(made, "power_gpu_w", 600.0)
    put(made, "energy_gpu_j", 80.0)
    put(made, "xid_count", 1.0)
    return made


def test_readings_before_the_end_are_untouched():
    before = [reading(0, 500), reading(500, END)]
    assert cut(before, END) == before
    assert cut([], END) == []


@pytest.mark.parametrize("start_ns", [END, END + 1, END + 500])
def test_readings_from_the_end_on_are_dropped(start_ns):
    assert cut([reading(start_ns, start_ns + 500)], END) == []


def test_a_reading_that_crosses_the_end_is_clipped_with_its_amounts():
    whole = reading(900, 1300)
    (clipped,) = cut([whole], END)
    assert (clipped.start_ns, clipped.end_ns) == (900, END)
    assert clipped.values[INDEX["energy_gpu_j"]] == 20.0
    assert clipped.values[INDEX["power_gpu_w"]] == 600.0
    assert clipped.values[INDEX["xid_count"]] == 1.0
    assert (whole.end_ns, whole.values[INDEX["energy_gpu_j"]]) == (1300, 80.0)


def test_time_that_nobody_read_is_unknown_up_to_the_end():
    (blank,) = unread({0: 400, 1: END, 2: END + 5}, END)
    assert (blank.gpu, blank.start_ns, blank.end_ns) == (0, 400, END)
    assert set(blank.quality) == {Quality.ERROR}


def test_an_instant_on_the_axis_of_each_clock():
    now_ns = time.monotonic_ns()
    assert MonotonicClock().from_monotonic_ns(now_ns) == now_ns
    assert ManualClock(5).from_monotonic_ns(7) == 7
    clock = ScaledClock(20.0)
    first, second = clock.from_monotonic_ns(now_ns), clock.from_monotonic_ns(now_ns + 1_000)
    assert second - first == 20_000
    assert clock.from_monotonic_ns(time.monotonic_ns()) <= clock.now_ns()
