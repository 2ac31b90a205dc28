"""Pipe counters by NVML GPM (Hopper and newer): back-to-back sample pairs, all of the time observed.

Each sample is the end of one interval and the start of the next, so that no time goes unseen and one
sample per GPU and tick is enough. The driver averages between the two samples of a pair.
"""

import ctypes
import math
import struct

from satscore.core.fields import Reading
from satscore.counters import nvml_ids as ids
from satscore.counters.clock import Clock
from satscore.counters.nvml_api import Call, Nvml
from satscore.counters.nvml_info import Found
from satscore.counters.nvml_notes import NoteBook
from satscore.counters.nvml_values import Filler, scaled

_HEAD = struct.Struct("=IIQQ")
"""nvmlGpmMetricsGet_t: version, number of metrics, older sample, newer sample; then the metrics."""
_METRIC = struct.Struct("=IId24x")
"""nvmlGpmMetric_t: id, return code, value, three text pointers that we do not read."""
_VERSION = 1
"""Plain 1 for both structs; the usual size-and-version word is refused (go-nvml issue 168)."""
_STRUCT_BYTES = _HEAD.size + 512 * _METRIC.size
"""Room for as many metrics as any header so far declares (477); the driver touches only ours."""
_FIRST_LATE_ID = 100
"""C2C ids came with R575; a driver before it may refuse the whole call for them."""


class GpmCalls:
    """The library's GPM functions and the one buffer that all GPUs of a source share."""

    def __init__(self, api: Nvml) -> None:
        pointer = ctypes.c_void_p
        self.alloc: Call = api.raw("nvmlGpmSampleAlloc", pointer)
        self.free: Call = api.raw("nvmlGpmSampleFree", pointer)
        self.sample: Call = api.raw("nvmlGpmSampleGet", pointer, pointer)
        self.metrics: Call = api.raw("nvmlGpmMetricsGet", pointer)
        self.support: Call = api.raw("nvmlGpmQueryDeviceSupport", pointer, pointer)
        self.buffer = ctypes.create_string_buffer(_STRUCT_BYTES)


class GpmPair:
    """Two samples of one GPU that take turns as start and end of an interval.

    Args:
        calls: The library's GPM functions.
        handle: The GPU.
    """

    def __init__(self, calls: GpmCalls, handle: int) -> None:
        self._calls = calls
        self._handle = handle
        self._metrics = list(ids.GPM_METRICS)
        self._dropped: dict[str, int] = {}
        self._older, self._newer = ctypes.c_void_p(), ctypes.c_void_p()
        self._has_older = self._has_newer = False
        self.refused = self._support() or self._alloc()
        """Why this GPU has no GPM at all; OK if it has."""

    def _support(self) -> int:
        answer = (ctypes.c_uint * 2)(_VERSION, 0)
        code = self._calls.support(self._handle, answer)
        return code if code != ids.OK or answer[1] else ids.NOT_SUPPORTED

    def _alloc(self) -> int:
        return self._calls.alloc(ctypes.byref(self._older)) or self._calls.alloc(ctypes.byref(self._newer))

    def take(self, clock: Clock, fallback_ns: int) -> tuple[int, int]:
        """Take the newer sample.

        Args:
            clock: The run's clock.
            fallback_ns: The time to state if this GPU has no GPM.

        Returns:
            NVML's return code, and the middle of the call in ns.
        """
        if self.refused != ids.OK:
            return self.refused, fallback_ns
        before = clock.now_ns()
        code = self._calls.sample(self._handle, self._newer)
        self._has_newer = code == ids.OK
        if ids.code_of(code).permanent:
            self.refused = code
        return code, (before + clock.now_ns()) // 2

    def advance(self) -> None:
        """Make the newer sample the start of the next interval; without one there is no start."""
        self._older, self._newer = self._newer, self._older
        self._has_older, self._has_newer = self._has_newer, False

    @property
    def complete(self) -> bool:
        """Whether there is a sample at both ends."""
        return self._has_older and self._has_newer

    @property
    def has_start(self) -> bool:
        """Whether there is a sample at the start of the present interval."""
        return self._has_older

    def fill(self, reading: Reading, filler: Filler) -> int:
        """Write the means between the two samples into a reading; return NVML's return code."""
        code = self._get()
        if code == ids.INVALID_ARGUMENT and any(m.id >= _FIRST_LATE_ID for m in self._metrics):
            self._drop({m.field: code for m in self._metrics if m.id >= _FIRST_LATE_ID})
            code = self._get()
        if code != ids.OK:
            if ids.code_of(code).permanent:
                self.refused = code
            return code
        rows = _METRIC.iter_unpack(memoryview(self._calls.buffer)[_HEAD.size :][: len(self._metrics) * _METRIC.size])
        gone: dict[str, int] = {}
        for metric, (_, status, raw) in zip(self._metrics, rows, strict=True):
            high = ids.MAX_SHARE if metric.scale == ids.PERCENT else ids.MAX_TRAFFIC_BYTES_S
            filler.answer(reading, metric.field, scaled((status, raw), metric.scale, 0.0, high))
            if status == ids.INVALID_ARGUMENT or ids.code_of(status).permanent:
                gone[metric.field] = status
        for field, status in self._dropped.items():
            filler.missing(reading, field, status)
        if len(gone) < len(self._metrics):  # a pair that refuses every metric says nothing about each
            self._drop(gone)
        return ids.OK

    def _get(self) -> int:
        buffer, count = self._calls.buffer, len(self._metrics)
        _HEAD.pack_into(buffer, 0, _VERSION, count, self._older.value or 0, self._newer.value or 0)
        for i, metric in enumerate(self._metrics):  # an entry that the driver leaves alone is no answer
            _METRIC.pack_into(buffer, _HEAD.size + i * _METRIC.size, metric.id, ids.UNKNOWN, math.nan)
        return self._calls.metrics(buffer) if count else ids.OK

    def _drop(self, gone: dict[str, int]) -> None:
        self._dropped.update(gone)
        self._metrics = [metric for metric in self._metrics if metric.field not in gone]

    def close(self) -> None:
        """Free the samples."""
        for sample in (self._older, self._newer):
            if sample.value:
                self._calls.free(sample)
                sample.value = None


class GpmPipes:
    """The pipe counters of one GPU's intervals.

    A pair that fails is bridged: the older sample stays, nothing is returned, and the next good pair
    covers the whole time exactly. After MAX_BRIDGED failures in a row the time is returned with the
    reason for the pipe fields, and a new start is taken.

    Args:
        calls: The library's GPM functions.
        found: The GPU.
        gpu: Its index in the run.
        clock: The run's clock.
        notes: Where refusals are told.
    """

    def __init__(self, calls: GpmCalls, found: Found, gpu: int, clock: Clock, notes: NoteBook) -> None:
        self._pair = GpmPair(calls, found.handle)
        self._clock = clock
        self._filler = Filler(gpu, notes)
        self._bridged = 0
        if found.info.mig_enabled:
            self._pair.refused = ids.MIG_ENABLED

    @property
    def refused(self) -> int:
        """Why this GPU will never have pipe counters; OK if it may."""
        return self._pair.refused

    def take(self, now_ns: int) -> tuple[int, int]:
        """Take a sample; return the return code and when it was, ns."""
        return self._pair.take(self._clock, now_ns)

    def begin(self) -> None:
        """Make the sample just taken the start of the next interval."""
        self._pair.advance()

    def fill(self, reading: Reading, code: int) -> bool:
        """Write pipe counters into a reading.

        Args:
            reading: The interval that ends with the sample just taken.
            code: The return code of taking it.

        Returns:
            False if the interval should go on instead, because a later sample can still cover it.
        """
        if code == ids.OK:
            code = self._pair.fill(reading, self._filler) if self._pair.complete else ids.NO_VALUE
        if code == ids.OK:
            self._bridged = 0
        elif self._pair.has_start and self._pair.refused == ids.OK and self._bridged < ids.MAX_BRIDGED:
            self._bridged += 1
            return False
        else:
            for field in ids.GPM_FIELDS:
                self._filler.missing(reading, field, code)
        self._pair.advance()
        return True

    def close(self) -> None:
        """Free the samples."""
        self._pair.close()
