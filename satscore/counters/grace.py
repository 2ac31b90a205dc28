"""Power of the CPU on each GPU's module, from the ACPI power meters of a Grace CPU.

A meter may take up to a second to answer, so each is read in a thread of its own; who asks gets the last value.
The files are those of the Linux driver ``acpi_power_meter``; NVIDIA's Grace tuning guide names the meters.
"""

import os
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from satscore.core.gpu import GpuInfo
from satscore.core.units import NS_PER_S
from satscore.counters.nvml_scopes import is_superchip

PERIOD_S = 1.0
MOST_AGE_NS = 2 * NS_PER_S
"""An older value is none."""
MOST_W = 2_000.0
"""Several times what a Grace CPU can draw: above it, and at 0, a meter has no value."""
_W_PER_MICROWATT = 1e-6
_LABEL = re.compile(r"(CPU|Grace) Power Socket (\d{1,3})")
_KINDS = ("CPU", "Grace")
"""The cores' rail alone, else the whole CPU with its memory: the first that a socket has."""
_FOLDERS = ("", "device")
"""Where a meter's files are: newer kernels keep them with hwmon, older ones with the device."""


class GracePower:
    """Reads the power of the CPUs beside some GPUs, once a second, until it is closed.

    Args:
        gpus: The run's GPUs; those that share no module with a CPU cost nothing.
        root: Where ``sys`` is.
    """

    def __init__(self, gpus: Sequence[GpuInfo], root: Path = Path("/")) -> None:
        self._meters: dict[int, _Meter] = {}
        self._lacks: list[tuple[set[int], str]] = []
        self._asked: set[int] = set()
        on_module = [gpu for gpu in gpus if is_superchip(gpu.name) or gpu.power_limit_module_w is not None]
        try:
            if on_module:
                self._find(on_module, root / "sys")
        except OSError as error:  # a tree that changes while it is looked at
            self._lack(on_module, f"the CPU's power is not read: {error}")

    @property
    def notes(self) -> list[str]:
        """What could not be read and was asked for, and what to do about it: another source may know the power."""
        return [text for gpus, text in self._lacks if gpus & self._asked]

    def read_w(self, gpu: int) -> float | None:
        """Return the power of a GPU's CPU in W, at most 2 s old; None if unknown. Never waits.

        Args:
            gpu: Its index in the run.
        """
        self._asked.add(gpu)
        meter = self._meters.get(gpu)
        return None if meter is None else meter.latest_w()

    def close(self) -> None:
        """Stop reading; a thread that hangs in a meter is left behind."""
        for meter in set(self._meters.values()):
            meter.stop()

    def _lack(self, gpus: Sequence[GpuInfo], text: str) -> None:
        self._lacks.append(({gpu.index for gpu in gpus}, text))

    def _find(self, gpus: Sequence[GpuInfo], sysfs: Path) -> None:
        files = find_meters(sysfs)
        if not files:
            self._lack(
                gpus,
                "the CPU's power is not read: no power meter of a CPU in /sys/class/hwmon "
                "(kernel module acpi_power_meter; readable by all?)",
            )
            return
        sockets = {gpu.index: socket_of(gpu, sysfs, sorted(files), alone=len(gpus) == 1) for gpu in gpus}
        meters = {socket: _Meter(files[socket]) for socket in sorted({s for s in sockets.values() if s is not None})}
        self._meters = {index: meters[socket] for index, socket in sockets.items() if socket is not None}
        unknown = [gpu for gpu in gpus if sockets[gpu.index] is None]
        if unknown:
            theirs = ", ".join(str(gpu.index) for gpu in unknown)
            self._lack(unknown, f"the CPU's power beside GPU {theirs} is not read: which socket is theirs is unknown")
        for meter in meters.values():
            try:
                meter.start()
            except RuntimeError as error:  # a limit on threads
                self._lack(gpus, f"the CPU's power is not read: {error}")
                break


class _Meter:
    """Keeps the last value of one meter."""

    def __init__(self, file: Path) -> None:
        self._fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        self._stop = threading.Event()
        self._latest: tuple[int, float] | None = None
        self._thread = threading.Thread(target=self._run, name="satscore-cpu-power", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def latest_w(self) -> float | None:
        latest = self._latest  # one read of it: the thread replaces it
        if latest is None or time.monotonic_ns() - latest[0] > MOST_AGE_NS:
            return None
        return latest[1]

    def _run(self) -> None:
        try:
            while True:
                begun_ns = time.monotonic_ns()
                power_w, now_ns = _read_w(self._fd), time.monotonic_ns()
                self._latest = None if power_w is None else (now_ns, power_w)
                # A meter that took a second is asked again at once, else its value would be too old before the next.
                if self._stop.wait(max(0.0, PERIOD_S - (now_ns - begun_ns) / NS_PER_S)):
                    return
        finally:
            os.close(self._fd)


def _read_w(fd: int) -> float | None:
    """Return what a meter shows in W; None if it shows nothing that can be true."""
    try:
        power_w = int(os.pread(fd, 32, 0)) * _W_PER_MICROWATT
    except (OSError, ValueError):
        return None
    return power_w if 0.0 < power_w <= MOST_W else None


def find_meters(sysfs: Path) -> dict[int, Path]:
    """Return the file with each socket's CPU power in uW, of those that can be read."""
    found: dict[tuple[str, int], Path] = {}
    for folder in sorted((sysfs / "class/hwmon").glob("hwmon*")):
        for place in (folder / name for name in _FOLDERS):
            label = _LABEL.fullmatch(_text(place / "power1_oem_info"))
            file = place / "power1_average"
            if label and os.access(file, os.R_OK):
                found.setdefault((label[1], int(label[2])), file)
    sockets = {socket for _, socket in found}
    return {socket: next(found[kind, socket] for kind in _KINDS if (kind, socket) in found) for socket in sockets}


def socket_of(gpu: GpuInfo, sysfs: Path, sockets: Sequence[int], *, alone: bool) -> int | None:
    """Return the socket that shares a module with a GPU; None if that is not known.

    The GPU's NUMA node has CPUs, and those a package. Firmware numbers packages as it likes, but in the order of
    the sockets; a different number of them says nothing.

    Args:
        gpu: The GPU.
        sysfs: The folder ``/sys``.
        sockets: Sockets that have a meter, ascending.
        alone: Whether it is the only GPU on a module.
    """
    package = _package_of(gpu, sysfs)
    packages = sorted(_packages(sysfs))
    if package in packages and len(packages) == len(sockets):
        return sockets[packages.index(package)]
    return sockets[0] if alone and len(sockets) == 1 and len(packages) <= 1 else None


def _package_of(gpu: GpuInfo, sysfs: Path) -> int | None:
    domain, _, place = (gpu.pci_bus_id or "").lower().partition(":")
    if not re.fullmatch("[0-9a-f]{4,8}", domain):
        return None
    # The driver writes eight digits, the kernel four or as many as it takes.
    node = _text(sysfs / f"bus/pci/devices/{int(domain, 16):04x}:{place}/numa_node")
    return None if _number(node) is None else _package_of_node(sysfs / f"devices/system/node/node{node}")


def _packages(sysfs: Path) -> set[int]:
    """Return the packages that any NUMA node has CPUs of; nodes of GPU memory have none."""
    nodes = (sysfs / "devices/system/node").glob("node[0-9]*")
    return {package for node in nodes if (package := _package_of_node(node)) is not None}


def _package_of_node(node: Path) -> int | None:
    cpu = _number(re.split("[-,]", _text(node / "cpulist"))[0])
    return None if cpu is None else _number(_text(node.parents[1] / f"cpu/cpu{cpu}/topology/physical_package_id"))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
