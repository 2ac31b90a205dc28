"""DCGM as a source of readings: a host engine, read through a process of our own (worker.py).

A sample belongs to the time that the engine stamped on it, so one ``read`` may bring no reading of a GPU or
several. Time in which the engine did not answer is unknown, and a note says from when to when, and why.
"""

from collections.abc import Callable, Sequence

import msgspec

from satscore.core.fields import Quality, Reading
from satscore.core.gpu import GpuInfo
from satscore.core.units import NS_PER_S, NS_PER_US, US_PER_S
from satscore.counters.clock import Clock
from satscore.counters.dcgm import ids
from satscore.counters.dcgm.axis import EngineAxis
from satscore.counters.dcgm.choice import Matched
from satscore.counters.dcgm.client import Client
from satscore.counters.dcgm.gauges import Sample
from satscore.counters.dcgm.intervals import GpuIntervals
from satscore.counters.dcgm.messages import FAST_SHARE, fast_text, meaning, reason, where
from satscore.counters.dcgm.misses import Misses
from satscore.counters.dcgm.modules import Modules
from satscore.counters.dcgm.outages import Outages
from satscore.counters.dcgm.wire import Failed, Samples, Watch, Watching
from satscore.counters.nvml_notes import NoteBook, gpu_list
from satscore.counters.nvml_processes import compute_processes
from satscore.counters.nvml_scopes import is_superchip
from satscore.counters.source import SourceKind


def watch_of(matched: Sequence[Matched], period_s: float) -> Watch:
    """Return what to read of the GPUs of a run."""
    return Watch(
        entities=[each.entity for each in matched],
        pipe_fields=[pipe.id for pipe in _pipes([each.info for each in matched])],
        other_fields=ids.other_ids(),
        period_us=round(period_s * US_PER_S),
        cpu_fields=sorted(ids.CPU_IDS) if _has_modules(matched) else [],
        cpu_period_us=round(_cpu_period_s(period_s) * US_PER_S),
    )


def _has_modules(matched: Sequence[Matched]) -> bool:
    return any(is_superchip(each.info.name) for each in matched)


def _cpu_period_s(period_s: float) -> float:
    return max(ids.CPU_PERIOD_S, period_s)


def _pipes(gpus: Sequence[GpuInfo]) -> tuple[ids.PipeField, ...]:
    return ids.pipe_fields(superchip=any(is_superchip(gpu.name) for gpu in gpus))


class Entities:
    """The engine's ids of the run's GPUs, which a restarted engine may change."""

    def __init__(self) -> None:
        self.matched: list[Matched] = []
        self.places: dict[int, int] = {}
        """The place in the run of each of the engine's GPUs that are ours."""

    def update(self, matched: list[Matched]) -> None:
        """Take what an engine calls them."""
        self.matched = matched
        self.places = {each.entity: each.info.index for each in matched}


class DcgmSource:
    """Pipe counters, clocks, power, energy, temperatures and errors by DCGM, and the power of CPU and module.

    Args:
        client: It is watching.
        watching: What it said then.
        entities: The GPUs of the run; kept up to date by whoever arms the client.
        clock: The run's clock.
        notes: What could not be read.
        address: Of the engine, or None: it is inside the process that reads.
        period_s: Time between samples, s.
    """

    name = "dcgm"
    kind: SourceKind = "measured"
    has_pipe_counters = True

    def __init__(
        self,
        client: Client,
        watching: Watching,
        entities: Entities,
        clock: Clock,
        notes: NoteBook,
        *,
        address: str | None,
        period_s: float,
    ) -> None:
        self.clock = clock
        self.grid_offset_ns: int | None = None
        turns = set(watching.multiplexed)
        self.gpus = tuple(
            msgspec.structs.replace(each.info, pipes_multiplexed=each.entity in turns) for each in entities.matched
        )
        self._client = client
        self._entities = entities
        self._notes = notes
        self._place = where(address)
        self._outages = Outages(clock, self._place)
        self._period_ns = period_ns = round(period_s * NS_PER_S)
        self._axis = EngineAxis(period_ns)
        self._away = Quality.STALE
        self._failed: Failed | None = None
        """Why the last attempt ended, until samples come again."""
        self._heard_ns = clock.now_ns()
        self._begun = self._closed = False
        self._refused: dict[int, int] = {}
        misses = {gpu.index: Misses(gpu.index, notes) for gpu in self.gpus}
        self._modules = Modules(
            {gpu.index: misses[gpu.index] for gpu in self.gpus if is_superchip(gpu.name)},
            self._refused,
            round(_cpu_period_s(period_s) * NS_PER_S),
        )
        self._arm(watching)
        pipes = _pipes(self.gpus)
        self._intervals = [
            GpuIntervals(
                gpu.index,
                pipes,
                period_ns=period_ns,
                superchip=is_superchip(gpu.name),
                refused=self._refused,
                misses=misses[gpu.index],
            )
            for gpu in self.gpus
        ]
        self._say_turns()

    def read(self) -> list[Reading]:
        """Return the readings that were completed since the last call; see ``Source.read``."""
        if self._closed:
            return []
        try:
            return self._read()
        except Exception as error:  # noqa: BLE001 - a defect here must never hurt the user's command
            self._notes.say(f"DCGM: reading counters failed ({error!r}); please report it")
            return []

    def use_cpu_power(self, read_w: Callable[[int], float | None]) -> None:
        """Have the power of the CPUs told where the engine does not tell it.

        Args:
            read_w: Returns the power in W of the CPU beside a GPU, by the GPU's index in the run; never waits.
        """
        self._modules.use_cpu_power(read_w)

    def processes(self) -> dict[str, list[int]] | None:
        """Return the ids of the processes that compute on each GPU, by UUID; see ``Source.processes``."""
        try:
            return compute_processes()
        except Exception as error:  # noqa: BLE001 - as for a read
            self._notes.say(f"reading the GPUs' processes failed ({error!r}); please report it")
            return None

    def notes(self) -> list[str]:
        """Return what could not be read, each once: later calls return only what is new."""
        return [*self._outages.drain(), *self._notes.drain()]

    def labels(self) -> list[str]:
        """Return by which engine each GPU is read (for ``doctor``)."""
        return [self._label(each) for each in self._entities.matched]

    def _label(self, gpu: Matched) -> str:
        cpu = self._modules.cpus.get(gpu.info.index)
        power = "" if cpu is None else f"; power of CPU and module: its CPU {cpu}"
        return f"GPU {gpu.info.index}: {self._place}, its GPU {gpu.entity}{power}"

    def helper_cost(self) -> tuple[float, int]:
        """Return CPU time in s and largest resident memory in bytes of the process that reads DCGM."""
        return self._client.cpu_s, self._client.rss_bytes

    def close(self) -> None:
        """End the process that reads DCGM; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._client.close()

    def _read(self) -> list[Reading]:
        readings: list[Reading] = []
        for event in self._client.poll():
            if isinstance(event, Samples):
                self._take(event)
            elif isinstance(event, Watching):
                self._arm(event)
            else:
                readings += self._completed(is_lost=True)
                self._lose(event)
        now_ns = self.clock.now_ns()
        if not self._begun:
            self._begun = True
            for each in self._intervals:
                each.begin(now_ns)
            return []
        readings += self._completed()
        away, is_lost = self._reason_away(now_ns), self._failed is not None and not self._client.is_watching
        overdue = [each.overdue(now_ns, away, is_lost=is_lost) for each in self._intervals]
        late = [reading for reading in overdue if reading is not None]
        self._note_silence(late, now_ns)
        return [*readings, *late]

    def _completed(self, *, is_lost: bool = False) -> list[Reading]:
        """Return the readings that are complete; an engine that is lost completes no more of what it began."""
        readings = []
        for each in self._intervals:
            if is_lost:
                each.flush()
            readings += each.readings(self._away)
        known = [reading for reading in readings if Quality.OK in reading.quality]
        for reading in known:
            self._modules.fill(reading)
        if known:
            self._outages.end(min(reading.start_ns for reading in known))
            self._away, self._failed = Quality.STALE, None
        return readings

    def _reason_away(self, now_ns: int) -> Quality:
        """Return why there are no samples: the engine is gone, or answers without new ones."""
        return Quality.ERROR if self._is_gone(now_ns) else Quality.STALE

    def _is_gone(self, now_ns: int) -> bool:
        return self._failed is not None or now_ns - self._heard_ns > 2 * self._period_ns

    def _take(self, fetch: Samples) -> None:
        """Place the samples of a fetch on the run's axis and give them to their GPUs."""
        self._heard_ns = self.clock.now_ns()
        offset_ns = self._axis.offset_ns(fetch, (value.ts_us for value in fetch.values))
        if self._axis.other_clock_s is not None:
            side = "ahead of" if self._axis.other_clock_s > 0 else "behind"
            self._notes.say(
                f"DCGM: the {self._place} has another clock, {abs(self._axis.other_clock_s):.1f} s {side} this "
                "machine's: its samples count as taken when they came"
            )
        if fetch.step_us is not None and fetch.step_us < FAST_SHARE * self._period_ns / NS_PER_US:
            self._notes.say(fast_text(fetch.step_us / US_PER_S, self._period_ns / NS_PER_S))
        by_gpu: dict[int, list[Sample]] = {gpu.index: [] for gpu in self.gpus}
        for value in fetch.values:
            at_ns = min(value.ts_us * NS_PER_US + offset_ns, fetch.fetched_ns)
            number = float("nan") if value.value is None else value.value
            answer = (ids.code_of_status(value.status), number)
            sample = Sample(self.clock.from_monotonic_ns(at_ns), value.field, answer)
            place = self._entities.places.get(value.entity)
            if value.field in ids.CPU_IDS:
                self._modules.take(value.entity, sample)
            elif place is not None:
                by_gpu[place].append(sample)
        fetched_ns = self.clock.from_monotonic_ns(fetch.fetched_ns)
        for each in self._intervals:
            each.take(by_gpu[each.gpu], fetched_ns=fetched_ns)

    def _arm(self, watching: Watching) -> None:
        """Keep which fields are not watched, and which CPU is whose; the intervals look into the same tables."""
        self._refused.clear()
        self._refused.update((field, ids.code_of_status(status)) for field, status in watching.refused.items())
        cores = {each.info.index: each.cores for each in self._entities.matched}
        unknown = self._modules.match(cores, watching.cpus)
        if unknown:
            self._notes.say(
                f"{gpu_list(tuple(unknown))}: which of the host engine's CPUs shares the module is not known: "
                "its power is not read there"
            )

    def _lose(self, failed: Failed) -> None:
        self._away = Quality.ERROR
        self._failed = self._failed or failed
        ends = [each.end_ns for each in self._intervals if each.end_ns is not None]
        if ends:
            self._outages.begin(max(ends), reason(failed), meaning(failed)[1])

    def _note_silence(self, overdue: Sequence[Reading], now_ns: int) -> None:
        if len(overdue) == len(self._intervals):
            if self._failed is not None:
                text, remedy = reason(self._failed), meaning(self._failed)[1]
            else:
                text, remedy = "it did not answer" if self._is_gone(now_ns) else "it took no samples", ""
            self._outages.begin(overdue[0].start_ns, text, remedy)
        elif overdue:
            gpus = gpu_list(tuple(reading.gpu for reading in overdue))
            self._notes.say(f"{gpus}: DCGM took no samples for a time; it is unknown")

    def _say_turns(self) -> None:
        turns = tuple(gpu.index for gpu in self.gpus if gpu.pipes_multiplexed)
        if turns:
            self._notes.say(
                f"{gpu_list(turns)}: the hardware cannot count all pipe counters at once: they take turns, "
                "each is seen for a part of the time"
            )
