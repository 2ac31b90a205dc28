"""Whose GPUs these are: chosen from the environment at the start, then looked after beside the run."""

import threading
from collections.abc import Callable, Mapping

import msgspec

from satscore.core.gpu import GpuInfo
from satscore.core.placement import GpuLooks, Look, Placement, look_at
from satscore.core.summary import GpuUse
from satscore.counters.source import Source
from satscore.launch.placement import ORDER_VARIABLE, VISIBLE_VARIABLE, counts_otherwise, visible_gpus
from satscore.launch.processes import CommandProcesses, exists, is_mps_server

FIRST_LOOK_S = 1.0
LONGEST_PAUSE_S = 30.0


class GpuChoice:
    """Chooses the GPUs to read, and knows all that could have been chosen.

    Args:
        environ: Our environment, which the command has inherited.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.machine: list[GpuInfo] = []
        """Every GPU that the driver lets us open; ``index`` is the driver's number."""
        self.note: str | None = None
        """What was unclear."""
        self.assumed = False
        self._setting = environ.get(VISIBLE_VARIABLE)
        self._order = environ.get(ORDER_VARIABLE)

    def choose(self, gpus: list[GpuInfo]) -> list[int]:
        """Return the driver's numbers of the GPUs to read."""
        self.machine = gpus
        self.assumed = counts_otherwise(self._setting, self._order, gpus)
        chosen, self.note = visible_gpus(self._setting, gpus)
        return [gpus[i].index for i in chosen]


class Lookout:
    """Looks which GPUs the command's processes compute on, rarely and in a thread of its own.

    Nobody waits for it: a driver that hangs here keeps this thread and nothing else. The pause between
    looks doubles up to half a minute, and is short again after news: processes start together.

    Args:
        source: Of measured readings.
        choice: The GPUs there are.
        wrapper_pid: The process that started the command.
        stop: Set when the command has ended.
    """

    def __init__(self, source: Source, choice: GpuChoice, wrapper_pid: int, stop: threading.Event) -> None:
        rows = tuple(GpuLooks(uuid=gpu.uuid, nvml_index=gpu.index) for gpu in choice.machine if gpu.uuid)
        self.placement = Placement(assumed=choice.assumed, gpus=rows)
        """What is known so far; always a whole value."""
        self.failure: str | None = None
        self._source = source
        self._machine = choice.machine
        self._processes = CommandProcesses(wrapper_pid)
        self._stop = stop

    def start(self, tell: Callable[[Placement], None]) -> None:
        """Start looking; returns at once.

        Args:
            tell: Called in the looking thread when a look has changed what is known.
        """
        try:
            threading.Thread(target=self._run, args=(tell,), name="satscore-lookout", daemon=True).start()
        except RuntimeError as error:  # a limit on threads
            self.failure = str(error)

    def _run(self, tell: Callable[[Placement], None]) -> None:
        pause_s = FIRST_LOOK_S
        try:
            while not self._stop.wait(pause_s):
                placement = self.placement.after(self.look())
                if self._stop.is_set():
                    return  # processes that were ending are nobody's any more
                news = not placement.concludes_as(self.placement)
                self.placement = placement
                if news:
                    tell(placement)
                pause_s = FIRST_LOOK_S if news else min(2 * pause_s, LONGEST_PAUSE_S)
        except Exception as error:  # noqa: BLE001 - a defect here must never hurt the user's command
            self.failure = f"{type(error).__name__}: {error}"

    def look(self) -> Look:
        """Look once, and return what that told."""
        lists = self._source.processes() or {}
        listed = {pid for pids in lists.values() for pid in pids}
        ours = {pid for pid in listed if self._processes.owns(pid)}
        others = {pid for pid in listed - ours if exists(pid)}
        look = look_at(lists, ours, others, {pid for pid in others if is_mps_server(pid)})
        return look if ours else msgspec.structs.replace(look, environment=self._shown())

    def _shown(self) -> dict[str, GpuUse]:
        """Return the GPUs that the command's processes with CUDA are shown by their environment."""
        shown: dict[str, GpuUse] = {}
        for environ in self._processes.cuda_environments():
            setting = environ.get(VISIBLE_VARIABLE)
            assumed = counts_otherwise(setting, environ.get(ORDER_VARIABLE), self._machine)
            for i in visible_gpus(setting, self._machine)[0]:
                uuid = self._machine[i].uuid
                if uuid and shown.get(uuid) != "environment":
                    shown[uuid] = "assumed" if assumed else "environment"
        return shown
