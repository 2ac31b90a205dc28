"""Where ranks meet: all agree without a word, nothing is overwritten, what lies there is not trusted."""

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from satscore.errors import RecordError
from satscore.record import meeting
from satscore.record.meeting import JOB_FILE, MOST_BYTES, Meeting, enter
from tests.process.harness import ROOT, environment

KEY = "cluster-7.0"


def join(wanted, rank=0, key=KEY, hostname="n0"):
    return enter(Path(wanted), key, hostname=hostname, rank=rank, now_ns=123)


def job_file(directory, **other):
    directory.mkdir(parents=True, exist_ok=True)
    content = {"format_version": 1, "key": KEY, "secret": "ab" * 32, "begun_ns": 5} | other
    (directory / JOB_FILE).write_text(json.dumps(content) + "\n")


def test_the_first_rank_makes_it_and_the_others_join(tmp_path):
    wanted = tmp_path / "satscore-runs" / KEY
    first = join(wanted)
    second = join(wanted, 3, hostname="n1")
    assert first.directory == second.directory == wanted
    assert first.secret == second.secret
    assert len(first.secret) == 32
    assert second.begun_ns == 123
    assert (first.file.name, second.file.name) == ("run.json", "run-n1-3.json")
    assert second.file.read_bytes() == b""
    assert sorted(path.name for path in wanted.iterdir()) == [JOB_FILE, "run-n1-3.json", "run.json"]


def test_nobody_else_can_look_in(tmp_path):
    one = join(tmp_path / "a" / "b")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (one.directory, one.directory / JOB_FILE, one.file)]
    assert modes == [0o700, 0o600, 0o600]


def test_an_empty_directory_is_taken(tmp_path):
    assert join(tmp_path).directory == tmp_path


@pytest.mark.parametrize("rank", [0, 1])
def test_any_rank_may_be_the_first(tmp_path, rank, monkeypatch):
    monkeypatch.setattr(meeting, "CLAIM_WAIT_S", 0.05)
    (tmp_path / "run").mkdir()
    assert join(tmp_path / "run", rank).directory == tmp_path / "run"


def test_another_job_meets_beside_it(tmp_path):
    wanted = tmp_path / "out"
    join(wanted)
    other = [join(wanted, rank, key="cluster-8.0") for rank in (0, 1)]
    assert [one.directory.name for one in other] == ["out-cluster-8.0"] * 2
    assert other[0].secret == other[1].secret


def test_a_directory_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.csv").write_text("1")
    ranks = [join(tmp_path / "out", rank) for rank in (1, 0, 2)]
    assert {one.directory.name for one in ranks} == {f"out-{KEY}"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["results.csv"]


def test_a_file_of_that_name_is_left_alone(tmp_path):
    (tmp_path / "out").write_text("1")
    assert join(tmp_path / "out").directory.name == f"out-{KEY}"


def test_the_jobs_own_name_is_not_repeated(tmp_path):
    (tmp_path / KEY).write_text("1")
    assert join(tmp_path / KEY).directory.name == f"{KEY}-2"


def test_a_second_run_of_all_ranks_in_the_same_step_meets_beside_the_first(tmp_path):
    first = [join(tmp_path / "out", rank) for rank in (0, 1)]
    second = [join(tmp_path / "out", rank) for rank in (1, 0)]
    third = [join(tmp_path / "out", rank) for rank in (0, 1)]
    names = [{one.directory.name for one in run} for run in (first, second, third)]
    assert names == [{"out"}, {"out-2"}, {"out-3"}]
    assert first[0].secret != second[0].secret == second[1].secret


def test_a_second_run_beside_a_foreign_directory_is_numbered_there(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").touch()
    assert [join(tmp_path / "out").directory.name for _ in range(2)] == [f"out-{KEY}", f"out-{KEY}-2"]


def test_what_a_killed_rank_left_of_its_claim_does_not_matter(tmp_path, monkeypatch):
    monkeypatch.setattr(meeting, "CLAIM_WAIT_S", 0.05)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f".{JOB_FILE}.n0-5.1.tmp").write_text('{"half')
    assert join(tmp_path / "run", 4).directory == tmp_path / "run"


def test_a_claim_that_is_on_its_way_is_waited_for(tmp_path):
    (tmp_path / "run").mkdir()
    threading.Timer(0.1, job_file, (tmp_path / "run",)).start()
    one = join(tmp_path / "run", 7)
    assert (one.begun_ns, one.secret) == (5, b"\xab" * 32)


def test_a_claim_that_is_being_written_is_waited_for(tmp_path):
    """Where there are no hard links, the name comes before its content."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / JOB_FILE).write_text('{"format_ver')
    threading.Timer(0.1, job_file, (tmp_path / "run",)).start()
    assert join(tmp_path / "run", 7).begun_ns == 5


def test_without_hard_links_it_works_as_well(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    ranks = [join(tmp_path / "run", rank) for rank in range(3)]
    assert len({one.secret for one in ranks}) == 1
    assert min(path.name for path in (tmp_path / "run").iterdir()) == JOB_FILE
    assert len(list((tmp_path / "run").iterdir())) == 4


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format_version": 1}\n', b"{" * 100_000, b'{"key": 1}\n'],
)
def test_a_damaged_job_file_is_named(tmp_path, content, monkeypatch):
    monkeypatch.setattr(meeting, "CLAIM_WAIT_S", 0.05)
    (tmp_path / JOB_FILE).write_bytes(content)
    with pytest.raises(RecordError, match=JOB_FILE):
        join(tmp_path)


@pytest.mark.parametrize("other", [{"secret": "ab"}, {"secret": "xy" * 32}, {"begun_ns": -1}, {"format_version": 2}])
def test_a_job_file_that_is_not_like_ours_is_named(tmp_path, other):
    job_file(tmp_path, **other)
    with pytest.raises(RecordError, match=JOB_FILE):
        join(tmp_path)


def test_a_job_file_without_end_and_a_pipe_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(meeting, "CLAIM_WAIT_S", 0.05)
    job_file(tmp_path / "large", key=KEY + " " * MOST_BYTES)
    with pytest.raises(RecordError):
        join(tmp_path / "large")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / JOB_FILE)
    with pytest.raises(RecordError, match="not a file"):
        join(tmp_path / "pipe")


def test_where_nothing_can_be_made_the_path_is_named(tmp_path):
    (tmp_path / "file").write_text("1")
    with pytest.raises(OSError, match="file"):
        join(tmp_path / "file" / "run")
    with pytest.raises(FileExistsError, match="/"):
        join("/")


def test_a_directory_that_cannot_be_written_is_an_error_with_its_path(tmp_path, monkeypatch):
    real = os.open

    def read_only(path, flags, *mode, **more):
        if flags & os.O_CREAT:
            raise OSError(30, "Read-only file system", str(path))
        return real(path, flags, *mode, **more)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(OSError, match="Read-only") as raised:
        join(tmp_path / "run")
    assert str(tmp_path / "run") in str(raised.value)


def test_threads_of_all_ranks_agree(tmp_path):
    for attempt in range(20):
        wanted, found, gate = tmp_path / str(attempt), list[Meeting](), threading.Barrier(16)

        def run(rank, wanted=wanted, found=found, gate=gate):
            gate.wait()
            found.append(join(wanted, rank))

        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {one.directory for one in found} == {wanted}
        assert len({(one.secret, one.begun_ns) for one in found}) == 1
        assert len(list(wanted.iterdir())) == 17


@pytest.mark.slow
def test_processes_of_all_ranks_agree_twice_in_a_row(tmp_path):
    program = """
import sys, time
from pathlib import Path
from satscore.record.meeting import enter
print("ready", flush=True)
sys.stdin.readline()
for _ in range(2):
    one = enter(Path(sys.argv[1]), "k-1.0", hostname="n0", rank=int(sys.argv[2]), now_ns=time.time_ns())
    print(one.directory.name, one.secret.hex(), one.begun_ns, flush=True)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "new" / "out")]
    ranks = [
        subprocess.Popen(
            [*command, str(rank)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(),
        )
        for rank in range(16)
    ]
    for rank in ranks:
        assert rank.stdout is not None
        assert rank.stdout.readline() == "ready\n"
    outputs = [rank.communicate("go\n", timeout=60)[0].splitlines() for rank in ranks]
    assert len({one[0] for one in outputs}) == 1
    assert len({one[1] for one in outputs}) == 1
    assert [one.split()[0] for one in outputs[0]] == ["out", "out-2"]


def test_a_rank_that_joins_needs_few_operations(tmp_path, monkeypatch):
    """Mkdir of the parent and of the directory, open of job.json, creation of the run file; nothing is listed."""
    join(tmp_path / "run")
    done = list[str]()

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            done.append(name)
            return real(*arguments, **options)

        return call

    for name in ("mkdir", "open", "link", "unlink", "scandir", "listdir"):
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    join(tmp_path / "run", 5)
    assert done.count("open") == 2
    assert done.count("mkdir") == 2
    assert len(done) == 4
