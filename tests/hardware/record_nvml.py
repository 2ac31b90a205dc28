"""Records what NVML answers on this node as a script for the fake library (tests/fakes/nvml/fake_nvml.c).

    python tests/hardware/record_nvml.py --seconds 30 --out node.script

A failing test can then carry the machine on which it failed. Names and UUIDs of GPUs are not private;
nothing else of the machine is written.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml as nv

GPM_IDS = (*range(1, 14), 20, 21, 60, 61, 100, 101, 102, 103)
RATE_IDS = (74, 75, 76, 77, 80, 252, 253, 270, 271)
SCOPED = {185: "average", 186: "power", 190: "limit"}
ENERGY = 191
PLAIN_IDS = (3, 4, 82)
UNITS = 1e3  # mW, mJ


def asked(call: Callable[..., Any], *args: Any) -> Any:
    """Return the answer, or the error code as a negative number."""
    try:
        return call(*args)
    except nv.NVMLError as error:
        return -int(error.value)


class Recorder:
    """One GPU: its facts once, its values at every tick."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.handle = nv.nvmlDeviceGetHandleByIndex(index)
        self.series: dict[str, list[tuple[float, float]]] = {}
        self.errors: dict[str, int] = {}
        support = asked(nv.nvmlGpmQueryDeviceSupport, self.handle)
        self.gpm = not isinstance(support, int) and bool(support.isSupportedDevice)
        self.samples = [nv.nvmlGpmSampleAlloc() for _ in range(2)] if self.gpm else []
        self.last_t = math.nan
        self.counters: dict[int, tuple[float, int]] = {}
        self.sampled = False

    def facts(self) -> Iterator[str]:
        """Yield the ``set`` lines."""
        h = self.handle
        memory = asked(nv.nvmlDeviceGetMemoryInfo, h, nv.nvmlMemory_v2)
        capability = asked(nv.nvmlDeviceGetCudaComputeCapability, h)
        pci = asked(nv.nvmlDeviceGetPciInfo, h)
        mig = asked(nv.nvmlDeviceGetMigMode, h)
        facts = {
            "cores": asked(nv.nvmlDeviceGetNumGpuCores, h),
            "bus_width": asked(nv.nvmlDeviceGetMemoryBusWidth, h),
            "arch": asked(nv.nvmlDeviceGetArchitecture, h),
            "max_sm_clock": asked(nv.nvmlDeviceGetMaxClockInfo, h, nv.NVML_CLOCK_SM),
            "max_mem_clock": asked(nv.nvmlDeviceGetMaxClockInfo, h, nv.NVML_CLOCK_MEM),
            "cc_major": capability[0] if isinstance(capability, tuple) else -1,
            "cc_minor": capability[1] if isinstance(capability, tuple) else -1,
            "memory_total": getattr(memory, "total", -1),
            "memory_reserved": getattr(memory, "reserved", -1),
            "pci_device_id": getattr(pci, "pciDeviceId", -1),
            "mig": mig[0] if isinstance(mig, list) else -1,
            "gpm": int(self.gpm),
        }
        yield f"set {self.index} name {nv.nvmlDeviceGetName(h)}"
        yield from (f"set {self.index} {key} {value}" for key, value in facts.items() if value >= 0)

    def put(self, key: str, t: float, value: Any, error: str = "") -> None:
        """Add a value from time t on, where it changed; or note an error code."""
        if isinstance(value, (int, float)) and not value < 0:
            points = self.series.setdefault(key, [])
            if not points or points[-1][1] != value:
                points.append((t, value))
        elif error and isinstance(value, int):
            self.errors[error] = -value

    def tick(self, t: float) -> None:
        """Read everything; interval values are written from the last tick's time on."""
        h = self.handle
        for kind in (nv.NVML_CLOCK_SM, nv.NVML_CLOCK_MEM):
            clock = asked(nv.nvmlDeviceGetClockInfo, h, kind)
            self.put(f"clock.{kind}", t, clock, "error nvmlDeviceGetClockInfo")
        self.put("temp", t, asked(nv.nvmlDeviceGetTemperature, h, 0), "error nvmlDeviceGetTemperature")
        self.put("util", t, getattr(asked(nv.nvmlDeviceGetUtilizationRates, h), "gpu", -1))
        self.put("memory_used", t, getattr(asked(nv.nvmlDeviceGetMemoryInfo, h, nv.nvmlMemory_v2), "used", -1))
        self.fields(t)
        if self.gpm:
            self.pipes(t)
        self.last_t = t

    def fields(self, t: float) -> None:
        """Read field values: gauges as they are, counters as their rate since the last tick."""
        wanted = [(i, s) for i in (*SCOPED, ENERGY) for s in (0, 1)] + [(i, 0) for i in (*RATE_IDS, *PLAIN_IDS)]
        answers = asked(nv.nvmlDeviceGetFieldValues, self.handle, wanted)
        if isinstance(answers, int):
            self.errors["error nvmlDeviceGetFieldValues"] = -answers
            return
        for (field, scope), answer in zip(wanted, answers, strict=True):
            if answer.nvmlReturn:
                self.errors[f"field_error {field} {scope}"] = answer.nvmlReturn
                continue
            uint = answer.valueType == nv.NVML_VALUE_TYPE_UNSIGNED_INT
            value = answer.value.uiVal if uint else answer.value.ullVal
            if field in SCOPED:
                self.put(f"{SCOPED[field]}.{scope}", t, value / UNITS)
            elif field in PLAIN_IDS:
                self.put(f"field.{field}.{scope}", t, value)
            else:
                self.rate(field, scope, value)

    def rate(self, field: int, scope: int, value: int) -> None:
        """Write how fast a counter grew since the last tick: energy in W, throttle times as a share."""
        key = field * 4 + scope
        now = time.monotonic()  # when the counters were read, not when the tick began
        (then, old), self.counters[key] = self.counters.get(key, (now, value)), (now, value)
        if now > then and not math.isnan(self.last_t):
            per_unit, name = (UNITS, f"energy.{scope}") if field == ENERGY else (1e9, f"rate.{field}")
            self.put(name, self.last_t, (value - old) / per_unit / (now - then))

    def pipes(self, t: float) -> None:
        """Read a GPM pair."""
        code = asked(nv.nvmlGpmSampleGet, self.handle, self.samples[1])
        if isinstance(code, int):
            self.errors["error nvmlGpmSampleGet"] = -code
            return
        if self.sampled:
            get = nv.c_nvmlGpmMetricsGet_t()
            get.version, get.numMetrics = nv.NVML_GPM_METRICS_GET_VERSION, len(GPM_IDS)
            get.sample1, get.sample2 = self.samples
            for i, metric in enumerate(GPM_IDS):
                get.metrics[i].metricId = metric
            nv.nvmlGpmMetricsGet(get)
            for metric, answer in zip(GPM_IDS, get.metrics, strict=False):
                if answer.nvmlReturn:
                    self.errors[f"metric_error {metric}"] = answer.nvmlReturn
                else:
                    self.put(f"gpm.{metric}", self.last_t, answer.value)
        self.samples.reverse()
        self.sampled = True

    def lines(self) -> Iterator[str]:
        """Yield the script's lines of this GPU."""
        yield from self.facts()
        for key, points in self.series.items():
            yield f"series {self.index} {key} " + " ".join(f"{t:.4f} {v:.10g}" for t, v in points)
        yield from (f"{what} {code} gpu {self.index}" for what, code in self.errors.items())


def record(seconds: float, period_s: float) -> list[str]:
    """Record all GPUs of this node for so long; return the script's lines."""
    nv.nvmlInit()
    gpus = [Recorder(i) for i in range(nv.nvmlDeviceGetCount())]
    begun = time.monotonic()
    while (t := time.monotonic() - begun) < seconds:
        for gpu in gpus:
            gpu.tick(t)
        time.sleep(max(0.0, period_s - (time.monotonic() - begun - t)))
    lines = [
        f"# recorded {seconds:g} s every {period_s:g} s by tests/hardware/record_nvml.py",
        f"driver {nv.nvmlSystemGetDriverVersion()}",
        f"cuda {nv.nvmlSystemGetCudaDriverVersion_v2()}",
        f"gpus {len(gpus)}",
    ]
    for gpu in gpus:
        lines += gpu.lines()
    nv.nvmlShutdown()
    return lines


def main() -> int:
    """Run the recorder from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--period", type=float, default=0.2, help="s, at least 0.12")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.write_text("\n".join(record(args.seconds, max(0.12, args.period))) + "\n")
    print(f"wrote {args.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
