"""A job of 16 ranks on 4 nodes is one run: one directory, one block, one summary, the same from its files."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.launchers.identities import keep
from tests.process.harness import PATIENT, PROGRAM, wait_for
from tests.slurm.rig import Ended, Rig
from tests.slurm.runs import (
    RANKS,
    SLOW_RANK,
    SPREAD,
    block,
    blocks,
    expected_ranks,
    ranks_of,
    report,
    run_directories,
    run_directory,
    summary_of,
    under,
    until,
    wait_recorded,
)

pytestmark = pytest.mark.slurm

SECONDS = "12"
FAST = f"sim:gh200x4,seed={SLOW_RANK},speed=6"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job that went well."""

    folder: Path
    ended: Ended
    summary: dict[str, Any]


@pytest.fixture(scope="module")
def job(shaped: Rig) -> Job:
    folder = shaped.shared / "job-of-16"
    folder.mkdir()
    ended = shaped.finish(["srun", *SPREAD, *under(FAST), "sleep", SECONDS], folder, variables=PATIENT)
    assert ended.status == 0, ended.stderr
    return Job(folder=folder, ended=ended, summary=summary_of(run_directory(folder)))


def test_one_block(job: Job) -> None:
    text = block(job.ended.stderr)
    assert len(text.splitlines()) <= 25
    assert max(map(len, text.splitlines())) <= 100
    assert "16 ranks on 4 nodes" in text
    assert "SIMULATED" in text
    assert job.ended.stdout == ""


def test_all_ranks_are_in_it(job: Job) -> None:
    assert ranks_of(job.summary) == expected_ranks()
    of_job = job.summary["job"]
    assert (of_job["ranks_count"], of_job["nodes_count"], of_job["gpus_count"]) == (RANKS, 4, RANKS)
    assert (of_job["ranks_missing_count"], of_job["ranks_failed_count"], of_job["ranks_lost_count"]) == (0, 0, 0)
    assert all(rank["exit_code"] == 0 for rank in job.summary["ranks"])
    assert job.summary["run"]["job"]["launcher"] == "slurm"
    assert job.summary["run"]["job"]["ranks_count"] == RANKS


def test_the_slow_gpu_is_named_by_rank_and_node(job: Job) -> None:
    (suspect,) = job.summary["job"]["suspects"]
    assert (suspect["name"]["rank"], suspect["name"]["hostname"]) == (SLOW_RANK, "node2")
    assert f"rank {SLOW_RANK} on node2" in block(job.ended.stderr)


def test_files(job: Job) -> None:
    names = {path.name for path in run_directory(job.folder).iterdir()}
    for rank, node in expected_ranks():
        assert f"readings-{node}-{rank}.arrows" in names
        assert ("run.json" if rank == 0 else f"run-{node}-{rank}.json") in names
    assert {"job.json", "summary.json"} <= names
    for path in run_directory(job.folder).iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_report_of_the_files_says_the_same(job: Job, shaped: Rig) -> None:
    """Made from readings in the place of sums; only what satscore itself cost has grown until its end."""
    text, again = report(shaped, job.folder, run_directory(job.folder))
    assert measured(text) == measured(block(job.ended.stderr))
    assert again["run"].pop("directory").endswith(job.summary["run"]["directory"])
    job_run = {key: value for key, value in job.summary["run"].items() if key != "directory"}
    changed = {"cost": again["cost"], "source": job.summary["source"] | {"resolution": "readings"}, "run": job_run}
    assert again == job.summary | changed


def measured(text: str) -> list[str]:
    """The lines of a block but for its own cost and the place of the files."""
    return [line for line in text.splitlines() if not line.startswith(("own cost", "files"))]


def test_all_ranks_print_or_none_where_that_is_asked_for(rig: Rig, folder: Path) -> None:
    started = {}
    for quiet in ("0", "1"):
        (folder / quiet).mkdir()
        words = ["srun", "-N2", "-n4", *under(), "sleep", "4"]
        started[quiet] = rig.start(words, folder / quiet, variables=PATIENT | {"SATSCORE_QUIET": quiet})
    loud, still = started["0"].wait(), started["1"].wait()
    assert loud.status == 0
    assert blocks(loud.stderr) == 4
    assert (still.status, still.stdout, still.stderr) == (0, "", "")
    assert summary_of(run_directory(folder / "1"))["job"]["ranks_count"] == 4


def test_ranks_that_end_at_once(rig: Rig, folder: Path) -> None:
    """Too short to score: said once, and nothing of the job's outcome changes."""
    ended = rig.finish(["srun", *SPREAD, *under(), "true"], folder, variables=PATIENT)
    assert (ended.status, ended.stdout) == (0, "")
    assert blocks(ended.stderr) <= 1


def test_ranks_that_fail_are_named(rig: Rig, folder: Path) -> None:
    script = '[ "$SLURM_PROCID" = 9 ] && exit 3; sleep 4'
    ended = rig.finish(["srun", *SPREAD, *under(), "sh", "-c", script], folder, variables=PATIENT)
    assert ended.status == 3
    summary = summary_of(run_directory(folder))
    assert [(rank["rank"], rank["hostname"], rank["exit_code"]) for rank in summary["job"]["ranks_failed"]] == [
        (9, "node3", 3)
    ]
    assert "9" in next(line for line in block(ended.stderr).splitlines() if "failed" in line)


def test_steps_at_the_same_time_keep_apart(rig: Rig, folder: Path) -> None:
    step = f"srun --overlap -N2 -n4 {shlex.join(under())} sleep 4 &"
    assert rig.batch(f"export SATSCORE_EXIT_WAIT_S=20\n{step}\n{step}\nwait", folder, "-N2", "-n8") == 0
    runs = run_directories(folder)
    assert [run.name.split(".")[-1] for run in runs] == ["0", "1"]
    for run in runs:
        assert [rank for rank, _ in ranks_of(summary_of(run))] == [0, 1, 2, 3]


def test_one_command_after_the_other_in_one_step(rig: Rig, folder: Path) -> None:
    line = f"{shlex.join(under())} sleep 3"
    ended = rig.finish(["srun", "-N2", "-n4", "sh", "-c", f"{line}; {line}"], folder, variables=PATIENT)
    assert ended.status == 0
    assert blocks(ended.stderr) == 2
    first, second = run_directories(folder)
    assert second.name == f"{first.name}-2"
    assert all(summary_of(run)["job"]["ranks_count"] == 4 for run in (first, second))


def test_watch_beside_a_job(rig: Rig, folder: Path) -> None:
    """Another step of the job measures what runs there, and is a run of its own."""
    gate = folder / "go"
    job = rig.start(["srun", "-N2", "-n4", *under(), *until(gate)], folder)
    wait_recorded(folder, 4)
    number = run_directory(folder).name.removeprefix("rig-").split(".")[0]
    (folder / "watch").mkdir()
    watch = [*PROGRAM, "watch", "--duration", "3", "--source", "sim:gh200x4"]
    words = ["srun", "--overlap", f"--jobid={number}", "-N2", "-n2", *watch]
    beside = rig.finish(words, folder / "watch", variables=PATIENT)
    gate.touch()
    assert job.wait().status == 0
    assert beside.status == 0, beside.stderr
    assert blocks(beside.stderr) == 1
    assert summary_of(run_directory(folder / "watch"))["job"]["ranks_count"] == 2
    assert summary_of(run_directory(folder))["job"]["ranks_count"] == 4


def test_requeued_job_has_a_run_for_each_start(rig: Rig, folder: Path) -> None:
    body = f"export SATSCORE_EXIT_WAIT_S=20\n{keep(folder, 'started')}\nsrun {shlex.join(under())} sleep 4"
    job = rig.submit(body, folder, "--requeue", "-N2", "-n4")
    wait_recorded(folder, 4)
    rig.tell("scontrol", "requeue", job)
    wait_for(lambda: "PENDING" in rig.tell("squeue", "-h", "-j", job, "-o", "%T"), "the job to be queued again", 60.0)
    rig.tell("scontrol", "update", f"jobid={job}", "StartTime=now")
    assert rig.wait_job(job) == 0
    assert [run.name for run in run_directories(folder)] == [f"rig-{job}.0", f"rig-{job}.0-r1"]
    assert summary_of(run_directories(folder)[1])["run"]["job"]["restarts_count"] == 1


def test_tasks_of_an_array_have_a_run_each(rig: Rig, folder: Path) -> None:
    body = f"export SATSCORE_EXIT_WAIT_S=20\nsrun {shlex.join(under())} sleep 3"
    assert rig.batch(body, folder, "-N1", "-n2", "--array=1-2") == 0
    assert [summary_of(run)["job"]["ranks_count"] for run in run_directories(folder)] == [2, 2]


@pytest.mark.parametrize("inside", [False, True])
def test_satscore_around_srun_explains_itself(rig: Rig, folder: Path, inside: bool) -> None:
    """It sees the GPUs of one node only, and says where to stand instead; the ranks' own satscore still works."""
    ranks = f"srun -N2 -n4 {shlex.join(under()) if inside else ''} sleep 6"
    body = f"export SATSCORE_EXIT_WAIT_S=20\n{shlex.join([*PROGRAM, '--source', 'nvml', '--'])} {ranks}"
    assert rig.batch(body, folder, "-N2", "-n4") == 0
    said = "".join(path.read_text() for path in folder.glob("out-*"))
    advice = "this node only: the one behind srun scores the ranks" if inside else "the GPUs of this node only"
    assert f"satscore before srun sees {advice}" in said
    assert blocks(said) == int(inside)
    if inside:
        assert summary_of(run_directory(folder))["job"]["ranks_count"] == 4
