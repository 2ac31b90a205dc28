"""DCGM as a source: outages and what is said of them, restarted engines, our GPUs and their CPUs, facts, failures."""

import itertools
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from satscore.core.fields import INDEX, Quality, Reading
from satscore.core.gpu import GpuInfo
from satscore.counters.clock import ManualClock
from satscore.counters.dcgm import choice, ids
from satscore.counters.dcgm.choice import Matched, OurGpus
from satscore.counters.dcgm.client import Event
from satscore.counters.dcgm.facts import completed, info_of
from satscore.counters.dcgm.messages import BLANK_TEXT, error_of, no_bindings
from satscore.counters.dcgm.modules import cores_near
from satscore.counters.dcgm.outages import Outages
from satscore.counters.dcgm.source import DcgmSource, Entities, watch_of
from satscore.counters.dcgm.wire import BLANK, EngineCpu, EngineGpu, Failed, Samples, Value, Watching
from satscore.counters.nvml_notes import NoteBook
from satscore.errors import CounterError

MS, S = 1_000_000, 1_000_000_000
PERIOD_MS = 200
WALL_NS = 1_800_000_000 * S
"""The wall clock at 0 of the run's axis."""
NOTHING_REFUSED = Watching(refused={}, multiplexed=[])
LOST = Failed(stage="fetch", status=-21, text="dcgmEntitiesGetLatestValues: connection lost")


class FakeClient:
    """Hands over what a test has queued."""

    def __init__(self) -> None:
        self.cpu_s, self.rss_bytes = 1.5, 20_000_000
        self.queue: list[Event] = []
        self.closed = 0
        self.fails = False
        self.is_watching = True

    def poll(self) -> list[Event]:
        if self.fails:
            raise ValueError("a defect")
        events, self.queue = self.queue, []
        return events

    def close(self) -> None:
        self.closed += 1


class Bench:
    """A source of one or two H200 on a manual clock; time in ms."""

    def __init__(
        self,
        count: int = 1,
        watching: Watching = NOTHING_REFUSED,
        name: str = "NVIDIA H200",
        near: Sequence[Sequence[int]] = (),
    ) -> None:
        self.client = FakeClient()
        self.entities = Entities()
        self.infos = [GpuInfo(index=i, uuid=f"GPU-{i}", name=name) for i in range(count)]
        near_cores = itertools.chain(map(frozenset, near), itertools.repeat(frozenset()))
        matched = [Matched(10 + info.index, info, cores) for info, cores in zip(self.infos, near_cores, strict=False)]
        self.entities.update(matched)
        self.clock = ManualClock()
        self.source = DcgmSource(
            self.client,  # type: ignore[arg-type]
            watching,
            self.entities,
            self.clock,
            NoteBook(),
            address="node7:5555",
            period_s=PERIOD_MS / 1000,
        )
        self.pipe_ids = watch_of(self.entities.matched, 0.2).pipe_fields
        assert self.source.read() == []

    def fetch(self, at_ms: int, *values: Value) -> None:
        fetched_ns = at_ms * MS
        samples = Samples(
            fetched_ns=fetched_ns, wall_ns=WALL_NS + fetched_ns, cpu_s=0, rss_bytes=0, values=list(values)
        )
        self.client.queue.append(samples)

    def update(self, at_ms: int, entities: Sequence[int] = (10,), status: int = 0, ahead_ms: int = 0) -> None:
        """Queue a whole update of the engine, fetched 10 ms later."""
        stamp_us = (WALL_NS + (at_ms + ahead_ms) * MS) // 1000
        number = 0.5 if status == 0 else None
        pipes = [Value(entity, field, stamp_us, status, number) for entity in entities for field in self.pipe_ids]
        self.fetch(at_ms + 10, *pipes, *(Value(entity, 100, stamp_us, 0, 1700) for entity in entities))

    def read(self, at_ms: int) -> list[Reading]:
        self.clock.wait_until(at_ms * MS, threading.Event())
        return self.source.read()

    def run(self, first_ms: int, last_ms: int, **options: Any) -> list[Reading]:
        """An update per period, and a read after each."""
        readings = []
        for at_ms in range(first_ms, last_ms + 1, PERIOD_MS):
            self.update(at_ms, **options)
            readings += self.read(at_ms + 20)
        return readings

    def silence(self, first_ms: int, last_ms: int) -> list[Reading]:
        return [reading for at_ms in range(first_ms, last_ms + 1, PERIOD_MS) for reading in self.read(at_ms)]


def covered(readings: Sequence[Reading], gpu: int = 0) -> list[tuple[int, int]]:
    mine = [reading for reading in readings if reading.gpu == gpu]
    assert all(a.end_ns == b.start_ns for a, b in itertools.pairwise(mine))
    return [(reading.start_ns // MS, reading.end_ns // MS) for reading in mine]


def known(reading: Reading) -> bool:
    return reading.quality[INDEX["tensor_active_frac"]] == Quality.OK


def outages(bench: Bench) -> list[str]:
    return [note for note in bench.source.notes() if "nothing was read" in note]


def test_an_engine_that_ends_and_comes_back_is_told_once_with_its_times():
    bench = Bench()
    readings = bench.run(200, 1000)
    bench.client.queue.append(LOST)
    readings += bench.silence(1200, 5000)
    bench.client.queue.append(Failed(stage="connect", status=None, text="Connection refused"))
    bench.client.queue.append(NOTHING_REFUSED)
    readings += bench.run(5200, 6200)
    spans = covered(readings)
    assert (spans[0][0], spans[-1][1]) == (0, 6200)
    unknown = [reading for reading in readings if not known(reading)]
    assert {q for reading in unknown for q in reading.quality} == {Quality.ERROR}
    assert (unknown[0].start_ns, unknown[-1].end_ns) == (1000 * MS, 5000 * MS)
    (note,) = outages(bench)
    assert re.fullmatch(
        r"DCGM: nothing was read from \d\d:\d\d:\d\d to \d\d:\d\d:\d\d \(UTC\) \(host engine node7:5555: the host "
        r"engine ended or cut the connection: .* connection lost\); readings went on afterwards; restart it.*",
        note,
    )
    assert outages(bench) == []


def test_an_engine_that_stays_away_is_told_with_its_beginning():
    bench = Bench()
    bench.run(200, 1000)
    bench.client.queue.append(LOST)
    bench.silence(1200, 3000)
    (note,) = outages(bench)
    assert re.search(r"nothing was read from \d\d:\d\d:\d\d \(UTC\) on \(", note)
    assert outages(bench) == []


def test_an_engine_that_comes_back_with_samples_that_take_a_while_to_come_is_read_again():
    """Each is read 0.25 s after it was taken, when the read before it has given up its time."""
    bench = Bench()
    bench.run(200, 1000)
    bench.silence(1250, 3050)
    readings = []
    for at_ms in range(3200, 4600, PERIOD_MS):
        readings += bench.read(at_ms + 50)
        bench.update(at_ms)
    assert [known(reading) for reading in readings].count(True) >= 4


def test_time_without_an_engine_is_given_out_at_once():
    bench = Bench()
    bench.run(200, 1000)
    bench.client.queue.append(LOST)
    bench.client.is_watching = False
    (reading,) = bench.read(1200)
    assert covered([reading]) == [(1000, 1200)]
    assert set(reading.quality) == {Quality.ERROR}


def test_after_an_outage_a_new_silence_has_its_own_reason():
    bench = Bench()
    bench.run(200, 1000)
    bench.client.queue.append(LOST)
    bench.silence(1200, 2000)
    bench.run(2200, 3000)
    readings = []
    for at_ms in range(3200, 5001, PERIOD_MS):
        bench.fetch(at_ms)
        readings += bench.read(at_ms)
    assert {q for reading in readings for q in reading.quality} == {Quality.STALE}
    first, second = outages(bench)
    assert "connection lost" in first
    assert "it took no samples" in second


def test_a_reading_of_before_an_outage_does_not_end_it():
    told = Outages(ManualClock(), "host engine")
    told.begin(1000 * MS, "it ended", "restart it")
    told.end(900 * MS)
    assert " on (host engine: it ended); restart it" in told.drain()[0]


def test_part_of_an_update_before_the_failure_counts():
    bench = Bench()
    bench.run(200, 1000)
    bench.fetch(1201, Value(10, 1004, (WALL_NS + 1200 * MS) // 1000, 0, 0.5))
    bench.client.queue.append(LOST)
    (reading,) = bench.read(1210)
    assert (reading.end_ns, known(reading)) == (1200 * MS, True)


def test_what_another_engine_does_not_refuse_is_read():
    bench = Bench(watching=Watching(refused={1004: -6}, multiplexed=[]))
    assert not any(known(reading) for reading in bench.run(200, 600))
    bench.client.queue.append(NOTHING_REFUSED)
    assert all(known(reading) for reading in bench.run(800, 1000))


def test_what_came_before_the_failure_counts():
    bench = Bench()
    bench.update(200)
    bench.client.queue.append(LOST)
    assert [known(reading) for reading in bench.read(220)] == [True]
    assert "from" in bench.source.notes()[0]


def test_an_engine_that_repeats_itself_and_one_that_hangs_are_two_things():
    repeats, hangs = Bench(), Bench()
    for bench in (repeats, hangs):
        bench.run(200, 1000)
    for at_ms in range(1200, 3001, PERIOD_MS):
        repeats.fetch(at_ms)
        late, gone = repeats.read(at_ms), hangs.read(at_ms)
        if at_ms > 2100:
            assert [set(reading.quality) for reading in late] == [{Quality.STALE}]
            assert [set(reading.quality) for reading in gone] == [{Quality.ERROR}]
    assert "it took no samples" in repeats.source.notes()[0]
    assert "it did not answer" in hangs.source.notes()[0]


def test_the_reason_of_the_failure_wins_over_mere_silence():
    bench = Bench()
    bench.run(200, 1000)
    bench.silence(1200, 3000)
    bench.client.queue.append(Failed(stage="fetch", status=None, text="no answer for 3 s"))
    bench.silence(3200, 4200)
    (note,) = outages(bench)
    assert "no answer for 3 s" in note


def test_a_restarted_engine_may_number_its_gpus_otherwise():
    bench = Bench(2)
    first = bench.run(200, 600, entities=(10, 11))
    bench.client.queue.append(LOST)
    bench.read(800)
    bench.entities.update([Matched(5, bench.infos[1]), Matched(11, bench.infos[0])])
    bench.client.queue.append(NOTHING_REFUSED)
    bench.update(2000, entities=(5,))
    more = bench.read(2020)
    assert {reading.gpu for reading in first} == {0, 1}
    assert {reading.gpu for reading in more if known(reading)} == {1}


def test_one_gpu_without_samples_is_named_and_the_others_go_on():
    bench = Bench(2)
    readings = bench.run(200, 3000)
    assert covered(readings, 0)[-1][1] == 3000
    assert all(known(reading) == (reading.gpu == 0) for reading in readings)
    assert any(note.startswith("GPU 1: DCGM took no samples") for note in bench.source.notes())


def test_blank_pipe_counters_are_told_after_five_seconds():
    bench = Bench()
    bench.run(200, 4800, status=BLANK)
    assert BLANK_TEXT not in bench.source.notes()
    bench.run(5000, 6000, status=BLANK)
    assert BLANK_TEXT in bench.source.notes()


@pytest.mark.parametrize(("step_us", "told"), [(None, False), (200_100, False), (160_000, False), (50_000, True)])
def test_an_engine_that_another_client_has_sample_more_often_is_told(step_us, told):
    bench = Bench()
    bench.update(200)
    bench.client.queue = [msgspec.structs.replace(bench.client.queue[0], step_us=step_us)]
    bench.read(220)
    assert any("every 0.05 s" in note and "0.2 s" in note for note in bench.source.notes()) == told


def test_another_clock_is_told_once_and_nothing_is_lost():
    bench = Bench()
    readings = bench.run(200, 2000, ahead_ms=60_000)
    assert all(known(reading) for reading in readings)
    assert covered(readings)[-1][1] == 2010, "its stamps count from when they came"
    assert [note for note in bench.source.notes() if "60.0 s ahead of" in note]
    assert bench.source.notes() == []


def test_refused_fields_and_turns_are_told():
    bench = Bench(2, Watching(refused={1015: -6, 1005: -29}, multiplexed=[11]))
    assert [gpu.pipes_multiplexed for gpu in bench.source.gpus] == [False, True]
    bench.run(200, 400, entities=(10, 11))
    notes = bench.source.notes()
    assert any(note.startswith("GPU 1: the hardware cannot count all pipe counters at once") for note in notes)
    assert any(note.startswith("GPU 0-1: tensor_dfma_active_frac: not supported") for note in notes)
    assert any(note.startswith("GPU 0-1: dram_active_frac: no permission") for note in notes)


def test_links_between_gpu_and_cpu_are_watched_on_a_superchip_only():
    assert not {1076, 1078} & set(Bench().pipe_ids)
    assert {1076, 1078} <= set(Bench(name="NVIDIA GH200 120GB").pipe_ids)


# Power of CPUs and modules.

GH200 = "NVIDIA GH200 120GB"
CPU_W, MODULE_W = ids.CPU_POWER, ids.MODULE_POWER


def cores(module: int) -> list[int]:
    return list(range(72 * module, 72 * module + 72))


class ModuleBench(Bench):
    """A source of GPUs with a CPU each; the engine counts its CPUs the other way around, by the same numbers."""

    def __init__(
        self, count: int = 4, refused: dict[int, int] | None = None, near: list[list[int]] | None = None
    ) -> None:
        self.cpus = [EngineCpu(entity=10 + i, cores=cores(count - 1 - i)) for i in range(count)]
        near = [cores(i) for i in range(count)] if near is None else near
        watching = Watching(refused=refused or {}, multiplexed=[], cpus=self.cpus)
        super().__init__(count, watching, GH200, near)
        self.at = [10 + i for i in range(count)]

    def sample_cpus(self, at_ms: int, cpu_w: float = 100.0, module_w: float = 600.0) -> None:
        """Queue a sample of each CPU: so many watts, and 1 W more for each module."""
        stamp_us = (WALL_NS + at_ms * MS) // 1000
        for i in range(len(self.cpus)):
            module = len(self.cpus) - 1 - i
            values = {CPU_W: cpu_w + module, MODULE_W: module_w + module}
            self.fetch(at_ms, *[Value(10 + i, field, stamp_us, 0, power_w) for field, power_w in values.items()])

    def watts(self, at_ms: int, field: str = "power_cpu_w") -> list[float | Quality]:
        """End an interval of each GPU; return what the field is, or why it is unknown."""
        ended = {reading.gpu: reading for reading in self.run(at_ms, at_ms, entities=self.at)}
        told = [(reading.values[INDEX[field]], Quality(reading.quality[INDEX[field]])) for reading in ended.values()]
        assert list(ended) == list(range(len(self.at)))
        return [value if reason == Quality.OK else reason for value, reason in told]


def test_each_gpu_has_the_power_of_its_own_module():
    bench = ModuleBench()
    bench.sample_cpus(100)
    assert bench.watts(200) == [100, 101, 102, 103]
    assert bench.watts(400, "power_module_w") == [600, 601, 602, 603]
    assert bench.source.labels()[1] == "GPU 1: host engine node7:5555, its GPU 11; power of CPU and module: its CPU 12"
    assert bench.source.notes() == []


def test_a_restarted_engine_may_call_its_cpus_otherwise():
    bench = ModuleBench(2)
    bench.sample_cpus(100)
    bench.watts(200)
    renamed = [EngineCpu(entity=11 - i, cores=cpu.cores) for i, cpu in enumerate(bench.cpus)]
    bench.client.queue.append(Watching(refused={}, multiplexed=[], cpus=renamed))
    assert bench.watts(400) == [Quality.BLANK] * 2, "what the CPU of that name drew before is not known to be its"
    stamp_us = (WALL_NS + 500 * MS) // 1000
    bench.fetch(500, Value(10, CPU_W, stamp_us, 0, 70.0), Value(11, CPU_W, stamp_us, 0, 80.0))
    assert bench.watts(600) == [70, 80]


def test_the_sample_of_a_cpu_counts_that_was_the_last_one_then():
    bench = ModuleBench(1)
    bench.sample_cpus(100, cpu_w=50)
    bench.sample_cpus(390, cpu_w=70)
    bench.update(200, (10,))
    bench.update(400, (10,))
    powers = [reading.values[INDEX["power_cpu_w"]] for reading in bench.read(420)]
    assert powers == [50, 70]


def test_an_old_sample_of_a_cpu_says_nothing():
    bench = ModuleBench(1)
    bench.sample_cpus(100)
    told = [bench.watts(at_ms)[0] for at_ms in range(200, 3601, PERIOD_MS)]
    assert told == [100] * 15 + [Quality.STALE] * 3, "3.1 s are too old"


@pytest.mark.parametrize("near", [
    [[], []],
    [cores(0) + cores(1), cores(0) + cores(1)],
    [[900], [901]],
])  # fmt: skip
def test_a_cpu_that_is_not_known_to_be_the_gpus_is_not_taken(near):
    bench = ModuleBench(2, near=near)
    bench.sample_cpus(100)
    assert bench.watts(200) == [Quality.NOT_READ] * 2
    assert bench.watts(400, "power_module_w") == [Quality.NOT_READ] * 2
    (note,) = bench.source.notes()
    assert note.startswith("GPU 0-1: which of the host engine's CPUs shares the module is not known")
    assert "CPU" not in bench.source.labels()[0]


def test_one_that_is_not_known_costs_the_others_nothing():
    bench = ModuleBench(2, near=[[], cores(1)])
    bench.sample_cpus(100)
    assert bench.watts(200) == [Quality.NOT_READ, 101]
    assert bench.source.notes()[0].startswith("GPU 0: which of")


@pytest.mark.parametrize(("status", "value", "reason"), [
    (0, 0.0, Quality.NOT_SUPPORTED),
    (BLANK, None, Quality.BLANK),
    (-17, None, Quality.NO_PERMISSION),
    (0, 5001.0, Quality.OUT_OF_RANGE),
])  # fmt: skip
def test_a_cpu_whose_meter_tells_nothing_is_unknown_or_read_elsewhere(status, value, reason):
    bench = ModuleBench(1)
    for at_ms in (100, 3500):
        stamp_us = (WALL_NS + at_ms * MS) // 1000
        bench.fetch(at_ms, *[Value(10, field, stamp_us, status, value) for field in (CPU_W, MODULE_W)])
        assert bench.watts(at_ms + 100) == [reason]
    bench.source.use_cpu_power(lambda gpu: 130.0 + gpu)
    assert bench.watts(3800) == [130]
    assert bench.watts(4000, "power_module_w") == [reason]
    bench.source.use_cpu_power(lambda gpu: None)
    assert bench.watts(4200) == [reason]


def test_the_engines_own_value_comes_first_and_it_has_time_for_it():
    bench, asked = ModuleBench(1), []

    def read_w(gpu: int) -> float:
        asked.append(gpu)
        return 130.0

    bench.source.use_cpu_power(read_w)
    told = [bench.watts(at_ms)[0] for at_ms in range(200, 3401, PERIOD_MS)]
    assert told == [Quality.BLANK] * 15 + [130] * 2
    bench.sample_cpus(3500)
    assert bench.watts(3600) == [100]
    assert asked == [0, 0]


def test_an_engine_without_cpus_leaves_them_to_whoever_reads_them_here():
    bench = ModuleBench(2)
    bench.client.queue.append(NOTHING_REFUSED)
    assert bench.watts(200) == [Quality.NOT_READ] * 2
    read = {0: 130.0, 1: None}
    bench.source.use_cpu_power(read.get)
    assert bench.watts(400) == [130, Quality.BLANK]
    assert bench.watts(600, "power_module_w") == [Quality.NOT_READ] * 2
    assert bench.source.notes() == []


def test_a_field_of_cpus_that_is_refused_is_told():
    bench = ModuleBench(2, {MODULE_W: -29})
    bench.sample_cpus(100)
    assert bench.watts(200) == [100, 101]
    assert bench.watts(400, "power_module_w") == [Quality.NO_PERMISSION] * 2
    assert [note for note in bench.source.notes() if note.startswith("GPU 0-1: power_module_w: no permission")]


def test_cpus_are_asked_for_on_a_superchip_only():
    assert watch_of(Bench().entities.matched, 0.2).cpu_fields == []
    watch = watch_of(ModuleBench().entities.matched, 0.2)
    assert (watch.cpu_fields, watch.cpu_period_us) == ([1130, 1133], 1_000_000)
    assert watch_of(ModuleBench().entities.matched, 5.0).cpu_period_us == 5_000_000
    plain = Bench()
    plain.source.use_cpu_power(lambda gpu: 130.0)
    (reading,) = plain.run(200, 200)
    assert reading.quality[INDEX["power_cpu_w"]] == Quality.NOT_READ


def affinity(*words: int | str) -> EngineGpu:
    return EngineGpu(entity=0, static=dict(zip(ids.CPU_AFFINITY, words, strict=False)))


@pytest.mark.parametrize(("words", "expected"), [
    ((-1, 255, 0, 0), range(72)),
    ((0, -256, 65535, 0), range(72, 144)),
    ((0, 0, 0, -16777216), range(216, 256)),
    ((0, 0, 0, 0), ()),
    ((-1, 255, 0), ()),
    ((-1, 255, 0, "?"), ()),
    ((), ()),
])  # fmt: skip
def test_the_cores_near_a_gpu(words, expected):
    assert cores_near(affinity(*words).static) == set(expected)


def test_a_defect_hurts_nobody():
    bench = Bench()
    bench.client.fails = True
    assert bench.read(200) == []
    assert any("please report it" in note for note in bench.source.notes())


def test_closing_twice_is_closing_once():
    bench = Bench()
    bench.source.close()
    bench.source.close()
    assert bench.client.closed == 1
    assert bench.source.read() == []
    assert bench.source.helper_cost() == (1.5, 20_000_000)


H200: dict[int, Any] = {
    1: "580.65.06", 5: 13000, 50: "NVIDIA H200", 52: 1, 54: "GPU-1", 57: "00000000:02:00.0", 58: 590680286,
    63: (9 << 16), 67: 0, 113: 1980, 114: 3201, 158: 87, 160: 650, 164: 700, 235: 5, 236: 16, 250: 143771,
    393: 1, 394: 2, 395: 0, 396: 1, 70: -1, 71: 255, 72: 0, 73: 0,
}  # fmt: skip


def test_the_facts_of_a_gpu():
    assert set(H200) == set(ids.STATIC_IDS)
    assert info_of(EngineGpu(entity=1, static=H200), 0) == GpuInfo(
        index=0,
        nvml_index=1,
        uuid="GPU-1",
        name="NVIDIA H200",
        pci_bus_id="00000000:02:00.0",
        pci_device_id=590680286,
        memory_total_bytes=143771 << 20,
        sm_clock_max_mhz=1980.0,
        mem_clock_max_mhz=3201.0,
        compute_capability=(9, 0),
        power_limit_gpu_w=700.0,
        mig_enabled=False,
        driver_version="580.65.06",
        cuda_driver_version="13.0",
        temp_slowdown_c=87.0,
        pcie_generation_max=5,
        pcie_lanes_max_count=16,
        remapped_rows_count=3,
        remap_pending=True,
        remap_failed=False,
    )


def test_a_fact_that_is_not_told_is_unknown():
    empty = info_of(EngineGpu(entity=0, static={}), 0)
    assert empty == GpuInfo(index=0)
    odd = info_of(EngineGpu(entity=0, static={50: "", 113: 0, 58: 0xFFFF_FFFF, 164: 1e9, 250: 0}), 0)
    assert odd == GpuInfo(index=0)


def test_what_nvml_knows_wins_and_the_engine_fills_in():
    known_info = GpuInfo(index=4, name="NVIDIA H200", sm_count=132, power_limit_gpu_w=600.0)
    both = completed(known_info, info_of(EngineGpu(entity=1, static=H200), 0))
    assert (both.sm_count, both.power_limit_gpu_w, both.temp_slowdown_c) == (132, 600.0, 87.0)


def engine_gpus(*uuids: str) -> list[EngineGpu]:
    return [EngineGpu(entity=10 + i, static={54: uuid, 52: i, 50: "X"}) for i, uuid in enumerate(uuids)]


@pytest.fixture(name="without_nvml")
def _without_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> None:
        raise CounterError("no driver")

    monkeypatch.setattr(choice, "load", load)


@pytest.fixture(name="with_nvml")
def _with_nvml(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    class Api:
        def close(self) -> None: ...

    def shows(*uuids: str) -> None:
        found = [choice_found(index, GpuInfo(index=index, uuid=uuid, sm_count=132)) for index, uuid in enumerate(uuids)]
        monkeypatch.setattr(choice, "load", Api)
        monkeypatch.setattr(choice, "read_driver", lambda api: None)
        monkeypatch.setattr(choice, "find_gpus", lambda api, driver: (found, {} if found else {0: 4}))

    return shows


def choice_found(index: int, info: GpuInfo) -> Any:
    class Found:
        nvml_index = index

    Found.info = info  # type: ignore[attr-defined]
    return Found


def test_without_nvml_the_engines_gpus_are_chosen_from(without_nvml):
    seen: list[list[GpuInfo]] = []

    def visible(infos: list[GpuInfo]) -> list[int]:
        seen.append(infos)
        return [2, 0]

    gpus = OurGpus(visible, NoteBook())
    matched = gpus.match(engine_gpus("GPU-a", "GPU-b", "GPU-c"), None)
    assert [(each.entity, each.info.index, each.info.uuid) for each in matched] == [(12, 0, "GPU-c"), (10, 1, "GPU-a")]
    again = gpus.match(engine_gpus("GPU-c", "GPU-x", "GPU-a"), None)
    assert [(each.entity, each.info.index) for each in again] == [(10, 0), (12, 1)]
    assert len(seen) == 1, "once chosen, the UUIDs hold"


def test_the_cores_near_our_gpus_come_with_them(with_nvml):
    with_nvml("GPU-b")
    words = dict(zip(ids.CPU_AFFINITY, (0, -256, 65535, 0), strict=True))
    theirs = [msgspec.structs.replace(gpu, static=gpu.static | words) for gpu in engine_gpus("GPU-a", "GPU-b")]
    (matched,) = OurGpus(None, NoteBook()).match(theirs, None)
    assert matched.cores == set(cores(1))


def test_with_nvml_its_gpus_are_ours_and_its_facts_are_kept(with_nvml):
    with_nvml("GPU-c", "GPU-a")
    matched = OurGpus(None, NoteBook()).match(engine_gpus("GPU-a", "GPU-b", "GPU-c"), None)
    assert [(each.entity, each.info.index, each.info.nvml_index) for each in matched] == [(12, 0, 0), (10, 1, 1)]
    assert matched[0].info.sm_count == 132


def test_a_gpu_that_the_engine_does_not_know_is_left_out_and_named(with_nvml):
    with_nvml("GPU-z", "GPU-a")
    notes = NoteBook()
    matched = OurGpus(None, notes).match(engine_gpus("GPU-a"), None)
    assert [(each.entity, each.info.index, each.info.nvml_index) for each in matched] == [(10, 0, 1)]
    assert any("GPU-z" in note for note in notes.drain())


def test_a_gpu_that_a_restarted_engine_does_not_know_any_more_is_named(with_nvml):
    with_nvml("GPU-z", "GPU-a")
    notes = NoteBook()
    gpus = OurGpus(None, notes)
    gpus.match(engine_gpus("GPU-z", "GPU-a"), None)
    assert notes.drain() == []
    assert [each.info.index for each in gpus.match(engine_gpus("GPU-a"), None)] == [1]
    assert any("GPU-z" in note for note in notes.drain())


def test_an_engine_of_other_gpus_is_an_error_that_names_both(with_nvml):
    with_nvml("GPU-z")
    with pytest.raises(CounterError) as caught:
        OurGpus(None, NoteBook()).match(engine_gpus("GPU-a", "GPU-b"), "node8:5555")
    assert all(word in caught.value.message for word in ("node8:5555", "GPU-a", "GPU-b", "GPU-z"))
    assert "--dcgm" in caught.value.hint


def test_no_gpu_of_ours_at_all(with_nvml):
    with_nvml("GPU-a")
    with pytest.raises(CounterError, match="belongs to this process"):
        OurGpus(lambda infos: [], NoteBook())
    with_nvml()
    with pytest.raises(CounterError, match="no permission"):
        OurGpus(None, NoteBook())


@pytest.mark.parametrize(("stage", "status", "words", "remedy"), [
    ("watch", -33, "profiling module is not loaded", "datacenter-gpu-manager-4-proprietary"),
    ("watch", -36, "not supported on this GPU", "--source nvml"),
    ("watch", -17, "no permission", "NVreg_RestrictProfilingToAdminUsers=0"),
    ("watch", -29, "no permission", "root"),
    ("watch", -34, "held by another profiler", "dcgmi profile --resume"),
    ("watch", -54, "paused", "dcgmi profile --resume"),
    ("watch", -37, "profiling library", "nv-hostengine.log"),
    ("watch", -38, "count these fields together", "update"),
    ("watch", -56, "without the NVIDIA driver", "nvidia-smi"),
    ("library", -25, "was not found", "LD_LIBRARY_PATH"),
    ("connect", -12, "different major versions", "SATSCORE_DCGM_BINDINGS"),
    ("connect", None, "no host engine answers", "--dcgm HOST:PORT"),
    ("connect", -21, "no host engine answers", "--dcgm HOST:PORT"),
    ("fetch", -21, "ended or cut the connection", "restart"),
    ("fetch", -11, "in time", "restart"),
    ("bindings", None, "cannot be imported", "SATSCORE_DCGM_BINDINGS"),
    ("gpus", -3, "no GPU", "dcgmi discovery"),
    ("watch", -99, "does not watch", "dcgmi dmon"),
    ("defect", None, "own process", "report"),
    ("died", None, "process that reads DCGM ended", "dmesg"),
    ("something new", None, "own process", "report"),
])  # fmt: skip
def test_every_failure_has_one_text_and_a_remedy(stage, status, words, remedy):
    error = error_of(Failed(stage=stage, status=status, text="said the library"), "node7:5555")
    assert error.message.startswith("DCGM, host engine node7:5555: ")
    assert words in error.message
    assert "said the library" in error.message
    assert remedy in error.hint


def test_absent_bindings_have_a_remedy():
    assert "SATSCORE_DCGM_BINDINGS" in no_bindings().hint
    assert msgspec.json.encode(no_bindings().message)
