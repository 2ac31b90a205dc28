"""Whether this process runs inside another satscore run: the mark that a command carries, and who is above us.

A mark is ``PID:START`` of a wrapper; its start time (clock ticks since boot, field 22 of proc_pid_stat(5))
tells it from whoever has that number later, on another host or in another container. Inner marks come first.
"""

from satscore.launch.child import PARENT_VARIABLE

PARENT_FIELD, START_FIELD = 1, 19
"""Where parent and start time stand among ``stat_fields``."""


def enclosing_run(environ: dict[str, str]) -> int | None:
    """Return the process id of the wrapper around us, or None.

    The variable alone proves nothing: sbatch and srun carry it to other machines, and a daemon
    keeps it for ever. A process that it names must be an ancestor of ours.
    """
    marks = marks_in(environ.get(PARENT_VARIABLE, ""))
    fields = stat_fields("self") if marks else []
    while fields:
        pid = fields[PARENT_FIELD]
        fields = stat_fields(pid)  # none above the first process of a PID namespace
        if fields and f"{pid}:{fields[START_FIELD]}" in marks:
            return int(pid)
    return None


def command_mark(pid: int, environ: dict[str, str]) -> str:
    """Return the value of SATSCORE_PARENT for a command of ours: our mark before those that we carry.

    So a process below us that is no descendant of an outer run is still known to be the outer's.

    Args:
        pid: Our own process id.
        environ: Our environment.
    """
    return ",".join([mark_of(pid), *marks_in(environ.get(PARENT_VARIABLE, ""))])


def mark_of(pid: int) -> str:
    """Return the mark of a wrapper; without /proc it has no start time, and nothing matches it."""
    fields = stat_fields(str(pid))
    return f"{pid}:{fields[START_FIELD] if fields else ''}"


def marks_in(value: str) -> list[str]:
    """Return the marks in a value of SATSCORE_PARENT; whatever is none is left out."""
    return [mark for mark in value.split(",") if _is_mark(mark)]


def _is_mark(text: str) -> bool:
    pid, _, start = text.partition(":")
    return all(part.isascii() and part.isdigit() for part in (pid, start))


def stat_fields(pid: str) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; empty where there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            # The name before it may hold spaces and brackets.
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []
