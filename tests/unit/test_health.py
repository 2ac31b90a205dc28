"""What is said of a GPU's health, and that nothing stays unjudged where everything can be read."""

from typing import Any

import msgspec
import pytest

from satscore.core.fields import Reading
from satscore.core.gpu import GpuInfo
from satscore.core.health import health_lines, health_of, is_well
from satscore.core.placement import GpuLooks, Placement
from satscore.core.readings import table_of
from satscore.core.summary import Summary
from satscore.core.summary_gpu import GpuHealth
from satscore.core.sums import Sums
from satscore.run.results import summarise
from tests.fakes.build import FakeNvml, fake_nvml
from tests.unit.runs import COMMAND, Run, header, simulated
from tests.unit.sim_runs import run_end, run_file, run_start

__all__ = ["fake_nvml"]

BOARD = GpuInfo(
    index=0,
    pcie_generation_max=5,
    pcie_lanes_max_count=16,
    nvlink_count=18,
    remapped_rows_count=2,
    remap_pending=False,
    remap_failed=False,
    temp_slowdown_c=89.0,
)
GOOD = Sums(
    maxima={"temp_gpu_c": 62_000},
    counts=dict.fromkeys(("xid_count", "ecc_uncorrected_count", "pcie_replay_count", "remapped_rows_count"), 0),
    pcie_us={516: 10},
    nvlink_us={18: 10},
    read_us=10,
)


def health(**changes: float) -> GpuHealth:
    """Return the health of a good GPU, with some of it replaced."""
    return msgspec.structs.replace(health_of(BOARD, GOOD, 0), **changes)


def test_a_healthy_gpu_has_nothing_to_say():
    good = health()
    assert is_well(good)
    assert health_lines([("0", good), ("1", good)]) == []
    assert (good.remapped_rows_before_count, good.temp_margin_c, good.pcie_generation) == (2, 27.0, 5)


def test_what_is_not_read_is_unknown_and_no_illness():
    unknown = health_of(GpuInfo(index=0), Sums(), 0)
    values = msgspec.structs.asdict(unknown)
    assert {name for name, value in values.items() if value is not None} == {"foreign_processes_count"}
    assert is_well(unknown)


ILLS = [
    ({"remap_failed": True}, "row remapping failed", "replaced"),
    ({"xid_count": 1}, "1 critical Xid event:", "dmesg"),
    ({"xid_count": 2}, "2 critical Xid events:", "dmesg"),
    ({"ecc_uncorrected_count": 3}, "uncorrected ECC errors: 3 during the run", "report the GPU"),
    ({"remap_pending": True}, "a memory row waits for a reset", "ask the site"),
    ({"remapped_rows_count": 1}, "1 memory row remapped during the run (2 before)", "report it"),
    ({"nvlink_lost_frac": 1 / 18, "nvlink_active_count": 17}, "17 of 18 NVLink connections active", "report the node"),
    ({"pcie_lost_frac": 0.875, "pcie_generation": 3, "pcie_lanes_count": 8}, "PCIe gen 3 x8 of gen 5 x16", "node"),
    ({"temp_margin_c": 2.9}, "3 C below the temperature at which it slows itself down", "cooling"),
    ({"temp_margin_c": -1.0}, "at the temperature at which it slows itself down", "cooling"),
]


@pytest.mark.parametrize(("changes", "what", "remedy"), ILLS)
def test_each_illness_says_what_it_is_and_what_to_do(changes, what, remedy):
    ill = health(**changes)
    assert not is_well(ill)
    (line,) = health_lines([("2", ill)])
    assert line.startswith(f"GPU 2: {what}")
    assert remedy in line


@pytest.mark.parametrize("changes", [{"nvlink_lost_frac": 0.009}, {"pcie_lost_frac": 0.009}, {"temp_margin_c": 3.0}])
def test_a_trace_of_it_is_none(changes):
    assert is_well(health(**changes))


def test_the_gravest_comes_first_and_gpus_share_a_line():
    hot, worn = {"temp_margin_c": 0.0}, {"remap_failed": True}
    lines = health_lines([("0", health(**hot)), ("2", health(**hot, **worn)), ("5", health(**worn))])
    assert [line.partition(":")[0] for line in lines] == ["GPU 2, 5", "GPU 0, 2"]
    assert "replaced" in lines[0]


def test_what_a_finding_tells_is_not_said_again():
    ill = [("0", health(nvlink_lost_frac=0.1, remap_pending=True, temp_margin_c=1.0))]
    assert len(health_lines(ill)) == 3
    (line,) = health_lines(ill, told=["LINK_DEGRADED", "THERMAL"])
    assert line.startswith("GPU 0: a memory row waits")


def test_many_gpus_are_counted():
    (line,) = health_lines([(str(i), health(remap_pending=True)) for i in range(11)])
    assert line.startswith("GPU 0, 1, 2, 3, 4, 5, 6, 7 and 3 more: ")


# --- in the summary


def all_health(summary: Summary) -> list[GpuHealth]:
    return [gpu.health for rank in summary.ranks for gpu in rank.gpus]


def test_the_summary_tells_the_health_of_each_gpu():
    sick = all_health(simulated("sim:lost-nvlink", 20).summary())
    assert [one.nvlink_active_count for one in sick] == [17, 18, 18, 18]
    assert [bool(health_lines([("0", one)])) for one in sick] == [True, False, False, False]
    module = simulated("sim:gh200-cpu", 20).summary()
    assert module.job.rates.power_cpu_w == pytest.approx(90.0)  # 10 s of 60 W, 10 s of 120 W


def test_the_notes_of_a_run_tell_what_no_finding_does():
    run = simulated("sim:lost-nvlink", 20)
    gpus = [msgspec.structs.replace(gpu, remap_pending=gpu.index in (1, 3)) for gpu in run.header.gpus]
    summary = Run(header=msgspec.structs.replace(run.header, gpus=gpus), table=run.table).summary()
    told = [note for note in summary.notes if note.startswith("GPU")]
    assert [note.partition(":")[0] for note in told] == ["GPU 1, 3"]
    assert "LINK_DEGRADED" in {finding.id for finding in summary.findings}


# --- what stays unjudged on a machine where everything can be read

RECORD = """
import msgspec
clock = FakeClock()
source = {opener}(clock)
readings = source.read()
for _ in range({reads}):
    clock.sleep(0.5)
    readings += source.read()
known = [[v if q == Quality.OK else None for v, q in zip(r.values, r.quality)] for r in readings]
emit({{
    "gpus": msgspec.to_builtins(list(source.gpus)),
    "pipes": source.has_pipe_counters,
    "readings": [[r.gpu, r.start_ns, r.end_ns, v, list(r.quality)] for r, v in zip(readings, known)],
    "notes": source.notes(),
}})
"""
SECONDS = 180


def read(fake: FakeNvml, script: str, extra: str = "") -> tuple[Summary, list[str]]:
    """Return the summary of a run on a fake driver, with nobody else on its GPUs, and the source's notes."""
    opener = "open_nvml" if script == "a100" else "open_gpm"
    made: Any = fake.run(RECORD.format(opener=opener, reads=2 * SECONDS), script, extra=extra)
    gpus = msgspec.convert(made["gpus"], list[GpuInfo])
    readings = [
        Reading(gpu, start, end, [float("nan") if v is None else v for v in values], bytearray(quality))
        for gpu, start, end, values, quality in made["readings"]
    ]
    run = Run(header=header(gpus, has_pipe_counters=made["pipes"]), table=table_of(readings))
    seen = [
        GpuLooks(uuid=gpu.uuid or "", nvml_index=i, computes=True, searched=True, judged_ms=SECONDS * 1000)
        for i, gpu in enumerate(gpus)
    ]
    content = run_file(run_start(COMMAND), run_end(SECONDS, []), placement=Placement(gpus=tuple(seen)))
    return summarise(content, [(run.header, run.session())], directory=None), made["notes"]


@pytest.mark.parametrize("script", ["gh200", "h200_llm"])
def test_with_everything_readable_nothing_stays_unjudged(fake_nvml, script):
    summary, notes = read(fake_nvml, script)
    assert {item.id: item.missing for item in summary.not_judged} == {}
    assert notes == []
    assert all(is_well(one) for one in all_health(summary))


def test_before_hopper_the_health_is_judged_without_pipe_counters(fake_nvml):
    """What NVML alone can tell of an A100: the rest needs pipe counters, and says so."""
    summary, _ = read(fake_nvml, "a100")
    assert summary.job.score.score_pct is None
    unjudged = {item.id for item in summary.not_judged}
    assert not {"LINK_DEGRADED", "THERMAL", "HW_SLOWDOWN", "GPU_SHARED", "NO_COUNTERS"} & unjudged
    assert [one.nvlink_active_count for one in all_health(summary)] == [12]


def test_a_link_that_a_driver_tells_to_be_degraded_is_found(fake_nvml):
    extra = "series 1 pcie.lanes 0 8\nseries 2 nvlink.4 0 0\nseries 3 field.52.0 0 0 30 12"
    summary, _ = read(fake_nvml, "gh200", extra)
    (finding,) = [f for f in summary.findings if f.id == "LINK_DEGRADED"]
    assert [gpu.gpu_index for gpu in finding.ranks] == [1, 2, 3]


def test_pcie_that_saves_power_at_idle_is_not_degraded(fake_nvml):
    """Work for 3 s of every 4, and a link that drops to generation 1 in the pauses, where it is asked, too."""
    starts = [4 * k + 0.2 for k in range(SECONDS // 4)]
    busy = " ".join(f"{start:g} 98 {start + 3:g} 0" for start in starts)
    generation = " ".join(f"{start:g} 5 {start + 3.6:g} 1" for start in starts)
    extra = f"series * gpm.1 0 0 {busy}\nseries * pcie.generation 0 1 {generation}"
    summary, _ = read(fake_nvml, "h200_llm", extra)
    (one,) = all_health(summary)
    assert one.pcie_lost_frac == 0.0
    assert "LINK_DEGRADED" not in {f.id for f in summary.findings} | {item.id for item in summary.not_judged}
