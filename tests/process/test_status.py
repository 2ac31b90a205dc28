"""The status of the command is the status of the wrapper; our own failures have codes of their own."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.harness import environment, finish, satscore

FATAL = [
    signal.SIGSEGV,
    signal.SIGKILL,
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGPIPE,
    signal.SIGABRT,
    signal.SIGRTMIN + 1,
]


@pytest.mark.parametrize("status", [0, 1, 2, 7, 125, 137, 255])
def test_exit_status_is_the_commands(status: int) -> None:
    assert finish(satscore("sh", "-c", f"exit {status}")).returncode == status


@pytest.mark.parametrize("signo", FATAL)
def test_death_by_signal_is_the_commands(signo: int, tmp_path: Path) -> None:
    assert finish(satscore("bash", "-c", f"kill -{int(signo)} $$"), cwd=tmp_path).returncode == -signo


def test_no_core_file_of_ours(tmp_path: Path) -> None:
    """With cores allowed, only the command leaves one: its own name is in it, the wrapper's is not."""
    names = Path("/proc/sys/kernel/core_pattern").read_text()
    if names.startswith("|") or "/" in names:
        pytest.skip("cores do not go to the working directory here")
    wrapper = subprocess.run(
        satscore("sh", "-c", "ulimit -c 0; kill -SEGV $$"),
        cwd=tmp_path,
        env=environment(),
        preexec_fn=_allow_core,
        timeout=20,
        check=False,
    )
    assert wrapper.returncode == -signal.SIGSEGV
    assert list(tmp_path.iterdir()) == []


def _allow_core() -> None:
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


def test_sigpipe_of_the_command_is_seen_by_the_shell() -> None:
    line = " ".join(f"'{word}'" for word in satscore("yes"))
    done = finish(["bash", "-c", f"{line} | head -1; echo ${{PIPESTATUS[0]}}"])
    assert done.stdout == b"y\n141\n"
    assert done.stderr == b""


def test_sigchld_ignored_at_start_does_not_lose_the_status() -> None:
    ignore = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    assert finish([sys.executable, "-c", ignore, *satscore("sh", "-c", "exit 7")]).returncode == 7


def test_not_found_is_127(tmp_path: Path) -> None:
    done = finish(satscore("no-such-command-here"))
    assert (done.returncode, done.stdout) == (127, b"")
    assert done.stderr == b"satscore: error: cannot run 'no-such-command-here': not found on PATH\n"
    assert finish(satscore(str(tmp_path / "absent"))).returncode == 127
    assert finish(satscore("")).returncode == 127


def test_missing_interpreter_is_127_and_named(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    done = finish(satscore(str(script)))
    assert done.returncode == 127
    assert b"interpreter" in done.stderr


def test_not_executable_is_126(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("echo no")
    done = finish(satscore(str(plain)))
    assert done.returncode == 126
    assert b"Permission denied" in done.stderr
    assert b"chmod" in done.stderr
    assert finish(satscore(str(tmp_path))).returncode == 126
    assert finish(satscore("")).returncode == 127


def test_script_without_first_line_runs_in_the_shell_like_execvp(tmp_path: Path) -> None:
    script = tmp_path / "bare-script"
    script.write_text('echo "$0|$1|$2"; exit 9\n')
    script.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    for name in (str(script), "bare-script"):
        words = [name, "a b", ""]
        expected = finish(["env", *words], env=environment(PATH=path))
        done = finish(satscore(*words), env=environment(PATH=path))
        assert (
            (done.returncode, done.stdout) == (expected.returncode, expected.stdout) == (9, f"{script}|a b|\n".encode())
        )
