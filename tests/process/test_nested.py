"""A satscore inside a satscore runs its command unmeasured, in its own place."""

import os
import sys
from pathlib import Path

import pytest

from tests.process.harness import PROGRAM, environment, finish, satscore

INNER = [*PROGRAM, "--record", "no", "--"]
LINE = "satscore: already inside a satscore run (pid "


def test_nested_run_becomes_its_command(tmp_path: Path) -> None:
    """One process, not two: the shell between sees the command itself as its child."""
    pid_file = tmp_path / "pid"
    inner = " ".join(INNER)
    script = f"echo $$ > {pid_file}; exec {inner} sh -c 'echo $$; exit 6'"
    done = finish(satscore("sh", "-c", script))
    assert done.returncode == 6
    assert done.stdout == pid_file.read_bytes()
    assert done.stderr.decode().startswith(LINE)
    assert done.stderr.count(b"\n") == 1


def test_nested_quiet_says_nothing() -> None:
    done = finish(satscore(*satscore("sh", "-c", "kill -PIPE $$; exit 1")))
    assert (done.returncode, done.stderr) == (-13, b"")


@pytest.mark.parametrize(("command", "status"), [("no-such-command-here", 127), ("/", 126)])
def test_nested_failures_have_the_same_codes(command: str, status: int) -> None:
    done = finish(satscore(*satscore(command)))
    assert done.returncode == status
    assert done.stderr.decode().startswith(f"satscore: error: cannot run '{command}': ")


def test_nested_script_without_first_line(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('echo "$0 $1"')
    script.chmod(0o755)
    assert finish(satscore(*satscore(str(script), "x"))).stdout.decode() == f"{script} x\n"


@pytest.mark.parametrize(
    "leaked",
    ["999999999:1", "0:0", "-1", "x", "", "²", "1", "1:1", pytest.param(f"{os.getpid()}:1", id="of another start")],
)
def test_leaked_variable_of_no_ancestor_is_no_nesting(leaked: str) -> None:
    """sbatch carries the environment to machines where that process is nobody's ancestor."""
    command = [*INNER, sys.executable, "-c", "import os; print(os.environ['SATSCORE_PARENT'], os.getppid())"]
    done = finish(command, env=environment(SATSCORE_PARENT=leaked))
    assert done.returncode == 0
    named, parent = done.stdout.decode().split()
    ours, _, outer = named.partition(",")
    assert ours.partition(":")[0] == parent
    assert outer == (leaked if ":" in leaked else ""), "what we carried stays, for processes that leave us"
    assert LINE not in done.stderr.decode()


def test_the_ancestor_may_be_far() -> None:
    done = finish(satscore("sh", "-c", f"sh -c '{' '.join(INNER)} true; true'; true"))
    assert done.stderr.decode().startswith(LINE)
