"""What is on disk: readings that survive any cut, a full disk, foreign files; files that are whole or not there."""

import hashlib
import io
import os
import re
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import nanoarrow as na
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nanoarrow import ipc

from satscore.core.fields import FIELDS, INDEX, SPARSE_FIELDS, Quality
from satscore.core.readings import ReadingTable
from satscore.errors import RecordError
from satscore.record.files import make_run_directory, write_atomic, write_requested
from satscore.record.packed_quality import BITS, pack, unpack
from satscore.record.run_file import (
    FORMAT_VERSION,
    RUN_FILE,
    RunFile,
    StreamHeader,
    end_run_file,
    json_text,
    read_run_file,
    write_run_file,
)
from satscore.record.stream import HEADER_KEY, Recording, StreamWriter, repair
from satscore.run.replay import rebuild
from tests.unit.runs import COMMAND, H200_INFO, NS, batches, header, joined, measured, simulated
from tests.unit.sim_runs import run_end, run_start

RUN = simulated("sim:gh200x4", 4)
BATCHES = batches(RUN.table, 33)
FORMAT_1 = Path(__file__).parents[1] / "recordings" / "readings-format-1.arrows"


def write(path: Path, tables: list[ReadingTable], head: StreamHeader = RUN.header) -> list[int]:
    """Write a recording; return the size of the file after each batch."""
    writer = StreamWriter(path, head)
    sizes = []
    for table in tables:
        writer.append(table)
        sizes.append(writer.bytes_written)
    writer.close()
    return sizes


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def same(a: ReadingTable, b: ReadingTable) -> None:
    for name in ("gpu", "start_ns", "end_ns", "quality"):
        assert (getattr(a, name) == getattr(b, name)).all(), name
    assert np.array_equal(a.values, b.values, equal_nan=True)


# --- round trip


def test_what_is_written_is_read(tmp_path):
    sizes = write(tmp_path / "r.arrows", BATCHES)
    recording = Recording(tmp_path / "r.arrows")
    assert recording.header == RUN.header
    for written, read in zip(BATCHES, recording.batches(), strict=True):
        same(written, read)
    assert not recording.cut_off
    assert sizes == sorted(sizes)


def test_values_are_stored_as_they_are_scored():
    """Live numbers are rounded to float32 before they are scored, so a recording loses nothing."""
    assert (np.nan_to_num(RUN.table.values) == np.nan_to_num(RUN.table.values).astype(np.float32)).all()


def test_every_quality_survives(tmp_path):
    table = measured([(1.0, {"g": 1})] * len(Quality)).table
    for i, quality in enumerate(Quality):
        table.quality[i, INDEX["temp_gpu_c"]] = quality
        table.values[i, INDEX["temp_gpu_c"]] = 40.0 if quality is Quality.OK else np.nan
    write(tmp_path / "r.arrows", [table])
    (read,) = Recording(tmp_path / "r.arrows").batches()
    same(table, read)


def test_no_readings_are_no_batch(tmp_path):
    assert write(tmp_path / "r.arrows", [BATCHES[0], batches(BATCHES[0], 1)[0]])
    writer = StreamWriter(tmp_path / "e.arrows", RUN.header)
    writer.append(joined([BATCHES[0]]).of_gpu(99))
    writer.close()
    assert (tmp_path / "e.arrows").read_bytes() == b""


def test_an_existing_recording_is_never_overwritten(tmp_path):
    write(tmp_path / "r.arrows", BATCHES[:1])
    with pytest.raises(FileExistsError):
        StreamWriter(tmp_path / "r.arrows", RUN.header)
    assert len(list(Recording(tmp_path / "r.arrows").batches())) == 1


def test_nothing_can_be_appended_after_the_end(tmp_path):
    writer = StreamWriter(tmp_path / "r.arrows", RUN.header)
    writer.append(BATCHES[0])
    writer.close()
    writer.close()
    with pytest.raises(OSError, match="ended"):
        writer.append(BATCHES[1])


# --- columns of other versions


def stream(columns: dict[str, na.Schema], arrays: list[object], n: int, metadata: dict[str, str] | None) -> bytes:
    schema = na.Schema(na.Type.STRUCT, fields=columns, nullable=False, metadata=metadata)
    out = io.BytesIO()
    with ipc.StreamWriter.from_writable(out) as writer:
        writer.write_array(na.c_array_from_buffers(schema, length=n, buffers=[None], children=arrays))
    return out.getvalue()


def format_1(names: list[str]) -> bytes:
    """Return a recording of format 1 of two readings that has just these fields; value i.5 for field i."""
    n = 2
    columns = {"gpu": na.uint16(), "start_ns": na.int64(), "end_ns": na.int64()}
    columns |= dict.fromkeys(names, na.float32())
    columns["quality"] = na.fixed_size_binary(len(names))
    arrays = [na.c_array(np.zeros(n, np.uint16)), na.c_array(np.arange(n)), na.c_array(np.arange(n) + 1)]
    arrays += [na.c_array(np.full(n, i + 0.5, np.float32)) for i in range(len(names))]
    quality = na.fixed_size_binary(len(names))
    arrays.append(na.c_array_from_buffers(quality, n, [None, bytes(n * len(names))], null_count=0))
    head = msgspec.structs.replace(RUN.header, format_version=1, fields=names)
    return stream(columns, arrays, n, {HEADER_KEY.decode(): msgspec.json.encode(head).decode()})


def test_columns_of_a_later_version_are_ignored_and_missing_ones_are_not_read(tmp_path):
    path = tmp_path / "r.arrows"
    path.write_bytes(format_1(["sm_clock_mhz", "quantum_active_frac", "dram_active_frac"]))
    (table,) = Recording(path).batches()
    assert table.column("sm_clock_mhz").tolist() == [0.5, 0.5]
    assert table.column("dram_active_frac").tolist() == [2.5, 2.5]
    known = {"sm_clock_mhz", "dram_active_frac"}
    for i, field in enumerate(FIELDS):
        expected = Quality.OK if field.name in known else Quality.NOT_READ
        assert (table.quality[:, i] == expected).all(), field.name
        assert np.isnan(table.values[:, i]).all() == (field.name not in known)


def changed(path: Path, fields: dict[str, str], indices: dict[int, int] | None = None, empty: bool = False) -> Path:
    """Rewrite a recording by another program: other names of fields, other positions in the pairs, an empty batch."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow stands for the other programs that write Arrow")
    with pa.ipc.open_stream(path) as reader:
        table = reader.read_all().combine_chunks()
    head = msgspec.json.decode(table.schema.metadata[HEADER_KEY], type=StreamHeader)
    head = msgspec.structs.replace(head, fields=[fields.get(name, name) for name in head.fields])
    at = table.schema.get_field_index("sparse")
    column = table.schema.field(at)
    kept = dict(column.metadata)
    kept[b"fields"] = ",".join(fields.get(n, n) for n in kept[b"fields"].decode().split(",")).encode()
    rows = [
        [{**pair, "field": (indices or {}).get(pair["field"], pair["field"])} for pair in row]
        for row in table["sparse"].to_pylist()
    ]
    table = table.set_column(at, column.with_metadata(kept), pa.array(rows, column.type))
    table = table.replace_schema_metadata({HEADER_KEY: msgspec.json.encode(head)})
    other = path.with_name("other.arrows")
    with pa.ipc.new_stream(other, table.schema) as writer:
        for part in [table.slice(0, 0), table] if empty else [table]:
            writer.write_batch(part.to_batches()[0] if len(part) else pa.RecordBatch.from_pylist([], table.schema))
    return other


def test_a_rare_field_of_a_later_version_is_ignored_and_a_missing_one_is_not_read(tmp_path):
    write(tmp_path / "r.arrows", [RUN.table])
    other = changed(tmp_path / "r.arrows", {"energy_gpu_j": "quantum_count"})
    (read,) = Recording(other).batches()
    missing = INDEX["energy_gpu_j"]
    assert (RUN.table.quality[:, missing] == Quality.OK).any()
    assert (read.quality[:, missing] == Quality.NOT_READ).all()
    assert np.isnan(read.values[:, missing]).all()
    rest = np.arange(len(FIELDS)) != missing
    assert np.array_equal(read.values[:, rest], RUN.table.values[:, rest], equal_nan=True)
    assert (read.quality[:, rest] == RUN.table.quality[:, rest]).all()


def test_a_pair_of_no_field_is_damage(tmp_path):
    write(tmp_path / "r.arrows", [RUN.table])
    other = changed(tmp_path / "r.arrows", {}, {INDEX["energy_gpu_j"]: len(FIELDS)})
    with pytest.raises(RecordError, match=r"other\.arrows: a batch cannot be read"):
        list(Recording(other).batches())


def test_a_batch_without_rows_is_no_damage(tmp_path):
    write(tmp_path / "r.arrows", [RUN.table])
    empty, table = Recording(changed(tmp_path / "r.arrows", {}, empty=True)).batches()
    assert len(empty) == 0
    same(table, RUN.table)


def test_keys_of_a_later_version_are_ignored_in_the_header(tmp_path):
    extended = msgspec.to_builtins(RUN.header) | {"colour": "blue"}
    assert msgspec.json.decode(msgspec.json.encode(extended), type=StreamHeader) == RUN.header


# --- format 1


def digest(tables: Iterable[ReadingTable]) -> str:
    """Return a digest of every bit of readings."""
    total = hashlib.sha256()
    for table in tables:
        for column in (table.gpu, table.start_ns, table.end_ns, table.quality, table.values):
            total.update(np.ascontiguousarray(column).tobytes())
    return total.hexdigest()


def test_a_recording_of_format_1_has_the_readings_that_its_writer_read():
    recording = Recording(FORMAT_1)
    assert (recording.header.format_version, recording.header.data_kind) == (1, "simulated")
    assert digest(recording.batches()) == "ebf50031729cfecc6881ef18c3ad28345b082b8a94c9f24afcbe7177863727b5"


def test_a_repaired_recording_of_format_1_has_the_same_readings(tmp_path):
    path = tmp_path / "r.arrows"
    path.write_bytes(FORMAT_1.read_bytes()[:-500])
    before = list(Recording(path).batches())
    assert len(before) == 2
    repair(Recording(path))
    after = Recording(path)
    assert after.header == msgspec.structs.replace(Recording(FORMAT_1).header, format_version=FORMAT_VERSION)
    assert digest(after.batches()) == digest(before)
    assert not after.cut_off


def test_a_repaired_recording_with_fewer_fields_can_be_read(tmp_path):
    """The rewritten file has all columns of this version, so its header must name them."""
    path = tmp_path / "r.arrows"
    path.write_bytes(format_1(["sm_clock_mhz", "xid_count"]) + b"cut")
    (before,) = Recording(path).batches()
    repair(Recording(path))
    (after,) = Recording(path).batches()
    same(before, after)
    assert after.column("xid_count").tolist() == [1.5, 1.5]


def test_a_report_of_format_1_is_that_of_format_2(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for directory in (one, two):
        directory.mkdir()
    (one / "readings-h-0.arrows").write_bytes(FORMAT_1.read_bytes())
    write_run_file(one, msgspec.structs.replace(CONTENT, format_version=1))
    write(two / "readings-h-0.arrows", list(Recording(FORMAT_1).batches()), Recording(FORMAT_1).header)
    write_run_file(two, CONTENT)
    before, after = rebuild(one).summary, rebuild(two).summary
    assert before.headline.score_pct is not None
    assert before.job == after.job
    assert before.ranks == after.ranks


# --- what is packed


def test_qualities_lie_in_halves_of_bytes():
    assert pack(np.array([[1, 2, 3]], np.uint8)).tolist() == [[0x21, 0x03]]
    assert unpack(np.array([[0x21, 0xF3]], np.uint8), 2).tolist() == [[1, 2, 3, Quality.ERROR]]
    assert unpack(np.array([[1, 0x21]], np.uint8), 1).tolist() == [[1, Quality.ERROR]]


def test_all_reasons_and_fields_have_room():
    assert max(Quality) < 2**BITS
    assert len(FIELDS) < 2**8


def test_what_is_rare_is_a_list_that_others_can_read(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="pyarrow stands for the other Arrow readers")
    table = measured([(1.0, {"g": 1})] * 3, unknown=sorted(SPARSE_FIELDS)).table
    for row, name, value in ((0, "xid_count", 0.0), (1, "xid_count", 2.0), (1, "pcie_generation", 5.0)):
        table.values[row, INDEX[name]] = value
        table.quality[row, INDEX[name]] = Quality.OK
    write(tmp_path / "r.arrows", [table])
    with pa.ipc.open_stream(tmp_path / "r.arrows") as reader:
        column = reader.read_all()["sparse"]
    pairs = [{"field": INDEX["xid_count"], "value": 2.0}, {"field": INDEX["pcie_generation"], "value": 5.0}]
    assert column.to_pylist() == [[], pairs, []]
    (read,) = Recording(tmp_path / "r.arrows").batches()
    same(table, read)
    assert read.column("xid_count")[:2].tolist() == [0.0, 2.0]
    assert np.isnan(read.column("xid_count")[2])


@given(st.data())
def test_any_readings_survive_to_the_bit(tmp_path_factory, data):
    n = data.draw(st.integers(1, 5))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    quality = rng.choice(np.array([0, 0, *Quality], np.uint8), (n, len(FIELDS)))
    values = rng.choice([0.0, -0.0, 1.0, -3.5, 1e-40, 3e38, np.inf, 255.0, 65537.0], (n, len(FIELDS)))
    values = values.astype(np.float32).astype(np.float64)
    values[quality != Quality.OK] = np.nan
    times = np.arange(n, dtype=np.int64)
    table = ReadingTable(gpu=times % 2, start_ns=times, end_ns=times + 1, values=values, quality=quality)
    path = tmp_path_factory.mktemp("any") / "r.arrows"
    write(path, [table])
    assert digest(Recording(path).batches()) == digest([table])


@pytest.mark.parametrize("seed", range(60))
def test_damage_is_an_error_of_ours_or_other_numbers(tmp_path, seed):
    """In the buffers of a batch, that is: nanoarrow trusts what it reads about them."""
    path = tmp_path / "r.arrows"
    begin, end = write(path, BATCHES[:3])[:2]
    data = bytearray(path.read_bytes())
    head_size = int.from_bytes(data[begin + 4 : begin + 8], "little")
    rng = np.random.default_rng(seed)
    for at in rng.integers(begin + 8 + head_size, end, 40):
        data[at] = int(rng.integers(0, 256))
    path.write_bytes(bytes(data))
    try:
        tables = list(Recording(path).batches())
    except RecordError as error:
        assert str(path) in error.message  # noqa: PT017 - not raising is fine, too
    else:
        assert all(table.values.shape == table.quality.shape == (len(table), len(FIELDS)) for table in tables)


@pytest.mark.parametrize("error", [ValueError, IndexError, RuntimeError])
def test_a_batch_that_cannot_be_decoded_names_the_file(error):
    def decode(columns: dict[str, object], n: int) -> None:
        raise error("wild")

    with pytest.raises(RecordError, match=re.escape(f"{FORMAT_1}: a batch cannot be read: wild")):
        list(Recording(FORMAT_1).decoded(decode))


# --- cut off


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "r.arrows"
    return write(path, BATCHES), path.read_bytes()


def test_a_file_cut_anywhere_gives_every_whole_batch(whole, tmp_path):
    sizes, data = whole
    schema_end = sizes[0] - (sizes[1] - sizes[0])
    path = tmp_path / "r.arrows"
    boundaries = {schema_end, *sizes}
    near_ends = {at + k for at in (0, schema_end, *sizes, len(data)) for k in range(-12, 13)}
    for cut in sorted(near_ends | set(range(0, len(data), 151))):
        if not 0 <= cut < len(data):
            continue
        path.write_bytes(data[:cut])
        if cut < schema_end:
            with pytest.raises(RecordError, match=re.escape(str(path))):
                Recording(path)
            continue
        recording = Recording(path)
        tables = list(recording.batches())
        assert len(tables) == sum(size <= cut for size in sizes), cut
        assert recording.cut_off == (cut not in boundaries), cut
        for read, written in zip(tables, BATCHES, strict=False):
            assert (read.end_ns == written.end_ns).all()


@pytest.mark.parametrize("batch", [0, 1, len(BATCHES) - 2])
@pytest.mark.parametrize("more", [3, 900])
def test_a_repaired_file_is_whole_for_any_arrow_reader(whole, tmp_path, batch, more):
    pa = pytest.importorskip("pyarrow", reason="pyarrow stands for the other Arrow readers")
    sizes, data = whole
    path = tmp_path / "r.arrows"
    path.write_bytes(data[: sizes[batch] + more])
    with pytest.raises(pa.ArrowInvalid), pa.ipc.open_stream(path) as reader:
        reader.read_all()
    recording = Recording(path)
    assert len(list(recording.batches())) == batch + 1
    repair(recording)
    assert names_in(tmp_path) == ["r.arrows"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pa.ipc.open_stream(path) as reader:
        table = reader.read_all()
    assert table.num_rows == sum(len(b) for b in BATCHES[: batch + 1])
    assert table.column_names[:3] == ["gpu", "start_ns", "end_ns"]
    assert table.schema.field("sm_clock_mhz").metadata[b"unit"] == b"MHz"
    again = Recording(path)
    for written, read in zip(BATCHES, again.batches(), strict=False):
        same(written, read)
    assert not again.cut_off


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_repair_that_cannot_be_written_leaves_the_recording(whole, tmp_path):
    sizes, data = whole
    path = tmp_path / "r.arrows"
    path.write_bytes(data[: sizes[0] + 5])
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OSError, match="Permission"):
            repair(Recording(path))
    finally:
        tmp_path.chmod(0o700)
    assert path.read_bytes() == data[: sizes[0] + 5]


# --- a full disk


FILL = """
import resource, sys
from pathlib import Path
from tests.unit.runs import batches, simulated
from tests.unit.sim_runs import run_end, run_start
from satscore.run.recorder import Recorder

run = simulated("sim:gh200x4", 4)
recorder = Recorder(Path(sys.argv[1]), with_readings=True, version="0")
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
recorder.begin(run_start(["train"]), run.header)
for table in batches(run.table, 33):
    recorder.append(table)
recorder.close_stream()
recorder.end(run_end(4.0, recorder.notes))
recorder.summary(b"{}\\n")
print(recorder.bytes_written)
print("\\n".join(recorder.notes))
"""
"""A limit on the size of files answers a write with EFBIG half-way, just as a full disk does with ENOSPC."""


def fill(out: Path, limit: int) -> list[str]:
    """Record the run where no file may become larger than the limit; return its size and notes."""
    command = [sys.executable, "-c", FILL, str(out), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("more", [0, 10, 4000])
def test_a_full_disk_ends_the_recording_with_a_whole_batch(whole, tmp_path, count, more):
    out, limit = tmp_path / "run", whole[0][count - 1] + more
    written, note = fill(out, limit)
    assert note.startswith(f"the recording ends early: {out}: File too large; free space or name another")
    path = out / "readings-nid001234-0.arrows"
    assert path.stat().st_size == int(written) <= limit
    recording = Recording(path)
    read = list(recording.batches())
    assert len(read) == count
    assert not recording.cut_off
    for written_table, read_table in zip(BATCHES, read, strict=False):
        same(written_table, read_table)
    end = read_run_file(out).end
    assert end is not None
    assert end.notes == [note]


def test_a_disk_that_is_full_at_the_very_end_loses_only_the_end_mark(whole, tmp_path):
    written, note = fill(tmp_path / "run", whole[0][-1] + 4)
    assert note.startswith("the recording has no end mark: ")
    recording = Recording(tmp_path / "run" / "readings-nid001234-0.arrows")
    assert sum(len(table) for table in recording.batches()) == len(RUN.table)
    assert recording.path.stat().st_size == int(written)


def test_a_directory_that_cannot_be_made_ends_the_recording_only(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("x")
    written, note = fill(blocker / "run", 10**9)
    assert written == "None"
    assert note.startswith("nothing is recorded: ")
    assert note.endswith("name a writable directory with --out")


# --- files that are not ours


def foreign_stream() -> bytes:
    return stream({"a": na.int64()}, [na.c_array(np.arange(3))], 3, None)


def stream_with_header(text: str) -> bytes:
    return stream({"a": na.int64()}, [na.c_array(np.arange(3))], 3, {HEADER_KEY.decode(): text})


NEWER = msgspec.json.encode(msgspec.structs.replace(RUN.header, format_version=99)).decode()
FOREIGN = {
    "empty": (b"", "empty: the run ended before"),
    "text": (b"hello\n", "not an Arrow stream"),
    "random": (np.random.default_rng(0).bytes(5000), "not an Arrow stream"),
    "cut schema": (foreign_stream()[:60], "cut off inside its header"),
    "foreign stream": (foreign_stream(), "not a recording of satscore"),
    "arrow file": (b"ARROW1\0\0" + foreign_stream(), "not an Arrow stream"),
    "newer": (stream_with_header(NEWER), "format_version 99 is newer"),
    "header without keys": (stream_with_header('{"format_version": 1}'), "`hostname`"),
    "header of no JSON": (stream_with_header("{"), "not JSON"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_that_is_not_ours_is_named_with_what_is_wrong(tmp_path, name):
    data, told = FOREIGN[name]
    path = tmp_path / "r.arrows"
    path.write_bytes(data)
    with pytest.raises(RecordError) as caught:
        Recording(path)
    assert str(path) in caught.value.message
    assert told in caught.value.message


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"r\.arrows: No such file"):
        Recording(tmp_path / "r.arrows")


# --- run.json


CONTENT = RunFile(
    format_version=FORMAT_VERSION, satscore_version="1.2.3", start=run_start(COMMAND), end=run_end(4.0, ["a note"])
)


@pytest.mark.parametrize("content", [CONTENT, msgspec.structs.replace(CONTENT, end=None)])
def test_run_file_round_trip(tmp_path, content):
    write_run_file(tmp_path, content)
    assert read_run_file(tmp_path) == content


GOOD = msgspec.to_builtins(CONTENT)
BAD_RUN_FILES = {
    "cut": (msgspec.json.encode(CONTENT)[:80], "not JSON"),
    "empty": (b"", "not JSON"),
    "no UTF-8": (b'{"format_version": 1, "satscore_version": "\xff"}', "not JSON"),
    "list": (b"[]", "Expected `object`"),
    "no version": (b"{}", "`format_version`"),
    "newer": (msgspec.json.encode({"format_version": 3}), "format_version 3 is newer"),
    "key missing": (msgspec.json.encode({**GOOD, "start": {"run_id": "x"}}), "`label`"),
    "wrong type": (msgspec.json.encode({**GOOD, "start": {**GOOD["start"], "period_s": "fast"}}), "$.start.period_s"),
}


@pytest.mark.parametrize("name", BAD_RUN_FILES)
def test_a_damaged_run_file_is_named_with_its_key(tmp_path, name):
    data, told = BAD_RUN_FILES[name]
    (tmp_path / RUN_FILE).write_bytes(data)
    with pytest.raises(RecordError) as caught:
        read_run_file(tmp_path)
    assert str(tmp_path / RUN_FILE) in caught.value.message
    assert told in caught.value.message
    assert caught.value.hint


def test_a_directory_without_a_run_is_told_from_no_directory(tmp_path):
    with pytest.raises(RecordError) as empty:
        read_run_file(tmp_path)
    with pytest.raises(RecordError) as absent:
        read_run_file(tmp_path / "absent")
    assert "is not a run directory" in empty.value.hint
    assert "name a run directory" in absent.value.hint


def test_arguments_that_are_not_utf8_can_be_stored(tmp_path):
    name = os.fsdecode(b"train-\xff.py")
    start = msgspec.structs.replace(run_start(COMMAND), command=[json_text(name)])
    write_run_file(tmp_path, RunFile(format_version=FORMAT_VERSION, satscore_version="0", start=start))
    assert read_run_file(tmp_path).start.command == ["train-\\udcff.py"]
    assert json_text("plain ü 模型") == "plain ü 模型"


def test_the_end_fits_into_the_space_kept_for_it(tmp_path):
    """A name that cannot be replaced stands for a full disk: no new file, but the old one can be written."""
    many = [f"note {i} " + "x" * 200 for i in range(100)]
    for notes, kept in ((["a note"], 1), (many, 10)):
        write_run_file(tmp_path, msgspec.structs.replace(CONTENT, end=None))
        path = tmp_path / RUN_FILE
        size = path.stat().st_size
        (tmp_path / f".{RUN_FILE}.{os.getpid()}.tmp").mkdir()
        end_run_file(tmp_path, msgspec.structs.replace(CONTENT, end=run_end(4.0, notes)))
        (tmp_path / f".{RUN_FILE}.{os.getpid()}.tmp").rmdir()
        end = read_run_file(tmp_path).end
        assert end is not None
        assert end.duration_s == 4.0
        assert len(end.notes) >= kept
        assert end.notes == notes[: len(end.notes)]
        assert path.stat().st_size == size


# --- files and directories


def test_an_atomic_write_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "summary.json"
    for data in (b"one", b"two, longer"):
        write_atomic(path, data)
        assert path.read_bytes() == data
    assert names_in(tmp_path) == ["summary.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_write_that_fails_leaves_the_old_file_and_no_temporary_one(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomic(tmp_path / "taken", b"x")
    assert names_in(tmp_path) == ["taken"]
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "absent" / "file", b"x")


def test_a_full_disk_leaves_the_old_file_and_no_temporary_one(tmp_path):
    path = tmp_path / "summary.json"
    write_atomic(path, b"old")
    code = """
        import resource, sys
        from pathlib import Path
        from satscore.record.files import write_atomic
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        try:
            write_atomic(Path(sys.argv[1]), bytes(5000))
        except OSError as error:
            print(error.strerror)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    assert names_in(tmp_path) == ["summary.json"]
    assert path.read_bytes() == b"old"


def test_a_pipe_that_the_user_names_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_requested(pipe, b"summary")
        assert os.read(reader, 100) == b"summary"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_run_directories_are_private_and_never_shared(tmp_path):
    wanted = tmp_path / "runs" / "demo"
    first = make_run_directory(wanted, RUN_FILE)
    assert (first, stat.S_IMODE(first.stat().st_mode)) == (wanted, 0o700)
    assert names_in(first) == [RUN_FILE]
    (first / RUN_FILE).write_text("{}")
    second, third = (make_run_directory(wanted, RUN_FILE) for _ in range(2))
    assert [p.name for p in (second, third)] == ["demo-2", "demo-3"]
    assert (first / RUN_FILE).read_text() == "{}"


def test_an_empty_directory_is_taken_by_one_of_many(tmp_path):
    for attempt in range(40):
        wanted, start = tmp_path / f"run{attempt}x", threading.Barrier(8)
        wanted.mkdir()

        def take(wanted: Path = wanted, start: threading.Barrier = start) -> Path:
            start.wait()
            return make_run_directory(wanted, RUN_FILE)

        with ThreadPoolExecutor(8) as pool:
            taken = [one.result() for one in [pool.submit(take) for _ in range(8)]]
        assert len(set(taken)) == 8
        assert wanted in taken


def test_a_file_of_the_wanted_name_is_left_alone(tmp_path):
    (tmp_path / "demo").write_text("mine")
    assert make_run_directory(tmp_path / "demo", RUN_FILE).name == "demo-2"
    assert (tmp_path / "demo").read_text() == "mine"


# --- size


def test_a_gpu_hour_fits_its_budget(tmp_path):
    """Four GPUs read every 0.2 s, a batch every 5 s as in a run."""
    seconds = 20
    run = simulated("sim:gh200x4", seconds)
    sizes = write(tmp_path / "r.arrows", batches(run.table, 4 * 25))
    per_batch = (sizes[-1] - sizes[0]) / (len(sizes) - 1)
    head = sizes[0] - per_batch
    gpu_hours_batches = 3600 / 5
    assert (head + per_batch * gpu_hours_batches) / 4 <= 4.6e6


@pytest.mark.parametrize("spec", ["sim:llm", "sim:gh200x4"])
def test_a_gpu_hour_of_a_single_gpu_fits_its_budget(tmp_path, spec):
    """With every counter at every tick; the recording of the host has its place beside it in 6 MB."""
    run = simulated(spec, 20)
    sizes = write(tmp_path / "r.arrows", batches(run.table.of_gpu(0), 25), header(run.header.gpus[:1]))
    assert sizes[0] + (sizes[-1] - sizes[0]) / (len(sizes) - 1) * 3600 / 5 <= 5.6e6


def test_times_keep_their_nanoseconds(tmp_path):
    head = header([H200_INFO], grid_offset_ns=1_790_000_000 * NS + 123)
    table = measured([(1.0, {"g": 1})]).table
    table.start_ns[0] = 2**53 + 1
    table.end_ns[0] = 2**53 + NS + 3
    write(tmp_path / "r.arrows", [table], head)
    recording = Recording(tmp_path / "r.arrows")
    (read,) = recording.batches()
    assert (int(read.start_ns[0]), int(read.end_ns[0])) == (2**53 + 1, 2**53 + NS + 3)
    assert recording.header.grid_offset_ns == 1_790_000_000 * NS + 123
