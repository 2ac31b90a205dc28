"""Marks and progress in real runs: what the command can say, and that nothing about it can hurt it."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from satscore.core.units import NS_PER_S
from satscore.record.marks_file import read_marks
from tests.process.harness import (
    PATIENT,
    PROGRAM,
    TIMEOUT_S,
    children_of,
    environment,
    finish,
    lives,
    running,
    satscore,
    wait_for,
)

MARK = [*PROGRAM, "mark"]
# Read by the interpreter at its start: this machine has none of the folders that come before TMPDIR,
# and its disk may be as slow as a loaded machine is.
ONLY_TMPDIR = """
import satscore.launch.marks as marks
marks.MEMORY_FOLDER = marks.LOCAL_FOLDER = ""
marks.OPEN_WAIT_S = 20.0
"""
COPY = 'cp "$SATSCORE_MARKS" "$COPY"'
"""The last words of a command: the file goes away with the run."""


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """TMPDIR of the run: whatever is left there afterwards is ours."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


def only_tmpdir(folder: Path, **variables: str) -> dict[str, str]:
    """The environment of a run whose file of marks is in that folder."""
    site = folder.parent / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(ONLY_TMPDIR)
    env = environment(**PATIENT, TMPDIR=str(folder), PYTHON=sys.executable, **variables)
    env["PYTHONPATH"] = f"{site}:{env['PYTHONPATH']}"
    return env


def run_shell(script: str, folder: Path, **variables: str) -> tuple["subprocess.CompletedProcess[bytes]", Path]:
    """Run a shell script under satscore; return also where it copies the file of marks to."""
    copy = folder.parent / "copy"
    env = only_tmpdir(folder, COPY=str(copy), **variables)
    return finish(satscore("sh", "-c", script, options=["--source", "sim"]), env=env), copy


def said(copy: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in copy.read_text().splitlines()]


def test_a_shell_a_python_program_and_echo_speak_to_the_run(folder):
    code = "import satscore; satscore.mark('b'); [satscore.progress(step=i, tokens=8, flop=1e12) for i in range(3)]"
    script = f"""
        {" ".join(MARK)} "a b" || exit 1
        "$PYTHON" -c "{code}" || exit 2
        echo '{{"mark": "c"}}' >> "$SATSCORE_MARKS" || exit 3
        [ "$(stat -c %a "$SATSCORE_MARKS")" = 600 ] || exit 4
        {COPY}; exit 7"""
    done, copy = run_shell(script, folder)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")
    lines = said(copy)
    assert [line["mark"] for line in lines if "mark" in line] == ["a b", "b", "c"]
    assert [line["step"] for line in lines if "step" in line] == [0, 1, 2]
    assert list(folder.iterdir()) == [], "the file is gone with the run"


@pytest.mark.parametrize("value", [None, "", "/no/such/file"])
def test_outside_a_run_a_script_goes_on(value):
    env = environment(**({} if value is None else {"SATSCORE_MARKS": value}))
    done = finish([*MARK, "x"], env=env)
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.count(b"\n") == 1
    reason = b"/no/such/file (SATSCORE_MARKS) cannot be written" if value else b"not inside a satscore run"
    assert done.stderr.startswith(b"satscore: no mark put: " + reason)
    silent = finish([sys.executable, "-W", "error", "-c", "import satscore; satscore.mark('x'); satscore.progress(1)"])
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, b"", b"")


def test_usage_of_mark():
    assert finish([*MARK, "--help"]).stdout.startswith(b"usage: satscore mark")
    for words in ([], ["a", "b"], ["--no-such"]):
        done = finish([*MARK, *words])
        assert (done.returncode, done.stderr[:23]) == (125, b"satscore: error: satsco")
    empty = finish([*MARK, ""])
    assert (empty.returncode, empty.stderr) == (0, b"satscore: no mark put: its name is empty\n")
    assert b"satscore mark NAME" in finish([*PROGRAM, "--help"]).stdout


def test_a_variable_of_another_run_is_replaced(folder):
    """sbatch hands the environment on: marks must not go into a run that is not around us."""
    other = folder.parent / "other"
    other.touch()
    script = f'echo "$SATSCORE_MARKS" > "$COPY"; {" ".join(MARK)} x'
    done, copy = run_shell(script, folder, SATSCORE_MARKS=str(other))
    assert done.returncode == 0
    assert copy.read_text().startswith(str(folder / "satscore-marks-"))
    assert other.read_bytes() == b""


def test_a_nested_run_keeps_the_outers_file(folder):
    inner = " ".join(satscore("sh", "-c", "'echo $SATSCORE_MARKS'"))
    done, _ = run_shell(f"echo $SATSCORE_MARKS; {inner}", folder)
    first, second = done.stdout.splitlines()
    assert first == second != b""


@pytest.mark.parametrize("has_others", [True, False])
def test_without_a_writable_tmpdir_the_command_runs_all_the_same(folder, has_others):
    missing = folder / "missing"
    env = environment(**PATIENT, TMPDIR=str(missing)) if has_others else only_tmpdir(folder) | {"TMPDIR": str(missing)}
    env["PYTHON"] = sys.executable
    script = 'echo "${SATSCORE_MARKS-none}"; "$PYTHON" -c "import satscore; satscore.mark(1)"; exit 3'
    done = finish(satscore("sh", "-c", script, options=["--source", "sim"]), env=env)
    assert (done.returncode, done.stderr) == (3, b"")
    shown = done.stdout.decode().strip()
    expected = ("/dev/shm/satscore-marks-", "/tmp/satscore-marks-")
    assert shown.startswith(expected) if has_others else shown == "none"
    assert not Path(shown).exists()


@pytest.mark.parametrize("command", [["/no/such/command"], ["/"]])
def test_a_command_that_cannot_start_leaves_no_file(command, folder):
    done = finish(satscore(*command), env=only_tmpdir(folder))
    assert done.returncode in {126, 127}
    assert list(folder.iterdir()) == []


def test_a_child_that_closes_all_descriptors_goes_on(folder):
    code = (
        "import os, satscore\n"
        "satscore.mark('a'); os.closerange(0, 256)\n"
        "theirs = [os.open(os.environ['COPY'] + str(n), os.O_CREAT | os.O_RDWR) for n in range(9)]\n"
        "satscore.mark('b'); satscore.progress(step=1)\n"
        "os._exit(any(os.fstat(fd).st_size for fd in theirs))"
    )
    done, copy = run_shell(f'"$PYTHON" -c "{code}" || exit 1; {COPY}', folder)
    assert done.returncode == 0
    assert [line.get("mark") for line in said(copy)] == ["a", "b", None]


def test_forked_children_write_as_themselves(folder):
    code = (
        "import os, satscore\n"
        "satscore.progress(step=0)\n"
        "for n in range(3):\n"
        "    if not os.fork():\n"
        "        satscore.progress(step=n); os._exit(0)\n"
        "for n in range(3): os.wait()"
    )
    done, copy = run_shell(f'"$PYTHON" -c "{code}"; {COPY}', folder)
    assert done.returncode == 0
    assert len({line["pid"] for line in said(copy)}) == 4


def test_ranks_are_told_apart_in_one_file(folder):
    code = "import satscore; satscore.progress(step=5, tokens=1)"
    script = f'for r in 0 1 2; do RANK=$r LOCAL_RANK=$r "$PYTHON" -c "{code}" & done; wait; {COPY}'
    _, copy = run_shell(script, folder)
    assert sorted(line["rank"] for line in said(copy)) == [0, 1, 2]


def test_a_file_deleted_in_mid_run_hurts_nobody(folder):
    code = "import os, satscore; satscore.mark('a'); os.unlink(os.environ['SATSCORE_MARKS']); print(satscore.mark('b'))"
    done, _ = run_shell(f'"$PYTHON" -c "{code}"; {" ".join(MARK)} c; exit 5', folder)
    assert (done.returncode, done.stdout) == (5, b"True\n")
    assert done.stderr.startswith(b"satscore: no mark put: ")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("signo", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_child_leaves_no_file(signo, folder):
    code = f"import os, satscore; satscore.mark('a'); os.kill(os.getpid(), {int(signo)})"
    done, _ = run_shell(f'exec "$PYTHON" -c "{code}"', folder)
    assert done.returncode == -signo
    assert list(folder.iterdir()) == []


def test_a_killed_wrapper_leaves_a_program_that_can_go_on(folder):
    """What is left is the file: nobody reads it any more, and nobody is hurt by that."""
    seen = folder.parent / "seen"
    code = (
        "import os, sys, time, satscore\n"
        "wrapper = os.getppid()\n"
        "satscore.mark('a')\n"
        "while os.getppid() == wrapper: time.sleep(0.01)\n"
        f"open({str(seen)!r}, 'w').write(str(satscore.mark('b')))"
    )
    env = only_tmpdir(folder)
    with running(satscore(sys.executable, "-c", code, options=["--source", "sim"]), env=env) as process:
        child = wait_for(lambda: children_of(process.pid), "the command")[0]
        wait_for(lambda: [f for f in folder.iterdir() if f.stat().st_size], "its first mark")
        process.kill()
        wait_for(lambda: seen.exists() and seen.read_text(), "the program to go on")
        assert seen.read_text() == "True"
        wait_for(lambda: not lives(child), "its end")
    assert len(list(folder.iterdir())) == 1


def test_a_failed_measuring_removes_the_file_at_once(tmp_path, folder):
    env = only_tmpdir(folder)
    with (tmp_path / "site" / "sitecustomize.py").open("a") as file:
        file.write("import sys\nsys.modules['satscore.launch.supervise'] = None\n")
    done = finish(satscore("sh", "-c", "exit 4"), env=env)
    assert done.returncode == 4
    assert list(folder.iterdir()) == []


def test_the_descriptor_is_not_the_commands(folder):
    done, _ = run_shell("ls -l /proc/self/fd", folder)
    assert b"satscore-marks" not in done.stdout


def test_a_gigabyte_of_garbage_hurts_nobody(folder):
    """A hole of 2 GB: costs no disk here, and all the reading of a reader that takes everything."""
    done, _ = run_shell(f'truncate -s 2G "$SATSCORE_MARKS"; {" ".join(MARK)} x; sleep 1.5; exit 6', folder)
    assert (done.returncode, done.stderr) == (6, b"")


# What the run keeps of it


TRAIN = (
    "import os, sys, time, satscore\n"
    "wrapper, ends_s = os.getppid(), time.monotonic() + float(sys.argv[2])\n"
    "satscore.mark('steady')\n"
    "for step in range(int(sys.argv[1])):\n"
    "    satscore.progress(step=step, tokens=1000); time.sleep(0.02)\n"
    "while time.monotonic() < ends_s and os.getppid() == wrapper: time.sleep(0.01)\n"
)


def test_marks_and_progress_are_in_the_run_directory(tmp_path, folder):
    run = tmp_path / "run"
    command = ["sh", "-c", f'"$@"; {" ".join(MARK)} "eval 1"; printf \'{{"mark": "end"}}\' >> "$SATSCORE_MARKS"', "sh"]
    words = [*PROGRAM, "--source", "sim", "--out", str(run), "--", *command, sys.executable, "-c", TRAIN, "20", "1.5"]
    done = finish(words, env=only_tmpdir(folder))
    assert done.returncode == 0, done.stderr
    kept = read_marks(run)
    assert [mark.name for mark in kept.marks] == ["steady", "eval 1", "end"]
    assert kept.progress.tokens.total == 19_000
    assert (kept.progress.steps_count, kept.progress.processes_count) == (19, 1)
    assert list(folder.iterdir()) == []


def test_a_killed_satscore_has_kept_what_it_had_read(tmp_path, folder):
    run = tmp_path / "run"
    words = [*PROGRAM, "--source", "sim", "--out", str(run), "--", sys.executable, "-c", TRAIN, "5", "60"]
    with running(words, env=only_tmpdir(folder)) as process:
        wait_for(lambda: read_marks(run).marks, "the first mark to be kept")
        process.kill()
        process.wait()
    kept = read_marks(run)
    assert [mark.name for mark in kept.marks] == ["steady"]
    assert kept.progress.calls_count >= 1


def test_progress_of_a_simulation_is_on_its_own_time(tmp_path, folder):
    run = tmp_path / "run"
    command = [sys.executable, "-c", TRAIN, "50", "0"]
    options = ["--source", "sim:llm,speed=20", "--out", str(run)]
    done = finish([*PROGRAM, *options, "--", *command], env=only_tmpdir(folder))
    assert done.returncode == 0
    median_s = read_marks(run).progress.step_time_s(0.5)
    assert median_s is not None
    assert median_s > 20 * 0.02 * 0.99


def summary_of(folder: Path, source: str, *command: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    target = folder.parent / "s.json"
    words = [*PROGRAM, "--quiet", "--source", source, "--record", "no", "--json", str(target), "--", *command]
    done = finish(words, env=env or only_tmpdir(folder))
    assert done.stderr == b""
    summary: dict[str, Any] = json.loads(target.read_text())
    return summary


def test_without_a_file_of_marks_the_summary_says_so(folder):
    env = only_tmpdir(folder) | {"TMPDIR": "/no/such/folder"}
    notes = summary_of(folder, "sim", "sleep", "1", env=env)["notes"]
    assert any(note.startswith("no marks and no progress: no file can be made in /no/such/folder") for note in notes)


def test_without_counters_progress_is_reported_all_the_same(tmp_path, folder):
    """Steps and tokens need no GPU; times of marks are those since the start of the command."""
    run = tmp_path / "run"
    code = TRAIN.replace("mark('steady')", "mark('begun')")
    words = ["--quiet", "--source", "gpm", "--out", str(run), "--", sys.executable, "-c", code, "20", "0"]
    done = finish([*PROGRAM, *words], env=only_tmpdir(folder, SATSCORE_NVML_LIBRARY="/no/such/library"))
    assert done.returncode == 0, done.stderr
    summary = json.loads((run / "summary.json").read_text())
    assert summary["headline"]["kind"] == "none"
    assert summary["progress"]["steps_count"] == 19
    assert summary["progress"]["tokens_s"] > 0
    assert any("without counters there are no windows for marks" in note for note in summary["notes"])
    kept = read_marks(run)
    assert kept.progress.steps_count == 19
    (mark,) = kept.marks
    assert mark.name == "begun"
    assert 0 < mark.time_ns / NS_PER_S < TIMEOUT_S, "since the start of the command"


def test_a_deleted_file_is_in_the_summary(folder):
    script = f'rm "$SATSCORE_MARKS"; {" ".join(MARK)} lost 2>/dev/null'
    summary = summary_of(folder, "sim", "sh", "-c", script)
    assert summary["marks"] == []
    assert any("SATSCORE_MARKS was deleted or replaced during the run" in note for note in summary["notes"])


def test_a_limit_of_file_sizes_is_in_the_summary(folder, tmp_path):
    """The command and satscore are under the same one."""
    target = tmp_path / "s.json"
    code = "import satscore\nwhile satscore.mark('x' * 200): pass"
    words = [*PROGRAM, "--quiet", "--source", "sim", "--record", "no", "--json", str(target), "--", sys.executable]
    limited = ["sh", "-c", 'ulimit -f 64; exec "$@"', "sh", *words, "-c", code]
    assert finish(limited, env=only_tmpdir(folder)).returncode == 0
    notes = json.loads(target.read_text())["notes"]
    assert any("it had the largest size that ulimit -f allows" in note for note in notes)


# Read by the interpreter at its start: whoever reads the file of marks waits for ever.
HANGS = """
import os, time
pread = os.pread
def hang(descriptor, size, offset):
    if "satscore-marks" in os.readlink(f"/proc/self/fd/{descriptor}"):
        time.sleep(3600)
    return pread(descriptor, size, offset)
os.pread = hang
"""


def test_a_folder_that_hangs_costs_marks_and_not_the_summary(folder):
    env = only_tmpdir(folder)
    with (folder.parent / "site" / "sitecustomize.py").open("a") as file:
        file.write(HANGS)
    summary = summary_of(folder, "sim:llm,speed=20", sys.executable, "-c", TRAIN, "5", "2", env=env)
    assert summary["job"]["score"]["score_pct"] is not None
    assert f"marks and progress were not (wholly) read: {folder} did not answer in time" in summary["notes"]
