"""Requeue, arrays, heterogeneous jobs, steps at the same time, launchers in jobs: who belongs to which run."""

from itertools import pairwise
from pathlib import Path

import pytest

from satscore.launch.request import Identity
from tests.launchers.identities import keep, kept
from tests.launchers.tools import MPIRUN, needs_mpirun, needs_torchrun, torchrun
from tests.process.harness import wait_for
from tests.slurm.rig import Rig

pytestmark = pytest.mark.slurm


def key_of(ranks: list[Identity], world: int) -> str:
    """The one key of all the ranks of a job, of which each is there once."""
    assert [identity.rank for identity in ranks] == list(range(world))
    assert {identity.world for identity in ranks} == {world}
    (key,) = {identity.key for identity in ranks}
    assert key is not None
    return key


def run(rig: Rig, folder: Path, body: str, *options: str) -> None:
    """Run a batch script to its good end."""
    status = rig.batch(body, folder, *options)
    assert status == 0, "".join(path.read_text() for path in folder.glob("out-*"))


def test_ranks_of_a_step(rig: Rig, folder: Path) -> None:
    """Seven on three nodes: however Slurm spreads them, each knows its place."""
    run(rig, folder, f"srun -m block {keep(folder, 'all')}", "-N3", "-n7")
    ranks = kept(folder, "all")
    assert key_of(ranks, 7).startswith("rig-")
    assert {identity.launcher for identity in ranks} == {"slurm"}
    firsts = [identity.rank for identity in ranks if identity.local_rank == 0]
    for first, behind in pairwise([*firsts, 7]):
        node = ranks[first:behind]
        assert [identity.local_rank for identity in node] == list(range(len(node)))
        assert {identity.local_world for identity in node} == {len(node)}
    assert len(firsts) == 3


def test_steps_at_the_same_time_are_two_runs(rig: Rig, folder: Path) -> None:
    lines = [f"srun --overlap -n4 {keep(folder, name, 0.5)} &" for name in ("first", "second")]
    run(rig, folder, "\n".join([*lines, "wait"]), "-N2", "-n4")
    assert key_of(kept(folder, "first"), 4) != key_of(kept(folder, "second"), 4)


def test_batch_shell_is_no_rank(rig: Rig, folder: Path) -> None:
    run(rig, folder, keep(folder, "shell"), "-N2", "-n8")
    assert kept(folder, "shell") == [Identity()]


def test_requeued_job_is_another_run(rig: Rig, folder: Path) -> None:
    job = rig.submit(f"srun {keep(folder, 'start-${SLURM_RESTART_COUNT:-0}', 60)}", folder, "--requeue", "-N2", "-n2")
    wait_for(lambda: len(kept(folder, "start-0")) == 2, "the first start", 60.0)
    rig.tell("scontrol", "requeue", job)
    wait_for(lambda: "PENDING" in rig.tell("squeue", "-h", "-j", job, "-o", "%T"), "the job to be queued again", 60.0)
    # Slurm keeps a requeued job back for two minutes, unless an operator says otherwise
    rig.tell("scontrol", "update", f"jobid={job}", "StartTime=now")
    wait_for(lambda: len(kept(folder, "start-1")) == 2, "the second start", 90.0)
    rig.tell("scancel", job)
    first, second = key_of(kept(folder, "start-0"), 2), key_of(kept(folder, "start-1"), 2)
    assert second == f"{first}-r1"
    assert {identity.restart for identity in kept(folder, "start-1")} == {1}


def test_tasks_of_an_array_are_runs_of_their_own(rig: Rig, folder: Path) -> None:
    run(rig, folder, f"srun {keep(folder, 'task-$SLURM_ARRAY_TASK_ID')}", "-N1", "-n2", "--array=1-3")
    keys = {key_of(kept(folder, f"task-{number}"), 2) for number in (1, 2, 3)}
    assert len(keys) == 3


def test_one_step_over_the_parts_of_a_heterogeneous_job_is_one_run(rig: Rig, folder: Path) -> None:
    body = f"#SBATCH -N1 -n2\n#SBATCH hetjob\n#SBATCH -N2 -n4\nsrun --het-group=0,1 {keep(folder, 'all')}"
    run(rig, folder, body)
    key_of(kept(folder, "all"), 6)


@needs_mpirun
def test_mpirun_in_a_job(rig: Rig, folder: Path) -> None:
    """Slurm gives all ranks the same SLURM_PROCID: Open MPI knows better."""
    run(rig, folder, f"{' '.join(MPIRUN)} -n 6 {keep(folder, 'all')}", "-N3", "-n6")
    ranks = kept(folder, "all")
    key_of(ranks, 6)
    assert {identity.launcher for identity in ranks} == {"openmpi"}


@needs_torchrun
def test_torchrun_in_each_task_of_a_step(rig: Rig, folder: Path) -> None:
    """Both workers of a node have the SLURM_PROCID of their torchrun."""
    start = f"{torchrun()} --nnodes 2 --nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint $HEAD:29400 --no-python"
    head = "HEAD=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -1)"
    run(rig, folder, f"{head}\nsrun {start} {keep(folder, 'all')}", "-N2", "-n2")
    ranks = kept(folder, "all")
    key_of(ranks, 4)
    assert {identity.launcher for identity in ranks} == {"torchrun"}
