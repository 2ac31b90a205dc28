"""What NVML tells at every tick beside the pipe counters: clocks, power, energy, throttle times."""

import ctypes
import math

from satscore.core.fields import Quality, Reading, put, put_missing
from satscore.counters import nvml_ids as ids
from satscore.counters.clock import Clock
from satscore.counters.nvml_api import Answer, Entry, FieldBatch, Nvml, Query
from satscore.counters.nvml_info import Found
from satscore.counters.nvml_notes import NoteBook
from satscore.counters.nvml_scopes import POWER_USAGE, SCOPES, TOTAL_ENERGY, probe_power
from satscore.counters.nvml_values import EnergyBase, Filler, mean_of_ends, scaled, share_of_time

_CLOCK_FIELDS = (("sm_clock_mhz", ids.CLOCK_SM), ("mem_clock_mhz", ids.CLOCK_MEM))
_CLOCK = -1
"""Pseudo field id under which the clocks stand among the answers."""
_UNASKED: Answer = (ids.NOT_SUPPORTED, math.nan)


class TickReader:
    """Reads one GPU's clocks, power, energy and throttle times; all field values in one call.

    Args:
        api: The library.
        found: The GPU.
        gpu: Its index in the run.
        clock: The run's clock.
        notes: Where refusals are told.
    """

    def __init__(self, api: Nvml, found: Found, gpu: int, clock: Clock, notes: NoteBook) -> None:
        self._clock = clock
        self._filler = Filler(gpu, notes)
        self._power = probe_power(api, found)
        self._hw_ids = ids.hw_throttle_ids(found.info.driver_version)
        for doubt in self._power.doubts:
            notes.say(f"GPU {gpu}: {doubt}")
        if self._hw_ids is None:
            notes.say("throttle_hw_frac is not read: its ids depend on the driver branch, which is unknown")
        throttle = [(field, 0) for field in (*ids.THROTTLE_IDS.values(), *(self._hw_ids or ()))]
        self._batch = FieldBatch(api, found.handle, self._power.fields() + throttle)
        self._queries = self._single_calls(api, found.handle)
        self._bases = {scope: EnergyBase() for scope in SCOPES}
        self._old: dict[Entry, Answer] = {}
        self._old_ns = 0
        self._new: dict[Entry, Answer] = {}
        self._new_ns = 0

    def _single_calls(self, api: Nvml, handle: int) -> dict[Entry, Query]:
        uint, pointer = ctypes.c_uint, ctypes.c_void_p
        call = api.raw("nvmlDeviceGetClockInfo", pointer, uint, pointer)
        queries = {(_CLOCK, kind): Query(call, uint(), handle, kind) for _, kind in _CLOCK_FIELDS}
        if self._power.uses(POWER_USAGE):
            queries[POWER_USAGE] = Query(api.raw("nvmlDeviceGetPowerUsage", pointer, pointer), uint(), handle)
        if self._power.uses(TOTAL_ENERGY):
            call = api.raw("nvmlDeviceGetTotalEnergyConsumption", pointer, pointer)
            queries[TOTAL_ENERGY] = Query(call, ctypes.c_ulonglong(), handle)
        return queries

    def labels(self) -> list[str]:
        """Return by which counter each power scope is read, for people."""
        return self._power.labels()

    def poll(self) -> int:
        """Read everything now, as the end of the present interval.

        Returns:
            The first return code that says that the GPU is lost, else OK.
        """
        before = self._clock.now_ns()
        code, answers = self._batch.read()
        self._new_ns = (before + self._clock.now_ns()) // 2
        for entry, query in self._queries.items():
            answers[entry] = query.number()
        self._new = answers
        if ids.is_lost(code):
            return code
        return next((c for c, _ in answers.values() if ids.is_lost(c)), ids.OK)

    def rebase(self) -> None:
        """Make the last poll the start of the next interval."""
        self._old, self._old_ns = self._new, self._new_ns
        for scope, entry in self._power.energy.items():
            self._bases[scope].rebase(self._new.get(entry) if entry else None, self._new_ns)

    def fill(self, reading: Reading) -> None:
        """Write the interval between the last two used polls into a reading, and start the next one."""
        for field, kind in _CLOCK_FIELDS:
            self._filler.answer(reading, field, self._mean((_CLOCK, kind), 1.0, ids.MAX_CLOCK_MHZ))
        for scope in SCOPES:
            self._fill_power(reading, scope)
        span_ns = max(1, self._new_ns - self._old_ns)
        for field, field_id in ids.THROTTLE_IDS.items():
            key = (field_id, 0)
            share = share_of_time(self._old.get(key), self._new.get(key), span_ns)
            self._filler.answer(reading, field, share)
        self._fill_hw(reading, span_ns)
        self._old, self._old_ns = self._new, self._new_ns

    def _mean(self, key: Entry, scale: float, high: float) -> Answer:
        """Return the mean of a gauge that cannot be zero: 0 is how drivers answer what they do not know."""
        ends = [scaled(answers.get(key), scale, scale, high) for answers in (self._old, self._new)]
        return mean_of_ends(*ends)

    def _fill_power(self, reading: Reading, scope: int) -> None:
        name, power_w = ids.SCOPE_NAMES[scope], math.nan
        energy, power = self._power.energy[scope], self._power.power[scope]
        if energy is None:
            self._filler.missing(reading, f"energy_{name}_j", ids.NOT_SUPPORTED)
        else:
            new = self._new.get(energy, (ids.NO_VALUE, math.nan))
            answer, power_w = self._bases[scope].advance(new, self._new_ns)
            self._filler.answer(reading, f"energy_{name}_j", answer)
        if not math.isnan(power_w):
            put(reading, f"power_{name}_w", power_w)
        else:
            gauge = _UNASKED if power is None else self._mean(power, ids.MILLI, ids.MAX_POWER_W)
            self._filler.answer(reading, f"power_{name}_w", gauge)

    def _fill_hw(self, reading: Reading, span_ns: int) -> None:
        """Hardware slowdown is the larger of its two counters: their times may overlap, so a sum could lie."""
        if self._hw_ids is None:
            put_missing(reading, "throttle_hw_frac", Quality.NOT_READ)
            return
        shares = [share_of_time(self._old.get((i, 0)), self._new.get((i, 0)), span_ns) for i in self._hw_ids]
        known = [value for code, value in shares if code == ids.OK]
        self._filler.answer(reading, "throttle_hw_frac", (ids.OK, max(known)) if known else shares[0])
