"""GPM pairs: intervals, averages, traps of the ids, failures and their bridging. On the fake library."""

import itertools

import pytest

from tests.fakes.build import FakeNvml, fake_nvml

__all__ = ["fake_nvml"]

RUN = "c = FakeClock(); s = open_gpm(c); out = run(s, c, {n}, {period}); emit([out, s.notes()])"


def readings(fake: FakeNvml, script: str = "h200_llm", n: int = 2, period: float = 0.2, **options):
    return fake.run(RUN.format(n=n, period=period), script, **options)


def test_the_first_read_is_the_base_line_and_intervals_join(fake_nvml):
    out, _ = readings(fake_nvml, n=3)
    assert [r["t"] for r in out] == [pytest.approx([0.2 * k, 0.2 * (k + 1)]) for k in range(3)]


def test_percent_mib_and_the_order_of_rx_and_tx(fake_nvml):
    extra = "\n".join(f"series * gpm.{i} 0 {v}" for i, v in ((20, 1), (21, 2), (60, 3), (61, 4), (100, 5), (101, 6)))
    out, _ = readings(fake_nvml, extra=extra + "\nseries * gpm.5 0 54")
    values = out[0]["v"]
    assert values["tensor_active_frac"] == pytest.approx(0.54)
    mib = 1048576
    expected = {"pcie_tx": 1, "pcie_rx": 2, "nvlink_rx": 3, "nvlink_tx": 4, "c2c_tx": 5, "c2c_rx": 6}
    assert {k: values[f"{k}_bytes_s"] / mib for k in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("metric", "field"),
    [
        (1, "engine_active_frac"), (2, "sm_active_frac"), (3, "sm_occupancy_frac"), (4, "integer_active_frac"),
        (5, "tensor_active_frac"), (6, "tensor_dfma_active_frac"), (7, "tensor_hmma_active_frac"),
        (8, "tensor_dmma_active_frac"), (9, "tensor_imma_active_frac"), (10, "dram_active_frac"),
        (11, "fp64_active_frac"), (12, "fp32_active_frac"), (13, "fp16_active_frac"),
    ],
)  # fmt: skip
def test_ids_of_the_pipe_metrics(metric, field):
    from satscore.counters.nvml_ids import GPM_METRICS, PERCENT

    assert [(m.field, m.scale) for m in GPM_METRICS if m.id == metric] == [(field, PERCENT)]


def test_a_pair_means_over_the_whole_of_its_time(fake_nvml):
    out, _ = readings(fake_nvml, n=3, extra="series * gpm.5 0 0 0.1 100 0.5 20")
    assert [r["v"]["tensor_active_frac"] for r in out] == pytest.approx([0.5, 1.0, 0.6])


def test_a_read_that_comes_too_early_keeps_the_older_base(fake_nvml, tmp_path):
    log = tmp_path / "calls"
    code = """
c = FakeClock(); s = open_gpm(c); out = []
for pause in (0, 0.05, 0.05, 0.1, 0.104, 0.2, 0.01):
    c.sleep(pause); out.append([as_dict(r)["t"] for r in s.read()])
emit(out)
"""
    out = fake_nvml.run(code, log=log)
    expected = [[], [], [], [[0.0, 0.2]], [], [[0.2, 0.504]], []]
    assert out == [[pytest.approx(t) for t in row] for row in expected]
    times = [t for t, name, _ in fake_nvml.calls(log) if name == "nvmlGpmSampleGet"]
    assert min(b - a for a, b in itertools.pairwise(times)) >= 0.105


def test_a_late_first_read_starts_there_and_not_at_open(fake_nvml):
    out = fake_nvml.run("c = FakeClock(); s = open_gpm(c); c.sleep(10); emit(run(s, c, 1))")
    assert out[0]["t"] == pytest.approx([10.0, 10.2])
    assert out[0]["v"]["energy_gpu_j"] == pytest.approx(131, abs=0.01)


def test_nan_and_impossible_numbers_are_unknown(fake_nvml):
    extra = (
        "series * gpm.5 0 nan\nseries * gpm.10 0 106\nseries * gpm.2 0 -1\nseries * gpm.1 0 104\nseries * gpm.60 0 1e9"
    )
    out, notes = readings(fake_nvml, extra=extra)
    assert out[0]["q"]["tensor_active_frac"] == "BLANK"
    assert [out[0]["q"][f] for f in ("dram_active_frac", "sm_active_frac", "nvlink_rx_bytes_s")] == ["OUT_OF_RANGE"] * 3
    assert out[0]["v"]["engine_active_frac"] == pytest.approx(1.04)  # never clipped
    assert any("cannot be true" in n and "dram_active_frac" in n for n in notes)


def test_a_metric_of_its_own_error_leaves_the_others(fake_nvml):
    out, notes = readings(fake_nvml, extra="metric_error 10 999 from 0.3 until 0.5\nmetric_error 9 2", n=3)
    assert [r["q"].get("dram_active_frac") for r in out] == [None, "ERROR", None]
    assert all(r["q"]["tensor_imma_active_frac"] == "NOT_SUPPORTED" for r in out)
    assert sum("dram_active_frac" in n for n in notes) == 1


@pytest.mark.parametrize("call", ["nvmlGpmSampleGet", "nvmlGpmMetricsGet"])
def test_a_failed_pair_is_covered_by_the_next_good_one(fake_nvml, call):
    extra = f"error {call} 999 from 0.3 until 0.5\nseries * gpm.5 0 10 0.3 90"
    out, _ = readings(fake_nvml, extra=extra, n=4)
    assert [r["t"] for r in out] == [pytest.approx(t) for t in ([0, 0.2], [0.2, 0.6], [0.6, 0.8])]
    assert out[1]["v"]["tensor_active_frac"] == pytest.approx((0.1 * 10 + 0.3 * 90) / 40)
    assert out[1]["v"]["energy_gpu_j"] == pytest.approx(262, abs=0.01)
    assert out[1]["v"]["throttle_power_frac"] == pytest.approx(0.3)


def test_a_lasting_failure_is_stated_with_its_reason_and_ends(fake_nvml):
    out, notes = readings(fake_nvml, extra="error nvmlGpmSampleGet 4 from 0.3 until 1.5", n=10)
    flat = [x for r in out for x in r["t"]]
    assert flat == sorted(flat)
    assert flat[0] == 0
    assert all(a["t"][1] == b["t"][0] for a, b in itertools.pairwise(out))
    reasons = [r["q"].get("tensor_active_frac") for r in out]
    assert reasons == [None, *["NO_PERMISSION"] * 4, "BLANK", None, None]  # BLANK: the new start is taken
    assert out[1]["t"] == pytest.approx([0.2, 0.8])
    assert all("sm_clock_mhz" in r["v"] and "energy_gpu_j" in r["v"] for r in out)
    assert sum("no permission" in n for n in notes) == 1


def test_a_pair_that_refuses_every_metric_ends_none_of_them(fake_nvml):
    every = "\n".join(f"metric_error {i} 3 until 0.25" for i in (*range(1, 14), 20, 21, 60, 61, 100, 101))
    out, _ = readings(fake_nvml, extra=every)
    assert out[0]["q"]["tensor_active_frac"] == "NOT_SUPPORTED"
    assert out[1]["v"]["tensor_active_frac"] == pytest.approx(0.54)


def test_metrics_refused_for_good_are_not_asked_again(fake_nvml, tmp_path):
    log = tmp_path / "calls"
    out, notes = readings(fake_nvml, extra="error nvmlGpmMetricsGet 3 from 0.3", n=8, log=log)
    names = [name for t, name, _ in fake_nvml.calls(log) if t > 0.3]
    assert names.count("nvmlGpmMetricsGet") == 1
    assert "nvmlGpmSampleGet" not in [name for t, name, _ in fake_nvml.calls(log) if t > 0.5]
    assert [r["q"].get("tensor_active_frac") for r in out] == [None, *["NOT_SUPPORTED"] * 7]
    assert len([n for n in notes if "tensor_active_frac" in n]) == 1


def test_a_driver_that_refuses_the_call_for_new_ids_still_gives_the_old_ones(fake_nvml):
    out, _ = readings(fake_nvml, "gh200", extra="gpus 1\nmax_metric 99")
    assert all(r["q"]["c2c_tx_bytes_s"] == "NOT_SUPPORTED" for r in out)
    assert all("tensor_active_frac" in r["v"] for r in out)


def test_a_gpu_lost_mid_run_leaves_the_others_and_may_come_back(fake_nvml, tmp_path):
    log = tmp_path / "calls"
    out, notes = readings(fake_nvml, "gh200", extra="lost 15 from 0.5 until 5 gpu 1", n=80, log=log)
    mine = [r for r in out if r["gpu"] == 1]
    lost = [r for r in mine if r["q"].get("power_gpu_w") == "GPU_LOST"]
    assert len([r for r in out if r["gpu"] == 0]) == 80
    assert all("tensor_active_frac" in r["v"] for r in out if r["gpu"] != 1)
    assert all(not r["v"] and set(r["q"].values()) == {"GPU_LOST"} for r in lost)
    assert all(a["t"][1] == b["t"][0] for a, b in itertools.pairwise(mine))
    assert "tensor_active_frac" in mine[-1]["v"]
    assert sum("lost" in n for n in notes) == 1
    assert sum("answers again" in n for n in notes) == 1
    quiet = [name for t, name, gpu in fake_nvml.calls(log) if gpu == 1 and 0.7 < t < 10]
    assert quiet == []


def test_a_slow_call_gives_a_longer_interval_and_no_early_sample(fake_nvml, tmp_path):
    log = tmp_path / "calls"
    code = """
import time
s = open_gpm(MonotonicClock()); out = []
end = time.monotonic() + 1.2
while time.monotonic() < end:
    out += [as_dict(r) for r in s.read()]; time.sleep(0.02)
emit(out)
"""
    out = fake_nvml.run(code, log=log, extra="slow nvmlGpmSampleGet 150 from 0.3 until 0.6")
    times = [t for t, name, _ in fake_nvml.calls(log) if name == "nvmlGpmSampleGet"]
    assert min(b - a for a, b in itertools.pairwise(times)) >= 0.1049
    assert all(a["t"][1] == b["t"][0] for a, b in itertools.pairwise(out))
    assert max(r["t"][1] - r["t"][0] for r in out) > 0.15


def test_with_mig_pipe_fields_are_unknown_and_the_others_go_on(fake_nvml):
    out, notes = readings(fake_nvml, "gh200", extra="gpus 2\nset 1 mig 1")
    assert all("tensor_active_frac" in r["v"] for r in out if r["gpu"] == 0)
    assert all(r["q"]["tensor_active_frac"] == "NOT_SUPPORTED" for r in out if r["gpu"] == 1)
    assert all("power_gpu_w" in r["v"] for r in out)
    assert any("MIG" in n and "GPU 1" in n for n in notes)


def test_nothing_after_close(fake_nvml):
    code = "c = FakeClock(); s = open_gpm(c); s.read(); s.close(); s.close(); c.sleep(1); emit([s.read(), s.read()])"
    assert fake_nvml.run(code) == [[], []]


def test_struct_layouts_are_those_of_the_binding():
    import ctypes

    import pynvml

    from satscore.counters import gpm, nvml_api, nvml_events

    assert ctypes.sizeof(pynvml.c_nvmlFieldValue_t) == nvml_api._FIELD.size
    assert ctypes.sizeof(pynvml.c_nvmlEventData_t) == nvml_events._EVENT.size
    assert ctypes.sizeof(pynvml.c_nvmlGpmMetric_t) == gpm._METRIC.size
    assert pynvml.c_nvmlGpmMetricsGet_t.metrics.offset == gpm._HEAD.size
    assert ctypes.sizeof(pynvml.c_nvmlGpmMetricsGet_t) <= gpm._STRUCT_BYTES
    assert ctypes.sizeof(pynvml.c_nvmlMemory_v2_t) == 5 * ctypes.sizeof(ctypes.c_ulonglong)
    assert ctypes.sizeof(pynvml.c_nvmlTemperature_v1_t) == 3 * ctypes.sizeof(ctypes.c_uint)
    assert ctypes.sizeof(pynvml.c_nvmlUtilization_t) == 2 * ctypes.sizeof(ctypes.c_uint)
