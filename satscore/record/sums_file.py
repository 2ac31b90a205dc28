"""``sums-<host>-<rank>.msgpack``: the state of one rank, or of several of a node, without its readings.

The file is a preamble, a head, sections with series and a section per rank. Head and series are read in one
pass over all files of a job, ranks one at a time in a second one. Series of GPUs that are certainly the
command's are stored as their sum; every other GPU has one of its own, so that a report can leave it out.
"""

import struct
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Self

import msgspec
import numpy as np

from satscore.core.gpu import GpuInfo
from satscore.core.int_columns import DAMAGED_HINT
from satscore.core.labels import Label
from satscore.core.rank_state import GpuState, RankState
from satscore.core.state_check import check_gpu, check_series
from satscore.core.wire import (
    WIRE_VERSION,
    Names,
    StoredSeries,
    decode_gpus,
    decode_series,
    encode_gpus,
    encode_series,
)
from satscore.errors import RecordError
from satscore.record.last_names import LAST_NAMES
from satscore.record.run_file import StreamHeader
from satscore.record.some_bytes import FileBytes, PackedBytes
from satscore.record.sums_head import GpuHead, RankHead, Section, SeriesHead, SumsHead

PATTERN = "sums-*.msgpack"
MAGIC = b"SATSUMS\n"
PREAMBLE = struct.Struct("<8sII")
"""Magic, version and the size of the head."""
NAMED_VERSION = 3
"""Of files whose ranks have positions of names of their own (record.sums_job); others have that of the wire."""
POSITION = np.dtype("<u2")
NOT_OURS_HINT = "name a run directory of satscore"


class RankRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One rank to be written.

    Attributes:
        header: Its identity.
        state: What was added up.
        bounds_keys: Digest of the bounds of each GPU.
        certain: Positions of the GPUs that no later look can take from the command.
    """

    header: StreamHeader
    state: RankState
    bounds_keys: Sequence[str]
    certain: Collection[int]


def sums_name(header: StreamHeader) -> str:
    """Return the name of the file of one rank."""
    return f"sums-{header.hostname}-{header.rank}.msgpack"


def readings_beside(path: Path) -> Path:
    """Return where the readings of the rank are, if they were kept: they tell more than its sums."""
    return path.with_name(f"readings-{path.stem.removeprefix('sums-')}.arrows")


def encode_sums(profile: str, dtype: str | None, ranks: Sequence[RankRecord], *, with_series: bool = True) -> bytes:
    """Return the content of a file; to be written so that it is there whole or not at all.

    Args:
        profile: Key of PROFILES that the sums were made for.
        dtype: Data type that they were made for, as stated by the user.
        ranks: Those of the file.
        with_series: Whether the series are in it; without them it is a part of a job, whose series is kept elsewhere.
    """
    names, sections = Names(), _Sections()
    heads = [_rank_head(one, sections.put(encode_gpus(one.state.gpus, names))) for one in ranks]
    series = [
        SeriesHead(
            members=members, section=sections.put(encode_series([ranks[r].state.gpus[g].series for r, g in members]))
        )
        for members in (_groups(ranks) if with_series else ())
    ]
    head = SumsHead(
        profile=profile, dtype=dtype, names=names.table, series=series, ranks=heads, bytes_count=sections.size
    )
    encoded = msgspec.msgpack.encode(head)
    preamble = PREAMBLE.pack(MAGIC, WIRE_VERSION, len(encoded))
    return b"".join([preamble, encoded, *sections.parts])


class _Sections:
    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def put(self, data: bytes) -> Section:
        section = Section(self.size, len(data))
        self.parts.append(data)
        self.size += len(data)
        return section


def _groups(ranks: Sequence[RankRecord]) -> list[list[tuple[int, int]]]:
    """Return whose series are stored as one: those of all GPUs that are certain, and each other one alone."""
    every = [(r, g) for r, one in enumerate(ranks) for g in range(len(one.state.gpus))]
    certain = [(r, g) for r, g in every if g in ranks[r].certain]
    alone = [[member] for member in every if member not in set(certain)]
    return [certain, *alone] if certain else alone


def _rank_head(one: RankRecord, section: Section) -> RankHead:
    header, state = one.header, one.state
    gpus = zip(header.gpus, state.gpus, one.bounds_keys, strict=True)
    return RankHead(
        hostname=header.hostname,
        rank=header.rank,
        local_rank=header.local_rank,
        source=header.source,
        scenario=header.scenario,
        data_kind=header.data_kind,
        has_pipe_counters=header.has_pipe_counters,
        grid_offset_ns=header.grid_offset_ns,
        gpus=[_gpu_head(info, gpu, key) for info, gpu, key in gpus],
        first_ns=state.first_ns,
        last_ns=state.last_ns,
        intervals_count=state.intervals_count,
        intervals_ns=state.intervals_ns,
        section=section,
    )


def _gpu_head(info: GpuInfo, gpu: GpuState, bounds_key: str) -> GpuHead:
    steady = gpu.phase_sums.get(Label.STEADY)
    return GpuHead(
        info=info,
        bounds_key=bounds_key,
        engine_active_frac=gpu.sums.mean("engine"),
        block_s=gpu.blocks.length_s,
        steady_us=steady.total("time_us") if steady else 0,
    )


class SumsFile:
    """A file opened for reading: its head is read, its sections are when they are asked for.

    To be closed, best by ``with``; a file that is rewritten meanwhile goes on to be what it was.

    Args:
        path: The file.
        data: Its content, packed, where that is in memory; then ``path`` is what messages call it.

    Raises:
        RecordError: It cannot be read, is cut off, is of a newer version, or is none of ours.
    """

    def __init__(self, path: Path, data: bytes | None = None) -> None:
        self.path = path
        try:
            self._bytes = FileBytes(path, NOT_OURS_HINT) if data is None else PackedBytes(data, path)
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            self.head, self._begin = self._read_head()
            self._names = LAST_NAMES.split(self.head.names, f"{path}: $.names")
        except OSError as error:
            self.close()
            raise self._unreadable(error) from error
        except RecordError:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return the file itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._bytes.close()

    def _read_head(self) -> tuple[SumsHead, int]:
        size = self._bytes.size
        preamble = self._bytes.read(0, PREAMBLE.size)
        if len(preamble) < PREAMBLE.size or not preamble.startswith(MAGIC):
            raise RecordError(f"{self.path}: not a file of sums", hint=NOT_OURS_HINT)
        _, version, head_size = PREAMBLE.unpack(preamble)
        if version > NAMED_VERSION:
            raise RecordError(
                f"{self.path}: version {version} is newer than this satscore knows ({NAMED_VERSION})",
                hint="use a satscore at least as new as the one that recorded the run",
            )
        begin = PREAMBLE.size + head_size
        if begin > size:
            raise self._cut_off(size, begin)
        try:
            head = _decode_head(self._bytes.read(PREAMBLE.size, head_size))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RecordError(f"{self.path}: {error}", hint=DAMAGED_HINT) from error
        if begin + head.bytes_count != size:
            raise self._cut_off(size, begin + head.bytes_count)
        return head, begin

    def _unreadable(self, error: OSError) -> RecordError:
        return RecordError(f"{self.path}: {error.strerror or error}", hint=NOT_OURS_HINT)

    def _cut_off(self, size: int, claimed: int) -> RecordError:
        return RecordError(
            f"{self.path}: {size} bytes where its head says {claimed}", hint="the file was cut off or damaged"
        )

    def members(self, at: int) -> list[tuple[int, int]]:
        """Return whose sum one of the series in the head is: positions of rank and GPU.

        Raises:
            RecordError: There is no such GPU.
        """
        members, ranks = self.head.series[at].members, self.head.ranks
        if not members or any(r >= len(ranks) or g >= len(ranks[r].gpus) for r, g in members):
            raise RecordError(f"{self.path}: $.series[{at}].members: no such GPU", hint=DAMAGED_HINT)
        return members

    def series(self, at: int) -> StoredSeries:
        """Return one of the series in the head.

        Raises:
            RecordError: It cannot be read, or is none that windows could give.
        """
        where, head = f"$.series[{at}]", self.head.series[at]
        stored = decode_series(self._read(head.section, where), f"{self.path}: {where}")
        check_series(stored.columns, len(head.members), f"{self.path}: {where}")
        return stored

    def gpus(self, at: int) -> tuple[GpuState, ...]:
        """Return the sums and blocks of the GPUs of one of the ranks in the head, without series.

        Raises:
            RecordError: They cannot be read, contradict the head, or are none that readings could give.
        """
        where, head = f"$.ranks[{at}]", self.head.ranks[at]
        gpus = decode_gpus(self.section(at), self._names_of(head, where), f"{self.path}: {where}.gpus")
        if [gpu.blocks.length_s for gpu in gpus] != [gpu.block_s for gpu in head.gpus]:
            raise RecordError(f"{self.path}: {where}.gpus: other GPUs than in the head", hint=DAMAGED_HINT)
        for i, gpu in enumerate(gpus):
            check_gpu(gpu, self.head.profile, f"{self.path}: {where}.gpus[{i}]")
        return gpus

    def section(self, at: int) -> bytes:
        """Return the sums of one of the ranks in the head as they are stored.

        Raises:
            RecordError: They cannot be read.
        """
        return self._read(self.head.ranks[at].section, f"$.ranks[{at}]")

    def about(self, at: int) -> bytes | None:
        """Return what one of the ranks in the head said of itself (JSON of a RunFile); None: it is kept elsewhere.

        Raises:
            RecordError: It cannot be read.
        """
        section = self.head.ranks[at].about
        return None if section is None else self._read(section, f"$.ranks[{at}].about")

    def _names_of(self, head: RankHead, where: str) -> Sequence[tuple[str, str | int]]:
        """Return the names that a rank's sums use, by the positions that they use."""
        if not head.names:
            return self._names
        if len(head.names) % POSITION.itemsize:
            raise RecordError(
                f"{self.path}: {where}.names: {len(head.names)} bytes are no positions", hint=DAMAGED_HINT
            )
        positions = np.frombuffer(head.names, dtype=POSITION).tolist()
        if max(positions) >= len(self._names):
            raise RecordError(f"{self.path}: {where}.names: {max(positions)} of {len(self._names)}", hint=DAMAGED_HINT)
        return [self._names[position] for position in positions]

    def _read(self, section: Section, where: str) -> bytes:
        if section.offset + section.size > self.head.bytes_count:
            raise RecordError(f"{self.path}: {where}.section: beyond the end of the file", hint=DAMAGED_HINT)
        try:
            data = self._bytes.read(self._begin + section.offset, section.size)
        except OSError as error:
            raise self._unreadable(error) from error
        if len(data) != section.size:
            raise RecordError(f"{self.path}: {where}.section: cut off", hint=DAMAGED_HINT)
        return data


_decode_head = msgspec.msgpack.Decoder(SumsHead).decode
