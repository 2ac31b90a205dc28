"""What does not change during a run: CPUs, memory, settings of the kernel, the working directory's file system."""

import os
import re
from pathlib import Path

from satscore.core.host import HostInfo
from satscore.counters.host.cgroup import Cgroup
from satscore.counters.host.files import try_read, why_not
from satscore.counters.host.mounts import mount_of, parse_mounts

_KIB = 1024
_CHOSEN = re.compile(rb"\[(\w+)\]")


def host_info(root: Path, child_pid: int | None, cgroup: Cgroup) -> HostInfo:
    """Return what does not change.

    Args:
        root: Where /proc and /sys are.
        child_pid: The command's process; None: there is no command.
        cgroup: What bounds it.
    """
    thp = root / "sys/kernel/mm/transparent_hugepage/enabled"
    chosen = _CHOSEN.search(try_read(thp) or b"")
    memory = kib_of(try_read(root / "proc/meminfo") or b"", b"MemTotal")
    memory_bytes = None if memory is None else memory * _KIB
    cpus, sockets = online_cpus(root), _sockets(root)
    usable, limit = _usable_count(root, cgroup, cpus), cgroup.memory_limit_bytes
    kernel = (try_read(root / "proc/sys/kernel/osrelease") or b"").decode("ascii", "replace").strip() or None
    working_fs, no_fs = _workdir_fs(root, child_pid)
    reasons = {
        "cpus_count": (cpus, "sys/devices/system/cpu/online"),
        "cpus_usable_count": (usable, "proc/self/status"),
        "sockets_count": (sockets, "sys/devices/system/cpu/cpu0/topology/physical_package_id"),
        "memory_total_bytes": (memory, "proc/meminfo"),
        "huge_pages": (chosen, "sys/kernel/mm/transparent_hugepage/enabled"),
        "kernel_version": (kernel, "proc/sys/kernel/osrelease"),
    }
    missing = {name: why_not(root / path, root) for name, (value, path) in reasons.items() if value is None}
    return HostInfo(
        cpus_count=None if cpus is None else len(cpus),
        cpus_usable_count=usable,
        sockets_count=sockets,
        memory_total_bytes=memory_bytes,
        memory_limit_bytes=limit if limit and memory_bytes and limit < memory_bytes else None,
        huge_pages=chosen[1].decode() if chosen else None,
        workdir_fs=working_fs,
        kernel_version=kernel,
        missing=missing | ({} if no_fs is None else {"workdir_fs": no_fs}),
    )


def online_cpus(root: Path) -> frozenset[int] | None:
    """Return the CPUs of the node; None where it is not known."""
    return _cpu_list(try_read(root / "sys/devices/system/cpu/online"))


def allowed_cpus(root: Path) -> frozenset[int] | None:
    """Return the CPUs that this process was given, and the command with it; None where it is not known.

    Not the command's own: OpenMP with OMP_PROC_BIND ties a program's first thread to a single CPU.
    """
    for line in (try_read(root / "proc/self/status") or b"").splitlines():
        if line.startswith(b"Cpus_allowed_list:"):
            return _cpu_list(line.partition(b":")[2])
    return None


def kib_of(meminfo: bytes, name: bytes) -> int | None:
    """Return an entry of /proc/meminfo in KiB, or None."""
    _, found, rest = (b"\n" + meminfo).partition(b"\n" + name + b":")
    words = rest[:64].split(maxsplit=1) if found else []
    return int(words[0]) if words and words[0].isdigit() else None


def _usable_count(root: Path, cgroup: Cgroup, online: frozenset[int] | None) -> float | None:
    allowed = allowed_cpus(root)
    if allowed is None:
        return cgroup.cpu_quota
    count = float(len(allowed & online if online is not None else allowed))
    return count if cgroup.cpu_quota is None else min(count, cgroup.cpu_quota)


def _cpu_list(text: bytes | None) -> frozenset[int] | None:
    """Return the numbers in a list of the kernel ("0-3,8"), or None where it is none."""
    cpus = set[int]()
    for part in (text or b"").strip().split(b","):
        first, dash, last = part.partition(b"-")
        if not first.isdigit() or (dash and not last.isdigit()):
            return None
        cpus.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(cpus)


def _sockets(root: Path) -> int | None:
    """Return the number of CPU packages; one small file per CPU, once."""
    pattern = "sys/devices/system/cpu/cpu[0-9]*/topology/physical_package_id"
    return len({try_read(path) for path in root.glob(pattern)} - {None}) or None


def _workdir_fs(root: Path, child_pid: int | None) -> tuple[str | None, str | None]:
    """Return the type of the working directory's file system, or why it is not known.

    By name alone: a call into the file system itself hangs where its server is dead.
    """
    if child_pid is None:
        return None, "there is no command"
    try:
        path = os.readlink(root / f"proc/{child_pid}/cwd")  # noqa: PTH115 - a name, of whatever bytes
    except OSError as error:
        return None, f"/proc/{child_pid}/cwd: {error.strerror}"
    table = root / f"proc/{child_pid}/mountinfo"
    mount = mount_of(path, parse_mounts(try_read(table) or b""))
    return (None, why_not(table, root)) if mount is None else (mount.kind, None)
