"""Critical Xid events of all GPUs of a source, through one event set, never waiting."""

import ctypes
import math
import struct

from satscore.counters import nvml_ids as ids
from satscore.counters.nvml_api import Answer, Nvml
from satscore.counters.nvml_notes import NoteBook

_EVENT = struct.Struct("=QQQII")
"""nvmlEventData_t: device, event type, Xid number, GPU instance, compute instance."""
_MAX_EVENTS = 64
"""Events taken per poll: a storm of them must not hold up the tick."""


class XidWatch:
    """Counts critical Xid events per GPU.

    Args:
        api: The library.
        handles: The GPUs, in the order of the run.
        notes: Where each Xid number is told, once per GPU.
    """

    def __init__(self, api: Nvml, handles: list[int], notes: NoteBook) -> None:
        self._notes = notes
        self._gpu_of = {handle: gpu for gpu, handle in enumerate(handles)}
        self._set = ctypes.c_void_p()
        self._buffer = ctypes.create_string_buffer(_EVENT.size)
        self._next_ns = 0
        pointer, uint = ctypes.c_void_p, ctypes.c_uint
        self._wait = api.raw("nvmlEventSetWait_v2", pointer, pointer, uint)
        self._free = api.raw("nvmlEventSetFree", pointer)
        self._created = api.raw("nvmlEventSetCreate", pointer)(ctypes.byref(self._set))
        register = api.raw("nvmlDeviceRegisterEvents", pointer, ctypes.c_ulonglong, pointer)
        self._codes = [self._created or register(handle, ids.EVENT_XID, self._set) for handle in handles]

    def poll(self, now_ns: int) -> list[Answer]:
        """Return the number of events per GPU since the last poll, once a second; nothing in between."""
        if now_ns < self._next_ns:
            return []
        self._next_ns = now_ns + ids.SLOW_PERIOD_NS
        counts = [0] * len(self._codes)
        code = ids.OK if ids.OK in self._codes else ids.TIMEOUT
        for _ in range(_MAX_EVENTS):
            if code != ids.OK:
                break
            code = self._wait(self._set, self._buffer, 0)
            if code == ids.OK:
                self._count(counts)
        failed = ids.OK if code in (ids.OK, ids.TIMEOUT) else code
        return [
            (registered or failed, math.nan if registered or failed else float(count))
            for registered, count in zip(self._codes, counts, strict=True)
        ]

    def _count(self, counts: list[int]) -> None:
        device, kind, xid, _, _ = _EVENT.unpack(self._buffer.raw)
        gpu = self._gpu_of.get(device)
        if gpu is not None and kind & ids.EVENT_XID:
            counts[gpu] += 1
            self._notes.say(f"GPU {gpu}: the driver reported Xid {xid} (see 'dmesg | grep -i xid')")

    def close(self) -> None:
        """Free the event set."""
        if self._created == ids.OK:
            self._free(self._set)
            self._created = ids.UNKNOWN
            self._codes = [ids.UNKNOWN] * len(self._codes)
