"""From DCGM's samples to readings: literals, and whatever sequence of samples an engine may send."""

import math
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core.fields import FIELDS, INDEX, Quality, Reading
from satscore.counters import nvml_ids
from satscore.counters.dcgm import ids
from satscore.counters.dcgm.axis import EngineAxis
from satscore.counters.dcgm.gauges import Sample
from satscore.counters.dcgm.intervals import GpuIntervals
from satscore.counters.dcgm.misses import Misses
from satscore.counters.dcgm.wire import BLANK, Samples
from satscore.counters.nvml_notes import NoteBook

MS, S = 1_000_000, 1_000_000_000
PERIOD = 200 * MS
TENSOR, DRAM, ENGINE = 1004, 1005, 1001
CLOCK, ENERGY, POWER, USAGE = 100, 156, 157, 155
ALL_PIPES = [pipe.id for pipe in ids.pipe_fields(superchip=False)]


class Gpu:
    """Intervals with a base line at 0, their period 0.2 s."""

    def __init__(
        self,
        pipes: Iterable[int] = (TENSOR, DRAM),
        *,
        superchip: bool = False,
        begin: bool = True,
        period_ns: int = PERIOD,
    ) -> None:
        self.notes = NoteBook()
        self.refused: dict[int, int] = {}
        watched = [pipe for pipe in ids.pipe_fields(superchip=True) if pipe.id in set(pipes)]
        self.made = GpuIntervals(
            0,
            watched,
            period_ns=period_ns,
            superchip=superchip,
            refused=self.refused,
            misses=Misses(0, self.notes),
        )
        if begin:
            self.made.begin(0)

    def take(self, *samples: Sample, fetched_ns: int | None = None) -> list[Reading]:
        newest = max((sample.at_ns for sample in samples), default=0)
        self.made.take(samples, fetched_ns=newest + 10 * MS if fetched_ns is None else fetched_ns)
        return self.made.readings(Quality.STALE)

    def update(self, at_ms: int, tensor: float = 0.5, **fields: float) -> list[Reading]:
        """One update of the engine: both pipe fields, and ordinary ones named f100, f156, ..."""
        others = [sample(at_ms, int(name[1:]), value) for name, value in fields.items()]
        return self.take(sample(at_ms, TENSOR, tensor), sample(at_ms, DRAM, 0.25), *others)


def sample(at_ms: float, field: int, value: float = 0.5, status: int = 0) -> Sample:
    return Sample(round(at_ms * MS), field, (ids.code_of_status(status), value))


def times(readings: Sequence[Reading]) -> list[tuple[float, float]]:
    return [(reading.start_ns / MS, reading.end_ns / MS) for reading in readings]


def value(reading: Reading, field: str) -> float:
    assert reading.quality[INDEX[field]] == Quality.OK, f"{field}: {Quality(reading.quality[INDEX[field]]).name}"
    return reading.values[INDEX[field]]


def quality(reading: Reading, field: str) -> Quality:
    assert math.isnan(reading.values[INDEX[field]]) == (reading.quality[INDEX[field]] != Quality.OK)
    return Quality(reading.quality[INDEX[field]])


def test_each_update_closes_an_interval_with_its_means():
    gpu = Gpu()
    first, second = gpu.update(200, 0.4), gpu.update(401, 0.6)
    assert times([*first, *second]) == [(0, 200), (200, 401)]
    assert [value(r, "tensor_active_frac") for r in (*first, *second)] == [0.4, 0.6]
    assert quality(first[0], "fp32_active_frac") == Quality.NOT_READ


def test_several_updates_in_one_fetch_are_several_readings_whatever_their_order():
    gpu = Gpu()
    samples = [sample(at, field, at / 1000) for field in (TENSOR, DRAM) for at in (600, 200, 400)]
    readings = gpu.take(*samples)
    assert times(readings) == [(0, 200), (200, 400), (400, 600)]
    assert [value(r, "tensor_active_frac") for r in readings] == [0.2, 0.4, 0.6]


def test_fields_of_one_update_have_times_of_their_own_and_may_come_in_two_fetches():
    gpu = Gpu()
    assert gpu.take(sample(200, TENSOR, 0.4), fetched_ns=202 * MS) == []
    (reading,) = gpu.take(sample(203, DRAM, 0.3), fetched_ns=400 * MS)
    assert times([reading]) == [(0, 200)]
    assert (value(reading, "tensor_active_frac"), value(reading, "dram_active_frac")) == (0.4, 0.3)


def test_what_comes_a_period_later_is_of_the_next_update():
    gpu = Gpu()
    gpu.take(sample(200, TENSOR, 0.4), fetched_ns=201 * MS)
    (first,) = gpu.take(sample(400, DRAM, 0.3), fetched_ns=401 * MS)
    assert times([first]) == [(0, 200)]
    assert quality(first, "dram_active_frac") == Quality.BLANK


def test_an_update_without_one_field_is_closed_after_a_period():
    gpu = Gpu()
    assert gpu.take(sample(200, TENSOR), fetched_ns=399 * MS) == []
    (reading,) = gpu.take(fetched_ns=400 * MS)
    assert quality(reading, "dram_active_frac") == Quality.BLANK
    assert value(reading, "tensor_active_frac") == 0.5


@pytest.mark.parametrize("apart_ms", [(5, 10), (60, 110), (100, 150), (120, 199), (190, 195)])
@pytest.mark.parametrize("begun_ms", [0, 60, 130, 197])
@pytest.mark.parametrize("fetch_ms", [200, 330])
def test_fields_that_the_engine_reads_apart_make_whole_readings_one_a_period(apart_ms, begun_ms, fetch_ms):
    gpu = Gpu([ENGINE, TENSOR, DRAM], begin=False)
    gpu.made.begin(begun_ms * MS)
    offsets = dict(zip((ENGINE, TENSOR, DRAM), (0, *apart_ms), strict=True))
    every = [sample(200 * n + offset, field, n / 100) for n in range(60) for field, offset in offsets.items()]
    readings = []
    for now_ms in range(fetch_ms, 200 * 60, fetch_ms):
        new = [each for each in every if (now_ms - fetch_ms) * MS <= each.at_ns < now_ms * MS]
        gpu.made.take([each for each in new if each.at_ns > begun_ms * MS], fetched_ns=now_ms * MS)
        readings += gpu.made.readings(Quality.STALE)
    settled = readings[2:]
    assert len(settled) >= 55
    assert {times_s for reading in settled for times_s in [round((reading.end_ns - reading.start_ns) / MS)]} == {200}
    fields = ("engine_active_frac", "tensor_active_frac", "dram_active_frac")
    for i, reading in enumerate(settled):
        assert all(value(reading, field) == pytest.approx((i + 2) / 100, abs=0.021) for field in fields)


@pytest.mark.parametrize("late_ms", [(1, 3), (3, 7), (0, 11)])
def test_fields_that_drift_through_each_other_are_always_known(late_ms):
    gpu = Gpu([ENGINE, TENSOR, DRAM])
    steps = dict(zip((ENGINE, TENSOR, DRAM), (200, 200 + late_ms[0], 200 + late_ms[1]), strict=True))
    every = [sample(step * n, field, step * n / 1e5) for field, step in steps.items() for n in range(1, 240)]
    readings = []
    for now_ms in range(230, 40_000, 200):
        gpu.made.take([s for s in every if (now_ms - 200) * MS <= s.at_ns < now_ms * MS], fetched_ns=now_ms * MS)
        readings += gpu.made.readings(Quality.STALE)
    assert len(readings) > 180
    for reading in readings[2:]:
        for field in ("engine_active_frac", "tensor_active_frac", "dram_active_frac"):
            assert value(reading, field) == pytest.approx(reading.end_ns / MS / 1e5, abs=0.003)


def test_a_field_that_stops_is_held_for_one_interval_only():
    gpu = Gpu()
    gpu.update(200, 0.4)
    gpu.take(sample(400, DRAM), fetched_ns=410 * MS)
    held, after = gpu.take(sample(600, DRAM), sample(800, DRAM), fetched_ns=810 * MS)
    assert value(held, "tensor_active_frac") == 0.4
    assert quality(after, "tensor_active_frac") == Quality.BLANK


def test_a_refused_field_is_not_waited_for_and_keeps_its_reason():
    gpu = Gpu()
    gpu.refused[DRAM] = ids.code_of_status(-29)
    (reading,) = gpu.take(sample(200, TENSOR), fetched_ns=201 * MS)
    assert quality(reading, "dram_active_frac") == Quality.NO_PERMISSION
    assert any("dram_active_frac" in line and "permission" in line for line in gpu.notes.drain())


def test_a_missed_update_leaves_a_gap_that_nothing_is_stretched_over():
    gpu = Gpu()
    gpu.update(200, f100=1000, f240=0)
    gap, after = gpu.update(600, 0.7, f100=2000, f240=400e6)
    assert times([gap, after]) == [(200, 400), (400, 600)]
    assert set(gap.quality) == {Quality.STALE}
    assert value(after, "tensor_active_frac") == 0.7
    assert value(after, "sm_clock_mhz") == 2000, "the clock before the gap is no end of the interval after it"
    assert quality(after, "throttle_power_frac") == Quality.BLANK


def test_a_step_up_to_a_tolerance_is_one_interval():
    gpu = Gpu()
    gpu.update(200)
    assert times(gpu.update(550)) == [(200, 550)]
    assert times(gpu.update(901)) == [(550, 701), (701, 901)]


def test_silence_is_given_out_and_a_late_sample_is_dropped():
    gpu = Gpu()
    gpu.update(200)
    assert gpu.made.overdue(1200 * MS, Quality.ERROR) is None
    blank = gpu.made.overdue(1201 * MS, Quality.ERROR)
    assert blank is not None
    assert times([blank]) == [(200, 1201)]
    assert set(blank.quality) == {Quality.ERROR}
    more = gpu.made.overdue(1300 * MS, Quality.STALE)
    assert more is not None, "once it is silent, nothing is waited for"
    assert times([more]) == [(1201, 1300)]
    assert gpu.update(1250) == []
    assert gpu.made.overdue(1400 * MS, Quality.STALE) is None, "it is not silent any more"
    assert times(gpu.update(1500)) == [(1300, 1500)]
    assert gpu.made.overdue(2500 * MS, Quality.ERROR) is None


def test_nothing_before_the_base_line_counts():
    gpu = Gpu(begin=False)
    gpu.update(200, f156=1000, f310=5)
    gpu.made.begin(300 * MS)
    (reading,) = gpu.update(400, f156=61000, f310=7)
    assert times([reading]) == [(300, 400)]
    assert value(reading, "ecc_corrected_count") == 2
    assert value(reading, "energy_gpu_j") == 60


@pytest.mark.parametrize(("status", "expected"), [
    (BLANK, Quality.BLANK), (-6, Quality.NOT_SUPPORTED), (-17, Quality.NO_PERMISSION), (-29, Quality.NO_PERMISSION),
    (-14, Quality.BLANK), (-16, Quality.BLANK), (-3, Quality.ERROR), (-57, Quality.ERROR), (-36, Quality.NOT_SUPPORTED),
])  # fmt: skip
def test_a_status_is_a_reason(status, expected):
    (reading,) = Gpu().take(sample(200, TENSOR, math.nan, status), sample(200, DRAM), sample(200, CLOCK, 1, status))
    assert quality(reading, "tensor_active_frac") == quality(reading, "sm_clock_mhz") == expected


@pytest.mark.parametrize("wrong", [-0.01, 1.06, 1e30, math.nan])
def test_a_share_that_cannot_be_is_not_used(wrong):
    (reading,) = Gpu().update(200, wrong)
    expected = Quality.BLANK if math.isnan(wrong) else Quality.OUT_OF_RANGE
    assert quality(reading, "tensor_active_frac") == expected


def test_every_pipe_field_has_the_unit_and_meaning_that_gpm_has():
    """What one source calls sent or 16-bit floats, the other calls so, too."""
    by_gpm = {1001: 1, 1002: 2, 1003: 3, 1004: 5, 1005: 10, 1006: 11, 1007: 12, 1008: 13, 1009: 20, 1010: 21, 1011: 61,
              1012: 60, 1013: 9, 1014: 7, 1015: 6, 1016: 4, 1076: 100, 1078: 101}  # fmt: skip
    metrics = {metric.id: metric.field for metric in nvml_ids.GPM_METRICS}
    assert {pipe.id: pipe.field for pipe in ids.pipe_fields(superchip=True)} == {
        field: metrics[metric] for field, metric in by_gpm.items()
    }


def test_all_fields_in_their_units():
    gpu = Gpu(ALL_PIPES)
    gauges = {100: 1700, 101: 2600, 164: 700, 150: 60, 140: 70, 252: 1024, 203: 75, 237: 5, 238: 16, 157: 500, 155: 490}
    counts = {240: 0, 241: 0, 242: 0, 243: 0, 246: 0, 310: 1, 311: 2, 202: 3, 409: 1, 419: 1, 429: 1, 439: 1, 393: 0,
              394: 4, 156: 1_000_000}  # fmt: skip
    steps = {240: 20e6, 241: 40e6, 242: 60e6, 243: 80e6, 246: 200e6, 310: 1, 311: 2, 202: 3, 409: 1, 419: 2, 429: 3,
             439: 4, 393: 1, 394: 1, 156: 100_000}  # fmt: skip
    pipes = [sample(200, field, 0.5) for field in ALL_PIPES]
    gpu.take(*pipes, *[sample(200, field, number) for field, number in (gauges | counts).items()])
    later = {field: counts[field] + steps[field] for field in counts}
    (reading,) = gpu.take(
        *[sample(400, field, 0.5) for field in ALL_PIPES],
        *[sample(400, field, number) for field, number in (gauges | later).items()],
        sample(390, ids.XID, 79),
    )
    expected = {
        "sm_clock_mhz": 1700, "mem_clock_mhz": 2600, "power_limit_gpu_w": 700, "temp_gpu_c": 60, "temp_mem_c": 70,
        "memory_used_bytes": 1 << 30, "gpu_util_frac": 0.75, "pcie_generation": 5, "pcie_lanes_count": 16,
        "throttle_power_frac": 0.1, "throttle_thermal_frac": 0.2, "throttle_sync_boost_frac": 0.3,
        "throttle_board_frac": 0.4, "throttle_app_clocks_frac": 1.0, "ecc_corrected_count": 1,
        "ecc_uncorrected_count": 2, "pcie_replay_count": 3, "nvlink_error_count": 10, "remapped_rows_count": 2,
        "energy_gpu_j": 100, "power_gpu_w": 500, "xid_count": 1,
    }  # fmt: skip
    for field, number in expected.items():
        assert value(reading, field) == pytest.approx(number), field
    known = {FIELDS[i].name for i, q in enumerate(reading.quality) if q == Quality.OK}
    assert known == expected.keys() | {pipe.field for pipe in ids.pipe_fields(superchip=False)}


def test_a_clock_is_the_mean_of_both_ends_and_power_that_of_the_energy():
    gpu = Gpu()
    gpu.update(200, f100=1000, f156=0, f157=100)
    (reading,) = gpu.update(400, f100=2000, f156=100_000, f157=100)
    assert value(reading, "sm_clock_mhz") == 1500
    assert value(reading, "power_gpu_w") == pytest.approx(500)


def test_energy_goes_by_its_own_time_and_what_did_not_move_is_booked_whole():
    gpu = Gpu()
    gpu.take(sample(200, TENSOR), sample(200, DRAM), sample(150, ENERGY, 1000), sample(200, POWER, 80))
    (still,) = gpu.take(sample(400, TENSOR), sample(400, DRAM), sample(350, ENERGY, 1000), sample(400, POWER, 80))
    (moved,) = gpu.take(sample(600, TENSOR), sample(600, DRAM), sample(550, ENERGY, 41_000), sample(600, POWER, 80))
    assert quality(still, "energy_gpu_j") == Quality.STALE
    assert value(still, "power_gpu_w") == 80
    assert value(moved, "energy_gpu_j") == 40
    assert value(moved, "power_gpu_w") == pytest.approx(40 / 0.4)


def test_a_counter_without_scope_is_not_taken_for_a_gpu_of_a_superchip():
    gpu = Gpu(superchip=True)
    gpu.update(200, f155=600, f156=0)
    (reading,) = gpu.update(400, f155=600, f156=100_000)
    assert quality(reading, "power_gpu_w") == Quality.BLANK
    assert quality(reading, "energy_gpu_j") == Quality.NOT_SUPPORTED
    plain = Gpu()
    (reading,) = plain.update(200, f155=600)
    assert value(reading, "power_gpu_w") == 600, "elsewhere the call without scope stands in"


def test_an_ordinary_sample_that_stands_still_goes_stale():
    gpu = Gpu()
    gpu.update(200, f100=1000)
    known = [gpu.update(at)[-1] for at in (400, 600, 800)]
    assert [value(reading, "sm_clock_mhz") for reading in known] == [1000] * 3
    assert quality(gpu.update(1000)[-1], "sm_clock_mhz") == Quality.STALE


def test_a_sample_of_the_next_interval_is_not_used_for_this_one():
    gpu = Gpu()
    readings = gpu.take(
        *[sample(at, field) for at in (200, 400) for field in (TENSOR, DRAM)],
        sample(210, 150, 40), sample(410, 150, 50),
    )  # fmt: skip
    assert [value(reading, "temp_gpu_c") for reading in readings] == [40, 50]


def test_error_counts_reach_over_a_gap_and_a_reset_is_no_error():
    gpu = Gpu()
    gpu.update(200, f310=5)
    _, after = gpu.update(2000, f310=8)
    assert value(after, "ecc_corrected_count") == 3
    (reset,) = gpu.update(2200, f310=1)
    assert quality(reset, "ecc_corrected_count") == Quality.BLANK
    assert value(gpu.update(2400, f310=2)[0], "ecc_corrected_count") == 1


def test_each_xid_counts_once():
    gpu = Gpu()
    (one,) = gpu.take(sample(200, TENSOR), sample(200, DRAM), sample(150, ids.XID, 31), sample(160, ids.XID, 31))
    (none,) = gpu.update(400)
    assert (value(one, "xid_count"), value(none, "xid_count")) == (2, 0)


@pytest.mark.parametrize(("clock", "words"), [(0, "blank: paused or held"), (BLANK, "reads nothing of it any more")])
@pytest.mark.parametrize(("step_ms", "enough"), [(200, 25), (6000, 3)])
def test_pipe_counters_that_stay_blank_are_told_and_whether_the_gpu_is_lost(clock, words, step_ms, enough):
    gpu = Gpu(period_ns=step_ms * MS)

    def blank(at: int) -> list[str]:
        pipes = [sample(at, field, math.nan, BLANK) for field in (TENSOR, DRAM)]
        gpu.take(*pipes, sample(at, CLOCK, 1000, clock))
        return [line for line in gpu.notes.drain() if words in line]

    assert not any(blank(n * step_ms) for n in range(1, enough))
    gpu.update(enough * step_ms, f100=1000)
    assert not any(blank((enough + n) * step_ms) for n in range(1, enough))
    assert blank(2 * enough * step_ms)
    assert not blank((2 * enough + 1) * step_ms), "once"


def test_what_is_blank_for_a_moment_is_no_news_and_for_long_it_is():
    gpu = Gpu()
    gpu.take(sample(200, TENSOR, math.nan, BLANK), sample(200, DRAM))
    gpu.update(400)
    assert not [line for line in gpu.notes.drain() if "tensor" in line]
    for at in range(600, 6000, 200):
        gpu.take(sample(at, TENSOR, math.nan, -3), sample(at, DRAM))
    assert [line for line in gpu.notes.drain() if "tensor_active_frac: DCGM status -3" in line]


def samples_of_an_engine() -> st.SearchStrategy[list[list[Sample]]]:
    """Fetches of any samples, times in ms; of each field in the order of time, as the worker sends them."""
    fields = st.sampled_from([TENSOR, DRAM, CLOCK, ENERGY, 310, 240, ids.XID])
    number = st.floats(0, 1e6) | st.floats(-1, 2)
    one = st.builds(sample, st.integers(0, 5000), fields, number, st.sampled_from([0, 0, 0, BLANK, -6, -3]))
    return st.lists(st.lists(one, max_size=12), max_size=12)


def in_order(fetches: list[list[Sample]]) -> list[list[Sample]]:
    newest: dict[int, int] = {}
    kept: list[list[Sample]] = []
    for fetch in fetches:
        kept.append([])
        for each in sorted(fetch, key=lambda s: s.at_ns):
            if each.at_ns > newest.get(each.field, -1):
                newest[each.field] = each.at_ns
                kept[-1].append(each)
    return kept


@settings(max_examples=150, deadline=None)
@given(samples_of_an_engine(), st.lists(st.integers(0, 3000), max_size=12))
def test_whatever_comes_readings_are_back_to_back_and_no_sample_counts_twice(fetches, pauses):
    gpu, now_ns = Gpu(), 0
    readings: list[Reading] = []
    given_xids = 0
    for i, fetch in enumerate(in_order(fetches)):
        now_ns = max([now_ns, *(s.at_ns for s in fetch)]) + (pauses[i] if i < len(pauses) else 0) * MS
        gpu.made.take(fetch, fetched_ns=now_ns)
        given_xids += sum(s.field == ids.XID and s.answer[0] == ids.OK and s.answer[1] > 0 for s in fetch)
        readings += gpu.made.readings(Quality.STALE)
        late = gpu.made.overdue(now_ns, Quality.ERROR)
        readings += [late] if late else []
    assert all(reading.start_ns < reading.end_ns <= now_ns for reading in readings)
    ends = [0, *(reading.end_ns for reading in readings)]
    assert [reading.start_ns for reading in readings] == ends[:-1]
    assert all(math.isnan(v) == (q != Quality.OK) for r in readings for v, q in zip(r.values, r.quality, strict=True))
    counted = sum(r.values[INDEX["xid_count"]] for r in readings if r.quality[INDEX["xid_count"]] == Quality.OK)
    assert counted <= given_xids
    shares = [r.values[i] for r in readings for i, field in enumerate(FIELDS) if "throttle" in field.name]
    assert all(math.isnan(share) or 0 <= share <= 1 for share in shares)
    assert all(reading.end_ns - reading.start_ns <= 1.75 * PERIOD for reading in readings if any_known(reading))


def any_known(reading: Reading) -> bool:
    return Quality.OK in reading.quality


def fetch(at_s: float, wall_s: float) -> Samples:
    return Samples(fetched_ns=round(at_s * S), wall_ns=round(wall_s * S), cpu_s=0, rss_bytes=0, values=[])


def placed(axis: EngineAxis, at_s: float, wall_s: float, *stamps_s: float) -> list[float]:
    stamps_us = [round(stamp * 1e6) for stamp in stamps_s]
    offset_ns = axis.offset_ns(fetch(at_s, wall_s), stamps_us)
    return [round((stamp_us * 1000 + offset_ns) / S, 3) for stamp_us in stamps_us]


def test_an_engine_here_shares_our_wall_clock():
    axis = EngineAxis(PERIOD)
    assert placed(axis, 100, 1_000_100, 1_000_099.7, 1_000_099.9) == [99.7, 99.9]
    assert placed(axis, 160, 1_000_160, 1_000_128.5) == [128.5], "an old sample of an engine that was stopped"
    assert axis.other_clock_s is None


@pytest.mark.parametrize("ahead_s", [-3600.0, 40.0])
def test_the_clock_of_another_machine_is_told_by_the_fastest_sample(ahead_s):
    axis = EngineAxis(PERIOD)
    placed(axis, 10.0, 1010.0, 1009.8 + ahead_s)
    assert axis.other_clock_s == pytest.approx(ahead_s, abs=0.3)
    placed(axis, 10.2, 1010.2, 1010.15 + ahead_s)
    assert placed(axis, 10.4, 1010.4, 1010.2 + ahead_s) == [10.25], "0.2 s old, of which 0.15 s are seen"


@pytest.mark.parametrize("ahead_s", [-1.5, -1.0, 1.5])
def test_a_clock_that_is_a_little_off_is_another_one_after_a_few_samples(ahead_s):
    axis = EngineAxis(PERIOD)
    for n in range(4):
        placed(axis, 10 + 0.2 * n, 1010 + 0.2 * n, 1009.9 + 0.2 * n + ahead_s)
    assert axis.other_clock_s is None
    assert placed(axis, 10.8, 1010.8, 1010.7 + ahead_s) == [10.8]
    assert axis.other_clock_s == pytest.approx(ahead_s, abs=0.2)


@pytest.mark.parametrize("age_s", [0.1, 30.0, 60.0])
def test_a_sample_may_be_as_old_as_the_period_is_long(age_s):
    axis = EngineAxis(60 * S)
    for n in range(6):
        assert placed(axis, 100 + 60 * n, 1100 + 60 * n, 1100 + 60 * n - age_s) == [100 + 60 * n - age_s]
    assert axis.other_clock_s is None


def test_a_wall_clock_that_is_set_moves_no_later_sample():
    axis = EngineAxis(PERIOD)
    placed(axis, 10.0, 1010.0, 1009.9)
    placed(axis, 10.2, 910.2, 1010.1)
    assert placed(axis, 10.4, 910.4, 910.3) == [10.3]
    placed(axis, 10.6, 5010.6, 910.5)
    assert placed(axis, 10.8, 5010.8, 5010.7) == [10.7]
    assert axis.other_clock_s is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 400)), max_size=30))
def test_steps_of_the_wall_clock_make_no_negative_and_no_overlapping_interval(steps):
    """Every fifth of a second a sample, some ms old; before some fetches somebody sets the clock by seconds."""
    axis, gpu, wall_s, readings = EngineAxis(PERIOD), Gpu(), 1_000_000.0, list[Reading]()
    for i, (step_s, age_ms) in enumerate(steps):
        at_ns = (i + 1) * PERIOD
        stamp_us = round((wall_s + (at_ns - age_ms * MS) / S) * 1e6)
        wall_s += step_s if step_s % 5 == 0 else 0
        fetched = fetch(at_ns / S, wall_s + at_ns / S)
        placed_ns = min(stamp_us * 1000 + axis.offset_ns(fetched, [stamp_us]), at_ns)
        samples = [Sample(placed_ns, field, (ids.OK, 0.5)) for field in (TENSOR, DRAM)]
        gpu.made.take(samples, fetched_ns=at_ns)
        readings += gpu.made.readings(Quality.STALE)
        late = gpu.made.overdue(at_ns, Quality.STALE)
        readings += [late] if late else []
    ends = [0, *(reading.end_ns for reading in readings)]
    assert [reading.start_ns for reading in readings] == ends[:-1]
    assert all(reading.end_ns > reading.start_ns for reading in readings)
