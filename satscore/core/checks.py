"""What a look at the machine and at its counters means for a user: one sentence and one remedy per check."""

import math
from collections.abc import Iterator, Sequence

from satscore.core.diagnosis import Check, CheckStatus, Examined, GpuFinding, SourceFinding
from satscore.core.machine import Machine

SLOW_READ_S = 0.05
LATE_TIMER_S = 0.05
READ_SHARE = 10
"""A period of so many read times leaves the driver nine tenths of the time."""
MAX_PERIOD_S = 60
WITHOUT_DRIVER = ("sim", "replay")
PIPE_SOURCES = ("gpm", "dcgm")
GPM_SINCE = (9, 0)
"""Compute capability from which on the driver gives pipe counters to users."""
_PASS_THROUGH = {
    "Docker": "start the container with --gpus all",
    "Podman": "start the container with --device nvidia.com/gpu=all",
    "Apptainer": "start the container with --nv",
    "Kubernetes": "request nvidia.com/gpu in the pod's limits",
}


def checks_of(machine: Machine | str, found: Examined | None, sources: Sequence[SourceFinding]) -> list[Check]:
    """Return every check, in the order in which they are shown.

    Args:
        machine: What was seen of it, or why nothing was.
        found: The best source, if one could be opened.
        sources: The list of sources.
    """
    checks: list[Check] = []
    if isinstance(machine, Machine) and _is_about_driver(sources):
        checks += _driver(machine, found)
        checks += _nodes(machine, found)
        checks += _hidden(machine, found)
        checks += _profiling(machine, sources)
    if found is not None:
        checks += _gpus(found)
        checks += _timing(found)
    checks += _dcgm(machine, found)
    checks += _run_directory(machine)
    return checks


def _is_about_driver(sources: Sequence[SourceFinding]) -> bool:
    """Return whether anything was tried that needs the driver; a broken simulation says nothing about it."""
    tried = [source.name for source in sources if source.status in ("yes", "no")]
    return not tried or not set(tried) <= set(WITHOUT_DRIVER)


def _driver(machine: Machine, found: Examined | None) -> Iterator[Check]:
    if found is not None and found.kind != "measured":
        return
    if found is not None and found.driver_version:
        cuda = f" (CUDA {found.cuda_driver_version})" if found.cuda_driver_version else ""
        yield Check(name="driver", status="ok", text=f"{found.driver_version}{cuda}, library {found.library or '?'}")
    elif machine.kernel_driver:
        yield Check(
            name="driver",
            status="problem",
            text=f"the kernel driver {machine.kernel_driver} is loaded, but its library does not answer here",
            remedy=_way_in(machine, "see the sources above"),
        )
    elif found is None:
        yield Check(
            name="driver",
            status="problem",
            text="no NVIDIA kernel driver is loaded (/proc/driver/nvidia/version is missing)",
            remedy="run doctor where the GPUs are: on a login node, inside a job (srun --gpus 1 satscore doctor)",
        )


def _way_in(machine: Machine, otherwise: str) -> str:
    """Return how GPUs get into this container; the other text where this is none."""
    if machine.container is None:
        return otherwise
    return _PASS_THROUGH.get(machine.container, "start the container with the NVIDIA runtime")


def _nodes(machine: Machine, found: Examined | None) -> Iterator[Check]:
    if machine.kernel_driver is None or (found is not None and found.kind != "measured"):
        return
    closed = [node.name for node in machine.nodes if not node.usable]
    gpus = [node for node in machine.nodes if node.name != "nvidiactl"]
    if not gpus:
        text = f"no /dev/nvidia0 ... in this {'container' if machine.container else 'machine'}"
        otherwise = "ask for a GPU from the batch system; else the site has to create them (nvidia-modprobe)"
        status: CheckStatus = "ok" if found else "problem"
        yield Check(name="device nodes", status=status, text=text, remedy=_way_in(machine, otherwise))
    elif closed:
        yield Check(
            name="device nodes",
            status="warning" if found else "problem",
            text=f"not readable and writable for this user: /dev/{', /dev/'.join(closed)}",
            remedy="these GPUs belong to other jobs, or the site's permissions are wrong",
        )


def _hidden(machine: Machine, found: Examined | None) -> Iterator[Check]:
    """Say that some GPUs of the machine are not ours, and whose doing that is."""
    if found is None or found.kind != "measured":
        return
    own, shown, present = len(found.gpus), found.gpus_shown_count, machine.kernel_gpus_count or 0
    hidden = [f"{shown - own} by CUDA_VISIBLE_DEVICES"] if own < shown else []
    hidden += [f"{present - shown} by the job's binding or the container"] if shown < present else []
    if hidden:
        text = f"{own} of {max(shown, present)}, hidden are {' and '.join(hidden)}"
        yield Check(name="visible GPUs", status="ok", text=text)


def _profiling(machine: Machine, sources: Sequence[SourceFinding]) -> Iterator[Check]:
    refused = [s for s in sources if s.name in PIPE_SOURCES and s.status == "no" and "no permission" in s.text]
    if not machine.admin_only or not refused:
        return
    yield Check(
        name="profiling",
        status="problem",
        text="profiling counters are for administrators only (RmProfilingAdminOnly: 1)",
        remedy="ask the site for NVreg_RestrictProfilingToAdminUsers=0",
    )


def _gpus(found: Examined) -> Iterator[Check]:
    if any(gpu.mig_enabled for gpu in found.gpus):
        yield Check(
            name="MIG",
            status="problem",
            text="MIG is on: counters and bounds of a slice are not known",
            remedy="use a GPU without MIG",
        )
    else:
        yield _model(found.gpus)
    yield from _ceilings(found)
    if found.kind == "measured":
        yield from _scopes(found)
        yield _processes(found)


def _model(gpus: Sequence[GpuFinding]) -> Check:
    unknown = [gpu for gpu in gpus if gpu.model_id is None]
    if not unknown:
        ids = ", ".join(dict.fromkeys(gpu.model_id or "" for gpu in gpus))
        return Check(name="hardware model", status="ok", text=ids)
    reason, _, remedy = (unknown[0].model_note or "").partition(". No peaks of a similar part are used: ")
    return Check(name="hardware model", status="problem", text=reason, remedy=remedy.rstrip("."))


def _ceilings(found: Examined) -> Iterator[Check]:
    if any(gpu.ceilings_at_other_cap for gpu in found.gpus):
        yield Check(
            name="ceilings",
            status="warning",
            text="the attainable rates known are of another power cap, or of a vBoost level that may not be this one",
            remedy="the score is right, 'of the attainable' is not exact: grade C",
        )
    elif found.gpus and all(gpu.vboost_level is None for gpu in found.gpus):
        yield Check(name="vBoost", status="unknown", text="the level is not known; it moves the attainable rates")
    lacking = dict.fromkeys(f"{r} of {gpu.model_id}" for gpu in found.gpus for r in gpu.ceilings_missing)
    if lacking:
        text = f"no attainable rate is known for {', '.join(lacking)}: 100 % of the datasheet is taken"
        yield Check(name="ceilings", status="warning", text=text)


def _scopes(found: Examined) -> Iterator[Check]:
    """Tell by which counter power and energy are read, once where it is the same on all GPUs."""
    by_counter: dict[str, list[str]] = {}
    for label in dict.fromkeys(line.partition(": ")[2] for line in found.labels):
        scope, _, counter = label.partition(": ")
        if counter != "refused":
            by_counter.setdefault(counter, []).append(scope)
    if by_counter:
        text = ", ".join(f"{' and '.join(scopes)} by {counter}" for counter, scopes in by_counter.items())
        yield Check(name="power scopes", status="ok", text=text)


def _processes(found: Examined) -> Check:
    if found.processes_readable:
        return Check(name="process lists", status="ok", text="readable")
    text = "not readable: which GPUs a command uses is taken from CUDA_VISIBLE_DEVICES alone"
    return Check(name="process lists", status="unknown", text=text)


def _timing(found: Examined) -> Iterator[Check]:
    if found.kind != "measured":
        return
    timing = found.timing
    text = f"a read takes {1e3 * timing.read_mean_s:.1f} ms, the timer was {1e3 * timing.timer_late_max_s:.1f} ms late"
    if timing.read_mean_s > SLOW_READ_S:
        period_s = min(MAX_PERIOD_S, max(1, math.ceil(READ_SHARE * timing.read_mean_s)))
        remedy = f"this driver is slow: use --period {period_s}"
        yield Check(name="timing", status="warning", text=text, remedy=remedy)
    elif timing.timer_late_max_s > LATE_TIMER_S:
        yield Check(name="timing", status="warning", text=text, remedy="the processor was busy: reads come late")
    else:
        yield Check(name="timing", status="ok", text=text)


def _dcgm(machine: Machine | str, found: Examined | None) -> Iterator[Check]:
    """Say where DCGM would help: where the driver itself gives users no pipe counters."""
    if found is None or found.has_pipe_counters or not _before_gpm(found):
        return
    here = "is" if isinstance(machine, Machine) and machine.has_host_engine else "is not"
    yield Check(
        name="dcgm",
        status="warning",
        text=f"pipe counters of this GPU exist through DCGM only; nv-hostengine {here} on PATH here",
        remedy="what is in the way stands at source dcgm; docs/cluster.md has the way around",
    )


def _before_gpm(found: Examined) -> bool:
    known = [gpu.compute_capability for gpu in found.gpus if gpu.compute_capability is not None]
    return bool(known) and all(capability < GPM_SINCE for capability in known)


def _run_directory(machine: Machine | str) -> Iterator[Check]:
    if isinstance(machine, str):
        remedy = "if a file system hangs, name another directory with --out"
        yield Check(name="run directory", status="problem", text=machine, remedy=remedy)
    elif machine.run_place_error:
        text = f"cannot write in {machine.run_place}: {machine.run_place_error}"
        remedy = "name a writable directory with --out DIR or SATSCORE_OUT"
        yield Check(name="run directory", status="problem", text=text, remedy=remedy)
    else:
        yield Check(name="run directory", status="ok", text=f"can be made in {machine.run_place}")
