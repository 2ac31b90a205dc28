"""Whose GPUs these are: chosen from the environment at the start, then looked after beside the run."""

import threading
import time
from collections.abc import Callable, Mapping

import msgspec

from satscore.core.gpu import GpuInfo
from satscore.core.placement import GpuLooks, Look, Placement, look_at, surer, who_is
from satscore.core.summary_gpu import GpuUse
from satscore.counters.source import Source
from satscore.launch.placement import ORDER_VARIABLE, VISIBLE_VARIABLE, counts_otherwise, has_numbers, visible_gpus
from satscore.launch.processes import CommandProcesses, Shown

NS_PER_MS = 1_000_000
FIRST_LOOK_S = 1.0
LONGEST_PAUSE_S = 10.0
ENVIRONMENTS_CPU_S = 0.02
"""For the environments of the command's processes at one look; the rest is for the next one."""


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
        self.placement = Placement()
        """What is known before anybody has looked."""
        self._setting = environ.get(VISIBLE_VARIABLE)
        self._order = environ.get(ORDER_VARIABLE)

    def choose(self, gpus: list[GpuInfo]) -> list[int]:
        """Return the driver's numbers of the GPUs to read."""
        self.machine = gpus
        self.placement = Placement(
            assumed=counts_otherwise(self._setting, self._order, gpus),
            gpus=tuple(GpuLooks(uuid=gpu.uuid, nvml_index=gpu.index) for gpu in gpus if gpu.uuid),
        )
        chosen, self.note = visible_gpus(self._setting, gpus)
        return [gpus[i].index for i in chosen]


class Lookout:
    """Looks which GPUs the command's processes compute on, rarely and in a thread of its own.

    Nobody waits for it: a driver that hangs here keeps this thread and nothing else. The pause between
    looks doubles up to 10 s, and is short again after news: processes start together.

    Args:
        source: Of measured readings.
        choice: The GPUs there are.
        wrapper_pid: The process that started the command.
        stop: Set when the command has ended.
    """

    def __init__(self, source: Source, choice: GpuChoice, wrapper_pid: int, stop: threading.Event) -> None:
        self.placement = choice.placement
        """What is known so far; always a whole value."""
        self.failure: str | None = None
        """Why nobody looks, or why the last look failed."""
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
        pause_s, last_ns = FIRST_LOOK_S, time.monotonic_ns()
        while not self._stop.wait(pause_s):
            news = False
            try:
                look, now_ns = self.look(), time.monotonic_ns()
                if self._stop.is_set():
                    return  # processes that were ending are nobody's any more
                placement = self.placement.after(look, (now_ns - last_ns) // NS_PER_MS)
                news, last_ns = not placement.concludes_as(self.placement), now_ns
                self.placement, self.failure = placement, None
                if news:
                    tell(placement)
            except Exception as error:  # noqa: BLE001 - never hurts the command; the next look may succeed
                self.failure = f"{type(error).__name__}: {error}"
            pause_s = FIRST_LOOK_S if news else min(2 * pause_s, LONGEST_PAUSE_S)

    def look(self) -> Look:
        """Look once, and return what that told."""
        lists, processes = self._source.processes() or {}, self._processes
        comparable = processes.comparable
        who = {
            pid: who_is(processes.describe(pid), comparable=comparable, all_shown=processes.all_shown)
            for pid in {pid for pids in lists.values() for pid in pids if pid}
        }
        look = look_at(lists, who, comparable=comparable)
        if look.recognised or self.placement.known_by == "process":
            return look
        shown = processes.cuda_environments(ENVIRONMENTS_CPU_S)
        return msgspec.structs.replace(look, environment=self._environment(shown))

    def _environment(self, shown: list[Shown]) -> dict[str, GpuUse]:
        """Return the GPUs that the command's processes with CUDA are shown, each by the surest of them."""
        uses: dict[str, GpuUse] = {}
        for process in shown:
            setting = process.environ.get(VISIBLE_VARIABLE)
            use: GpuUse = "environment"
            if counts_otherwise(setting, process.environ.get(ORDER_VARIABLE), self._machine):
                use = "assumed"
            if has_numbers(setting) and not process.counts_as_we:
                setting, use = None, "visible"  # numbers among other devices: it may be any
            for i in visible_gpus(setting, self._machine)[0]:
                uuid = self._machine[i].uuid
                if uuid:
                    uses[uuid] = surer(use, uses.get(uuid))
        return uses
