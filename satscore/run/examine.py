"""Open a source, read it for a second, score what came: what ``doctor`` knows of a source it knows from this."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from satscore.core.diagnosis import Examined, GpuFinding, SourceFinding, Timing, group_counters
from satscore.core.fields import Reading
from satscore.core.readings import table_of
from satscore.core.summarise import MISSING_TEXT, GpuResult, ScopeContext, is_doubtful, score_of
from satscore.core.summary_gpu import Score
from satscore.core.sums import merge_all
from satscore.core.units import NS_PER_S
from satscore.counters.nvml import NO_PIPES_TEXT
from satscore.counters.nvml_scopes import SUPERCHIP_FIELDS, is_superchip
from satscore.counters.replay import ReplaySpec
from satscore.counters.select import open_source
from satscore.counters.source import Source
from satscore.run.lookout import GpuChoice
from satscore.run.models import folder_to_add
from satscore.run.module_cap import known_hardware
from satscore.run.replay_source import open_replay
from satscore.run.session import Session

INTERVALS = 6
INTERVAL_NS = 200_000_000
"""Six reads of the default period: error counts come once a second. Of real time, where a simulation is slow."""
LIBRARY = "libnvidia-ml.so"

Say = Callable[[str], None]


def examine(name: str, spec: str, say: Say, *, dcgm: str | None = None) -> bytes:
    """Return a SourceFinding as JSON; may hang where the driver does.

    Args:
        name: The source's name in the list.
        spec: What opens it: ``gpm``, ``sim:llm``, ...
        say: Told the stage of the work.
        dcgm: DCGM's host engine, or None for the usual ones.
    """
    return msgspec.json.encode(_examine(name, spec, say, dcgm))


def _examine(name: str, spec: str, say: Say, dcgm: str | None) -> SourceFinding:
    say("opening the driver" if name not in ("sim", "replay") else "opening")
    choice = GpuChoice(os.environ)
    begun_ns = time.monotonic_ns()
    source, notes = open_source(spec, choice.choose, lambda replay: _open_replay(replay, begun_ns), dcgm=dcgm)
    placement = [choice.note] if choice.note else []
    open_s = (time.monotonic_ns() - begun_ns) / NS_PER_S
    if source is None:
        return SourceFinding(name=name, status="no", text="; ".join([*notes, *placement]))
    readings, timing = _read(source, open_s, say)
    say("asking for the processes on the GPUs")
    processes = source.processes()
    say("scoring")
    found = _judge(source, readings, timing)
    found = msgspec.structs.replace(
        found,
        notes=[*placement, *found.notes],
        gpus_shown_count=len(choice.machine) or len(source.gpus),
        processes_readable=processes is not None,
    )
    say("closing the driver")
    source.close()
    return SourceFinding(name=name, status="yes", text=_what(source, timing), examined=found)


def _open_replay(spec: ReplaySpec, begun_ns: int) -> Source:
    """Open a recording; one that is to be played slowly is looked at as fast as it was made."""
    return open_replay(replace(spec, speed=max(1.0, spec.speed)), begun_ns)[0]


def _what(source: Source, timing: Timing) -> str:
    gpus = f"{len(source.gpus)} GPU{'s' if len(source.gpus) != 1 else ''}"
    what = f"pipe counters and gauges of {gpus}" if source.has_pipe_counters else f"gauges of {gpus}, no pipe counters"
    return f"{what} (opened in {timing.open_s:.1f} s)"


def _read(source: Source, open_s: float, say: Say) -> tuple[list[Reading], Timing]:
    clock, never = source.clock, threading.Event()
    say("taking the base line")
    interval_ns = round(INTERVAL_NS * min(1.0, getattr(clock, "speed", 1.0)))
    last_ns = clock.now_ns()
    readings = source.read()
    ended_ns = clock.now_ns()
    took_ns, late_ns = [], [0]
    for i in range(INTERVALS):
        say(f"reading, {i + 1} of {INTERVALS}")
        clock.wait_until(last_ns + interval_ns, never)
        begun_ns = clock.now_ns()
        late_ns.append(begun_ns - max(last_ns + interval_ns, ended_ns))
        readings += source.read()
        ended_ns = clock.now_ns()
        took_ns.append(ended_ns - begun_ns)
        last_ns = begun_ns
    return readings, Timing(
        open_s=open_s,
        read_mean_s=sum(took_ns) / len(took_ns) / NS_PER_S,
        read_max_s=max(took_ns) / NS_PER_S,
        timer_late_max_s=max(late_ns) / NS_PER_S,
    )


def _judge(source: Source, readings: Sequence[Reading], timing: Timing) -> Examined:
    results, score, notes = _score(source, readings)
    if source.kind == "measured":  # what is simulated or replayed, and for how long, is no news here
        notes += source.notes()
    first = source.gpus[0] if source.gpus else None
    absent = [] if any(is_superchip(gpu.name) for gpu in source.gpus) else SUPERCHIP_FIELDS
    labels: Callable[[], list[str]] = getattr(source, "labels", list)
    return Examined(
        kind=source.kind,
        has_pipe_counters=source.has_pipe_counters,
        reads_count=INTERVALS,
        timing=timing,
        gpus=[_gpu(result) for result in results],
        counters=group_counters(readings, MISSING_TEXT, absent),
        labels=labels(),
        gpus_shown_count=len(source.gpus),
        processes_readable=False,
        library=_library(),
        driver_version=first.driver_version if first else None,
        cuda_driver_version=first.cuda_driver_version if first else None,
        grade=score.grade,
        coverage_frac=score.coverage_frac,
        no_score_reason=score.missing.get("score_pct"),
        notes=[note for note in notes if note != NO_PIPES_TEXT],
    )


def _score(source: Source, readings: Sequence[Reading]) -> tuple[Sequence[GpuResult], Score, list[str]]:
    """Score by the code of a run, so that doctor promises no grade that a run would not get."""
    gpus, models, notes = known_hardware(source, os.environ)
    folder = folder_to_add(os.environ)
    session = Session(gpus, models, profile="train", dtype=None, grid_offset_ns=0, model_folder=folder)
    session.add(table_of(readings))
    session.close()
    results = session.result(rank=0, local_rank=None, hostname="").gpus
    unmodelled = next((result.model_note or "no hardware model" for result in results if result.model is None), None)
    context = ScopeContext(
        profile="train",
        has_pipe_counters=source.has_pipe_counters,
        no_score_reason=unmodelled if source.has_pipe_counters else "this source reads no pipe counters",
        is_doubtful=is_doubtful(results),
        dtype=None,
    )
    score = score_of(merge_all(result.sums for result in results), context)
    return results, score, [*notes, *session.notes()]


def _gpu(result: GpuResult) -> GpuFinding:
    info = result.info
    return GpuFinding(
        number=info.index if info.nvml_index is None else info.nvml_index,
        uuid=info.uuid,
        name=info.name,
        compute_capability=info.compute_capability,
        mig_enabled=info.mig_enabled,
        model_id=result.model.id if result.model else None,
        model_note=result.model_note,
        power_limit_gpu_w=info.power_limit_gpu_w,
        power_limit_module_w=info.power_limit_module_w,
        module_cap_w=info.module_cap_w,
        vboost_level=info.vboost_level,
        pipes_multiplexed=info.pipes_multiplexed,
        ceilings_at_other_cap=result.bounds.ceilings_at_other_cap,
        ceilings_missing=list(result.bounds.ceilings_missing) if result.model else [],
    )


def _library() -> str | None:
    """Return which file is loaded as the driver library: the first found is not always the driver's."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line[line.index("/") :] for line in lines if f"/{LIBRARY}" in line), None)
