"""Which processes are the command's, and what /proc tells of them and of the others that a driver lists."""

import os
import time
from typing import NamedTuple

from satscore.core.placement import Listed
from satscore.launch.ancestry import PARENT_FIELD, START_FIELD, mark_of, marks_in, stat_fields
from satscore.launch.child import PARENT_VARIABLE

_INITIAL_NAMESPACE = "pid:[4026531836]"
"""PROC_PID_INIT_INO of the kernel (include/linux/proc_ns.h)."""
_CUDA_LIBRARY, _CUDA_DEVICE = b"/libcuda.so", "/dev/nvidia"
_MPS = b"nvidia-cuda-mps"
_MARK_ENTRY = f"{PARENT_VARIABLE}=".encode()


class Shown(NamedTuple):
    """What shows a process its GPUs."""

    environ: dict[str, str]
    """As it started with it."""
    counts_as_we: bool
    """Whether it is in our cgroup, hence shown the same devices, hence means the same by a number."""


class CommandProcesses:
    """The command's processes: the descendants of the wrapper, and those that only carry its mark.

    A grandchild whose parent has ended is nobody's descendant any more, but every process below the
    wrapper has inherited SATSCORE_PARENT. That a process is ours stays known; that it is not is looked at
    anew, for it may become another program. One user: nothing here is thread-safe.

    Args:
        wrapper_pid: The process that started the command, and whose mark that carries.
    """

    def __init__(self, wrapper_pid: int) -> None:
        self.comparable = _link("/proc/self/ns/pid") == _INITIAL_NAMESPACE
        """Whether the ids that a driver states are those of our PID namespace."""
        self.all_shown = bool(stat_fields("1"))
        """Whether /proc shows processes of other users: the first one is root's."""
        self._wrapper = wrapper_pid
        self._mark = mark_of(wrapper_pid)
        self._cgroup = _bytes(f"/proc/{wrapper_pid}/cgroup")
        self._ours: dict[int, str] = {}
        """Start times by id, for ids are used again."""
        self._with_cuda: dict[int, tuple[str, Shown]] = {}
        self._waiting: list[int] = []
        self._found: list[Shown] = []
        self._shown: list[Shown] = []

    def owns(self, pid: int) -> bool:
        """Return whether a process is the command's; one that has ended stays so."""
        fields = stat_fields(str(pid))
        if not fields or self._ours.get(pid) == fields[START_FIELD]:
            return pid in self._ours
        self._ours.pop(pid, None)
        is_ours = self._descends(fields) or self._mark in _marks(pid)
        if is_ours:
            self._ours[pid] = fields[START_FIELD]
        return is_ours

    def is_marked(self, pid: int) -> bool:
        """Return whether a process carries the command's mark: a helper of the wrapper does not."""
        return self._mark in _marks(pid)

    def describe(self, pid: int) -> Listed:
        """Return what /proc tells of a process that the driver lists."""
        is_ours = self.owns(pid)
        fields, status = stat_fields(str(pid)), _status(pid)
        if not fields or not status:
            return Listed(is_ours=is_ours)
        marks, user = _marks(pid), int(status["Uid"].split()[0])
        started, ours_started = fields[START_FIELD], self._mark.partition(":")[2]
        in_container = len(status.get("NSpid", "").split()) > 1
        return Listed(
            exists=True,
            is_ours=is_ours,
            # Elsewhere than in the initial namespace only, where an id alone proves nothing.
            has_cuda=is_ours and not self.comparable and status["Tgid"] == str(pid) and _has_cuda(pid),
            is_server=_bytes(f"/proc/{pid}/comm").startswith(_MPS),
            of_other_run=bool(marks) and self._mark not in marks,
            started_before=bool(ours_started) and int(started) < int(ours_started),
            of_other_user=user not in (0, os.getuid()) and not in_container,
        )

    def cuda_environments(self, budget_s: float) -> list[Shown]:
        """Return what shows their GPUs to those that have CUDA's driver library mapped.

        Args:
            budget_s: CPU time after which the rest waits for the next call. The result is that of the
                last whole round: of a part of the processes nothing could be concluded.
        """
        until_s = time.thread_time() + budget_s
        if not self._waiting:
            self._waiting, self._found = _pids_of_our_user(), []
            for known in (self._ours, self._with_cuda):
                for pid in known.keys() - set(self._waiting):
                    del known[pid]
        while self._waiting:
            found = self._shown_to(self._waiting.pop())
            self._found += [found] if found else []
            if time.thread_time() >= until_s:
                break
        if not self._waiting:
            self._shown = self._found
        return self._shown

    def _shown_to(self, pid: int) -> Shown | None:
        if pid == self._wrapper or not self.owns(pid):
            return None
        start = self._ours[pid]
        known = self._with_cuda.get(pid)
        if known and known[0] == start:
            return known[1]
        if not _maps_cuda(pid):
            return None
        pairs = (os.fsdecode(entry).partition("=") for entry in _environment(pid))
        environ = {name: value for name, _, value in pairs}
        shown = Shown(environ, counts_as_we=_bytes(f"/proc/{pid}/cgroup") == self._cgroup)
        self._with_cuda[pid] = (start, shown)
        return shown

    def _descends(self, fields: list[str]) -> bool:
        """Return whether the wrapper is above a process; it may be the first of its PID namespace."""
        while fields:
            pid = fields[PARENT_FIELD]
            if pid == str(self._wrapper):
                return True
            fields = stat_fields(pid)
        return False


def _pids_of_our_user() -> list[int]:
    """Return the processes of our user: of others neither environment nor maps could be read."""
    user, pids = os.geteuid(), []
    with os.scandir("/proc") as entries:
        for entry in entries:
            try:
                if entry.name.isdigit() and entry.stat().st_uid == user:
                    pids.append(int(entry.name))
            except OSError:
                continue
    return pids


def _has_cuda(pid: int) -> bool:
    """Return whether a process has CUDA's driver library mapped, or a GPU's device open."""
    if _maps_cuda(pid):
        return True
    folder = f"/proc/{pid}/fd"
    try:
        return any(_link(f"{folder}/{name}").startswith(_CUDA_DEVICE) for name in os.listdir(folder))  # noqa: PTH208
    except OSError:
        return False


def _maps_cuda(pid: int) -> bool:
    return _CUDA_LIBRARY in _bytes(f"/proc/{pid}/maps")


def _marks(pid: int) -> list[str]:
    """Return the marks that a process carries; of another user's none can be read."""
    values = (entry for entry in _environment(pid) if entry.startswith(_MARK_ENTRY))
    return marks_in(next(values, b"").removeprefix(_MARK_ENTRY).decode("ascii", "replace"))


def _environment(pid: int) -> list[bytes]:
    return _bytes(f"/proc/{pid}/environ").split(b"\0")


def _status(pid: int) -> dict[str, str]:
    lines = _bytes(f"/proc/{pid}/status").decode(errors="replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _bytes(path: str) -> bytes:
    """Return a file's content; empty where it cannot be read, or the process has just ended."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return b""


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115
    except OSError:
        return ""
