"""Ranks that write down every signal which reaches them, bare or under satscore, whoever starts them."""

import os
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.process.harness import CHILDREN, PROGRAM, wait_for

BARE: tuple[str, ...] = ()
UNDER = (*PROGRAM, "--source", "nvml", "--record", "no", "--quiet", "--")
"""Under satscore, where it finds no counters: what a signal does is the same with them."""
WRAPS = {"bare": BARE, "satscore": UNDER}
TAKEN = ("TERM", "CONT", "USR1", "INT", "HUP")
START_S = 90.0
SETTLE_S = 1.0
"""A second delivery of the same signal would come within this."""

_LEAVE = """\
rank=${{RANK:-${{OMPI_COMM_WORLD_RANK:-$SLURM_PROCID}}}}
if [ "$rank" = "$LEAVES" ]; then
    until [ -e "{folder}/leave" ]; do sleep 0.1; done
    eval "$LAST_WORDS"
fi
"""
_TAKE = """\
echo "$SLURM_JOB_ID.$SLURM_STEP_ID" > "{folder}/step"
{reporter} "{folder}/$rank.child" {taken} RTMAX 0 &
exec {reporter} "{folder}/$rank.command" {taken} RTMAX 0
"""


class Reporters:
    """Processes that take signals and stay, each with a child that does the same.

    Args:
        folder: Of these ranks alone; their logs are in it.
        wrap: The words in front of the command: BARE or UNDER.
        ranks: How many.
        leaves: The rank that takes no signals, but says its last words when it is told to leave.
        last_words: A line for its shell.
    """

    def __init__(
        self, folder: Path, wrap: Sequence[str], *, ranks: int, leaves: int | None = None, last_words: str = "exit 0"
    ) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._count = ranks - (leaves is not None)
        reporter = shlex.join([sys.executable, "-I", "-S", str(CHILDREN / "reporter.py")])
        script = (_LEAVE + _TAKE).format(folder=folder, reporter=reporter, taken=",".join(TAKEN))
        self.command = [*wrap, "sh", "-c", script]
        self.variables: Mapping[str, str] = {} if leaves is None else {"LEAVES": str(leaves), "LAST_WORDS": last_words}

    def wait_ready(self) -> None:
        """Wait until every process takes signals, and satscore has had a moment to see where it is."""
        wait_for(lambda: self._ready_count() == 2 * self._count, f"{self._count} ranks in {self.folder}", START_S)
        time.sleep(SETTLE_S)

    def _ready_count(self) -> int:
        return sum(path.read_text().endswith("\n") for path in logs(self.folder, "child", "command"))

    def leave(self) -> None:
        """Let the rank end that is to."""
        (self.folder / "leave").touch()

    def wait_received(self, kind: str, name: str, times: int) -> None:
        """Wait until a signal has come so often, and as long again as a second delivery would take."""
        wait_for(lambda: received(self.folder, kind)[name] >= times, f"{name} in {self.folder}", START_S)
        time.sleep(SETTLE_S)

    def kill(self) -> None:
        """Kill the processes, where they are on this machine and in its own PID namespace."""
        for path in logs(self.folder, "child", "command"):
            os.kill(int(path.read_text().split()[1]), signal.SIGKILL)


def logs(folder: Path, *kinds: str) -> list[Path]:
    """The files in which such processes write."""
    return sorted(path for kind in kinds for path in folder.glob(f"*.{kind}"))


def received(folder: Path, kind: str) -> Counter[str]:
    """How often each signal came, in all ranks together: of the command, its child or the batch's shell."""
    lines = [line for path in logs(folder, kind) for line in path.read_text().splitlines()]
    return Counter(signal.Signals(int(line)).name[3:] for line in lines if line.isdigit())


def number(name: str) -> int:
    """The number of a signal, by its short name."""
    return int(getattr(signal, f"SIG{name}"))


def shown(counts: Counter[str]) -> str:
    """Counts of signals in one cell of a table."""
    return " ".join(f"{name}:{count}" for name, count in sorted(counts.items())) or "-"
