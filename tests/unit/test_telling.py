"""What a rank tells the others, and when; nothing of that may end its scoring or cost its own files."""

import time
from typing import Any, cast

import pytest

from satscore.core.hosts import NOT_READ
from satscore.fleet.wire import LiveRank, Part
from satscore.launch.request import Identity
from satscore.run.crew import Crew
from satscore.run.recorder import Recorder
from satscore.run.scored import ScoredRank
from satscore.run.session import Session
from satscore.run.telling import FIRST_PART_S, PART_S, Telling
from tests.unit.runs import COMMAND, MODELS, simulated
from tests.unit.sim_runs import run_end, run_start

RUN = simulated("sim:gh200x4", 10)


class Others:
    """A crew that hears and says what the test wants."""

    hostname = "n0"
    run_id = "start"
    reads_host = True

    def __init__(self, rank: int = 1) -> None:
        self.identity = Identity(launcher="slurm", rank=rank, world=2, key="k")
        self.leads = rank == 0
        self.rows: list[LiveRank] = []
        self.parts: list[Part] = []
        self.is_ready = True
        self.failure: Exception | None = None

    def offset_ns(self) -> None:
        """The clock of the others is not known."""

    def tell(self, live: LiveRank) -> None:
        if self.failure:
            raise self.failure
        self.rows.append(live)

    def send(self, part: Part) -> None:
        self.parts.append(part)


@pytest.fixture
def rank() -> ScoredRank:
    def make(header: Any) -> Session:
        return Session(header.gpus, MODELS, profile="train", dtype=None, grid_offset_ns=header.grid_offset_ns)

    scored = ScoredRank(RUN.header, make, may_move=True)
    scored.add(RUN.table)
    return scored


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now_s = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    return now_s


def teller(others: Others) -> Telling:
    return Telling(cast("Crew", others), Recorder(None, with_readings=False, version="0"), run_start(COMMAND))


def test_a_row_each_time_and_a_part_a_minute_once_the_last_is_ready(rank: ScoredRank, clock: list[float]) -> None:
    others = Others()
    told = teller(others)
    told.tell(rank, None)
    assert (len(others.rows), others.parts) == (1, [])
    clock[0] += 2 * FIRST_PART_S
    told.tell(rank, None)
    told.tell(rank, None)
    assert [part.number for part in others.parts] == [1]
    clock[0] += PART_S
    others.is_ready = False
    told.tell(rank, None)
    assert len(others.parts) == 1
    others.is_ready = True
    told.tell(rank, None)
    assert [part.number for part in others.parts] == [1, 2]
    assert len(others.rows) == 5


def test_rank_0_has_the_collector_beside_it_and_sends_nothing_before_the_end(
    rank: ScoredRank, clock: list[float]
) -> None:
    others = Others(rank=0)
    told = teller(others)
    for _ in range(5):
        told.tell(rank, None)
        clock[0] += PART_S
    assert others.parts == []
    last = told.last_part(run_end(10.0, []), rank, None, NOT_READ)
    assert last is not None
    assert (last.number, last.is_final, others.rows[-1].has_ended) == (1, True, True)


def test_what_cannot_be_told_is_one_note_and_no_part(rank: ScoredRank) -> None:
    others = Others()
    others.failure = MemoryError("no room")
    told = teller(others)
    for _ in range(3):
        told.tell(rank, None)
    assert told.last_part(run_end(10.0, []), rank, None, NOT_READ) is None
    (note,) = told.notes
    assert "no room" in note


def test_a_rank_without_a_source_has_a_last_part_too() -> None:
    others = Others()
    last = teller(others).last_part(run_end(10.0, []), None, None, NOT_READ)
    assert last is not None
    assert (last.sums, last.series, others.rows) == (b"", b"", [])
