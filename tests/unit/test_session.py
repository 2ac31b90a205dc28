"""Live and replayed runs: the same readings give the same summary to the byte, however they are batched or stored."""

import errno
import fcntl
import os
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from satscore.core.summary import encode
from satscore.errors import RecordError
from satscore.record.run_file import RunEnd
from satscore.run.recorder import Recorder, default_directory
from satscore.run.replay import rebuild
from satscore.run.results import summarise
from tests.unit.runs import COMMAND, H200_INFO, Run, batches, measured, rows, simulated
from tests.unit.scenes import E1, IDLE
from tests.unit.sim_runs import run_end, run_file, run_start

MIXED = [(0.2, E1), (0.2, IDLE | {"d": 0.4}), (0.13, E1 | {"T": 0.3}), (0.9, E1 | {"f": 1300})] * 6
RUNS = {
    "llm": simulated("sim:llm", 12, 0.13),
    "node": simulated("sim:gh200x4", 12),
    "measured": measured(MIXED),
    "counters missing": measured(MIXED, unknown=["sm", "pcie_tx_bytes_s"]),
    "no score": measured(MIXED, unknown=["T"]),
    "gauges only": measured(MIXED, unknown=["g", "sm", "T", "d"], source="nvml", has_pipe_counters=False),
    "unknown GPU": measured(MIXED, gpus=[msgspec.structs.replace(H200_INFO, name="NVIDIA X1")]),
    "wall clock": measured(MIXED, grid_offset_ns=1_790_000_000_123_456_789),
}


def record(directory: Path, run: Run, *, batch: int, end: RunEnd | None = None) -> bytes:
    """Record a run as it would be live; return its summary."""
    start = run_start(COMMAND, label="demo")
    recorder = Recorder(directory, with_readings=True, version="1.2.3")
    recorder.begin(start, run.header)
    for table in batches(run.table, batch):
        recorder.append(table)
    recorder.close_stream()
    session = run.session(batch=batch)
    summary = summarise(
        run_file(start, end, version="1.2.3"), [(run.header, session)], directory=str(recorder.directory)
    )
    data = encode(summary)
    if end is not None:
        recorder.end(end)
        recorder.summary(data)
    assert recorder.notes == []
    return data


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("batch", [7, 1000])
def test_a_replayed_run_has_the_summary_of_the_live_one(tmp_path, name, batch):
    live = record(tmp_path / "run", RUNS[name], batch=batch, end=run_end(12.0, ["a note"]))
    rebuilt = rebuild(tmp_path / "run")
    assert encode(rebuilt.summary) == live == (tmp_path / "run" / "summary.json").read_bytes()
    assert rebuilt.warnings == ()


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("batch", [1, 3, 11])
def test_batches_do_not_change_the_summary(name, batch):
    assert encode(RUNS[name].summary(batch=batch)) == encode(RUNS[name].summary())


def test_a_killed_run_is_rebuilt_without_its_end(tmp_path):
    record(tmp_path / "run", RUNS["llm"], batch=9)
    summary = rebuild(tmp_path / "run").summary
    assert not summary.run.finished
    assert summary.run.exit_code is summary.run.duration_s is summary.cost.cpu_s is None
    assert summary.run.observed_s == pytest.approx(12, abs=0.2)
    assert any("killed" in note for note in summary.notes)


def test_a_recording_that_was_cut_off_is_scored_as_far_as_it_goes_and_mended(tmp_path):
    run = RUNS["llm"]
    record(tmp_path / "run", run, batch=10, end=run_end(12.0, []))
    (path,) = (tmp_path / "run").glob("readings-*")
    path.write_bytes(path.read_bytes()[:-1000])
    first, second = rebuild(tmp_path / "run"), rebuild(tmp_path / "run")
    assert len(first.warnings) == 1
    assert "rank 0 was cut off" in first.warnings[0]
    assert "(repaired)" in first.warnings[0]
    assert second.warnings == ()
    assert second.summary == first.summary
    kept = Run(header=run.header, table=rows(run.table, slice(0, len(run.table) // 10 * 10)))
    assert first.summary.job.score == kept.summary().job.score


def cut_off(directory: Path, *, end: RunEnd | None, age_s: float) -> Path:
    """Record a run, cut its recording and let it be so old; return the recording."""
    record(directory, RUNS["llm"], batch=10, end=end)
    (path,) = directory.glob("readings-*")
    path.write_bytes(path.read_bytes()[:-1000])
    then_s = path.stat().st_mtime - age_s
    os.utime(path, (then_s, then_s))
    return path


def test_a_recording_without_an_end_that_may_still_be_written_is_not_repaired(tmp_path):
    """No lock is held: the writer may be on another node, where this file system's locks do not reach."""
    path = cut_off(tmp_path / "run", end=None, age_s=30)
    inode = path.stat().st_ino
    rebuilt = rebuild(tmp_path / "run")
    assert "(not repaired: it may still be written)" in rebuilt.warnings[0]
    assert path.stat().st_ino == inode
    (note,) = [note for note in rebuilt.summary.notes if "end of the run" in note]
    assert note == (
        "the end of the run was not recorded: satscore was killed, the disk was full, or the run still goes on"
    )
    assert rebuilt.summary.source.late_reads_count is rebuilt.summary.source.latest_read_s is None


def test_a_recording_without_an_end_is_repaired_once_it_is_old(tmp_path):
    path = cut_off(tmp_path / "run", end=None, age_s=100)
    inode = path.stat().st_ino
    assert "(repaired)" in rebuild(tmp_path / "run").warnings[0]
    assert path.stat().st_ino != inode


@pytest.mark.parametrize(("age_s", "told"), [(30, "(not repaired"), (100, "(repaired)")])
def test_where_there_are_no_locks_time_tells(tmp_path, monkeypatch, age_s, told):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    cut_off(tmp_path / "run", end=run_end(12.0, []), age_s=age_s)
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert told in rebuild(tmp_path / "run").warnings[0]


def test_several_ranks_are_merged(tmp_path):
    """Two recordings of one run: each rank is scored alone, the job over both."""
    one = measured(MIXED)
    other = measured([(2.0, E1)] * 4, rank=1, hostname="nid001235")
    record(tmp_path / "run", one, batch=5, end=run_end(10.0, []))
    record(tmp_path / "other", other, batch=5, end=run_end(10.0, []))
    (path,) = (tmp_path / "other").glob("readings-*")
    path.rename(tmp_path / "run" / path.name)
    job = rebuild(tmp_path / "run").summary.job
    assert (job.ranks_count, job.nodes_count, job.gpus_count) == (2, 2, 2)
    amount = [(r.score.score_pct or 0.0) * r.score.complete_gpu_s for r in rebuild(tmp_path / "run").summary.ranks]
    assert job.score.score_pct == pytest.approx(sum(amount) / job.score.complete_gpu_s, abs=1e-9)


def test_a_run_without_a_recording_says_why(tmp_path):
    recorder = Recorder(tmp_path / "run", with_readings=False, version="0")
    recorder.begin(run_start(COMMAND), RUNS["llm"].header)
    recorder.end(run_end(1.0, []))
    with pytest.raises(RecordError, match="no recording of readings") as caught:
        rebuild(tmp_path / "run")
    assert "--record no" in caught.value.hint


def test_an_empty_recording_is_named(tmp_path):
    recorder = Recorder(tmp_path / "run", with_readings=True, version="0")
    recorder.begin(run_start(COMMAND), RUNS["llm"].header)
    recorder.close_stream()
    with pytest.raises(RecordError, match=r"readings-nid001234-0\.arrows: empty"):
        rebuild(tmp_path / "run")


@pytest.mark.parametrize(
    ("label", "command", "name"),
    [
        ("nightly", ["python"], "T-nightly"),
        (None, ["/usr/bin/python3", "x.py"], "T-python3"),
        ("a b/../c", ["x"], "T-a-b-..-c"),
        ("...", ["x"], "T-run"),
        ("ü模", ["x"], "T-run"),
        ("x" * 200, ["x"], "T-" + "x" * 60),
    ],
)
def test_the_name_of_a_run_directory(label, command, name):
    assert default_directory("T", label, command) == Path("satscore-runs") / name


# --- the state of a session


def test_a_session_knows_what_it_has_seen():
    session = RUNS["node"].session(batch=7)
    table = RUNS["node"].table
    assert session.intervals_count == len(table)
    assert (session.first_ns, session.last_ns) == (int(table.start_ns.min()), int(table.end_ns.max()))
    assert session.intervals_ns == 4 * 12_000_000_000


def test_the_order_of_gpus_within_a_tick_changes_nothing():
    run = RUNS["node"]
    order = np.lexsort((-run.table.gpu, run.table.end_ns))
    assert encode(Run(header=run.header, table=rows(run.table, order)).summary()) == encode(run.summary())


def test_a_gpu_that_was_read_before_the_others_may_be_told_of_later():
    run, second_ns = RUNS["node"], 1_000_000_000
    ready_s = {0: 6, 1: 3, 2: 6, 3: 6}
    late = rows(run.table, run.table.start_ns >= np.array([ready_s[gpu] for gpu in run.table.gpu]) * second_ns)
    session = Run(header=run.header, table=rows(late, slice(0, 0))).session()
    of_others, until_8_s = late.gpu != 1, late.end_ns <= 8 * second_ns
    for chosen in (of_others & until_8_s, ~of_others & until_8_s, ~until_8_s):
        session.add(rows(late, chosen))
    session.close()
    for gpu, state in enumerate(session.state().gpus):
        assert sum(sums.total("time_us") for sums in state.phase_sums.values()) == (12 - ready_s[gpu]) * 1_000_000


def test_readings_of_a_gpu_that_is_not_ours_count_nowhere():
    run = RUNS["measured"]
    stranger = replace(run.table, gpu=np.full(len(run.table), 5))
    summary = Run(header=run.header, table=stranger).summary()
    assert summary.job.score.score_pct is None
    assert summary.job.score.missing["score_pct"].startswith("no complete reading")


def test_no_readings_at_all_is_no_score():
    run = RUNS["measured"]
    summary = Run(header=run.header, table=rows(run.table, slice(0, 0))).summary()
    assert summary.job.score.score_pct is None
    assert summary.job.score.grade is None
    assert summary.run.observed_s == 0
    assert summary.source.interval_mean_s is None
    assert (summary.headline.reason or "").startswith("no complete reading")
