"""Whose GPUs these are: chosen from the environment at the start, then looked after beside the run."""

import threading
import time
from collections.abc import Callable, Mapping

import msgspec

from satscore.core.gpu import GpuInfo
from satscore.core.gpu_claims import wanted_gpus, with_claims
from satscore.core.placement import GpuLooks, Look, Placement, look_at, surer, who_is
from satscore.core.summary_gpu import GpuUse
from satscore.counters.source import Source
from satscore.launch.claims import GpuClaims
from satscore.launch.placement import (
    ORDER_VARIABLE,
    VISIBLE_VARIABLE,
    counts_otherwise,
    has_numbers,
    local_choice,
    visible_gpus,
)
from satscore.launch.processes import CommandProcesses, Shown
from satscore.launch.request import Identity

NS_PER_MS = 1_000_000
FIRST_LOOK_S = 1.0
LONGEST_PAUSE_S = 10.0
ENVIRONMENTS_CPU_S = 0.02
"""For the environments of the command's processes at one look; the rest is for the next one."""
ALONE = Identity()


class GpuChoice:
    """Chooses the GPUs to read, and knows all that could have been chosen.

    All that are visible are read. Of those that several ranks of a node see, the rank's number there tells which
    one counts, until processes tell; and each is counted by one rank.

    Args:
        environ: Our environment, which the command has inherited.
        identity: Which rank of which job we are.
    """

    def __init__(self, environ: Mapping[str, str], identity: Identity = ALONE) -> None:
        self.machine: list[GpuInfo] = []
        """Every GPU that the driver lets us open; ``index`` is the driver's number."""
        self.note: str | None = None
        """What was unclear."""
        self.placement = Placement()
        """What is known before anybody has looked."""
        self.visible: frozenset[str | None] = frozenset()
        """Names of the GPUs to read."""
        self._environ = environ
        self._identity = identity
        has_neighbours = identity.world > 1 and identity.local_world != 1
        self._claims = GpuClaims(identity.key) if identity.key and has_neighbours else None

    def choose(self, gpus: list[GpuInfo]) -> list[int]:
        """Return the driver's numbers of the GPUs to read."""
        setting = self._environ.get(VISIBLE_VARIABLE)
        self.machine = gpus
        positions, self.note = visible_gpus(setting, gpus)
        chosen = [gpus[i] for i in positions]
        self.visible = frozenset(gpu.uuid for gpu in chosen)
        picked = local_choice(self._environ, self._identity, len(chosen), len(gpus))
        uuid = None if picked is None else chosen[picked].uuid
        placement = Placement(
            assumed=counts_otherwise(setting, self._environ.get(ORDER_VARIABLE), gpus),
            gpus=tuple(GpuLooks(uuid=gpu.uuid, nvml_index=gpu.index) for gpu in gpus if gpu.uuid),
            local_choice=(uuid,) if uuid else (),
        )
        self.placement = self.claim(placement)
        return [gpu.index for gpu in chosen]

    def claim(self, placement: Placement) -> Placement:
        """Hold what is to be counted here; return what is known then of the GPUs that other ranks count."""
        if self._claims is None:
            return placement
        wanted = wanted_gpus(placement, self.visible)
        return with_claims(placement, wanted, self._claims.update(wanted))

    def close(self) -> None:
        """Let other ranks count the GPUs; the end of the process does it as well."""
        if self._claims is not None:
            self._claims.close()


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
        self._choice = choice
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
                placement = self._choice.claim(self.placement.after(look, (now_ns - last_ns) // NS_PER_MS))
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
            shown_here = [self._machine[i].uuid for i in visible_gpus(setting, self._machine)[0]]
            if self.placement.local_choice and self._choice.visible <= set(shown_here):
                use = "visible"  # what all ranks of the node see does not tell which one is this rank's
            for uuid in shown_here:
                if uuid:
                    uses[uuid] = surer(use, uses.get(uuid))
        return uses
