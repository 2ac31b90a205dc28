"""What code on the fake NVML starts with: ``from child import *`` (see tests/fakes/build.py)."""

import ctypes
import json
import math
import os
import sys
import threading
from typing import Any

from satscore.core.fields import FIELDS, Quality, Reading
from satscore.counters.clock import ManualClock, MonotonicClock
from satscore.counters.nvml import NvmlSource, open_gpm, open_nvml
from satscore.errors import CounterError

__all__ = [
    "FIELDS", "CounterError", "FakeClock", "MonotonicClock", "Quality", "as_dict", "ctypes", "emit", "json", "math",
    "open_gpm", "open_nvml", "os", "refusal", "run", "sys", "well_formed",
]  # fmt: skip

library = ctypes.CDLL("libnvidia-ml.so.1")
library.fake_nvml_set_time.argtypes = [ctypes.c_double]
library.fake_nvml_set_time.restype = None


class FakeClock(ManualClock):
    """A manual clock that moves the fake library's clock with it."""

    def __init__(self) -> None:
        super().__init__(0)
        library.fake_nvml_set_time(0.0)

    def wait_until(self, deadline_ns: int, stop: threading.Event) -> bool:
        stopped = super().wait_until(deadline_ns, stop)
        library.fake_nvml_set_time(self.now_ns() / 1e9)
        return stopped

    def sleep(self, seconds: float) -> None:
        self.wait_until(self.now_ns() + round(seconds * 1e9), threading.Event())


def as_dict(reading: Reading) -> dict[str, Any]:
    """Return a reading for JSON: ``v`` known values, ``q`` the qualities of the others, times in s."""
    names = [field.name for field in FIELDS]
    known = {n: v for n, v, q in zip(names, reading.values, reading.quality, strict=True) if q == Quality.OK}
    missing = {n: Quality(q).name for n, q in zip(names, reading.quality, strict=True) if q != Quality.OK}
    return {"gpu": reading.gpu, "t": [reading.start_ns / 1e9, reading.end_ns / 1e9], "v": known, "q": missing}


def well_formed(reading: Reading) -> bool:
    """Return whether a value is NaN exactly where its quality is not OK, and time goes forward."""
    pairs = zip(reading.values, reading.quality, strict=True)
    return reading.end_ns > reading.start_ns and all(math.isnan(v) == (q != Quality.OK) for v, q in pairs)


def run(source: NvmlSource, clock: FakeClock, n: int = 2, period_s: float = 0.2) -> list[dict[str, Any]]:
    """Take a base line and n more reads; return all readings."""
    out = []
    for k in range(n + 1):
        if k:
            clock.sleep(period_s)
        readings = source.read()
        assert all(well_formed(r) for r in readings)
        assert k or not readings
        out += [as_dict(r) for r in readings]
    return out


def refusal(opener: Any) -> list[str]:
    """Return message and hint of the CounterError that opening raises."""
    try:
        opener(FakeClock())
    except CounterError as error:
        return [error.message, error.hint]
    return []


def emit(value: Any) -> None:
    """Hand a value to the test."""
    json.dump(value, sys.stdout, allow_nan=False)
