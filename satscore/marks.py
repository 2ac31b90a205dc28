"""Speaking to the run around a program: ``satscore.mark()`` and ``satscore.progress()``.

Outside a run both do nothing. Neither ever raises or prints: what cannot be written is left out, and
the call returns False. The summary says so where the run can see it: that the file was full, its file
system was full, or it was deleted; not that a process could not reach it (another machine or
container, a limit of its own). A call is one write to a local file, mostly in memory, and costs some
microseconds (docs/overhead.md); any thread and any forked or spawned process of the command may call.
Standard library only, and little of it.

Each call appends one line of JSON to the file that ``SATSCORE_MARKS`` names, so that programs in any
language can do the same (docs/outputs.md, "Marks").
"""

import fcntl
import os
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import SupportsFloat

MARKS_VARIABLE = "SATSCORE_MARKS"
NAME_MAX_CHARS = 200
"""A line stays below PIPE_BUF (4096 bytes) even if every character is escaped."""
FILE_MAX_BYTES = 256 << 20
"""Space on disk from which on nothing more is written: satscore frees what it has read, so nobody reads."""
_STAT_BLOCK_BYTES = 512
_LARGEST = 10**30
_NOT_STANDARD_FD = 3
# Which process of a job this is: that of the innermost launcher. SLURM_PROCID is 0 in a batch shell, too.
_RANK_VARIABLES = (
    ("RANK", "LOCAL_RANK"),
    ("OMPI_COMM_WORLD_RANK", ""),
    ("PMIX_RANK", ""),
    ("PMI_RANK", ""),
    ("PALS_RANKID", ""),
    ("FLUX_TASK_RANK", ""),
    ("JSM_NAMESPACE_RANK", ""),
    ("SLURM_PROCID", "SLURM_STEP_ID"),
)

_files: dict[str, tuple[int, int, int]] = {}
"""path -> descriptor, device and inode of a file that is open."""
_heads: dict[int, str] = {}
"""Process id -> what its lines say of it; a forked process finds none of its own and makes it."""


def mark(name: str) -> bool:
    """Put a mark into the run around this program.

    ``startup``, ``warmup``, ``steady``, ``dip`` and ``tail`` state the phase from now on, ``auto`` ends
    that; any other name is a note at this time.

    Args:
        name: Up to 200 characters; control characters are shown as spaces.

    Returns:
        Whether it was written; False outside a run.
    """
    path = os.environ.get(MARKS_VARIABLE)
    if not path:
        return False
    try:
        import json  # noqa: PLC0415 - marks are rare, and importing satscore shall cost nothing

        text = str(name)[:NAME_MAX_CHARS].encode("utf-8", "replace").decode()
        return _append(path, f'"mark":{json.dumps(text)}')
    except Exception:  # noqa: BLE001 - whatever a caller hands over, its program goes on
        return False


def progress(
    step: "SupportsFloat | None" = None,
    tokens: "SupportsFloat | None" = None,
    flop: "SupportsFloat | None" = None,
) -> bool:
    """Say how far this process is; call it after every step, or after every few.

    Amounts are those of *this* process since its last call, and those of all processes are added up:
    call it from one process with the job's amounts, or from every process with its own share. The
    first call of a process starts its clock: its amounts were done before and are in no rate.

    Hand over Python numbers: converting a tensor that lies on a GPU waits for it.

    Args:
        step: Number of the step that is complete, a whole number.
        tokens: Tokens processed since the last call, >= 0.
        flop: Model FLOP done since the last call, >= 0 (without recomputation, for MFU).

    Returns:
        Whether it was written; False outside a run. A value that is no finite number is left out
        and counted in the summary.
    """
    path = os.environ.get(MARKS_VARIABLE)
    if not path:
        return False
    try:
        return _append(path, _fields(step, tokens, flop))
    except Exception:  # noqa: BLE001 - as for a mark
        return False


def _fields(step: "SupportsFloat | None", tokens: "SupportsFloat | None", flop: "SupportsFloat | None") -> str:
    parts, wrong_count = [], 0
    for name, value in (("step", step), ("tokens", tokens), ("flop", flop)):
        if value is None:
            continue
        text = _number(value)
        if text is None:
            wrong_count += 1
        else:
            parts.append(f'"{name}":{text}')
    if wrong_count:
        parts.append(f'"wrong_count":{wrong_count}')
    return ",".join(parts)


def _number(value: "SupportsFloat") -> str | None:
    """Return a number as JSON (integers exactly), None if it is none."""
    try:
        number = value if type(value) is int else float(value)
        return repr(number) if -_LARGEST <= number <= _LARGEST else None  # false for NaN
    except Exception:  # noqa: BLE001 - an object of the caller's; its conversion may raise anything
        return None


def _append(path: str, fields: str) -> bool:
    """Append a line by one write, which no other process's line can split (O_APPEND)."""
    if not fields:
        return False
    pid = os.getpid()
    head = _heads.get(pid) or _heads.setdefault(pid, _head(pid))
    try:
        descriptor = _descriptor(path)
        if descriptor is None:
            return False
        line = f'{{"time_ns":{time.time_ns()},{head},{fields}}}\n'.encode("ascii")
        return os.write(descriptor, line) == len(line)
    except OSError:
        return False


def _head(pid: int) -> str:
    for name, needed in _RANK_VARIABLES:
        rank = os.environ.get(name, "")
        if rank.isascii() and rank.isdigit() and (not needed or needed in os.environ):
            return f'"pid":{pid},"rank":{int(rank)}'
    return f'"pid":{pid}'


def _descriptor(path: str) -> int | None:
    """Return the open file; None where it is full or no regular file.

    The program may have closed all descriptors, and opened another file under that number: only one
    that is still our file is written to, and another is never closed.

    Raises:
        OSError: It cannot be opened: the run has ended, or this is another machine or container.
    """
    known = _files.get(path)
    if known is not None:
        try:
            info = os.fstat(known[0])
        except OSError:
            info = None
        if info is not None and (info.st_dev, info.st_ino) == known[1:]:
            return known[0] if info.st_blocks * _STAT_BLOCK_BYTES < FILE_MAX_BYTES else None
        _files.pop(path, None)
    return _open(path)


def _open(path: str) -> int | None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    if descriptor < _NOT_STANDARD_FD:  # closed in this program: its output would end up in our file
        low = descriptor
        try:
            descriptor = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _NOT_STANDARD_FD)
        finally:
            os.close(low)
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode):
        os.close(descriptor)
        return None
    kept = _files.setdefault(path, (descriptor, info.st_dev, info.st_ino))
    if kept[0] != descriptor:  # another thread was faster; a lock could be held across a fork
        os.close(descriptor)
    return kept[0]
