"""From raw answers to values of a reading: means of endpoints, differences of counters, ranges."""

import math
from collections.abc import Iterable, Mapping

from satscore.core.fields import Reading, put, put_missing
from satscore.core.units import NS_PER_S
from satscore.counters import nvml_ids as ids
from satscore.counters.nvml_api import Answer, Entry
from satscore.counters.nvml_notes import NoteBook


class Filler:
    """Writes answers into readings of one GPU, with their reasons, and notes every refusal once.

    Args:
        gpu: Index of the GPU in the run.
        notes: Where refusals are told.
    """

    def __init__(self, gpu: int, notes: NoteBook) -> None:
        self.gpu = gpu
        self._notes = notes

    def missing(self, reading: Reading, field: str, code: int) -> None:
        """Mark a field as unknown for a return code."""
        put_missing(reading, field, ids.code_of(code).quality)
        self._notes.miss(self.gpu, field, code)

    def answer(self, reading: Reading, field: str, answer: Answer) -> None:
        """Write a value in the field's unit, or the reason why there is none."""
        code, value = answer
        if code == ids.OK:
            put(reading, field, value)
        else:
            self.missing(reading, field, code)


def scaled(answer: Answer | None, scale: float, low: float, high: float) -> Answer:
    """Return an answer in the field's unit, checked against what can be true.

    Args:
        answer: The raw answer; None if it was never asked for.
        scale: Factor to the field's unit.
        low: Lowest value that can be true, in the field's unit.
        high: Highest value that can be true, in the field's unit.
    """
    if answer is None:
        return ids.NO_VALUE, math.nan
    code, raw = answer
    if code != ids.OK:
        return answer
    value = raw * scale
    if math.isnan(value):
        return ids.NO_VALUE, math.nan
    return (ids.OK, value) if low <= value <= high else (ids.RANGE, math.nan)


def mean_of_ends(old: Answer, new: Answer) -> Answer:
    """Return the mean of a gauge at both ends of an interval.

    One known end stands for the interval: with back-to-back intervals the other end is a single
    missed read, and dropping both neighbours for it would lose two intervals. With none known the
    newer reason counts.
    """
    if old[0] != ids.OK:
        return new
    if new[0] != ids.OK:
        return old
    return ids.OK, (old[1] + new[1]) / 2


def share_of_time(old: Answer | None, new: Answer | None, span_ns: int) -> Answer:
    """Return the share of an interval that a counter of nanoseconds moved.

    Args:
        old: The counter at the start of the interval, ns.
        new: The counter at its end, ns.
        span_ns: Time between the two reads, ns.

    Returns:
        A share in 0..1; up to MAX_SHARE is rounding and counts as 1. A counter that went backwards
        was reset: no value.
    """
    if new is None or new[0] != ids.OK:
        return new or (ids.NO_VALUE, math.nan)
    if old is None or old[0] != ids.OK or new[1] < old[1]:
        return ids.NO_VALUE, math.nan
    share = (new[1] - old[1]) / span_ns
    return (ids.OK, min(1.0, share)) if share <= ids.MAX_SHARE else (ids.RANGE, math.nan)


class Counters:
    """Counters of errors, each with the value from which on it is counted."""

    def __init__(self) -> None:
        self._base: dict[Entry, Answer] = {}

    def rebase(self, answers: Mapping[Entry, Answer]) -> None:
        """Start counting from answers."""
        self._base = dict(answers)

    def moved(self, entries: Iterable[Entry], answers: Mapping[Entry, Answer]) -> Answer:
        """Return how far some counters moved together since they were last known, and count on from here.

        A counter that was reset (it went backwards) has no value, and one that cannot be read keeps its base, so
        that the next read covers its time too. Without any value the reason is that of the first.

        Args:
            entries: The counters.
            answers: All of them, as answered now.
        """
        moves = [self._move(entry, answers[entry]) for entry in entries]
        known = [amount for code, amount in moves if code == ids.OK]
        if known:
            return ids.OK, float(sum(known))
        return moves[0] if moves else (ids.NOT_SUPPORTED, math.nan)

    def _move(self, entry: Entry, new: Answer) -> Answer:
        if new[0] != ids.OK:
            return new
        old = self._base.get(entry)
        self._base[entry] = new
        if old is None or old[0] != ids.OK or new[1] < old[1]:
            return ids.NO_VALUE, math.nan
        return ids.OK, new[1] - old[1]


class EnergyBase:
    """The last energy reading that was used, of one scope.

    A counter that did not move (some update more slowly than we read) keeps its base: the next move is
    booked whole in the interval in which it is seen, so that the sum stays exact.
    """

    def __init__(self) -> None:
        self._at_ns = 0
        self._value: float | None = None

    def rebase(self, answer: Answer | None, now_ns: int) -> None:
        """Start anew from an answer."""
        self._at_ns = now_ns
        self._value = answer[1] if answer is not None and answer[0] == ids.OK else None

    def advance(self, answer: Answer, now_ns: int) -> tuple[Answer, float]:
        """Return what was used since the base.

        Args:
            answer: The counter now, mJ.
            now_ns: When it was read, ns.

        Returns:
            The energy since the base in J, and the mean power since the base in W (NaN if unknown).
        """
        if answer[0] != ids.OK:  # base kept: the next read covers this interval too
            return answer, math.nan
        value, base, span_s = answer[1], self._value, (now_ns - self._at_ns) / NS_PER_S
        if base is not None and value == base:
            return (ids.UNMOVED, math.nan), math.nan
        self.rebase(answer, now_ns)
        if base is None or value < base or span_s <= 0:
            return (ids.NO_VALUE, math.nan), math.nan
        energy_j = (value - base) * ids.MILLI
        power_w = energy_j / span_s
        if power_w > ids.MAX_POWER_W:
            return (ids.RANGE, math.nan), math.nan
        return (ids.OK, energy_j), power_w
