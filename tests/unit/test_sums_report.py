"""A report from sums says what a report from readings says, to the bit."""

import errno
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core.placement import Placement
from satscore.core.readings import ReadingTable
from satscore.core.summary import Summary, encode
from satscore.errors import RecordError
from satscore.record.run_file import FORMAT_VERSION, RunEnd, RunFile, read_run_file, write_run_file
from satscore.record.sums_file import RankRecord, encode_sums, sums_name
from satscore.run import keeper, recorder
from satscore.run.keeper import Keeper
from satscore.run.rank_gpus import certain_gpus
from satscore.run.recorder import Recorder
from satscore.run.replay import rebuild
from tests.unit.runs import COMMAND, Run, batches, joined, measured, rows, simulated
from tests.unit.scenes import E1, IDLE
from tests.unit.sim_runs import run_end, run_start
from tests.unit.test_placed_summary import MIXED, four, placed
from tests.unit.test_session import RUNS, record

END = run_end(12.0, ["a note"])
ALL = {**RUNS, "phases": simulated("sim:gh200x4", 400)}


def rank_of(run: Run, placement: Placement | None = None) -> RankRecord:
    session = run.session(batch=50)
    certain = certain_gpus(placement, run.header.gpus)
    return RankRecord(header=run.header, state=session.state(), bounds_keys=session.bounds_keys, certain=certain)


def keep_sums(
    directory: Path,
    files: Sequence[Sequence[Run]],
    *,
    end: RunEnd | None = END,
    placement: Placement | None = None,
    grouped_by: Placement | None = None,
    profile: str = "train",
) -> Path:
    """Write a run directory with sums only; each file holds one or more ranks."""
    directory.mkdir()
    start = run_start(COMMAND, label="demo")
    content = RunFile(
        format_version=FORMAT_VERSION, satscore_version="1.2.3", start=start, placement=placement, end=end
    )
    write_run_file(directory, content)
    for ranks in files:
        data = encode_sums(profile, None, [rank_of(run, grouped_by or placement) for run in ranks])
        (directory / sums_name(ranks[0].header)).write_bytes(data)
    return directory


def alike(from_sums: Summary, from_readings: Summary) -> bool:
    """Return whether they differ in nothing but where they were made from."""
    assert from_sums.source.resolution == "sums"
    assert from_readings.source.resolution == "readings"
    source = msgspec.structs.replace(from_sums.source, resolution="readings")
    run = msgspec.structs.replace(from_sums.run, directory=from_readings.run.directory)
    return encode(msgspec.structs.replace(from_sums, source=source, run=run)) == encode(from_readings)


@pytest.mark.parametrize("name", ALL)
def test_the_same_summary_as_from_readings(tmp_path, name):
    record(tmp_path / "full", ALL[name], batch=50, end=END)
    sums = keep_sums(tmp_path / "sums", [[ALL[name]]])
    assert alike(rebuild(sums).summary, rebuild(tmp_path / "full").summary)


LONG = four(*([(0.5, values)] * 400 for values in (IDLE, E1, IDLE, E1)))
"""Long enough to have phases, which come from the series alone."""


@pytest.mark.parametrize("used", [(1, 3), (0,), (0, 1, 2, 3), ()])
def test_a_gpu_that_the_command_does_not_use_is_left_out(tmp_path, used):
    """Whichever were certain when the sums were written: placement is known at the report only."""
    placement = placed(*used)
    content = RunFile(
        format_version=FORMAT_VERSION,
        satscore_version="1.2.3",
        start=run_start(COMMAND, label="demo"),
        placement=placement,
        end=END,
    )
    record(tmp_path / "full", LONG, batch=50, end=END)
    write_run_file(tmp_path / "full", content)
    expected = rebuild(tmp_path / "full").summary
    for grouped_by in (placement, placed(*used[:1]), placed()):
        name = f"{len(grouped_by.gpus)}-{sum(gpu.computes for gpu in grouped_by.gpus)}-{id(grouped_by)}"
        sums = keep_sums(tmp_path / name, [[LONG]], placement=placement, grouped_by=grouped_by)
        assert alike(rebuild(sums).summary, expected)


def test_a_gpu_that_was_certain_and_is_not_is_an_error(tmp_path):
    sums = keep_sums(tmp_path / "sums", [[MIXED]], placement=placed(1, 3), grouped_by=placed(0, 1))
    with pytest.raises(RecordError, match=r"sums-.*\$\.series\[0\]: a GPU that the command does not use"):
        rebuild(sums)


# --- several ranks, nodes and files


def ranks() -> list[Run]:
    """Return four ranks on two nodes, that begin one after the other."""
    whole = simulated("sim:gh200x4", 200)
    out = []
    for i in range(4):
        mine = rows(whole.table, (whole.table.gpu == i) & (whole.table.start_ns >= i * 7_000_000_000))
        gpu = msgspec.structs.replace(whole.header.gpus[i], index=0)
        header = msgspec.structs.replace(
            whole.header, rank=i, local_rank=i % 2, hostname=f"nid{i // 2}", gpus=[gpu], grid_offset_ns=0
        )
        out.append(Run(header=header, table=one_gpu(mine)))
    return out


def one_gpu(table: ReadingTable) -> ReadingTable:
    """Return readings as those of GPU 0."""
    return replace(table, gpu=table.gpu * 0)


RANKS = ranks()


def full(directory: Path, runs: Sequence[Run]) -> Path:
    """Write a run directory with the readings of several ranks."""
    for i, run in enumerate(runs):
        record(directory if i == 0 else directory.parent / f"{directory.name}-r{i}", run, batch=50, end=END)
        if i:
            (path,) = (directory.parent / f"{directory.name}-r{i}").glob("readings-*")
            path.rename(directory / path.name)
    return directory


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_partition_of_ranks_over_files_in_any_order(tmp_path_factory, data):
    tmp_path = tmp_path_factory.mktemp("x")
    order = data.draw(st.permutations(RANKS))
    cuts = sorted({0, 4, *data.draw(st.sets(st.integers(1, 3)))})
    files = [order[a:b] for a, b in itertools.pairwise(cuts)]
    got = rebuild(keep_sums(tmp_path / "sums", files)).summary
    assert alike(got, EXPECTED.setdefault("all", rebuild(full(tmp_path / "full", RANKS)).summary))


EXPECTED: dict[str, Summary] = {}


def test_readings_win_where_both_are_there(tmp_path):
    directory = full(tmp_path / "full", RANKS)
    expected = rebuild(directory).summary
    (directory / sums_name(RANKS[1].header)).write_bytes(b"not even looked at")
    assert encode(rebuild(directory).summary) == encode(expected)


def test_some_ranks_from_readings_and_some_from_sums(tmp_path):
    expected = rebuild(full(tmp_path / "full", RANKS)).summary
    mixed = full(tmp_path / "mixed", RANKS[:2])
    for run in RANKS[2:]:
        (mixed / sums_name(run.header)).write_bytes(encode_sums("train", None, [rank_of(run)]))
    assert alike(rebuild(mixed).summary, expected)


# --- what sums cannot give


def test_sums_hold_for_one_profile(tmp_path):
    sums = keep_sums(tmp_path / "sums", [[RUNS["llm"]]], profile="hpc")
    with pytest.raises(RecordError, match=r"made for hpc, run\.json says train") as caught:
        rebuild(sums)
    assert "--record full" in caught.value.hint


def test_files_of_different_runs_are_refused(tmp_path):
    late = measured([(1.0, E1)] * 8, rank=1, grid_offset_ns=1_790_000_000 * 10**9)
    with pytest.raises(RecordError, match=r"\$\.series: its time is more than 604800 s"):
        rebuild(keep_sums(tmp_path / "sums", [[RUNS["llm"]], [late]]))


def test_a_lost_tail_is_said(tmp_path):
    run = RUNS["llm"]
    until_ns = int(run.table.end_ns.max()) + 5_000_000_000
    end = msgspec.structs.replace(END, scored_until_ns=until_ns)
    notes = rebuild(keep_sums(tmp_path / "sums", [[run]], end=end)).summary.notes
    assert "the sums lack the last 5.0 s that were read: they are in no number" in notes


def test_bounds_that_have_changed_are_said(tmp_path):
    run = RUNS["measured"]
    directory = keep_sums(tmp_path / "sums", [])
    made = msgspec.structs.replace(rank_of(run), bounds_keys=["0123456789abcdef"])
    (directory / sums_name(run.header)).write_bytes(encode_sums("train", None, [made]))
    (note,) = [note for note in rebuild(directory).summary.notes if "bounds" in note]
    assert note.startswith("GPU 0: the sums were made with bounds")


# --- while the run goes on


class Kept:
    """A run that is kept as sums, on a clock of its own."""

    def __init__(self, directory: Path, run: Run) -> None:
        self.session = run.session()
        self.rank = run.header, self.session
        self.recorder = Recorder(directory, with_readings=False, version="1.2.3")
        self.keeper = Keeper(self.recorder, run_start(COMMAND, label="demo"), with_sums=True)
        self.keeper.begin(run.header)
        self.table = rows(run.table, slice(0, 0))

    def at(self, now_s: float) -> None:
        self.keeper.add(self.table, self.rank, round(now_s * 1e9))
        assert self.keeper._idle.wait(20)


def test_sums_are_rewritten_every_minute_and_sooner_at_first(tmp_path, monkeypatch):
    kept, times = Kept(tmp_path / "run", RUNS["llm"]), list[float]()
    now_s = [0.0]
    monkeypatch.setattr(kept.recorder, "rewrite_sums", lambda *_: times.append(now_s[0]))
    for step in range(60):
        now_s[0] = 1.0 + 5.0 * step
        kept.at(now_s[0])
    kept.keeper.finish(kept.rank, None)
    kept.keeper.settle()
    assert times == [1, 6, 11, 21, 41, 81, 141, 201, 261, 296]


def test_a_disk_that_is_full_ends_the_recording_and_not_the_run(tmp_path, monkeypatch):
    kept = Kept(tmp_path / "run", RUNS["llm"])
    kept.at(1)
    (path,) = (tmp_path / "run").glob("sums-*")
    before = path.read_bytes()
    with monkeypatch.context() as patched:

        def full_disk(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patched.setattr(recorder, "write_atomic", full_disk)
        kept.at(10)
        assert path.read_bytes() == before
        (note,) = kept.recorder.notes
        assert note.startswith("the sums are not up to date")
        kept.at(30)
        assert kept.recorder.notes == [note]
    kept.keeper.finish(kept.rank, None)  # there is space again
    kept.keeper.settle()
    assert kept.recorder.notes == []
    assert kept.recorder.bytes_written == path.stat().st_size


def test_a_disk_that_hangs_does_not_collect_states(tmp_path, monkeypatch):
    kept, encoded = Kept(tmp_path / "run", RUNS["llm"]), list[int]()
    monkeypatch.setattr(kept.keeper._disk, "submit", lambda work: None)

    def encode_sums(*_: object) -> bytes:
        encoded.append(1)
        return b""

    monkeypatch.setattr(keeper, "encode_sums", encode_sums)
    for now_s in range(0, 1000, 5):
        kept.keeper.add(kept.table, kept.rank, now_s * 10**9)
    assert len(encoded) == 1


def test_run_json_knows_the_placement_by_which_sums_are_grouped(tmp_path):
    kept = Kept(tmp_path / "run", MIXED)
    kept.keeper.placement(placed(1))
    kept.at(1)
    kept.keeper.finish(kept.rank, placed(1, 3))
    kept.keeper.settle()
    assert read_run_file(tmp_path / "run").placement == placed(1, 3)
    assert rebuild(tmp_path / "run").summary.job.gpus_count == 2


def test_a_state_in_between_is_the_state_of_what_was_added(tmp_path):
    """What a killed run leaves: the windows that were whole by then."""
    run = ALL["phases"]
    session = Run(header=run.header, table=rows(run.table, slice(0, 0))).session()
    parts = batches(run.table, 400)
    for part in parts[: len(parts) // 2]:
        session.add(part)
    made = RankRecord(
        header=run.header, state=session.state(), bounds_keys=session.bounds_keys, certain=range(len(session.gpus))
    )
    directory = keep_sums(tmp_path / "sums", [], end=None)
    (directory / sums_name(run.header)).write_bytes(encode_sums("train", None, [made]))
    summary = rebuild(directory).summary
    until_ns = int(joined(parts[: len(parts) // 2]).end_ns.max())
    assert not summary.run.finished
    assert summary.job.score.scope_gpu_s == 4 * (until_ns // 10**9)
