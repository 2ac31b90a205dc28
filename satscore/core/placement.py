"""Which GPUs the command uses, and who else is on them: what the looks at processes told. Pure.

A look is slow and rare. Of all looks of a run a few facts are kept per GPU: who was ever seen there, and
for how long others were. Without proof no GPU is dropped from the score and nobody is accused.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import msgspec

from satscore.core.summary_gpu import GpuUse, KnownBy

SHARED_FRAC = 0.05
"""A GPU is shared if others were there for this share of the time: the job before may still be ending."""
Who = Literal["ours", "foreign", "perhaps", "hidden", "nobody"]
"""Whose a listed process is: the command's; proven to be somebody else's; not the command's by descent or
mark, but a daemon (docker, Ray) may have started it for the command; unknown; or it does not count."""


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """What /proc tells of a process that the driver lists; all False where the id does not exist here."""

    exists: bool = False
    is_ours: bool = False
    """It descends from satscore or carries its mark, now or when it was last seen."""
    has_cuda: bool = False
    """It has CUDA's driver library mapped or a GPU's device open, and is no mere thread."""
    is_server: bool = False
    """It computes on behalf of others, which are listed themselves (MPS)."""
    of_other_run: bool = False
    """It carries the mark of another satscore, and not ours."""
    started_before: bool = False
    """It is older than the satscore that started the command."""
    of_other_user: bool = False
    """It belongs to a user who is neither ours nor root, and is in no container, which may be the command's."""


def who_is(process: Listed, *, comparable: bool, all_shown: bool) -> Who:
    """Return whose a listed process is.

    Args:
        process: What is known of it.
        comparable: Whether we are in the initial PID namespace, whose ids the driver states. Elsewhere an
            equal number proves nothing, and whoever is not ours may be anybody.
        all_shown: Whether /proc shows the processes of all users: then an id that it lacks has just ended.
    """
    if not comparable:
        return "ours" if process.is_ours and process.has_cuda and not process.is_server else "hidden"
    if process.is_server:
        return "nobody"
    if process.is_ours:
        return "ours"
    if not process.exists:
        return "nobody" if all_shown else "hidden"
    return "foreign" if process.of_other_run or process.started_before or process.of_other_user else "perhaps"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """How many processes of each sort one look saw on one GPU."""

    ours: int = 0
    foreign: int = 0
    perhaps: int = 0
    hidden: int = 0

    @property
    def company(self) -> int:
        """Processes of others: proven ones, and the others beside ours."""
        return self.foreign + (self.perhaps if self.ours else 0)

    @property
    def shared(self) -> bool | None:
        """Whether others were there; None: this look cannot tell."""
        if self.company:
            return True
        return None if self.perhaps or self.hidden else False


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What one look told; GPUs are named by UUID.

    Attributes:
        seen: The processes on each GPU whose list was read.
        comparable: Whether others could be told: we are in the initial PID namespace.
        environment: GPUs that the environment of the command's processes shows them, by how sure that is.
    """

    seen: dict[str, Seen] = {}
    comparable: bool = True
    environment: dict[str, GpuUse] = {}

    @property
    def recognised(self) -> bool:
        """Whether a process of the command was seen on any GPU."""
        return any(seen.ours for seen in self.seen.values())


def look_at(lists: Mapping[str, Sequence[int]], who: Mapping[int, Who], *, comparable: bool) -> Look:
    """Return what the driver's lists of compute processes tell.

    Args:
        lists: Process ids per GPU; 0 stands for a process that the driver hides from us.
        who: Whose each of these ids is; the id 0 is always hidden.
        comparable: As for ``who_is``.
    """
    seen = {}
    for uuid, pids in lists.items():
        found = [who[pid] if pid else "hidden" for pid in set(pids)]
        seen[uuid] = Seen(
            ours=found.count("ours"),
            foreign=found.count("foreign"),
            perhaps=found.count("perhaps"),
            hidden=found.count("hidden"),
        )
    return Look(seen=seen, comparable=comparable)


class GpuLooks(msgspec.Struct, frozen=True, kw_only=True):
    """What all looks so far told about one GPU of the machine."""

    uuid: str
    nvml_index: int | None
    computes: bool = False
    """A process of the command was on the driver's list of its compute processes."""
    searched: bool = False
    """That list was read in a look which saw a process of the command on some GPU."""
    doubtful: bool = False
    """Processes were there whose owner is not known, or the list was refused in such a look."""
    foreign: bool = False
    """A process was there that is proven to be somebody else's."""
    environment: GpuUse | None = None
    """The environment of a process of the command shows it the GPU: surely, by an assumed order, or perhaps."""
    judged_ms: int = 0
    """Time of the looks that could tell whether others were there; a look stands for the time since the last."""
    shared_ms: int = 0
    company_max_count: int = 0

    def after(self, look: Look, duration_ms: int) -> "GpuLooks":
        """Return this with one more look, which stands for so much time; what was seen once stays seen."""
        listed = look.seen.get(self.uuid)
        seen = listed or Seen()
        shared = seen.shared if listed and look.comparable else None
        shown = look.environment.get(self.uuid)
        return GpuLooks(
            uuid=self.uuid,
            nvml_index=self.nvml_index,
            computes=self.computes or seen.ours > 0,
            searched=self.searched or (look.recognised and listed is not None),
            doubtful=self.doubtful or seen.perhaps + seen.hidden > 0 or (look.recognised and listed is None),
            foreign=self.foreign or seen.foreign > 0,
            environment=surer(shown, self.environment) if shown else self.environment,
            judged_ms=self.judged_ms + (0 if shared is None else duration_ms),
            shared_ms=self.shared_ms + (duration_ms if shared else 0),
            company_max_count=max(self.company_max_count, seen.company),
        )

    @property
    def shared_frac(self) -> float | None:
        """Share of the time judged in which others were there; None if no look could tell."""
        return self.shared_ms / self.judged_ms if self.judged_ms else None

    def is_unused(self, *, worked: bool) -> bool:
        """Return whether it is proven that the command, seen on some GPU, does not use this one.

        Args:
            worked: Whether its counters show work, which is the command's if nobody else was there.
        """
        return self.searched and not (self.computes or self.doubtful) and (self.foreign or not worked)


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the GPUs of a machine and the command.

    Precedence: processes, environment, the number of the rank on its node, visible.
    """

    assumed: bool = False
    """The GPUs were chosen by numbers that CUDA may count in another order."""
    gpus: tuple[GpuLooks, ...] = ()
    local_choice: tuple[str, ...] = ()
    """UUIDs of the GPUs that the rank's number on its node picks among those it sees; empty: it picks none."""
    claimed: tuple[str, ...] = ()
    """UUIDs of GPUs that another rank of the job counts already."""

    def after(self, look: Look, duration_ms: int) -> "Placement":
        """Return this with one more look, which stands for so much time."""
        return msgspec.structs.replace(self, gpus=tuple(gpu.after(look, duration_ms) for gpu in self.gpus))

    @property
    def known_by(self) -> KnownBy | None:
        """By what it is known which GPUs the command uses; None: it is not."""
        if any(gpu.computes for gpu in self.gpus):
            return "process"
        return "environment" if any(gpu.environment for gpu in self.gpus) else None

    @property
    def goes_by_local_rank(self) -> bool:
        """Whether nothing surer is known than what the number of the rank on its node picks."""
        told = any(gpu.computes or gpu.environment not in (None, "visible") for gpu in self.gpus)
        return bool(self.local_choice) and not told

    def use_of(self, uuid: str | None, *, worked: bool) -> GpuUse | None:
        """Return how it is known that the command uses a GPU; None: it does not, or another rank counts the GPU.

        Args:
            uuid: The GPU's name; without one nothing can be known about it.
            worked: Whether its counters show work, of whomever.
        """
        return None if uuid in self.claimed else self._use_of(uuid, worked=worked)

    def _use_of(self, uuid: str | None, *, worked: bool) -> GpuUse | None:
        """Return the same, whoever else counts the GPU."""
        gpu, known_by = self.looks_of(uuid), self.known_by
        if self.local_choice:
            return self._use_of_shared(uuid, gpu)
        if gpu is not None and known_by == "process":
            if gpu.computes:
                return "process"
            if gpu.is_unused(worked=worked):
                return None
        elif gpu is not None and known_by == "environment":
            return gpu.environment
        return "assumed" if self.assumed else "visible"

    def _use_of_shared(self, uuid: str | None, gpu: GpuLooks | None) -> GpuUse | None:
        """Return how a rank uses a GPU that the other ranks of its node see as well.

        What is not known to be used here is taken to be another's. An environment that shows the command no
        less than its rank sees tells nothing ("visible").
        """
        if self.known_by == "process":
            return "process" if gpu is not None and gpu.computes else None
        if self.goes_by_local_rank:
            how: GpuUse = "assumed" if self.assumed else "local_rank"
            return how if uuid in self.local_choice else None
        return gpu.environment if gpu is not None and gpu.environment != "visible" else None

    def unused_by(self, uuid: str | None) -> KnownBy | None:
        """Return by what it is known that a GPU without use is not the command's; None: it is not known.

        Args:
            uuid: The GPU's name.
        """
        if uuid in self.claimed and self._use_of(uuid, worked=False) is not None:
            return "claimed"
        if self.goes_by_local_rank:
            return "local_rank"
        return self.known_by or ("claimed" if uuid in self.claimed else None)

    def looks_of(self, uuid: str | None) -> GpuLooks | None:
        """Return what the looks told about a GPU; None where nobody looked."""
        return next((gpu for gpu in self.gpus if gpu.uuid == uuid), None)

    def used_outside(self, read: Collection[str | None]) -> tuple[GpuLooks, ...]:
        """Return the GPUs that the command is known to use and that are not among those read."""
        if self.known_by == "process":
            used = [gpu for gpu in self.gpus if gpu.computes]
        else:
            used = [gpu for gpu in self.gpus if gpu.environment not in (None, "visible")]
        return tuple(gpu for gpu in used if gpu.uuid not in read)

    def computes_elsewhere(self, read: Collection[str | None]) -> bool:
        """Return whether the command was seen to compute, and only on GPUs that are not among those read."""
        used = {gpu.uuid for gpu in self.gpus if gpu.computes}
        return bool(used) and used.isdisjoint(read)

    def concludes_as(self, other: "Placement") -> bool:
        """Return whether both say the same about every GPU; times of looks may differ."""
        return self.claimed == other.claimed and _conclusions(self) == _conclusions(other)


NOTHING_KNOWN = Placement()
"""Nobody looked: every GPU that is read counts."""


def is_shared(shared_frac: float | None) -> bool:
    """Return whether others were on a GPU for long enough to matter.

    Args:
        shared_frac: Share of the time judged in which they were; None: not known.
    """
    return shared_frac is not None and shared_frac >= SHARED_FRAC


def surer(one: GpuUse, other: GpuUse | None) -> GpuUse:
    """Return the surer of two ways in which environments show a GPU."""
    ways: tuple[GpuUse, ...] = ("environment", "assumed", "visible")
    return next((way for way in ways if way in (one, other)), one)


def _conclusions(placement: Placement) -> list[tuple[object, ...]]:
    return [
        (g.uuid, g.computes, g.searched, g.doubtful, g.foreign, g.environment, is_shared(g.shared_frac))
        for g in placement.gpus
    ]
