"""Power of the CPU beside each GPU: which meter is whose, what is no value, and that nobody waits."""

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from satscore.core.gpu import GpuInfo
from satscore.counters import grace
from satscore.counters.grace import GracePower, find_meters

BUS_IDS = ("00000009:01:00.0", "00000019:01:00.0", "00000029:01:00.0", "00000039:01:00.0")
GPUS = [GpuInfo(index=i, name="NVIDIA GH200 120GB", pci_bus_id=bus_id) for i, bus_id in enumerate(BUS_IDS)]
PATIENCE_S = 20.0


class Node:
    """A node's sysfs: a socket per module, its GPU at the socket's NUMA node, and a node of GPU memory each."""

    def __init__(self, root: Path, sockets: int = 4, packages: tuple[int, ...] | None = None) -> None:
        self.root, self.sysfs = root, root / "sys"
        for socket, package in enumerate(packages or range(sockets)):
            self.write(f"devices/system/node/node{socket}/cpulist", f"{72 * socket}-{72 * socket + 71}")
            self.write(f"devices/system/node/node{sockets + 8 * socket}/cpulist", "")
            self.write(f"devices/system/cpu/cpu{72 * socket}/topology/physical_package_id", str(package))
        for socket, bus_id in enumerate(BUS_IDS[:sockets]):
            self.write(f"bus/pci/devices/{bus_id[4:].lower()}/numa_node", str(socket))

    def write(self, path: str, text: str) -> Path:
        file = self.sysfs / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
        return file

    def meter(self, number: int, label: str, microwatts: int | str, folder: str = "device/") -> Path:
        self.write(f"class/hwmon/hwmon{number}/{folder}power1_oem_info", label)
        return self.write(f"class/hwmon/hwmon{number}/{folder}power1_average", str(microwatts))


@pytest.fixture
def opened() -> Iterator[Callable[..., GracePower]]:
    made = []

    def open_it(node: Node, gpus: list[GpuInfo]) -> GracePower:
        made.append(GracePower(gpus, node.root))
        return made[-1]

    yield open_it
    for one in made:
        one.close()


def soon(power: GracePower, gpu: int) -> float:
    """Return the power once it was read."""
    give_up_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_s:
        value = power.read_w(gpu)
        if value is not None:
            return value
        time.sleep(0.01)
    raise AssertionError(f"no value for GPU {gpu}: {power.notes}")


def all_meters(node: Node, folder: str = "device/") -> None:
    """Write the meters of four sockets, not in their order."""
    for at, socket in enumerate((2, 0, 3, 1)):
        node.meter(4 * at + 1, f"Module Power Socket {socket}", 600_000_000, folder)
        node.meter(4 * at + 2, f"Grace Power Socket {socket}", 150_000_000 + socket, folder)
        node.meter(4 * at + 3, f"CPU Power Socket {socket}", 100_000_000 + 10_000_000 * socket, folder)
        node.meter(4 * at + 4, f"SysIO Power Socket {socket}", 20_000_000, folder)


# --- which meter is whose


@pytest.mark.parametrize("folder", ["", "device/"])
def test_every_gpu_has_the_cpu_of_its_module(tmp_path, opened, folder):
    node = Node(tmp_path)
    all_meters(node, folder)
    power = opened(node, GPUS)
    assert [soon(power, i) for i in range(4)] == [100.0, 110.0, 120.0, 130.0]
    assert power.notes == []


def test_a_run_on_one_gpu_of_four_reads_that_one(tmp_path, opened):
    node = Node(tmp_path)
    all_meters(node)
    power = opened(node, [msgspec.structs.replace(GPUS[2], index=0)])
    assert soon(power, 0) == 120.0
    assert power.read_w(1) is None


def test_firmware_may_number_packages_as_it_likes(tmp_path, opened):
    node = Node(tmp_path, packages=(36, 1180, 2324, 3468))
    all_meters(node)
    power = opened(node, GPUS)
    assert [soon(power, i) for i in (3, 0)] == [130.0, 100.0]


def test_the_whole_grace_stands_in_for_a_missing_cpu_rail(tmp_path, opened):
    node = Node(tmp_path, sockets=1)
    node.meter(0, "Grace Power Socket 0", 155_500_000)
    node.meter(1, "SysIO Power Socket 0", 20_000_000)
    assert soon(opened(node, GPUS[:1]), 0) == 155.5


def test_one_socket_and_one_gpu_need_no_topology(tmp_path, opened):
    node = Node(tmp_path, sockets=0)
    node.meter(0, "CPU Power Socket 0", 90_000_000)
    alone = GpuInfo(index=0, name="NVIDIA GH200 480GB", pci_bus_id=None)
    assert soon(opened(node, [alone]), 0) == 90.0


def test_two_gpus_without_topology_could_both_be_beside_the_one_socket(tmp_path, opened):
    node = Node(tmp_path, sockets=0)
    node.meter(0, "CPU Power Socket 0", 90_000_000)
    power = opened(node, [msgspec.structs.replace(gpu, pci_bus_id=None) for gpu in GPUS[:2]])
    assert [power.read_w(0), power.read_w(1)] == [None, None]
    assert power.notes == ["the CPU's power beside GPU 0, 1 is not read: which socket is theirs is unknown"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda node: node.write(f"bus/pci/devices/{BUS_IDS[1][4:]}/numa_node", "-1"),
        lambda node: node.write(f"bus/pci/devices/{BUS_IDS[1][4:]}/numa_node", "12"),
        lambda node: node.write("devices/system/node/node1/cpulist", ""),
        lambda node: (node.sysfs / f"bus/pci/devices/{BUS_IDS[1][4:]}/numa_node").unlink(),
        lambda node: node.write("devices/system/cpu/cpu72/topology/physical_package_id", "-1"),
    ],
)
def test_a_gpu_whose_socket_is_unknown_gets_none_of_them(tmp_path, opened, spoil):
    node = Node(tmp_path)
    all_meters(node)
    spoil(node)
    power = opened(node, GPUS)
    assert power.read_w(1) is None
    assert "beside GPU" in power.notes[0]
    assert "1" in power.notes[0]


def test_more_sockets_than_meters_say_nothing(tmp_path, opened):
    node = Node(tmp_path)
    node.meter(0, "CPU Power Socket 0", 90_000_000)
    power = opened(node, GPUS[1:2])
    assert power.read_w(1) is None
    assert power.notes == ["the CPU's power beside GPU 1 is not read: which socket is theirs is unknown"]


@pytest.mark.parametrize("bus_id", [None, "", "01:00.0", "zzzz:01:00.0", "/../../../etc"])
def test_an_odd_bus_id_is_no_socket(tmp_path, opened, bus_id):
    node = Node(tmp_path)
    all_meters(node)
    assert opened(node, [msgspec.structs.replace(GPUS[0], pci_bus_id=bus_id)]).read_w(0) is None


# --- what is no meter


@pytest.mark.parametrize(
    "label",
    [
        "Module Power Socket 0",
        "SysIO Power Socket 0",
        "CPU Power",
        "CPU Power Socket",
        "CPU Power Socket A",
        "PSU 1",
        "",
    ],
)
def test_other_meters_are_not_the_cpus(tmp_path, label):
    node = Node(tmp_path)
    node.meter(0, label, 90_000_000)
    assert find_meters(node.sysfs) == {}


def test_a_module_without_meters_says_what_is_missing(tmp_path, opened):
    power = opened(Node(tmp_path), GPUS)
    assert power.read_w(0) is None
    [note] = power.notes
    assert "acpi_power_meter" in note


def test_what_nobody_asked_for_is_not_missed(tmp_path, opened):
    node = Node(tmp_path)
    all_meters(node)
    (node.sysfs / f"bus/pci/devices/{BUS_IDS[1][4:]}/numa_node").unlink()
    power = opened(node, GPUS)
    soon(power, 0)
    assert power.notes == []
    assert power.read_w(1) is None
    assert len(power.notes) == 1


def test_other_gpus_are_not_looked_at(tmp_path, opened):
    node = Node(tmp_path)
    all_meters(node)
    power = opened(node, [GpuInfo(index=0, name="NVIDIA H100 80GB HBM3", pci_bus_id=BUS_IDS[0])])
    assert power.read_w(0) is None
    assert power.notes == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_meter_that_may_not_be_read_is_none(tmp_path, opened):
    node = Node(tmp_path, sockets=1)
    node.meter(0, "CPU Power Socket 0", 90_000_000).chmod(0o000)
    power = opened(node, GPUS[:1])
    assert power.read_w(0) is None
    assert "readable by all?" in power.notes[0]


# --- values


@pytest.mark.parametrize("text", ["0", "-5", "", "N/A", "4294967295000000", "2000000001", "1e8"])
def test_what_cannot_be_true_is_no_value(tmp_path, opened, monkeypatch, text):
    monkeypatch.setattr(grace, "PERIOD_S", 0.01)
    node = Node(tmp_path, sockets=1)
    file = node.meter(0, "CPU Power Socket 0", 90_000_000)
    power = opened(node, GPUS[:1])
    assert soon(power, 0) == 90.0
    file.write_text(text)
    until(lambda: power.read_w(0) is None)
    file.write_text("91000000\n")
    assert soon(power, 0) == 91.0


def until(holds: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up_s
        time.sleep(0.005)


def test_values_follow_the_meter(tmp_path, opened, monkeypatch):
    monkeypatch.setattr(grace, "PERIOD_S", 0.01)
    node = Node(tmp_path, sockets=1)
    file = node.meter(0, "CPU Power Socket 0", 90_000_000)
    power = opened(node, GPUS[:1])
    assert soon(power, 0) == 90.0
    file.write_text("123456789\n")
    until(lambda: math.isclose(power.read_w(0) or 0.0, 123.456789))


def test_a_meter_that_does_not_answer_is_not_waited_for_and_its_value_ages(tmp_path, opened, monkeypatch):
    """The second meter hangs for good; the first one goes on."""
    monkeypatch.setattr(grace, "PERIOD_S", 0.01)
    monkeypatch.setattr(grace, "MOST_AGE_NS", 200_000_000)
    node, hang = Node(tmp_path), threading.Event()
    all_meters(node)
    read, hanging = os.pread, threading.Event()
    slow = (node.sysfs / "class/hwmon/hwmon15/device/power1_average").stat().st_ino  # socket 1

    def pread(fd: int, length: int, offset: int) -> bytes:
        if hanging.is_set() and os.fstat(fd).st_ino == slow:
            hang.wait()
        return read(fd, length, offset)

    monkeypatch.setattr(os, "pread", pread)
    power = opened(node, GPUS[:2])
    assert (soon(power, 0), soon(power, 1)) == (100.0, 110.0)
    hanging.set()
    until(lambda: power.read_w(1) is None)
    assert soon(power, 0) == 100.0
    hang.set()
    assert soon(power, 1) == 110.0


def test_closing_ends_the_threads_and_gives_back_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr(grace, "PERIOD_S", 0.01)
    node = Node(tmp_path)
    all_meters(node)
    power = GracePower(GPUS, node.root)
    for gpu in range(4):
        soon(power, gpu)
    power.close()
    power.close()
    until(lambda: not any(thread.name == "satscore-cpu-power" for thread in threading.enumerate()))
    assert not [fd for fd in Path("/proc/self/fd").iterdir() if "power1_average" in _target(fd)]


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""
