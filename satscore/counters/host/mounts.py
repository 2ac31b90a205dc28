"""What is mounted where, from /proc/PID/mountinfo (proc_pid_mountinfo(5)): no file system is asked itself."""

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

_ESCAPE = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """One line of mountinfo."""

    root: str
    """Which directory of the file system is mounted."""
    point: str
    kind: str
    options: frozenset[str]
    """Of the file system: the controllers of a cgroup hierarchy are among them."""


def parse_mounts(data: bytes) -> list[Mount]:
    """Return the mounts in a mountinfo; lines that are none are left out."""
    mounts = []
    for line in data.splitlines():
        mine, separator, theirs = line.partition(b" - ")
        before, after = mine.split(b" "), theirs.split(b" ")
        if separator and len(before) >= 6 and len(after) >= 3:
            options = frozenset(after[2].decode("ascii", "replace").split(","))
            mounts.append(Mount(_plain(before[3]), _plain(before[4]), _plain(after[0]), options))
    return mounts


def mount_of(path: str, mounts: Sequence[Mount]) -> Mount | None:
    """Return the mount that a path lies on: the longest one above it, of several at one place the last."""
    found = None
    for mount in mounts:
        above = mount.point.rstrip("/") + "/"
        if (path.rstrip("/") + "/").startswith(above) and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def _plain(field: bytes) -> str:
    """Return a field without its escapes: space, tab, newline and backslash are octal."""
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field))
