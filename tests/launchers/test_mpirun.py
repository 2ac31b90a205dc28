"""Four ranks of Open MPI on this machine: signals, statuses and who they are, bare and under satscore.

mpirun leaves its ranks about a second between the signal that ends them and SIGKILL.
"""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.launchers.identities import keep, kept
from tests.launchers.reporters import UNDER, WRAPS, Reporters, number, received, shown
from tests.launchers.tools import MPIRUN, needs_mpirun, show
from tests.process.harness import environment, running

pytestmark = [pytest.mark.slow, needs_mpirun]

RANKS = 4
LIMIT_S = 60.0


def mpirun(*command: str) -> list[str]:
    return [*MPIRUN, "-n", str(RANKS), *command]


def finish(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run mpirun to its end."""
    return subprocess.run(
        mpirun(*command),
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def told(folder: Path, wrap: str, name: str) -> int:
    """Signal mpirun, once; return its status."""
    ranks = Reporters(folder, WRAPS[wrap], ranks=RANKS)
    with running(mpirun(*ranks.command)) as process:
        ranks.wait_ready()
        process.send_signal(number(name))
        if name == "USR1":
            ranks.wait_received("command", name, RANKS)
            ranks.kill()
        return process.wait(LIMIT_S)


def left(folder: Path, wrap: str, last_words: str) -> int:
    """Let one rank end; return mpirun's status."""
    ranks = Reporters(folder, WRAPS[wrap], ranks=RANKS, leaves=2, last_words=last_words)
    with running(mpirun(*ranks.command), env=environment(**ranks.variables)) as process:
        ranks.wait_ready()
        ranks.leave()
        return process.wait(LIMIT_S)


EVENTS: dict[str, tuple[Callable[[Path, str], int], tuple[str, ...]]] = {
    "TERM to mpirun": (lambda folder, wrap: told(folder, wrap, "TERM"), ("CONT", "TERM")),
    "INT to mpirun": (lambda folder, wrap: told(folder, wrap, "INT"), ("CONT", "TERM")),
    "USR1 to mpirun": (lambda folder, wrap: told(folder, wrap, "USR1"), ("USR1",)),
    "a rank fails": (lambda folder, wrap: left(folder, wrap, "exit 3"), ("CONT", "TERM")),
    "a rank aborts": (lambda folder, wrap: left(folder, wrap, "kill -ABRT $$"), ("CONT", "TERM")),
}
"""What happens, and the signals that reach the ranks for it (others may follow when the test ends them)."""


@pytest.mark.parametrize("event", EVENTS)
def test_signals_reach_each_rank_and_mpirun_ends_alike(
    event: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """mpirun tells the whole group of a rank, and the wrapper may pass it on once more: never less, at most twice."""
    act, names = EVENTS[event]
    statuses, counts = {}, {}
    for wrap in WRAPS:
        folder = tmp_path / wrap
        statuses[wrap] = act(folder, wrap)
        counts[wrap] = received(folder, "command")
        show(
            capsys,
            f"{event:<18}{wrap:<10}{statuses[wrap]:>5}  {shown(counts[wrap]):<26}"
            f"its child {shown(received(folder, 'child'))}",
        )
    assert all(0 < counts["bare"][name] <= counts["satscore"][name] <= 2 * counts["bare"][name] for name in names)
    assert statuses["satscore"] == statuses["bare"]


@pytest.mark.parametrize(("script", "status"), [("true", 0), ("exit $((OMPI_COMM_WORLD_RANK / 3 * 7))", 7)])
def test_status(script: str, status: int) -> None:
    bare, ours = finish(["sh", "-c", script]), finish([*UNDER, "sh", "-c", script])
    assert ours.returncode == bare.returncode == status


def test_output_of_the_ranks_is_theirs_alone() -> None:
    """mpirun gives its ranks a terminal for their output; satscore says nothing on it."""
    script = 'echo "$OMPI_COMM_WORLD_RANK of $OMPI_COMM_WORLD_SIZE"; test -t 1 && echo terminal'
    bare, ours = finish(["sh", "-c", script]), finish([*UNDER, "sh", "-c", script])
    assert sorted(ours.stdout.split()) == sorted(bare.stdout.split())
    assert ours.stdout.count("terminal") == RANKS


def test_who_the_ranks_are(tmp_path: Path) -> None:
    for name in ("first", "second"):
        assert finish(["sh", "-c", keep(tmp_path, name)]).returncode == 0
    first, second = kept(tmp_path, "first"), kept(tmp_path, "second")
    assert [identity.rank for identity in first] == [identity.local_rank for identity in first] == list(range(RANKS))
    assert {(identity.world, identity.local_world) for identity in first} == {(RANKS, RANKS)}
    (key,), (other,) = {identity.key for identity in first}, {identity.key for identity in second}
    assert key != other
    assert key is not None
