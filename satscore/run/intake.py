"""Readings on their way from the sampler to what scores and records them; the run's end cuts them."""

from satscore.core.fields import Reading
from satscore.counters.source import Source
from satscore.run.ending import Ending
from satscore.run.sampler import Sampler
from satscore.run.tail import cut, unread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from satscore.core.readings import ReadingTable


class Intake:
    """Takes what a sampler has read; one user.

    Args:
        source: What is sampled.
        sampler: Started: the time that readings should cover has begun.
    """

    def __init__(self, source: Source, sampler: Sampler) -> None:
        self.source = source
        self.sampler = sampler
        self._covered_ns = dict.fromkeys((gpu.index for gpu in source.gpus), sampler.base_ns)
        """Per GPU, until when there are readings."""

    def take(self, ending: Ending, *, fill: bool = False) -> "ReadingTable":
        """Return the readings since the last call; time after the command's end is never among them.

        Args:
            ending: The command's end, if it has come.
            fill: Whether the time up to the end that no reading covers counts as not known.
        """
        from satscore.core.readings import table_of  # noqa: PLC0415 - numpy

        readings = self.sampler.drain()
        if ending.at_ns is not None:  # looked at after the drain: readings before it are whole
            end_ns = self.source.clock.from_monotonic_ns(ending.at_ns)
            readings = cut(readings, end_ns)
            self._cover(readings)
            readings += unread(self._covered_ns, end_ns) if fill else []
        self._cover(readings)
        return table_of(readings)

    def _cover(self, readings: list[Reading]) -> None:
        self._covered_ns |= {reading.gpu: reading.end_ns for reading in readings}
