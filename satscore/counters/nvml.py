"""NVML as a source of readings: gauges alone (``nvml``), or with GPM's pipe counters (``gpm``)."""

import functools
import threading
from collections.abc import Callable, Sequence

import msgspec

from satscore.core.fields import Reading
from satscore.core.gpu import GpuInfo
from satscore.counters import nvml_ids as ids
from satscore.counters.clock import Clock
from satscore.counters.gpm import GpmCalls, GpmPipes
from satscore.counters.nvml_api import Nvml, load, open_error
from satscore.counters.nvml_device import Device, NoPipes
from satscore.counters.nvml_events import XidWatch
from satscore.counters.nvml_info import Found, find_gpus, read_driver
from satscore.counters.nvml_notes import NoteBook
from satscore.counters.nvml_processes import compute_processes
from satscore.counters.nvml_scopes import SUPERCHIP_FIELDS, is_superchip
from satscore.counters.source import MIN_GAP_NS, SourceKind
from satscore.errors import CounterError

NO_PIPES_TEXT = "source nvml reads no pipe counters, so there is no score: on Hopper and newer use --source gpm"
Visible = Callable[[list[GpuInfo]], list[int]]
"""Chooses NVML indices from the GPUs that can be opened; ``index`` is the NVML index there."""


class NvmlSource:
    """Gauges, clocks, power, energy, throttle times, memory and errors; no pipe counters, so no score.

    Args:
        api: The library; closed with the source.
        devices: One per GPU of the run.
        gpus: Their facts.
        clock: The run's clock.
        notes: What could not be read.
    """

    name = "nvml"
    kind: SourceKind = "measured"
    has_pipe_counters = False

    def __init__(
        self, api: Nvml, devices: Sequence[Device], gpus: Sequence[GpuInfo], clock: Clock, notes: NoteBook
    ) -> None:
        self.gpus = tuple(gpus)
        self.clock = clock
        self.grid_offset_ns: int | None = None
        self._api = api
        self._devices = list(devices)
        self._notes = notes
        self._xids = XidWatch(api, [device.handle for device in self._devices], notes)
        self._begun = False

    def read(self) -> list[Reading]:
        """Return one reading per GPU for the time since its last one; see ``Source.read``.

        A GPU is left out of the list when its last read was less than 105 ms ago, or when its interval
        goes on because a failed GPM pair will be covered by the next one.
        """
        if not self._devices:
            return []
        if not self._begun:
            self._begun = True
            for device in self._devices:
                self._guard(device, self._base_line)
            return []
        self._poll_xids()
        readings = (self._guard(device, Device.tick) for device in self._devices)
        return [reading for reading in readings if reading is not None]

    def use_cpu_power(self, read_w: Callable[[int], float | None]) -> None:
        """Fill the power of the CPU on each module by something that is not NVML.

        Args:
            read_w: Tells it in W for a GPU of the run, or None, of which its owner tells; called once a second per
                GPU, and must not wait.
        """
        for device in self._devices:
            device.slow.cpu_power_w = functools.partial(read_w, device.gpu)
            self._notes.expect_absent(device.gpu, ("power_cpu_w",))

    def processes(self) -> dict[str, list[int]] | None:
        """Return the ids of the processes that compute on each GPU, by UUID; see ``Source.processes``."""
        try:
            return compute_processes()
        except Exception as error:  # noqa: BLE001 - as for a read
            self._notes.say(f"reading the GPUs' processes failed ({error!r}); please report it")
            return None

    def helper_cost(self) -> tuple[float, int]:
        """Return nothing: no process reads beside this one."""
        return 0.0, 0

    def notes(self) -> list[str]:
        """Return what could not be read, each once: later calls return only what is new."""
        return self._notes.drain()

    def labels(self) -> list[str]:
        """Return, per GPU, by which counter each power and energy scope is read (for ``doctor``)."""
        return [f"GPU {device.gpu}: {label}" for device in self._devices for label in device.ticks.labels()]

    def nvlinks_active(self) -> dict[int, int | None]:
        """Return how many NVLink connections were active when last asked, by GPU of the run (for ``doctor``)."""
        return {device.gpu: device.health.nvlink_active_count() for device in self._devices}

    def close(self) -> None:
        """Release samples, events and the library; a second call does nothing."""
        devices, self._devices = self._devices, []
        if devices:
            for device in devices:
                device.close()
            self._xids.close()
            self._api.close()

    @staticmethod
    def _base_line(device: Device) -> None:
        device.base_line()

    def _guard(self, device: Device, step: Callable[[Device], Reading | None]) -> Reading | None:
        try:
            return step(device)
        except Exception as error:  # noqa: BLE001 - a defect here must never hurt the user's command
            return device.fail(error)

    def _poll_xids(self) -> None:
        try:
            answers = self._xids.poll(self.clock.now_ns())
            for device, answer in zip(self._devices, answers, strict=False):
                device.add_xids(answer)
        except Exception as error:  # noqa: BLE001 - as above
            self._notes.say(f"reading Xid events failed ({error!r}); please report it")


class GpmSource(NvmlSource):
    """Everything of NvmlSource, and GPM's pipe counters: 100 % of the time observed."""

    name = "gpm"
    has_pipe_counters = True


def open_nvml(clock: Clock, visible: Visible | None = None) -> NvmlSource:
    """Open NVML for gauges.

    Args:
        clock: The run's clock.
        visible: Chooses NVML indices; None for all GPUs.

    Raises:
        CounterError: NVML cannot be used here, or there is no GPU to read; with the remedy.
    """
    api, notes = load(), NoteBook()
    try:
        found = _choose(api, visible, notes)
        devices = [Device(api, f, NoPipes(), k, clock, notes) for k, f in enumerate(found)]
        for device in devices:
            device.base_line()
        notes.say(NO_PIPES_TEXT)
        return NvmlSource(api, devices, _infos(found, devices), clock, notes)
    except BaseException:
        api.close()
        raise


def open_gpm(clock: Clock, visible: Visible | None = None) -> GpmSource:
    """Open NVML with GPM's pipe counters.

    Args:
        clock: The run's clock.
        visible: Chooses NVML indices; None for all GPUs.

    Raises:
        CounterError: NVML cannot be used here, there is no GPU to read, or none of them gives pipe
            counters; with the remedy.
    """
    api, notes = load(), NoteBook()
    devices: list[Device] = []
    try:
        found = _choose(api, visible, notes)
        _add_gpm_devices(api, found, clock, notes, devices)
        return GpmSource(api, devices, _infos(found, devices), clock, notes)
    except BaseException:
        for device in devices:
            device.close()
        api.close()
        raise


def _add_gpm_devices(api: Nvml, found: Sequence[Found], clock: Clock, notes: NoteBook, devices: list[Device]) -> None:
    """Append a device per GPU; raise CounterError if none of them gives pipe counters."""
    calls, codes = GpmCalls(api), []
    for k, gpu in enumerate(found):
        pipes = GpmPipes(calls, gpu, k, clock, notes)
        devices.append(Device(api, gpu, pipes, k, clock, notes))
        codes.append(_probe(devices[-1], pipes, clock))
    if ids.OK not in codes:
        raise _no_gpm(found, codes)
    for k, code in enumerate(codes):
        if code != ids.OK:
            notes.miss(k, "pipe counters (GPM)", code)


def _probe(device: Device, pipes: GpmPipes, clock: Clock) -> int:
    """Take the first sample, twice if the first failure may pass; return why there are no pipes."""
    code = device.base_line()
    if code != ids.OK and pipes.refused == ids.OK and not ids.is_lost(code):
        clock.wait_until(clock.now_ns() + MIN_GAP_NS, threading.Event())
        code = device.base_line()
    return code


def _choose(api: Nvml, visible: Visible | None, notes: NoteBook) -> list[Found]:
    """Return the GPUs of the run, in the order in which they were chosen."""
    picked = _pick(api, visible, notes)
    for k, gpu in enumerate(picked):
        if not is_superchip(gpu.info.name):
            notes.expect_absent(k, SUPERCHIP_FIELDS)
    return picked


def _pick(api: Nvml, visible: Visible | None, notes: NoteBook) -> list[Found]:
    found, refused = find_gpus(api, read_driver(api))
    if not found:
        raise open_error(next(iter(refused.values()), ids.GPU_NOT_FOUND))
    if visible is None:
        for index, code in refused.items():
            notes.say(f"NVML GPU {index} cannot be opened: {ids.code_of(code).text}; it is left out")
        return found
    chosen = visible([gpu.info for gpu in found])
    by_index = {gpu.nvml_index: gpu for gpu in found}
    for index in chosen:
        if index not in by_index:
            text = ids.code_of(refused.get(index, ids.GPU_NOT_FOUND)).text
            notes.say(f"NVML GPU {index} cannot be opened: {text}; it is left out")
    picked = [by_index[index] for index in dict.fromkeys(chosen) if index in by_index]
    if not picked:
        raise CounterError(
            f"NVML: none of the {len(found)} GPUs here belongs to this process",
            hint="CUDA_VISIBLE_DEVICES or the job's GPU binding leaves it no GPU",
        )
    return picked


def _infos(found: Sequence[Found], devices: Sequence[Device]) -> list[GpuInfo]:
    return [
        msgspec.structs.replace(
            gpu.info,
            index=device.gpu,
            nvml_index=gpu.nvml_index,
            power_limit_gpu_w=device.slow.limit_w("power_limit_gpu_w"),
            power_limit_module_w=device.slow.limit_w("power_limit_module_w"),
            nvlink_count=device.health.nvlink_count(),
            remapped_rows_count=device.health.remapped_rows_count(),
            remap_pending=device.health.remap_pending(),
            remap_failed=device.health.remap_failed(),
        )
        for gpu, device in zip(found, devices, strict=True)
    ]


def _no_gpm(found: Sequence[Found], codes: Sequence[int]) -> CounterError:
    """Return why no GPU gives pipe counters by GPM, from the first GPU's reason."""
    gpu, code = found[0], codes[0]
    who = f"GPU {gpu.nvml_index} ({gpu.info.name or 'unknown'})"
    if code == ids.NOT_SUPPORTED:
        return CounterError(
            f"GPM is not supported on {who}: it needs Hopper or newer",
            hint="its pipe counters exist through DCGM only: a host engine and its Python bindings "
            "(datacenter-gpu-manager), --source dcgm",
        )
    if code == ids.FUNCTION_NOT_FOUND:
        return CounterError(
            f"GPM is not in this driver ({gpu.info.driver_version or 'unknown version'}) for {who}",
            hint="GPM needs driver 525 or newer",
        )
    if code == ids.NO_PERMISSION:
        return CounterError(
            f"GPM: no permission to read pipe counters of {who}",
            hint="ask the site to allow profiling counters to users (NVreg_RestrictProfilingToAdminUsers=0)",
        )
    meaning = ids.code_of(code)
    return CounterError(
        f"GPM cannot be used on {who}: {meaning.text}", hint=meaning.remedy or "look at nvidia-smi -q and dmesg"
    )
