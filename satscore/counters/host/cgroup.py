"""The cgroup that bounds the job: CPU quota, memory limit and what is left of it, own pressure (v1 and v2).

In a Slurm job or a container the node's figures mislead: a job may have 64 GB of 800. Limits stand anywhere
between our cgroup and the top of what is mounted, so all of these are looked at, once.
"""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from satscore.counters.host.files import try_read
from satscore.counters.host.mounts import Mount, parse_mounts

_V1_NO_LIMIT_BYTES = 1 << 60
"""Version 1 says LONG_MAX, rounded down to a page, where there is no limit."""


class Cgroup:
    """The cgroup of this process, which the command has inherited.

    Args:
        root: Where /proc and /sys are.
        pid: Of the process to look at; ``self``.
    """

    def __init__(self, root: Path, pid: str = "self") -> None:
        mounts = parse_mounts(try_read(root / f"proc/{pid}/mountinfo") or b"")
        paths = _paths(try_read(root / f"proc/{pid}/cgroup") or b"")
        unified = _levels(root, mounts, "cgroup2", "", paths)
        self.pressure_folder: Path | None = unified[0] if unified else None
        """Where the cgroup's own pressure files are, if the kernel makes them."""
        self.cpu_quota = _least(
            [_quota_v2(level) for level in unified]
            + [_quota_v1(level) for level in _levels(root, mounts, "cgroup", "cpu", paths)]
        )
        """CPUs' worth of time per second; None: no quota."""
        limited = [(_number(level / "memory.max"), level) for level in unified]
        for level in _levels(root, mounts, "cgroup", "memory", paths):
            limit = _number(level / "memory.limit_in_bytes")
            limited.append((None if limit is None or limit >= _V1_NO_LIMIT_BYTES else limit, level))
        known = [(limit, level) for limit, level in limited if limit is not None]
        lowest = min(known, key=lambda pair: pair[0]) if known else None
        self._memory_level = lowest[1] if lowest else None
        self.memory_limit_bytes = lowest[0] if lowest else None
        """The lowest limit above us; None: there is none."""

    def memory_left_bytes(self) -> int | None:
        """Return what the limit leaves; file pages that were not used again can be had. None: not known."""
        level = self._memory_level
        if level is None or self.memory_limit_bytes is None:
            return None
        used = _number(level / "memory.current")
        name = b"inactive_file "
        if used is None:
            used, name = _number(level / "memory.usage_in_bytes"), b"total_inactive_file "
        if used is None:
            return None
        return max(0, self.memory_limit_bytes - used + (_entry(level / "memory.stat", name) or 0))


def _paths(data: bytes) -> dict[str, str]:
    """Return the path of our cgroup by controller; the unified hierarchy's is under the empty name."""
    paths = dict[str, str]()
    for line in os.fsdecode(data).splitlines():
        _, _, rest = line.partition(":")
        controllers, separator, path = rest.partition(":")
        if separator:
            paths |= dict.fromkeys(controllers.split(","), path)
    return paths


def _levels(root: Path, mounts: Sequence[Mount], kind: str, controller: str, paths: dict[str, str]) -> list[Path]:
    """Return the folders of our cgroup and of all above it that can be seen, ours first; empty where none can."""
    mount = next((m for m in mounts if m.kind == kind and (not controller or controller in m.options)), None)
    if mount is None or controller not in paths:
        return []
    top, path = root / mount.point.lstrip("/"), PurePosixPath(paths[controller])
    # In a namespace of its own a container sees its cgroup as the top, or by a path that leads out of it.
    relative = path.relative_to(mount.root) if path.is_relative_to(mount.root) and ".." not in path.parts else None
    folder = top / relative if relative is not None else top
    between = [folder, *folder.parents]
    levels = between[: between.index(top) + 1]
    return [level for level in levels if level.is_dir()]


def _quota_v2(level: Path) -> float | None:
    quota, _, period = (try_read(level / "cpu.max") or b"").strip().partition(b" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _quota_v1(level: Path) -> float | None:
    quota, period = _number(level / "cpu.cfs_quota_us"), _number(level / "cpu.cfs_period_us")
    return quota / period if quota is not None and quota > 0 and period else None


def _number(path: Path) -> int | None:
    """Return a file's number; None where it has none: v2 says ``max``."""
    text = (try_read(path) or b"").strip()
    return int(text) if text.isdigit() else None


def _entry(path: Path, name: bytes) -> int | None:
    for line in (try_read(path) or b"").splitlines():
        if line.startswith(name) and line[len(name) :].isdigit():
            return int(line[len(name) :])
    return None


def _least(values: Sequence[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)
