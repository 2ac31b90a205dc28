"""One look at real processes: the driver's lists (fake library), /proc, and a library named as CUDA's."""

import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.build import FakeNvml, compiler, fake_nvml

__all__ = ["fake_nvml"]

NOBODY = {"0": 0, "1": 0, "2": 0, "3": 0}


class Looks:
    """Runs code on the fake with the helpers of tests/fakes/nvml/company.py."""

    def __init__(self, fake: FakeNvml, folder: Path, cuda: Path) -> None:
        self.fake, self.folder, self.cuda = fake, folder, cuda

    def run(self, code: str, extra: str = "") -> Any:
        """Run code; GPU k computes for the ids in its file, and the script says what ``extra`` has."""
        files = "\n".join(f"process {gpu} from {self.folder}/{gpu}" for gpu in range(4))
        head = f"sys.argv[1:] = [{str(self.folder)!r}, {str(self.cuda)!r}]\nfrom company import *\n"
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
    """A child, a grandchild, one that left us but carries the mark; and one of somebody else."""
    told = looks.run("""
    child = start("sh", "-c", "(echo $$ > $0; echo ready; read line); true", FOLDER + "/shell")
    (grandchild,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    computes(0, child.pid); computes(1, int(grandchild)); computes(2, orphan()); computes(3, os.getppid())
    emit(told(lookout().look()))
    """)
    assert told == [[0, 1, 2], {}, NOBODY | {"3": 1}]


def test_a_descendant_without_the_mark_is_ours_and_an_orphan_of_another_run_is_not(looks):
    told = looks.run("""
    computes(0, start(environ={"PATH": os.environ["PATH"]}).pid)
    computes(1, orphan(SATSCORE_PARENT=f"{ME}0"))
    emit(told(lookout().look()))
    """)
    assert told == [[0], {}, NOBODY | {"1": 1}]


def test_a_process_that_has_ended_is_still_ours(looks):
    """The driver lists a process until all its memory is free."""
    told = looks.run("""
    child, lasting, watched = start(), start(), lookout()
    computes(0, child.pid); computes(1, lasting.pid)
    first = told(watched.look())
    end(child)
    emit([first, told(watched.look())])
    """)
    assert told == [[[0, 1], {}, NOBODY]] * 2


def test_the_server_of_mps_is_not_foreign(looks):
    told = looks.run("""
    server = Path(FOLDER) / "nvidia-cuda-mps-server"
    server.write_text("#!/bin/sh\\necho ready; read line\\n")
    server.chmod(0o700)
    ours, theirs = start(), start(str(server))
    computes(0, ours.pid, theirs.pid); computes(1, os.getppid())
    emit(told(lookout(wrapper=ours.pid).look()))
    """)
    assert told == [[], {}, {"0": 1, "1": 1}], "neither is below that wrapper, and one of them is a server"


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
    assert looks.run(code, list_of_the_driver) == [[], {"2": "environment"}, {}]


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
    assert told == [[1], {}, NOBODY]


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


def test_a_defect_ends_the_looking_and_is_told(looks):
    failure = looks.run("""
    computes(1, start().pid)
    watched = lookout()
    def tell(placement):
        raise ValueError("no such thing")
    watched.start(tell)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "satscore-lookout"]
    thread.join()
    emit(watched.failure)
    """)
    assert failure == "ValueError: no such thing"
