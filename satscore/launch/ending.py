"""Ending as the command ended: the same status, or the same signal.

Imported before the command starts, so that nothing can be missing when it ends.
"""

import os
import sys

from satscore.launch.signals import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_PR_SET_DUMPABLE = 4  # <linux/prctl.h>
_SIGNAL_STATUS = 128


def end_like(exit_code: int | None, signo: int | None) -> "NoReturn":
    """End this process as the command ended; threads that still run are not waited for.

    Args:
        exit_code: The command's exit status, or None if a signal ended it.
        signo: The signal that ended it, or None.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            # A full disk or a closed pipe of ours must not become a status of the command.
            continue
    if signo is not None:
        die_by(signo)
    os._exit(exit_code or 0)


def wait_and_end(child_pid: int, success: int = 0) -> "NoReturn":
    """Wait for the command and end as it does: the last resort where supervising it failed.

    Args:
        child_pid: The command.
        success: Our status if it succeeds: a gate that could not judge is no pass.
    """
    code = os.waitstatus_to_exitcode(os.waitpid(child_pid, 0)[1])
    end_like(code or success, -code if code < 0 else None)


def die_by(signo: int) -> "NoReturn":
    """Die of this signal without a core dump: the command has left its own, if it was to."""
    _forbid_core_dump()
    try:  # noqa: SIM105 - contextlib costs the start 5 ms
        signal.signal(signo, signal.SIG_DFL)
    except (OSError, ValueError):
        pass  # KILL has no disposition, glibc's own two have none that could be set
    os.kill(os.getpid(), signo)
    try:  # noqa: SIM105
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signo})
    except (OSError, ValueError):
        pass
    # The first process of a PID namespace does not die of its own signals.
    os._exit(_SIGNAL_STATUS + signo)


def _forbid_core_dump() -> None:
    """Lower the limit and, as a core_pattern that pipes to a program asks no limit, forbid dumps."""
    try:
        import ctypes  # noqa: PLC0415 - needed by few runs
        import resource  # noqa: PLC0415

        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    except (ImportError, OSError, ValueError, AttributeError):
        return
