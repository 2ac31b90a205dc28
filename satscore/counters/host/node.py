"""The node: its CPUs, memory and pressure, as differences and gauges at each read."""

from pathlib import Path

from satscore.counters.host.cgroup import Cgroup
from satscore.counters.host.files import try_read, why_not
from satscore.counters.host.static import allowed_cpus, kib_of, online_cpus

_KIB = 1024
_IDLE, _IOWAIT, _STEAL = 3, 4, 7
"""Columns of a CPU's line in /proc/stat (proc_stat(5)); guest time, which follows, is within user time."""
_US = 1e-6
_PRESSURES = ("cpu", "io", "memory")
_MEMORY = {
    "memory_available_bytes": b"MemAvailable",
    "page_cache_bytes": b"Cached",
    "dirty_bytes": b"Dirty",
    "huge_pages_bytes": b"AnonHugePages",
}


class NodeReader:
    """Reads the node; one user, nothing here is thread-safe.

    Args:
        root: Where /proc and /sys are.
        cgroup: What bounds the command.
    """

    def __init__(self, root: Path, cgroup: Cgroup) -> None:
        self.forks_count: int | None = None
        """Processes and threads that were started since the node booted, as of the last read."""
        self._root = root
        self._cgroup = cgroup
        self._stat, self._meminfo = root / "proc/stat", root / "proc/meminfo"
        allowed, online = allowed_cpus(root), online_cpus(root)
        # All of them: one line has their sum. Of 288 CPUs a line each would be read in vain.
        self._cpus = [] if allowed is None or online is None or allowed >= online else sorted(allowed)
        self._pressures = {name: self._pressure_file(name) for name in _PRESSURES}
        self._times: tuple[int, int, int] | None = None
        self._stalled: dict[str, int] = {}

    def read(self, duration_s: float) -> dict[str, float]:
        """Return what can be read, by name of HOST_FIELDS; means are over the time since the last read.

        Args:
            duration_s: That time; without a read before there is no mean.
        """
        values = self._processors() | self._memory()
        for name, path in self._pressures.items():
            now, before = _stalled_us(try_read(path)), self._stalled.get(name)
            if now is None:
                self._stalled.pop(name, None)
                continue
            self._stalled[name] = now
            if before is not None and duration_s > 0 and now >= before:
                values[f"pressure_{name}_frac"] = min(1.0, (now - before) * _US / duration_s)
        return values

    def why_missing(self, field: str) -> str:
        """Return why a field is not known."""
        if field.startswith("pressure_"):
            path = self._pressures[field.split("_")[1]]
        else:
            path = self._meminfo if field in _MEMORY else self._stat
        return why_not(path, self._root)

    def _processors(self) -> dict[str, float]:
        data = try_read(self._stat) or b""
        forks, runnable, blocked = (_entry(data, name) for name in (b"processes", b"procs_running", b"procs_blocked"))
        self.forks_count = forks
        # The thread that reads runs, too.
        values = {} if runnable is None else {"runnable_count": float(max(0, runnable - 1))}
        values |= {} if blocked is None else {"blocked_count": float(blocked)}
        now, before = _cpu_times(data, self._cpus), self._times
        self._times = now
        if now is not None and before is not None and now[0] > before[0]:
            # Idle and iowait of one CPU may go backwards by a tick (proc_stat(5)).
            whole, idle, iowait = (max(0, a - b) for a, b in zip(now, before, strict=True))
            values["cpu_iowait_frac"] = min(1.0, iowait / whole)
            values["cpu_busy_frac"] = max(0.0, 1.0 - (idle + iowait) / whole)
        return values

    def _memory(self) -> dict[str, float]:
        data = try_read(self._meminfo) or b""
        values = {
            field: float(kib * _KIB) for field, name in _MEMORY.items() if (kib := kib_of(data, name)) is not None
        }
        left, name = self._cgroup.memory_left_bytes(), "memory_available_bytes"
        if left is not None:
            values[name] = min(float(left), values.get(name, float(left)))
        return values

    def _pressure_file(self, name: str) -> Path:
        """Return the cgroup's own file, which is of the command alone, else the node's."""
        folder = self._cgroup.pressure_folder
        own = None if folder is None else folder / f"{name}.pressure"
        return own if own is not None and try_read(own) else self._root / "proc/pressure" / name


def _cpu_times(data: bytes, cpus: list[int]) -> tuple[int, int, int] | None:
    """Return all time, idle time and iowait of some CPUs in ticks; of none: of all together."""
    wanted = {b"cpu%d" % cpu for cpu in cpus} or {b"cpu"}
    whole, idle, iowait, count = 0, 0, 0, 0
    for line in data[: data.find(b"\nintr")].splitlines():
        name, _, rest = line.partition(b" ")
        if name in wanted:
            times = [int(word) for word in rest.split()[: _STEAL + 1]]
            if len(times) <= _IOWAIT:
                return None
            whole, idle, iowait, count = whole + sum(times), idle + times[_IDLE], iowait + times[_IOWAIT], count + 1
    # A CPU that goes offline takes its line with it: then there is no difference to what was.
    return (whole, idle, iowait) if count == len(wanted) else None


def _entry(data: bytes, name: bytes) -> int | None:
    _, found, rest = data.partition(b"\n" + name + b" ")
    number = rest[:24].partition(b"\n")[0].strip() if found else b""
    return int(number) if number.isdigit() else None


def _stalled_us(data: bytes | None) -> int | None:
    """Return the time in which some thread waited, in us since boot (Documentation/accounting/psi.rst)."""
    line = (data or b"").partition(b"\n")[0]
    number = line.rpartition(b"total=")[2]
    return int(number) if line.startswith(b"some ") and number.isdigit() else None
