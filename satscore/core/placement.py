"""Which GPUs the command uses, and who else is on them: what the looks at processes told. Pure.

A look is slow and rare. Of all looks of a run two things are kept per GPU: what was ever seen of the
command, and how often processes of others were there.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import msgspec

from satscore.core.summary import GpuUse

KnownBy = Literal["process", "environment"]
SHARED_FRAC = 0.05
"""A GPU is shared if others were there in more than this share of looks: the job before may still be ending."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What one look told; GPUs are named by UUID.

    Attributes:
        listed: GPUs whose list of compute processes was read.
        computing: Those with a process of the command on it.
        environment: GPUs that the environment of the command's processes shows them, by how sure that is.
        foreign: Processes of others per GPU; a GPU for which that cannot be told is left out.
    """

    listed: frozenset[str] = frozenset()
    computing: frozenset[str] = frozenset()
    environment: dict[str, GpuUse] = {}
    foreign: dict[str, int] = {}


def look_at(
    lists: Mapping[str, Sequence[int]],
    ours: Collection[int],
    present: Collection[int],
    servers: Collection[int] = (),
) -> Look:
    """Return what the driver's lists of compute processes tell.

    The driver may state ids of another PID namespace. They are known to be ours to compare once one of
    the command's processes is among them; else only an id that exists here can be somebody else's.

    Args:
        lists: Process ids per GPU; 0 stands for a process that the driver hides from us.
        ours: The ids that are the command's processes.
        present: The ids that exist here.
        servers: The ids that compute on behalf of others, which are listed themselves (MPS).
    """
    recognised = any(pid in ours for pids in lists.values() for pid in pids)
    foreign = {}
    for uuid, pids in lists.items():
        others = {pid for pid in pids if pid and (recognised or pid in present)} - {*ours, *servers}
        if others or (recognised and 0 not in pids):
            foreign[uuid] = len(others)
    computing = frozenset(uuid for uuid, pids in lists.items() if any(pid in ours for pid in pids))
    return Look(listed=frozenset(lists), computing=computing, foreign=foreign)


class GpuLooks(msgspec.Struct, frozen=True, kw_only=True):
    """What all looks so far told about one GPU of the machine."""

    uuid: str
    nvml_index: int | None
    listed: bool = False
    """The driver's list of its compute processes could be read."""
    computes: bool = False
    """A process of the command was on that list."""
    environment: GpuUse | None = None
    """The environment of a process of the command shows it the GPU: environment, or assumed."""
    judged_count: int = 0
    """Looks that could tell whether others were there."""
    shared_count: int = 0
    foreign_max_count: int = 0

    def after(self, look: Look) -> "GpuLooks":
        """Return this with one more look; what was used once stays used."""
        foreign = look.foreign.get(self.uuid)
        return GpuLooks(
            uuid=self.uuid,
            nvml_index=self.nvml_index,
            listed=self.listed or self.uuid in look.listed,
            computes=self.computes or self.uuid in look.computing,
            environment=_surer(self.environment, look.environment.get(self.uuid)),
            judged_count=self.judged_count + (foreign is not None),
            shared_count=self.shared_count + bool(foreign),
            foreign_max_count=max(self.foreign_max_count, foreign or 0),
        )

    @property
    def shared_frac(self) -> float | None:
        """Share of looks with processes of others; None if no look could tell."""
        return self.shared_count / self.judged_count if self.judged_count else None


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the GPUs of a machine and the command. Precedence: processes, environment, visible."""

    assumed: bool = False
    """The GPUs were chosen by numbers that CUDA may count in another order."""
    gpus: tuple[GpuLooks, ...] = ()

    def after(self, look: Look) -> "Placement":
        """Return this with one more look."""
        return Placement(assumed=self.assumed, gpus=tuple(gpu.after(look) for gpu in self.gpus))

    @property
    def known_by(self) -> KnownBy | None:
        """By what it is known which GPUs the command uses; None: it is not."""
        if any(gpu.computes for gpu in self.gpus):
            return "process"
        return "environment" if any(gpu.environment for gpu in self.gpus) else None

    def use_of(self, uuid: str | None) -> GpuUse | None:
        """Return how it is known that the command uses a GPU; None: it is known that it does not.

        Args:
            uuid: The GPU's name; without one nothing can be known about it.
        """
        gpu, known_by = self.looks_of(uuid), self.known_by
        if gpu is not None and known_by == "process" and (gpu.computes or gpu.listed):
            return "process" if gpu.computes else None
        if gpu is not None and known_by == "environment":
            return gpu.environment
        return "assumed" if self.assumed else "visible"

    def looks_of(self, uuid: str | None) -> GpuLooks | None:
        """Return what the looks told about a GPU; None where nobody looked."""
        return next((gpu for gpu in self.gpus if gpu.uuid == uuid), None)

    def used_outside(self, read: Collection[str | None]) -> tuple[GpuLooks, ...]:
        """Return the GPUs that the command is known to use and that are not among those read."""
        if self.known_by is None:
            return ()
        used = (gpu for gpu in self.gpus if (gpu.computes if self.known_by == "process" else gpu.environment))
        return tuple(gpu for gpu in used if gpu.uuid not in read)

    def concludes_as(self, other: "Placement") -> bool:
        """Return whether both say the same about every GPU; counts of looks may differ."""
        return _conclusions(self) == _conclusions(other)


NOTHING_KNOWN = Placement()
"""Nobody looked: every GPU that is read counts."""


def is_shared(shared_frac: float | None) -> bool:
    """Return whether others were on a GPU often enough to matter.

    Args:
        shared_frac: Share of looks in which they were; None: not known.
    """
    return shared_frac is not None and shared_frac > SHARED_FRAC


def _conclusions(placement: Placement) -> list[tuple[str, bool, bool, GpuUse | None, bool]]:
    return [(g.uuid, g.listed, g.computes, g.environment, is_shared(g.shared_frac)) for g in placement.gpus]


def _surer(before: GpuUse | None, now: GpuUse | None) -> GpuUse | None:
    return "environment" if "environment" in (before, now) else before or now
