"""Notes that the numbers of a run call for: what was missed at its start, and reads as long as windows."""

import msgspec
import pytest

from satscore.core.own_notes import start_note
from tests.unit.runs import COMMAND, measured
from tests.unit.scenes import E1
from tests.unit.sim_runs import run_end, run_start

RUN = measured([(1.0, E1)] * 10).summary().run


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"duration_s": 11.0}, None),
        ({"duration_s": 11.2}, "the first 1.2 of the command's 11.2 s are in no number"),
        ({"duration_s": 100.0, "observed_s": 95.5}, None),
        ({"duration_s": 100.0, "observed_s": 94.5}, "the first 5.5 of the command's 100.0 s are in no number"),
        ({"duration_s": 100.0, "observed_s": 0.0}, None),
        ({"duration_s": None}, None),
        ({"duration_s": 100.0, "kind": "watch"}, None),
    ],
)
def test_what_was_over_before_the_first_read_is_said(changes, told):
    note = start_note(msgspec.structs.replace(RUN, **changes))
    assert (note is None) == (told is None)
    assert told is None or (note or "").startswith(f"{told}: opening the counters")


@pytest.mark.parametrize(("kind", "said"), [("measured", True), ("simulated", False), ("replay", False)])
def test_only_of_a_measurement(kind, said):
    summary = measured([(1.0, E1)] * 10, data_kind=kind).summary(end=run_end(40.0, []))
    assert any("are in no number" in note for note in summary.notes) == said


@pytest.mark.parametrize(("read_s", "period_s", "said"), [(1.0, 0.2, True), (0.2, 1.0, False), (2.0, 2.0, True)])
def test_slow_reads_are_those_that_were_slow_whatever_was_asked_for(read_s, period_s, said):
    start = msgspec.structs.replace(run_start(COMMAND), period_s=period_s)
    notes = measured([(read_s, E1)] * 20).summary(start=start).notes
    assert [note for note in notes if note.startswith("reads of")] == (
        [f"reads of {read_s:.2g} s: no window is shorter than they are, the clock part is a lower bound"]
        if said
        else []
    )
