"""Many ranks on two cores: they start, run and finish with one correct block; what each costs is printed."""

import json
import statistics
import sys
import time
from pathlib import Path

import pytest

from tests.launchers.tools import show
from tests.slurm.rig import Rig, Shape
from tests.slurm.runs import block, expected_ranks, ranks_of, run_directory, summary_of, under, wait_joined

MANY = [Shape(nodes=32), Shape(nodes=128)]
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.parametrize("shaped", MANY, indirect=True, ids=lambda shape: f"{shape.nodes}-nodes"),
]

LIMIT_S = 300.0
READ_S = 5.0
"""Long enough for a score."""
PER_NODE = {32: 4, 128: 1}
COUNTED = """\
import json, os, resource, subprocess, sys
into, *command = sys.argv[1:]
status = subprocess.call(command)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(into + "/cost." + os.environ["SLURM_PROCID"], "w") as file:
    json.dump([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024], file)
sys.exit(status)
"""
"""Runs a command and writes down its CPU seconds and its largest resident MiB, its own children with it."""
PRIVATE = 'awk "/^Private/ {sum += \\$2} END {print sum / 1024}" /proc/$PPID/smaps_rollup > "$0/private.$SLURM_PROCID"'
"""Writes down the MiB that the parent, which is satscore, shares with nobody."""


def counted(folder: Path, *command: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", COUNTED, str(folder), *command]


def costs(folder: Path) -> tuple[float, float]:
    """Mean CPU seconds and mean largest resident MiB of a rank."""
    found = [json.loads(path.read_text()) for path in folder.glob("cost.*")]
    return statistics.mean(cpu_s for cpu_s, _ in found), statistics.mean(mib for _, mib in found)


def test_one_correct_block(rig: Rig, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = rig.shape.nodes
    per_node = PER_NODE[nodes]
    world = nodes * per_node
    spread = ["srun", f"-N{nodes}", f"--ntasks-per-node={per_node}"]
    (folder / "bare").mkdir()
    bare = rig.finish([*spread, *counted(folder / "bare", sys.executable, "-c", "pass")], folder / "bare", LIMIT_S)
    gate = folder / "go"
    looks = ["sh", "-c", f'until [ -e "{gate}" ]; do sleep 2; done; {PRIVATE}', str(folder)]
    job = rig.start([*spread, *counted(folder, *under(), *looks)], folder, variables={"SATSCORE_EXIT_WAIT_S": "120"})
    wait_joined(folder, world, LIMIT_S)
    began_s = job.so_far().took_s
    time.sleep(READ_S)
    gate.touch()
    ended = job.wait(LIMIT_S)
    assert ended.status == 0, ended.stderr[-3000:]
    summary = summary_of(run_directory(folder))
    assert [rank for rank, _ in ranks_of(summary)] == list(range(world))
    assert {node for _, node in ranks_of(summary)} == {node for _, node in expected_ranks(nodes, per_node)}
    assert f"{world} ranks on {nodes} nodes" in block(ended.stderr)
    private = [float(path.read_text()) for path in folder.glob("private.*")]
    (cpu_s, rss_mib), (bare_cpu_s, bare_mib) = costs(folder), costs(folder / "bare")
    show(
        capsys,
        f"{nodes} nodes x {per_node}: all there after {began_s:.1f} s, over after {ended.took_s:.1f} s "
        f"(bare python: {bare.took_s:.1f} s)\n"
        f"  per rank: {cpu_s:.2f} s CPU, {rss_mib:.0f} MiB resident, {statistics.mean(private):.0f} MiB of its own "
        f"(bare python: {bare_cpu_s:.2f} s, {bare_mib:.0f} MiB)",
    )
