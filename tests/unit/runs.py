"""Whole runs as values: header and readings, simulated or written by hand, ready to score, record or cut up."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from satscore.core.fields import FIELDS
from satscore.core.gpu import GpuInfo
from satscore.core.readings import ReadingTable, table_of
from satscore.core.summary import Summary
from satscore.counters.clock import ManualClock
from satscore.counters.simulated import Truth, open_simulated
from satscore.record.run_file import FORMAT_VERSION, RunEnd, RunStart, StreamHeader
from satscore.run.models import load_library
from satscore.run.results import summarise
from satscore.run.session import Session
from tests.unit.scenes import E1
from tests.unit.scenes import series as readings_of
from tests.unit.sim_runs import run_end, run_file, run_start

NS = 1_000_000_000
COMMAND = ["python", "pretrain.py", "--layers", "32"]
MODELS = load_library({}).models
H200_INFO = GpuInfo(
    index=0,
    uuid="GPU-6b1c5d2e-0000-4000-8000-000000000000",
    name="NVIDIA H200",
    sm_count=132,
    memory_bus_bits=6144,
    memory_total_bytes=143_771 * 2**20,
    sm_clock_max_mhz=1980.0,
    mem_clock_max_mhz=3201.0,
    compute_capability=(9, 0),
    power_limit_gpu_w=700.0,
    mig_enabled=False,
)


def header(gpus: Sequence[GpuInfo], **changes: object) -> StreamHeader:
    """Return the header of a measured run."""
    given = {"source": "gpm", "scenario": None, "data_kind": "measured", "has_pipe_counters": True} | changes
    return StreamHeader(
        format_version=FORMAT_VERSION,
        hostname=str(given.pop("hostname", "nid001234")),
        rank=given.pop("rank", 0),  # type: ignore[arg-type]
        local_rank=None,
        grid_offset_ns=given.pop("grid_offset_ns", 0),  # type: ignore[arg-type]
        fields=[field.name for field in FIELDS],
        gpus=list(gpus),
        **given,  # type: ignore[arg-type]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One rank's header and readings."""

    header: StreamHeader
    table: ReadingTable

    def session(self, *, batch: int | None = None, profile: str = "train", dtype: str | None = None) -> Session:
        """Return the closed session, fed ``batch`` readings at a time."""
        offset_ns = self.header.grid_offset_ns
        session = Session(self.header.gpus, MODELS, profile=profile, dtype=dtype, grid_offset_ns=offset_ns)
        for part in batches(self.table, batch or max(1, len(self.table))):
            session.add(part)
        session.close()
        return session

    def summary(self, *, start: RunStart | None = None, end: RunEnd | None = None, batch: int | None = None) -> Summary:
        """Return the summary; without an end, that of a run which ended well."""
        start = start or run_start(COMMAND)
        session = self.session(batch=batch, profile=start.profile, dtype=start.dtype)
        end = end or run_end(_seconds(self.table), [])
        return summarise(
            run_file(start, end, version="1.2.3"), [(self.header, session)], directory="satscore-runs/demo"
        )


def _seconds(table: ReadingTable) -> float:
    return float(table.end_ns.max() - table.start_ns.min()) / NS if len(table) else 0.0


def rows(table: ReadingTable, chosen: object) -> ReadingTable:
    """Return some readings of a table, by anything that numpy can index with."""
    columns = {name: getattr(table, name)[chosen] for name in ("gpu", "start_ns", "end_ns", "values", "quality")}
    return ReadingTable(**columns)


def batches(table: ReadingTable, size: int) -> list[ReadingTable]:
    """Return a table in parts of ``size`` readings."""
    return [rows(table, slice(at, at + size)) for at in range(0, len(table), size)]


def joined(tables: Sequence[ReadingTable]) -> ReadingTable:
    """Return several tables as one, in the order of time."""
    names = ("gpu", "start_ns", "end_ns", "values", "quality")
    whole = ReadingTable(**{n: np.concatenate([getattr(t, n) for t in tables]) for n in names})
    return rows(whole, np.argsort(whole.end_ns, kind="stable"))


def measured(
    parts: Sequence[tuple[float, Mapping[str, float]]] = ((10.0, E1),),
    *,
    unknown: Sequence[str] = (),
    gpus: Sequence[GpuInfo] = (H200_INFO,),
    **changes: object,
) -> Run:
    """Return a run in which every GPU reads the same intervals, (length in s, values) each."""
    one = readings_of(parts, unknown=unknown)
    tables = [replace(one, gpu=np.full(len(one), gpu.index, dtype=np.int64)) for gpu in gpus]
    return Run(header=header(gpus, **changes), table=joined(tables))


@cache
def simulated(spec: str, seconds: float, period_s: float = 0.2) -> Run:
    """Return a simulated run, read at exact multiples of a period."""
    return _simulate(spec, seconds, period_s)[0]


@cache
def truth_of(spec: str, seconds: float, period_s: float = 0.2) -> Truth:
    """Return what really happened on GPU 0 of the same run."""
    return _simulate(spec, seconds, period_s)[1]


def _simulate(spec: str, seconds: float, period_s: float) -> tuple[Run, Truth]:
    clock, never = ManualClock(), threading.Event()
    source = open_simulated(spec, clock)
    readings = source.read()
    for tick in range(1, round(seconds / period_s) + 1):
        clock.wait_until(round(tick * period_s * NS), never)
        readings += source.read()
    made = header(source.gpus, source="sim", scenario=spec, data_kind="simulated")
    return Run(header=made, table=table_of(readings)), source.truth()
