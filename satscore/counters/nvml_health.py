"""What is told of a GPU's health: errors of its links, NVLink connections, remapped rows. Every ten seconds."""

import ctypes
import math

from satscore.core.fields import Reading
from satscore.counters import nvml_ids as ids
from satscore.counters.nvml_api import Answer, Entry, FieldBatch, Nvml, Query
from satscore.counters.nvml_info import Found
from satscore.counters.nvml_links import NvLinks
from satscore.counters.nvml_notes import NoteBook
from satscore.counters.nvml_values import Counters, Filler

NO_NEWS = ("nvlink_active_count", "nvlink_error_count", "pcie_replay_count", "remapped_rows_count")
"""What many GPUs do not have: that it is not supported is not worth a note."""
_REPLAYS: Entry = (ids.FI_PCIE_REPLAYS, 0)
_ROWS: tuple[Entry, ...] = ((ids.FI_REMAPPED_CORRECTABLE, 0), (ids.FI_REMAPPED_UNCORRECTABLE, 0))
_PENDING: Entry = (ids.FI_REMAP_PENDING, 0)
_FAILED: Entry = (ids.FI_REMAP_FAILED, 0)


class HealthReader:
    """Reads one GPU's health at most once per HEALTH_PERIOD_NS, nearly all of it by one call.

    Everything stands only in the reading of the tick that asked, and is NOT_READ in the others: counts cover the
    time since the last such tick, so that their sum is exact.

    Args:
        api: The library.
        found: The GPU.
        gpu: Its index in the run.
        notes: Where refusals are told.
    """

    def __init__(self, api: Nvml, found: Found, gpu: int, notes: NoteBook) -> None:
        notes.expect_absent(gpu, NO_NEWS)
        self._filler = Filler(gpu, notes)
        self._links = NvLinks(api, found.handle)
        entries = [_REPLAYS, *_ROWS, _PENDING, _FAILED, *self._links.fields()]
        self._batch = FieldBatch(api, found.handle, entries)
        uint, pointer = ctypes.c_uint, ctypes.c_void_p
        replays = api.raw("nvmlDeviceGetPcieReplayCounter", pointer, pointer)
        self._replays = Query(replays, uint(), found.handle)
        self._counted: dict[str, tuple[Entry, ...]] = {
            "pcie_replay_count": (_REPLAYS,),
            "remapped_rows_count": _ROWS,
            "nvlink_error_count": tuple(self._links.error_fields()),
        }
        self._counters = Counters()
        self._fields: dict[Entry, Answer] = {}
        self._active: Answer = (ids.NO_VALUE, math.nan)
        self._count: Answer = (ids.NO_VALUE, math.nan)
        self._next_ns = 0
        self._fresh = False

    def poll(self, now_ns: int) -> int:
        """Read if it is due.

        Args:
            now_ns: Present time on the run's axis.

        Returns:
            The return code if it says that the GPU is lost, else OK.
        """
        if now_ns < self._next_ns:
            return ids.OK
        self._next_ns = now_ns + ids.HEALTH_PERIOD_NS
        self._fresh = True
        code, self._fields = self._batch.read()
        if self._fields[_REPLAYS][0] != ids.OK:
            self._fields[_REPLAYS] = self._replays.number()
        self._active, self._count = self._links.answers(self._fields)
        return code if ids.is_lost(code) else ids.OK

    def rebase(self) -> None:
        """Start counting from the last poll."""
        self._counters.rebase(self._fields)
        self._fresh = False

    def nvlink_count(self) -> int | None:
        """Return how many NVLink connections the board has; None if it does not say."""
        code, count = self._count
        return int(count) if code == ids.OK else None

    def nvlink_active_count(self) -> int | None:
        """Return how many of them were active at the last poll; None if it does not say."""
        code, active = self._active
        return int(active) if code == ids.OK else None

    def remapped_rows_count(self) -> int | None:
        """Return how many rows of the memory were remapped up to the last poll; None if it does not say."""
        counts = [self._fields.get(entry, (ids.NO_VALUE, math.nan)) for entry in _ROWS]
        return int(sum(value for _, value in counts)) if all(code == ids.OK for code, _ in counts) else None

    def remap_pending(self) -> bool | None:
        """Return whether a row waits for a reset to be remapped."""
        return self._flag(_PENDING)

    def remap_failed(self) -> bool | None:
        """Return whether a row could not be remapped."""
        return self._flag(_FAILED)

    def fill(self, reading: Reading) -> None:
        """Write what was asked for since the last reading."""
        if not self._fresh:
            return
        self._fresh = False
        self._filler.answer(reading, "nvlink_active_count", self._active)
        for field, entries in self._counted.items():
            self._filler.answer(reading, field, self._counters.moved(entries, self._fields))

    def _flag(self, entry: Entry) -> bool | None:
        code, value = self._fields.get(entry, (ids.NO_VALUE, math.nan))
        return value != 0 if code == ids.OK else None
