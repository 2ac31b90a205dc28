"""A made-up /proc and /sys: files that say what the kernel would, and processes that live and die in it."""

from dataclasses import dataclass, field
from pathlib import Path

MEMINFO = """MemTotal:       16000000 kB
MemFree:         1000000 kB
MemAvailable:    8000000 kB
Buffers:           10000 kB
Cached:          3000000 kB
SwapCached:          999 kB
Dirty:              2000 kB
AnonHugePages:    500000 kB
"""
STATUS = "Name:\tpython\nCpus_allowed:\tff\nCpus_allowed_list:\t0-7\nMems_allowed_list:\t0\n"
MOUNTS = """22 1 0:21 / /proc rw shared:1 - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:40 / /scratch rw,relatime shared:9 master:2 - lustre mds@tcp:/snx rw,flock
31 27 0:41 / /home rw - autofs systemd-1 rw
32 31 0:42 / /home/ann rw - nfs4 server:/home rw
33 27 0:43 / /my\\040data rw - fuse.sshfs host: rw
"""


def put(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def cpu_lines(cpus: dict[str, tuple[int, int, int]], forks: int = 100, running: int = 3, blocked: int = 1) -> str:
    """/proc/stat of some CPUs, each with busy, idle and iowait ticks."""
    lines = [f"{name}  {busy} 0 0 {idle} {iowait} 0 0 0 0 0" for name, (busy, idle, iowait) in cpus.items()]
    tail = f"intr 5 0 0\nctxt 7\nbtime 1\nprocesses {forks}\nprocs_running {running}\nprocs_blocked {blocked}\n"
    return "\n".join(lines) + "\n" + tail


def machine(root: Path) -> Path:
    """Make a machine of eight CPUs in two sockets, without processes."""
    put(root, "proc/stat", cpu_lines({"cpu": (0, 0, 0)}))
    put(root, "proc/meminfo", MEMINFO)
    put(root, "proc/self/status", STATUS)
    put(root, "proc/self/mountinfo", MOUNTS)
    put(root, "proc/self/cgroup", "0::/\n")
    put(root, "proc/sys/kernel/osrelease", "6.1.0-test\n")
    put(root, "sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")
    put(root, "sys/devices/system/cpu/online", "0-7\n")
    for cpu in range(8):
        put(root, f"sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id", f"{cpu // 4}\n")
    return root


@dataclass
class Process:
    parent: int
    start: int = 1000
    own: int = 0
    waited: int = 0
    threads: int = 1
    rss: int = 10
    name: str = "python"
    dead: bool = field(default=False)


class Processes:
    """The processes of a made-up /proc."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.alive: dict[int, Process] = {}

    def add(self, pid: int, process: Process) -> None:
        self.alive[pid] = process
        self.show(pid)

    def show(self, pid: int) -> None:
        p = self.alive[pid]
        fields = ["0"] * 50
        fields[0], fields[1], fields[11], fields[13] = "S", str(p.parent), str(p.own), str(p.waited)
        fields[17], fields[19], fields[21] = str(p.threads), str(p.start), str(p.rss)
        put(self.root, f"proc/{pid}/stat", f"{pid} ({p.name}) " + " ".join(fields) + "\n")

    def work(self, pid: int, ticks: int) -> None:
        self.alive[pid].own += ticks
        self.show(pid)

    def end(self, pid: int, *, waited: bool = True, heir: int = 1) -> None:
        """Let one end and be waited for (or not); its children go to ``heir``."""
        gone = self.alive.pop(pid)
        folder = self.root / f"proc/{pid}"
        (folder / "stat").unlink()
        folder.rmdir()
        if waited and gone.parent in self.alive:
            self.alive[gone.parent].waited += gone.own + gone.waited
            self.show(gone.parent)
        for child, process in self.alive.items():
            if process.parent == pid:
                process.parent = heir
                self.show(child)
