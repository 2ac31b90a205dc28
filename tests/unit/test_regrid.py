"""Clocks that are apart: windows laid anew are those of a node whose clock was right, to the bit."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core.job_series import merge_series
from satscore.core.readings import ReadingTable
from satscore.core.summary import Summary, encode
from satscore.run import regrid
from satscore.run.regrid import Regridder
from satscore.run.results import summarise
from satscore.run.session import Session
from tests.unit.runs import COMMAND, MODELS, NS, batches, header, simulated
from tests.unit.sim_runs import run_end, run_file, run_start

RUN = simulated("sim:gh200x4", 24)
GRID_NS = 1_790_000_000_437_000_000
AHEAD_NS = 3_200_000_000


def session(offset_ns: int) -> Session:
    return Session(RUN.header.gpus, MODELS, profile="train", dtype=None, grid_offset_ns=offset_ns)


def ahead() -> Regridder:
    """Return that of a host whose clock is ahead."""
    return Regridder(lambda correction_ns: session(GRID_NS + AHEAD_NS + correction_ns), "nid001235")


def fed(tables: Sequence[ReadingTable], offset_ns: int) -> Session:
    out = session(offset_ns)
    for table in tables:
        out.add(table)
    out.close()
    return out


def corrected(tables: Sequence[ReadingTable], offsets_ns: dict[int, int]) -> tuple[Session, Regridder]:
    """Return the closed session of the host ahead, told offsets before some of the tables, by position."""
    current, regridder = session(GRID_NS + AHEAD_NS), ahead()
    for at, table in enumerate(tables):
        if at in offsets_ns:
            current = regridder.correct(offsets_ns[at]) or current
        current.add(table)
        regridder.add(table)
    current.close()
    return current, regridder


def summary(*sessions: Session) -> Summary:
    """Return the summary of the job of these ranks, whose files have the grids of clocks that are right."""
    heads = [
        header(
            RUN.header.gpus,
            source="sim",
            scenario="sim:gh200x4",
            data_kind="simulated",
            hostname=f"nid00123{4 + i}",
            rank=i,
            grid_offset_ns=GRID_NS,
        )
        for i in range(len(sessions))
    ]
    content = run_file(run_start(COMMAND), run_end(24.0, []))
    return summarise(content, list(zip(heads, sessions, strict=True)), directory=None)


@settings(max_examples=12, deadline=None)
@given(st.integers(20, 300), st.data())
def test_windows_laid_anew_are_those_of_a_clock_that_is_right(size, data):
    tables = batches(RUN.table, size)
    at = data.draw(st.integers(0, len(tables) - 1))
    first = data.draw(st.sampled_from((None, -AHEAD_NS // 2, 99_000_000)))
    told = {at: -AHEAD_NS} | ({} if first is None or at == 0 else {at - 1: first})
    found, regridder = corrected(tables, told)
    right = fed(tables, GRID_NS)
    assert regridder.correction_ns == -AHEAD_NS
    assert regridder.note is not None
    assert regridder.note.startswith("the clock of nid001235 is 3.2 s ahead of that of rank 0: its windows were laid")
    assert encode(summary(right, found)) == encode(summary(right, right))
    for one, two in zip(found.state().gpus, right.state().gpus, strict=True):
        assert merge_series([one.series]).same_as(merge_series([two.series]))
        assert one.blocks.same_as(two.blocks)
        assert (one.sums, one.phase_sums) == (two.sums, two.phase_sums)


def test_uncorrected_they_are_others():
    """Else the test above could not fail."""
    tables = batches(RUN.table, 100)
    found, regridder = corrected(tables, {})
    assert (regridder.correction_ns, regridder.note) == (0, None)
    right = fed(tables, GRID_NS)
    assert encode(summary(right, found)) != encode(summary(right, right))


@pytest.mark.parametrize(("offset_ns", "is_made"), [(99_999_999, False), (-99_999_999, False), (100_000_000, True)])
def test_a_small_difference_is_left_alone(offset_ns, is_made):
    regridder = ahead()
    regridder.add(RUN.table)
    assert (regridder.correct(offset_ns) is not None) is is_made
    assert regridder.correction_ns == (offset_ns if is_made else 0)
    assert regridder.correct(offset_ns) is None  # it is done


def late() -> Regridder:
    """Return one whose first readings are gone."""
    regridder = ahead()
    delay_ns = round(regrid.KEPT_S * NS)
    regridder.add(RUN.table)
    regridder.add(replace(RUN.table, start_ns=RUN.table.start_ns + delay_ns, end_ns=RUN.table.end_ns + delay_ns))
    return regridder


@pytest.mark.parametrize(
    ("offset_ns", "said"),
    [
        (-AHEAD_NS, "the clock of nid001235 is 3.2 s ahead of that of rank 0"),
        (150_000_000, "the clock of nid001235 is 0.1 s behind that of rank 0"),
    ],
)
def test_too_late_is_said(offset_ns, said):
    regridder = late()
    assert regridder.correct(offset_ns) is None
    assert regridder.correction_ns == 0
    assert regridder.note is not None
    assert regridder.note.startswith(said)
    assert "do not line up" in regridder.note


def test_too_late_without_a_difference_is_nothing():
    regridder = late()
    assert regridder.correct(50_000_000) is None
    assert regridder.note is None


@pytest.mark.parametrize("told_ns", [0, -AHEAD_NS])
def test_a_clock_that_is_set_later_moves_no_window(told_ns):
    regridder = ahead()
    regridder.add(RUN.table)
    regridder.correct(told_ns)
    delay_ns = round(regrid.KEPT_S * NS)
    regridder.add(replace(RUN.table, start_ns=RUN.table.start_ns + delay_ns, end_ns=RUN.table.end_ns + delay_ns))
    assert regridder.correct(5 * NS) is None
    assert regridder.correction_ns == told_ns
    assert (regridder.note is None) is (told_ns == 0)


def test_readings_are_kept_for_a_while_only():
    regridder = late()
    assert regridder._kept == []
    regridder.add(RUN.table)
    assert regridder._kept == []
