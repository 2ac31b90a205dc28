"""A Slurm of many nodes on this machine, and steps started on it.

``SATSCORE_SLURM_RIG`` names a command with the verbs ``up N``, ``env``, ``kill NODE``, ``boot NODE`` and
``down``. Its nodes share the file system but for /tmp, so files of tests lie in the rig's own folder.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.launchers.tools import torchrun
from tests.process.harness import ROOT, environment, wait_for

VARIABLE = "SATSCORE_SLURM_RIG"
START_S = 120.0
STEP_S = 90.0
ATTEMPTS = 2
FREEZER = Path("/sys/fs/cgroup/freezer/tasks")
"""There where Slurm can track processes by cgroup v1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How many nodes, and how Slurm finds the processes of a task (cgroup or linuxproc).

    With cgroup only a task's main process gets signals, with linuxproc all its descendants do.
    """

    nodes: int = 4
    tracking: str = "cgroup"

    def lacks(self) -> str:
        """Return why this machine cannot have it; empty where it can."""
        return "no cgroup v1 freezer here" if self.tracking == "cgroup" and not FREEZER.exists() else ""


class Rig:
    """One running Slurm.

    Args:
        tool: The command that makes it.
        shape: What it is to be.
    """

    def __init__(self, tool: str, shape: Shape) -> None:
        self.shape = shape
        self._tool = tool
        # short: a socket lies in it, whose path may have 108 characters
        self._state = Path(tempfile.mkdtemp(prefix="srig-", dir="/tmp"))
        variables = {
            "SLURM_RIG_DIR": str(self._state),
            "SLURM_RIG_SHARE": ":".join(_below_tmp()),
            "SLURM_RIG_PROCTRACK": shape.tracking,
            "SLURM_RIG_KILLWAIT": "3",
        }
        self._env = environment(**variables)
        self._up()
        exported = self._call("env").removeprefix("export ")
        self.env = environment(**dict(word.split("=", 1) for word in shlex.split(exported)))
        self.shared = Path(self.env["SLURM_RIG_SHARED"])
        self.nodes = [f"node{number}" for number in range(1, shape.nodes + 1)]

    def _up(self) -> None:
        """Bring it up; another one may have been taken down a moment ago."""
        for attempt in range(ATTEMPTS):
            try:
                self._call("up", str(self.shape.nodes))
            except AssertionError:
                self._drop_links(range(1, self.shape.nodes + 1))
                if attempt + 1 == ATTEMPTS:
                    shutil.rmtree(self._state, ignore_errors=True)
                    raise
            else:
                return

    def down(self) -> None:
        """Stop all of it and forget its files."""
        self._call("down")
        self._drop_links(range(1, self.shape.nodes + 1))
        shutil.rmtree(self._state, ignore_errors=True)

    def kill(self, node: str) -> None:
        """Cut a node's power."""
        self._call("kill", node)

    def boot(self, node: str) -> None:
        """Bring a node back, and wait until jobs can have it."""
        self._drop_links([self.nodes.index(node) + 1])
        self._call("boot", node)
        self.wait_idle()

    def _drop_links(self, numbers: Iterable[int]) -> None:
        """Remove the network links of nodes that are gone: what a node has not sent yet keeps its link for minutes."""
        for number in numbers:
            subprocess.run(["ip", "link", "del", f"srig{number}"], capture_output=True, check=False)

    def wait_idle(self) -> None:
        """Wait until there is no job, and every node is free."""
        wait_for(lambda: not self.tell("squeue", "-h"), "all jobs to have ended", STEP_S)
        for node in self.tell("sinfo", "-h", "-N", "-t", "down,drain", "-o", "%N").split():
            self.tell("scontrol", "update", f"nodename={node}", "state=resume")
        ask = ("sinfo", "-h", "-N", "-t", "idle", "-o", "%N")
        wait_for(lambda: len(self.tell(*ask).split()) == self.shape.nodes, "the nodes to be idle", STEP_S)

    def tell(self, *command: str) -> str:
        """Run one of Slurm's short commands; return what it says, also where it fails."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=START_S, check=False)
        return done.stdout + done.stderr

    def start(self, command: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None) -> "Started":
        """Start srun or another of Slurm's commands in the background, in a folder that the nodes see."""
        return Started(command, folder, self.env | dict(variables or {}))

    def finish(
        self,
        command: Sequence[str],
        folder: Path,
        timeout_s: float = STEP_S,
        *,
        variables: Mapping[str, str] | None = None,
    ) -> "Ended":
        """Run one of Slurm's commands to its end."""
        return self.start(command, folder, variables).wait(timeout_s)

    def submit(self, body: str, folder: Path, *options: str) -> str:
        """Hand in a batch script, which has the folder for its output and to work in; return the job's number."""
        script = folder / "job.sh"
        script.write_text(f"#!/bin/bash\n{body}\n")
        said = self.tell("sbatch", "--parsable", f"-D{folder}", f"-o{folder}/out-%A-%a", *options, str(script))
        assert said.strip().isdigit(), said
        return said.strip()

    def wait_job(self, job: str) -> int:
        """Wait until a batch job is over; return its highest exit status. (``sbatch --wait`` looks too rarely.)"""
        wait_for(lambda: not self.tell("squeue", "-h", "-j", job), f"job {job} to end", STEP_S)
        said = self.tell("scontrol", "show", "job", "-o", job)
        return max(int(status) for status in re.findall(r" ExitCode=(\d+):", said))

    def batch(self, body: str, folder: Path, *options: str) -> int:
        """Run a batch script to its end; return its exit status."""
        return self.wait_job(self.submit(body, folder, *options))

    def leftovers(self) -> list[str]:
        """The processes of satscore that live on any node: command lines of jobs' processes with its name."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                ours = b"satscore" in words or any(word.endswith(b"/satscore") for word in words[:2])
                if ours and self._is_of_a_job(folder):
                    found.append(f"{folder.name}: {b' '.join(words).decode(errors='replace')}")
            except OSError:
                continue
        return found

    def _is_of_a_job(self, process: Path) -> bool:
        variables = (process / "environ").read_bytes()
        return b"SLURM_JOB_ID=" in variables and self.env["SLURM_CONF"].encode() in variables

    def _call(self, *words: str) -> str:
        log = self._state / "rig.log"
        # a file, no pipe: what it leaves running would hold a pipe open
        with log.open("w+") as file:
            done = subprocess.run(
                [self._tool, *words],
                env=self._env,
                cwd="/",  # the nodes have no other folder in common with us for sure
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=START_S,
                check=False,
            )
        text = log.read_text()
        assert done.returncode == 0, f"{self._tool} {' '.join(words)}: {text}"
        return text


class Started:
    """A command of Slurm in the background; its two outputs go to files beside the test's own."""

    def __init__(self, command: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self._out, self._err = folder / "stdout", folder / "stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )
        self._began_s = time.monotonic()

    def so_far(self) -> "Ended":
        """What it has said until now."""
        return Ended(
            status=-1,
            stdout=self._out.read_text(errors="replace"),
            stderr=self._err.read_text(errors="replace"),
            took_s=time.monotonic() - self._began_s,
        )

    def wait(self, timeout_s: float = STEP_S) -> "Ended":
        """Wait for its end; past the deadline it is killed and the test fails."""
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            said = self.so_far()
            raise AssertionError(f"not over after {timeout_s} s: {said.stderr[-2000:]}") from None
        said = self.so_far()
        return Ended(status=status, stdout=said.stdout, stderr=said.stderr, took_s=said.took_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command of Slurm ended: its status, and what it and its tasks said."""

    status: int
    stdout: str
    stderr: str
    took_s: float


def _below_tmp() -> list[str]:
    """What of this checkout and its environment lies below /tmp, which nodes have of their own."""
    places = {ROOT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    if torchrun():
        places.add(Path(str(torchrun())).absolute().parents[1])
    return sorted(str(place) for place in places if place.is_relative_to("/tmp"))
