"""The state as bytes and back: bit for bit, and one clear error for everything else."""

import contextlib
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core import int_columns as columns
from satscore.core import wire
from satscore.core.job_series import SERIES_COLUMNS, JobSeries, merge_series
from satscore.core.labels import Label
from satscore.core.rank_blocks import BLOCK_COLUMNS, RankBlocks
from satscore.core.rank_state import GpuState
from satscore.core.sums import Sums, merge_all
from satscore.errors import RecordError

few = settings(max_examples=60, deadline=None)
amounts = st.integers(-(2**120), 2**120) | st.integers(0, 2**64) | st.integers(-5, 5)
words = st.text(min_size=1, max_size=12)
sums = st.builds(
    Sums,
    totals=st.dictionaries(words, amounts, max_size=6),
    maxima=st.dictionaries(words, amounts, max_size=3),
    clock_us=st.dictionaries(st.integers(0, 4000), amounts, max_size=4),
    quality_us=st.dictionaries(words, amounts, max_size=3),
    read_us=amounts,
    counts=st.dictionaries(words, amounts, max_size=3),
)
WIDTHS = (1, 2**7, 2**8, 2**15, 2**16, 2**31, 2**32, 2**62)


@st.composite
def blocks(draw: st.DrawFn) -> RankBlocks:
    out = RankBlocks()
    for _ in range(draw(st.integers(0, 4))):
        start, count = draw(st.integers(-(10**6), 10**6)), draw(st.integers(1, 30))
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        rows = rng.integers(0, draw(st.sampled_from((1, 2**8, 10**12))), (count, len(BLOCK_COLUMNS)))
        out.add(np.arange(start, start + count), draw(st.sampled_from(Label)), rows)
    return out


@st.composite
def series(draw: st.DrawFn) -> JobSeries:
    length, first = draw(st.integers(0, 40)), draw(st.integers(-(10**6), 10**6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    names = draw(st.sets(st.sampled_from(SERIES_COLUMNS), min_size=1))
    width = draw(st.sampled_from(WIDTHS)) // 64 + 1
    return JobSeries(first, {name: rng.integers(-width, width, length) for name in sorted(names)})


states = st.builds(
    GpuState, sums=sums, phase_sums=st.dictionaries(st.sampled_from(Label), sums, max_size=3), blocks=blocks()
)


def through(*gpus: GpuState) -> tuple[GpuState, ...]:
    names = wire.Names()
    data = wire.encode_gpus(gpus, names)
    return wire.decode_gpus(data, wire.split_names(names.table, "f"), "f")


def series_through(*many: JobSeries) -> JobSeries:
    return wire.decode_series(wire.encode_series(many), "f").series()


# --- round trips


@few
@given(st.lists(states, max_size=3))
def test_sums_and_blocks_come_back_to_the_bit(gpus):
    back = through(*gpus)
    assert [(g.sums, g.phase_sums) for g in back] == [(g.sums, g.phase_sums) for g in gpus]
    assert all(one.blocks.same_as(two.blocks) for one, two in zip(back, gpus, strict=True))


@few
@given(series())
def test_a_series_comes_back_to_the_bit(one):
    assert series_through(one).same_as(one) or len(one) == 0
    assert len(series_through(one)) == len(one)


@pytest.mark.parametrize("edge", [0, 1, -1])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_column_takes_the_narrowest_type(width, edge):
    values = np.array([0, width + edge, 1])
    column = columns.packed(values)
    back = columns.unpacked(column, 3, "f")
    assert back.tolist() == values.tolist()
    narrower = [t for t in columns.TYPES.values() if t.itemsize < back.dtype.itemsize]
    assert not any(np.iinfo(t).max >= width + edge for t in narrower)


def test_a_constant_column_takes_no_rows():
    column = columns.packed(np.full(1000, -7))
    assert column.data.nbytes == 0
    assert columns.unpacked(column, 1000, "f").tolist() == [-7] * 1000


def test_an_amount_above_128_bits_is_refused():
    with pytest.raises(OverflowError):
        columns.pack_amounts([0], [2**127])


# --- merging


def test_e17_through_encode_merge_and_decode():
    """Two ranks: values 0.4, 0.5, 0.6 of 1 s each, and 0.8 of 2 s."""
    parts = [[(400_000, 1), (500_000, 1), (600_000, 1)], [(800_000, 2)]]
    made = [
        Sums(
            totals={
                "sat:train": sum(ppm * s * 1_000_000 for ppm, s in part),
                "complete_us:train": sum(s * 1_000_000 for _, s in part),
            }
        )
        for part in parts
    ]
    assert [one.total("sat:train") for one in made] == [1_500_000_000_000, 1_600_000_000_000]
    for order in (made, made[::-1]):
        decoded = [gpu.sums for gpu in through(*(GpuState(sums=one) for one in order))]
        merged = through(GpuState(sums=merge_all(decoded)))[0].sums
        assert merged.total("complete_us:train") == 5_000_000
        score = 100 * merged.total("sat:train") / merged.total("complete_us:train") / 1_000_000
        assert score == 62.0


@few
@given(st.lists(states, max_size=5), st.randoms(use_true_random=False))
def test_merging_in_any_order_with_the_wire_in_between(gpus, rng):
    order = rng.sample(gpus, len(gpus))
    cut = rng.randrange(len(gpus) + 1)
    halves = [merge_all(g.sums for g in through(*part)) for part in (order[:cut], order[cut:])]
    assert merge_all(one.sums for one in through(*map(_state, halves))) == merge_all(g.sums for g in gpus)
    expected, found = RankBlocks(), RankBlocks()
    for one, two in zip(gpus, through(*order), strict=True):
        expected, found = expected.merge(one.blocks), found.merge(two.blocks)
    assert found.same_as(expected)


def _state(sums: Sums) -> GpuState:
    return GpuState(sums=sums)


@few
@given(st.lists(series(), max_size=5), st.randoms(use_true_random=False))
def test_series_merge_in_any_order_with_the_wire_in_between(many, rng):
    order = rng.sample(many, len(many))
    cut = rng.randrange(len(many) + 1)
    whole = merge_series([series_through(*order[:cut]), series_through(*order[cut:])])
    expected = merge_series(many)
    assert len(whole) == len(expected)
    assert whole.same_as(expected) or len(expected) == 0


# --- what is damaged or hostile

GPU = GpuState(sums=Sums(totals={"windows": 5}), blocks=RankBlocks())
ROWS = JobSeries(10, {"gpus": np.array([1, 1, 2]), "sat": np.array([5, 6, 7])})


@contextlib.contextmanager
def said_of(where: str) -> Iterator[None]:
    """Every error names the place."""
    try:
        yield
    except RecordError as error:
        if not error.message.startswith(where):
            raise AssertionError(error.message) from error
        raise


@given(st.binary(max_size=60))
def test_garbage_is_one_error(data):
    for decode in (lambda: wire.decode_series(data, "file: $.x"), lambda: wire.decode_gpus(data, [], "file: $.x")):
        with contextlib.suppress(RecordError), said_of("file: $.x"):
            decode()


@given(st.data())
def test_a_cut_or_changed_state_never_raises_anything_else(data):
    names = wire.Names()
    whole = bytearray(wire.encode_gpus([GPU], names) + wire.encode_series([ROWS]))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    stop = data.draw(st.integers(0, len(whole)))
    split = len(wire.encode_gpus([GPU], names))
    for decode in (
        lambda: wire.decode_gpus(bytes(whole[: min(split, stop)]), wire.split_names(names.table, "f"), "f"),
        lambda: wire.decode_series(bytes(whole[split:stop]), "f"),
    ):
        with contextlib.suppress(RecordError):
            decode()


def changed(length: int = 3, **more: list[object]) -> bytes:
    """Return a series whose parts were changed."""
    first, _, held = msgspec.msgpack.decode(wire.encode_series([ROWS]))
    return msgspec.msgpack.encode([first, length, {**held, **more}])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (changed(10**9), "f.gpus: 3 bytes are not 1000000000 rows"),
        (changed(10**9, gpus=["", 1, b""]), "only claimed"),
        (changed(sat=["u1", 0, b"1234"]), "f.sat: 4 bytes are not 3 rows"),
        (changed(sat=["u8", 0, b"1" * 24]), "f.sat: type 'u8'"),
        (changed(sat=["", 2**63, b""]), "f.sat: 9223372036854775808 has more than 64 bits"),
        (changed(nonsense=["", 1, b""]), "'nonsense' is no column"),
        (changed(-1), "no series"),
        (changed(sat=[1, 0, b""]), r"Expected `str`, got `int`"),
    ],
)
def test_a_series_that_is_none_says_which_key(data, said):
    with pytest.raises(RecordError, match=said):
        wire.decode_series(data, "f")


def gpu_with(**changes: object) -> tuple[bytes, list[tuple[str, str | int]]]:
    names = wire.Names()
    (made,) = wire._decode_gpus(wire.encode_gpus([GPU], names))
    return msgspec.msgpack.encode([msgspec.structs.replace(made, **changes)]), wire.split_names(names.table, "f")


BLOCKS = wire._blocks(RankBlocks())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sums": columns.pack_amounts([9], [1])}, r"f\[0\].sums: name 9 of 2"),
        ({"phase_sums": {77: columns.pack_amounts([], [])}}, r"f\[0\].phase_sums: 77 is no phase"),
        ({"sums": columns.Amounts(memoryview(b"12"), memoryview(b"1"), memoryview(b""))}, "not names, lower"),
        ({"blocks": msgspec.structs.replace(BLOCKS, length_s=6)}, "no blocks of a rank"),
        ({"blocks": msgspec.structs.replace(BLOCKS, columns=[])}, "no blocks of a rank"),
        ({"blocks": msgspec.structs.replace(BLOCKS, labels=memoryview(b"\x63"))}, "99 is no phase"),
    ],
)
def test_sums_that_are_none_say_which_key(changes, said):
    data, names = gpu_with(**changes)
    with pytest.raises(RecordError, match=said):
        wire.decode_gpus(data, names, "f")


@pytest.mark.parametrize("name", ["", "windows", "others:x", "clock_us:1.5", "clock_us:²"])
def test_a_name_of_no_sum(name):
    with pytest.raises(RecordError, match="no name of a sum"):
        wire.split_names([name], "f")
