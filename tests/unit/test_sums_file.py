"""Files of sums: what is in them, and what is said of those that are damaged."""

import contextlib
import struct
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core.job_series import merge_series
from satscore.errors import RecordError
from satscore.record import sums_file
from satscore.record.sums_file import RankRecord, SumsFile, encode_sums, readings_beside, sums_name
from satscore.record.sums_head import SumsHead
from tests.unit.runs import Run, simulated
from tests.unit.test_wire import said_of

NODE = simulated("sim:gh200x4", 30)


def record(run: Run = NODE, certain: tuple[int, ...] = (0, 1, 2, 3)) -> RankRecord:
    session = run.session()
    return RankRecord(header=run.header, state=session.state(), bounds_keys=session.bounds_keys, certain=certain)


DATA = encode_sums("train", None, [record()])


def opened(path: Path, data: bytes) -> SumsFile:
    path.write_bytes(data)
    return SumsFile(path)


@pytest.mark.parametrize(("certain", "groups"), [((0, 1, 2, 3), 1), ((1, 3), 3), ((), 4)])
def test_what_is_written_comes_back(tmp_path, certain, groups):
    made = record(certain=certain)
    with opened(tmp_path / "sums-x-0.msgpack", encode_sums("train", "bf16", [made, made])) as file:
        assert (file.head.profile, file.head.dtype) == ("train", "bf16")
        assert [one.header() for one in file.head.ranks] == [made.header] * 2
        assert len(file.head.series) == (groups if certain == (0, 1, 2, 3) else 2 * groups - bool(certain))
        members = [member for at in range(len(file.head.series)) for member in file.members(at)]
        assert sorted(members) == [(r, g) for r in (0, 1) for g in range(4)]
        for at in range(len(file.head.series)):
            mine = merge_series(made.state.gpus[g].series for _, g in file.members(at))
            assert file.series(at).series().same_as(mine)
        for at in (0, 1):
            back = file.gpus(at)
            assert [(g.sums, g.phase_sums) for g in back] == [(g.sums, g.phase_sums) for g in made.state.gpus]
            assert all(a.blocks.same_as(b.blocks) for a, b in zip(back, made.state.gpus, strict=True))


def test_names():
    path = Path("d") / sums_name(msgspec.structs.replace(NODE.header, hostname="nid001", rank=7))
    assert path.name == "sums-nid001-7.msgpack"
    assert readings_beside(path) == Path("d/readings-nid001-7.arrows")


def preamble(version: int = 1, size: int | None = None) -> bytes:
    return struct.pack(
        "<8sII", sums_file.MAGIC, version, struct.unpack_from("<8sII", DATA)[2] if size is None else size
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a file of sums"),
        (b"garbage" * 100, "not a file of sums"),
        (preamble(4) + DATA[16:], r"version 4 is newer than this satscore knows \(3\)"),
        (DATA[:-1], r"bytes where its head says"),
        (DATA + b"x", r"bytes where its head says"),
        (DATA[:100], r"bytes where its head says"),
        (preamble(size=2**32 - 1) + DATA[16:], r"bytes where its head says 4294967311"),
        (preamble() + b"\xc1" + DATA[17:], "sums-x.msgpack: "),
    ],
)
def test_a_damaged_file_is_named(tmp_path, data, said):
    with pytest.raises(RecordError, match=said) as caught:
        opened(tmp_path / "sums-x.msgpack", data)
    assert "sums-x.msgpack" in caught.value.message
    assert caught.value.hint


def with_head(**changes: object) -> bytes:
    """Return the file with another head."""
    size = struct.unpack_from("<8sII", DATA)[2]
    head = sums_file._decode_head(DATA[16 : 16 + size])
    encoded = msgspec.msgpack.encode(msgspec.structs.replace(head, **changes))
    return preamble(size=len(encoded)) + encoded + DATA[16 + size :]


def head() -> SumsHead:
    return sums_file._decode_head(DATA[16 : 16 + struct.unpack_from("<8sII", DATA)[2]])


def far() -> object:
    return type(head().ranks[0].section)(0, 2**40)


def test_sections_beyond_the_end_are_not_read(tmp_path):
    ranks = [msgspec.structs.replace(head().ranks[0], section=far())]
    with (
        opened(tmp_path / "f", with_head(ranks=ranks)) as file,
        pytest.raises(RecordError, match=r"ranks\[0\].section"),
    ):
        file.gpus(0)


def test_a_member_that_is_not_there(tmp_path):
    series = [msgspec.structs.replace(head().series[0], members=[(0, 4)])]
    with (
        opened(tmp_path / "f", with_head(series=series)) as file,
        pytest.raises(RecordError, match=r"members: no such"),
    ):
        file.members(0)


def test_a_head_that_contradicts_its_rank(tmp_path):
    rank = head().ranks[0]
    gpus = [msgspec.structs.replace(gpu, block_s=8 * gpu.block_s) for gpu in rank.gpus]
    data = with_head(ranks=[msgspec.structs.replace(rank, gpus=gpus)])
    with opened(tmp_path / "f", data) as file, pytest.raises(RecordError, match="other GPUs than in the head"):
        file.gpus(0)


def test_wrong_types_name_the_key(tmp_path):
    with pytest.raises(RecordError, match=r"\$\.profile"):
        opened(tmp_path / "f", with_head(profile=3))


def test_what_is_no_file(tmp_path):
    with pytest.raises(RecordError, match="not a file"):
        SumsFile(tmp_path)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(DATA) - 1), st.integers(0, 255))
def test_a_changed_byte_raises_nothing_else(tmp_path_factory, at, byte):
    path = tmp_path_factory.mktemp("x") / "f"
    data = DATA[:at] + bytes([byte]) + DATA[at + 1 :]
    with contextlib.suppress(RecordError), said_of(str(path)), opened(path, data) as file:
        for position in range(len(file.head.ranks)):
            file.gpus(position)
        for position in range(len(file.head.series)):
            file.members(position)
            file.series(position)
