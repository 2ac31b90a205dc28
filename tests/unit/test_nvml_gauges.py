"""Clocks, power scopes, energy, throttle times and slow values, on the fake library."""

import pytest

from tests.fakes.build import FakeNvml, fake_nvml

__all__ = ["fake_nvml"]

RUN = "c = FakeClock(); s = open_nvml(c); out = run(s, c, {n}, {period}); emit([out, s.notes(), s.labels()])"


def readings(fake: FakeNvml, script: str = "h200_llm", n: int = 2, period: float = 0.2, **options):
    return fake.run(RUN.format(n=n, period=period), script, **options)


def test_gauges_only_say_that_there_is_no_score(fake_nvml):
    out, notes, _ = readings(fake_nvml)
    assert out[0]["q"]["tensor_active_frac"] == "NOT_READ"
    assert any("no score" in n and "--source gpm" in n for n in notes)
    assert fake_nvml.run("s = open_nvml(FakeClock()); emit([s.name, s.kind, s.has_pipe_counters])") == [
        "nvml", "measured", False,
    ]  # fmt: skip


def test_a_clock_is_the_mean_of_both_ends_and_one_end_will_do(fake_nvml):
    extra = "series * clock.1 0 1000 0.1 1200 0.3 0 0.5 1300"
    out, _, _ = readings(fake_nvml, n=4, extra=extra)
    assert [r["v"].get("sm_clock_mhz") for r in out] == [1100, 1200, 1300, 1300]


@pytest.mark.parametrize("value", ["0", "20001"])
def test_an_impossible_clock_is_unknown(fake_nvml, value):
    out, _, _ = readings(fake_nvml, extra=f"series * clock.1 0 {value}")
    assert out[0]["q"]["sm_clock_mhz"] == "OUT_OF_RANGE"


def test_the_memory_clock_of_a_gddr_part_is_not_impossible(fake_nvml):
    out, _, _ = readings(fake_nvml, extra="series * clock.2 0 10501")
    assert out[0]["v"]["mem_clock_mhz"] == 10501


def test_power_is_from_energy_and_energy_is_exact(fake_nvml):
    out, _, labels = readings(fake_nvml, n=3, extra="series * power.0 0 200 0.1 600")
    assert [r["v"]["energy_gpu_j"] for r in out] == pytest.approx([80, 120, 120])
    assert [r["v"]["power_gpu_w"] for r in out] == pytest.approx([400, 600, 600])
    assert "GPU 0: energy gpu: field 191" in labels


def test_without_energy_power_is_the_mean_of_the_ends(fake_nvml):
    extra = "series * power.0 0 200 0.1 600\nfield_error 191 0 3\nerror nvmlDeviceGetTotalEnergyConsumption 3"
    out, _, labels = readings(fake_nvml, extra=extra)
    assert [r["v"]["power_gpu_w"] for r in out] == pytest.approx([400, 600])
    assert all(r["q"]["energy_gpu_j"] == "NOT_SUPPORTED" for r in out)
    assert "GPU 0: power gpu: field 186" in labels


def test_both_scopes_of_a_module_stand_apart(fake_nvml):
    out, _, labels = readings(fake_nvml, "gh200", extra="gpus 1")
    v = out[0]["v"]
    assert (v["power_gpu_w"], v["power_module_w"]) == pytest.approx((520, 640))
    assert (v["energy_gpu_j"], v["energy_module_j"]) == pytest.approx((104, 128))
    assert (v["power_limit_gpu_w"], v["power_limit_module_w"]) == (900, 660)
    assert labels == [
        f"GPU 0: {w} {s}: field {i}" for w, i in (("power", 186), ("energy", 191)) for s in ("gpu", "module")
    ]


def test_a_refused_gpu_scope_of_a_module_is_unknown_and_not_the_module(fake_nvml):
    extra = "gpus 1\nfield_error 186 0 3\nfield_error 185 0 3\nfield_error 191 0 3"
    out, notes, _ = readings(fake_nvml, "gh200", extra=extra)
    assert out[0]["q"]["power_gpu_w"] == out[0]["q"]["energy_gpu_j"] == "NOT_SUPPORTED"
    assert out[0]["v"]["power_module_w"] == pytest.approx(640)
    assert any("refuses the GPU scope" in n for n in notes)


def test_an_energy_counter_without_scope_is_not_attributed_on_a_module(fake_nvml):
    extra = "gpus 1\nfield_error 191 0 3\nfield_error 191 1 3"
    out, notes, _ = readings(fake_nvml, "gh200", extra=extra)
    assert out[0]["q"]["energy_gpu_j"] == out[0]["q"]["energy_module_j"] == "NOT_SUPPORTED"
    assert out[0]["v"]["power_gpu_w"] == pytest.approx(520)
    assert any("no scope" in n for n in notes)


def test_one_energy_counter_under_two_scopes_is_not_used_on_a_module(fake_nvml):
    extra = "gpus 1\nseries * field.191.0 0 777000\nseries * field.191.1 0 777000"
    out, notes, _ = readings(fake_nvml, "gh200", extra=extra)
    assert out[0]["q"]["energy_gpu_j"] == out[0]["q"]["energy_module_j"] == "NOT_SUPPORTED"
    assert any("one counter for GPU and module" in n for n in notes)


def test_an_old_gpu_uses_the_plain_calls(fake_nvml):
    out, _, labels = readings(fake_nvml, "a100")
    assert labels[:1] + labels[2:3] == ["GPU 0: power gpu: PowerUsage", "GPU 0: energy gpu: TotalEnergyConsumption"]
    assert out[0]["v"]["power_gpu_w"] == pytest.approx(380)
    assert out[0]["v"]["energy_gpu_j"] == pytest.approx(76)
    assert out[0]["v"]["power_limit_gpu_w"] == 400


def test_average_power_stands_in_for_instant(fake_nvml):
    extra = "field_error 186 0 3\nfield_error 191 0 3\nerror nvmlDeviceGetTotalEnergyConsumption 3"
    out, _, labels = readings(fake_nvml, extra=extra)
    assert out[0]["v"]["power_gpu_w"] == 650
    assert labels[0] == "GPU 0: power gpu: field 185"


def test_a_counter_that_stands_still_is_stale_and_the_gauge_counts(fake_nvml):
    out, _, _ = readings(fake_nvml, extra="freeze energy")
    assert all(r["q"]["energy_gpu_j"] == "STALE" for r in out)
    assert all(r["v"]["power_gpu_w"] == 655 for r in out)


def test_a_counter_that_moves_late_is_booked_once_whole(fake_nvml):
    extra = "series * field.191.0 0 1000000 0.5 1131000 0.9 1262000"
    out, _, _ = readings(fake_nvml, extra=extra, n=5)
    assert [r["v"].get("energy_gpu_j") for r in out] == [None, None, 131, None, 131]
    assert out[2]["v"]["power_gpu_w"] == pytest.approx(131 / 0.6)


def test_a_counter_that_goes_back_has_no_value_for_one_interval(fake_nvml):
    extra = "series * field.191.0 0 9000000 0.1 9131000 0.3 5000 0.5 136000\nseries * field.74.0 0 9e9 0.3 1e9 0.5 11e8"
    out, _, _ = readings(fake_nvml, extra=extra, n=3)
    assert [r["v"].get("energy_gpu_j") for r in out] == [131, None, 131]
    assert out[1]["q"]["energy_gpu_j"] == "BLANK"
    assert [r["v"].get("throttle_power_frac") for r in out] == [0, None, pytest.approx(0.5)]


def test_more_power_than_a_rack_is_unknown(fake_nvml):
    out, _, _ = readings(fake_nvml, extra="series * energy.0 0 9000")
    assert out[0]["q"]["energy_gpu_j"] == "OUT_OF_RANGE"
    assert out[0]["v"]["power_gpu_w"] == 655


@pytest.mark.parametrize(("field", "counter"), [
    ("power", 74), ("thermal", 75), ("sync_boost", 76), ("board", 77), ("app_clocks", 80),
])  # fmt: skip
def test_throttle_shares(fake_nvml, field, counter):
    out, _, _ = readings(fake_nvml, extra=f"series * rate.{counter} 0 0 0.2 0.4 0.4 1.04 0.6 1.2", n=4)
    name = f"throttle_{field}_frac"
    assert [r["v"].get(name) for r in out] == [0, pytest.approx(0.4), 1.0, None]
    assert out[3]["q"][name] == "OUT_OF_RANGE"


@pytest.mark.parametrize(("driver", "thermal", "brake"), [
    ("550.54.15", 252, 253), ("580.65.06", 252, 253), ("590.44.01", 270, 271), ("610.1", 270, 271),
])  # fmt: skip
def test_hardware_throttle_ids_follow_the_driver_branch(fake_nvml, driver, thermal, brake):
    extra = f"driver {driver}\nseries * rate.{thermal} 0 0.1\nseries * rate.{brake} 0 0.3"
    wrong = {252: 270, 270: 252}[thermal]
    extra += f"\nseries * rate.{wrong} 0 0.9\nseries * rate.{wrong + 1} 0 0.9"
    out, _, _ = readings(fake_nvml, extra=extra)
    assert out[0]["v"]["throttle_hw_frac"] == pytest.approx(0.3)


def test_an_unknown_driver_branch_reads_no_hardware_throttle(fake_nvml):
    out, notes, _ = readings(fake_nvml, extra="error nvmlSystemGetDriverVersion 999")
    assert out[0]["q"]["throttle_hw_frac"] == "NOT_READ"
    assert any("driver branch" in n for n in notes)


def test_slow_values_are_asked_once_a_second_and_repeated(fake_nvml, tmp_path):
    log = tmp_path / "calls"
    out, _, _ = readings(fake_nvml, n=10, extra="series * temp 0 60 0.5 70 1.5 80", log=log)
    assert [r["v"]["temp_gpu_c"] for r in out] == [60] * 4 + [70] * 5 + [80]
    names = [name for t, name, _ in fake_nvml.calls(log) if t > 0]
    assert names.count("nvmlDeviceGetTemperature") == names.count("nvmlDeviceGetUtilizationRates") == 2
    v = out[0]["v"]
    assert (v["gpu_util_frac"], v["temp_mem_c"], v["memory_used_bytes"]) == (1.0, 71, 120e9)


def test_error_counts_are_differences_and_stand_only_where_they_were_asked(fake_nvml):
    extra = "series * field.3.0 0 5 0.5 7 1.5 17\nseries * field.4.0 0 1 1.5 0"
    out, _, _ = readings(fake_nvml, n=10, extra=extra)
    assert [r["v"].get("ecc_corrected_count") for r in out] == [*[None] * 4, 2, *[None] * 4, 10]
    assert out[4]["v"]["ecc_uncorrected_count"] == 0
    assert out[9]["q"]["ecc_uncorrected_count"] == "BLANK"
    assert out[0]["q"]["ecc_corrected_count"] == "NOT_READ"


def test_xid_events_are_counted_at_their_gpu_and_named(fake_nvml):
    extra = "gpus 2\nxid 79 from 0.5 gpu 1\nxid 48 from 0.6 gpu 1"
    out, notes, _ = readings(fake_nvml, "gh200", n=10, extra=extra)
    assert sum(r["v"].get("xid_count", 0) for r in out if r["gpu"] == 1) == 2
    assert sum(r["v"].get("xid_count", 0) for r in out if r["gpu"] == 0) == 0
    assert any("GPU 1" in n and "Xid 79" in n for n in notes)


def test_memory_without_the_reserve_or_not_at_all(fake_nvml):
    out, notes, _ = readings(fake_nvml, omit=("nvmlDeviceGetMemoryInfo_v2",))
    assert out[0]["q"]["memory_used_bytes"] == "NOT_SUPPORTED"
    assert any("memory_used_bytes" in n and "no such function" in n for n in notes)


def test_the_newer_temperature_call_stands_in(fake_nvml):
    out, _, _ = readings(fake_nvml, omit=("nvmlDeviceGetTemperature",))
    assert out[0]["v"]["temp_gpu_c"] == 62


def test_missing_symbols_cost_their_fields_only(fake_nvml):
    omit = ("nvmlDeviceGetClockInfo", "nvmlDeviceGetUtilizationRates", "nvmlEventSetCreate", "nvmlDeviceGetFieldValues")
    out, notes, _ = readings(fake_nvml, omit=omit)
    missing = ("sm_clock_mhz", "gpu_util_frac", "xid_count", "throttle_power_frac")
    assert [out[0]["q"][f] for f in missing] == ["NOT_SUPPORTED"] * 4
    assert out[0]["v"]["power_gpu_w"] == pytest.approx(655)
    assert out[0]["v"]["temp_gpu_c"] == 62
    assert sum("no such function" in n for n in notes) == 1


def test_refusals_for_good_are_asked_once_and_others_again(fake_nvml, tmp_path):
    log = tmp_path / "calls"
    extra = "error nvmlDeviceGetClockInfo 3\nerror nvmlDeviceGetUtilizationRates 999"
    out, notes, _ = readings(fake_nvml, n=10, extra=extra, log=log)
    names = [name for _, name, _ in fake_nvml.calls(log)]
    assert names.count("nvmlDeviceGetClockInfo") == 2  # SM and memory clock
    assert names.count("nvmlDeviceGetUtilizationRates") == 3
    assert out[0]["q"]["gpu_util_frac"] == "ERROR"
    assert len(notes) == len(set(notes))


def test_neither_process_lists_nor_slow_queries_in_a_run(fake_nvml, tmp_path):
    log = tmp_path / "calls"
    readings(fake_nvml, n=10, log=log)
    running = {name for t, name, _ in fake_nvml.calls(log) if t > 0}
    assert running == {
        "nvmlDeviceGetFieldValues", "nvmlDeviceGetClockInfo", "nvmlDeviceGetTemperature", "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetUtilizationRates", "nvmlEventSetWait_v2", "nvmlDeviceGetCurrPcieLinkGeneration",
        "nvmlDeviceGetCurrPcieLinkWidth",
    }  # fmt: skip
    fast = [name for t, name, _ in fake_nvml.calls(log) if 0.3 < t < 0.5]
    assert fast == ["nvmlDeviceGetFieldValues", "nvmlDeviceGetClockInfo", "nvmlDeviceGetClockInfo"]


def test_notes_come_once(fake_nvml):
    code = "c = FakeClock(); s = open_nvml(c); run(s, c, 3); a = s.notes(); run(s, c, 3); emit([a, s.notes()])"
    first, second = fake_nvml.run(code)
    assert first
    assert second == []


def test_a_defect_of_ours_costs_one_reading_and_no_run(fake_nvml):
    code = """
c = FakeClock(); s = open_nvml(c); s.read(); c.sleep(0.2)
def broken(): raise RuntimeError("boom")
good, s._devices[0].ticks.poll = s._devices[0].ticks.poll, broken
a = s.read(); assert all(well_formed(r) for r in a)
s._devices[0].ticks.poll = good
c.sleep(0.2); b = s.read()
emit([as_dict(a[0]), as_dict(b[0]), s.notes()])
"""
    broken, good, notes = fake_nvml.run(code)
    assert set(broken["q"].values()) == {"ERROR"}
    assert good["t"] == pytest.approx([0.2, 0.4])
    assert good["v"]["sm_clock_mhz"] == 1755
    assert any("boom" in n for n in notes)
