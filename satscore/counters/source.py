"""The contract of a counter source. Sources differ only in how they make Readings."""

from collections.abc import Callable
from typing import Literal, Protocol

from satscore.core.fields import Reading
from satscore.core.gpu import GpuInfo
from satscore.counters.clock import Clock

MIN_GAP_NS = 105_000_000
"""NVML refreshes its samples every 100 ms; a read closer than this to the last sees nothing new."""
SourceKind = Literal["measured", "simulated", "replay"]


class Source(Protocol):
    """A source of readings for the GPUs of one process. One owner thread; nothing here is thread-safe.

    Constructing or opening a source may raise CounterError (with the remedy); after that no method
    raises: what cannot be read is unknown in the reading, with its reason.
    """

    name: str
    """``gpm``, ``dcgm``, ``nvml``, ``sim``, ...: shown in every output."""
    kind: SourceKind
    has_pipe_counters: bool
    """Whether pipe counters (tensor, DRAM, ...) can be read: without them there is no score."""
    gpus: tuple[GpuInfo, ...]
    clock: Clock
    """The axis of the readings' times."""
    grid_offset_ns: int | None
    """Wall time minus that axis where the source knows it (a replay keeps the recording's); None: now's."""

    def read(self) -> list[Reading]:
        """Return the readings that were completed since the last call, those of a GPU in the order of time.

        The first call only takes the base line and returns an empty list. Calls must be at least
        105 ms apart (NVML refreshes its samples every 100 ms). Most sources return one reading per GPU that
        ends now; one whose samples are taken elsewhere may return none or several, each of its own time,
        back to back and never overlapping.
        """
        ...

    def processes(self) -> dict[str, list[int]] | None:
        """Return the ids of the processes that compute on each GPU of the machine, by UUID; None where unknown.

        Slow (milliseconds per GPU), so never asked in the tick, and the one method that may be called
        from another thread, also while the source is closed. Ids are as the driver sees them: in a
        container they may belong to another PID namespace.
        """
        ...

    def helper_cost(self) -> tuple[float, int]:
        """Return CPU time in s and largest resident memory in bytes of a process of the source's own.

        0 and 0 where it has none. May be asked at any time, also after ``close``.
        """
        ...

    def notes(self) -> list[str]:
        """Return, once each, what could not be read so far and what to do about it."""
        ...

    def close(self) -> None:
        """Release driver objects; never raises."""
        ...


def lend_cpu_power(source: Source, read_w: Callable[[int], float | None]) -> None:
    """Have a source fill the power of the CPU on each module, where it reads real GPUs.

    Args:
        source: Opened.
        read_w: Tells it in W for a GPU of the run, or None; called once a second per GPU, and must not wait.
    """
    use: Callable[[Callable[[int], float | None]], None] | None = getattr(source, "use_cpu_power", None)
    if use is not None:
        use(read_w)
