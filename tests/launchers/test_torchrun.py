"""Four workers of torchrun on this machine: signals, statuses, restarts and who they are, bare and under satscore.

torchrun starts each worker in a session of its own, and ends it by a signal to its whole process group.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.launchers.identities import keep, kept
from tests.launchers.reporters import UNDER, WRAPS, Reporters, number, received, shown
from tests.launchers.tools import needs_torchrun, show, torchrun
from tests.process.harness import environment, running

pytestmark = [pytest.mark.slow, needs_torchrun]

WORKERS = 4
LIMIT_S = 120.0
SAY = "import os, sys; os.write(1, ' '.join([os.environ['RANK'], *sys.argv[1:]]).encode() + b'\\n')"
DASHES = UNDER[:-1]
"""The words before the command without ``--``."""


def launch(*command: str, restarts: int = 0) -> list[str]:
    """The words that start the workers; torchrun itself removes the first ``--`` among them."""
    options = ["--standalone", "--nproc-per-node", str(WORKERS), "--max-restarts", str(restarts), "--no-python"]
    return [str(torchrun()), *options, *command]


def finish(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    return subprocess.run(
        command,
        env=environment(OMP_NUM_THREADS="1"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(launch(*UNDER, sys.executable, "-c", SAY, "a", "--", "b"), id="torchrun-drops-the-dashes"),
        pytest.param(launch(*DASHES, sys.executable, "-c", SAY, "a", "--", "b"), id="satscore-without-dashes"),
        pytest.param([*UNDER, *launch(sys.executable, "-c", SAY, "a", "b")], id="satscore-around-torchrun"),
    ],
)
def test_command_runs_as_it_was_written(words: Sequence[str]) -> None:
    ended = finish(words)
    assert ended.returncode == 0, ended.stderr
    # argparse takes away one "--" of all: ours where there is one, else the command's
    said = [line.replace("-- ", "") for line in ended.stdout.splitlines()]
    assert sorted(said) == [f"{rank} a b" for rank in range(WORKERS)]


def told(folder: Path, wrap: str, name: str) -> int:
    """Signal torchrun, once; return its status."""
    ranks = Reporters(folder, WRAPS[wrap], ranks=WORKERS)
    with running(launch(*ranks.command), env=environment(OMP_NUM_THREADS="1")) as process:
        ranks.wait_ready()
        process.send_signal(number(name))
        ranks.wait_received("command", name, WORKERS)
        ranks.kill()
        return process.wait(LIMIT_S)


def failed(folder: Path, wrap: str) -> int:
    """Let one worker fail; return torchrun's status."""
    ranks = Reporters(folder, WRAPS[wrap], ranks=WORKERS, leaves=2, last_words="exit 3")
    env = environment(OMP_NUM_THREADS="1", **ranks.variables)
    with running(launch(*ranks.command), env=env) as process:
        ranks.wait_ready()
        ranks.leave()
        ranks.wait_received("command", "TERM", WORKERS - 1)
        ranks.kill()
        return process.wait(LIMIT_S)


EVENTS: dict[str, Callable[[Path, str], int]] = {
    "TERM to torchrun": lambda folder, wrap: told(folder, wrap, "TERM"),
    "INT to torchrun": lambda folder, wrap: told(folder, wrap, "INT"),
    "a worker fails": failed,
}


@pytest.mark.parametrize("event", EVENTS)
def test_signals_reach_each_worker_and_torchrun_ends_alike(
    event: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole group is told, and the wrapper may pass it on once more: never less, at most twice."""
    statuses, counts = {}, {}
    for wrap in WRAPS:
        folder = tmp_path / wrap
        statuses[wrap] = EVENTS[event](folder, wrap)
        counts[wrap] = received(folder, "command")
        show(
            capsys,
            f"{event:<18}{wrap:<10}{statuses[wrap]:>5}  {shown(counts[wrap]):<26}"
            f"its child {shown(received(folder, 'child'))}",
        )
    assert counts["satscore"].keys() == counts["bare"].keys()
    assert all(counts["bare"][name] <= count <= 2 * counts["bare"][name] for name, count in counts["satscore"].items())
    assert statuses["satscore"] == statuses["bare"]


def test_workers_that_were_restarted_are_another_run(tmp_path: Path) -> None:
    script = f"{keep(tmp_path, 'start-$TORCHELASTIC_RESTART_COUNT')}; exit $((1 - TORCHELASTIC_RESTART_COUNT))"
    ended = finish(launch(*UNDER, "sh", "-c", script, restarts=1))
    assert ended.returncode == 0, ended.stderr
    keys = {}
    for number_of_start in (0, 1):
        workers = kept(tmp_path, f"start-{number_of_start}")
        assert {(w.launcher, w.world, w.local_world) for w in workers} == {("torchrun", WORKERS, WORKERS)}
        (keys[number_of_start],) = {worker.key for worker in workers}
    # the first start's slower workers may have been stopped before they could say who they are
    assert [worker.rank for worker in kept(tmp_path, "start-1")] == list(range(WORKERS))
    assert keys[1] == f"{keys[0]}-r1"
