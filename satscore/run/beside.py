"""What is looked at beside the counters of measured GPUs: the vBoost level, the CPU's power, the host.

Evidence and conditions, never the score; whatever fails here is a note.
"""

import threading

from satscore.core.host import HostReading
from satscore.core.vboost import Vboost
from satscore.counters.grace import GracePower
from satscore.counters.host.sampler import HostSampler
from satscore.counters.source import Source, lend_cpu_power
from satscore.counters.vboost import DEADLINE_S, VboostReader
from satscore.launch.processes import CommandProcesses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from satscore.core.host_series import HostSeries
    from satscore.core.hosts import Hosts
    from satscore.record.host_file import HostHeader
    from satscore.record.run_file import StreamHeader


class Beside:
    """Looks, in threads of its own, from the opening of a source on.

    Args:
        source: Of measured GPUs.
        child_pid: The command's first process; None: there is no command.
        wrapper_pid: The process that started it.
        stop: Set when the command has ended.
        reads_host: Whether the host is looked at here; in large jobs one rank of a node does it.
    """

    def __init__(
        self,
        source: Source,
        child_pid: int | None,
        wrapper_pid: int,
        stop: threading.Event,
        *,
        reads_host: bool = True,
    ) -> None:
        self._stop = stop
        self._vboost = VboostReader()
        self._vboost.start(source.gpus)
        self._power = GracePower(source.gpus)
        lend_cpu_power(source, self._power.read_w)
        owns = None if child_pid is None else CommandProcesses(wrapper_pid).is_marked
        self._host = HostSampler(child_pid, source.clock, stop, owns=owns) if reads_host else None
        if self._host is not None:
            self._host.start()
        self._series: HostSeries | None = None
        self._notes: list[str] = []

    def vboost(self) -> Vboost:
        """Return what the driver's tool told of the vBoost level; waits for it, but not beyond the command's end."""
        return self._vboost.levels(DEADLINE_S + 1.0, self._stop)

    def take(self, header: "StreamHeader") -> "tuple[HostHeader, list[HostReading]] | None":
        """Return what was read of the host since the last call, with what it is about; it is added up, too.

        None where nobody looks here.

        Args:
            header: Of the recording of the GPUs.
        """
        from satscore.core.host_series import HostSeries  # noqa: PLC0415 - numpy
        from satscore.record.host_file import HostHeader  # noqa: PLC0415

        if self._host is None:
            return None
        if self._series is None:
            self._series = HostSeries(header.grid_offset_ns)
        readings = self._host.drain()
        try:
            self._series.append(readings)
        except Exception as error:  # noqa: BLE001 - evidence only: the run goes on without it
            self._notes.append(f"what the host did is not (all) added up ({error!r}); please report it")
        about = HostHeader(
            format_version=header.format_version,
            hostname=header.hostname,
            rank=header.rank,
            grid_offset_ns=header.grid_offset_ns,
            info=self._host.info(),
        )
        return about, readings

    def hosts(self) -> "Hosts":
        """Return what the host did so far; nothing before the first reading, with which its recording begins."""
        from satscore.core.hosts import NOT_READ, Hosts  # noqa: PLC0415 - numpy

        if self._series is None or self._host is None:
            return NOT_READ
        bins = self._series.bins()
        return Hosts(bins=bins, infos=(self._host.info(),)) if len(bins.index) else NOT_READ

    def notes(self) -> list[str]:
        """Return, once each, what could not be looked at."""
        return [*self._power.notes, *(self._host.notes() if self._host else []), *self._notes]

    def close(self) -> None:
        """Stop reading the CPU's power; nobody is waited for."""
        self._power.close()
