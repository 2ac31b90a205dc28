"""The replay source: every recorded reading once, when its time has come; and files that cannot be played."""

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satscore.core.fields import INDEX, Quality, Reading
from satscore.core.readings import ReadingTable, table_of
from satscore.core.summary import Summary
from satscore.counters.clock import ManualClock, MonotonicClock, ScaledClock
from satscore.counters.replay import Recorded, ReplaySource, ReplaySpec, parse_replay
from satscore.counters.select import no_pipes_reason, open_source
from satscore.errors import CounterError, RecordError
from satscore.record.run_file import FORMAT_VERSION, StreamHeader
from satscore.record.stream import Recording, StreamWriter
from satscore.run.replay import rebuild
from satscore.run.replay_source import check_replay, open_replay
from satscore.run.results import summarise
from satscore.run.session import Session
from satscore.views.text import render
from tests.unit.runs import COMMAND, H200_INFO, MODELS, NS, Run, batches, joined, measured, rows, simulated
from tests.unit.scenes import E1, IDLE
from tests.unit.sim_runs import run_end, run_file, run_start
from tests.unit.test_session import record

MIXED = [(0.2, E1), (0.2, IDLE | {"d": 0.4}), (0.13, E1 | {"T": 0.3}), (0.9, E1 | {"f": 1300})] * 6
RUNS = {
    "simulated node": simulated("sim:gh200x4", 12),
    "short reads": simulated("sim:llm", 12, 0.13),
    "measured": measured(MIXED, grid_offset_ns=1_790_000_000_123_456_789),
    "counters missing": measured(MIXED, unknown=["sm", "pcie_tx_bytes_s"]),
    "gauges only": measured(MIXED, unknown=["g", "sm", "T", "d"], source="nvml", has_pipe_counters=False),
}


def write(path: Path, tables: Iterable[ReadingTable], head: StreamHeader) -> list[int]:
    """Write a recording; return the size of the file after each batch."""
    writer, sizes = StreamWriter(path, head), list[int]()
    for table in tables:
        writer.append(table)
        sizes.append(writer.bytes_written)
    writer.close()
    return sizes


def source_of(
    run: Run, clock: ManualClock, *, batch: int = 20, tables: Iterator[ReadingTable] | None = None
) -> ReplaySource:
    recorded = Recorded(
        origin="run.arrows: source gpm",
        kind="simulated" if run.header.data_kind == "simulated" else "replay",
        has_pipe_counters=run.header.has_pipe_counters,
        grid_offset_ns=run.header.grid_offset_ns,
        gpus=tuple(run.header.gpus),
    )
    return ReplaySource(recorded, iter(batches(run.table, batch)) if tables is None else tables, clock)


def move(clock: ManualClock, to_ns: int) -> None:
    clock.wait_until(to_ns, threading.Event())


def same(readings: list[Reading], table: ReadingTable) -> None:
    got = table_of(readings)
    for name in ("gpu", "start_ns", "end_ns", "quality"):
        assert (getattr(got, name) == getattr(table, name)).all(), name
    assert np.array_equal(got.values, table.values, equal_nan=True)


# --- what is handed over, and when


@pytest.mark.parametrize("name", RUNS)
@given(data=st.data())
def test_whenever_it_is_read_it_gives_every_reading_once_and_none_before_its_end(name, data):
    table = RUNS[name].table
    first_ns, last_ns = int(table.start_ns.min()), int(table.end_ns.max())
    times = sorted(data.draw(st.lists(st.integers(first_ns, last_ns), max_size=12)))
    clock = ManualClock(first_ns)
    source = source_of(RUNS[name], clock, batch=data.draw(st.sampled_from([1, 7, 10_000])))
    assert source.read() == []
    readings = list[Reading]()
    for now_ns in times:
        move(clock, now_ns)
        readings += source.read()
        assert len(readings) == int((table.end_ns <= now_ns).sum())
    move(clock, last_ns)
    same(readings + source.read(), table)
    assert source.read() == []


def test_a_long_recording_is_never_held_whole():
    """No more than the batch that plays and the first reading of the next."""
    tables, taken = batches(RUNS["simulated node"].table, 20), list[int]()

    def counted() -> Iterator[ReadingTable]:
        for i, table in enumerate(tables):
            taken.append(i)
            yield table

    clock = ManualClock(0)
    source = source_of(RUNS["simulated node"], clock, tables=counted())
    source.read()
    for i, table in enumerate(tables[:-1]):
        move(clock, int(table.end_ns.max()))
        source.read()
        assert len(taken) <= i + 2
    assert len(taken) == len(tables)


def replayed(run: Run, directory: Path, *, until_ns: int, step_ns: int) -> Summary:
    """Replay a recorded run on a clock that jumps, through session and summary."""
    (path,) = directory.glob("readings-*")
    recording, clock = Recording(path), ManualClock(int(run.table.start_ns.min()))
    source = source_of(run, clock, tables=recording.batches())
    start = run_start(COMMAND, label="demo")
    head = msgspec.structs.replace(recording.header, source=source.name, data_kind=source.kind)
    session = Session.of(head, start, MODELS)
    source.read()
    while clock.now_ns() < until_ns:
        move(clock, clock.now_ns() + step_ns)
        session.add(table_of(source.read()))
    session.close()
    end = msgspec.structs.replace(run_end(12.0, []), no_pipes_reason=no_pipes_reason(source, []))
    return summarise(run_file(start, end, version="1.2.3"), [(head, session)], directory="here")


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("step_ns", [105_000_000, 1_700_000_000, 100 * NS])
def test_a_replay_has_the_score_losses_and_findings_of_the_report(tmp_path, name, step_ns):
    run = RUNS[name]
    record(tmp_path / "run", run, batch=9, end=run_end(12.0, []))
    reported = rebuild(tmp_path / "run").summary
    summary = replayed(run, tmp_path / "run", until_ns=int(run.table.end_ns.max()), step_ns=step_ns)
    assert summary.data_kind == ("simulated" if run.header.data_kind == "simulated" else "replay")
    assert summary.findings == reported.findings
    assert summary.not_judged == reported.not_judged
    if name == "gauges only":
        assert summary.headline.reason is not None
        assert summary.headline.reason.startswith("the recording has no pipe counters")
        assert summary.job.score.coverage_frac == reported.job.score.coverage_frac
    else:
        assert summary.job == reported.job
        assert summary.ranks == reported.ranks
        assert summary.headline == reported.headline


def test_what_was_not_played_does_not_count(tmp_path):
    run = RUNS["measured"]
    record(tmp_path / "run", run, batch=9, end=run_end(12.0, []))
    begin_ns = int(run.table.start_ns.min())
    summary = replayed(run, tmp_path / "run", until_ns=begin_ns + 4 * NS, step_ns=NS)
    played = Run(header=run.header, table=rows(run.table, run.table.end_ns <= begin_ns + 4 * NS))
    assert summary.job.score == played.summary().job.score


# --- what it says


def test_the_notes_name_the_recording_and_how_far_it_was_played():
    run = RUNS["simulated node"]
    clock = ManualClock(0)
    source = source_of(run, clock)
    source.read()
    move(clock, 4 * NS)
    source.read()
    assert source.notes() == [
        "REPLAY: no GPU is read. run.arrows: source gpm",
        "the first 4.0 s of the recording were played, the command was shorter",
    ]
    move(clock, 12 * NS + NS // 2)
    source.read()
    assert source.notes() == ["REPLAY: no GPU is read. run.arrows: source gpm"]
    move(clock, 60 * NS)
    source.read()
    assert source.notes()[1:] == ["the recording ended after 12.0 s, before the command: the rest is not scored"]


@pytest.mark.parametrize(
    ("kind", "kept", "marked"),
    [
        ("measured", "replay", "| REPLAY ("),
        ("replay", "replay", "| REPLAY ("),
        ("simulated", "simulated", "| SIMULATED REPLAY ("),
    ],
)
def test_simulated_stays_simulated_and_everything_is_a_replay(tmp_path, kind, kept, marked):
    run = measured(MIXED, data_kind=kind)
    write(tmp_path / "r.arrows", [run.table], run.header)
    source = open_replay(ReplaySpec(path=tmp_path / "r.arrows"), 0)[0]
    assert (source.name, source.kind) == ("replay", kept)
    assert source.notes()[0].startswith(f"REPLAY: no GPU is read. {tmp_path}/r.arrows: source gpm on nid001234, rank 0")
    head = msgspec.structs.replace(
        run.header, source="replay", data_kind=kept, scenario="replay:" + "x" * 200 + "/r.arrows"
    )
    text = render(Run(header=head, table=run.table).summary())
    title = text.split("\n")[1]
    assert marked in title
    assert "/r.arrows)" in title
    assert "exit 0" in title
    assert len(title) <= 100


def test_the_recording_begins_with_the_command(tmp_path):
    run = measured([(1.0, E1)] * 10)
    write(tmp_path / "r.arrows", batches(run.table, 3), run.header)
    source = open_replay(ReplaySpec(path=tmp_path / "r.arrows", speed=10.0), 5 * NS)[0]
    first_ns = int(run.table.start_ns.min())
    assert source.clock.from_monotonic_ns(5 * NS) == first_ns
    assert source.clock.from_monotonic_ns(6 * NS) == first_ns + 10 * NS
    assert source.grid_offset_ns == run.header.grid_offset_ns
    assert source.gpus == tuple(run.header.gpus)


def test_a_scaled_clock_waits_in_real_time():
    clock, stop = ScaledClock(1000.0, reads_ns=7), threading.Event()
    began_ns = clock.now_ns()
    assert began_ns >= 7
    assert not clock.wait_until(began_ns + 20 * NS, stop)
    assert clock.now_ns() >= began_ns + 20 * NS
    stop.set()
    assert clock.wait_until(clock.now_ns() + 10**6 * NS, stop)


@pytest.mark.parametrize("clock", [ScaledClock(1e-12), MonotonicClock()])
def test_a_wait_of_centuries_can_be_stopped(clock):
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    assert clock.wait_until(clock.now_ns() + 10**30, stop)


# --- its selection


@pytest.mark.parametrize(
    ("text", "path", "speed"),
    [
        ("replay:run", "run", 1.0),
        ("replay:run,speed=10", "run", 10.0),
        ("replay:/a/b,c=d.arrows,speed=0.5", "/a/b,c=d.arrows", 0.5),
        ("replay:a,speed=2/b", "a,speed=2/b", 1.0),
        ("replay:a:b, c", "a:b, c", 1.0),
    ],
)
def test_selection(text, path, speed):
    assert parse_replay(text) == ReplaySpec(path=Path(path), speed=speed)


@given(name=st.text(min_size=1).filter(lambda name: "=" not in name), speed=st.floats(0.01, 100))
def test_any_file_name_can_be_selected(name, speed):
    assert parse_replay(f"replay:{name},speed={speed!r}") == ReplaySpec(path=Path(name), speed=speed)
    assert parse_replay(f"replay:{name}").path == Path(name)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("replay:", "names no recording"),
        ("replay:,speed=2", "names no recording"),
        ("replay:r,sped=2", "unknown option 'sped'"),
        ("replay:r,speed=", "speed=''"),
        ("replay:r,speed=0", "speed='0'"),
        ("replay:r,speed=-1", "speed='-1'"),
        ("replay:r,speed=101", "at most 100"),
        ("replay:r,speed=0.0099", "at least 0.01"),
        ("replay:r,speed=1e-12", "at least 0.01"),
        ("replay:r,speed=nan", "speed='nan'"),
        ("replay:r,speed=fast", "speed='fast'"),
    ],
)
def test_wrong_selection_is_named(text, told):
    with pytest.raises(CounterError) as caught:
        parse_replay(text)
    assert told in f"{caught.value.message}; {caught.value.hint}"
    assert caught.value.hint


def test_a_source_without_the_means_to_read_recordings_says_so():
    source, notes = open_source("replay:here")
    assert source is None
    assert notes == ["here: recordings are not read here; satscore --source replay:FILE -- CMD"]


# --- files that cannot be played, and files that can all the same


def refused(path: Path) -> str:
    with pytest.raises(RecordError) as caught:
        check_replay(ReplaySpec(path=path))
    assert caught.value.exit_code == 125
    return f"{caught.value.message}; {caught.value.hint}"


MEASURED = RUNS["measured"]


def test_a_missing_file_is_named(tmp_path):
    assert refused(tmp_path / "r").startswith(f"{tmp_path}/r: No such file or directory; name a recording")


def test_a_directory_without_a_recording_is_named(tmp_path):
    assert refused(tmp_path).startswith(f"{tmp_path}: no recording of readings (readings-*.arrows); ")


def test_of_a_directory_with_several_ranks_one_must_be_named(tmp_path):
    for rank in range(5):
        write(tmp_path / f"readings-h-{rank}.arrows", [MEASURED.table], MEASURED.header)
    text = refused(tmp_path)
    assert f"{tmp_path}: holds 5 recordings: readings-h-0.arrows, readings-h-1.arrows" in text
    assert text.endswith(f"name one: replay:{tmp_path}/readings-h-0.arrows")
    check_replay(ReplaySpec(path=tmp_path / "readings-h-3.arrows"))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "not a file" in refused(tmp_path / "pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read_is_named(tmp_path):
    write(tmp_path / "r.arrows", [MEASURED.table], MEASURED.header)
    (tmp_path / "r.arrows").chmod(0)
    assert refused(tmp_path / "r.arrows").startswith(f"{tmp_path}/r.arrows: Permission denied")


def test_a_header_without_gpus_is_refused(tmp_path):
    write(tmp_path / "r.arrows", [MEASURED.table], msgspec.structs.replace(MEASURED.header, gpus=[]))
    assert "r.arrows: the header lists no GPU" in refused(tmp_path / "r.arrows")


def test_a_newer_format_is_refused(tmp_path):
    path, now = tmp_path / "r.arrows", f'"format_version":{FORMAT_VERSION}'.encode()
    write(path, [MEASURED.table], MEASURED.header)
    assert now in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(now, b'"format_version":9'))
    assert "format_version 9 is newer" in refused(path)


def test_a_recording_of_format_1_is_played():
    spec = ReplaySpec(path=Path(__file__).parents[1] / "recordings" / "readings-format-1.arrows")
    recorded = joined(list(Recording(spec.path).batches()))
    source = open_replay(spec, 0)[0]
    source.read()
    source.clock = ManualClock(int(recorded.end_ns.max()))
    same(source.read(), recorded)
    assert len(recorded) == 15


def test_a_file_cut_anywhere_plays_its_whole_batches_or_is_refused(tmp_path):
    path, cut = tmp_path / "r.arrows", tmp_path / "cut.arrows"
    parts = batches(MEASURED.table, 5)
    sizes = write(path, parts, MEASURED.header)
    data = path.read_bytes()
    for size in {0, 1, sizes[0] - 1, *(at + k for at in sizes for k in (0, 1, 300))}:
        cut.write_bytes(data[:size])
        whole = sum(at <= size for at in sizes)
        if whole == 0:
            assert str(cut) in refused(cut)
            continue
        source = open_replay(ReplaySpec(path=cut), 0)[0]
        source.read()
        source.clock = ManualClock(int(MEASURED.table.end_ns.max()))
        same(source.read(), rows(MEASURED.table, slice(0, 5 * whole)))
        assert any("cut off: its whole batches" in note for note in source.notes()) == (
            size < len(data) and size not in sizes
        )


COLUMNS = {
    "gpu is missing": (lambda t, pa: t.drop_columns(["gpu"]), "gpu"),
    "time is missing": (lambda t, pa: t.drop_columns(["end_ns"]), "end_ns"),
    "quality is missing": (lambda t, pa: t.drop_columns(["quality"]), "quality"),
    "time is a number": (lambda t, pa: t.set_column(1, "start_ns", t["start_ns"].cast(pa.float64())), "start_ns"),
    "a counter is text": (
        lambda t, pa: t.set_column(3, "engine_active_frac", pa.array(["x"] * len(t))),
        "engine_active_frac",
    ),
    "what is rare is missing": (lambda t, pa: t.drop_columns(["sparse"]), "sparse"),
    "what is rare is no list": (
        lambda t, pa: t.set_column(len(t.columns) - 2, "sparse", pa.array([1.0] * len(t), pa.float32())),
        "sparse",
    ),
    "what is rare is a list of numbers": (
        lambda t, pa: t.set_column(len(t.columns) - 2, "sparse", pa.array([[1.0]] * len(t))),
        "sparse",
    ),
    "quality is narrow": (
        lambda t, pa: t.set_column(len(t.columns) - 1, "quality", pa.array([b"ab"] * len(t), pa.binary(2))),
        "quality",
    ),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_that_are_not_ours_are_named(tmp_path, name):
    pa = pytest.importorskip("pyarrow", reason="pyarrow stands for the other programs that write Arrow")
    change, column = COLUMNS[name]
    write(tmp_path / "r.arrows", [MEASURED.table], MEASURED.header)
    with pa.ipc.open_stream(tmp_path / "r.arrows") as reader:
        table = reader.read_all()
    changed = change(table, pa).replace_schema_metadata(table.schema.metadata)
    with pa.ipc.new_stream(tmp_path / "other.arrows", changed.schema) as writer:
        writer.write_table(changed)
    assert f"other.arrows: column '{column}' is missing or of another type" in refused(tmp_path / "other.arrows")


def test_a_reason_of_a_later_version_is_an_error_of_the_driver(tmp_path):
    table = replace(MEASURED.table, quality=MEASURED.table.quality.copy(), values=MEASURED.table.values.copy())
    table.quality[:, INDEX["temp_gpu_c"]] = 14
    table.values[:, INDEX["temp_gpu_c"]] = np.nan
    write(tmp_path / "r.arrows", [table], MEASURED.header)
    (read,) = Recording(tmp_path / "r.arrows").batches()
    assert (read.quality[:, INDEX["temp_gpu_c"]] == Quality.ERROR).all()
    assert Run(header=MEASURED.header, table=read).summary().job.score.score_pct is not None


def test_a_recording_of_another_gpu_count_keeps_its_gpus(tmp_path):
    """GPUs come from the recording, whatever this machine has."""
    gpus = [msgspec.structs.replace(H200_INFO, index=i, uuid=f"GPU-{i}") for i in range(3)]
    run = measured(MIXED, gpus=gpus)
    write(tmp_path / "r.arrows", [run.table], run.header)
    assert open_replay(ReplaySpec(path=tmp_path / "r.arrows"), 0)[0].gpus == tuple(gpus)
