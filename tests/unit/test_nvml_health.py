"""Links, rows of the memory and limits of temperature, on the fake library."""

from typing import Any

import pytest

from tests.fakes.build import FakeNvml, fake_nvml

__all__ = ["fake_nvml"]

RUN = "c = FakeClock(); s = open_gpm(c); out = run(s, c, {n}, {period}); emit([out, s.notes()])"
FACTS = "import msgspec; emit(msgspec.to_builtins(open_nvml(FakeClock()).gpus[0]))"


def readings(fake: FakeNvml, n: int = 10, period: float = 0.2, script: str = "h200_llm", **options: Any) -> Any:
    return fake.run(RUN.format(n=n, period=period), script, **options)


def facts(fake: FakeNvml, extra: str = "", script: str = "h200_llm", **options: Any) -> Any:
    return fake.run(FACTS, script, extra=extra, **options)


def values(out: Any, field: str) -> list[float]:
    """Return the known values of a field, in order of time."""
    return [reading["v"][field] for reading in out if field in reading["v"]]


# --- what is asked once


@pytest.mark.parametrize(("extra", "expected"), [
    ("", (5, 16)),
    ("set * pcie_generation_max 4\nset * pcie_lanes_max 8", (4, 8)),
    ("set * pcie_lanes_max 0", (5, None)),
    ("set * pcie_lanes_max 4294967295\nset * pcie_generation_max 255", (None, None)),
    ("error nvmlDeviceGetMaxPcieLinkGeneration 3", (None, 16)),
])  # fmt: skip
def test_the_best_that_gpu_and_slot_support(fake_nvml, extra, expected):
    found = facts(fake_nvml, extra)
    assert (found["pcie_generation_max"], found["pcie_lanes_max_count"]) == expected


@pytest.mark.parametrize(("extra", "expected"), [
    ("set * slowdown 92", 92),
    ("series * margin 0 20\nseries * temp 0 66\nseries * field.194.0 0 -2", 88),
    ("series * margin 0 -4\nseries * temp 0 90\nseries * field.194.0 0 -3", 89),
    ("set * slowdown 4294967295", 89),  # no answer: by the margin
    ("set * slowdown 400", None),
    ("field_error 194 0 3", None),
    ("error nvmlDeviceGetMarginTemperature 3", None),
    ("error nvmlDeviceGetTemperature 999", None),
    ("series * margin 0 2000", None),
])  # fmt: skip
def test_the_temperature_of_slowdown_as_such_or_by_margins(fake_nvml, extra, expected):
    assert facts(fake_nvml, extra)["temp_slowdown_c"] == expected


@pytest.mark.parametrize(("script", "extra", "expected"), [
    ("gh200", "", True),
    ("h200_llm", "", False),
    ("h200_llm", "error nvmlDeviceGetNumaNodeId 999", None),
    ("h200_llm", "error nvmlDeviceGetNumaNodeId 13", None),
])  # fmt: skip
def test_memory_of_the_operating_system_is_that_of_a_numa_node(fake_nvml, script, extra, expected):
    assert facts(fake_nvml, extra, script)["has_os_memory"] is expected


def test_rows_that_were_remapped_before_the_run(fake_nvml):
    extra = "series * field.142.0 0 3\nseries * field.143.0 0 2\nseries * field.144.0 0 1\nseries * field.145.0 0 1"
    found = facts(fake_nvml, extra)
    assert (found["remapped_rows_count"], found["remap_pending"], found["remap_failed"]) == (5, True, True)
    unknown = facts(fake_nvml, "field_error 142 0 3\nfield_error 144 0 3\nfield_error 145 0 3")
    assert all(unknown[f] is None for f in ("remapped_rows_count", "remap_pending", "remap_failed"))


# --- PCIe in force


def test_the_pcie_link_stands_only_in_the_reading_at_whose_end_it_was_asked(fake_nvml):
    extra = "series * pcie.generation 0 5 0.9 1 1.9 5\nseries * pcie.lanes 0 16 1.9 8"
    out, _ = readings(fake_nvml, n=11, extra=extra)
    assert [r["v"].get("pcie_generation") for r in out] == [*[None] * 4, 1, *[None] * 4, 5, None]
    assert [r["v"].get("pcie_lanes_count") for r in out] == [*[None] * 4, 16, *[None] * 4, 8, None]
    assert out[0]["q"]["pcie_lanes_count"] == "NOT_READ"


@pytest.mark.parametrize("value", ["0", "4294967295", "33"])
def test_an_impossible_pcie_link_is_unknown(fake_nvml, value):
    out, _ = readings(fake_nvml, extra=f"series * pcie.lanes 0 {value}\nseries * pcie.generation 0 {value}")
    assert out[4]["q"]["pcie_lanes_count"] == out[4]["q"]["pcie_generation"] == "OUT_OF_RANGE"


# --- every ten seconds


def test_health_is_asked_every_ten_seconds_by_one_call(fake_nvml, tmp_path):
    log = tmp_path / "calls"
    out, notes = readings(fake_nvml, n=41, period=0.5, log=log)
    assert [i for i, r in enumerate(out) if "nvlink_active_count" in r["v"]] == [19, 39]
    fields = [t for t, name, _ in fake_nvml.calls(log) if name == "nvmlDeviceGetFieldValues" and t > 0]
    assert len(fields) == 41 + 20 + 2  # every tick, every second, every ten seconds
    assert "nvmlDeviceGetNvLinkState" not in {name for _, name, _ in fake_nvml.calls(log)}
    assert values(out, "nvlink_active_count") == [18, 18]
    assert notes == []


@pytest.mark.parametrize(("extra", "active"), [
    ("series * nvlink.7 0 0", 17),
    ("series * nvlink.7 0 2", 18),  # asleep
    ("series * nvlink.7 0 1 5 0", 17),
])  # fmt: skip
def test_active_connections(fake_nvml, extra, active):
    out, _ = readings(fake_nvml, n=11, period=1.0, extra=extra)
    assert values(out, "nvlink_active_count") == [active]


def test_a_connection_that_does_not_answer_leaves_their_number_unknown(fake_nvml):
    out, notes = readings(fake_nvml, n=21, period=1.0, extra="field_error 165 7 999 from 15")
    assert values(out, "nvlink_active_count") == [18]
    assert out[19]["q"]["nvlink_active_count"] == "ERROR"
    assert any("nvlink_active_count" in note for note in notes)


def test_connections_that_a_board_does_not_wire_are_not_there(fake_nvml):
    extra = "\n".join(f"field_error 165 {link} 3" for link in range(12, 18))
    assert facts(fake_nvml, extra)["nvlink_count"] == 12
    assert values(readings(fake_nvml, n=11, period=1.0, extra=extra)[0], "nvlink_active_count") == [12]


@pytest.mark.parametrize("extra", ["field_error 91 0 3", "set * nvlinks 0", "field_error 91 0 2"])
def test_a_board_without_nvlink_is_no_news(fake_nvml, extra):
    assert facts(fake_nvml, extra)["nvlink_count"] == 0
    out, notes = readings(fake_nvml, n=11, period=1.0, extra=extra)
    assert out[9]["q"]["nvlink_active_count"] == out[9]["q"]["nvlink_error_count"] == "NOT_SUPPORTED"
    assert notes == []


@pytest.mark.parametrize("count", ["4294967295", "65"])
def test_a_number_of_connections_that_cannot_be_is_unknown(fake_nvml, count):
    assert facts(fake_nvml, f"set * nvlinks {count}")["nvlink_count"] is None


def test_before_hopper_each_connection_has_a_call(fake_nvml, tmp_path):
    log = tmp_path / "calls"
    code = "c = FakeClock(); s = open_nvml(c); emit([run(s, c, 21, 1.0), [g.nvlink_count for g in s.gpus]])"
    out, count = fake_nvml.run(code, "a100", extra="series * nvlink.3 0 1 15 0", log=log)
    assert count == [12]
    assert values(out, "nvlink_active_count") == [12, 11]
    calls = [name for t, name, _ in fake_nvml.calls(log) if t > 0 and name == "nvmlDeviceGetNvLinkState"]
    assert len(calls) == 2 * 12


def test_errors_of_links_and_rows_are_differences(fake_nvml):
    extra = "series * field.38.0 0 5 5 6 15 9\nseries * field.52.0 0 7 15 8\nseries * field.94.0 0 100 5 103 15 1"
    extra += "\nseries * field.142.0 0 1 5 2\nseries * field.143.0 0 4 5 6"
    out, _ = readings(fake_nvml, n=21, period=1.0, extra=extra)
    assert values(out, "nvlink_error_count") == [1, 4]
    assert values(out, "remapped_rows_count") == [3, 0]
    assert values(out, "pcie_replay_count") == [3]
    assert out[19]["q"]["pcie_replay_count"] == "BLANK"  # it went back: a reset
    assert out[0]["q"]["nvlink_error_count"] == "NOT_READ"


def test_without_totals_the_errors_of_each_connection_count(fake_nvml):
    extra = "\n".join(f"field_error {field} 0 3" for field in (38, 45, 52, 59))
    extra += "".join(f"\nseries * field.{f}.{link} 0 0" for f in (161, 162, 163) for link in range(18))
    extra += "\nseries * field.161.4 0 0 5 2\nseries * field.163.17 0 1 5 4"
    out, _ = readings(fake_nvml, n=11, period=1.0, extra=extra)
    assert values(out, "nvlink_error_count") == [5]


def test_a_failed_read_is_covered_by_the_next(fake_nvml):
    extra = "series * field.38.0 0 0 5 3 25 4\nfield_error 38 0 999 from 9 until 11"
    out, _ = readings(fake_nvml, n=21, period=1.0, extra=extra)
    assert values(out, "nvlink_error_count") == [0, 3]  # the other totals are known: 0, then all


def test_the_plain_call_stands_in_for_the_field_of_replays(fake_nvml):
    extra = "field_error 94 0 3\nseries * field.94.0 0 4 5 6"
    assert values(readings(fake_nvml, n=11, period=1.0, extra=extra)[0], "pcie_replay_count") == [2]


def test_a_lost_gpu_starts_anew(fake_nvml):
    extra = "lost 15 from 4 until 6\nseries * field.94.0 0 4 5 9 20 11"
    out, _ = readings(fake_nvml, n=30, period=1.0, extra=extra)
    assert values(out, "pcie_replay_count") == [2]  # what was counted while nobody could ask is not ours


# --- power of the CPU


def test_the_power_of_the_cpu_is_told_by_somebody_else(fake_nvml):
    code = """
c = FakeClock(); s = open_gpm(c); told = {0: 95.0, 1: None, 2: 1e9, 3: 110.0}
s.use_cpu_power(lambda gpu: told[gpu])
emit(run(s, c, 10))
"""
    out = fake_nvml.run(code, "gh200")
    last = {r["gpu"]: r for r in out}
    assert last[0]["v"]["power_cpu_w"] == 95.0
    assert last[3]["v"]["power_cpu_w"] == 110.0
    assert last[1]["q"]["power_cpu_w"] == "BLANK"
    assert last[2]["q"]["power_cpu_w"] == "OUT_OF_RANGE"


def test_without_a_teller_or_a_module_there_is_no_power_of_a_cpu(fake_nvml):
    assert readings(fake_nvml, script="gh200")[0][-1]["q"]["power_cpu_w"] == "NOT_READ"
    out, notes = readings(fake_nvml)
    assert out[-1]["q"]["power_cpu_w"] == "NOT_SUPPORTED"
    assert notes == []


def test_a_teller_that_fails_costs_its_reading_and_no_run(fake_nvml):
    code = """
c = FakeClock(); s = open_gpm(c)
def broken(gpu): raise RuntimeError("boom")
s.use_cpu_power(broken)
out = run(s, c, 12); s.use_cpu_power(lambda gpu: 80.0)
emit([out, run_on(s, c, 12), s.notes()])
""".replace("run_on(s, c, 12)", "[as_dict(r) for _ in range(12) for r in (c.sleep(0.2), s.read())[1]]")
    _, later, notes = fake_nvml.run(code, "gh200", extra="gpus 1")
    assert later[-1]["v"]["power_cpu_w"] == 80.0
    assert any("boom" in note for note in notes)
