"""The NVLink connections of one GPU: which there are, which are active, how many errors they counted."""

import ctypes
import math

from satscore.counters import nvml_ids as ids
from satscore.counters.nvml_api import Answer, Entry, FieldBatch, Nvml, Query
from satscore.counters.nvml_values import scaled


class NvLinks:
    """What a GPU tells of its NVLink connections.

    A connection whose state the driver refuses for good is not there: some boards wire a part of what the chip
    has. Errors are the totals of all connections where the driver has them, else those of each.

    Args:
        api: The library.
        handle: The GPU.
    """

    def __init__(self, api: Nvml, handle: int) -> None:
        _, answers = FieldBatch(api, handle, [(ids.FI_NVLINK_COUNT, 0), *ids.FI_NVLINK_ERRORS_TOTAL]).read()
        self._code, count = scaled(answers[ids.FI_NVLINK_COUNT, 0], 1.0, 0.0, ids.MAX_NVLINKS)
        links = range(int(count)) if self._code == ids.OK else range(0)
        self._states: list[Entry] = [(ids.FI_NVLINK_STATE, link) for link in links]
        self._errors: list[Entry] = [e for e in ids.FI_NVLINK_ERRORS_TOTAL if answers[e][0] == ids.OK]
        if not self._errors:
            self._errors = [(field, link) for field in ids.FI_NVLINK_ERRORS for link in links]
        self._queries = self._state_calls(api, handle)

    def _state_calls(self, api: Nvml, handle: int) -> dict[Entry, Query]:
        """Return the call per connection where the driver has no field for its state (before Hopper)."""
        _, answers = FieldBatch(api, handle, self._states).read()
        if any(not _refused(code) for code, _ in answers.values()):
            return {}
        uint, pointer = ctypes.c_uint, ctypes.c_void_p
        call = api.raw("nvmlDeviceGetNvLinkState", pointer, uint, pointer)
        return {entry: Query(call, uint(), handle, entry[1]) for entry in self._states}

    def fields(self) -> list[Entry]:
        """Return the field values to ask for."""
        if not self._states:
            return []
        return self._errors + ([] if self._queries else self._states)

    def error_fields(self) -> list[Entry]:
        """Return the counters of errors among the field values."""
        return self._errors if self._states else []

    def answers(self, fields: dict[Entry, Answer]) -> tuple[Answer, Answer]:
        """Return how many connections are active, and how many there are.

        Args:
            fields: The field values, as answered now.
        """
        if not self._states:
            is_none = self._code in (ids.OK, ids.NOT_SUPPORTED, ids.INVALID_ARGUMENT)
            return (ids.NOT_SUPPORTED if is_none else self._code, math.nan), self._count(0 if is_none else math.nan)
        states = [self._state(entry, fields) for entry in self._states]
        there = [state for state in states if not _refused(state[0])]
        known = [value for code, value in there if code == ids.OK]
        if len(known) < len(there) or not there:
            code = next((code for code, _ in there if code != ids.OK), ids.NOT_SUPPORTED)
            return (code, math.nan), self._count(len(there))
        return (ids.OK, float(sum(value in ids.NVLINK_UP for value in known))), self._count(len(there))

    def _state(self, entry: Entry, fields: dict[Entry, Answer]) -> Answer:
        query = self._queries.get(entry)
        return fields[entry] if query is None else query.number()

    def _count(self, count: float) -> Answer:
        return (self._code, count) if math.isnan(count) else (ids.OK, count)


def _refused(code: int) -> bool:
    return code == ids.INVALID_ARGUMENT or ids.code_of(code).permanent
