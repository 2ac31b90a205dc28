"""The readings at the end of a run: none after the command's end, and no time before it left out."""

from collections.abc import Iterable, Mapping

from satscore.core.fields import FIELDS, Quality, Reading, blank_reading

AMOUNTS = tuple(i for i, field in enumerate(FIELDS) if field.unit == "J")
"""What shrinks with a clipped interval. Counts of events stay: an error is not divided."""


def cut(readings: Iterable[Reading], end_ns: int) -> list[Reading]:
    """Return the readings up to the end; one that crosses it is clipped.

    Args:
        readings: In time order per GPU.
        end_ns: The command's end on the axis of the readings.
    """
    kept = (reading for reading in readings if reading.start_ns < end_ns)
    return [reading if reading.end_ns <= end_ns else _clip(reading, end_ns) for reading in kept]


def unread(covered_ns: Mapping[int, int], end_ns: int) -> list[Reading]:
    """Return a blank reading per GPU for the time that nobody read any more.

    Args:
        covered_ns: Per GPU, until when there are readings.
        end_ns: The command's end on the same axis.
    """
    return [
        blank_reading(gpu, start_ns, end_ns, Quality.ERROR) for gpu, start_ns in covered_ns.items() if start_ns < end_ns
    ]


def _clip(reading: Reading, end_ns: int) -> Reading:
    share = (end_ns - reading.start_ns) / (reading.end_ns - reading.start_ns)
    values = list(reading.values)
    for i in AMOUNTS:
        values[i] *= share
    return reading._replace(end_ns=end_ns, values=values)
