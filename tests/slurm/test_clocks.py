"""A node whose clock is wrong: the summary says so, and its windows lie on those of the others all the same."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.process.harness import PATIENT
from tests.slurm.rig import Rig
from tests.slurm.runs import (
    RANKS,
    SPREAD,
    expected_ranks,
    ranks_of,
    run_directory,
    summary_of,
    under,
    until,
    wait_recorded,
)

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")]

AHEAD_S = 5
READ_S = 6.0
SOURCE = Path(__file__).with_name("shifted_clock.c")


def shifted(folder: Path, seconds: int, node: str) -> list[str]:
    """The words that run a command with another wall clock on one node."""
    library = folder / "shifted.so"
    subprocess.run(["cc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    script = f'[ "$SLURMD_NODENAME" = {node} ] && export LD_PRELOAD={library} SHIFT_S={seconds}; exec "$@"'
    return ["sh", "-c", script, "sh"]


def test_clock_of_a_node_is_shifted(rig: Rig, folder: Path) -> None:
    """The means of the test itself: Python's wall clock is ahead there, and only there."""
    words = shifted(folder, AHEAD_S, "node2")
    say = 'import os, time; print(os.environ["SLURMD_NODENAME"], round(time.time()))'
    ended = rig.finish(["srun", "-N2", "-n2", *words, "/usr/bin/env", "python3", "-c", say], folder)
    times = dict(line.split() for line in ended.stdout.splitlines())
    assert AHEAD_S - 1 <= int(times["node2"]) - int(times["node1"]) <= AHEAD_S + 1


@pytest.mark.parametrize("seconds", [AHEAD_S, -AHEAD_S])
def test_windows_line_up(rig: Rig, folder: Path, seconds: int) -> None:
    words = [*shifted(folder, seconds, "node3"), *under("sim:gh200x4,seed=6"), *until(folder / "go")]
    started = rig.start(["srun", *SPREAD, *words], folder, variables=PATIENT)
    wait_recorded(folder, RANKS)
    time.sleep(READ_S)
    (folder / "go").touch()
    assert started.wait().status == 0
    summary = summary_of(run_directory(folder))
    assert ranks_of(summary) == expected_ranks()
    assert any("node3" in note and "clock" in note for note in summary["notes"]), summary["notes"]
    # on grids 5 s apart the job's windows would reach 5 s further than those of any rank, and lack a node there
    assert not any("only a part was read" in note for note in summary["notes"]), summary["notes"]
