"""What nobody foresaw while counters are opened or read is a note, never an exception. On the fake library."""

from tests.fakes.build import fake_nvml

__all__ = ["fake_nvml"]


def test_an_unforeseen_failure_while_opening_is_a_note_and_the_next_source_is_tried(fake_nvml):
    source, notes = fake_nvml.run("""
from satscore.counters.select import open_source
asked = []
def visible(gpus):
    asked.append(len(gpus))
    if len(asked) == 1:
        raise ZeroDivisionError("broken")
    return [0]
source, notes = open_source("auto", visible)
emit([source.name, notes])
""")
    assert source == "nvml"
    assert notes == ["opening the counters failed (ZeroDivisionError('broken')); please report it"]


def test_no_source_at_all_after_unforeseen_failures(fake_nvml):
    answer = fake_nvml.run("""
from satscore.counters.select import no_pipes_reason, open_source
source, notes = open_source("auto", lambda gpus: 1 / 0)
emit([source is None, no_pipes_reason(source, notes)])
""")
    assert answer[0]
    assert answer[1].startswith("opening the counters failed (ZeroDivisionError")


def test_an_unforeseen_failure_in_the_xid_events_costs_no_reading(fake_nvml):
    readings, notes = fake_nvml.run("""
class Clock(FakeClock):
    breaks = False
    def now_ns(self):
        if self.breaks:
            self.breaks = False
            raise ZeroDivisionError("broken")
        return super().now_ns()
clock = Clock()
source = open_gpm(clock)
source.read()
clock.sleep(0.2)
clock.breaks = True
readings = source.read()
emit([[well_formed(reading) for reading in readings], source.notes()])
""")
    assert readings == [True]
    assert any("reading Xid events failed (ZeroDivisionError" in note for note in notes)
