"""What this machine, container and job show of the GPUs, without the driver library."""

import itertools
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from satscore.core.host import HostInfo
from satscore.core.machine import Machine, Node
from satscore.counters.host.reader import HostReader
from satscore.record.files import DEFAULT_PARENT

_VERSION = re.compile(r"\s(\d{3,}\.\d+(?:\.\d+)*)\s")
_ADMIN_ONLY = "RmProfilingAdminOnly"
_NODES = re.compile(r"nvidia(ctl|\d+)")
_CONTAINER_FILES = ((".dockerenv", "Docker"), ("run/.containerenv", "Podman"))
_CONTAINER_VARIABLES = (
    ("APPTAINER_CONTAINER", "Apptainer"),
    ("SINGULARITY_CONTAINER", "Apptainer"),
    ("KUBERNETES_SERVICE_HOST", "Kubernetes"),
)
_PROBE_BYTES = 4096
_HOST_S = 0.05
"""Shares of time need two looks."""


def look(environ: Mapping[str, str], out: str | None, root: Path = Path("/")) -> Machine:
    """Look around; may hang where a file system does.

    Args:
        environ: The environment.
        out: The run directory that the user states, or None.
        root: Where /proc, /dev and the rest are.
    """
    nvidia = root / "proc/driver/nvidia"
    place = run_place(out)
    return Machine(
        kernel_driver=_kernel_driver(nvidia / "version"),
        kernel_gpus_count=_count(nvidia / "gpus"),
        admin_only=_admin_only(nvidia / "params"),
        nodes=_nodes(root / "dev"),
        container=_container(environ, root),
        has_host_engine=shutil.which("nv-hostengine", path=environ.get("PATH", "")) is not None,
        run_place=str(place),
        run_place_error=_write_error(place),
        host=_host(root),
    )


def run_place(out: str | None) -> Path:
    """Return the nearest existing directory above, or of, the one that a run will make."""
    place = Path(out).absolute() if out else Path.cwd() / DEFAULT_PARENT
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def _host(root: Path) -> HostInfo:
    """Read the host as beside a run, with this process in the place of the command."""
    reader = HostReader(os.getpid(), root=root)
    reader.read(time.monotonic_ns())
    time.sleep(_HOST_S)
    reader.read(time.monotonic_ns())
    return reader.info


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None


def _kernel_driver(path: Path) -> str | None:
    text = _read(path)
    if text is None:
        return None
    found = _VERSION.search(text)
    return found.group(1) if found else "of unknown version"


def _count(folder: Path) -> int | None:
    try:
        return sum(1 for _ in folder.iterdir())
    except OSError:
        return None


def _admin_only(path: Path) -> bool | None:
    for line in (_read(path) or "").splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() == _ADMIN_ONLY:
            return value.strip() != "0"
    return None


def _nodes(folder: Path) -> list[Node]:
    try:
        names = sorted(path.name for path in folder.iterdir() if _NODES.fullmatch(path.name))
    except OSError:
        return []
    return [Node(name=name, usable=os.access(folder / name, os.R_OK | os.W_OK)) for name in names]


def _container(environ: Mapping[str, str], root: Path) -> str | None:
    by_variable = (kind for name, kind in _CONTAINER_VARIABLES if name in environ)
    by_file = (kind for name, kind in _CONTAINER_FILES if (root / name).exists())
    return next(itertools.chain(by_variable, by_file), environ.get("container") or None)


def _write_error(place: Path) -> str | None:
    """Write a few bytes to a file without a name; return what went wrong."""
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
    except OSError as error:
        return error.strerror or str(error)
    return None
