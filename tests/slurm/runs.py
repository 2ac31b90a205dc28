"""Simulated jobs on the rig, and what they leave: blocks on stderr, run directories, summaries."""

import json
from pathlib import Path
from typing import Any

from tests.process.harness import PROGRAM, wait_for
from tests.slurm.rig import Rig

HEAD = "--- satscore "
RANKS = 16
SPREAD = ("-N4", "--ntasks-per-node=4")
SLOW_RANK = 6
"""Of a simulated job one GPU is slow: that of rank seed mod world."""


def under(scenario: str = f"sim:gh200x4,seed={SLOW_RANK}", *options: str) -> list[str]:
    """The words in front of a command that run it under satscore on simulated GPUs."""
    return [*PROGRAM, "--source", scenario, *options, "--"]


def until(gate: Path) -> list[str]:
    """A command that ends well once a file exists."""
    return ["sh", "-c", f'until [ -e "{gate}" ]; do sleep 0.1; done']


def blocks(said: str) -> int:
    """How many summaries somebody printed."""
    return sum(line.startswith(HEAD) for line in said.splitlines())


def block(said: str) -> str:
    """The one summary that was printed, from its headline on, without what Slurm says behind it."""
    assert blocks(said) == 1, said
    lines = said[said.index(HEAD) :].splitlines()
    end = next((n for n, line in enumerate(lines) if line.startswith(("srun:", "slurmstepd"))), len(lines))
    return "\n".join(lines[:end]).rstrip()


def run_directories(folder: Path) -> list[Path]:
    """The run directories below a folder, in order of their names."""
    return sorted((folder / "satscore-runs").glob("*"))


def run_directory(folder: Path) -> Path:
    """The only one."""
    (only,) = run_directories(folder)
    return only


def summary_of(run: Path) -> dict[str, Any]:
    """The content of a run's summary."""
    found: dict[str, Any] = json.loads((run / "summary.json").read_bytes())
    return found


def ranks_of(summary: dict[str, Any]) -> list[tuple[int, str]]:
    """The ranks of a summary with their nodes."""
    return [(rank["rank"], rank["hostname"]) for rank in summary["ranks"]]


def expected_ranks(nodes: int = 4, per_node: int = 4) -> list[tuple[int, str]]:
    """What they should be when Slurm fills node after node."""
    return [(rank, f"node{rank // per_node + 1}") for rank in range(nodes * per_node)]


def wait_recorded(folder: Path, count: int) -> None:
    """Wait until so many ranks have begun to write what they read."""
    pattern = "satscore-runs/*/readings-*.arrows"
    wait_for(lambda: len(list(folder.glob(pattern))) >= count, f"{count} recordings in {folder}", 90.0)


def wait_joined(folder: Path, count: int, timeout_s: float) -> None:
    """Wait until so many ranks have entered the run directory; of many ranks none keeps readings there."""

    def are_there() -> bool:
        files = folder.glob("satscore-runs/*/run*.json")
        return sum(path.stat().st_size > 0 for path in files) >= count

    wait_for(are_there, f"{count} ranks in {folder}", timeout_s)


def report(rig: Rig, folder: Path, run: Path) -> tuple[str, dict[str, Any]]:
    """Return the text and the JSON of ``satscore report``."""
    file = folder / f"report-{run.name}.json"
    ended = rig.finish([*PROGRAM, "report", str(run), "--json", str(file)], folder)
    assert ended.status == 0, ended.stderr
    found: dict[str, Any] = json.loads(file.read_bytes())
    return ended.stdout.rstrip(), found
