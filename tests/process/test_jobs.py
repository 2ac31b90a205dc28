"""Several satscores that are the ranks of one job, as a launcher starts them: statuses, what is said, what is left."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.process.harness import (
    CHILDREN,
    PATIENT,
    PROGRAM,
    TIMEOUT_S,
    children_of,
    environment,
    finish,
    state_of,
    wait_for,
)

SIM = ("--source", "sim:gh200x4")
KEY = "ns-7"
RUN = Path("satscore-runs") / f"openmpi-{KEY}"
HUNG_S = 60.0
LATE = "could not be summed up in time"


def openmpi(rank: int, world: int) -> dict[str, str]:
    """What Open MPI tells a rank of one node."""
    places = {"RANK": rank, "SIZE": world, "LOCAL_RANK": rank, "LOCAL_SIZE": world}
    return {"PMIX_NAMESPACE": KEY} | {f"OMPI_COMM_WORLD_{name}": str(value) for name, value in places.items()}


def hydra(rank: int, world: int) -> dict[str, str]:
    """What MPICH's Hydra tells a rank: nothing in it tells this run from others."""
    return {"PMI_RANK": str(rank), "PMI_SIZE": str(world), "MPI_LOCALRANKID": str(rank), "MPI_LOCALNRANKS": str(world)}


class Ended:
    """A rank that has ended."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        out, err = process.communicate(timeout=HUNG_S)
        self.status = process.returncode
        self.out, self.text = out.decode(), err.decode()


class Job:
    """Ranks on this machine; each ends when the file with its number exists, and after ``seconds`` that were sampled.

    Args:
        folder: Where they run.
        world: How many there are.
        launcher: What makes their environment.
    """

    def __init__(self, folder: Path, world: int, launcher: Any = openmpi) -> None:
        self.folder = folder
        self.world = world
        self.run = folder / RUN
        self._launcher = launcher
        self.started: dict[int, subprocess.Popen[bytes]] = {}

    def command(self, rank: int, seconds: float = 1.5) -> list[str]:
        """Words of a command that ends when it may."""
        return [sys.executable, "-I", "-S", str(CHILDREN / "sampled.py"), str(seconds), str(self.end_file(rank))]

    def end_file(self, rank: int) -> Path:
        return self.folder / f"end-{rank}"

    def start(self, rank: int, *options: str, command: Sequence[str] | None = None, **added: str) -> None:
        words = [*PROGRAM, *options, "--", *(self.command(rank) if command is None else command)]
        self.launch(rank, words, **added)

    def launch(self, rank: int, words: Sequence[str], **added: str) -> None:
        self.started[rank] = subprocess.Popen(
            words,
            cwd=self.folder,
            env=environment(**(PATIENT | self._launcher(rank, self.world) | added)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def may_end(self, *ranks: int) -> None:
        for rank in ranks or range(self.world):
            self.end_file(rank).touch()

    def ends(self) -> list[Ended]:
        """How all ranks ended, in order."""
        return [Ended(self.started[rank]) for rank in sorted(self.started)]

    def wait_recorded(self, *ranks: int) -> None:
        """Wait until readings of these ranks are on the disk."""
        for rank in ranks:
            wait_for(
                lambda rank=rank: any(  # type: ignore[misc]
                    path.stat().st_size > 10_000 for path in self.run.glob(f"readings-*-{rank}.arrows")
                ),
                f"readings of rank {rank}",
            )

    def summary(self) -> Any:
        return json.loads((self.run / "summary.json").read_bytes())


@contextlib.contextmanager
def ranks_of(folder: Path, world: int, launcher: Any = openmpi) -> Iterator[Job]:
    """Yield a job; whatever still lives of it afterwards is killed."""
    job = Job(folder, world, launcher)
    try:
        yield job
    finally:
        for process in job.started.values():
            if process.poll() is None:
                for pid in [*children_of(process.pid), process.pid]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                process.communicate(timeout=TIMEOUT_S)


def block(text: str) -> str:
    """A block without the lines on what it cost."""
    return re.sub(r"(?m)^own cost.*\n(?: {11}.*\n)?", "", text).strip()


def told_alike(result: Any) -> Any:
    """A summary without what differs between a job that was told and one that was read."""
    result.pop("cost")
    result["source"].pop("resolution")
    return result


@pytest.mark.parametrize("record", ["full", "sums"])
def test_one_block_of_all_ranks_that_a_report_makes_again(record: str, tmp_path: Path) -> None:
    with ranks_of(tmp_path, 2) as job:
        job.may_end()
        for rank in range(2):
            command = [*job.command(rank)]
            status = ["sh", "-c", f'"$@"; exit {3 * rank}', "sh", *command]
            job.start(rank, *SIM, "--record", record, "--json", "job.json", command=status)
        first, second = job.ends()
        assert (first.status, second.status) == (0, 3)
        assert (first.out, second.out, second.text) == ("", "", "")
        assert "2 ranks on 1 node" in first.text
        assert "1 failed: first rank 1" in first.text
        told = json.loads((tmp_path / "job.json").read_bytes())
        report = finish([*PROGRAM, "report", str(RUN), "--json", "report.json"], cwd=tmp_path)
        assert block(report.stdout.decode()) == block(first.text)
        assert told_alike(json.loads((tmp_path / "report.json").read_bytes())) == told_alike(told)


def test_what_fails_between_the_ranks_leaves_the_block_of_rank_0(tmp_path: Path) -> None:
    """Neither a directory nor a key: each rank is alone, and nobody waits for the others."""
    (tmp_path / "satscore-runs").touch()
    with ranks_of(tmp_path, 2) as job:
        job.may_end()
        for rank in range(2):
            job.start(rank, *SIM)
        first, second = job.ends()
    assert (first.status, second.status, second.text) == (0, 0, "")
    assert "saturation" in first.text
    assert "nothing is recorded" in first.text
    assert LATE not in first.text


def test_who_knows_where_and_with_which_key_needs_no_directory(tmp_path: Path) -> None:
    (tmp_path / "satscore-runs").touch()
    key = tmp_path / "key"
    key.write_text("k" * 64)
    key.chmod(0o600)
    with ranks_of(tmp_path, 2) as job:
        job.may_end()
        port = 20_000 + os.getpid() % 20_000
        for rank in range(2):
            job.start(rank, *SIM, "--collector", f"127.0.0.1:{port}", "--collector-key", str(key))
        first, _ = job.ends()
    assert "2 ranks on 1 node" in first.text


@pytest.mark.parametrize("text", ["nonsense", "host:", ":7", "host:99999"])
def test_an_address_that_is_none_is_refused_before_the_command_starts(text: str) -> None:
    done = finish([*PROGRAM, "--collector", text, "--", "echo", "started"])
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"--collector" in done.stderr


def test_without_a_key_rank_0_alone_writes_what_the_user_named(tmp_path: Path) -> None:
    with ranks_of(tmp_path, 2, hydra) as job:
        job.start(0, *SIM, "--json", "named.json")
        job.may_end()
        first = Ended(job.started.pop(0))
        job.start(1, *SIM, "--json", "named.json", "--label", "second")
        (second,) = job.ends()
    assert (first.status, second.status) == (0, 0)
    for ended in (first, second):  # nothing tells their jobs apart, so each is summed up alone
        assert "missing" not in ended.text
        assert ended.text.count("saturation") == 1
    assert json.loads((tmp_path / "named.json").read_bytes())["run"]["label"] is None
    (own,) = (tmp_path / "satscore-runs").glob("*-rank1-*")
    assert (own / "summary.json").exists()


@pytest.mark.slow
def test_a_signal_that_ends_processes_hurries_rank_0_on(tmp_path: Path) -> None:
    with ranks_of(tmp_path, 2) as job:
        for rank in range(2):
            job.start(rank, *SIM, SATSCORE_EXIT_WAIT_S="1" if rank else "60")
        job.wait_recorded(0, 1)
        (child,) = children_of(job.started[0].pid)
        job.may_end(0)
        wait_for(lambda: not state_of(child), "the end of rank 0's command, and that rank 0 knows of it")
        job.started[0].send_signal(signal.SIGTERM)
        assert job.started[0].wait(TIMEOUT_S) == 0
        job.may_end(1)
        first, second = job.ends()
    assert (first.status, second.status) == (0, 0)
    assert "1 of 2 missing: 1" in first.text


@pytest.mark.slow
def test_a_killed_rank_is_named_and_the_others_are_summed_up(tmp_path: Path) -> None:
    with ranks_of(tmp_path, 3) as job:
        for rank in range(3):
            job.start(rank, *SIM, SATSCORE_EXIT_WAIT_S="6")
        job.wait_recorded(0, 1, 2)
        job.started[1].kill()
        job.may_end(0, 1, 2)
        first, second, third = job.ends()
    assert (first.status, second.status, third.status) == (0, -signal.SIGKILL, 0)
    assert "ranks      1 of 3" in first.text


@pytest.mark.slow
def test_without_rank_0_a_report_has_the_others(tmp_path: Path) -> None:
    with ranks_of(tmp_path, 2) as job:
        for rank in range(2):
            job.start(rank, *SIM, SATSCORE_EXIT_WAIT_S="3")
        job.wait_recorded(0, 1)
        job.started[0].kill()
        job.may_end(0, 1)
        _, second = job.ends()
        assert (second.status, second.text) == (0, "")
        report = finish([*PROGRAM, "report", str(RUN)], cwd=tmp_path)
    assert (report.returncode, b"2 ranks on 1 node" in report.stdout) == (0, True)


@pytest.mark.slow
@pytest.mark.parametrize("blind", [0, 1])
def test_a_rank_without_counters_harms_no_other(blind: int, tmp_path: Path) -> None:
    with ranks_of(tmp_path, 2) as job:
        job.may_end()
        for rank in range(2):
            # A host engine that nobody runs: this rank has no counters, whatever the machine has.
            source = ("--source", "dcgm", "--dcgm", "127.0.0.1:1") if rank == blind else SIM
            job.start(rank, *source, "--json", "job.json")
        first, second = job.ends()
    assert (first.status, second.status) == (0, 0)
    assert "saturation" in first.text
    told = json.loads((tmp_path / "job.json").read_bytes())
    assert (told["job"]["ranks_count"], told["job"]["gpus_count"]) == (2, 1)


@pytest.mark.slow
def test_a_watch_goes_on_where_rank_0_has_no_counters(tmp_path: Path) -> None:
    with ranks_of(tmp_path, 2) as job:
        for rank in range(2):
            source = ("--source", "dcgm", "--dcgm", "127.0.0.1:1") if rank == 0 else SIM
            job.launch(rank, [*PROGRAM, "watch", *source])
        job.wait_recorded(1)
        for process in job.started.values():
            process.send_signal(signal.SIGTERM)
        first, second = job.ends()
    assert (first.status, second.status) == (0, 0)
    assert "2 ranks on 1 node" in first.text
    assert "saturation" in first.text


@pytest.mark.slow
def test_each_rank_prints_if_asked_and_says_which_it_is(tmp_path: Path) -> None:
    with ranks_of(tmp_path, 2) as job:
        job.may_end()
        for rank in range(2):
            job.start(rank, *SIM, "--no-quiet")
        first, second = job.ends()
    assert "2 ranks on 1 node" in first.text
    assert "this is rank 1 of 2 alone" in second.text


@pytest.mark.slow
def test_rank_0_alone_judges(tmp_path: Path) -> None:
    with ranks_of(tmp_path, 2) as job:
        job.may_end()
        for rank in range(2):
            job.start(rank, *SIM, "--quiet", "--fail-under", "100")
        first, second = job.ends()
    assert (first.status, second.status) == (3, 0)
    assert "satscore: --fail-under 100: the score is" in first.text
    assert second.text == ""


@pytest.mark.slow
def test_two_in_one_step_have_a_directory_each(tmp_path: Path) -> None:
    with ranks_of(tmp_path, 2) as job:
        job.may_end()
        for _ in range(2):
            for rank in range(2):
                job.start(rank, *SIM)
            assert "2 ranks on 1 node" in job.ends()[0].text
    assert sorted(path.name for path in (tmp_path / "satscore-runs").iterdir()) == [RUN.name, f"{RUN.name}-2"]


@pytest.mark.slow
def test_commands_of_no_duration_end_as_they_would(tmp_path: Path) -> None:
    with ranks_of(tmp_path, 4) as job:
        for rank in range(4):
            job.start(rank, *SIM, command=["sh", "-c", f"exit {rank}"])
        assert [one.status for one in job.ends()] == [0, 1, 2, 3]
