"""Marks: the calls of a user's program, the file between, the reader, and marks that state a phase."""

import contextlib
import datetime as dt
import errno
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import satscore
from satscore import marks as api
from satscore.core.labels import Label, PhaseMark
from satscore.core.marks import LINE_MAX_BYTES, Mark, phase_marks
from satscore.core.progress_state import ProgressState
from satscore.core.units import NS_PER_S
from satscore.counters.clock import ManualClock, MonotonicClock, ScaledClock
from satscore.errors import RecordError
from satscore.launch import marks as launch
from satscore.launch.request import RunOptions
from satscore.record.marks_file import MARKS_FILE, Said, append_marks, marks_lines, read_marks
from satscore.run import marks as run
from satscore.run import marks_thread, marks_writer
from satscore.run.keeper import Keeper
from satscore.run.marks import GridTime, MarksTail, News
from satscore.run.marks_thread import MarksThread
from satscore.run.recorder import Recorder
from satscore.run.start import run_start

if TYPE_CHECKING:
    from satscore.core.readings import ReadingTable
    from satscore.record.run_file import StreamHeader
    from satscore.record.stream import StreamWriter
    from satscore.run.session import Session

HOUR_NS = 3600 * NS_PER_S
AT = GridTime(clock=ManualClock(), grid_offset_ns=0, now_ns=HOUR_NS, wall_offset_ns=0)
"""An hour after the start; the grid is wall time."""


@pytest.fixture(name="file")
def _file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty file of marks, as inside a run."""
    path = tmp_path / "marks"
    path.touch(mode=0o600)
    monkeypatch.setenv(api.MARKS_VARIABLE, str(path))
    monkeypatch.setattr(api, "_files", {})
    monkeypatch.setattr(api, "_heads", {})
    for name in [*(name for name, _ in api._RANK_VARIABLES), "SLURM_STEP_ID", "LOCAL_RANK"]:
        monkeypatch.delenv(name, raising=False)
    yield path
    for descriptor, _, _ in api._files.values():
        with contextlib.suppress(OSError):
            os.close(descriptor)


@pytest.fixture(name="tail")
def _tail(file: Path) -> Iterator[MarksTail]:
    """The reader of that file, since a start at 0."""
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    yield MarksTail(descriptor, 0)
    os.close(descriptor)


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def named(*names: str) -> bytes:
    return b"".join(json.dumps({"mark": name, "time_ns": 5}).encode() + b"\n" for name in names)


# The calls


def test_lines_say_when_who_and_what(file, monkeypatch):
    assert satscore.mark('ev"al\n1')
    monkeypatch.setattr(api, "_heads", {})
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert satscore.progress(step=7, tokens=8192, flop=1.5e15)
    first, second = lines_of(file)
    assert 0 < first.pop("time_ns") <= second.pop("time_ns")  # type: ignore[operator]
    assert first == {"pid": os.getpid(), "mark": 'ev"al\n1'}
    assert second == {"pid": os.getpid(), "rank": 3, "step": 7, "tokens": 8192, "flop": 1.5e15}


def test_outside_a_run_nothing_happens(monkeypatch, tmp_path):
    monkeypatch.delenv(api.MARKS_VARIABLE, raising=False)
    assert not satscore.mark("x")
    assert not satscore.progress(step=1)
    for there in ("", str(tmp_path / "gone"), str(tmp_path), "/dev/null"):
        monkeypatch.setenv(api.MARKS_VARIABLE, there)
        assert not satscore.mark("x")
        assert not satscore.progress(step=1)


class Hostile:
    """An object of a user that fails wherever it is asked."""

    def __float__(self):
        raise RuntimeError

    def __str__(self):  # type: ignore[explicit-override] # typing.override needs Python 3.12
        raise RuntimeError


@pytest.mark.parametrize("value", ["x", [], Hostile(), float("nan"), float("-inf"), 10**400, 1j, b"\xff"])
def test_no_argument_hurts_the_program(value, file):
    assert satscore.progress(step=1, tokens=value)
    assert lines_of(file)[0]["wrong_count"] == 1
    satscore.mark(value)


def test_numbers_of_other_libraries_are_numbers(file):
    numpy = pytest.importorskip("numpy")
    assert satscore.progress(step=numpy.int64(5), tokens=numpy.float32(2.5), flop=numpy.array(3.0))
    (line,) = lines_of(file)
    assert (line["step"], line["tokens"], line["flop"]) == (5, 2.5, 3)
    assert "wrong_count" not in line


def test_without_arguments_there_is_nothing_to_say(file):
    assert not satscore.progress()
    assert file.read_bytes() == b""


@pytest.mark.parametrize("name", ["\U0001f600" * 1_000_000, "\ud800" * 300, "\0\x1b" * 200])
def test_a_line_is_never_longer_than_one_write(name, file, tail):
    satscore.mark(name)
    assert len(file.read_bytes()) <= LINE_MAX_BYTES
    assert file.read_bytes().count(b"\n") == 1
    tail.visit(AT)
    assert json.loads(file.read_bytes())["mark"] == name[:200].encode("utf-8", "replace").decode()


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({"RANK": "2"}, None),  # alone it may be a pod's
        ({"RANK": "2", "LOCAL_RANK": "0", "SLURM_PROCID": "9", "SLURM_STEP_ID": "1"}, 2),
        ({"SLURM_PROCID": "9"}, None),  # a batch shell
        ({"SLURM_PROCID": "9", "SLURM_STEP_ID": "1"}, 9),
        ({"OMPI_COMM_WORLD_RANK": "1", "SLURM_PROCID": "0", "SLURM_STEP_ID": "1"}, 1),
        ({"PMI_RANK": "x", "FLUX_TASK_RANK": "4"}, 4),
        ({"PMI_RANK": "²"}, None),
    ],
)
def test_the_rank_is_the_innermost_launchers(variables, rank, file, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    satscore.mark("x")
    assert lines_of(file)[0].get("rank") == rank


def test_the_descriptor_stays_open_but_is_never_trusted(file, tmp_path):
    """A program that closes all descriptors opens its own file under our number: it gets none of our lines."""
    satscore.mark("a")
    ((descriptor, _, _),) = api._files.values()
    satscore.mark("b")
    assert [d for d, _, _ in api._files.values()] == [descriptor]
    theirs = os.open(tmp_path / "theirs", os.O_WRONLY | os.O_CREAT)
    os.dup2(theirs, descriptor)
    os.close(theirs)
    assert satscore.mark("c")
    assert (tmp_path / "theirs").read_bytes() == b""
    os.close(descriptor)  # still theirs
    ((again, _, _),) = api._files.values()
    os.close(again)
    assert satscore.progress(step=1)
    assert len(lines_of(file)) == 4


def test_standard_descriptors_are_never_taken(file):
    """In a program without standard input ours must not become it."""
    code = "import os, satscore; os.close(0); satscore.mark('x'); print(os.path.exists('/proc/self/fd/0'))"
    environ = os.environ | {"PYTHONPATH": str(Path(satscore.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environ, check=True)
    assert done.stdout == b"False\n"
    assert len(lines_of(file)) == 1


def test_threads_and_forks_write_whole_lines(file, tail):
    def work() -> None:
        for step in range(200):
            satscore.progress(step=step, tokens=1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    code = (
        "import os, satscore\n"
        "satscore.progress(step=0)\n"
        "children = [os.fork() for _ in range(2)]\n"  # four processes that share a descriptor
        "for step in range(1, 101): satscore.progress(step=step, tokens=1)\n"
        "for child in children:\n    child and os.waitpid(child, 0)\n"
    )
    environ = os.environ | {"PYTHONPATH": str(Path(satscore.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], env=environ, check=True)
    assert len(lines_of(file)) == 800 + 1 + 400
    tail._started_ns = -HOUR_NS  # whatever the clocks say
    progress = tail.visit(AT).progress
    assert (progress.calls_count, progress.processes_count) == (1201, 5)
    assert len(api._files) == 1


def test_a_full_file_and_a_full_disk_are_nobodys_failure(file, monkeypatch):
    satscore.mark("x")

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        assert not satscore.mark("y")
    monkeypatch.setattr(api, "FILE_MAX_BYTES", 1)
    assert not satscore.mark("z")
    assert [line["mark"] for line in lines_of(file)] == ["x"]


def test_importing_satscore_loads_nothing_until_it_is_used():
    code = (
        "import sys, satscore\n"
        "before = {'satscore.marks', 'json', 'fcntl', 'numpy'} & sys.modules.keys()\n"
        "from satscore import progress\n"
        "assert progress is satscore.progress and satscore.mark.__module__ == 'satscore.marks'\n"
        "after = {'json', 'numpy', 'msgspec'} & sys.modules.keys()\n"
        "assert not hasattr(satscore, 'no_such_name')\n"
        "print(sorted(before), sorted(after))"
    )
    cwd = Path(satscore.__file__).parents[1]
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, cwd=cwd, check=True)
    assert done.stdout == b"[] []\n"


def test_the_variable_has_one_name():
    assert api.MARKS_VARIABLE == launch.MARKS_VARIABLE


# The file


@pytest.fixture(name="only_tmpdir")
def _only_tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TMPDIR, and a machine without the folders that come before it."""
    monkeypatch.setattr(launch, "MEMORY_FOLDER", "")
    monkeypatch.setattr(launch, "LOCAL_FOLDER", "")
    monkeypatch.setattr(launch, "OPEN_WAIT_S", 30.0)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_the_file_is_private_new_and_named_to_the_command(tmp_path, only_tmpdir):
    one, other = launch.make_marks_file(), launch.make_marks_file()
    assert one.path is not None
    assert one.path != other.path
    assert Path(one.path).parent == tmp_path
    assert Path(one.path).stat().st_mode & 0o777 == 0o600
    assert not os.get_inheritable(one.descriptor)
    assert one.environment() == {b"SATSCORE_MARKS": os.fsencode(one.path)}
    for made in (one, other, one):
        made.remove()
    assert list(tmp_path.iterdir()) == []
    os.write(one.descriptor, b"still there")
    for made in (one, other):
        os.close(made.descriptor)


@pytest.mark.usefixtures("only_tmpdir")
def test_a_relative_tmpdir_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", ".")
    made = launch.make_marks_file()
    assert made.path is not None
    assert Path(made.path).parent == tmp_path
    made.remove()
    os.close(made.descriptor)


def test_memory_comes_first_then_tmp_then_tmpdir_and_without_all_there_is_none(only_tmpdir, monkeypatch):
    folders = [only_tmpdir / name for name in ("memory", "local", "wanted")]
    for folder, name in zip(folders[:2], ("MEMORY_FOLDER", "LOCAL_FOLDER"), strict=True):
        folder.mkdir()
        monkeypatch.setattr(launch, name, str(folder))
    folders[2].mkdir()
    monkeypatch.setenv("TMPDIR", str(folders[2]))
    for folder in folders:
        made = launch.make_marks_file()
        assert made.path is not None
        assert Path(made.path).parent == folder
        made.remove()
        os.close(made.descriptor)
        folder.rmdir()
    monkeypatch.delenv("SATSCORE_MARKS", raising=False)
    none = launch.make_marks_file()
    assert (none.path, none.descriptor, none.environment()) == (None, -1, {})
    refusals = ", ".join(f"{folder}: No such file or directory" for folder in folders)
    problem = f"no marks and no progress: no file can be made in {refusals}; set TMPDIR to a writable folder"
    assert none.problem == problem
    none.remove()
    monkeypatch.setenv("SATSCORE_MARKS", "/of/another/run")
    assert none.environment() == {b"SATSCORE_MARKS": b""}


def test_a_folder_that_is_full_is_none(only_tmpdir, monkeypatch):
    monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_blocks=9, f_bavail=0, f_frsize=4096))
    assert f"{only_tmpdir}: it is full" in (launch.make_marks_file().problem or "")
    assert list(only_tmpdir.iterdir()) == []


def test_a_folder_that_hangs_delays_nobody_and_a_late_file_goes_again(only_tmpdir, monkeypatch):
    monkeypatch.setattr(launch, "OPEN_WAIT_S", 0.01)
    goes_on, opened, real = threading.Event(), list[int](), os.open

    def hanging(path: str, flags: int, mode: int) -> int:
        goes_on.wait(30)
        opened.append(real(path, flags, mode))
        return opened[-1]

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", hanging)
        none = launch.make_marks_file()
        assert f"{only_tmpdir}: no answer within 10 ms" in (none.problem or "")
        goes_on.set()
        deadline_s = time.monotonic() + 20
        while not (opened and closed(opened[0])) and time.monotonic() < deadline_s:
            time.sleep(0.001)
    assert opened
    assert closed(opened[0])
    assert list(only_tmpdir.iterdir()) == []


def closed(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return True
    return False


@pytest.mark.parametrize("how", ["left", "deleted", "replaced"])
def test_a_file_that_the_command_deleted_or_replaced_is_known(how, only_tmpdir):
    made = launch.make_marks_file()
    path = Path(made.path or "")
    if how != "left":
        path.unlink()
    if how == "replaced":
        path.touch()
    for _ in range(2):
        made.remove()
    assert made.was_deleted == (how != "left")
    assert not path.exists()
    thread = MarksThread(made, 0)
    assert any("was deleted or replaced" in note for note in thread.notes()) == (how != "left")
    os.close(made.descriptor)


# The reader


def test_new_lines_are_taken_once_and_a_partial_one_waits(file, tail):
    append(file, named("a", "b") + b'{"mark": "c", "ti')
    assert [mark.name for mark in tail.visit(AT).marks] == ["a", "b"]
    assert tail.visit(AT) == ((), ProgressState())
    append(file, b'me_ns": 5}\n' + b'{"step": 1, "tokens": 4}\n')
    news = tail.visit(AT)
    assert [mark.name for mark in news.marks] == ["c"]
    assert news.progress.calls_count == 1
    append(file, b'{"mark": "no end"}')
    assert tail.visit(AT).marks == ()
    assert tail.finish(AT).marks == (Mark(time_ns=HOUR_NS, name="no end"),)
    assert [mark.name for mark in tail.marks] == ["a", "b", "c", "no end"]
    assert tail.progress.calls_count == 1
    assert tail.notes() == []


def test_without_a_file_nothing_is_said():
    tail = MarksTail(-1, 0)
    assert tail.visit(AT) == tail.finish(AT) == ((), ProgressState())
    assert tail.notes() == []


def test_garbage_is_skipped_and_counted(file, tail):
    append(file, b"\n\n\xff\xfe\nnonsense\n{}\n" + named("a") + b"[" * 5000 + b"\n" + named("b"))
    assert [mark.name for mark in tail.visit(AT).marks] == ["a", "b"]
    assert tail.notes() == ["4 lines of SATSCORE_MARKS are neither marks nor progress: left out"]


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_no_content_breaks_the_reader(pieces):
    descriptor = os.memfd_create("marks")
    try:
        tail, count = MarksTail(descriptor, 0), 0
        for piece in pieces:
            os.write(descriptor, piece + b"\n" * (len(piece) % 2))
            count += len(tail.visit(AT).marks)
        tail.finish(AT)
        os.write(descriptor, b"\n" + named("z"))
        assert [mark.name for mark in tail.visit(AT).marks] == ["z"]
    finally:
        os.close(descriptor)


def test_a_gigabyte_costs_no_more_than_the_end_of_it(file, tail, monkeypatch):
    append(file, named("first"))
    assert tail.visit(AT).marks
    os.truncate(file, 3 << 30)  # a hole: costs no disk here, and is no line
    append(file, b"x" * 10 + b"\n" + named("last"))
    asked: list[int] = []
    pread = os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        asked.append(size)
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    tail.visit(AT)
    append(file, b"rest\n" + named("after"))
    assert [mark.name for mark in tail.visit(AT).marks] == ["after"]
    assert sum(asked) <= 2 * run.VISIT_BYTES
    assert tail.progress.lost_bytes > 3 << 30 >> 1
    assert "3221.2 MB of SATSCORE_MARKS were not read; marks among them are lost" in tail.notes()


def test_a_line_without_end_is_left_out_piece_by_piece(file, tail):
    append(file, b"x" * (2 * run.VISIT_BYTES + 5) + b"\n" + named("a"))
    found = [mark.name for _ in range(3) for mark in tail.visit(AT).marks]
    assert found == ["a"]
    assert tail.notes() == ["1 lines of SATSCORE_MARKS are neither marks nor progress: left out"]


def test_more_than_a_visit_is_taken_in_several_and_the_rest_at_the_end_is_lost(file, tail, monkeypatch):
    monkeypatch.setattr(run, "VISIT_BYTES", 1000)
    step = b'{"step": 1}'.ljust(99) + b"\n"
    append(file, step * 105)
    assert tail.visit(AT).progress.calls_count == 10
    now_s = iter([0.0, 0.05, 0.1, 0.14, 0.15]).__next__
    assert tail.finish(AT, now_s).progress.calls_count == 40
    assert tail.progress.lost_bytes == 55 * 100
    assert tail.notes() == ["0.0 MB of SATSCORE_MARKS were not read; marks among them are lost"]


def test_a_visit_is_bounded_by_lines_too(file, tail, monkeypatch):
    monkeypatch.setattr(run, "VISIT_LINES", 10)
    monkeypatch.setattr(run, "FINISH_LINES", 7)
    append(file, b"{}\n" * 10 + named(*"abcdefghijklmnopqrstuvwxyz") + b'{"mark": "no end"}')
    assert tail.visit(AT).marks == ()
    assert [mark.name for mark in tail.visit(AT).marks] == list("abcdefghij")
    assert [mark.name for mark in tail.finish(AT, lambda: 0.0).marks] == [*"klmnopqrstuvwxyz", "no end"]
    assert tail.progress.lost_bytes == 0


def test_what_kept_the_command_from_writing_is_said(file, tail, monkeypatch):
    append(file, named("a"))
    tail.visit(AT)
    assert tail.notes() == []
    with monkeypatch.context() as patched:
        patched.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_blocks=9, f_bavail=0))
        tail.visit(AT)
    with monkeypatch.context() as patched:
        patched.setattr(resource, "getrlimit", lambda _: (file.stat().st_size, -1))
        tail.visit(AT)
    with monkeypatch.context() as patched:
        patched.setattr(run, "FILE_MAX_BYTES", 1)
        tail.visit(AT)
    (note,) = tail.notes()
    assert note == (
        "SATSCORE_MARKS could not be written for a time (it had the largest size that ulimit -f allows, "
        "it held 0 MiB, its file system was full): marks and progress may be lost"
    )


def test_what_has_been_read_needs_no_disk(file, tail, monkeypatch):
    monkeypatch.setattr(run, "FREE_BYTES", 1 << 16)
    append(file, named(*["n" * 100] * 4000))
    before = file.stat().st_blocks
    tail.visit(AT)
    append(file, named("more"))
    assert file.stat().st_blocks < before / 4
    assert [mark.name for mark in tail.visit(AT).marks] == ["more"]


def test_a_file_emptied_by_the_command_goes_on(file, tail):
    append(file, named("a", "b"))
    tail.visit(AT)
    file.write_bytes(named("c"))  # > "$SATSCORE_MARKS" in a shell
    assert [mark.name for mark in tail.visit(AT).marks] == ["c"]


def test_a_file_deleted_by_the_command_goes_on(file, tail):
    satscore.mark("a")
    file.unlink()
    assert satscore.mark("b"), "through the descriptor that is open"
    tail._started_ns = -HOUR_NS
    assert [mark.name for mark in tail.visit(AT).marks] == ["a", "b"]


def test_a_file_that_fails_is_said(file):
    descriptor = os.open(file, os.O_WRONLY)
    tail = MarksTail(descriptor, 0)
    tail.visit(AT)
    os.close(descriptor)
    assert tail.notes() == ["marks and progress were read until the file failed: Bad file descriptor"]


def test_times_outside_the_run_are_those_of_the_reading(file, tail):
    for time_ns in (-2 * NS_PER_S, 5, HOUR_NS, 10 * HOUR_NS, 10**3000):
        append(file, json.dumps({"mark": "m", "time_ns": time_ns}).encode() + b"\n")
    assert [mark.time_ns for mark in tail.visit(AT).marks] == [HOUR_NS, 5, HOUR_NS, HOUR_NS, HOUR_NS]
    assert tail.notes() == ["3 marks or steps had times outside the run: taken as of when they came"]


def test_no_line_is_older_than_the_command(file):
    """The start is an instant of CLOCK_MONOTONIC; times are laid on the grid one by one."""
    at = GridTime(clock=ManualClock(), grid_offset_ns=3, now_ns=HOUR_NS, wall_offset_ns=1000)
    descriptor = os.open(file, os.O_RDONLY)
    tail = MarksTail(descriptor, 60 * NS_PER_S)
    for time_ns in (58 * NS_PER_S, 60 * NS_PER_S):
        append(file, json.dumps({"mark": "m", "time_ns": time_ns}).encode() + b"\n")
    assert [mark.time_ns for mark in tail.visit(at).marks] == [HOUR_NS - 997, 60 * NS_PER_S - 997]
    os.close(descriptor)


def test_marks_of_a_run_are_bounded(file, tail, monkeypatch):
    monkeypatch.setattr(run, "MARKS_MAX", 3)
    append(file, named("a", "b"))
    tail.visit(AT)
    append(file, named("c", "d", "e"))
    assert [mark.name for mark in tail.visit(AT).marks] == ["c"]
    assert tail.notes() == ["2 marks left out: a run keeps 3"]


def test_times_are_laid_on_the_grid_of_the_source():
    """A simulation that runs 20 times faster: 1 s of the command is 20 s of the grid."""
    clock = ScaledClock(20.0, since_ns=1000 * NS_PER_S, reads_ns=0)
    grid = GridTime(clock=clock, grid_offset_ns=7, now_ns=0, wall_offset_ns=500 * NS_PER_S)
    assert grid.of_wall(1501 * NS_PER_S) == 20 * NS_PER_S + 7


def test_a_wall_clock_that_was_set_does_not_move_the_grid():
    clock = ManualClock()
    before = GridTime(clock=clock, grid_offset_ns=10, now_ns=0, wall_offset_ns=100)
    after = GridTime(clock=clock, grid_offset_ns=10, now_ns=0, wall_offset_ns=100 + HOUR_NS)
    assert before.of_wall(105) == after.of_wall(105 + HOUR_NS) == 15


def test_the_present_time_maps_to_itself_on_the_real_clock():
    clock = MonotonicClock()
    now = GridTime.now(clock, 0)
    assert 0 < now.of_wall(now.now_ns) <= clock.now_ns()


# The thread


class Held:
    """A file whose reads wait until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.goes_on, self.began, real = threading.Event(), threading.Event(), os.pread

        def pread(descriptor: int, size: int, offset: int) -> bytes:
            self.began.set()
            self.goes_on.wait(30)
            return real(descriptor, size, offset)

        monkeypatch.setattr(os, "pread", pread)


@pytest.fixture(name="words")
def _words(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MarksThread]:
    """The thread of that file, which reads every millisecond."""
    monkeypatch.setattr(marks_thread, "FIRST_VISIT_S", 0.001)
    monkeypatch.setattr(marks_thread, "VISIT_S", 0.001)
    monkeypatch.setattr(marks_thread, "FINISH_WAIT_S", 30.0)
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    thread = MarksThread(launch.MarksFile(str(file), descriptor, None), 0)
    yield thread
    thread.stop()
    if thread._thread is not None:
        thread._thread.join(30)
    os.close(descriptor)


def names_in(news: list[News]) -> list[str]:
    return [mark.name for each in news for mark in each.marks]


def test_the_thread_hands_over_what_it_read_once(file, words):
    append(file, named("a"))
    words.start(lambda: AT)
    deadline_s, found = time.monotonic() + 20, list[str]()
    while not found and time.monotonic() < deadline_s:
        found += names_in(words.take())
    append(file, named("b"))
    assert found + names_in(words.take()) + names_in(words.finish()) == ["a", "b"]
    assert [mark.name for mark in words.said().marks] == ["a", "b"]
    assert words.notes() == []


def test_a_file_that_hangs_costs_marks_and_nobody_waits(file, words, monkeypatch):
    monkeypatch.setattr(marks_thread, "FINISH_WAIT_S", 0.01)
    held = Held(monkeypatch)
    append(file, named("a"))
    words.start(lambda: AT)
    assert held.began.wait(20)
    assert words.finish() == []
    assert words.notes() == [f"marks and progress were not (wholly) read: {file.parent} did not answer in time"]
    held.goes_on.set()
    assert words._thread is not None
    words._thread.join(30)
    assert words.said() == Said(), "what comes after the summary is not taken"
    assert len(words.notes()) == 1


def test_a_thread_that_fails_or_cannot_be_had_is_said(words, monkeypatch):
    def broken() -> GridTime:
        raise ValueError("odd")

    words.start(broken)
    assert words.finish() == []
    assert words.notes() == ["marks and progress were not (wholly) read (ValueError('odd')); please report it"]

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    other = MarksThread(launch.MarksFile("/x", 0, None), 0)
    other.start(lambda: AT)
    assert other.finish() == []
    assert other.notes() == ["marks and progress are not read: can't start new thread"]


def test_without_a_file_no_thread_is_needed():
    words = MarksThread(launch.MarksFile(None, -1, "no folder"), 0)
    words.start(lambda: AT)
    assert (words.finish(), words.said(), words.notes()) == ([], Said(), ["no folder"])


# marks.jsonl


@pytest.fixture(name="disk")
def _disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Bytes that the disk still takes; a write of more is cut there and fails."""
    left, real = {"bytes": 10**9}, append_marks

    def append_some(directory: Path, lines: bytes) -> None:
        real(directory, lines[: left["bytes"]])
        if len(lines) > left["bytes"]:
            raise OSError(errno.ENOSPC, "No space left on device", str(directory / MARKS_FILE))

    monkeypatch.setattr(marks_writer, "append_marks", append_some)
    return left


def recorder_in(folder: Path) -> Recorder:
    recorder = Recorder(folder / "run", with_readings=True, version="0")
    options = RunOptions(source="sim", period_s=0.2)
    recorder.begin(run_start(options, ["x"], dt.datetime.fromtimestamp(0, dt.UTC)), None)
    assert recorder.notes == []
    return recorder


def test_marks_that_a_full_disk_refused_are_written_later_and_once(tmp_path, disk):
    recorder = recorder_in(tmp_path)
    lines = [marks_lines([Mark(time_ns=1, name=name)], ProgressState(calls_count=1)) for name in "abc"]
    recorder.append_marks(lines[0])
    disk["bytes"] = len(lines[1]) - 3
    recorder.append_marks(lines[1])
    (note,) = recorder.notes
    assert note.startswith(f"marks and progress are not (all) in marks.jsonl: {tmp_path}")
    assert "No space left on device; free space" in note
    assert [mark.name for mark in read_marks(tmp_path / "run").marks] == ["a"]
    recorder.append_marks(lines[2])
    disk["bytes"] = 10**9
    recorder.append_marks(b"")
    said = read_marks(tmp_path / "run")
    assert ([mark.name for mark in said.marks], said.progress.calls_count, said.damaged_count) == (
        ["a", "b", "c"],
        3,
        0,
    )
    assert recorder.notes == []


def test_marks_that_wait_are_bounded_and_their_loss_stays_said(tmp_path, disk, monkeypatch):
    recorder = recorder_in(tmp_path)
    lines = marks_lines([Mark(time_ns=1, name="a")], ProgressState())
    monkeypatch.setattr(marks_writer, "WAITING_MAX_BYTES", len(lines))
    disk["bytes"] = 0
    for _ in range(3):
        recorder.append_marks(lines)
    disk["bytes"] = 10**9
    recorder.append_marks(lines)
    assert len(read_marks(tmp_path / "run").marks) == 2, "two of four are lost"
    assert any("marks and progress are not (all) in marks.jsonl" in note for note in recorder.notes)


def test_lines_that_cannot_be_taken_back_are_not_written_twice(tmp_path, disk, monkeypatch):
    recorder = recorder_in(tmp_path)
    lines = marks_lines([], ProgressState(calls_count=1))

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "truncate", refuse)
    disk["bytes"] = len(lines)
    recorder.append_marks(lines * 2)
    recorder.append_marks(b"")
    assert read_marks(tmp_path / "run").progress.calls_count == 1
    assert len(recorder.notes) == 1


def test_marks_sums_and_readings_fail_one_by_one(tmp_path, disk):
    recorder = recorder_in(tmp_path)
    appended = list[object]()
    recorder._stream = cast("StreamWriter", SimpleNamespace(append=appended.append, bytes_written=0))
    disk["bytes"] = 0
    lines = marks_lines([Mark(time_ns=1, name="a")], ProgressState())
    recorder.append_marks(lines)
    (tmp_path / "run" / "sums").mkdir()
    recorder.rewrite_sums("sums", b"x")
    recorder.append(cast("ReadingTable", None))
    assert appended == [None], "readings go on"
    assert len(recorder.notes) == 2
    disk["bytes"] = 10**9
    recorder.append_marks(b"")
    (note,) = recorder.notes
    assert note.startswith("the sums are not up to date")
    assert len(read_marks(tmp_path / "run").marks) == 1
    (tmp_path / "run" / "sums").rmdir()
    recorder.rewrite_sums("sums", b"x")
    assert recorder.notes == []


def test_sums_that_cannot_be_encoded_end_nothing(tmp_path, monkeypatch):
    recorder = recorder_in(tmp_path)
    options = RunOptions(source="sim", period_s=0.2)
    keeper = Keeper(recorder, run_start(options, ["x"], dt.datetime.fromtimestamp(0, dt.UTC)), with_sums=True)
    broken = cast("tuple[StreamHeader, Session]", (SimpleNamespace(gpus=[]), None))
    table = cast("ReadingTable", None)
    keeper.add(table, broken, 0)
    (note,) = keeper.notes()
    assert note.startswith("the sums are not up to date (")
    keeper.finish(None, None)
    keeper.settle()


def test_what_is_kept_is_what_was_read(file, tail, tmp_path):
    for n in range(4):
        append(file, named(f"m{n}") + json.dumps({"step": n, "tokens": 2, "time_ns": n}).encode() + b"\n")
        news = tail.visit(AT)
        append_marks(tmp_path / MARKS_FILE, marks_lines(*news))
    assert read_marks(tmp_path) == Said(marks=tuple(tail.marks), progress=tail.progress)
    assert tail.progress.tokens.total == 6
    assert (tmp_path / MARKS_FILE).stat().st_mode & 0o777 == 0o600


def test_where_nothing_was_said_there_is_no_file(tmp_path):
    append_marks(tmp_path / MARKS_FILE, marks_lines((), ProgressState()))
    assert list(tmp_path.iterdir()) == []
    assert read_marks(tmp_path) == Said()


def test_a_cut_line_costs_that_line(tmp_path):
    lines = marks_lines([Mark(time_ns=1, name="a"), Mark(time_ns=2, name="b")], ProgressState(calls_count=1))
    (tmp_path / MARKS_FILE).write_bytes(b"\xff\n" + lines[:-5])
    said = read_marks(tmp_path)
    assert [mark.name for mark in said.marks] == ["a", "b"]
    assert (said.progress, said.damaged_count) == (ProgressState(), 2)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / MARKS_FILE).mkdir()
    with pytest.raises(RecordError, match=r"marks\.jsonl: "):
        read_marks(tmp_path)


# Marks that state a phase


def test_marks_state_phases_by_window_and_others_are_notes():
    named_at = [(12.5, "steady"), (10.0, "Warmup"), (14.0, "eval 1"), (15.99, "DIP"), (16.0, "auto"), (18.2, "tail")]
    marks = [Mark(time_ns=round(at_s * NS_PER_S), name=name) for at_s, name in named_at]
    assert phase_marks(marks, 10) == [
        PhaseMark(0, Label.WARMUP),
        PhaseMark(2, Label.STEADY),
        PhaseMark(5, Label.DIP),
        PhaseMark(6, None),
        PhaseMark(8, Label.TAIL),
    ]
    assert phase_marks(marks, 0, window_ns=10 * NS_PER_S) == [PhaseMark(1, Label.TAIL)], "the last of a window"


def test_a_mark_before_the_first_window_counts_from_that_on():
    marks = [Mark(time_ns=NS_PER_S, name="startup"), Mark(time_ns=2 * NS_PER_S, name="warmup")]
    assert phase_marks(marks, 10) == [PhaseMark(0, Label.WARMUP)]
    assert phase_marks([], 10) == []


@given(st.lists(st.builds(Mark, time_ns=st.integers(0, 10**11), name=st.sampled_from(["steady", "auto", "x", "dip"]))))
def test_phase_marks_are_in_order_one_per_window(marks):
    found = [mark.index for mark in phase_marks(marks, 3)]
    assert found == sorted(set(found))
