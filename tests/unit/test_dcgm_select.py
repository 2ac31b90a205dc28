"""Which source is opened, what is said where one is missing, and two sources compared."""

import threading
from collections.abc import Sequence

import pytest

from satscore.core.fields import Quality, Reading, blank_reading, put, put_missing
from satscore.core.gpu import GpuInfo
from satscore.counters import both, select
from satscore.counters.clock import Clock, ManualClock
from satscore.counters.dcgm import opening
from satscore.counters.select import no_pipes_reason, open_source
from satscore.counters.source import Source, SourceKind
from satscore.errors import CounterError

S = 1_000_000_000


class FakeSource:
    """A source that hands over what a test gives it."""

    kind: SourceKind = "measured"
    grid_offset_ns: int | None = None

    def __init__(self, name: str, uuids: Sequence[str] = ("GPU-a",), *, has_pipe_counters: bool = True) -> None:
        self.name = name
        self.has_pipe_counters = has_pipe_counters
        self.gpus = tuple(GpuInfo(index=i, uuid=uuid) for i, uuid in enumerate(uuids))
        self.clock: Clock = ManualClock()
        self.next: list[Reading] = []
        self.closed = False

    def read(self) -> list[Reading]:
        readings, self.next = self.next, []
        return readings

    def processes(self) -> dict[str, list[int]] | None:
        return {self.name: []}

    def helper_cost(self) -> tuple[float, int]:
        return (2.0, 3) if self.name == "dcgm" else (0.0, 0)

    def notes(self) -> list[str]:
        return [f"a note of {self.name}"]

    def close(self) -> None:
        self.closed = True


class Here:
    """What works on this machine; ``asked`` has what was tried, in this order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *working: str, bindings: bool = True) -> None:
        self.asked: list[str] = []
        self.options: dict[str, object] = {}

        def opener(name: str):
            def open_it(*_: object, **options: object) -> Source:
                self.asked.append(name)
                self.options = options
                if name not in working:
                    raise CounterError(f"{name.upper()}: not here", hint=f"the remedy of {name}")
                return FakeSource(name, has_pipe_counters=name != "nvml")

            return open_it

        monkeypatch.setattr(select, "open_gpm", opener("gpm"))
        monkeypatch.setattr(select, "open_nvml", opener("nvml"))
        monkeypatch.setattr(opening, "open_dcgm", opener("dcgm"))
        monkeypatch.setattr(
            "satscore.counters.dcgm.bindings.binding_folders", lambda environ: ["/b"] if bindings else []
        )

    def open(self, wanted: str, **options) -> tuple[str | None, list[str]]:
        source, notes = open_source(wanted, **options)
        return source.name if source else None, notes


def test_auto_takes_gpm_and_looks_for_nothing_else(monkeypatch):
    here = Here(monkeypatch, "gpm", "dcgm", "nvml")
    assert here.open("auto") == ("gpm", [])
    assert here.asked == ["gpm"]


def test_auto_takes_dcgm_before_mere_gauges(monkeypatch):
    here = Here(monkeypatch, "dcgm", "nvml")
    assert here.open("auto") == ("dcgm", [])  # why GPM is not there is no news
    assert here.asked == ["gpm", "dcgm"]


def test_auto_without_bindings_does_not_speak_of_dcgm(monkeypatch):
    here = Here(monkeypatch, "nvml", bindings=False)
    assert here.open("auto") == ("nvml", ["GPM: not here; the remedy of gpm"])
    assert here.asked == ["gpm", "nvml"]


def test_auto_with_an_engine_named_says_what_is_wrong_with_it(monkeypatch):
    here = Here(monkeypatch, "nvml", bindings=False)
    _, notes = here.open("auto", dcgm="node7:5555")
    assert here.asked == ["gpm", "dcgm", "nvml"]
    assert notes[0] == "DCGM: not here; the remedy of dcgm"


def test_what_dcgm_lacks_is_the_reason_for_no_score_where_the_gpus_are_there(monkeypatch):
    Here(monkeypatch, "nvml")
    source, notes = open_source("auto")
    assert no_pipes_reason(source, notes) == "DCGM: not here; the remedy of dcgm"


def test_without_any_gpu_the_driver_comes_first(monkeypatch):
    assert Here(monkeypatch).open("auto")[1][0] == "GPM: not here; the remedy of gpm"


def test_dcgm_alone_falls_back_to_nothing(monkeypatch):
    here = Here(monkeypatch, "gpm", "nvml")
    assert here.open("dcgm", dcgm="n:1", period_s=0.5) == (None, ["DCGM: not here; the remedy of dcgm"])
    stop = here.options.pop("stop")
    assert isinstance(stop, threading.Event)
    assert here.options == {"address": "n:1", "period_s": 0.5}


def test_wrong_bindings_are_a_reason_and_no_exception(monkeypatch):
    here = Here(monkeypatch, "nvml")

    def refuse(environ: object) -> None:
        raise CounterError("SATSCORE_DCGM_BINDINGS names /x")

    monkeypatch.setattr("satscore.counters.dcgm.bindings.binding_folders", refuse)
    source, notes = here.open("auto")
    assert source == "nvml"
    assert "SATSCORE_DCGM_BINDINGS names /x" in notes


@pytest.mark.parametrize(("working", "name", "words"), [
    (("gpm",), "gpm", "there is only GPM"), (("dcgm",), "dcgm", "there is only DCGM"), ((), None, "GPM: not here"),
])  # fmt: skip
def test_both_with_one_of_them_missing(monkeypatch, working, name, words):
    found, notes = Here(monkeypatch, *working).open("both")
    assert found == name
    assert any(words in note for note in notes)


def reading(start_s: float, end_s: float, tensor: float, gpu: int = 0) -> Reading:
    made = blank_reading(gpu, round(start_s * S), round(end_s * S))
    put(made, "tensor_active_frac", tensor)
    return made


def pair() -> tuple[both.BothSource, FakeSource, FakeSource]:
    gpm, dcgm = FakeSource("gpm", ("GPU-a", "GPU-b")), FakeSource("dcgm", ("GPU-b", "GPU-x", "GPU-a"))
    return both.BothSource(gpm, dcgm), gpm, dcgm


def test_both_returns_gpms_readings_and_compares_over_common_time():
    source, gpm, dcgm = pair()
    gpm.next = [reading(0, 1, 0.4), reading(1, 2, 0.6), reading(2, 3, 0.9)]
    dcgm.next = [reading(0.5, 1.5, 0.5, gpu=2), reading(1.5, 2, 0.7, gpu=2)]
    assert [r.end_ns // S for r in source.read()] == [1, 2, 3]
    dcgm.next = [reading(2, 2.5, 1.0, gpu=2)]
    source.read()
    (row,) = source.comparison()
    assert (row.gpu_index, row.field, row.common_s) == (0, "tensor_active_frac", 2.0)
    assert row.mean_gpm == pytest.approx((0.4 * 0.5 + 0.6 + 0.9 * 0.5) / 2)
    assert row.mean_dcgm == pytest.approx((0.5 + 0.7 * 0.5 + 1.0 * 0.5) / 2)
    assert row.difference == pytest.approx(row.mean_dcgm - row.mean_gpm)


def test_what_one_of_them_does_not_know_is_not_compared():
    source, gpm, dcgm = pair()
    unknown = reading(0, 1, 0.4)
    put_missing(unknown, "tensor_active_frac", Quality.BLANK)
    put(unknown, "dram_active_frac", 0.2)
    gpm.next, dcgm.next = [unknown], [reading(0, 1, 0.5, gpu=2)]
    source.read()
    assert source.comparison() == []
    assert "no second in common" in source.notes()[-1]


def test_the_note_names_the_largest_difference():
    source, gpm, dcgm = pair()
    for gpu, other, value in ((0, 2, 0.5), (1, 0, 0.3)):
        gpm.next.append(reading(0, 10, 0.52, gpu=gpu))
        dcgm.next.append(reading(0, 10, value, gpu=other))
    source.read()
    assert source.notes()[:2] == ["a note of gpm", "a note of dcgm"]
    assert source.notes()[2] == (
        "GPM and DCGM over 10 s in common: the largest difference of a share is tensor_active_frac of GPU 1: "
        "0.520 by GPM, 0.300 by DCGM"
    )


def test_one_that_stays_away_costs_no_memory():
    source, gpm, _ = pair()
    for second in range(6000):
        gpm.next = [reading(second, second + 1, 0.5)]
        source.read()
    waiting = next(iter(source._comparisons.values()))._gpm
    assert len(waiting) <= 4096


def test_closing_and_cost_are_of_both():
    source, gpm, dcgm = pair()
    assert source.helper_cost() == (2.0, 3)
    assert source.processes() == {"gpm": []}
    source.close()
    assert gpm.closed
    assert dcgm.closed
