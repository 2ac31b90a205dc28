"""What doctor concludes, from literals; and what it sees of a machine, in a folder made for it."""

import os

import msgspec
import pytest

from satscore.core.checks import checks_of
from satscore.core.counter_groups import GROUPS, group_counters
from satscore.core.diagnosis import (
    Examined,
    GpuFinding,
    HealthFinding,
    SourceFinding,
    Timing,
    best_source,
    grade_reason,
)
from satscore.core.fields import FIELDS, Quality, blank_reading, put, put_missing
from satscore.core.host import HostInfo
from satscore.core.machine import Machine, Node
from satscore.core.vboost import TOOL, unknown
from satscore.run.diagnosis import CANDIDATES
from satscore.run.machine import look

REASONS = {quality: quality.name.lower() for quality in Quality}
GPU = GpuFinding(
    number=0,
    uuid="GPU-0123abcd",
    name="NVIDIA H200",
    compute_capability=(9, 0),
    mig_enabled=False,
    model_id="h200-sxm",
    model_note=None,
    power_limit_gpu_w=700.0,
    power_limit_module_w=None,
    module_cap_w=None,
    vboost_level=0,
    ceilings_at_other_cap=False,
    ceilings_missing=[],
)
FOUND = Examined(
    kind="measured",
    has_pipe_counters=True,
    reads_count=6,
    timing=Timing(open_s=0.1, read_mean_s=0.001, read_max_s=0.002, timer_late_max_s=0.001),
    gpus=[GPU],
    counters=[],
    labels=["GPU 0: power gpu: field 186", "GPU 0: power module: refused", "GPU 1: power gpu: field 186"],
    gpus_shown_count=1,
    processes_readable=True,
    library="/usr/lib/libnvidia-ml.so.1",
    driver_version="580.65.06",
    cuda_driver_version="13.0",
    grade="B",
    coverage_frac=1.0,
    no_score_reason=None,
    notes=[],
)
MACHINE = Machine(
    kernel_driver="580.65.06",
    kernel_gpus_count=1,
    admin_only=False,
    nodes=[Node(name="nvidia0", usable=True), Node(name="nvidiactl", usable=True)],
    container=None,
    has_host_engine=False,
    run_place="/scratch",
    run_place_error=None,
)


def replaced(value, **changes):
    return msgspec.structs.replace(value, **changes)


LANES = HealthFinding(pcie_generation=1, pcie_generation_max=5, pcie_lanes_count=8, pcie_lanes_max_count=16)
RESTS = replaced(LANES, pcie_lanes_count=16)
NVLINKS = HealthFinding(pcie_generation=5, nvlink_active_count=17, nvlink_count=18)
LINKS = HealthFinding(
    pcie_generation=5,
    pcie_generation_max=5,
    pcie_lanes_count=16,
    pcie_lanes_max_count=16,
    pcie_lost_frac=0.0,
    nvlink_active_count=18,
    nvlink_count=18,
    remapped_rows_count=2,
    temp_margin_c=21.0,
)


def by_name(machine: Machine | str = MACHINE, found: Examined | None = FOUND, sources=()):
    return {check.name: check for check in checks_of(machine, found, sources)}


def source(name="gpm", status="yes", text="", examined=None):
    return SourceFinding(name=name, status=status, text=text, examined=examined)


def test_every_field_is_in_exactly_one_group():
    grouped = [field for fields in GROUPS.values() for field in fields]
    assert sorted(grouped) == sorted(field.name for field in FIELDS)


def test_groups_are_known_in_part_or_not_with_the_reason():
    readings = [blank_reading(gpu, 0, 1) for gpu in (0, 1)]
    for reading in readings:
        put(reading, "sm_clock_mhz", 1755.0)
        put_missing(reading, "tensor_active_frac", Quality.NO_PERMISSION)
    put(readings[0], "mem_clock_mhz", 2619.0)
    put_missing(readings[1], "mem_clock_mhz", Quality.NOT_SUPPORTED)
    groups = {group.name: group for group in group_counters(readings, REASONS, ("c2c_tx_bytes_s", "c2c_rx_bytes_s"))}
    assert (groups["clocks"].status, groups["clocks"].missing) == ("partly", {"mem_clock_mhz": "not_supported"})
    assert groups["pipes"].status == "unknown"
    assert groups["pipes"].missing["tensor_active_frac"] == "no_permission"
    assert groups["c2c"].status == "absent"
    assert groups["nvlink"].status == "unknown"


def test_one_answer_in_several_reads_is_known_and_a_lost_gpu_is_not():
    """Error counts stand in few readings by design."""
    readings = [blank_reading(0, i, i + 1) for i in range(3)]
    put(readings[1], "xid_count", 0.0)
    groups = {group.name: group for group in group_counters(readings, REASONS)}
    assert "xid_count" not in groups["errors"].missing
    lost = [*readings, blank_reading(0, 3, 4, Quality.GPU_LOST)]
    groups = {group.name: group for group in group_counters(lost, REASONS)}
    assert groups["errors"].missing["xid_count"] == "gpu_lost"


def test_a_field_that_is_read_rarely_is_no_gap_until_it_was_refused():
    reading = blank_reading(0, 0, 1)
    for field in GROUPS["errors"]:
        put(reading, field, 0.0)
    put_missing(reading, "remapped_rows_count", Quality.NOT_READ)
    groups = {group.name: group for group in group_counters([reading], REASONS, (), ("remapped_rows_count",))}
    assert (groups["errors"].status, groups["errors"].rare) == ("known", ["remapped_rows_count"])
    put_missing(reading, "remapped_rows_count", Quality.NO_PERMISSION)
    groups = {group.name: group for group in group_counters([reading], REASONS, (), ("remapped_rows_count",))}
    assert groups["errors"].missing == {"remapped_rows_count": "no_permission"}


def test_without_readings_nothing_is_known():
    assert {group.status for group in group_counters([], REASONS)} == {"unknown"}


# ---- which source, which grade ----


def test_pipe_counters_win_over_gauges_and_the_order_of_the_list_decides():
    gauges = source("nvml", examined=replaced(FOUND, has_pipe_counters=False))
    pipes, refused = source("dcgm", examined=FOUND), source("gpm", "no", "why")
    assert best_source([refused, gauges, pipes]) is pipes
    assert best_source([refused, gauges]) is gauges
    assert best_source([refused]) is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (FOUND, "calibrated"),
        (replaced(FOUND, grade="C", gpus=[replaced(GPU, ceilings_at_other_cap=True)]), "another power cap"),
        (replaced(FOUND, grade="C", coverage_frac=0.83), "83%"),
        (replaced(FOUND, grade=None, no_score_reason="MIG is enabled. Run without"), "MIG is enabled"),
        (replaced(FOUND, grade="D", has_pipe_counters=False), "GPM needs Hopper"),
        (None, "GPM needs Hopper"),
    ],
)
def test_why_the_grade_is_not_better(found, words):
    refused = source("gpm", "no", "GPM needs Hopper; remedy")
    sources = [refused, source("nvml", examined=found)]
    reason = grade_reason(sources[1] if found else None, sources)
    assert words in reason
    assert "remedy" not in reason


def test_before_hopper_what_dcgm_lacks_is_the_reason():
    refused = [source("gpm", "no", "GPM needs Hopper; remedy"), source("dcgm", "no", "DCGM: no engine; start one")]
    for capability, words in (((8, 0), "DCGM: no engine"), ((9, 0), "GPM needs Hopper")):
        found = replaced(FOUND, grade="D", has_pipe_counters=False, gpus=[replaced(GPU, compute_capability=capability)])
        gauges = source("nvml", examined=found)
        assert grade_reason(gauges, [*refused, gauges]) == words


def test_the_list_of_sources_names_each_once():
    names = [candidate.name for candidate in CANDIDATES]
    assert len(set(names)) == len(names)
    assert {"gpm", "dcgm", "nvml", "sim", "replay"} <= set(names)


# ---- checks ----


def test_a_good_machine_has_no_problem():
    assert {check.status for check in checks_of(MACHINE, FOUND, [])} == {"ok"}
    assert by_name()["power scopes"].text == "power gpu by field 186"


def test_a_container_without_the_gpus_gets_its_own_remedy():
    for container, remedy in (("Docker", "--gpus all"), ("Apptainer", "--nv"), ("lxc", "NVIDIA runtime")):
        machine = replaced(MACHINE, container=container, nodes=[])
        check = by_name(machine, None)["device nodes"]
        assert (check.status, remedy in check.remedy) == ("problem", True)
        assert remedy in by_name(machine, None)["driver"].remedy


def test_no_driver_no_nodes_and_closed_nodes():
    assert "no NVIDIA kernel driver" in by_name(replaced(MACHINE, kernel_driver=None), None)["driver"].text
    assert "batch system" in by_name(replaced(MACHINE, nodes=[]), None)["device nodes"].remedy
    closed = by_name(replaced(MACHINE, nodes=[Node(name="nvidia0", usable=False)]), None)["device nodes"]
    assert (closed.status, "/dev/nvidia0" in closed.text) == ("problem", True)


@pytest.mark.parametrize("name", ["sim", "replay"])
def test_a_simulation_that_fails_says_nothing_about_the_driver(name):
    bare = replaced(MACHINE, kernel_driver=None, nodes=[])
    untried = source("gpm", "not tried")
    assert set(by_name(bare, None, [untried, source(name, "no", "why")])) == {"run directory"}
    assert "driver" in by_name(bare, None, [source("gpm", "no", "why"), source(name, "not tried")])


def test_hidden_gpus_are_counted_by_whose_doing_it_is():
    found = replaced(FOUND, gpus_shown_count=4)
    text = by_name(replaced(MACHINE, kernel_gpus_count=8), found)["visible GPUs"].text
    assert text == "1 of 8, hidden are 3 by CUDA_VISIBLE_DEVICES and 4 by the job's binding or the container"
    assert "visible GPUs" not in by_name()


def test_profiling_for_administrators_only_matters_only_where_it_was_in_the_way():
    machine = replaced(MACHINE, admin_only=True)
    refused = [source("gpm", "no", "GPM: no permission to read")]
    assert "NVreg_RestrictProfilingToAdminUsers=0" in by_name(machine, None, refused)["profiling"].remedy
    assert "profiling" not in by_name(machine, FOUND, [source()])


@pytest.mark.parametrize(
    ("gpu", "name", "status", "words"),
    [
        ({"mig_enabled": True, "model_id": None}, "MIG", "problem", "slice"),
        (
            {
                "model_id": None,
                "model_note": "unknown X. No peaks of a similar part are used: add x.toml to F (docs/hwmodels.md).",
            },
            "hardware model",
            "problem",
            "unknown X; add x.toml to F (docs/hwmodels.md)",
        ),
        ({"ceilings_at_other_cap": True}, "ceilings", "warning", "another power cap"),
        ({"ceilings_missing": ["tensor"]}, "ceilings", "warning", "tensor of h200-sxm"),
        ({"vboost_level": None, "may_have_vboost": True}, "vBoost", "unknown", "the level of GPU 0 is not told"),
        (
            {"vboost_level": 1, "may_have_vboost": True, "vboost_source": "SLURM_CONSTRAINT"},
            "vBoost",
            "unknown",
            "nobody",
        ),
        ({"pipes_multiplexed": True}, "multiplexing", "warning", "grade C"),
        ({"has_module": True}, "module cap", "unknown", "none is stated, nor is one read; state the site's"),
        ({"has_module": True, "power_limit_module_w": 1000.0}, "module cap", "unknown", "(1000 W), which can be above"),
        ({"has_module": True, "module_cap_w": 660.0, "module_cap_source": "X"}, "module cap", "ok", "660 W by X"),
        ({"health": HealthFinding(processes_count=2)}, "processes", "warning", "on GPU 0 processes compute now"),
        ({"health": LANES}, "links", "warning", "GPU 0: PCIe gen 1 x8 of gen 5 x16 (it rests); look again under load"),
        ({"health": LINKS}, "links", "ok", "PCIe gen 5 x16 of gen 5 x16, NVLink 18 of 18"),
        ({"health": NVLINKS}, "links", "warning", "GPU 0: NVLink 17 of 18 active; report the node to the site"),
        ({"health": replaced(NVLINKS, nvlink_active_count=0)}, "links", "ok", "NVLink 0 of 18"),
        ({"health": RESTS}, "links", "ok", "PCIe gen 1 x16 of gen 5 x16 (it rests)"),
        ({"health": LINKS}, "health", "ok", "no errors seen, 2 memory rows remapped, 21 C below slowdown"),
        ({"health": HealthFinding()}, "health", "ok", "no errors seen, remapped rows not told"),
    ],
)
def test_checks_of_a_gpu(gpu, name, status, words):
    check = by_name(found=replaced(FOUND, gpus=[replaced(GPU, **gpu)]))[name]
    assert check.status == status
    assert words in f"{check.text}; {check.remedy}"


def test_vboost_by_the_tool_names_it_and_a_gpu_that_has_none_is_no_gap():
    told = replaced(GPU, may_have_vboost=True, vboost_source=TOOL)
    assert by_name(found=replaced(FOUND, gpus=[told]))["vBoost"].text == "level 0 by nvidia-smi boost-slider -l"
    assert "vBoost" not in by_name(found=replaced(FOUND, gpus=[replaced(GPU, vboost_level=None)]))


def test_why_vboost_is_not_told_comes_from_the_tool():
    able = replaced(GPU, may_have_vboost=True, vboost_level=None)
    found = replaced(FOUND, gpus=[able], vboost_note=unknown("it hangs").note)
    check = by_name(found=found)["vBoost"]
    assert (check.text, "utility" in check.remedy) == (f"{TOOL}: it hangs", True)
    stated = replaced(found, gpus=[replaced(able, vboost_level=1, vboost_source="SLURM_CONSTRAINT")])
    text = f"level 1 by SLURM_CONSTRAINT, which nobody has verified ({TOOL}: it hangs)"
    assert by_name(found=stated)["vBoost"].text == text


def test_the_engine_that_reads_a_gpu_is_no_power_scope():
    labels = ["GPU 0: host engine 127.0.0.1:5555, its GPU 0; power of CPU and module: its CPU 0"]
    assert "power scopes" not in by_name(found=replaced(FOUND, labels=labels))


def test_cpu_power_is_asked_for_on_modules_only():
    readings = [blank_reading(0, 0, 1)]
    lacking = replaced(FOUND, counters=group_counters(readings, REASONS), gpus=[replaced(GPU, has_module=True)])
    assert by_name(found=lacking)["CPU power"].text == "not known: not_read"
    told = by_name(found=replaced(lacking, cpu_power_note="no meter (module x)"))["CPU power"]
    assert (told.status, told.text) == ("unknown", "no meter")
    put(readings[0], "power_cpu_w", 120.0)
    known = replaced(lacking, counters=group_counters(readings, REASONS))
    assert by_name(found=known)["CPU power"].status == "ok"
    assert "CPU power" not in by_name(found=replaced(lacking, gpus=[GPU]))


def test_of_several_gpus_the_hottest_is_told_and_the_rows_of_all():
    cooler = replaced(GPU, health=replaced(LINKS, temp_margin_c=30.0, remapped_rows_count=1))
    text = by_name(found=replaced(FOUND, gpus=[cooler, replaced(GPU, health=LINKS)]))["health"].text
    assert text == "no errors seen, 3 memory rows remapped, 21 C below slowdown"


def test_what_is_wrong_with_a_gpu_is_a_problem_each():
    checks = checks_of(MACHINE, replaced(FOUND, ills=["GPU 0: a row waits: reset it", "GPU 0: hot"]), [])
    assert [(c.status, c.text) for c in checks if c.name == "health"] == [
        ("problem", "GPU 0: a row waits: reset it"),
        ("problem", "GPU 0: hot"),
    ]


def test_pipe_counters_without_values_are_held_or_paused():
    check = by_name(found=replaced(FOUND, pipes_blank=True))["pipe counters"]
    assert (check.status, "dcgmi profile --resume" in check.remedy) == ("problem", True)
    assert "pipe counters" not in by_name()


def test_the_host_is_named_for_what_it_does_not_tell():
    assert by_name()["host evidence"].text == "readable"
    no_pressure = HostInfo(missing={f"pressure_{kind}_frac": "/proc/pressure: not there" for kind in ("cpu", "io")})
    check = by_name(replaced(MACHINE, host=no_pressure))["host evidence"]
    assert (check.status, "psi=1" in check.remedy) == ("unknown", True)
    assert check.text == "without pressure_cpu_frac, pressure_io_frac (/proc/pressure: not there)"
    reasons = {"cpu_busy_frac": "/proc/stat: Permission denied", "sockets_count": "/sys: no"}
    hidden = HostInfo(missing=no_pressure.missing | reasons)
    check = by_name(replaced(MACHINE, host=hidden))["host evidence"]
    assert ("sockets_count" in check.text, "hidepid" in check.remedy) == (False, True)
    assert "host evidence" not in by_name(found=replaced(FOUND, kind="simulated"))


def test_slow_driver_busy_processor_and_unreadable_process_lists():
    for read_s, period in ((0.06, "1"), (0.2, "2"), (0.51, "6"), (90.0, "60")):
        slow = replaced(FOUND.timing, read_mean_s=read_s)
        remedy = by_name(found=replaced(FOUND, timing=slow))["timing"].remedy
        assert remedy == f"this driver is slow: use --period {period}"
    late = replaced(FOUND.timing, timer_late_max_s=0.2)
    assert by_name(found=replaced(FOUND, timing=late))["timing"].status == "warning"
    assert by_name(found=replaced(FOUND, processes_readable=False))["process lists"].status == "unknown"


def test_dcgm_is_missed_only_before_hopper():
    gauges = replaced(FOUND, has_pipe_counters=False)
    ampere = replaced(gauges, gpus=[replaced(GPU, compute_capability=(8, 0))])
    assert "nv-hostengine is on PATH" in by_name(replaced(MACHINE, has_host_engine=True), ampere)["dcgm"].text
    assert "dcgm" not in by_name(found=gauges)


def test_run_directory():
    assert by_name()["run directory"].status == "ok"
    full = by_name(replaced(MACHINE, run_place_error="No space left on device"))["run directory"]
    assert (full.status, "--out" in full.remedy) == ("problem", True)
    assert by_name("looking: no answer in time")["run directory"].status == "problem"


# ---- the machine ----


def test_a_machine_is_read_from_its_files(tmp_path):
    nvidia = tmp_path / "proc/driver/nvidia"
    (nvidia / "gpus/0000:01:00.0").mkdir(parents=True)
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / "dev" / name).touch()
    (nvidia / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC version: gcc 13.2.0\n"
    )
    (nvidia / "params").write_text("RmEnableHda: 1\nRmProfilingAdminOnly: 1\n")
    (tmp_path / ".dockerenv").touch()
    machine = look({"PATH": ""}, str(tmp_path / "new" / "run"), tmp_path)
    assert machine.host.missing["cpu_busy_frac"] == "/proc/stat: No such file or directory"
    assert replaced(machine, host=HostInfo()) == Machine(
        kernel_driver="580.65.06",
        kernel_gpus_count=1,
        admin_only=True,
        nodes=[Node(name="nvidia0", usable=True), Node(name="nvidiactl", usable=True)],
        container="Docker",
        has_host_engine=False,
        run_place=str(tmp_path),
        run_place_error=None,
    )


def test_an_empty_machine_is_unknown_not_zero(tmp_path):
    machine = look({"PATH": "", "APPTAINER_CONTAINER": "/x.sif"}, None, tmp_path)
    assert (machine.kernel_driver, machine.kernel_gpus_count, machine.admin_only) == (None, None, None)
    assert (machine.nodes, machine.container) == ([], "Apptainer")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    file = tmp_path / "file"
    file.touch()
    machine = look({"PATH": ""}, str(file), tmp_path)
    assert machine.run_place_error == os.strerror(20)
