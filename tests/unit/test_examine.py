"""How doctor reads a source: lateness is the timer's alone, and a recording has the cap of its own site."""

import threading

import msgspec

from satscore.core.diagnosis import SourceFinding
from satscore.counters.clock import ManualClock
from satscore.run import examine
from tests.unit.runs import H200_INFO, measured
from tests.unit.scenes import E1
from tests.unit.sim_runs import run_end
from tests.unit.test_session import record


class SlowSource:
    """A driver that takes half a second for each read."""

    name = "slow"

    def __init__(self) -> None:
        self.clock = ManualClock()

    def read(self) -> list[object]:
        """Take the time of a read."""
        self.clock.wait_until(self.clock.now_ns() + 500_000_000, threading.Event())
        return []


def test_the_time_of_slow_reads_is_no_lateness_of_the_timer():
    _, timing = examine._read(SlowSource(), 0.1, lambda _: None)  # type: ignore[arg-type]
    assert timing.read_mean_s == 0.5
    assert timing.timer_late_max_s == 0


def test_a_recording_has_the_cap_of_its_own_site(tmp_path, monkeypatch):
    info = msgspec.structs.replace(H200_INFO, power_limit_module_w=1000.0)
    run = measured([(0.2, E1)] * 10, gpus=[info])
    record(tmp_path / "run", run, batch=5, end=run_end(2.0, []))
    monkeypatch.setenv("SATSCORE_MODULE_CAP_W", "much")
    data = examine.examine("replay", f"replay:{tmp_path / 'run'}", lambda _: None)
    found = msgspec.json.decode(data, type=SourceFinding).examined
    assert found is not None
    assert not any("SATSCORE_MODULE_CAP_W" in note for note in found.notes)
