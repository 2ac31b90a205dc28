"""Which processes compute on which GPU: NVML's lists, milliseconds per GPU, never asked in the tick."""

import ctypes
import struct

from satscore.counters import nvml_ids as ids
from satscore.counters.nvml_api import Call, Nvml, load
from satscore.errors import CounterError

_LISTS: tuple[tuple[str, struct.Struct], ...] = (
    # pid, used memory, GPU instance, compute instance
    ("nvmlDeviceGetComputeRunningProcesses_v3", struct.Struct("=I4xQII")),
    ("nvmlDeviceGetComputeRunningProcesses_v2", struct.Struct("=I4xQII")),
    ("nvmlDeviceGetComputeRunningProcesses", struct.Struct("=I4xQ")),
)
"""The newest first, with the row that each fills; an older driver lacks the newer ones."""
_ROOM = 64
_ROW_BYTES, _ROW_BYTES_535 = 24, 32
"""Driver 535.54 filled rows that are 8 bytes longer: room for these, and a look at what it wrote."""
_UNTOUCHED = b"\xa5"
_INSUFFICIENT_SIZE = 7


def compute_processes() -> dict[str, list[int]] | None:
    """Return the ids of the processes that compute on each GPU of the machine, by UUID.

    Takes and gives back a reference to the library of its own, so that it may run in any thread, also
    while a source is closed. GPUs whose list is refused are left out.

    Returns:
        Ids as the driver states them: 0 for a process outside our PID namespace with some drivers,
        numbers that do not exist here with others. None if no list could be read.
    """
    try:
        api = load()
    except CounterError:
        return None
    try:
        return _all_lists(api) or None
    finally:
        api.close()


def _all_lists(api: Nvml) -> dict[str, list[int]]:
    calls = [(api.raw(name, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p), row) for name, row in _LISTS]
    lists = {}
    for index in range(api.ask("nvmlDeviceGetCount")[1] or 0):
        code, handle = api.ask("nvmlDeviceGetHandleByIndex", index)
        uuid = api.ask("nvmlDeviceGetUUID", handle)[1] if code == ids.OK else None
        pids = _pids(calls, handle) if uuid else None
        if pids is not None:
            lists[uuid.decode() if isinstance(uuid, bytes) else str(uuid)] = pids
    return lists


def _pids(calls: list[tuple[Call, struct.Struct]], handle: object) -> list[int] | None:
    for call, row in calls:
        room, code, count = _ROOM, _INSUFFICIENT_SIZE, ctypes.c_uint(0)
        rows = ctypes.create_string_buffer(1)
        for _ in range(2):  # the second time with room for as many as there were, and some more
            size = room * _ROW_BYTES_535
            rows = ctypes.create_string_buffer(_UNTOUCHED * size, size)
            count.value = room
            code = call(handle, ctypes.byref(count), rows)
            if code != _INSUFFICIENT_SIZE:
                break
            room = count.value + _ROOM
        if code == ids.OK:
            filled = min(count.value, room)
            step = _row_bytes(rows.raw, filled, row.size)
            return [row.unpack_from(rows, i * step)[0] for i in range(filled)]
        if code != ids.FUNCTION_NOT_FOUND:
            return None
    return None


def _row_bytes(data: bytes, count: int, expected: int) -> int:
    """Return the length of the rows that the driver filled, known by where it stopped writing."""
    written = len(data.rstrip(_UNTOUCHED))
    return _ROW_BYTES_535 if count * _ROW_BYTES < written <= count * _ROW_BYTES_535 else expected
