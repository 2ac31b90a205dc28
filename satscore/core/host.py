"""What the host did beside the GPUs: fields, readings and facts. Evidence for findings, never in the score.

This module imports no numpy: it is on the path of the thread that reads.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from satscore.core.fields import Kind
from satscore.core.units import MIB

MILLI = 1_000
IOWAIT_FRAC, IOWAIT_CPUS, IO_PRESSURE_FRAC = 0.10, 2.0, 0.20
"""From here on the file system is what the command waits for (docs/method.md, "Host"): as a share of its CPUs, or
as many of them, because on a node of 288 eight blocked loaders are 3 %."""
CPUS_FULL_FRAC = 0.90
NETWORK_FILE_SYSTEMS = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "dvs", "gpfs", "glusterfs", "lustre", "nfs", "nfs4", "orangefs"),
        *("panfs", "pvfs2", "smb3", "wekafs"),
        *(f"fuse.{name}" for name in ("ceph", "daos", "dfuse", "gcsfuse", "glusterfs", "juicefs", "s3fs", "sshfs")),
    )
)
"""As the kernel names them in /proc/self/mountinfo; what is not here may still be remote."""


class HostField(NamedTuple):
    """One row of the table of host fields."""

    name: str
    unit: str
    kind: Kind
    parts: float
    """Integers per unit in the series: thousandths, and whole MiB of what is stated in bytes."""
    meaning: str


def _share(name: str, meaning: str) -> HostField:
    return HostField(name, "1", Kind.MEAN, MILLI, f"share of time in which {meaning}")


def _count(name: str, meaning: str) -> HostField:
    return HostField(name, "1", Kind.GAUGE, MILLI, meaning)


def _bytes(name: str, meaning: str) -> HostField:
    return HostField(name, "B", Kind.GAUGE, 1 / MIB, meaning)


HOST_FIELDS: tuple[HostField, ...] = (
    HostField("command_cpu_cores", "cores", Kind.MEAN, MILLI, "CPU time per second of the command's processes"),
    _count("command_processes_count", "processes of the command that are known"),
    _count("command_threads_count", "their threads"),
    _bytes("command_rss_bytes", "their resident memory; pages that they share count for each"),
    _share("cpu_busy_frac", "the CPUs that the command may use worked, for whomever"),
    _share("cpu_iowait_frac", "these CPUs were idle while a thread waited for a disk or file system"),
    _count("runnable_count", "threads of the node that run or wait for a CPU"),
    _count("blocked_count", "threads of the node that wait for a disk or file system"),
    _share("pressure_cpu_frac", "a thread of the command's cgroup waited for a CPU"),
    _share("pressure_io_frac", "a thread of the command's cgroup waited for a disk or file system"),
    _share("pressure_memory_frac", "a thread of the command's cgroup waited for memory, or for pages read again"),
    _bytes("memory_available_bytes", "memory of the node that is available, or what the cgroup's limit leaves"),
    _bytes("page_cache_bytes", "file pages in the node's memory"),
    _bytes("dirty_bytes", "file pages that are not yet written"),
    _bytes("huge_pages_bytes", "anonymous memory of the node in transparent huge pages"),
)
HOST_INDEX: dict[str, int] = {field.name: i for i, field in enumerate(HOST_FIELDS)}
N_HOST_FIELDS = len(HOST_FIELDS)
COMMAND_FIELDS = tuple(field.name for field in HOST_FIELDS if field.name.startswith("command_"))


class HostReading(NamedTuple):
    """One interval of one host.

    ``start_ns`` and ``end_ns`` lie on the run's monotonic axis. ``values`` has one entry per row of
    HOST_FIELDS, in that order; NaN: not known. Whole bytes are exact as float32 to one part in 16 million.
    """

    start_ns: int
    end_ns: int
    values: list[float]


def host_reading(start_ns: int, end_ns: int, values: Mapping[str, float]) -> HostReading:
    """Return a reading with these values; the others are unknown."""
    return HostReading(start_ns, end_ns, [values.get(field.name, math.nan) for field in HOST_FIELDS])


class HostInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change during a run; None where it is not known, with the reason in ``missing``."""

    cpus_count: int | None = None
    """CPUs of the node that are online."""
    cpus_usable_count: float | None = None
    """CPUs that the command may use: by affinity, or by the quota of its cgroup where that is less."""
    sockets_count: int | None = None
    memory_total_bytes: int | None = None
    memory_limit_bytes: int | None = None
    """The cgroup's limit where it is below the node's memory; None: there is none, or it is not known."""
    huge_pages: str | None = None
    """Setting of transparent huge pages: always, madvise or never."""
    workdir_fs: str | None = None
    """Type of the file system of the command's working directory, as the kernel names it."""
    kernel_version: str | None = None
    missing: dict[str, str] = {}
    """Why a fact of this block, or a field of HOST_FIELDS, is not known here."""

    @property
    def memory_usable_bytes(self) -> int | None:
        """Memory that the command may use; None: not known."""
        known = [size for size in (self.memory_total_bytes, self.memory_limit_bytes) if size is not None]
        return min(known, default=None)


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The host over a part of a run: of several hosts the means over them, the least and the most of any.

    ``mean``, ``least`` and ``most`` are by name of HOST_FIELDS; a name that is not there is not known.
    """

    mean: dict[str, float] = {}
    least: dict[str, float] = {}
    most: dict[str, float] = {}
    cpus_count: float | None = None
    cpus_usable_count: float | None = None
    memory_usable_bytes: int | None = None
    """Of the host with the least."""
    workdir_fs: tuple[str, ...] = ()
    """Different types of the working directory's file system; empty: not known."""

    @property
    def command_cpu_frac(self) -> float | None:
        """CPU time of the command over that of all CPUs that it may use."""
        return _over(self.mean.get("command_cpu_cores"), self.cpus_usable_count)

    @property
    def runnable_per_cpu(self) -> float | None:
        """Threads of the node that run or wait for a CPU, over its CPUs."""
        return _over(self.mean.get("runnable_count"), self.cpus_count)

    @property
    def memory_available_frac(self) -> float | None:
        """The least memory that was available, over what the command may use."""
        return _over(self.least.get("memory_available_bytes"), self.memory_usable_bytes)

    @property
    def on_network_fs(self) -> bool | None:
        """Whether the working directory is known to be on a network file system; None: nothing is known of it."""
        return any(kind in NETWORK_FILE_SYSTEMS for kind in self.workdir_fs) if self.workdir_fs else None


NOTHING_READ = HostFacts()
"""Of simulated, replayed or old runs: nobody read the host."""


def stall_variant(facts: HostFacts) -> str:
    """Return which advice fits a GPU that waits for the host in long gaps.

    Returns:
        ``cpus``: the command's CPUs are full; ``files``: it waits for the file system; empty: neither is
        known. Full CPUs go first: what also waits for files then would not go on faster without.
    """
    if _at_least(facts.command_cpu_frac, CPUS_FULL_FRAC):
        return "cpus"
    iowait_frac = facts.mean.get("cpu_iowait_frac")
    waits = _at_least(iowait_frac, IOWAIT_FRAC) or _at_least(_times(iowait_frac, facts.cpus_usable_count), IOWAIT_CPUS)
    waits = waits or _at_least(facts.mean.get("pressure_io_frac"), IO_PRESSURE_FRAC)
    return "files" if waits else ""


def gaps_variant(facts: HostFacts) -> str:
    """Return which advice fits gaps that are too short for the file system: ``cpus``, or none (empty)."""
    return "cpus" if stall_variant(facts) == "cpus" else ""


def _at_least(value: float | None, threshold: float) -> bool:
    return value is not None and value >= threshold


def _times(share: float | None, count: float | None) -> float | None:
    return None if share is None or count is None else share * count


def _over(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
