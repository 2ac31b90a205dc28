"""What a look at the machine and at its counters means for a user: one sentence and one remedy per check."""

from collections.abc import Iterator, Sequence

from satscore.core.checks_gpu import gpu_checks
from satscore.core.diagnosis import Check, CheckStatus, Examined, SourceFinding, is_before_gpm
from satscore.core.host import HOST_INDEX, HostInfo
from satscore.core.machine import Machine

WITHOUT_DRIVER = ("sim", "replay")
PIPE_SOURCES = ("gpm", "dcgm")
REFUSED_TEXT = "no permission"
"""What a source says that is refused its counters."""
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
        checks += gpu_checks(found)
    checks += _dcgm(machine, found)
    if isinstance(machine, Machine) and found is not None and found.kind == "measured":
        checks += _host(machine.host)
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
        library = f", library {found.library}" if found.library else ""  # DCGM alone needs none here
        yield Check(name="driver", status="ok", text=f"{found.driver_version}{cuda}{library}")
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
    refused = [s for s in sources if s.name in PIPE_SOURCES and s.status == "no" and REFUSED_TEXT in s.text]
    if not machine.admin_only or not refused:
        return
    yield Check(
        name="profiling",
        status="problem",
        text="profiling counters are for administrators only (RmProfilingAdminOnly: 1)",
        remedy="ask the site for NVreg_RestrictProfilingToAdminUsers=0",
    )


def _dcgm(machine: Machine | str, found: Examined | None) -> Iterator[Check]:
    """Say where DCGM would help: where the driver itself gives users no pipe counters."""
    if found is None or found.has_pipe_counters or not is_before_gpm(found):
        return
    here = "is" if isinstance(machine, Machine) and machine.has_host_engine else "is not"
    yield Check(
        name="dcgm",
        status="warning",
        text=f"pipe counters of this GPU exist through DCGM only; nv-hostengine {here} on PATH here",
        remedy="what is in the way stands at source dcgm; docs/cluster.md has the way around",
    )


def _host(host: HostInfo) -> Iterator[Check]:
    """Say what of the host cannot be told beside a run: then findings about the host are not judged, or by less."""
    fields = [name for name in host.missing if name in HOST_INDEX]
    if not fields:
        cpus = "" if host.cpus_usable_count is None else f", {host.cpus_usable_count:g} CPUs usable"
        yield Check(name="host evidence", status="ok", text=f"readable{cpus}")
        return
    reasons = dict.fromkeys(host.missing[name] for name in fields)
    pressure = all(name.startswith("pressure_") for name in fields)
    yield Check(
        name="host evidence",
        status="unknown",
        text=f"without {', '.join(fields)} ({'; '.join(reasons)})",
        remedy="boot the kernel with psi=1; the other evidence is enough for most findings"
        if pressure
        else "a restricted /proc or /sys (container, hidepid); the score needs none of it",
    )


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
