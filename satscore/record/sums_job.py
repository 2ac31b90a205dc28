"""``sums-job.msgpack``: the sums of all ranks of a job in one file, with one series of the whole job.

Made of the parts that the ranks have sent: each stays as its rank encoded it, and goes to the disk alone. As each
has a table of names of its own, the file has the names of all, and of each rank where in it its own are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from satscore.core.int_columns import DAMAGED_HINT
from satscore.core.job_series import Series
from satscore.core.wire import Names, encode_series
from satscore.errors import RecordError
from satscore.record.sums_file import MAGIC, NAMED_VERSION, POSITION, PREAMBLE, SumsFile
from satscore.record.sums_head import RankHead, Section, SeriesHead, SumsHead

JOB_SUMS_FILE = "sums-job.msgpack"
_MOST_NAMES = np.iinfo(POSITION).max + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPart:
    """One rank as it has sent itself.

    Attributes:
        where: What messages call it.
        sums: Content of a file of sums with this rank alone and without series.
        about: JSON of its RunFile.
        counted: Of each of its GPUs, whether it is in the series of the job.
    """

    where: Path
    sums: bytes
    about: bytes
    counted: Sequence[bool]


def job_sums(parts: Sequence[RankPart], series: Series) -> Iterator[bytes]:
    """Return the content of the file, piece by piece.

    Args:
        parts: Those of all ranks, at least one.
        series: The sum of the series of their GPUs that count.

    Raises:
        RecordError: A part is damaged.
    """
    encoded, names, heads, offset = encode_series([series]), Names(), list[RankHead](), 0
    profile = dtype = None
    for part in parts:
        with SumsFile(part.where, part.sums) as file:
            profile, dtype = profile or file.head.profile, file.head.dtype
            if len(file.head.ranks) != 1:
                raise RecordError(f"{part.where}: {len(file.head.ranks)} ranks in a part of one", hint=DAMAGED_HINT)
            rank = file.head.ranks[0]
            positions = _positions(file, names)
        about = Section(offset + rank.section.size, len(part.about))
        heads.append(
            msgspec.structs.replace(
                rank, section=Section(offset, rank.section.size), names=positions.tobytes(), about=about
            )
        )
        offset = about.offset + about.size
    members = [(r, g) for r, part in enumerate(parts) for g, counts in enumerate(part.counted) if counts]
    head = SumsHead(
        profile=profile or "",
        dtype=dtype,
        names=names.table,
        series=[SeriesHead(members=members, section=Section(offset, len(encoded)))] if members else [],
        ranks=heads,
        bytes_count=offset + (len(encoded) if members else 0),
    )
    data = msgspec.msgpack.encode(head)
    yield PREAMBLE.pack(MAGIC, NAMED_VERSION, len(data))
    yield data
    for part in parts:
        with SumsFile(part.where, part.sums) as file:
            yield file.section(0)
        yield part.about
    if members:
        yield encoded


def _positions(file: SumsFile, names: Names) -> "np.typing.NDArray[np.uint16]":
    """Return where the names of a part are in the table of all."""
    positions = [names.position(name) for name in file.head.names]
    if max(positions, default=0) >= _MOST_NAMES:
        raise RecordError(f"{file.path}: $.names: more than {_MOST_NAMES} names in all", hint=DAMAGED_HINT)
    return np.array(positions, dtype=POSITION)
