"""The recording of the host on disk: any cut, a full disk, other versions, files that are not ours."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import numpy as np
import pytest

from satscore.core.host import HOST_FIELDS, HostInfo, HostReading, host_reading
from satscore.errors import RecordError
from satscore.record.host_file import HostHeader, HostRecording, HostWriter, host_file_name, repair_host
from satscore.record.run_file import FORMAT_VERSION
from satscore.record.stream import Recording, StreamWriter
from tests.unit.runs import batches, simulated

NS = 1_000_000_000
HEADER = HostHeader(
    format_version=FORMAT_VERSION,
    hostname="nid001234",
    rank=3,
    grid_offset_ns=1_790_000_000 * NS + 123,
    info=HostInfo(cpus_count=288, workdir_fs="lustre", missing={"pressure_io_frac": "/proc/pressure/io: none"}),
)


def readings(count: int, begin: int = 0) -> list[HostReading]:
    values = {field.name: 0.5 + i for i, field in enumerate(HOST_FIELDS[:-1])}
    return [host_reading((begin + i) * NS, (begin + i + 1) * NS, values) for i in range(count)]


BATCHES = [readings(5, 5 * i) for i in range(6)]


def write(path: Path, many: list[list[HostReading]], header: HostHeader = HEADER) -> list[int]:
    writer, sizes = HostWriter(path, header), []
    for each in many:
        writer.append(each)
        sizes.append(writer.bytes_written)
    writer.close()
    return sizes


def same(one: list[HostReading], other: list[HostReading]) -> bool:
    times = [(a.start_ns, a.end_ns) for a in one] == [(b.start_ns, b.end_ns) for b in other]
    return times and np.array_equal([a.values for a in one], [b.values for b in other], equal_nan=True)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / host_file_name("nid001234", 3)
    assert path.name == "host-nid001234-3.arrows"
    write(path, BATCHES)
    recording = HostRecording(path)
    assert recording.header == HEADER
    read = list(recording.batches())
    assert [same(a, b) for a, b in zip(read, BATCHES, strict=True)] == [True] * 6
    assert not recording.cut_off
    assert path.stat().st_mode & 0o777 == 0o600


def test_bytes_are_kept_to_one_part_in_16_million(tmp_path):
    terabytes = 1_234_567_891_234.0
    write(tmp_path / "h", [[host_reading(0, NS, {"memory_available_bytes": terabytes})]])
    ((reading,),) = HostRecording(tmp_path / "h").batches()
    assert reading.values[11] == pytest.approx(terabytes, rel=1 / 16e6)


def test_no_readings_are_no_batch_and_no_file_is_overwritten(tmp_path):
    write(tmp_path / "h", [[], BATCHES[0]])
    assert len(list(HostRecording(tmp_path / "h").batches())) == 1
    with pytest.raises(FileExistsError):
        HostWriter(tmp_path / "h", HEADER)


def test_a_file_cut_anywhere_gives_every_whole_batch_and_is_repaired(tmp_path):
    sizes = write(tmp_path / "whole", BATCHES)
    data, path = (tmp_path / "whole").read_bytes(), tmp_path / "h"
    head = sizes[0] - (sizes[1] - sizes[0])
    for cut in sorted({*range(0, len(data), 97), *(size + k for size in (head, *sizes) for k in (-1, 0, 1))}):
        path.write_bytes(data[:cut])
        if cut < head:
            with pytest.raises(RecordError, match=re.escape(str(path))):
                HostRecording(path)
            continue
        recording = HostRecording(path)
        whole = sum(size <= cut for size in sizes)
        assert len(list(recording.batches())) == whole, cut
        assert recording.cut_off == (cut not in {head, *sizes, len(data)}), cut
        if recording.cut_off and whole:
            repair_host(recording)
            again = HostRecording(path)
            assert len(list(again.batches())) == whole
            assert not again.cut_off
    assert sorted(path.name for path in tmp_path.iterdir()) == ["h", "whole"]


def test_any_arrow_reader_reads_it_with_units(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="pyarrow stands for the other Arrow readers")
    write(tmp_path / "h", BATCHES)
    with pa.ipc.open_stream(tmp_path / "h") as reader:
        table = reader.read_all()
    assert table.num_rows == 30
    assert table.column_names == ["start_ns", "end_ns", *(field.name for field in HOST_FIELDS)]
    assert table.schema.field("command_cpu_cores").metadata[b"unit"] == b"cores"


def test_a_full_disk_ends_this_file_with_a_whole_batch(tmp_path):
    sizes = write(tmp_path / "whole", BATCHES)
    code = """
        import resource, sys
        from pathlib import Path
        from satscore.record.host_file import HostWriter
        from tests.unit.test_host_file import BATCHES, HEADER
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
        writer = HostWriter(Path(sys.argv[1]), HEADER)
        for batch in BATCHES:
            try:
                writer.append(batch)
            except OSError as error:
                print(error.strerror or error)
        writer.close()
    """
    path = tmp_path / "h"
    command = [sys.executable, "-c", textwrap.dedent(code), str(path), str(sizes[1] + 40)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    first, *later = done.stdout.splitlines()
    assert first == "File too large"
    assert later == [f"{path}: the recording has ended"] * 3
    assert path.stat().st_size == sizes[1]
    recording = HostRecording(path)
    assert len(list(recording.batches())) == 2
    assert not recording.cut_off


def test_columns_of_other_versions(tmp_path, monkeypatch):
    later = HOST_FIELDS[0]._replace(name="quantum_share")
    monkeypatch.setattr("satscore.record.host_file.HOST_FIELDS", (later, *HOST_FIELDS[2:]))
    values = [float(i) for i in range(len(HOST_FIELDS) - 1)]
    write(tmp_path / "h", [[HostReading(0, NS, values)]])
    monkeypatch.undo()
    ((reading,),) = HostRecording(tmp_path / "h").batches()
    assert np.isnan(reading.values[:2]).all()
    assert reading.values[2:] == values[1:]


# --- files that are not ours


def test_a_recording_of_gpus_is_not_taken_for_one_of_the_host_and_the_other_way_round(tmp_path):
    run = simulated("sim:llm", 2)
    writer = StreamWriter(tmp_path / "gpus", run.header)
    writer.append(batches(run.table, 100)[0])
    writer.close()
    with pytest.raises(RecordError, match=r"gpus: an Arrow stream, but not a recording of the host of satscore"):
        HostRecording(tmp_path / "gpus")
    write(tmp_path / "host", BATCHES)
    with pytest.raises(RecordError, match="host: an Arrow stream, but not a recording of satscore"):
        Recording(tmp_path / "host")


@pytest.mark.parametrize(
    ("data", "told"),
    [(b"", "empty"), (b"hello\n", "not an Arrow stream"), (np.random.default_rng(0).bytes(4000), "not an Arrow")],
)
def test_foreign_files_are_named(tmp_path, data, told):
    (tmp_path / "h").write_bytes(data)
    with pytest.raises(RecordError, match=told) as caught:
        HostRecording(tmp_path / "h")
    assert str(tmp_path / "h") in caught.value.message


def test_a_missing_file_and_a_pipe_are_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("absent", "pipe"):
        with pytest.raises(RecordError, match=name):
            HostRecording(tmp_path / name)


def test_a_newer_version_is_said(tmp_path):
    write(tmp_path / "h", BATCHES, msgspec.structs.replace(HEADER, format_version=99))
    with pytest.raises(RecordError, match="format_version 99 is newer"):
        HostRecording(tmp_path / "h")


@pytest.mark.parametrize(("start", "end"), [(3 * NS, 2 * NS), (0, 2**62), (-(2**62), NS)])
def test_times_that_no_run_has_are_damage(tmp_path, start, end):
    bad = host_reading(start, end, {})
    write(tmp_path / "h", [readings(1), [bad]])
    with pytest.raises(RecordError, match="not in order"):
        list(HostRecording(tmp_path / "h").batches())


@pytest.mark.parametrize("seed", range(60))
def test_damage_is_an_error_of_ours_or_other_numbers(tmp_path, seed):
    write(tmp_path / "whole", BATCHES)
    rng = np.random.default_rng(seed)
    data = bytearray((tmp_path / "whole").read_bytes())
    for at in rng.integers(0, len(data), 4):
        data[at] = int(rng.integers(0, 256))
    (tmp_path / "h").write_bytes(bytes(data))
    try:
        list(HostRecording(tmp_path / "h").batches())
    except RecordError as error:
        assert str(tmp_path / "h") in error.message  # noqa: PT017 - not raising is fine, too
