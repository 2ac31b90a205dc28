"""What changes slowly: temperatures, memory, limits in force, utilisation, PCIe, errors. Once a second."""

import ctypes
import math
from collections.abc import Callable

from satscore.core.fields import Reading
from satscore.counters import nvml_ids as ids
from satscore.counters.nvml_api import Answer, Entry, FieldBatch, Nvml, Query
from satscore.counters.nvml_info import Found
from satscore.counters.nvml_notes import NoteBook
from satscore.counters.nvml_scopes import is_superchip
from satscore.counters.nvml_values import Counters, Filler, scaled

_TEMPERATURE_V1 = 0x0100_000C
_ECC_FIELDS = (
    ("ecc_corrected_count", (ids.FI_ECC_CORRECTED, 0)),
    ("ecc_uncorrected_count", (ids.FI_ECC_UNCORRECTED, 0)),
)
_PCIE_FIELDS = (
    ("pcie_generation", "nvmlDeviceGetCurrPcieLinkGeneration", ids.MAX_PCIE_GENERATION),
    ("pcie_lanes_count", "nvmlDeviceGetCurrPcieLinkWidth", ids.MAX_PCIE_LANES),
)
_LIMIT_FIELDS = (
    ("power_limit_gpu_w", ids.SCOPE_GPU),
    ("power_limit_module_w", ids.SCOPE_MODULE),
)


class SlowReader:
    """Reads one GPU's slow values at most once per SLOW_PERIOD_NS.

    Between two reads the gauges are repeated: a gauge with a stated age of up to a second is known. The
    error counts stand only in the reading of the tick that asked for them (they cover the time since
    the last such tick) and are NOT_READ in the others, so that their sum is exact. So does the state of the
    PCIe link, which saves power at idle: a value of an idle moment must not stand in a reading with work.

    Args:
        api: The library.
        found: The GPU.
        gpu: Its index in the run.
        notes: Where refusals are told.

    Attributes:
        cpu_power_w: Tells the power of the CPU on the GPU's module in W, or None; without waiting.
    """

    def __init__(self, api: Nvml, found: Found, gpu: int, notes: NoteBook) -> None:
        self.cpu_power_w: Callable[[], float | None] | None = None
        self._is_superchip = is_superchip(found.info.name)
        self._filler = Filler(gpu, notes)
        self._memory_total = found.info.memory_total_bytes or math.inf
        handle, uint, pointer = found.handle, ctypes.c_uint, ctypes.c_void_p
        fields = [(ids.FI_TEMP_MEM, 0)]
        fields += [(ids.FI_POWER_LIMIT, scope) for _, scope in _LIMIT_FIELDS]
        fields += [entry for _, entry in _ECC_FIELDS]
        self._batch = FieldBatch(api, handle, fields)
        temperature = api.raw("nvmlDeviceGetTemperature", pointer, uint, pointer)
        self._temp = Query(temperature, uint(), handle, 0)
        self._temp_v = Query(api.raw("nvmlDeviceGetTemperatureV", pointer, pointer), (uint * 3)(), handle)
        self._memory = Query(
            api.raw("nvmlDeviceGetMemoryInfo_v2", pointer, pointer), (ctypes.c_ulonglong * 5)(), handle
        )
        self._util = Query(api.raw("nvmlDeviceGetUtilizationRates", pointer, pointer), (uint * 2)(), handle)
        self._limit = Query(api.raw("nvmlDeviceGetEnforcedPowerLimit", pointer, pointer), uint(), handle)
        self._pcie = {
            field: (Query(api.raw(name, pointer, pointer), uint(), handle), highest)
            for field, name, highest in _PCIE_FIELDS
        }
        self._gauges: dict[str, Answer] = {}
        self._links: dict[str, Answer] = {}
        self._fields: dict[Entry, Answer] = {}
        self._counters = Counters()
        self._xids: Answer | None = None
        self._next_ns = 0
        self._fresh = False

    def poll(self, now_ns: int) -> int:
        """Read the slow values if they are due.

        Args:
            now_ns: Present time on the run's axis.

        Returns:
            The first return code that says that the GPU is lost, else OK.
        """
        if now_ns < self._next_ns:
            return ids.OK
        self._next_ns = now_ns + ids.SLOW_PERIOD_NS
        self._fresh = True
        code, fields = self._batch.read()
        self._gauges = {
            "temp_gpu_c": self._temperature(),
            "temp_mem_c": scaled(fields[ids.FI_TEMP_MEM, 0], 1.0, 1.0, ids.MAX_TEMP_C),
            "memory_used_bytes": self._memory_used(),
            "gpu_util_frac": self._utilisation(),
        }
        for field, scope in _LIMIT_FIELDS:
            self._gauges[field] = self._limit_w(fields[ids.FI_POWER_LIMIT, scope], scope)
        if not self._is_superchip:
            self._gauges["power_cpu_w"] = (ids.NOT_SUPPORTED, math.nan)
        elif self.cpu_power_w is not None:
            self._gauges["power_cpu_w"] = _told(self.cpu_power_w())
        self._links = {field: scaled(query.number(), 1.0, 1.0, high) for field, (query, high) in self._pcie.items()}
        self._fields = fields
        codes = (code, *(answer[0] for answer in self._gauges.values()))
        return next((c for c in codes if ids.is_lost(c)), ids.OK)

    def rebase(self) -> None:
        """Start counting errors from the last poll."""
        self._counters.rebase(self._fields)
        self._fresh = False

    def limit_w(self, field: str) -> float | None:
        """Return a power limit in W as last read; None if unknown."""
        code, value = self._gauges.get(field, (ids.NO_VALUE, math.nan))
        return value if code == ids.OK else None

    def add_xids(self, answer: Answer) -> None:
        """Take the number of Xid events since the last call, or the reason why it is unknown."""
        code, count = answer
        if code == ids.OK and self._xids is not None and self._xids[0] == ids.OK:
            count += self._xids[1]
        self._xids = (code, count)

    def fill(self, reading: Reading) -> None:
        """Write gauges into a reading; errors and the PCIe link if they were asked for since the last one."""
        for field, answer in self._gauges.items():
            self._filler.answer(reading, field, answer)
        if self._xids is not None:
            self._filler.answer(reading, "xid_count", self._xids)
            self._xids = None
        if not self._fresh:
            return
        self._fresh = False
        for field, answer in self._links.items():
            self._filler.answer(reading, field, answer)
        for field, entry in _ECC_FIELDS:
            self._filler.answer(reading, field, self._counters.moved((entry,), self._fields))

    def _temperature(self) -> Answer:
        answer = self._temp.number()
        if ids.code_of(answer[0]).permanent:  # the old call leaves the API with CUDA 14
            self._temp_v.out[0] = _TEMPERATURE_V1
            code = self._temp_v.ask()
            raw = ctypes.c_int(self._temp_v.out[2]).value
            answer = (code, raw) if code == ids.OK else answer
        return scaled(answer, 1.0, 1.0, ids.MAX_TEMP_C)

    def _memory_used(self) -> Answer:
        """Return memory in use; only version 2 of the call keeps the driver's reserve apart."""
        self._memory.out[0] = ids.MEMORY_V2
        code = self._memory.ask()
        return scaled((code, self._memory.out[4]), 1.0, 0.0, self._memory_total)

    def _utilisation(self) -> Answer:
        code = self._util.ask()
        return scaled((code, self._util.out[0]), ids.PERCENT, 0.0, 1.0)

    def _limit_w(self, answer: Answer, scope: int) -> Answer:
        limit = scaled(answer, ids.MILLI, ids.MILLI, ids.MAX_POWER_W)
        if limit[0] != ids.OK and scope == ids.SCOPE_GPU:
            limit = scaled(self._limit.number(), ids.MILLI, ids.MILLI, ids.MAX_POWER_W)
        return limit


def _told(power_w: float | None) -> Answer:
    """Return the power of the CPU, which is no answer of NVML."""
    return (ids.NO_VALUE, math.nan) if power_w is None else scaled((ids.OK, power_w), 1.0, 0.0, ids.MAX_POWER_W)
