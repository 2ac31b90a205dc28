"""Marks: the calls of a user's program, the file between, the reader, and marks that state a phase."""

import contextlib
import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

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
from satscore.record.marks_file import MARKS_FILE, Said, append_marks, marks_lines, read_marks
from satscore.run import marks as run
from satscore.run.marks import GridTime, MarksTail

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


def test_the_file_is_private_new_and_named_to_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
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


def test_a_relative_tmpdir_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", ".")
    made = launch.make_marks_file()
    assert made.path is not None
    assert Path(made.path).parent == tmp_path
    made.remove()
    os.close(made.descriptor)


def test_without_tmpdir_it_is_in_tmp_and_without_that_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "_FALLBACK_FOLDER", str(tmp_path))
    for wanted in ("", "/no/such/folder"):
        monkeypatch.setenv("TMPDIR", wanted)
        made = launch.make_marks_file()
        assert made.path is not None
        assert Path(made.path).parent == tmp_path
        made.remove()
        os.close(made.descriptor)
    monkeypatch.setattr(launch, "_FALLBACK_FOLDER", "/also/missing")
    monkeypatch.delenv("SATSCORE_MARKS", raising=False)
    none = launch.make_marks_file()
    assert (none.path, none.descriptor, none.environment()) == (None, -1, {})
    assert none.problem == (
        "no marks and no progress: no file can be made in /no/such/folder: No such file or directory, "
        "/also/missing: No such file or directory; set TMPDIR to a writable folder"
    )
    none.remove()
    monkeypatch.setenv("SATSCORE_MARKS", "/of/another/run")
    assert none.environment() == {b"SATSCORE_MARKS": b""}


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
    assert tail.finish(AT).progress.calls_count == 40
    assert tail.progress.lost_bytes == 55 * 100


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


# marks.jsonl


def test_what_is_kept_is_what_was_read(file, tail, tmp_path):
    for n in range(4):
        append(file, named(f"m{n}") + json.dumps({"step": n, "tokens": 2, "time_ns": n}).encode() + b"\n")
        news = tail.visit(AT)
        append_marks(tmp_path, marks_lines(*news))
    assert read_marks(tmp_path) == Said(marks=tuple(tail.marks), progress=tail.progress)
    assert tail.progress.tokens.total == 6
    assert (tmp_path / MARKS_FILE).stat().st_mode & 0o777 == 0o600


def test_where_nothing_was_said_there_is_no_file(tmp_path):
    append_marks(tmp_path, marks_lines((), ProgressState()))
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
    with pytest.raises(RecordError, match=r"marks\.jsonl: Is a directory"):
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
