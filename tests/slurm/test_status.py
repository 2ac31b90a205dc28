"""srun and sbatch end with satscore as they end without it, whatever becomes of the ranks."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launchers.reporters import UNDER, WRAPS
from tests.process.harness import PROGRAM, wait_for
from tests.slurm.rig import Ended, Rig

pytestmark = pytest.mark.slurm

RANK = "case $SLURM_PROCID in 1) {one};; *) {others};; esac"


def both(rig: Rig, folder: Path, script: str, *options: str) -> tuple[Ended, Ended]:
    """Run the ranks bare and under satscore at the same time; return both ends."""
    started = []
    for name, wrap in WRAPS.items():
        (folder / name).mkdir()
        started.append(rig.start(["srun", "-N2", *options, *wrap, "sh", "-c", script], folder / name))
    bare, ours = started
    return bare.wait(), ours.wait()


@pytest.mark.parametrize(
    ("one", "others", "status"),
    [
        ("true", "true", 0),
        ("exit 7", "true", 7),
        ("exit 7", "exit 9", 9),
        ("kill -SEGV $$", "true", 139),
        ("kill -TERM $$", "true", 143),
        ("kill -KILL $$", "true", 137),
        ("exec /no/such/program", "true", 127),
    ],
)
def test_status_of_ranks(rig: Rig, folder: Path, one: str, others: str, status: int) -> None:
    bare, ours = both(rig, folder, RANK.format(one=one, others=others), "-n4")
    assert (bare.status, ours.status) == (status, status)
    assert lines(ours.stderr) == lines(bare.stderr)


def lines(said: str) -> list[str]:
    """What srun said of each task; it joins tasks of a node that end alike and at once."""
    found = re.findall(r"(?m)^srun: error: (\S+) tasks? ([\d,-]+): (.*)$", said)
    return sorted(f"{node} {task}: {what}" for node, tasks, what in found for task in numbers(tasks))


def numbers(text: str) -> Iterator[int]:
    """The numbers of ``0,2-4``."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def test_program_that_is_not_there(rig: Rig, folder: Path) -> None:
    """Slurm cannot say it, the wrapper does: with the shell's status."""
    ended = rig.finish(["srun", "-N2", *UNDER, "/no/such/program"], folder)
    assert ended.status == 127
    assert "/no/such/program" in ended.stderr


def test_output_of_the_ranks_is_theirs_alone(rig: Rig, folder: Path) -> None:
    """On srun's standard output is what the ranks wrote, to the byte."""
    bare, ours = both(rig, folder, 'printf "%s\\n" "$SLURM_PROCID of 8"; printf "no newline"', "-n8", "--label")
    assert sorted(ours.stdout.split("\n")) == sorted(bare.stdout.split("\n"))
    assert len(bare.stdout) > 8 * len("no newline")


def test_input_of_srun_reaches_the_ranks(rig: Rig, folder: Path) -> None:
    (folder / "words").write_text("to all\n")
    bare, ours = both(rig, folder, "cat", "-n4", f"-i{folder}/words")
    assert ours.stdout == bare.stdout == 4 * "to all\n"


def test_ranks_that_end_together_are_not_killed(rig: Rig, folder: Path) -> None:
    """``-W 2`` kills who is still there two seconds after the first has ended: nobody of ours lingers so long."""
    gate = folder / "go"
    under = [*PROGRAM, "--source", "sim:gh200x4", "--quiet", "--"]
    command = ["sh", "-c", f"until [ -e {gate} ]; do sleep 0.1; done"]
    started = rig.start(["srun", "-N4", "--ntasks-per-node=4", "-W2", *under, *command], folder)
    # all wrappers measure, so none is still busy with its own start
    wait_for(lambda: len(list(folder.glob("satscore-runs/*/readings-*.arrows"))) == 16, "16 recordings", 60.0)
    gate.touch()
    ended = started.wait()
    assert ended.status == 0, ended.stderr


def test_batch_script_that_is_wrapped(rig: Rig, folder: Path) -> None:
    """A wrapper in the batch shell has SLURM_PROCID=0 of many, and yet is alone: it waits for nobody."""
    assert rig.batch(f"{shlex.join(UNDER)} sh -c 'exit 5'", folder, "-N2", "-n8") == 5
