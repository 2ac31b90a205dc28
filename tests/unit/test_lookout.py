"""One look at real processes: the driver's lists (fake library), /proc, and a library named as CUDA's."""

import os
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.build import FakeNvml, compiler, fake_nvml

__all__ = ["fake_nvml"]


class Looks:
    """Runs code on the fake with the helpers of tests/fakes/nvml/company.py."""

    def __init__(self, fake: FakeNvml, folder: Path, cuda: Path) -> None:
        self.fake, self.folder, self.cuda = fake, folder, cuda

    def run(self, code: str, extra: str = "") -> Any:
        """Run code; GPU k computes for the ids in its file, and the script says what ``extra`` has."""
        files = "\n".join(f"process {gpu} from {self.folder}/{gpu}" for gpu in range(4))
        head = f"sys.argv[1:] = [{str(self.folder)!r}, {str(self.cuda)!r}]\nfrom company import *\n"
        # A look has only so much time for /proc, which a busy machine may need for more.
        head += "from satscore.run import lookout as looking\nlooking.ENVIRONMENTS_CPU_S = 60.0\n"
        return self.fake.run(head + textwrap.dedent(code), "gh200", extra=f"{files}\n{extra}")


@pytest.fixture(scope="module")
def cuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that has the name of CUDA's and nothing else of it."""
    if compiler() is None:
        pytest.skip("no C compiler (cc, gcc, clang): the library cannot be built")
    folder = tmp_path_factory.mktemp("cuda")
    source, library = folder / "empty.c", folder / "libcuda.so.1"
    source.write_text("int nothing;\n")
    subprocess.run([compiler() or "cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return library


@pytest.fixture
def looks(fake_nvml: FakeNvml, tmp_path: Path, cuda: Path) -> Looks:
    """The fake, with files in which tests say who computes where."""
    return Looks(fake_nvml, tmp_path, cuda)


# --- by the driver's lists


def test_the_commands_own_processes_are_recognised(looks):
    """A child, a grandchild, one that left us but carries the mark; and one that was there before us."""
    told = looks.run("""
    child = start("sh", "-c", "(echo $$ > $0; echo ready; read line); true", FOLDER + "/shell")
    computes(0, child.pid); computes(1, child_of(child.pid)); computes(2, orphan()); computes(3, os.getppid())
    emit(told(lookout().look()))
    """)
    assert told == [[0, 1, 2], {}, {"3": {"foreign": 1}}]


def test_the_mark_is_found_anywhere_in_a_chain_and_only_with_its_start_time(looks):
    """Below an inner run that left us; below a run that had our number before us."""
    told = looks.run("""
    computes(0, start(environ={"PATH": os.environ["PATH"]}).pid)
    computes(1, orphan(SATSCORE_PARENT=f"{ME}0:1,{MARK}"))
    computes(2, orphan(SATSCORE_PARENT=f"{ME}:1"))
    computes(3, orphan(SATSCORE_PARENT=f"{MARK}0"), orphan(SATSCORE_PARENT=str(ME)), orphan(SATSCORE_PARENT=None))
    emit(told(lookout().look()))
    """)
    assert told == [[0, 1], {}, {"2": {"foreign": 1}, "3": {"foreign": 1, "perhaps": 2}}]


def test_a_process_that_takes_on_the_mark_is_ours_from_then_on(looks):
    """As a launcher's daemon starts a rank: it becomes another program, with the command's environment."""
    told = looks.run("""
    pid = orphan("until test -e $0.go; do sleep 0.01; done; exec env SATSCORE_PARENT=" + MARK + " sleep 600",
                 SATSCORE_PARENT=None)
    computes(0, pid)
    watched = lookout()
    before = told(watched.look())
    Path(FOLDER, "orphan-0.go").touch()
    while b"sleep" != Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\\0")[0]:
        threading.Event().wait(0.01)
    emit([before, told(watched.look())])
    """)
    assert told == [[[], {}, {"0": {"perhaps": 1}}], [[0], {}, {}]]


def test_a_process_that_has_ended_is_still_ours(looks):
    """The driver lists a process until all its memory is free."""
    told = looks.run("""
    child, lasting, watched = start(), start(), lookout()
    computes(0, child.pid); computes(1, lasting.pid)
    first = told(watched.look())
    end(child)
    emit([first, told(watched.look())])
    """)
    assert told == [[[0, 1], {}, {}]] * 2


def test_an_id_that_does_not_exist_is_nobody_only_where_all_would_be_shown(looks):
    told = looks.run("""
    computes(0, start().pid); computes(1, 399999999); computes(2, 0)
    emit([told(lookout(all_shown=shown).look())[2] for shown in (True, False)])
    """)
    assert told == [{"2": {"hidden": 1}}, {"1": {"hidden": 1}, "2": {"hidden": 1}}]


def test_the_server_of_mps_is_nobody(looks):
    told = looks.run("""
    server = Path(FOLDER) / "nvidia-cuda-mps-server"
    server.write_text("#!/bin/sh\\necho ready; read line\\n")
    server.chmod(0o700)
    ours, theirs = start(), start(str(server))
    computes(0, ours.pid, theirs.pid); computes(1, os.getppid())
    emit(told(lookout().look()))
    """)
    assert told == [[0], {}, {"1": {"foreign": 1}}]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start another user's process")
def test_another_user_is_somebody_else_unless_in_a_container(looks):
    """A daemon may have started the container for the command, under any user."""
    if not shutil.which("setpriv") or subprocess.run(["unshare", "--pid", "--fork", "true"], check=False).returncode:
        pytest.skip("no user or PID namespace can be changed here (setpriv, unshare)")
    told = looks.run("""
    other = "setpriv --reuid=65534 --clear-groups "
    computes(0, orphan("exec " + other + "sleep 600", SATSCORE_PARENT=None))
    outer = orphan("unshare --pid --fork " + other + "sleep 600; true", SATSCORE_PARENT=None)
    computes(1, child_of(child_of(outer)))
    for gpu in "01":
        while Path("/proc", Path(FOLDER, gpu).read_text().strip()).stat().st_uid != 65534:
            threading.Event().wait(0.01)
    emit(told(lookout().look())[2])
    """)
    assert told == {"0": {"foreign": 1}, "1": {"perhaps": 1}}


def test_in_another_namespace_only_a_process_with_cuda_is_recognised(looks):
    """A mere equal number proves nothing, not even that of a thread of such a process."""
    told = looks.run("""
    process = subprocess.Popen([sys.executable, "-S", "-c", "import ctypes, sys, threading;"
        "ctypes.CDLL(sys.argv[1]); threading.Thread(target=sys.stdin.read).start(); print('ready', flush=True)", CUDA],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    thread, = {int(name) for name in os.listdir(f"/proc/{process.pid}/task")} - {process.pid}
    computes(0, start().pid); computes(1, process.pid); computes(2, thread); computes(3, os.getppid())
    emit([told(lookout(comparable=False).look()), told(lookout().look())[0]])
    process.communicate()
    """)
    assert told == [[[1], {}, {"0": {"hidden": 1}, "2": {"hidden": 1}, "3": {"hidden": 1}}], [0, 1, 2]]


def test_in_another_namespace_a_process_with_a_gpu_open_is_recognised(looks):
    told = looks.run("""
    from satscore.launch import processes
    processes._CUDA_DEVICE = FOLDER + "/device"
    Path(FOLDER, "device0").touch()
    computes(0, start("sh", "-c", "exec 7< $0/device0; echo ready; read line", FOLDER).pid)
    emit(told(lookout(comparable=False).look())[0])
    """)
    assert told == [0]


# --- by environment, where the lists say nothing


@pytest.mark.parametrize(
    "list_of_the_driver",
    ["", "error nvmlDeviceGetComputeRunningProcesses_v3 4", "process 0 399999999\nprocess 3 399999998"],
    ids=["empty", "refused", "of another namespace"],
)
def test_environment_tells_where_the_list_does_not(looks, list_of_the_driver):
    code = """
    with_cuda(CUDA_VISIBLE_DEVICES="2"); start(CUDA_VISIBLE_DEVICES="0")
    emit(told(lookout().look()))
    """
    assert looks.run(code, list_of_the_driver)[:2] == [[], {"2": "environment"}]


@pytest.mark.slow
def test_settings_of_several_processes_add_up(looks):
    told = looks.run("""
    for setting in ("1", "GPU-00000000-0000-0000-0000-000000000003", "", "-1"):
        with_cuda(CUDA_VISIBLE_DEVICES=setting)
    emit(told(lookout().look()))
    """)
    assert told == [[], {"1": "environment", "3": "environment"}, {}]


def test_a_process_without_a_setting_is_shown_all(looks):
    told = looks.run("""
    with_cuda(CUDA_VISIBLE_DEVICES=None, NVIDIA_VISIBLE_DEVICES="0")
    emit(told(lookout(CUDA_VISIBLE_DEVICES="1").look()))
    """)
    assert told[1] == dict.fromkeys("0123", "environment")


def test_different_gpus_that_cuda_counts_by_speed_are_assumed(looks):
    code = """
    with_cuda(CUDA_VISIBLE_DEVICES="1", CUDA_DEVICE_ORDER=None)
    with_cuda(CUDA_VISIBLE_DEVICES="2", CUDA_DEVICE_ORDER="PCI_BUS_ID")
    watched = lookout(CUDA_VISIBLE_DEVICES="0,1,2")
    emit([told(watched.look())[1], watched.placement.assumed])
    """
    assert looks.run(code, "set 0 name NVIDIA T4") == [{"1": "assumed", "2": "environment"}, True]


def test_numbers_of_a_process_in_another_cgroup_say_nothing(looks):
    """Slurm shows each rank devices of its own: number 0 of four ranks is four GPUs. A UUID is always one."""
    code = """
    for setting in SETTINGS:
        with_cuda(CUDA_VISIBLE_DEVICES=setting)
    watched = lookout()
    watched._processes._cgroup = b"0::/another"
    emit(told(watched.look())[1])
    """
    numbers, uuids = '("0", "0")', '("GPU-00000000-0000-0000-0000-000000000002", "")'
    assert looks.run(code.replace("SETTINGS", numbers)) == dict.fromkeys("0123", "visible")
    assert looks.run(code.replace("SETTINGS", uuids)) == {"2": "environment"}


def test_many_processes_are_looked_at_in_parts_and_nothing_is_concluded_from_a_part(looks):
    told = looks.run("""
    for setting in "012":
        with_cuda(CUDA_VISIBLE_DEVICES=setting)
    processes, counts = lookout()._processes, []
    while not counts or processes._waiting:
        counts.append(len(processes.cuda_environments(0.0)))
    emit([counts[:-1], counts[-1], len(processes.cuda_environments(0.0))])
    """)
    assert len(told[0]) >= 3
    assert set(told[0]) == {0}
    assert told[1:] == [3, 3]


@pytest.mark.slow
def test_a_process_of_another_run_shows_nothing(looks):
    told = looks.run("""
    with_cuda(CUDA_VISIBLE_DEVICES="2")
    emit(told(lookout(wrapper=start().pid).look()))
    """)
    assert told == [[], {}, {}]


@pytest.mark.slow
def test_a_recognised_process_makes_the_environment_needless(looks):
    told = looks.run("""
    computes(1, with_cuda(CUDA_VISIBLE_DEVICES="2").pid)
    emit(told(lookout().look()))
    """)
    assert told == [[1], {}, {}]


def test_the_library_is_seen_when_it_comes_and_remembered(looks):
    """A process that starts CUDA later is found by a later look; what was found needs no second reading."""
    told = looks.run("""
    late = start(sys.executable, "-S", "-c", "import sys; print('ready', flush=True); sys.stdin.readline();"
                 "import ctypes; ctypes.CDLL(sys.argv[1]); print('mapped', flush=True); sys.stdin.read()",
                 sys.argv[2], CUDA_VISIBLE_DEVICES="3")
    watched = lookout()
    before = told(watched.look())
    late.stdin.write("go\\n"); late.stdin.flush(); late.stdout.readline()
    emit([before, told(watched.look()), told(watched.look())])
    """)
    assert [look[1] for look in told] == [{}, {"3": "environment"}, {"3": "environment"}]


# --- ranks that see the same GPUs

RANKS = """
from company import *
from child import FakeClock, open_nvml
from satscore.launch.claims import GpuClaims
from satscore.launch.request import Identity
from satscore.run.lookout import GpuChoice, Lookout
def rank(local_rank=1, local_world=4, key=None, **environ):
    identity = Identity(launcher="slurm", rank=5, world=8, local_rank=local_rank, local_world=local_world, key=key)
    choice = GpuChoice(environ, identity)
    made = Lookout(open_nvml(FakeClock(), choice.choose), choice, ME, threading.Event())
    made._processes.comparable = made._processes.all_shown = True
    return made
def used(watched):
    uses = {gpu.nvml_index: watched.placement.use_of(gpu.uuid, worked=True) for gpu in watched._source.gpus}
    return {number: use for number, use in uses.items() if use}
def claimed(placement):
    return gpus(placement.claimed)
def looked(watched):
    watched.placement = watched._choice.claim(watched.placement.after(watched.look(), 1000))
    return used(watched)
"""


def test_a_rank_takes_the_gpu_of_its_number_and_reads_all(looks):
    told = looks.run(
        RANKS
        + textwrap.dedent("""
    emit([[used(one), len(one._source.gpus)] for one in (
        rank(), rank(local_rank=6), rank(CUDA_VISIBLE_DEVICES="2,3"), rank(CUDA_VISIBLE_DEVICES="2"),
        rank(local_rank=0, local_world=1), rank(local_rank=None))])
    """)
    )
    everything = dict.fromkeys("0123", "visible")
    assert told == [
        [{"1": "local_rank"}, 4],
        [{"2": "local_rank"}, 4],
        [{"3": "local_rank"}, 2],
        [{"2": "visible"}, 1],
        [everything, 4],
        [everything, 4],
    ]


def test_a_rank_whose_process_computes_elsewhere_uses_that_gpu(looks):
    told = looks.run(
        RANKS
        + textwrap.dedent("""
    computes(2, start().pid); computes(1, orphan(SATSCORE_PARENT=f"{ME}0:1"))
    right = rank(local_rank=2)
    emit([looked(rank()), looked(right), [gpu.foreign for gpu in right.placement.gpus]])
    """)
    )
    assert told == [{"2": "process"}, {"2": "process"}, [False, True, False, False]]


def test_an_environment_that_shows_what_all_ranks_see_tells_nothing(looks):
    told = looks.run(
        RANKS
        + textwrap.dedent("""
    with_cuda(CUDA_VISIBLE_DEVICES="0,1,2,3"); with_cuda(CUDA_VISIBLE_DEVICES=None)
    watched = rank()
    first = looked(watched)
    with_cuda(CUDA_VISIBLE_DEVICES="3")
    emit([first, looked(watched), looked(rank(CUDA_VISIBLE_DEVICES="2,3"))])
    """)
    )
    assert told == [{"1": "local_rank"}, {"3": "environment"}, {"3": "environment"}]


def test_a_gpu_that_another_rank_of_the_job_holds_is_not_counted_until_the_command_is_seen_there(looks):
    told = looks.run(
        RANKS
        + textwrap.dedent("""
    uuid = "GPU-00000000-0000-0000-0000-00000000000{}".format
    key = f"job-{ME}"
    other, apart = GpuClaims(key), rank(key=key + "-r1")
    other.update([uuid(1)])
    watched = rank(key=key)
    before = [used(watched), claimed(watched.placement), used(apart)]
    other.update([])
    unseen = [looked(watched), claimed(watched.placement)]
    computes(1, start().pid)
    seen = looked(watched)
    held = [gpus(other.update([uuid(i) for i in range(4)]))]
    watched._choice.close()
    emit([before, unseen, seen, held, gpus(other.update([uuid(1)]))])
    """)
    )
    assert told == [[{}, [1], {"1": "local_rank"}], [{}, [1]], {"1": "process"}, [[1]], []]


# --- the thread


def test_looking_tells_news_and_ends_with_the_command(looks):
    told = looks.run("""
    computes(1, start().pid)
    watched, stop, news = lookout(), threading.Event(), []
    watched._stop = stop
    def tell(placement):
        news.append(gpus(gpu.uuid for gpu in placement.gpus if gpu.computes))
        stop.set()
    watched.start(tell)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "satscore-lookout"]
    thread.join()
    emit([news, watched.failure])
    """)
    assert told == [[[1]], None]


def test_a_look_that_fails_is_made_again(looks):
    """The failure is told only if it was the last thing that happened."""
    told = looks.run("""
    from satscore.run import lookout as module
    module.FIRST_LOOK_S = module.LONGEST_PAUSE_S = 0.01
    computes(1, start().pid)
    watched, stop, failures, lists = lookout(), threading.Event(), [], None
    watched._stop = stop
    class Passing:
        def processes(self):
            failures.append(watched.failure)
            if len(failures) == 1:
                raise ValueError("no such thing")
            return lists
    lists, watched._source = watched._source.processes(), Passing()
    def tell(placement):
        failures.append(watched.failure)
        stop.set()
        raise OSError("the last one")
    watched.start(tell)
    for thread in threading.enumerate():
        if thread.name == "satscore-lookout":
            thread.join()
    emit([failures, watched.failure, watched.placement.known_by])
    """)
    assert told == [[None, "ValueError: no such thing", None], "OSError: the last one", "process"]
