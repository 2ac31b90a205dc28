"""The command is born as without us: words, environment, descriptors, signals, directory."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.process.harness import CHILDREN, TIMEOUT_S, environment, satscore

LOOK = [sys.executable, "-I", "-S", str(CHILDREN / "look.py")]
C_SIGNALS = ("SigBlk", "SigIgn", "SigCgt")
# glibc's posix_spawn leaves its internal signals 32 and 33 ignored.
GLIBC_INTERNAL = 1 << 31 | 1 << 32


def look(
    command: Sequence[str | bytes],
    folder: Path,
    *,
    env: dict[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    before: Callable[[], None] | None = None,
) -> dict[str, Any]:
    report = folder / "look.json"
    subprocess.run(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=(environment() if env is None else env) | {"LOOK_AT": str(report)},
        pass_fds=pass_fds,
        preexec_fn=before,
        timeout=TIMEOUT_S,
        check=True,
    )
    facts: dict[str, Any] = json.loads(report.read_bytes())
    report.unlink()
    return facts


def test_words_are_verbatim(tmp_path: Path) -> None:
    words = [b"", b"a b", b"line\nbreak", b"\xff\xfe", "ü€".encode(), b"--", b"--period", b"$HOME;*", b"-h", b"'\""]
    facts = look([*satscore(*LOOK), *words], tmp_path)
    assert [bytes.fromhex(word) for word in facts["argv"]] == words


def test_environment_differs_only_by_satscore(tmp_path: Path) -> None:
    env = environment(STRANGE="a\nb=c", SATSCORE_LABEL="mine", OMP_NUM_THREADS="7")
    bare = look(LOOK, tmp_path, env=env)["environ"]
    ours = look(satscore(*LOOK), tmp_path, env=env)["environ"]
    added = {bytes.fromhex(name) for name in ours.keys() - bare.keys()}
    assert all(name.startswith(b"SATSCORE_") for name in added)
    assert added >= {b"SATSCORE_PARENT"}
    assert {name: ours[name] for name in bare} == bare


@pytest.mark.parametrize("locale", [{}, {"LANG": "C"}, {"LC_CTYPE": "C"}, {"LC_CTYPE": "C.UTF-8"}])
def test_locale_is_not_coerced_for_the_command(locale: dict[str, str], tmp_path: Path) -> None:
    """CPython in the C locale writes LC_CTYPE into its environment (PEP 538); the command must not see it."""
    out = tmp_path / "env"
    env = {n: v for n, v in environment().items() if n != "LANG" and not n.startswith("LC_")} | locale
    for command in (["sh", "-c", f"env > {out}"], satscore("sh", "-c", f"env > {out}.ours")):
        subprocess.run(command, env=env, timeout=TIMEOUT_S, check=True)
    bare = {line for line in out.read_text().splitlines() if line.startswith(("LC_", "LANG"))}
    ours = {line for line in Path(f"{out}.ours").read_text().splitlines() if line.startswith(("LC_", "LANG"))}
    assert ours == bare


def test_descriptors_are_inherited_and_none_added(tmp_path: Path) -> None:
    with (tmp_path / "extra").open("w") as extra:
        high = os.dup2(extra.fileno(), 77, inheritable=True)
        try:
            bare = look(LOOK, tmp_path, pass_fds=(extra.fileno(), high))["descriptors"]
            ours = look(satscore(*LOOK), tmp_path, pass_fds=(extra.fileno(), high))["descriptors"]
        finally:
            os.close(high)
    assert ours == bare
    assert ours["77"] == str(tmp_path / "extra")


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)])
def test_closed_descriptors_stay_closed_for_the_command(closed: tuple[int, ...], tmp_path: Path) -> None:
    def close() -> None:
        for fd in closed:
            os.close(fd)

    # CPython as the command would open files onto the closed numbers; a shell glob does not.
    out = tmp_path / "fds"
    script = f'for n in 0 1 2; do [ -e /proc/$$/fd/$n ] && list="$list $n"; done; echo $list > {out}; exit 5'
    for command in (["sh", "-c", script], satscore("sh", "-c", script)):
        done = subprocess.run(command, preexec_fn=close, env=environment(), timeout=TIMEOUT_S, check=False)
        assert done.returncode == 5
        assert out.read_text().split() == [str(n) for n in (0, 1, 2) if n not in closed]


def _ignore_some() -> None:
    import signal  # in the process that becomes the wrapper

    for signo in (signal.SIGHUP, signal.SIGTSTP, signal.SIGUSR1, signal.SIGQUIT, signal.SIGINT):
        signal.signal(signo, signal.SIG_IGN)


def _block_some() -> None:
    import signal

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGTERM, signal.SIGRTMIN + 3})


@pytest.mark.parametrize("before", [None, _ignore_some, _block_some])
def test_signal_state_is_inherited(before: Callable[[], None] | None, tmp_path: Path) -> None:
    out = tmp_path / "status"
    found = []
    for command in (["cp", "/proc/self/status", str(out)], satscore("cp", "/proc/self/status", str(out))):
        subprocess.run(command, preexec_fn=before, env=environment(), timeout=TIMEOUT_S, check=True)
        lines = dict(line.split(":", 1) for line in out.read_text().splitlines())
        found.append({name: int(lines[name], 16) & ~GLIBC_INTERNAL for name in C_SIGNALS})
        out.unlink()
    assert found[1] == found[0]


def test_read_only_working_directory(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    done = subprocess.run(
        satscore("pwd"), cwd=folder, env=environment(), capture_output=True, timeout=TIMEOUT_S, check=True
    )
    assert done.stdout.decode().strip() == str(folder)
    assert list(folder.iterdir()) == []


def test_same_process_group_and_session_and_parent(tmp_path: Path) -> None:
    code = "import os; print(os.getpgid(0), os.getsid(0), os.getpgid(os.getppid()), os.getsid(os.getppid()))"
    done = subprocess.run(
        satscore(sys.executable, "-c", code), env=environment(), capture_output=True, timeout=TIMEOUT_S, check=True
    )
    group, session, wrapper_group, wrapper_session = done.stdout.split()
    assert (group, session) == (wrapper_group, wrapper_session)
