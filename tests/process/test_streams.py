"""The three streams are the command's: bytes unchanged, failures of ours never seen."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.harness import PROGRAM, TIMEOUT_S, environment, finish, satscore

MEGABYTES = 12


def test_stdin_reaches_the_command() -> None:
    data = os.urandom(1 << 20)
    done = finish(satscore("cat"), data=data)
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")


def test_output_bytes_are_identical(tmp_path: Path) -> None:
    source = tmp_path / "bytes"
    source.write_bytes(os.urandom(1 << 20) * MEGABYTES)
    script = f"cat {source}; cat {source} >&2"
    digests = []
    for command in (["sh", "-c", script], satscore("sh", "-c", script)):
        done = finish(command)
        digests.append([hashlib.sha256(stream).hexdigest() for stream in (done.stdout, done.stderr)])
        assert len(done.stdout) == MEGABYTES << 20
    assert digests[0] == digests[1]


@pytest.mark.parametrize("status", [0, 7])
@pytest.mark.parametrize("full", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_full_disk_behind_our_streams_changes_no_status(full: tuple[str, ...], status: int) -> None:
    with Path("/dev/full").open("wb") as disk:
        done = subprocess.run(
            [*PROGRAM, "--record", "no", "--", "sh", "-c", f"exit {status}"],
            stdin=subprocess.DEVNULL,
            stdout=disk if "stdout" in full else subprocess.DEVNULL,
            stderr=disk if "stderr" in full else subprocess.DEVNULL,
            env=environment(),
            timeout=TIMEOUT_S,
            check=False,
        )
    assert done.returncode == status


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (1, 2), (0, 1, 2)])
def test_closed_streams_change_no_status(closed: tuple[int, ...]) -> None:
    """Not silent here: what we would say goes nowhere, and above all not into the command's stream."""

    def close() -> None:
        for fd in closed:
            os.close(fd)

    done = subprocess.run(
        [*PROGRAM, "--record", "no", "--", "sh", "-c", "exit 7"],
        stdout=subprocess.PIPE,
        preexec_fn=close,
        env=environment(),
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, b"")


def test_reader_of_our_stderr_that_left_changes_no_status() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [*PROGRAM, "--record", "no", "--", "sh", "-c", "exit 7"]
    done = subprocess.run(command, stderr=write, env=environment(), timeout=TIMEOUT_S, check=False)
    os.close(write)
    assert done.returncode == 7


def test_stdout_is_the_commands_alone() -> None:
    done = finish([*PROGRAM, "--record", "no", "--", "echo", "mine"])
    assert (done.returncode, done.stdout) == (0, b"mine\n")


def test_files_of_ours_never_land_on_a_closed_number(tmp_path: Path) -> None:
    """With 0, 1 and 2 closed, the wrapper holds /dev/null there while the command runs."""
    out = tmp_path / "ours"
    close_all = [sys.executable, "-c", "import os, sys; os.closerange(0, 3); os.execv(sys.argv[1], sys.argv[1:])"]
    look = f"for n in 0 1 2; do readlink /proc/$PPID/fd/$n; done > {out}"
    done = subprocess.run(
        [*close_all, *satscore("sh", "-c", look)],
        env=environment(),
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0
    assert out.read_text().split() == ["/dev/null"] * 3
