"""How Slurm finds the processes of a task, which decides whom its signals reach."""

import contextlib
import os
import threading
from collections.abc import Mapping

from satscore.launch.tool import read_output

_DEADLINE_S = 5.0
_LINUXPROC = "proctrack/linuxproc"


class ProcessTracking:
    """Asks Slurm once, beside the run, for its process tracking.

    With cgroups a signal reaches only the task's main process, which is the wrapper; with linuxproc
    it reaches every descendant, and forwarding would deliver it twice. Until the answer is there,
    and without one, signals are forwarded: twice is better than never.
    """

    def __init__(self) -> None:
        self._linuxproc = False

    def ask(self, environ: Mapping[str, str]) -> None:
        """Start asking, if this is a step of Slurm; returns at once."""
        if environ.get("SLURM_STEP_ID"):
            # No thread to be had under a process limit: the answer stays unknown.
            with contextlib.suppress(RuntimeError):
                threading.Thread(target=self._ask, name="satscore-proctrack", daemon=True).start()

    def is_linuxproc(self) -> bool:
        """Return whether Slurm is known to signal all descendants itself."""
        return self._linuxproc

    def _ask(self) -> None:
        with contextlib.suppress(OSError):
            config = read_output(["scontrol", "show", "config"], _DEADLINE_S)
            self._linuxproc = proctrack_type(config or "") == _LINUXPROC


def ask_slurm() -> ProcessTracking:
    """Return the tracking of this step, still unknown at first."""
    tracking = ProcessTracking()
    tracking.ask(os.environ)
    return tracking


def proctrack_type(config: str) -> str | None:
    """Return ProctrackType from the output of ``scontrol show config``, or None."""
    for line in config.splitlines():
        key, _, value = line.partition("=")
        if key.strip().lower() == "proctracktype":
            return value.strip()
    return None
