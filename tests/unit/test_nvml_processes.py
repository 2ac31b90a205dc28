"""The lists of compute processes and the slices of GPUs, on the fake library."""

import pytest

from tests.fakes.build import FakeNvml, fake_nvml

__all__ = ["fake_nvml"]

UUID = "GPU-00000000-0000-0000-0000-00000000000"
LISTS = [f"nvmlDeviceGetComputeRunningProcesses{version}" for version in ("_v3", "_v2", "")]
ASK = "from satscore.counters.nvml_processes import compute_processes; emit(compute_processes())"
FOUR = "process 0 11\nprocess 0 12\nprocess 2 13\nprocess 2 0"


def by_gpu(lists: dict[str, list[int]]) -> dict[int, list[int]]:
    assert all(uuid.startswith(UUID[:-1]) for uuid in lists)
    return {int(uuid[-2:]): pids for uuid, pids in lists.items()}


@pytest.mark.parametrize("older", [0, 1, 2])
def test_processes_of_every_gpu_by_the_newest_list_there_is(fake_nvml, tmp_path, older):
    log = tmp_path / "calls"
    lists = fake_nvml.run(ASK, "gh200", extra=FOUR, omit=LISTS[:older], log=log)
    assert by_gpu(lists) == {0: [11, 12], 1: [], 2: [13, 0], 3: []}
    asked = [name for _, name, _ in FakeNvml.calls(log) if name in LISTS]
    assert asked == [LISTS[older]] * 4


def test_more_processes_than_room(fake_nvml):
    many = "\n".join(f"process 1 {pid}" for pid in range(100, 300))
    assert by_gpu(fake_nvml.run(ASK, "gh200", extra=many))[1] == list(range(100, 300))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 64, 70])
@pytest.mark.parametrize("rows", ["", "rows of 535.54"])
def test_rows_that_driver_535_made_longer_are_read_where_they_are(fake_nvml, count, rows):
    """Read at the documented length, every other id would be a piece of something else."""
    pids = list(range(4001, 4001 + count))
    many = "\n".join(f"process 1 {pid}" for pid in pids)
    assert by_gpu(fake_nvml.run(ASK, "gh200", extra=f"{many}\n{rows}"))[1] == pids


def test_a_refused_list_is_left_out_and_none_is_unknown(fake_nvml):
    refused = f"{FOUR}\nerror {LISTS[0]} 4 gpu 0"
    assert by_gpu(fake_nvml.run(ASK, "gh200", extra=refused)) == {1: [], 2: [13, 0], 3: []}
    assert fake_nvml.run(ASK, "gh200", extra=f"error {LISTS[0]} 4") is None
    assert fake_nvml.run(ASK, "gh200", omit=LISTS) is None
    assert fake_nvml.run(ASK, "gh200", extra="error nvmlInitWithFlags 9") is None
    assert fake_nvml.run(ASK, "gh200", extra="gpus 0") is None


def test_a_gpu_that_may_not_be_opened_has_no_list(fake_nvml):
    extra = "error nvmlDeviceGetHandleByIndex_v2 4 gpu 1\nerror nvmlDeviceGetUUID 3 gpu 3"
    assert by_gpu(fake_nvml.run(ASK, "gh200", extra=extra)) == {0: [], 2: []}


def test_a_source_tells_also_when_it_is_closed_and_gives_the_library_back(fake_nvml, tmp_path):
    log = tmp_path / "calls"
    code = """
source = open_gpm(FakeClock())
first = source.processes()
source.close()
emit([first, source.processes(), source.notes()])
"""
    first, closed, notes = fake_nvml.run(code, "gh200", extra=FOUR, log=log)
    assert first == closed
    assert by_gpu(first)[2] == [13, 0]
    assert notes == []
    names = [name for _, name, _ in FakeNvml.calls(log)]
    assert names.count("nvmlInitWithFlags") == names.count("nvmlShutdown") == 3


def test_a_look_while_the_source_is_read_and_closed(fake_nvml):
    """Two threads: the library stays open for the look although the source gives its reference back."""
    code = """
import threading
c = FakeClock(); source = open_gpm(c)
answers = []
look = threading.Thread(target=lambda: answers.append(source.processes()))
look.start()
readings = run(source, c, 2)
source.close()
look.join()
emit([answers, len(readings)])
"""
    (answer,), readings = fake_nvml.run(code, "gh200", extra=f"{FOUR}\nslow {LISTS[0]} 100")
    assert by_gpu(answer)[0] == [11, 12]
    assert readings == 8


# --- slices


def test_slices_of_a_gpu_are_among_its_facts_and_choose_it(fake_nvml):
    code = """
from satscore.launch.placement import visible_gpus
seen = []
def visible(infos):
    seen.extend(infos)
    return visible_gpus("MIG-b2", infos)[0]
s = open_nvml(FakeClock(), visible)
emit([[list(g.mig_devices) for g in seen], [g.nvml_index for g in s.gpus]])
"""
    slices, chosen = fake_nvml.run(code, "gh200", extra="set 1 mig 1\nslice 1 MIG-b1\nslice 1 MIG-b2\nslice 0 MIG-x")
    assert slices == [[], ["MIG-b1", "MIG-b2"], [], []], "a GPU without MIG is not asked for slices"
    assert chosen == [1]


@pytest.mark.parametrize("function", ["nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMigDeviceHandleByIndex"])
def test_a_driver_that_does_not_tell_its_slices(fake_nvml, function):
    code = "emit([list(g.mig_devices) for g in open_nvml(FakeClock()).gpus])"
    extra = f"set * mig 1\nslice 0 MIG-a\nerror {function} 3"
    assert fake_nvml.run(code, extra=extra) == [[]]
