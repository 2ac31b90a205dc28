"""Jobs that do not end well: what was read is kept, and who is missing is named."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.process.harness import wait_for
from tests.slurm.rig import Ended, Rig, Started
from tests.slurm.runs import blocks, ranks_of, report, run_directory, summary_of, under, until, wait_recorded

pytestmark = pytest.mark.slurm

HERE = ("-N2", "--ntasks-per-node=2", "-wnode1,node2")
RANKS = [(0, "node1"), (1, "node1"), (2, "node2"), (3, "node2")]
FAR = ("-N2", "--ntasks-per-node=2", "-wnode3,node4")
FAR_RANKS = [(0, "node3"), (1, "node3"), (2, "node4"), (3, "node4")]
LOST_NODE = "node4"
READ_S = 12.0
"""By then every rank has told once what it knows, and some readings lie on the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A job that did not end well, and the folder where it ran."""

    rig: Rig
    folder: Path
    ended: Ended

    def summary(self) -> dict[str, Any]:
        """What rank 0 wrote at the end, perhaps after srun has ended."""
        file = run_directory(self.folder) / "summary.json"
        wait_for(file.exists, f"{file}")
        return summary_of(file.parent)

    def report(self) -> tuple[str, dict[str, Any]]:
        """Text and JSON that the files give."""
        return report(self.rig, self.folder, run_directory(self.folder))


def begin(rig: Rig, folder: Path, *options: str) -> Started:
    """Start a job that lasts, and let it be read for a while."""
    folder.mkdir(parents=True)
    started = rig.start(["srun", *(options or HERE), *under(), *until(folder / "go")], folder)
    wait_recorded(folder, len(RANKS))
    time.sleep(READ_S)
    return started


def job_of(folder: Path) -> str:
    return run_directory(folder).name.removeprefix("rig-").split(".")[0]


def cancelled(rig: Rig, folder: Path) -> Ended:
    started = begin(rig, folder)
    rig.tell("scancel", job_of(folder))
    return started.wait()


def time_is_up(rig: Rig, folder: Path) -> Ended:
    started = begin(rig, folder)
    rig.tell("scontrol", "update", f"jobid={job_of(folder)}", "EndTime=now")
    return started.wait()


def step_is_killed(rig: Rig, folder: Path) -> Ended:
    started = begin(rig, folder)
    rig.tell("scancel", f"{job_of(folder)}.0")
    return started.wait()


def node_is_lost(rig: Rig, folder: Path) -> Ended:
    started = begin(rig, folder, *FAR)
    rig.kill(LOST_NODE)
    return started.wait()


def wrapper_is_killed(rig: Rig, folder: Path, rank: int) -> Ended:
    started = begin(rig, folder)
    os.kill(wrapper_of(rig, job_of(folder), rank), signal.SIGKILL)
    time.sleep(1.0)
    (folder / "go").touch()
    return started.wait()


def wrapper_of(rig: Rig, job: str, rank: int) -> int:
    """The process id, on this machine, of a rank's satscore."""
    wanted = {f"SLURM_JOB_ID={job}".encode(), f"SLURM_PROCID={rank}".encode()}
    # a helper process of satscore has it for a parent
    return min(int(pid) for pid, _, _ in (line.partition(":") for line in rig.leftovers()) if wanted <= variables(pid))


def variables(pid: str) -> set[bytes]:
    """The environment of a process; none of one that has just ended."""
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return set()


EVENTS: dict[str, Callable[[Rig, Path], Ended]] = {
    "cancelled": cancelled,
    "time": time_is_up,
    "killed": step_is_killed,
    "node": node_is_lost,
    "wrapper-0": lambda rig, folder: wrapper_is_killed(rig, folder, 0),
    "wrapper-3": lambda rig, folder: wrapper_is_killed(rig, folder, 3),
}


@pytest.fixture(scope="module")
def lost(shaped: Rig) -> Iterator[dict[str, Lost]]:
    """Everything happens at the same time, in a job each."""
    shaped.wait_idle()
    folders = {name: shaped.shared / "lost" / name for name in EVENTS}
    with ThreadPoolExecutor(len(EVENTS)) as pool:
        futures = {name: pool.submit(event, shaped, folders[name]) for name, event in EVENTS.items()}
    try:
        yield {name: Lost(rig=shaped, folder=folders[name], ended=future.result()) for name, future in futures.items()}
    finally:
        shaped.tell("scancel", "--user=root")
        wait_for(lambda: not shaped.leftovers(), "the last process of satscore to end")
        shaped.boot(LOST_NODE)


def absent(summary: dict[str, Any]) -> set[int]:
    """The ranks that are missing, or of which nobody knows how they ended."""
    return {item["rank"] for item in summary["job"]["ranks_lost"]} | set(summary["job"]["ranks_missing"])


@pytest.mark.parametrize("event", ["cancelled", "time"])
def test_job_that_is_told_to_end_keeps_its_summary(lost: dict[str, Lost], event: str) -> None:
    """Slurm leaves the ranks some seconds after SIGTERM: enough for one summary of all."""
    summary = lost[event].summary()
    assert summary["run"]["exit_signal"] == "SIGTERM"
    assert ranks_of(summary) == RANKS


def test_killed_step_can_be_reported(lost: dict[str, Lost]) -> None:
    """Nobody had a moment for a summary: it is made from what each rank has written."""
    text, summary = lost["killed"].report()
    assert ranks_of(summary) == RANKS
    assert not summary["run"]["finished"]
    assert summary["job"]["ranks_lost_count"] == len(RANKS)
    assert blocks(text) == 1


def test_lost_node_is_named(lost: dict[str, Lost]) -> None:
    """Slurm ends the others half a minute later; the summary covers the lost ranks as far as they were heard of."""
    summary = lost["node"].summary()
    assert absent(summary) == {2, 3}
    assert set(FAR_RANKS[:2]) <= set(ranks_of(summary)) <= set(FAR_RANKS)
    assert any(LOST_NODE in note or "rank 2" in note for note in summary["notes"]), summary["notes"]
    assert blocks(lost["node"].ended.stderr) <= 1


@pytest.mark.parametrize("rank", [0, 3])
def test_killed_wrapper_hurts_nobody_else(lost: dict[str, Lost], rank: int) -> None:
    """Of rank 0 it is the collector, of another perhaps the leader of its node: the others end as ever."""
    job = lost[f"wrapper-{rank}"]
    assert job.ended.status == 137
    summary = job.summary() if rank else job.report()[1]
    assert ranks_of(summary) == RANKS
    assert absent(summary) == {rank}
