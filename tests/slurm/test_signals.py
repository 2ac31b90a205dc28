"""What reaches the ranks of a step, bare and under satscore, at everything that ends or tells a job.

The deliveries are counted and printed; Slurm itself sends some signals twice.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.launchers.reporters import WRAPS, received, shown
from tests.launchers.tools import show
from tests.process.harness import wait_for
from tests.slurm.ranks import Ranks
from tests.slurm.rig import Rig, Shape

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.parametrize(
        "shaped", [Shape(tracking="cgroup"), Shape(tracking="linuxproc")], indirect=True, ids=lambda s: s.tracking
    ),
]

ON = ("-N2", "-wnode1,node2")
FAR = ("-N2", "-wnode3,node4")
LOST = "node4"
KILLED = 137
Event = Callable[[Rig, Ranks], int]


def cancel_job(rig: Rig, ranks: Ranks) -> int:
    ranks.step(*ON)
    rig.tell("scancel", ranks.job)
    return ranks.wait()


def cancel_step(rig: Rig, ranks: Ranks) -> int:
    ranks.step(*ON)
    rig.tell("scancel", ranks.of_step)
    return ranks.wait()


def cancel_with_usr1(rig: Rig, ranks: Ranks) -> int:
    told = ranks.step(*ON)
    rig.tell("scancel", "-s", "USR1", ranks.job)
    told.wait_received("command", "USR1", 2)
    return ranks.end()


def usr1_to_srun(rig: Rig, ranks: Ranks) -> int:
    told = ranks.step(*ON)
    ranks.send("USR1")
    told.wait_received("command", "USR1", 2)
    return ranks.end()


def term_to_srun(rig: Rig, ranks: Ranks) -> int:
    ranks.step(*ON)
    ranks.send("TERM")
    return ranks.wait()


def rank_fails(rig: Rig, ranks: Ranks) -> int:
    ranks.step(*ON, "-K", ranks=3, leaves=2, last_words="exit 3").leave()
    return ranks.wait()


def rank_leaves_early(rig: Rig, ranks: Ranks) -> int:
    ranks.step(*ON, "-W2", ranks=3, leaves=2).leave()
    return ranks.wait()


def time_is_up(rig: Rig, ranks: Ranks) -> int:
    ranks.step(*ON)
    rig.tell("scontrol", "update", f"jobid={ranks.job}", "EndTime=now")
    return ranks.wait()


def announced_end(rig: Rig, ranks: Ranks) -> int:
    ranks.batch(*ON, "-t1", "--signal=USR1@50").wait_received("command", "USR1", 2)
    return ranks.end()


def announced_end_to_shell(rig: Rig, ranks: Ranks) -> int:
    ranks.batch(*ON, "-t1", "--signal=B:USR1@50").wait_received("shell", "USR1", 1)
    return ranks.end()


def node_dies(rig: Rig, ranks: Ranks) -> int:
    told = ranks.step(*FAR)
    (told.folder.parent / f"{told.folder.name}-is-ready").touch()
    return ranks.wait()


QUICK = {
    "scancel JOB": cancel_job,
    "scancel JOB.STEP": cancel_step,
    "scancel -s USR1": cancel_with_usr1,
    "USR1 to srun": usr1_to_srun,
    "TERM to srun": term_to_srun,
    "srun -K, a rank fails": rank_fails,
    "srun -W2, a rank leaves": rank_leaves_early,
}
SLOW = {
    "time limit": time_is_up,
    "--signal=USR1@50": announced_end,
    "--signal=B:USR1@50": announced_end_to_shell,
    "a node dies": node_dies,
}
"""Where Slurm takes half a minute to notice; the same with both kinds of tracking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One event, bare or under satscore: what came, and how srun ended."""

    command: Counter[str]
    child: Counter[str]
    shell: Counter[str]
    status: int


def observe(rig: Rig, folder: Path, event: str, wrap: str) -> Row:
    """Let one event happen."""
    act = (QUICK | SLOW)[event]
    into = folder / act.__name__ / wrap
    status = act(rig, Ranks(rig, into, wrap))
    counts = [received(into, kind) for kind in ("command", "child", "shell")]
    return Row(command=counts[0], child=counts[1], shell=counts[2], status=status)


def cut_power(rig: Rig, folder: Path) -> None:
    """Kill the node once both jobs run on it."""
    flags = [folder / node_dies.__name__ / f"{wrap}-is-ready" for wrap in WRAPS]
    wait_for(lambda: all(flag.exists() for flag in flags), "both jobs to run on the node", 90.0)
    rig.kill(LOST)


@pytest.fixture(scope="module")
def rows(shaped: Rig) -> Iterator[dict[tuple[str, str], Row]]:
    """Everything happens at the same time, in a job each."""
    folder = shaped.shared / "signals"
    events = QUICK | (SLOW if shaped.shape.tracking == "cgroup" else {})
    with ThreadPoolExecutor(2 * len(events) + 1) as pool:
        cut = pool.submit(cut_power, shaped, folder) if "a node dies" in events else None
        futures = {
            (event, wrap): pool.submit(observe, shaped, folder, event, wrap) for event in events for wrap in WRAPS
        }
        rows = {key: future.result() for key, future in futures.items()}
    yield rows
    if cut is not None:
        cut.result()
        shaped.boot(LOST)


def test_what_is_delivered(rows: dict[tuple[str, str], Row], shaped: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """Every signal that reaches the bare command reaches it under satscore, at most once more each time."""
    lines = [f"deliveries to all ranks together, proctrack/{shaped.shape.tracking}"]
    lines.append(f"{'event':<26}{'':<10}{'status':>6}  {'command':<24}{'its child':<24}batch shell")
    for (event, wrap), row in rows.items():
        counts = f"{shown(row.command):<24}{shown(row.child):<24}{shown(row.shell)}"
        lines.append(f"{event:<26}{wrap:<10}{row.status:>6}  {counts}")
    show(capsys, "\n".join(lines))
    for event in {event for event, _ in rows}:
        bare, ours = rows[event, "bare"], rows[event, "satscore"]
        assert ours.command.keys() == bare.command.keys(), event
        for name, count in bare.command.items():
            most = count if shaped.shape.tracking == "cgroup" else 2 * count
            assert ours.command[name] <= most, (event, name)


def test_each_rank_is_told_once(rows: dict[tuple[str, str], Row], shaped: Rig) -> None:
    """Where only a task's main process is told, satscore passes each signal on exactly once."""
    if shaped.shape.tracking != "cgroup":
        pytest.skip("with linuxproc Slurm tells all processes of a task itself")
    told = {event: rows[event, "satscore"].command for event in (*QUICK, *SLOW)}
    assert told["scancel JOB"] == Counter(TERM=2, CONT=2)
    assert told["scancel -s USR1"] == told["USR1 to srun"] == Counter(USR1=2)
    assert told["srun -K, a rank fails"] == Counter(TERM=2, CONT=2)
    assert told["time limit"] == Counter(TERM=2, CONT=2)
    assert told["--signal=USR1@50"] == Counter(USR1=2, CONT=2)
    assert told["a node dies"] == Counter(TERM=1, CONT=1)
    assert told["scancel JOB.STEP"] == told["srun -W2, a rank leaves"] == Counter()


@pytest.mark.parametrize("event", ["scancel JOB.STEP", "srun -K, a rank fails", "srun -W2, a rank leaves"])
def test_srun_ends_as_without_satscore(rows: dict[tuple[str, str], Row], event: str) -> None:
    assert rows[event, "satscore"].status == rows[event, "bare"].status == KILLED
