"""The sampling thread: when it reads, what it counts, and that nothing of the driver's can hold it up."""

import threading
import time

import pytest

from satscore.core.fields import Reading, blank_reading, put
from satscore.core.gpu import GpuInfo
from satscore.counters.clock import Clock, MonotonicClock
from satscore.counters.source import MIN_GAP_NS, SourceKind
from satscore.run.sampler import JITTER_FRAC, MAX_WAITING, Sampler

MS = 1_000_000
HANG_S = 30.0


class StepClock:
    """A clock that jumps from deadline to deadline as often as it is let; then it waits for the stop."""

    def __init__(self, steps: int) -> None:
        self.idle = threading.Event()
        self._now_ns = 5_000_000_000
        self._steps = steps

    def now_ns(self) -> int:
        return self._now_ns

    def from_monotonic_ns(self, monotonic_ns: int) -> int:
        return monotonic_ns

    def wait_until(self, deadline_ns: int, stop: threading.Event) -> bool:
        if self._steps == 0:
            self.idle.set()
            return stop.wait(HANG_S)
        self._steps -= 1
        self._now_ns = max(self._now_ns, deadline_ns)
        return stop.is_set()

    def spend(self, duration_ns: int) -> None:
        self._now_ns += duration_ns


class FakeSource:
    """Counts its reads; each takes the time that the test says."""

    name = "fake"
    kind: SourceKind = "measured"
    has_pipe_counters = True
    gpus: tuple[GpuInfo, ...] = (GpuInfo(index=0),)

    def __init__(self, clock: Clock, read_ms: dict[int, int] | None = None, fails_at: int = -1) -> None:
        self.clock = clock
        self.grid_offset_ns: int | None = None
        self.began_ns: list[int] = []
        self.closed = 0
        self.hang = threading.Event()
        self.hangs_at = -1
        self.close_hangs = False
        self._read_ms = read_ms or {}
        self._fails_at = fails_at
        self._last_ns: int | None = None

    def read(self) -> list[Reading]:
        count, now_ns = len(self.began_ns), self.clock.now_ns()
        self.began_ns.append(now_ns)
        if count == self._fails_at:
            raise OSError("the driver went away")
        if count == self.hangs_at:
            self.hang.wait(HANG_S)
        if isinstance(self.clock, StepClock):
            self.clock.spend(self._read_ms.get(count, self._read_ms.get(-1, 0)) * MS)
        start_ns, self._last_ns = self._last_ns, now_ns
        if start_ns is None:
            return []
        reading = blank_reading(0, start_ns, now_ns)
        put(reading, "sm_clock_mhz", float(count))
        return [reading]

    def processes(self) -> None:
        return None

    def helper_cost(self) -> tuple[float, int]:
        return 0.0, 0

    def notes(self) -> list[str]:
        return []

    def close(self) -> None:
        self.closed += 1
        if self.close_hangs:
            self.hang.wait(HANG_S)


def sample(steps: int, period_s: float = 0.2, **options: object) -> tuple[Sampler, FakeSource, StepClock]:
    """Let a sampler run for some steps of the clock, then stop it."""
    clock = StepClock(steps)
    source = FakeSource(clock, **options)  # type: ignore[arg-type]
    sampler = Sampler(source, period_s)
    sampler.start()
    assert clock.idle.wait(HANG_S)
    assert sampler.stop(HANG_S)
    return sampler, source, clock


def gaps(source: FakeSource) -> list[int]:
    return [b - a for a, b in zip(source.began_ns, source.began_ns[1:], strict=False)]


def test_the_first_read_is_the_base_line_and_the_readings_follow_on():
    sampler, source, _ = sample(10)
    readings = sampler.drain()
    assert len(source.began_ns) == 11
    assert sampler.reads_count == len(readings) == 10
    assert [r.start_ns for r in readings] == source.began_ns[:-1]
    assert [r.end_ns for r in readings] == source.began_ns[1:]
    assert sampler.drain() == []
    assert source.closed == 1
    assert sampler.failure is None


@pytest.mark.parametrize("period_s", [0.12, 0.2, 1.0])
def test_deadlines_are_absolute_and_their_jitter_is_bounded(period_s):
    _, source, _ = sample(2000, period_s)
    off = [at - (source.began_ns[0] + i * period_s * 1e9) for i, at in enumerate(source.began_ns)]
    bound = JITTER_FRAC * period_s * 1e9 + 1
    assert all(abs(shift) <= max(bound, MIN_GAP_NS - (1 - JITTER_FRAC) * period_s * 1e9) for shift in off)
    assert max(off) > 0.5 * bound
    assert min(off) < -0.5 * bound
    assert len({round(gap / MS) for gap in gaps(source)}) > 5


@pytest.mark.parametrize("period_s", [0.05, 0.105, 0.12, 0.2])
def test_never_two_reads_closer_than_the_drivers_refresh(period_s):
    _, source, _ = sample(500, period_s)
    assert min(gaps(source)) >= MIN_GAP_NS == 105 * MS


def test_slow_reads_do_not_make_the_deadlines_drift():
    _, source, _ = sample(500, 0.2, read_ms={-1: 60})
    last = source.began_ns[-1] - source.began_ns[0]
    assert last == pytest.approx(500 * 0.2e9, abs=0.03e9)


def test_reads_on_time_are_not_late():
    sampler, _, _ = sample(100, 0.2, read_ms={-1: 10})
    assert sampler.late_reads_count == 0
    assert sampler.latest_read_s <= JITTER_FRAC * 0.2 + 1e-9
    assert sampler.read_time_s == pytest.approx(101 * 0.010)


def test_late_reads_are_counted_and_lost_deadlines_are_not_caught_up():
    sampler, source, _ = sample(60, 0.2, read_ms={20: 1000, 40: 350})
    assert sampler.late_reads_count == 2
    assert sampler.latest_read_s == pytest.approx(0.8, abs=0.05)
    assert min(gaps(source)) >= MIN_GAP_NS
    assert sorted(gaps(source))[-2:] == pytest.approx([350 * MS, 1000 * MS], abs=50 * MS)
    off_ms = [((at - source.began_ns[0]) / MS) % 200 for at in source.began_ns[45:]]
    assert all(off <= 21 or off >= 179 for off in off_ms)


def test_the_measured_interval_is_kept_whatever_the_period():
    sampler, _, _ = sample(60, 0.2, read_ms={20: 1000})
    lengths = [r.end_ns - r.start_ns for r in sampler.drain()]
    assert max(lengths) == pytest.approx(1000 * MS, abs=50 * MS)


def test_a_source_that_raises_ends_the_sampling_and_is_said():
    clock = StepClock(50)
    source = FakeSource(clock, fails_at=7)
    sampler = Sampler(source, 0.2)
    sampler.start()
    assert sampler.stop(HANG_S)
    assert sampler.failure == "OSError: the driver went away"
    assert len(sampler.drain()) == 6
    assert source.closed == 1
    assert not clock.idle.is_set()


@pytest.mark.parametrize("at", [0, 1])
def test_a_source_that_hangs_is_left_behind_in_time(at):
    clock = MonotonicClock()
    source = FakeSource(clock)
    source.hangs_at = at
    sampler = Sampler(source, 0.12)
    sampler.start()
    while len(source.began_ns) <= at:
        time.sleep(0.005)
    began = time.monotonic()
    assert sampler.stop(0.1) is False
    assert time.monotonic() - began < 5
    assert len(sampler.drain()) == 0
    source.hang.set()
    assert sampler.stop(HANG_S)
    assert source.closed == 1


def test_the_last_read_is_made_at_the_stop():
    """A run ends between two deadlines: the time since the last read still counts."""
    clock = MonotonicClock()
    source = FakeSource(clock)
    sampler = Sampler(source, 60.0)
    sampler.start()
    while not source.began_ns:
        time.sleep(0.001)
    time.sleep(0.11)
    stopped_ns = clock.now_ns()
    assert sampler.stop(HANG_S)
    (reading,) = sampler.drain()
    assert reading.end_ns >= stopped_ns
    assert sampler.late_reads_count == 0
    assert len(source.began_ns) == 2


def test_a_stop_right_after_a_read_makes_no_other():
    clock = MonotonicClock()
    source = FakeSource(clock)
    sampler = Sampler(source, 60.0)
    sampler.start()
    while not source.began_ns:
        time.sleep(0.001)
    assert sampler.stop(HANG_S)
    assert gaps(source) == [] or min(gaps(source)) >= MIN_GAP_NS


def test_a_source_that_hangs_while_it_closes_has_given_its_last_read():
    clock = MonotonicClock()
    source = FakeSource(clock)
    source.close_hangs = True
    sampler = Sampler(source, 60.0)
    sampler.start()
    while not source.began_ns:
        time.sleep(0.001)
    time.sleep(0.11)
    assert sampler.stop(HANG_S / 2)
    assert len(sampler.drain()) == 1
    source.hang.set()


def test_whoever_ends_the_run_wakes_the_sampler():
    ended = threading.Event()
    source = FakeSource(MonotonicClock())
    sampler = Sampler(source, 60.0, ended)
    sampler.start()
    while not source.began_ns:
        time.sleep(0.001)
    time.sleep(0.11)
    ended_ns = time.monotonic_ns()
    ended.set()
    while len(source.began_ns) < 2:
        time.sleep(0.001)
    assert source.began_ns[1] - ended_ns < 1_000_000_000
    assert sampler.base_ns <= source.began_ns[0]


def test_readings_that_nobody_takes_are_bounded_and_counted():
    sampler, source, _ = sample(MAX_WAITING + 50)
    readings = sampler.drain()
    assert len(readings) == MAX_WAITING
    assert sampler.dropped_count == 50
    assert readings[-1].end_ns == source.began_ns[-1]
