"""What DCGM's value records say: their layout, their blanks, and which of them are new."""

import math
import struct
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from satscore.counters.dcgm.wire import BLANK, StaticValue, Value

NO_DATA = -14
NOT_SUPPORTED = -6
NO_PERMISSION = -17

# Per type plain blank, not found, not supported, no permission (dcgm_structs.h, DCGM_*_BLANK and below).
# Compared exactly: a cumulative counter kept as a double passes the first of them in honest work.
_REASONS = (BLANK, NO_DATA, NOT_SUPPORTED, NO_PERMISSION)
_INT64_BLANKS = {0x7FFFFFFFFFFFFFF0 + code: reason for code, reason in enumerate(_REASONS)}
_DOUBLE_BLANKS = {140737488355328.0 + code: reason for code, reason in enumerate(_REASONS)}
_STRING_BLANKS = ("<<<NULL>>>", "<<<NOT_FOUND>>>", "<<<NOT_SUPPORTED>>>", "<<<NOT_PERM>>>")
_DOUBLE, _INT64, _STRING, _TIMESTAMP = (ord(letter) for letter in "dist")

# dcgmFieldValue_v2 and _v1 of dcgm_structs.h, the same since DCGM 2: what precedes the value, and 8 bytes of it.
_V2 = "=4xIIHhi4xq"
_V1 = "=4xHhi4xq"
_VALUE_SIZE = 4096
V2_SIZE = struct.calcsize(_V2) + _VALUE_SIZE
V1_SIZE = struct.calcsize(_V1) + _VALUE_SIZE
_STRING_MAX = 256
_V2_INT64 = struct.Struct(f"{_V2}q{_VALUE_SIZE - 8}x")
_V2_DOUBLE = struct.Struct(f"{_V2}d{_VALUE_SIZE - 8}x")
_V2_STRING = struct.Struct(f"{_V2}{_STRING_MAX}s{_VALUE_SIZE - _STRING_MAX}x")
_V1_INT64 = struct.Struct(f"{_V1}q")
_V1_DOUBLE = struct.Struct(f"{_V1}d")
V1_HEAD_SIZE = _V1_INT64.size
"""Bytes of a dcgmFieldValue_v1 that ``value_of_v1`` needs."""


def values_of_v2(buffer: bytes | memoryview) -> list[Value]:
    """Return the numbers in an array of dcgmFieldValue_v2.

    Args:
        buffer: Whole records of V2_SIZE bytes.
    """
    values = []
    for (_, entity, field, kind, status, ts_us, whole), real in zip(
        _V2_INT64.iter_unpack(buffer), _V2_DOUBLE.iter_unpack(buffer), strict=True
    ):
        values.append(Value(entity, field, ts_us, *_judged(kind, status, whole, real[-1])))
    return values


def value_of_v1(entity: int, head: bytes) -> Value:
    """Return the number in the first V1_HEAD_SIZE bytes of a dcgmFieldValue_v1."""
    field, kind, status, ts_us, whole = _V1_INT64.unpack(head)
    return Value(entity, field, ts_us, *_judged(kind, status, whole, _V1_DOUBLE.unpack(head)[-1]))


def _judged(kind: int, status: int, whole: int, real: float) -> tuple[int, int | float | None]:
    """Return status and value: a blank of the value's type is a status, and so is a value of no number's type."""
    if status != 0:
        return status, None
    if kind == _DOUBLE:
        reason = _DOUBLE_BLANKS.get(real) if math.isfinite(real) else BLANK
        return (0, real) if reason is None else (reason, None)
    if kind in {_INT64, _TIMESTAMP}:
        reason = _INT64_BLANKS.get(whole)
        return (0, whole) if reason is None else (reason, None)
    return NOT_SUPPORTED, None


class Fact(NamedTuple):
    """One answered static field of a GPU."""

    entity: int
    field: int
    value: StaticValue


def facts_of_v2(buffer: bytes | memoryview) -> Iterator[Fact]:
    """Yield what an array of dcgmFieldValue_v2 answers, strings too; blanks and failures are left out."""
    for value, record in zip(values_of_v2(buffer), _V2_STRING.iter_unpack(buffer), strict=True):
        _, entity, field, kind, status, _, raw = record
        if kind == _STRING and status == 0:
            text = raw.partition(b"\0")[0].decode("utf-8", "replace")
            if text and text not in _STRING_BLANKS:
                yield Fact(entity, field, text)
        elif value.value is not None:
            yield Fact(entity, field, value.value)


def cores_of(words: Iterable[int]) -> list[int]:
    """Return the cores in a mask of words of 64 bits, lowest first (dcgm_helpers.c, dcgmCpuHierarchyCpuOwnsCore)."""
    return [64 * at + bit for at, word in enumerate(words) for bit in range(64) if word >> bit & 1]


def median_step_us(values: Iterable[Value]) -> int | None:
    """Return the median time between two samples of one field of one entity; None if there are no two.

    Args:
        values: In order of time per entity and field; what has no time is no sample.
    """
    last_us: dict[tuple[int, int], int] = {}
    steps = []
    for value in values:
        if value.ts_us:
            key = (value.entity, value.field)
            if key in last_us:
                steps.append(value.ts_us - last_us[key])
            last_us[key] = value.ts_us
    return sorted(steps)[len(steps) // 2] if steps else None


class Unseen:
    """Keeps back what was said before, and notices that something was never said.

    The engine keeps samples of earlier clients and repeats the latest one until it takes another.

    Args:
        before: What the engine held before our watch.
        pipe_fields: Those of which no sample may be missed.
        period_us: Time between samples.
    """

    def __init__(self, before: Iterable[Value], pipe_fields: Collection[int], period_us: int) -> None:
        self._before_us = {(value.entity, value.field): value.ts_us for value in before}
        self._last_us: dict[tuple[int, int], int] = {}
        self._pipes = frozenset(pipe_fields)
        self._period_us = period_us

    def missed_since_us(self, latest: Iterable[Value]) -> int | None:
        """Return the time after which pipe samples may lie that ``latest`` does not show, or None.

        A step of more than one and a half periods: the engine took a sample between two fetches,
        or took none, which only asking it can tell.
        """
        since = None
        for value in latest:
            if value.field in self._pipes:
                last_us = self._last_us.get((value.entity, value.field))
                if last_us is not None and 2 * (value.ts_us - last_us) > 3 * self._period_us:
                    since = last_us if since is None else min(since, last_us)
        return since

    def take(self, values: Iterable[Value]) -> list[Value]:
        """Return those of our own watch that were not returned before; ``values`` in order of time per field."""
        taken = []
        for value in values:
            key = (value.entity, value.field)
            last_us = self._last_us.get(key)
            if value.ts_us > (self._before_us.get(key, 0) if last_us is None else last_us):
                self._last_us[key] = value.ts_us
                taken.append(value)
        return taken

    def are_two_rounds(self, taken: Iterable[Value]) -> bool:
        """Return whether pipe samples that came together are of more than one round of the engine.

        It reads field after field, each with its own time, and answers in between.
        """
        times_us = [value.ts_us for value in taken if value.field in self._pipes]
        return bool(times_us) and 2 * (max(times_us) - min(times_us)) > self._period_us
