"""Ordinary fields of one GPU beside its pipe counters: which sample stands for which interval. Pure."""

import math
from typing import NamedTuple

from satscore.core.fields import Reading, put, put_missing
from satscore.counters import nvml_ids
from satscore.counters.dcgm import ids
from satscore.counters.dcgm.misses import Misses
from satscore.counters.nvml_api import Answer
from satscore.counters.nvml_values import EnergyBase, mean_of_ends, scaled, share_of_time

STALE_PERIODS = 3
"""A sample that is older at an interval's end says nothing about it."""
_NO_VALUE: Answer = (nvml_ids.NO_VALUE, math.nan)
_STALE: Answer = (nvml_ids.UNMOVED, math.nan)


class Sample(NamedTuple):
    """One sample of one field of one GPU: when, on the run's axis, and a code of ``ids`` with the raw value."""

    at_ns: int
    field: int
    answer: Answer


class _Track:
    """The samples of one field from the last one used on."""

    def __init__(self) -> None:
        self.old: Sample | None = None
        """Used at the end of the interval before."""
        self.new: Sample | None = None
        """Used at the end of the present interval."""
        self._waiting: list[Sample] = []

    def add(self, sample: Sample) -> None:
        last = self._waiting[-1] if self._waiting else self.new
        if last is None or sample.at_ns > last.at_ns:
            self._waiting.append(sample)

    def advance(self, until_ns: int) -> None:
        """Take the last sample up to an instant as the one for the present interval."""
        self.old = self.new
        count = sum(sample.at_ns <= until_ns for sample in self._waiting)
        if count:
            self.new = self._waiting[count - 1]
            del self._waiting[:count]

    def forget(self) -> None:
        """Let no sample so far stand for the interval to come."""
        self.old = self.new = None


class Gauges:
    """Fills the ordinary fields of readings: clocks, power, energy, throttle times, temperatures, errors.

    Args:
        period_ns: Nominal time between samples.
        superchip: Whether the GPU sits on a module with its CPU: counters without a scope may be the module's.
        refused: Codes of fields that the engine would not watch.
        misses: Where refusals are told.
    """

    def __init__(self, *, period_ns: int, superchip: bool, refused: dict[int, int], misses: Misses) -> None:
        self._period_ns = period_ns
        self._refused = refused
        self._misses = misses
        self._tracks = {i: _Track() for i in ids.other_ids() if i != ids.XID}
        self._power = ids.POWER._replace(ids=(ids.POWER_INSTANT,)) if superchip else ids.POWER
        self._has_energy = not superchip
        self._energy = EnergyBase()
        self._counts: dict[int, float] = {}
        """Where each error counter stood when it was last used."""
        self._xids = 0

    def add(self, sample: Sample) -> None:
        """Take a sample; those of a field must come in the order of time."""
        if sample.field == ids.XID:
            self._xids += sample.answer[0] == ids.OK and sample.answer[1] > 0
        elif sample.field in self._tracks:
            self._tracks[sample.field].add(sample)

    def begin(self, at_ns: int) -> None:
        """Start counting: what stood before the run's base line is no amount of the run."""
        self.restart()
        for track in self._tracks.values():
            track.advance(at_ns)
        self._rebase_counts()
        energy = self._tracks[ids.ENERGY].new
        if energy is not None:
            self._energy.rebase(energy.answer, energy.at_ns)
        self._xids = 0

    def restart(self) -> None:
        """Let the next interval begin after a gap: means and shares reach over none, error counts do."""
        for track in self._tracks.values():
            track.forget()
        self._energy.rebase(None, 0)

    def fill(self, reading: Reading) -> None:
        """Write all ordinary fields into a reading; intervals must come in the order of time."""
        until_ns = reading.end_ns + self._period_ns // 2
        for track in self._tracks.values():
            track.advance(until_ns)
        for gauge in ids.GAUGES:
            self._put(reading, gauge.field, self._gauge(gauge, reading.end_ns))
        self._fill_power(reading)
        for field_id, field in ids.THROTTLE_IDS.items():
            self._put(reading, field, self._share(field_id, reading.end_ns))
        for counter in ids.COUNTERS:
            self._put(reading, counter.field, self._count(counter, reading.end_ns))
        if ids.XID in self._refused:
            self._put(reading, "xid_count", (self._refused[ids.XID], math.nan))
        else:
            put(reading, "xid_count", float(self._xids))
            self._xids = 0

    def _put(self, reading: Reading, field: str, answer: Answer) -> None:
        code, value = answer
        if code == ids.OK:
            put(reading, field, value)
        else:
            put_missing(reading, field, ids.quality_of(code))
        self._misses.see(reading, field, code)

    def _answer(self, field_id: int, end_ns: int) -> Answer:
        """Return the present answer of a field, or why it has none."""
        if field_id in self._refused:
            return self._refused[field_id], math.nan
        new = self._tracks[field_id].new
        if new is None:
            return _NO_VALUE
        return new.answer if end_ns - new.at_ns <= STALE_PERIODS * self._period_ns else _STALE

    def _gauge(self, gauge: ids.Gauge, end_ns: int) -> Answer:
        first: Answer | None = None
        for field_id in gauge.ids:
            new = scaled(self._answer(field_id, end_ns), gauge.scale, gauge.low, gauge.high)
            if new[0] == ids.OK:
                return mean_of_ends(self._start(field_id, gauge), new) if gauge.is_mean else new
            first = first or new
        return first or _NO_VALUE

    def _start(self, field_id: int, gauge: ids.Gauge) -> Answer:
        old = self._tracks[field_id].old
        return scaled(old.answer if old else None, gauge.scale, gauge.low, gauge.high)

    def _fill_power(self, reading: Reading) -> None:
        power_w = math.nan
        if self._has_energy:
            answer, power_w = self._used_energy(reading.end_ns)
            self._put(reading, "energy_gpu_j", answer)
        else:
            put_missing(reading, "energy_gpu_j", ids.quality_of(ids.code_of_status(ids.NOT_SUPPORTED)))
        if math.isnan(power_w):
            self._put(reading, self._power.field, self._gauge(self._power, reading.end_ns))
        else:
            put(reading, self._power.field, power_w)

    def _used_energy(self, end_ns: int) -> tuple[Answer, float]:
        """Return the energy in J and the mean power in W since the last sample; by the counter's own time."""
        answer = self._answer(ids.ENERGY, end_ns)
        if answer[0] != ids.OK:
            return answer, math.nan
        sample = self._tracks[ids.ENERGY].new
        assert sample is not None
        return self._energy.advance(answer, sample.at_ns)

    def _share(self, field_id: int, end_ns: int) -> Answer:
        new = self._answer(field_id, end_ns)
        if new[0] != ids.OK:
            return new
        track = self._tracks[field_id]
        if track.new is None or track.old is None:
            return _NO_VALUE
        span_ns = track.new.at_ns - track.old.at_ns
        return share_of_time(track.old.answer, new, span_ns) if span_ns > 0 else _STALE

    def _count(self, counter: ids.Counter, end_ns: int) -> Answer:
        """Return how far the counters moved since they were last used; those that fail keep their base."""
        total, reason = None, None
        for field_id in counter.ids:
            code, value = self._answer(field_id, end_ns)
            if code != ids.OK:
                reason = reason or code
                continue
            base = self._counts.get(field_id)
            self._counts[field_id] = value
            if base is not None and value >= base:
                total = (total or 0.0) + value - base
        return (ids.OK, total) if total is not None else (reason or nvml_ids.NO_VALUE, math.nan)

    def _rebase_counts(self) -> None:
        for counter in ids.COUNTERS:
            for field_id in counter.ids:
                new = self._tracks[field_id].new
                if new is not None and new.answer[0] == ids.OK:
                    self._counts[field_id] = new.answer[1]
