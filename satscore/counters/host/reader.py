"""Readings of the host: node and command together, an interval each."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from satscore.core.host import COMMAND_FIELDS, HOST_FIELDS, HostInfo, HostReading, host_reading
from satscore.core.units import NS_PER_S
from satscore.counters.host.cgroup import Cgroup
from satscore.counters.host.node import NodeReader
from satscore.counters.host.static import host_info
from satscore.counters.host.tree import ProcessTree, Visit


class HostReader:
    """Reads a host; whatever cannot be read is unknown, with its reason in ``info``. One user.

    Args:
        child_pid: The command's first process; None: there is no command, and only the node is read.
        owns: As for ProcessTree.
        root: Where /proc and /sys are.
    """

    def __init__(
        self, child_pid: int | None, owns: Callable[[int], bool] | None = None, root: Path = Path("/")
    ) -> None:
        cgroup = Cgroup(root)
        self.info: HostInfo = host_info(root, child_pid, cgroup)
        self._child_pid = child_pid
        self._node = NodeReader(root, cgroup)
        cpus = self.info.cpus_count or os.cpu_count() or 1
        self._tree = None if child_pid is None else ProcessTree(child_pid, cpus, owns, root)
        self._last_ns: int | None = None

    @property
    def no_command_reason(self) -> str | None:
        """Why nothing is known of the command's processes; None if they are read."""
        if self._tree is None:
            return "there is no command"
        return None if self._tree.is_known else f"/proc/{self._child_pid}/stat cannot be read"

    def read(self, now_ns: int) -> HostReading | None:
        """Return the reading since the last call; None: this was the first, or no time has passed.

        Args:
            now_ns: Present time on the run's axis.
        """
        last_ns, self._last_ns = self._last_ns, now_ns
        duration_s = 0.0 if last_ns is None else max(0, now_ns - last_ns) / NS_PER_S
        values = self._node.read(duration_s)
        if self._tree is not None and self._tree.is_known:
            visit = self._tree.visit(now_ns, duration_s, self._node.forks_count)
            values |= _of_command(visit, duration_s) if duration_s else {}
        if last_ns is None or duration_s == 0:
            return None
        reading = host_reading(last_ns, now_ns, values)
        self._say_missing(reading)
        return reading

    def _say_missing(self, reading: HostReading) -> None:
        """Keep why a field is not known, asked once for each."""
        unknown = [
            field.name
            for field, value in zip(HOST_FIELDS, reading.values, strict=True)
            if math.isnan(value) and field.name not in self.info.missing
        ]
        if unknown:
            reasons = {name: self._why_missing(name) for name in unknown}
            self.info = msgspec.structs.replace(self.info, missing=self.info.missing | reasons)

    def _why_missing(self, name: str) -> str:
        return (self.no_command_reason or "") if name in COMMAND_FIELDS else self._node.why_missing(name)


def _of_command(visit: Visit, duration_s: float) -> dict[str, float]:
    return {
        "command_cpu_cores": visit.cpu_s / duration_s,
        "command_processes_count": float(visit.processes_count),
        "command_threads_count": float(visit.threads_count),
        "command_rss_bytes": float(visit.rss_bytes),
    }
