"""What a rank sends adds up to what it has: whatever was made when, and whichever GPUs counted meanwhile."""

from collections.abc import Sequence
from functools import cache

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core import gpu_series
from satscore.core.job_series import JobSeries, SeriesSum, merge_series
from satscore.core.readings import ReadingTable
from satscore.core.wire import decode_series
from satscore.fleet.wire import Part
from satscore.record.run_file import RunFile
from satscore.run.part_maker import PartMaker
from satscore.run.session import Session
from tests.unit.runs import COMMAND, MODELS, batches, simulated
from tests.unit.sim_runs import run_end, run_file, run_start

RUN = simulated("sim:gh200x4", 24)
CONTENT = run_file(run_start(COMMAND), None)
ALL = (True, True, True, True)


@cache
def pieces(count: int) -> list[ReadingTable]:
    """Return the run in so many pieces of one length."""
    return batches(RUN.table, -(-len(RUN.table) // count))


def session(offset_ns: int = 0) -> Session:
    return Session(RUN.header.gpus, MODELS, profile="train", dtype=None, grid_offset_ns=offset_ns)


def maker() -> PartMaker:
    return PartMaker("nid001234", 7, "nid001234-x")


def added(parts: Sequence[Part]) -> JobSeries:
    """Return what a collector has of them, without rows at the ends in which no GPU counts."""
    total = SeriesSum()
    for part in parts:
        if part.series:
            one = decode_series(part.series, "part")
            total.add(one.first_index, one.length, one.columns)
    series = total.series()
    rows = np.flatnonzero(series.column("gpus"))
    if len(rows) == 0:
        assert not any(column.any() for column in series.columns().values())
        return JobSeries()
    begin, stop = int(rows[0]), int(rows[-1]) + 1
    return JobSeries(series.first_index + begin, {name: c[begin:stop] for name, c in series.columns().items()})


def expected(of: Session, counted: Sequence[bool]) -> JobSeries:
    return merge_series(gpu.series for gpu, counts in zip(of.state().gpus, counted, strict=True) if counts)


choices = st.tuples(*[st.booleans()] * 4)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), choices), min_size=1, max_size=8),
    st.sampled_from((5, 8, 4096)),
    st.integers(0, 8),
)
def test_the_sum_is_that_of_the_gpus_that_count_at_the_end(steps, chunk, regridded_at):
    """Each step adds some pieces and makes a part; before one of them the windows are laid elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_series, "CHUNK", chunk)
        one, made, parts, done = session(), maker(), list[Part](), list[ReadingTable]()
        for step, (count, counted) in enumerate(steps):
            if step == regridded_at:
                one = session(3_200_000_000)
                for table in done:
                    one.add(table)
            for table in pieces(10)[len(done) : len(done) + count]:
                one.add(table)
                done.append(table)
            parts.append(made.make(CONTENT, RUN.header, one, counted))
            assert added(parts).same_as(expected(one, counted))
        one.close()
        parts.append(made.make(CONTENT, RUN.header, one, counted, is_final=True))
        assert added(parts).same_as(expected(one, counted))


def test_parts_say_whose_they_are_and_count():
    one, made = session(), maker()
    one.add(RUN.table)
    first = made.make(CONTENT, RUN.header, one, ALL)
    one.close()
    ended = msgspec.structs.replace(CONTENT, end=run_end(24.0, ["a note"]))
    last = made.make(ended, RUN.header, one, ALL, is_final=True, hosts=b"hosts")
    assert (first.hostname, first.rank, first.run_id) == ("nid001234", 7, "nid001234-x")
    assert [(p.number, p.is_final, p.hosts) for p in (first, last)] == [(1, False, b""), (2, True, b"hosts")]
    assert [msgspec.json.decode(p.about, type=RunFile) for p in (first, last)] == [CONTENT, ended]


def test_nothing_new_takes_no_room():
    one, made = session(), maker()
    one.add(RUN.table)
    assert made.make(CONTENT, RUN.header, one, ALL).series
    assert made.make(CONTENT, RUN.header, one, ALL).series == b""


def test_a_rank_without_a_source_tells_how_it_fares():
    part = maker().make(CONTENT, None, None)
    assert (part.number, part.sums, part.series) == (1, b"", b"")
    assert msgspec.json.decode(part.about, type=RunFile) == CONTENT


def test_rows_of_before_are_not_unpacked_again(monkeypatch):
    """After a day a part must not cost a day."""
    monkeypatch.setattr(gpu_series, "CHUNK", 16)
    one, made = session(), maker()
    *before, last = pieces(10)
    for table in before:
        one.add(table)
    made.make(CONTENT, RUN.header, one, ALL)
    one.add(last)

    def refuse(_: object) -> None:
        raise AssertionError("what was sent is unpacked")

    assert len(one.state().gpus[0].series) > 16
    with monkeypatch.context() as patch:
        patch.setattr(gpu_series, "_unpacked", refuse)
        part = made.make(CONTENT, RUN.header, one, ALL)
    assert 0 < decode_series(part.series, "part").length < 4


def test_a_part_that_fails_is_none(monkeypatch):
    """What it would have told is in the next one."""
    one, made = session(), maker()
    one.add(RUN.table)
    with monkeypatch.context() as patch:
        patch.setattr("satscore.run.part_maker.encode_series", lambda _: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            made.make(CONTENT, RUN.header, one, ALL)
    part = made.make(CONTENT, RUN.header, one, ALL)
    assert part.number == 1
    assert added([part]).same_as(expected(one, ALL))
