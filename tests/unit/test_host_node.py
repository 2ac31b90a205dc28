"""The node and what bounds the command there, from made-up files of /proc and /sys."""

import math
import os
from pathlib import Path

import pytest

from satscore.core.host import COMMAND_FIELDS, HOST_FIELDS, HOST_INDEX, HostReading
from satscore.counters.host.cgroup import Cgroup
from satscore.counters.host.mounts import mount_of, parse_mounts
from satscore.counters.host.node import NodeReader
from satscore.counters.host.reader import HostReader
from satscore.counters.host.static import host_info
from tests.unit.host_proc import MEMINFO, MOUNTS, Process, Processes, cpu_lines, machine, put

NS = 1_000_000_000
GIB = 2**30
V2_MOUNT = "40 27 0:50 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
PATH = "/system.slice/job_7/step_0/task_0"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return machine(tmp_path)


def in_v2(root: Path, path: str = PATH, mount: str = V2_MOUNT) -> str:
    """Put our process into a cgroup; return the folder of the hierarchy's top."""
    put(root, "proc/self/mountinfo", MOUNTS + mount)
    put(root, "proc/self/cgroup", f"0::{path}\n")
    for level in (PATH, *(str(above) for above in Path(PATH).parents)):
        put(root, f"sys/fs/cgroup{level}/cgroup.procs", "")
    return "sys/fs/cgroup"


def value(reading: HostReading | None, name: str) -> float:
    assert reading is not None
    return reading.values[HOST_INDEX[name]]


# --- CPUs


def read_twice(root: Path, first: str, second: str) -> dict[str, float]:
    node = NodeReader(root, Cgroup(root))
    put(root, "proc/stat", first)
    node.read(0.0)
    put(root, "proc/stat", second)
    return node.read(1.0)


def test_shares_of_time_are_those_between_two_reads(root):
    values = read_twice(root, cpu_lines({"cpu": (1000, 5000, 70)}), cpu_lines({"cpu": (1300, 5500, 270)}))
    assert values["cpu_busy_frac"] == pytest.approx(0.3)
    assert values["cpu_iowait_frac"] == pytest.approx(0.2)
    assert (values["runnable_count"], values["blocked_count"]) == (2, 1)


def test_user_nice_system_irq_and_steal_are_busy_and_guests_are_not_counted_twice(root):
    before, after = "cpu  0 0 0 0 0 0 0 0 0 0\nintr 0\n", "cpu  10 10 10 30 10 10 10 10 90 90\nintr 0\n"
    values = read_twice(root, before, after)
    assert values["cpu_busy_frac"] == pytest.approx(0.6)
    assert values["cpu_iowait_frac"] == pytest.approx(0.1)


def test_only_the_cpus_that_the_command_may_use_count(root):
    put(root, "proc/self/status", "Cpus_allowed_list:\t2,10-11\n")
    put(root, "sys/devices/system/cpu/online", "0-15\n")
    cpus = {f"cpu{i}": (0, 0, 0) for i in range(16)}
    later = cpus | {"cpu2": (100, 0, 0), "cpu10": (0, 100, 0), "cpu11": (0, 60, 40), "cpu1": (100, 0, 0)}
    values = read_twice(root, cpu_lines(cpus), cpu_lines(later))
    assert values["cpu_busy_frac"] == pytest.approx(1 / 3)
    assert values["cpu_iowait_frac"] == pytest.approx(40 / 300)


def test_idle_time_that_goes_backwards_is_none(root):
    values = read_twice(root, cpu_lines({"cpu": (100, 500, 70)}), cpu_lines({"cpu": (200, 600, 69)}))
    assert values["cpu_iowait_frac"] == 0.0
    assert 0 <= values["cpu_busy_frac"] <= 1


def test_a_cpu_that_goes_offline_makes_a_gap_and_no_nonsense(root):
    put(root, "proc/self/status", "Cpus_allowed_list:\t0-1\n")
    both, one = {"cpu0": (100, 100, 0), "cpu1": (100, 100, 0)}, {"cpu0": (2000, 100, 0)}
    assert "cpu_busy_frac" not in read_twice(root, cpu_lines(both), cpu_lines(one))


@pytest.mark.parametrize("text", ["", "cpu\n", "cpu  1 2\nintr 0\n", "hello"])
def test_a_masked_proc_stat_is_unknown(root, text):
    values = read_twice(root, text, text)
    assert not {"cpu_busy_frac", "cpu_iowait_frac", "runnable_count"} & values.keys()


# --- memory and pressure


def test_memory_is_the_nodes(root):
    values = NodeReader(root, Cgroup(root)).read(1.0)
    assert values["memory_available_bytes"] == 8_000_000 * 1024
    assert values["page_cache_bytes"] == 3_000_000 * 1024  # not SwapCached
    assert (values["dirty_bytes"], values["huge_pages_bytes"]) == (2_000 * 1024, 500_000 * 1024)


@pytest.mark.parametrize("above", [PATH, "/system.slice/job_7"])
def test_a_limit_anywhere_above_bounds_the_memory(root, above):
    top = in_v2(root)
    put(root, f"{top}{PATH}/memory.max", "max\n")
    put(root, f"{top}{above}/memory.max", f"{4 * GIB}\n")
    put(root, f"{top}{above}/memory.current", f"{3 * GIB}\n")
    put(root, f"{top}{above}/memory.stat", f"anon 5\ninactive_file {GIB // 2}\nactive_file 7\n")
    assert NodeReader(root, Cgroup(root)).read(1.0)["memory_available_bytes"] == 1.5 * GIB
    assert host_info(root, None, Cgroup(root)).memory_limit_bytes == 4 * GIB


def test_a_limit_above_the_nodes_memory_bounds_nothing(root):
    top = in_v2(root)
    put(root, f"{top}{PATH}/memory.max", f"{900 * GIB}\n")
    put(root, f"{top}{PATH}/memory.current", f"{GIB}\n")
    assert NodeReader(root, Cgroup(root)).read(1.0)["memory_available_bytes"] == 8_000_000 * 1024
    assert host_info(root, None, Cgroup(root)).memory_limit_bytes is None


def test_version_1_of_cgroups(root):
    mount = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    mount += "36 31 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    put(root, "proc/self/mountinfo", MOUNTS + mount)
    put(root, "proc/self/cgroup", "4:memory:/slurm/job_7\n1:cpu,cpuacct:/slurm\n0::/\n")
    put(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    put(root, "sys/fs/cgroup/memory/slurm/job_7/memory.limit_in_bytes", f"{2 * GIB}\n")
    put(root, "sys/fs/cgroup/memory/slurm/job_7/memory.usage_in_bytes", f"{GIB}\n")
    put(root, "sys/fs/cgroup/memory/slurm/job_7/memory.stat", "inactive_file 1\ntotal_inactive_file 1024\n")
    put(root, "sys/fs/cgroup/cpu/slurm/cpu.cfs_quota_us", "250000\n")
    put(root, "sys/fs/cgroup/cpu/slurm/cpu.cfs_period_us", "100000\n")
    cgroup = Cgroup(root)
    assert (cgroup.memory_limit_bytes, cgroup.cpu_quota) == (2 * GIB, 2.5)
    assert cgroup.memory_left_bytes() == GIB + 1024
    put(root, "proc/self/cgroup", "4:memory:/\n0::/\n")
    assert Cgroup(root).memory_limit_bytes is None


@pytest.mark.parametrize(("path", "part"), [("/", "/a"), ("/../..", "/a"), ("/elsewhere", "/a"), ("/../..", "/")])
def test_a_container_sees_its_cgroup_as_the_top(root, path, part):
    """In a cgroup namespace the path is ``/``; a mount of the container's part has that as its root."""
    top = in_v2(root, path, V2_MOUNT.replace(" / /sys", f" {part} /sys"))
    put(root, f"{top}/memory.max", f"{GIB}\n")
    cgroup = Cgroup(root)
    assert (cgroup.memory_limit_bytes, cgroup.pressure_folder) == (GIB, root / top)


def test_pressure_is_the_cgroups_own_where_it_has_one(root):
    top = in_v2(root)
    put(root, "proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=100\n")
    put(root, "proc/pressure/io", "some avg10=0.00 avg60=0.00 avg300=0.00 total=100\nfull avg10=0 total=9\n")
    own = f"{top}{PATH}/io.pressure"
    put(root, own, "some avg10=0.00 avg60=0.00 avg300=0.00 total=5000000\nfull avg10=0 total=9\n")
    node = NodeReader(root, Cgroup(root))
    assert not [name for name in node.read(0.0) if name.startswith("pressure")]
    put(root, own, "some avg10=0.00 avg60=0.00 avg300=0.00 total=5500000\nfull avg10=0 total=9\n")
    put(root, "proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=200100\n")
    values = node.read(2.0)
    assert values["pressure_io_frac"] == pytest.approx(0.25)
    assert values["pressure_cpu_frac"] == pytest.approx(0.1)
    assert "pressure_memory_frac" not in values
    assert node.why_missing("pressure_memory_frac") == "/proc/pressure/memory: No such file or directory"


# --- what does not change


def test_the_facts_of_a_machine(root):
    cwd = root / "proc/77/cwd"
    cwd.parent.mkdir()
    cwd.symlink_to("/scratch/ann/run 1")
    put(root, "proc/77/mountinfo", MOUNTS)
    info = host_info(root, 77, Cgroup(root))
    assert (info.cpus_count, info.cpus_usable_count, info.sockets_count) == (8, 8.0, 2)
    assert (info.memory_total_bytes, info.memory_usable_bytes) == (16_000_000 * 1024, 16_000_000 * 1024)
    assert (info.huge_pages, info.kernel_version, info.workdir_fs) == ("madvise", "6.1.0-test", "lustre")
    assert info.missing == {}


def test_affinity_and_quota_bound_the_cpus(root):
    put(root, "proc/self/status", "Cpus_allowed_list:\t0-2,5,40-47\n")
    assert host_info(root, None, Cgroup(root)).cpus_usable_count == 4  # of those that are online
    top = in_v2(root)
    put(root, f"{top}/system.slice/cpu.max", "150000 100000\n")
    put(root, f"{top}{PATH}/cpu.max", "max 100000\n")
    assert host_info(root, None, Cgroup(root)).cpus_usable_count == 1.5


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/ann/x", "nfs4"),
        ("/home/bob", "autofs"),
        ("/homework", "ext4"),
        ("/scratch", "lustre"),
        ("/my data/a", "fuse.sshfs"),
        ("/", "ext4"),
    ],
)
def test_the_longest_mount_above_a_path_is_its_own(path, kind):
    mount = mount_of(path, parse_mounts(MOUNTS.encode()))
    assert mount is not None
    assert mount.kind == kind


def test_of_two_mounts_at_one_place_the_later_one_is_seen():
    over = MOUNTS + "50 30 0:9 / /scratch rw - tmpfs tmpfs rw\n"
    mount = mount_of("/scratch/x", parse_mounts(over.encode()))
    assert mount is not None
    assert mount.kind == "tmpfs"


def test_nothing_readable_is_nothing_known_and_everything_has_its_reason(tmp_path):
    reader = HostReader(77, root=tmp_path)
    assert reader.read(NS) is None
    reading = reader.read(2 * NS)
    assert reading is not None
    assert all(math.isnan(v) for v in reading.values)
    info = reader.info
    assert (info.cpus_count, info.memory_total_bytes, info.huge_pages, info.workdir_fs) == (None, None, None, None)
    facts = {"cpus_count", "cpus_usable_count", "sockets_count", "memory_total_bytes", "huge_pages", "kernel_version"}
    assert set(info.missing) == {field.name for field in HOST_FIELDS} | facts | {"workdir_fs"}
    assert all(info.missing.values())


# --- readings


def test_a_reading_covers_the_time_since_the_last(root):
    processes = Processes(root)
    processes.add(77, Process(1))
    reader = HostReader(77, root=root)
    assert reader.read(5 * NS) is None
    processes.work(77, 300)
    reading = reader.read(7 * NS)
    assert (value(reading, "command_cpu_cores"), value(reading, "command_processes_count")) == (1.5, 1)
    assert reading is not None
    assert (reading.start_ns, reading.end_ns) == (5 * NS, 7 * NS)
    assert reader.read(7 * NS) is None


def test_without_a_command_only_the_node_is_read(root):
    reader = HostReader(None, root=root)
    reader.read(NS)
    reading = reader.read(2 * NS)
    assert all(math.isnan(value(reading, name)) for name in COMMAND_FIELDS)
    assert value(reading, "memory_available_bytes") > 0
    assert {reader.info.missing[name] for name in (*COMMAND_FIELDS, "workdir_fs")} == {"there is no command"}


def test_what_vanishes_in_the_middle_is_unknown_from_then_on(root):
    reader = HostReader(None, root=root)
    reader.read(NS)
    (root / "proc/meminfo").unlink()
    assert math.isnan(value(reader.read(2 * NS), "memory_available_bytes"))
    put(root, "proc/meminfo", MEMINFO)
    assert value(reader.read(3 * NS), "memory_available_bytes") > 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_hidden_processes_are_unknown_and_no_error(root):
    Processes(root).add(77, Process(1))
    (root / "proc/77").chmod(0)
    reader = HostReader(77, root=root)
    assert reader.no_command_reason == "/proc/77/stat cannot be read"
    (root / "proc/77").chmod(0o700)
