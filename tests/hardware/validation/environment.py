"""Where the measurement is made: GPU, driver, clocks, limits, versions. Reads only; changes nothing."""

import datetime as dt
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from satscore import __version__
from satscore.core.fields import INDEX
from satscore.core.gpu import GpuInfo
from satscore.counters.nvml import Visible
from satscore.counters.select import open_source
from satscore.launch.placement import visible_gpus

TOOL_TIMEOUT_S = 20.0
IDLE_GAP_S = 0.3
BUSY_ENGINE_FRAC = 0.05
QUERIES = {
    "state": ("-q", "-d", "CLOCK,POWER,PERFORMANCE,TEMPERATURE,MEMORY,UTILIZATION,ECC"),
    "boost_slider": ("boost-slider", "-l"),
}
"""Read-only queries of nvidia-smi; their text is kept as it is."""


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a reader needs to place the numbers."""

    started_utc: str
    command: list[str]
    hostname: str
    machine: str
    kernel_version: str
    python_version: str
    satscore_version: str
    torch: dict[str, float | str]
    slurm_job_id: str | None
    gpu: GpuInfo
    idle: dict[str, float | None]
    """Means of the readings before the first load; empty in a dry run."""
    nvidia_smi: dict[str, str]


def describe(gpu: GpuInfo, torch: dict[str, float | str], idle: dict[str, float | None]) -> Environment:
    """Return the environment of this process.

    Args:
        gpu: The GPU under test.
        torch: What the probe said.
        idle: Readings before the first load.
    """
    return Environment(
        started_utc=dt.datetime.now(tz=dt.UTC).isoformat(timespec="seconds"),
        command=list(sys.orig_argv),
        hostname=platform.node(),
        machine=platform.machine(),
        kernel_version=platform.release(),
        python_version=platform.python_version(),
        satscore_version=__version__,
        torch=torch,
        slurm_job_id=os.environ.get("SLURM_JOB_ID"),
        gpu=gpu,
        idle=idle,
        nvidia_smi=_nvidia_smi(gpu.uuid) if idle else {},
    )


def _nvidia_smi(uuid: str | None) -> dict[str, str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    out = {}
    for name, query in QUERIES.items():
        which = ["-i", uuid] if uuid and query[0] == "-q" else []
        try:
            done = subprocess.run(
                [tool, *query, *which], capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False
            )
            out[name] = done.stdout or done.stderr
        except (OSError, subprocess.TimeoutExpired) as error:
            out[name] = f"{type(error).__name__}: {error}"
    return out


def first_visible(gpus: list[GpuInfo]) -> list[int]:
    """Return the NVML index of the first GPU that CUDA would show."""
    chosen, _ = visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), gpus)
    return [gpus[i].index for i in chosen[:1]]


def only(uuid: str | None) -> Visible:
    """Return a choice of the GPU with this UUID."""
    return lambda gpus: [gpu.index for gpu in gpus if gpu.uuid == uuid][:1]


def find_gpu(source_name: str, visible: Visible) -> tuple[GpuInfo | None, dict[str, float | None], str]:
    """Open the source once.

    Args:
        source_name: As in ``satscore --source``.
        visible: Chooses the GPU.

    Returns:
        The GPU, its idle readings, and why there is none.
    """
    source, notes = open_source(source_name, visible)
    if source is None:
        return None, {}, "; ".join(notes)
    try:
        if not source.has_pipe_counters or not source.gpus:
            return None, {}, "; ".join([f"source {source.name} has no pipe counters here", *notes, *source.notes()])
        if source.kind == "simulated":
            return source.gpus[0], {}, ""
        source.read()
        time.sleep(IDLE_GAP_S)
        readings = source.read()
        names = ("engine_active_frac", "sm_clock_mhz", "power_gpu_w", "temp_gpu_c", "memory_used_bytes")
        values = readings[0].values if readings else []
        return source.gpus[0], {name: values[INDEX[name]] if values else None for name in names}, ""
    finally:
        source.close()


def script() -> Path:
    """Return the path of the command that starts everything, also the children."""
    return Path(__file__).resolve().parents[1] / "validate.py"
