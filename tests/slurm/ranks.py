"""Ranks of a Slurm step that write down every signal which reaches them."""

import shlex
from pathlib import Path

from tests.launchers.reporters import TAKEN, WRAPS, Reporters, number
from tests.slurm.rig import Rig, Started


class Ranks:
    """Starts reporters by srun, alone or in a batch job, and ends them.

    Args:
        rig: Where they run.
        folder: Of these ranks alone; their logs are in it.
        wrap: bare or satscore.
    """

    def __init__(self, rig: Rig, folder: Path, wrap: str) -> None:
        self._rig = rig
        self._folder = folder
        self._wrap = WRAPS[wrap]
        self._started: Started | None = None
        self._batch: str | None = None

    def step(self, *options: str, ranks: int = 2, leaves: int | None = None, last_words: str = "exit 0") -> Reporters:
        """Start them by srun; options are srun's, the others those of the reporters."""
        told = Reporters(self._folder, self._wrap, ranks=ranks, leaves=leaves, last_words=last_words)
        command = ["srun", f"-n{ranks}", *options, *told.command]
        self._started = self._rig.start(command, self._folder, variables=told.variables)
        told.wait_ready()
        return told

    def batch(self, *options: str, ranks: int = 2) -> Reporters:
        """Start them by srun in a batch script, whose shell writes down its signals, too."""
        told = Reporters(self._folder, self._wrap, ranks=ranks)
        traps = "\n".join(f"trap 'echo {number(name)} >> {self._folder}/batch.shell' {name}" for name in TAKEN)
        step = f"srun -n{ranks} {shlex.join(told.command)} &"
        # a trap that has run ends the shell's wait
        body = f"{traps}\n{step}\nwhile kill -0 $! 2>/dev/null; do wait $!; done"
        self._batch = self._rig.submit(body, self._folder, f"-n{ranks}", *options)
        told.wait_ready()
        return told

    @property
    def job(self) -> str:
        """Slurm's number of the job."""
        return self.of_step.split(".")[0]

    @property
    def of_step(self) -> str:
        """Slurm's number of the step: JOB.STEP."""
        return (self._folder / "step").read_text().strip()

    def send(self, name: str) -> None:
        """Signal srun itself."""
        assert self._started is not None
        self._started.process.send_signal(number(name))

    def end(self) -> int:
        """Kill the step, without a signal before, and return the status of srun or of the batch job."""
        self._rig.tell("scancel", self.of_step)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end of srun or of the batch job; return its status."""
        if self._batch is not None:
            return self._rig.wait_job(self._batch)
        assert self._started is not None
        return self._started.wait().status
