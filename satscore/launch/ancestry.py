"""Whether this process runs inside another satscore run."""

from satscore.launch.child import PARENT_VARIABLE


def enclosing_run(environ: dict[str, str]) -> int | None:
    """Return the process id of the wrapper around us, or None.

    The variable alone proves nothing: sbatch and srun carry it to other machines, and a daemon
    keeps it for ever. The process it names must be an ancestor of ours.
    """
    value = environ.get(PARENT_VARIABLE, "")
    if not (value.isascii() and value.isdigit()):
        return None
    wrapper = int(value)
    pid = parent_of("self")
    while pid is not None and pid > 1:
        if pid == wrapper:
            return wrapper
        pid = parent_of(str(pid))
    return wrapper if pid == wrapper else None


def parent_of(pid: str) -> int | None:
    """Return the parent of a process, or None where it cannot be read."""
    fields = stat_fields(pid)
    return int(fields[1]) if fields else None


def stat_fields(pid: str) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; empty where there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            # The name before it may hold spaces and brackets.
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []
