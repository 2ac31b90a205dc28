"""Which processes are the command's, and what /proc tells of them. Standard library only."""

import os

from satscore.launch.ancestry import stat_fields
from satscore.launch.child import PARENT_VARIABLE

_PARENT, _START = 1, 19
"""Where parent and start time stand among ``stat_fields`` (fields 4 and 22 of proc_pid_stat(5))."""
_CUDA_LIBRARY = b"/libcuda.so"
_MPS = "nvidia-cuda-mps"


class CommandProcesses:
    """The command's processes: the descendants of the wrapper, and those that only carry its mark.

    A grandchild whose parent has ended is nobody's descendant any more, but every process below the
    wrapper has inherited SATSCORE_PARENT. One user: nothing here is thread-safe.

    Args:
        wrapper_pid: The process that started the command, and whose number the mark holds.
    """

    def __init__(self, wrapper_pid: int) -> None:
        self._wrapper = wrapper_pid
        self._mark = f"{PARENT_VARIABLE}={wrapper_pid}".encode()
        self._verdicts: dict[int, tuple[str, bool]] = {}
        """By id: start time, for ids are used again, and whether the process is the command's."""
        self._with_cuda: dict[int, tuple[str, dict[str, str]]] = {}

    def owns(self, pid: int) -> bool:
        """Return whether a process is the command's; one that has ended keeps its verdict."""
        fields = stat_fields(str(pid))
        start, verdict = self._verdicts.get(pid, ("", False))
        if not fields or fields[_START] == start:
            return verdict
        verdict = self._descends(pid) or self._mark in _environment(pid)
        self._verdicts[pid] = (fields[_START], verdict)
        return verdict

    def cuda_environments(self) -> list[dict[str, str]]:
        """Return the environments of those that have CUDA's driver library mapped, as they started with."""
        pids = _own_pids()
        for known in (self._verdicts, self._with_cuda):
            for pid in known.keys() - set(pids):
                del known[pid]
        return [found for pid in pids if pid != self._wrapper and (found := self._cuda_environment(pid)) is not None]

    def _cuda_environment(self, pid: int) -> dict[str, str] | None:
        if not self.owns(pid):
            return None
        start = self._verdicts[pid][0]
        known = self._with_cuda.get(pid)
        if known and known[0] == start:
            return known[1]
        if not _maps_cuda(pid):
            return None
        pairs = (os.fsdecode(entry).partition("=") for entry in _environment(pid))
        self._with_cuda[pid] = (start, {name: value for name, _, value in pairs})
        return self._with_cuda[pid][1]

    def _descends(self, pid: int) -> bool:
        """Return whether the wrapper is above a process; it may be the first of its PID namespace."""
        while pid > 0 and (fields := stat_fields(str(pid))):
            pid = int(fields[_PARENT])
            if pid == self._wrapper:
                return True
        return False


def exists(pid: int) -> bool:
    """Return whether there is such a process (or thread: some drivers list those) in our PID namespace."""
    return pid > 0 and bool(stat_fields(str(pid)))


def is_mps_server(pid: int) -> bool:
    """Return whether a process only computes on behalf of others, which are listed themselves."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read().startswith(_MPS)
    except OSError:
        return False


def _own_pids() -> list[int]:
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


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            return file.read().split(b"\0")
    except OSError:
        return []


def _maps_cuda(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:  # noqa: PTH123
            return any(_CUDA_LIBRARY in line for line in file)
    except OSError:
        return False
