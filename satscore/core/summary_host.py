"""Types of ``summary.json`` for the host: what it did beside the GPUs. Evidence, never part of the score."""

from collections.abc import Sequence

import msgspec

from satscore.core.host import COMMAND_FIELDS, HostFacts, HostInfo

NO_READING = "no reading of the host in this part of the run"
_INFO_FIELDS = ("cpus_count", "cpus_usable_count", "sockets_count", "memory_total_bytes", "memory_limit_bytes")
_INFO_TEXTS = ("huge_pages", "kernel_version")


class HostItem(msgspec.Struct, frozen=True, kw_only=True):
    """The hosts of a scope: means over them and over time, maxima and minima of any.

    What does not change is null where hosts differ in it. Shares are of the time of the CPUs that the
    command may use; pressure is the share of time in which some thread waited (Linux PSI).
    """

    hosts_count: int
    """Hosts that were read, each as often as ranks read it."""
    cpus_count: int | None
    cpus_usable_count: float | None
    """By affinity, or by the cgroup's quota where that is less."""
    sockets_count: int | None
    memory_total_bytes: int | None
    memory_limit_bytes: int | None
    """Of the cgroup, where it is below the node's memory."""
    huge_pages: str | None
    """Setting of transparent huge pages."""
    kernel_version: str | None
    workdir_fs: list[str]
    """Types of the file system of the command's working directory; empty: not known."""
    command_cpu_cores: float | None
    """CPU time per second of the command's processes."""
    command_cpu_max_cores: float | None
    command_processes_max_count: int | None
    command_threads_max_count: int | None
    command_rss_max_bytes: int | None
    cpu_busy_frac: float | None
    cpu_iowait_frac: float | None
    cpu_iowait_max_frac: float | None
    runnable_count: float | None
    """Threads of the node that run or wait for a CPU."""
    runnable_max_count: int | None
    blocked_count: float | None
    """Threads of the node that wait for a disk or file system."""
    pressure_cpu_frac: float | None
    pressure_io_frac: float | None
    pressure_memory_frac: float | None
    memory_available_min_bytes: int | None
    page_cache_bytes: int | None
    dirty_max_bytes: int | None
    huge_pages_bytes: int | None
    missing: dict[str, str]


def host_item(infos: Sequence[HostInfo], facts: HostFacts) -> HostItem:
    """Return the block of a scope; every null has its reason in ``missing``, but a limit that is not there.

    Args:
        infos: What does not change, of each host.
        facts: What changed, over the scope.
    """
    values: dict[str, float | None] = {
        **{name: facts.mean.get(name) for name in ("command_cpu_cores", "cpu_busy_frac", "cpu_iowait_frac")},
        **{name: facts.mean.get(name) for name in ("runnable_count", "blocked_count")},
        **{name: facts.mean.get(name) for name in ("pressure_cpu_frac", "pressure_io_frac", "pressure_memory_frac")},
        "command_cpu_max_cores": facts.most.get("command_cpu_cores"),
        "cpu_iowait_max_frac": facts.most.get("cpu_iowait_frac"),
    }
    wholes = {
        **{name.replace("_count", "_max_count"): facts.most.get(name) for name in COMMAND_FIELDS if "_count" in name},
        "command_rss_max_bytes": facts.most.get("command_rss_bytes"),
        "runnable_max_count": facts.most.get("runnable_count"),
        "memory_available_min_bytes": facts.least.get("memory_available_bytes"),
        "page_cache_bytes": facts.mean.get("page_cache_bytes"),
        "dirty_max_bytes": facts.most.get("dirty_bytes"),
        "huge_pages_bytes": facts.mean.get("huge_pages_bytes"),
    }
    same = {name: _common([getattr(info, name) for info in infos]) for name in (*_INFO_FIELDS, *_INFO_TEXTS)}
    rounded = {name: None if value is None else round(value) for name, value in wholes.items()}
    nulls = [name for name, value in {**same, **values, **rounded}.items() if value is None]
    missing = {name: _reason(name, infos) for name in nulls if name != "memory_limit_bytes"}
    if not facts.workdir_fs:
        missing["workdir_fs"] = _reason("workdir_fs", infos)
    return HostItem(
        hosts_count=len(infos),
        **same,  # type: ignore[arg-type]
        workdir_fs=list(facts.workdir_fs),
        **values,  # type: ignore[arg-type]
        **rounded,  # type: ignore[arg-type]
        missing=missing,
    )


def _common(values: Sequence[object]) -> object:
    """Return what all hosts have, or None."""
    return values[0] if values and all(value == values[0] for value in values) else None


def _reason(key: str, infos: Sequence[HostInfo]) -> str:
    """Return why a value is null: by the field's name, which has neither ``max`` nor ``min`` in it."""
    name = key.replace("_max", "").replace("_min", "")
    found = [info.missing[name] for info in infos if name in info.missing]
    if found:
        return found[0]
    return "the hosts differ" if len({repr(getattr(info, name, None)) for info in infos}) > 1 else NO_READING
