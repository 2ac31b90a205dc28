"""What a look at the GPUs means for a user: model, bounds, caps, counters, health; a sentence and a remedy each."""

import math
from collections.abc import Callable, Iterator, Sequence

from satscore.core.diagnosis import Check, Examined, GpuFinding, HealthFinding
from satscore.core.vboost import TOOL

SLOW_READ_S = 0.05
LATE_TIMER_S = 0.05
READ_SHARE = 10
"""A period of so many read times leaves the driver nine tenths of the time."""
MAX_PERIOD_S = 60
SCOPES = ("power ", "energy ")
"""How the labels of counters begin that are worth telling."""


def gpu_checks(found: Examined) -> Iterator[Check]:
    """Yield the checks of the GPUs of a source, in the order in which they are shown.

    Args:
        found: What opening and reading it showed.
    """
    yield from _held(found)
    if any(gpu.mig_enabled for gpu in found.gpus):
        yield Check(
            name="MIG",
            status="problem",
            text="MIG is on: counters and bounds of a slice are not known",
            remedy="use a GPU without MIG",
        )
    else:
        yield _model(found.gpus)
    yield from _turns(found.gpus)
    yield from _ceilings(found)
    if found.kind == "measured":
        yield from _vboost(found)
        yield from _module_cap(found.gpus)
        yield from _cpu_power(found)
        yield from _scopes(found)
        yield from _health(found)
        yield from _links(found.gpus)
        yield from _company(found)
        yield _timing(found)


def _held(found: Examined) -> Iterator[Check]:
    if found.pipes_blank:
        yield Check(
            name="pipe counters",
            status="problem",
            text="they come without values: paused, or held by another profiler (Nsight, CUPTI, a second engine)",
            remedy="end that; 'dcgmi profile --resume' ends a pause",
        )


def _model(gpus: Sequence[GpuFinding]) -> Check:
    unknown = [gpu for gpu in gpus if gpu.model_id is None]
    if not unknown:
        ids = ", ".join(dict.fromkeys(gpu.model_id or "" for gpu in gpus))
        return Check(name="hardware model", status="ok", text=ids)
    reason, _, remedy = (unknown[0].model_note or "").partition(". No peaks of a similar part are used: ")
    return Check(name="hardware model", status="problem", text=reason, remedy=remedy.rstrip("."))


def _turns(gpus: Sequence[GpuFinding]) -> Iterator[Check]:
    turns = _numbers(gpus, lambda gpu: gpu.pipes_multiplexed)
    if turns:
        yield Check(
            name="multiplexing",
            status="warning",
            text=f"GPU {turns} cannot count all pipe counters at once: each is seen for a part of the time, grade C",
        )


def _ceilings(found: Examined) -> Iterator[Check]:
    if any(gpu.ceilings_at_other_cap for gpu in found.gpus):
        yield Check(
            name="ceilings",
            status="warning",
            text="the attainable rates known are of another power cap, or of a vBoost level that may not be this one",
            remedy="the score is right, 'of the attainable' is not exact: grade C",
        )
    lacking = dict.fromkeys(f"{r} of {gpu.model_id}" for gpu in found.gpus for r in gpu.ceilings_missing)
    if lacking:
        text = f"no attainable rate is known for {', '.join(lacking)}: 100 % of the datasheet is taken"
        yield Check(name="ceilings", status="warning", text=text)


def _vboost(found: Examined) -> Iterator[Check]:
    able = [gpu for gpu in found.gpus if gpu.may_have_vboost]
    unknown = _numbers(able, lambda gpu: gpu.vboost_level is None)
    why = (found.vboost_note or "").removeprefix("the vBoost level is unknown: ")
    if unknown:
        yield Check(
            name="vBoost",
            status="unknown",
            text=why or f"the level of GPU {unknown} is not told; it moves the attainable rates",
            remedy="nvidia-smi with boost-slider must work here (container: the driver capability 'utility')",
        )
        return
    levels = ", ".join(dict.fromkeys(f"{gpu.vboost_level} by {gpu.vboost_source}" for gpu in able))
    if any(gpu.vboost_source != TOOL for gpu in able):
        text = f"level {levels}, which nobody has verified{f' ({why})' if why else ''}"
        yield Check(name="vBoost", status="unknown", text=text)
    elif able:
        yield Check(name="vBoost", status="ok", text=f"level {levels}")


def _module_cap(gpus: Sequence[GpuFinding]) -> Iterator[Check]:
    on_module = [gpu for gpu in gpus if gpu.has_module]
    unstated = [gpu for gpu in on_module if gpu.module_cap_w is None]
    if unstated:
        limits = dict.fromkeys(gpu.power_limit_module_w for gpu in unstated if gpu.power_limit_module_w is not None)
        taken = ", ".join(f"{limit:.0f} W" for limit in limits)
        text = f"the driver's limit is taken ({taken}), which can be above the site's" if taken else "nor is one read"
        yield Check(
            name="module cap",
            status="unknown",
            text=f"none is stated, {text}",
            remedy="state the site's by SATSCORE_MODULE_CAP_W (in W)",
        )
    elif on_module:
        caps = dict.fromkeys(f"{gpu.module_cap_w:.0f} W by {gpu.module_cap_source}" for gpu in on_module)
        yield Check(name="module cap", status="ok", text=", ".join(caps))


def _cpu_power(found: Examined) -> Iterator[Check]:
    if not any(gpu.has_module for gpu in found.gpus):
        return
    missing = next((group.missing for group in found.counters if "power_cpu_w" in group.missing), None)
    if missing is None:
        yield Check(name="CPU power", status="ok", text="readable")
        return
    yield Check(
        name="CPU power",
        status="unknown",
        text=(found.cpu_power_note or f"not known: {missing['power_cpu_w']}").partition(" (")[0],
        remedy="ask the site for acpi_power_meter, readable by all; with --source dcgm the engine may tell it; the "
        "score needs none of it",
    )


def _scopes(found: Examined) -> Iterator[Check]:
    """Tell by which counter power and energy are read, once where it is the same on all GPUs."""
    by_counter: dict[str, list[str]] = {}
    for label in dict.fromkeys(line.partition(": ")[2] for line in found.labels):
        scope, _, counter = label.partition(": ")
        if scope.startswith(SCOPES) and counter != "refused":
            by_counter.setdefault(counter, []).append(scope)
    if by_counter:
        text = ", ".join(f"{' and '.join(scopes)} by {counter}" for counter, scopes in by_counter.items())
        yield Check(name="power scopes", status="ok", text=text)


def _health(found: Examined) -> Iterator[Check]:
    for ill in found.ills:
        yield Check(name="health", status="problem", text=ill)
    if found.ills:
        return
    rows = [gpu.health.remapped_rows_count for gpu in found.gpus if gpu.health.remapped_rows_count is not None]
    margins = [gpu.health.temp_margin_c for gpu in found.gpus if gpu.health.temp_margin_c is not None]
    facts = [f"{sum(rows)} memory rows remapped"] if rows else ["remapped rows not told"]
    facts += [f"{min(margins):.0f} C below slowdown"] if margins else []
    yield Check(name="health", status="ok", text=", ".join(["no errors seen", *facts]))


def _links(gpus: Sequence[GpuFinding]) -> Iterator[Check]:
    """Compare lanes, which stay when the GPU rests; the generation is lowered then, and counts under load only."""
    narrow = [gpu for gpu in gpus if _is_narrow(gpu)]
    if narrow:
        yield Check(
            name="links",
            status="warning",
            text=f"GPU {_numbers(narrow, _is_narrow)}: {_pcie(narrow[0].health)}",
            remedy="look again under load (satscore watch --duration 60); if it stays, report the node to the site",
        )
    partly = [gpu for gpu in gpus if _lacks_nvlinks(gpu)]
    if partly:
        yield Check(
            name="links",
            status="warning",
            text=f"GPU {_numbers(partly, _lacks_nvlinks)}: {_nvlink(partly[0].health)} active",
            remedy="report the node to the site",
        )
    if narrow or partly:
        return
    states = dict.fromkeys(", ".join(filter(None, (_pcie(gpu.health), _nvlink(gpu.health)))) for gpu in gpus)
    text = "; ".join(filter(None, states))
    if text:
        yield Check(name="links", status="ok", text=text)


def _is_narrow(gpu: GpuFinding) -> bool:
    """Return whether a link that was not seen under load, where it would be an ill, has fewer lanes than it could."""
    lanes, most = gpu.health.pcie_lanes_count, gpu.health.pcie_lanes_max_count
    return gpu.health.pcie_lost_frac is None and lanes is not None and most is not None and lanes < most


def _lacks_nvlinks(gpu: GpuFinding) -> bool:
    """Return whether some connections are active and others not; none at all may be how the board is used."""
    active, count = gpu.health.nvlink_active_count, gpu.health.nvlink_count
    return gpu.health.nvlink_lost_frac is None and active is not None and count is not None and 0 < active < count


def _pcie(health: HealthFinding) -> str:
    generation, most = health.pcie_generation, health.pcie_generation_max
    if generation is None:
        return ""
    rests = " (it rests)" if health.pcie_lost_frac is None and most is not None and generation < most else ""
    of = "" if most is None else f" of gen {most} x{health.pcie_lanes_max_count or '?'}"
    return f"PCIe gen {generation} x{health.pcie_lanes_count or '?'}{of}{rests}"


def _nvlink(health: HealthFinding) -> str:
    if not health.nvlink_count or health.nvlink_active_count is None:
        return ""
    return f"NVLink {health.nvlink_active_count} of {health.nvlink_count}"


def _company(found: Examined) -> Iterator[Check]:
    if not found.processes_readable:
        text = "not readable: which GPUs a command uses is taken from CUDA_VISIBLE_DEVICES alone"
        yield Check(name="process lists", status="unknown", text=text)
        return
    busy = _numbers(found.gpus, lambda gpu: bool(gpu.health.processes_count))
    if busy:
        yield Check(
            name="processes",
            status="warning",
            text=f"on GPU {busy} processes compute now; beside others a run gets grade C",
            remedy="if they are not your own, take another GPU (nvidia-smi lists them)",
        )
    else:
        yield Check(name="process lists", status="ok", text="readable, nobody computes")


def _timing(found: Examined) -> Check:
    timing = found.timing
    text = f"a read takes {1e3 * timing.read_mean_s:.1f} ms, the timer was {1e3 * timing.timer_late_max_s:.1f} ms late"
    if timing.read_mean_s > SLOW_READ_S:
        period_s = min(MAX_PERIOD_S, max(1, math.ceil(READ_SHARE * timing.read_mean_s)))
        remedy = f"this driver is slow: use --period {period_s}"
        return Check(name="timing", status="warning", text=text, remedy=remedy)
    if timing.timer_late_max_s > LATE_TIMER_S:
        return Check(name="timing", status="warning", text=text, remedy="the processor was busy: reads come late")
    return Check(name="timing", status="ok", text=text)


def _numbers(gpus: Sequence[GpuFinding], is_so: Callable[[GpuFinding], bool]) -> str:
    return ", ".join(str(gpu.number) for gpu in gpus if is_so(gpu))
