"""The batch scripts of examples/slurm as a user hands them in, on simulated GPUs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launchers.tools import needs_torchrun, torchrun
from tests.process.harness import ROOT, wait_for
from tests.slurm.rig import Rig
from tests.slurm.runs import HEAD, blocks, ranks_of, run_directory, summary_of

pytestmark = pytest.mark.slurm

EXAMPLES = ROOT / "examples" / "slurm"
VARIABLES = {
    "SATSCORE_SOURCE": "sim:gh200x4",
    "SATSCORE_EXIT_WAIT_S": "30",
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
}
SMALLER = ("--cpus-per-task=1",)
"""The rig's nodes have fewer cores than the scripts ask for."""
JOB_S = 240.0
FEATURE = "nvidia_vboost_enabled"


@pytest.fixture
def alps(rig: Rig) -> Rig:
    """The rig with the feature that the scripts ask for."""
    nodes = ",".join(rig.nodes)
    said = rig.tell(
        "scontrol", "update", f"nodename={nodes}", f"availablefeatures={FEATURE}", f"activefeatures={FEATURE}"
    )
    assert not said
    return rig


def hand_in(rig: Rig, folder: Path, words: list[str], **variables: str) -> tuple[int, str]:
    """Run a batch script as a user would; return its status and all that it and its steps said."""
    given = ["sbatch", "--parsable", "--output=job.out", *words]
    sent = rig.finish(given, folder, variables=VARIABLES | variables)
    job = sent.stdout.strip()
    assert job.isdigit(), sent.stderr
    wait_for(lambda: not rig.tell("squeue", "-h", "-j", job), f"job {job} to end", JOB_S)
    return rig.wait_job(job), (folder / "job.out").read_text()


def test_alps(alps: Rig, folder: Path) -> None:
    """One block for eight ranks on two nodes, and every rank knows its place."""
    say = ["sh", "-c", 'sleep 8; echo "place $RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR"']
    status, said = hand_in(alps, folder, [*SMALLER, str(EXAMPLES / "alps.sbatch"), *say])
    assert status == 0, said
    places = sorted(line for line in said.splitlines() if line.startswith("place "))
    head = places[0].split()[-1]
    assert places == [f"place {rank} {rank % 4} 8 {head}" for rank in range(8)]
    assert head in alps.nodes
    assert blocks(said) == 1, said
    ranks = ranks_of(summary_of(run_directory(folder)))
    assert [rank for rank, _ in ranks] == list(range(8))
    assert len({host for _, host in ranks}) == 2


def test_alps_has_the_status_of_its_program(alps: Rig, folder: Path) -> None:
    status, said = hand_in(alps, folder, [*SMALLER, str(EXAMPLES / "alps.sbatch"), "sh", "-c", "exit 7"])
    assert status == 7, said


@needs_torchrun
@pytest.mark.parametrize(("at", "count"), [("rank", 8), ("node", 2)])
def test_torchrun(rig: Rig, folder: Path, at: str, count: int) -> None:
    """In front of each worker, or around the torchrun of each node."""
    variables = {"SATSCORE_AT": at, "TRAIN": "sleep 8", "TORCHRUN": str(torchrun())}
    status, said = hand_in(rig, folder, [*SMALLER, str(EXAMPLES / "torchrun.sbatch")], **variables)
    assert status == 0, said
    assert blocks(said) == 1, said
    assert [rank for rank, _ in ranks_of(summary_of(run_directory(folder)))] == list(range(count))


def test_scaling(rig: Rig, folder: Path) -> None:
    """Three runs, one table: of commands that take as long as they are told to."""
    status, said = hand_in(rig, folder, [*SMALLER, str(EXAMPLES / "scaling.sbatch")], TRAIN="sleep 8")
    assert status == 0, said
    assert blocks(said) == 4, said
    table = said[said.rindex(HEAD) :]
    assert "SIMULATED | scaling trial of 3 runs" in table
    assert "it is told" in " ".join(table.split())
    (directory,) = folder.glob("scaling-*")
    found = json.loads((directory / "scaling.json").read_text())
    sizes = [(run["nodes_count"], run["ranks_count"], run["gpus_count"]) for run in found["runs"]]
    assert sizes == [(1, 4, 4), (2, 8, 8), (4, 16, 16)]
    assert [run["marks"] for run in found["runs"]] == [["SIMULATED"]] * 3
    assert found["runs"][2]["efficiency_weak_frac"] == pytest.approx(1.0, abs=0.5)


def test_without_what_only_gpu_nodes_have(rig: Rig, folder: Path) -> None:
    """As the README takes it out: Slurm could start every script."""
    for script in sorted(EXAMPLES.glob("*.sbatch")):
        bare = folder / script.name
        bare.write_text(re.sub(r"(?m)^#SBATCH --(constraint|gpus-per-node|cpus-per-task)=.*\n", "", script.read_text()))
        said = rig.tell("sbatch", "--test-only", str(bare), "true")
        assert "to start at" in said, said


def test_the_scripts_are_bash() -> None:
    for script in sorted(EXAMPLES.glob("*.sbatch")):
        subprocess.run(["bash", "-n", str(script)], check=True)
