"""What is looked at beside the counters: evidence, so nothing of it hurts a run, and a report knows the same."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from satscore.core.host import HostInfo, HostReading, host_reading
from satscore.core.host_series import HostSeries
from satscore.core.hosts import NOT_READ
from satscore.counters import grace
from satscore.counters.both import BothSource
from satscore.counters.grace import GracePower
from satscore.counters.host.sampler import HostSampler
from satscore.counters.source import Source
from satscore.run.beside import Beside
from tests.unit.runs import header
from tests.unit.test_dcgm_select import FakeSource

NS = 1_000_000_000
READING = host_reading(0, NS, {"cpu_busy_frac": 0.5})


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> list[HostReading]:
    """Readings of a host that wait to be taken; nobody reads this machine."""
    readings: list[HostReading] = []

    def drain(_: HostSampler) -> list[HostReading]:
        taken, readings[:] = readings[:], []
        return taken

    monkeypatch.setattr(HostSampler, "start", lambda _: None)
    monkeypatch.setattr(HostSampler, "drain", drain)
    monkeypatch.setattr(HostSampler, "info", lambda _: HostInfo(cpus_count=8))
    return readings


def beside(source: Source | None = None) -> Beside:
    return Beside(source or FakeSource("gpm"), None, 1, threading.Event())


def taken(one: Beside) -> list[HostReading]:
    news = one.take(header([]))
    assert news is not None
    return news[1]


def test_a_run_too_short_for_a_reading_has_no_host_in_its_summary_either(waiting: list[HostReading]) -> None:
    """Its recording begins with the first reading: a report knows of no host before."""
    one = beside()
    assert one.hosts() is NOT_READ
    assert taken(one) == []
    assert one.hosts() is NOT_READ
    waiting.append(READING)
    assert taken(one) == [READING]
    (info,) = one.hosts().infos
    assert info.cpus_count == 8


def test_what_cannot_be_added_up_is_a_note_and_is_kept(
    waiting: list[HostReading], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(HostSeries, "append", broken)
    one = beside()
    waiting.append(READING)
    assert taken(one) == [READING]
    assert [note for note in one.notes() if "ZeroDivisionError" in note]
    assert one.hosts() is NOT_READ


class Gpm(FakeSource):
    """A source whose readings take the CPU's power from elsewhere."""

    read_w: Callable[[int], float | None] | None = None

    def use_cpu_power(self, read_w: Callable[[int], float | None]) -> None:
        self.read_w = read_w


@pytest.mark.usefixtures("waiting")
def test_of_two_sources_the_one_that_is_scored_gets_the_cpus_power(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GracePower, "read_w", lambda _, gpu: 100.0 + gpu)
    gpm, dcgm = Gpm("gpm", ["a", "b"]), Gpm("dcgm", ["b", "a"])
    beside(BothSource(gpm, dcgm))
    assert gpm.read_w is not None
    assert gpm.read_w(1) == 101.0
    assert dcgm.read_w is None
    beside(BothSource(FakeSource("gpm"), dcgm))
    assert dcgm.read_w is None


class Once:
    """A stop that ends the first wait, and tells how long that would have been."""

    waits_s: list[float]

    def __init__(self) -> None:
        self.waits_s = []

    def wait(self, timeout_s: float) -> bool:
        self.waits_s.append(timeout_s)
        return True


@pytest.mark.parametrize(("takes_s", "wait_s"), [(0.0, 1.0), (0.9, 0.1), (1.3, 0.0)])
def test_a_slow_meter_is_asked_as_often(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, takes_s: float, wait_s: float
) -> None:
    """Its value is none after 2 s: a whole period after each slow read would let it lapse again and again."""
    now_ns = [NS]

    def read_w(_: int) -> float:
        now_ns[0] += round(takes_s * NS)
        return 55.0

    monkeypatch.setattr(grace, "time", SimpleNamespace(monotonic_ns=lambda: now_ns[0]))
    monkeypatch.setattr(grace, "_read_w", read_w)
    file, stop = tmp_path / "power1_average", Once()
    file.touch()
    meter = grace._Meter(file)
    monkeypatch.setattr(meter, "_stop", stop)
    meter._run()
    assert stop.waits_s == [pytest.approx(wait_s)]
    assert meter.latest_w() == 55.0


def test_where_nobody_looks_at_the_host_there_is_none() -> None:
    one = Beside(FakeSource("gpm"), None, 1, threading.Event(), reads_host=False)
    assert one.take(header([])) is None
    assert one.hosts() is NOT_READ
    one.close()
