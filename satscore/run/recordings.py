"""The recordings of a run directory: which files there are, how old they are, and the readings in one."""

import contextlib
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from satscore.core.readings import ReadingTable, concatenate
from satscore.core.units import NS_PER_S
from satscore.errors import RecordError
from satscore.record.stream import Recording, repair
from satscore.record.sums_file import PATTERN, readings_beside
from satscore.record.sums_job import JOB_SUMS_FILE

CUT_NOTE = "the recording of rank {rank} was cut off: what came after its last whole batch is lost"
QUIET_S = 60.0
"""A recording that nobody has written to for this long has ended: a batch is written at least every 30 s."""
CHUNK_READINGS = 16384
"""Readings scored at a time: a day of four GPUs is 17,280 batches, and each call costs milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFiles:
    """The files of a run directory.

    Attributes:
        readings: A recording of readings per rank.
        sums: Sums of ranks without readings, one rank or a few per file.
        job: Sums of all ranks; None: there are none.
    """

    readings: list[Path]
    sums: list[Path]
    job: Path | None


def recorded_files(directory: Path) -> RecordedFiles:
    """Return the recordings of a run.

    Raises:
        RecordError: There is none.
    """
    readings = sorted(directory.glob("readings-*.arrows"))
    every = sorted(directory.glob(PATTERN))
    job = next((path for path in every if path.name == JOB_SUMS_FILE), None)
    beside = set(readings)
    sums = [path for path in every if path != job and readings_beside(path) not in beside]
    if not readings and not every:
        raise RecordError(
            f"{directory}: no recording of readings (readings-*.arrows) or sums ({PATTERN})",
            hint="the run was made with --record no or without a GPU (summary.json has the result, if any), or it "
            "was killed before the first sums were written",
        )
    return RecordedFiles(readings=readings, sums=sums, job=job)


def age_s(paths: Iterable[Path]) -> float:
    """Return how long ago the youngest of some files was written, in s of wall time; infinite if unknown."""
    ages_s = [math.inf]
    for path in paths:
        with contextlib.suppress(OSError):
            ages_s.append((time.time_ns() - path.stat().st_mtime_ns) / NS_PER_S)
    return min(ages_s)


def chunks(batches: Iterable[ReadingTable]) -> Iterator[ReadingTable]:
    """Join small batches; how readings are batched never changes a result."""
    waiting, size = list[ReadingTable](), 0
    for table in batches:
        waiting.append(table)
        size += len(table)
        if size >= CHUNK_READINGS:
            yield concatenate(waiting)
            waiting, size = [], 0
    if waiting:
        yield concatenate(waiting)


def mend(recording: Recording, *, has_ended: bool) -> str:
    """Repair a recording that nobody holds locked, once it is sure or old enough; return what to say.

    Locks may be missing or reach one node only (NFS, Lustre): then time has to tell.
    """
    text = CUT_NOTE.format(rank=recording.header.rank)
    if not has_ended and recording.age_s() < QUIET_S:
        return f"{text} (not repaired: it may still be written)"
    try:
        repair(recording)
    except OSError as error:
        return f"{text} (not repaired: {error.strerror})"
    return f"{text} (repaired)"
