"""Opening NVML: what is refused, why, with which remedy; GPU facts; choice of GPUs. On the fake library."""

import subprocess
import sys

import pytest

from satscore.counters import nvml_ids as ids
from satscore.counters.nvml_notes import NoteBook, gpu_list
from tests.fakes.build import FakeNvml, fake_nvml

__all__ = ["fake_nvml"]


def refused(fake: FakeNvml, opener: str, script: str = "h200_llm", **options) -> tuple[str, str]:
    answer = fake.run(f"emit(refusal({opener}))", script, **options)
    assert answer, "opening should have failed"
    message, hint = answer
    assert hint, f"no remedy for: {message}"
    return message, hint


@pytest.mark.parametrize(("code", "words"), [
    (9, "not loaded"), (18, "different versions"), (4, "no permission"), (999, "NVML error 999"), (12, "was not found"),
])  # fmt: skip
def test_why_nvml_does_not_start(fake_nvml, code, words):
    for opener in ("open_gpm", "open_nvml"):
        message, _ = refused(fake_nvml, opener, extra=f"error nvmlInitWithFlags {code}")
        assert words in message


def test_a_library_without_the_start_function(fake_nvml):
    message, hint = refused(fake_nvml, "open_nvml", omit=("nvmlInitWithFlags",))
    assert "stub" in message
    assert "ldconfig" in hint


def test_no_library_at_all():
    code = """
import sys
from satscore.counters.clock import MonotonicClock
from satscore.counters.nvml import open_gpm
from satscore.errors import CounterError
assert "pynvml" not in sys.modules, "imported before it is needed"
try: open_gpm(MonotonicClock())
except CounterError as error: print(error.message, "|", error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if not done.stdout:
        pytest.skip("this machine has a working NVML")
    assert "no NVIDIA driver" in done.stdout or "not loaded" in done.stdout


def test_no_gpu_and_no_gpu_that_may_be_opened(fake_nvml):
    assert "no NVIDIA GPU" in refused(fake_nvml, "open_nvml", extra="gpus 0")[0]
    assert "no permission" in refused(fake_nvml, "open_nvml", extra="error nvmlDeviceGetHandleByIndex_v2 4")[0]


def test_gpm_before_hopper_names_the_gpu_and_dcgm(fake_nvml):
    message, hint = refused(fake_nvml, "open_gpm", "a100")
    assert "NVIDIA A100-SXM4-80GB" in message
    assert "DCGM" in hint


def test_gpm_without_permission(fake_nvml):
    message, hint = refused(fake_nvml, "open_gpm", "h100_no_permission")
    assert "no permission" in message
    assert "NVIDIA H100" in message
    assert "NVreg_RestrictProfilingToAdminUsers" in hint


def test_gpm_missing_in_an_old_driver(fake_nvml):
    message, hint = refused(fake_nvml, "open_gpm", omit=("nvmlGpmQueryDeviceSupport", "nvmlGpmSampleGet"))
    assert "580.65.06" in message
    assert "525" in hint


def test_gpm_on_gpus_that_are_all_cut_by_mig(fake_nvml):
    assert "MIG" in refused(fake_nvml, "open_gpm", extra="set * mig 1")[0]
    mig = fake_nvml.run("emit([g.mig_enabled for g in open_nvml(FakeClock()).gpus])", extra="set * mig 1")
    assert mig == [True]


@pytest.mark.parametrize("function", ["nvmlGpmQueryDeviceSupport", "nvmlGpmSampleAlloc"])
def test_other_refusals_of_gpm(fake_nvml, function):
    message, _ = refused(fake_nvml, "open_gpm", extra=f"error {function} 25")
    assert "does not know this version" in message


def test_a_passing_failure_at_open_is_tried_once_more(fake_nvml):
    code = "c = FakeClock(); s = open_gpm(c); emit([run(s, c, 1), s.notes()])"
    out, _ = fake_nvml.run(code, extra="error nvmlGpmSampleGet 10 until 0.05")
    assert "tensor_active_frac" in out[0]["v"]


def test_gpus_without_gpm_beside_gpus_with_it(fake_nvml):
    code = "c = FakeClock(); s = open_gpm(c); emit([run(s, c, 1), s.notes()])"
    out, notes = fake_nvml.run(code, "gh200", extra="gpus 2\nset 1 gpm 0")
    assert "tensor_active_frac" in out[0]["v"]
    assert out[1]["q"]["tensor_active_frac"] == "NOT_SUPPORTED"
    assert any("GPU 1" in n and "pipe counters" in n for n in notes)


def test_facts_of_a_gpu(fake_nvml):
    code = "import msgspec; emit(msgspec.to_builtins(open_gpm(FakeClock()).gpus[0]))"
    facts = fake_nvml.run(code)
    assert facts == {
        "index": 0, "nvml_index": 0, "uuid": "GPU-00000000-0000-0000-0000-000000000000", "name": "NVIDIA H200",
        "pci_bus_id": "00000000:01:00.0", "pci_device_id": 0x233510DE, "sm_count": 132, "memory_bus_bits": 6144,
        "memory_total_bytes": 150754820096, "sm_clock_max_mhz": 1980.0, "mem_clock_max_mhz": 3201.0,
        "compute_capability": [9, 0], "power_limit_gpu_w": 700.0, "power_limit_module_w": None, "vboost_level": None,
        "mig_enabled": False, "mig_devices": [], "driver_version": "580.65.06", "cuda_driver_version": "13.0",
        "model_hint": None, "module_cap_w": None, "module_cap_source": None, "vboost_source": None,
        "has_os_memory": False, "pipes_multiplexed": False, "temp_slowdown_c": 89.0, "pcie_generation_max": 5,
        "pcie_lanes_max_count": 16, "nvlink_count": 18, "remapped_rows_count": 0, "remap_pending": False,
        "remap_failed": False,
    }  # fmt: skip


def test_facts_that_are_refused_are_unknown(fake_nvml):
    names = (
        "Name", "UUID", "PciInfo_v3", "NumGpuCores", "MemoryBusWidth", "MaxClockInfo", "MigMode", "MemoryInfo_v2",
        "MemoryInfo", "CudaComputeCapability", "NumaNodeId", "MaxPcieLinkGeneration", "MaxPcieLinkWidth",
        "TemperatureThreshold", "MarginTemperature",
    )  # fmt: skip
    extra = "\n".join(f"error nvmlDeviceGet{name} 999" for name in names)
    extra += "".join(f"\nfield_error {field} 0 999" for field in (91, 142, 144, 145))
    code = "import msgspec; emit(msgspec.to_builtins(open_gpm(FakeClock()).gpus[0]))"
    facts = fake_nvml.run(code, extra=extra)
    known = {key for key, value in facts.items() if value is not None and value is not False and value != []}
    assert known == {"index", "nvml_index", "power_limit_gpu_w", "driver_version", "cuda_driver_version"}
    assert facts["has_os_memory"] is facts["remap_pending"] is facts["remap_failed"] is None


@pytest.mark.parametrize(("capability", "per_sm"), [
    ((7, 0), 64), ((8, 0), 64), ((8, 6), 128), ((8, 9), 128), ((9, 0), 128), ((10, 0), 128), ((12, 1), 128),
    ((99, 0), None), (None, None),
])  # fmt: skip
def test_cores_per_sm(capability, per_sm):
    assert ids.cores_per_sm(capability) == per_sm


def test_the_run_chooses_its_gpus_and_their_order(fake_nvml):
    code = """
seen = []
def visible(infos):
    seen.extend((g.index, g.uuid) for g in infos)
    return [3, 1, 3, 9]
c = FakeClock(); s = open_gpm(c, visible)
emit([seen, [(g.index, g.uuid) for g in s.gpus], run(s, c, 1), s.notes()])
"""
    seen, chosen, out, notes = fake_nvml.run(code, "gh200")
    assert [i for i, _ in seen] == [0, 1, 2, 3]
    assert chosen == [[0, seen[3][1]], [1, seen[1][1]]]
    assert [r["gpu"] for r in out] == [0, 1]
    assert any("NVML GPU 9" in n for n in notes)


def test_no_visible_gpu(fake_nvml):
    code = """
try: open_gpm(FakeClock(), lambda infos: [])
except CounterError as error: emit([error.message, error.hint])
"""
    message, hint = fake_nvml.run(code, "gh200")
    assert "none of the 4 GPUs" in message
    assert "CUDA_VISIBLE_DEVICES" in hint


def test_a_gpu_that_may_not_be_opened_is_left_out_and_named(fake_nvml):
    code = "c = FakeClock(); s = open_gpm(c); emit([[g.uuid[-1] for g in s.gpus], s.notes()])"
    uuids, notes = fake_nvml.run(code, "gh200", extra="error nvmlDeviceGetHandleByIndex_v2 4 gpu 2")
    assert uuids == ["0", "1", "3"]
    assert any("NVML GPU 2" in n and "no permission" in n for n in notes)


def test_the_chooser_s_own_error_passes_and_nvml_is_closed(fake_nvml, tmp_path):
    log = tmp_path / "calls"
    code = """
def visible(infos): raise KeyError("mine")
try: open_gpm(FakeClock(), visible)
except KeyError: emit("passed")
"""
    assert fake_nvml.run(code, log=log) == "passed"
    assert "nvmlShutdown" in {name for _, name, _ in fake_nvml.calls(log)}


def test_codes_map_to_reasons_and_only_some_are_for_good():
    from satscore.core.fields import Quality

    assert ids.code_of(15).quality is Quality.GPU_LOST
    assert ids.code_of(4).quality is Quality.NO_PERMISSION
    assert ids.code_of(12345).quality is Quality.ERROR
    positive = {code for code, meaning in ids.CODES.items() if meaning.permanent and code > 0}
    assert positive == {3, 13, 22, 25, 26}
    assert all(meaning.quality is not Quality.OK for meaning in ids.CODES.values())


@pytest.mark.parametrize(("version", "pair"), [
    ("580.65.06", (252, 253)), ("590", (270, 271)), (None, None), ("", None), ("R580", None), ("0.1", None),
])  # fmt: skip
def test_hardware_throttle_ids(version, pair):
    assert ids.hw_throttle_ids(version) == pair


def test_notes_merge_gpus_and_fields():
    book = NoteBook()
    for gpu in (0, 1, 2):
        book.miss(gpu, "b", 3)
        book.miss(gpu, "a", 3)
        book.miss(gpu, "a", 3)
    book.miss(5, "c", 15)
    book.say("hello")
    book.say("hello")
    hello, supported, lost = book.drain()
    assert hello == "hello"
    assert supported.startswith("GPU 0-2: a, b: not supported")
    assert lost.startswith("GPU 5: c: the GPU is lost (")
    assert book.drain() == []
    assert gpu_list((0, 2)) == "GPU 0,2"
