"""Jobs that do not end well: what was read is kept, and who is missing is named."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.process.harness import wait_for
from tests.slurm.rig import Rig, Started
from tests.slurm.runs import (
    RANKS,
    SPREAD,
    blocks,
    expected_ranks,
    ranks_of,
    report,
    run_directory,
    summary_of,
    under,
    until,
    wait_recorded,
)

pytestmark = pytest.mark.slurm

READ_S = 6.0
"""Some readings lie on the disk by then."""


def begin(rig: Rig, folder: Path, *options: str) -> Started:
    """Start a job that lasts, and let it be read for a while."""
    started = rig.start(["srun", *SPREAD, *options, *under(), *until(folder / "go")], folder)
    wait_recorded(folder, RANKS)
    time.sleep(READ_S)
    return started


def job_of(folder: Path) -> str:
    return run_directory(folder).name.removeprefix("rig-").split(".")[0]


def test_cancelled_job_keeps_its_summary(rig: Rig, folder: Path) -> None:
    """Slurm leaves the ranks some seconds after SIGTERM: enough for one summary of all."""
    started = begin(rig, folder)
    rig.tell("scancel", job_of(folder))
    started.wait()
    wait_for(lambda: not rig.leftovers(), "the wrappers to end")
    summary = summary_of(run_directory(folder))
    assert summary["run"]["exit_signal"] == "SIGTERM"
    assert ranks_of(summary) == expected_ranks()


def test_job_whose_time_is_up_keeps_its_summary(rig: Rig, folder: Path) -> None:
    started = begin(rig, folder)
    rig.tell("scontrol", "update", f"jobid={job_of(folder)}", "EndTime=now")
    started.wait()
    wait_for(lambda: not rig.leftovers(), "the wrappers to end")
    summary = summary_of(run_directory(folder))
    assert summary["run"]["exit_signal"] == "SIGTERM"
    assert ranks_of(summary) == expected_ranks()


def test_killed_step_can_be_reported(rig: Rig, folder: Path) -> None:
    """Nobody had a moment for a summary: it is made from what each rank has written."""
    started = begin(rig, folder)
    rig.tell("scancel", f"{job_of(folder)}.0")
    started.wait()
    text, summary = report(rig, folder, run_directory(folder))
    assert ranks_of(summary) == expected_ranks()
    assert not summary["run"]["finished"]
    assert summary["job"]["ranks_lost_count"] == RANKS
    assert blocks(text) == 1


def test_lost_node_is_named(rig: Rig, folder: Path) -> None:
    """Slurm ends the others half a minute later; the summary covers the lost ranks as far as they were heard of."""
    started = begin(rig, folder)
    rig.kill("node4")
    try:
        ended = started.wait()
        wait_for(lambda: not rig.leftovers(), "the wrappers to end")
        summary = summary_of(run_directory(folder))
    finally:
        rig.boot("node4")
    lost = {item["rank"] for item in summary["job"]["ranks_lost"]} | set(summary["job"]["ranks_missing"])
    assert lost == {12, 13, 14, 15}
    assert any("12" in note for note in summary["notes"]), summary["notes"]
    assert blocks(ended.stderr) <= 1


@pytest.mark.parametrize("rank", [0, 5])
def test_killed_wrapper_hurts_nobody_else(rig: Rig, folder: Path, rank: int) -> None:
    """Of rank 0 it is the collector, of another perhaps the leader of its node: the others end as ever."""
    started = begin(rig, folder)
    os.kill(wrapper_of(rig, rank), signal.SIGKILL)
    time.sleep(1.0)
    (folder / "go").touch()
    ended = started.wait()
    assert ended.status == 137
    run = run_directory(folder)
    summary = summary_of(run) if rank else report(rig, folder, run)[1]
    assert ranks_of(summary) == expected_ranks()
    lost = {item["rank"] for item in summary["job"]["ranks_lost"]} | set(summary["job"]["ranks_missing"])
    assert lost == {rank}


def wrapper_of(rig: Rig, rank: int) -> int:
    """The process id, on this machine, of a rank's satscore."""
    wanted = f"SLURM_PROCID={rank}".encode()
    pids = [int(line.partition(":")[0]) for line in rig.leftovers()]
    # a helper process of satscore has it for a parent
    own = [pid for pid in pids if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")]
    return min(own)
