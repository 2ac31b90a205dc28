"""What reading a source for a second showed, as a value of the diagnosis; scored by the code of a run."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from satscore.core.counter_groups import GROUPS, group_counters
from satscore.core.diagnosis import Examined, GpuFinding, HealthFinding, Timing
from satscore.core.fields import INDEX, Quality, Reading
from satscore.core.health import health_lines, health_of
from satscore.core.readings import table_of
from satscore.core.summarise import MISSING_TEXT, GpuResult, ScopeContext, is_doubtful, score_of
from satscore.core.summary_gpu import Score
from satscore.core.sums import merge_all
from satscore.core.vboost import Vboost
from satscore.counters.nvml import NO_PIPES_TEXT
from satscore.counters.nvml_health import NO_NEWS
from satscore.counters.nvml_scopes import SUPERCHIP_FIELDS, is_superchip
from satscore.counters.source import Source
from satscore.run.models import folder_to_add
from satscore.run.module_cap import known_hardware
from satscore.run.session import Session

LIBRARY = "libnvidia-ml.so"
NVML_SOURCES = ("gpm", "nvml", "both")
"""These read the state of links and rows every ten seconds; others that lack it never read it."""
TURNS_TEXT = "they take turns"
"""What DCGM's source says of GPUs whose pipe counters do."""
UNVERIFIED_TEXT = "nobody has verified that the node has it"
"""What is said of a vBoost level that only the job's constraint states."""
_PIPES = tuple(INDEX[field] for field in GROUPS["pipes"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What was looked at beside the counters."""

    processes: Mapping[str, Sequence[int]] | None
    """Ids of the processes that compute on each GPU, by UUID; None: the lists cannot be read."""
    gpus_shown_count: int
    """GPUs that the driver shows, whether or not they are our own."""
    vboost: Vboost
    cpu_power_notes: Sequence[str]


def judge(source: Source, readings: Sequence[Reading], reads_count: int, timing: Timing, beside: Beside) -> Examined:
    """Return what was found.

    Args:
        source: That was read.
        readings: What came.
        reads_count: Reads after the base line.
        timing: How long they took.
        beside: What else was looked at.
    """
    results, score, notes = _score(source, readings, beside.vboost)
    if source.kind == "measured":  # what is simulated or replayed, and for how long, is no news here
        notes += source.notes()
    first = source.gpus[0] if source.gpus else None
    absent = [] if any(is_superchip(gpu.name) for gpu in source.gpus) else SUPERCHIP_FIELDS
    labels: Callable[[], list[str]] = getattr(source, "labels", list)
    nvlinks_active: Callable[[], dict[int, int | None]] = getattr(source, "nvlinks_active", dict)
    active = nvlinks_active()
    gpus = [_gpu(r, readings, beside.processes or {}, active.get(r.info.index)) for r in results]
    return Examined(
        kind=source.kind,
        has_pipe_counters=source.has_pipe_counters,
        reads_count=reads_count,
        timing=timing,
        gpus=gpus,
        counters=group_counters(readings, MISSING_TEXT, absent, NO_NEWS if source.name in NVML_SOURCES else ()),
        labels=labels(),
        gpus_shown_count=beside.gpus_shown_count,
        processes_readable=beside.processes is not None,
        library=_library(),
        driver_version=first.driver_version if first else None,
        cuda_driver_version=first.cuda_driver_version if first else None,
        grade=score.grade,
        coverage_frac=score.coverage_frac,
        no_score_reason=score.missing.get("score_pct"),
        notes=[note for note in notes if not _is_said(note, beside)],
        pipes_blank=source.has_pipe_counters and _is_blank(readings),
        ills=health_lines(
            [(str(gpu.number), health_of(r.info, r.sums, 0)) for gpu, r in zip(gpus, results, strict=True)]
        ),
        vboost_note=beside.vboost.note,
        cpu_power_note="; ".join(beside.cpu_power_notes) or None,
    )


def _is_said(note: str, beside: Beside) -> bool:
    """Return whether a check says it."""
    return note in (NO_PIPES_TEXT, beside.vboost.note) or TURNS_TEXT in note or UNVERIFIED_TEXT in note


def _score(source: Source, readings: Sequence[Reading], vboost: Vboost) -> tuple[Sequence[GpuResult], Score, list[str]]:
    """Score as a run does, so that doctor promises no grade that a run would not get."""
    gpus, models, notes = known_hardware(source, os.environ, vboost)
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


def _gpu(
    result: GpuResult, readings: Sequence[Reading], processes: Mapping[str, Sequence[int]], nvlinks_active: int | None
) -> GpuFinding:
    info = result.info
    own = [reading for reading in readings if reading.gpu == info.index]
    pids = processes.get(info.uuid or "")
    health = health_of(info, result.sums, 0)
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
        has_module=is_superchip(info.name) or info.power_limit_module_w is not None,
        module_cap_source=info.module_cap_source,
        may_have_vboost=info.may_have_vboost,
        vboost_source=info.vboost_source,
        health=HealthFinding(
            processes_count=None if pids is None else len(pids),
            remapped_rows_count=health.remapped_rows_before_count,
            temp_margin_c=health.temp_margin_c,
            pcie_generation=_last(own, "pcie_generation"),
            pcie_generation_max=health.pcie_generation_max,
            pcie_lanes_count=_last(own, "pcie_lanes_count"),
            pcie_lanes_max_count=health.pcie_lanes_max_count,
            pcie_lost_frac=health.pcie_lost_frac,
            nvlink_active_count=nvlinks_active,
            nvlink_count=health.nvlink_count,
            nvlink_lost_frac=health.nvlink_lost_frac,
        ),
    )


def _last(readings: Sequence[Reading], field: str) -> int | None:
    """Return the last known value of a field."""
    at = INDEX[field]
    known = (reading.values[at] for reading in reversed(readings) if reading.quality[at] == Quality.OK)
    return next((int(value) for value in known), None)


def _is_blank(readings: Sequence[Reading]) -> bool:
    """Return whether all pipe counters that are there came without a value."""
    seen = {reading.quality[at] for reading in readings for at in _PIPES}
    return Quality.BLANK in seen and Quality.OK not in seen


def _library() -> str | None:
    """Return which file is loaded as the driver library: the first found is not always the driver's."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line[line.index("/") :] for line in lines if f"/{LIBRARY}" in line), None)
