"""The state as bytes and back, bit for bit: sums, blocks and series (docs/method.md, "Sums").

Whoever changes what a key of the sums, a column or a phase means raises WIRE_VERSION. Names of sums stand
in one table per file, so a rank's take two bytes each.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from satscore.core.int_columns import (
    DAMAGED_HINT,
    Amounts,
    Column,
    pack_amounts,
    packed,
    unpack_amounts,
    unpacked,
)
from satscore.core.job_series import SERIES_COLUMNS, JobSeries, Series
from satscore.core.labels import Label
from satscore.core.rank_blocks import BLOCK_COLUMNS, RankBlocks
from satscore.core.rank_state import GpuState
from satscore.core.readings import IntArray
from satscore.core.sums import Sums
from satscore.errors import RecordError

WIRE_VERSION = 2
"""1 had neither the states of links nor the power of the CPU: they are unknown there."""
ROWS_COLUMN = SERIES_COLUMNS[0]
"""Stored row by row always: a series has no more rows than bytes, whatever it claims."""
_NUMBERED = ("clock_us", "pcie_us", "nvlink_us")
"""Families whose keys are numbers."""
_FAMILIES = ("totals", "maxima", "quality_us", "counts", *_NUMBERED)
_READ = "read_us:"
_LABELS = {int(label): label for label in Label}


class _Blocks(msgspec.Struct, frozen=True, array_like=True):
    length_s: int
    first_s: int | None
    last_s: int | None
    labels: memoryview
    numbers: Column
    columns: list[Column]


class _Gpu(msgspec.Struct, frozen=True, array_like=True):
    sums: Amounts
    phase_sums: dict[int, Amounts]
    blocks: _Blocks


class _Series(msgspec.Struct, frozen=True, array_like=True):
    first_index: int
    length: int
    columns: dict[str, Column]


_encode = msgspec.msgpack.Encoder().encode
_decode_gpus = msgspec.msgpack.Decoder(list[_Gpu]).decode
_decode_series = msgspec.msgpack.Decoder(_Series).decode


class Names:
    """The table of names of a file, while it is written."""

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}

    @property
    def table(self) -> list[str]:
        """The names in the order of their positions."""
        return list(self._positions)

    def position(self, name: str) -> int:
        """Return the position of a name, which is added where it is new."""
        return self._positions.setdefault(name, len(self._positions))


def split_names(table: Iterable[str], where: str) -> list[tuple[str, str | int]]:
    """Return family and key of each name of a table.

    Raises:
        RecordError: A name is of no family of the sums.
    """
    out = list[tuple[str, str | int]]()
    for name in table:
        family, colon, key = name.partition(":")
        is_number = key.isascii() and key.isdecimal() and len(key) < 10
        if name != _READ and (not colon or family not in _FAMILIES or (family in _NUMBERED and not is_number)):
            raise RecordError(f"{where}: {name!r} is no name of a sum", hint=DAMAGED_HINT)
        out.append((family, int(key) if family in _NUMBERED else key))
    return out


def encode_gpus(gpus: Sequence[GpuState], names: Names) -> bytes:
    """Return sums and blocks of a rank's GPUs; the series is encoded apart."""
    return _encode([_gpu(gpu, names) for gpu in gpus])


def decode_gpus(data: bytes, names: Sequence[tuple[str, str | int]], where: str) -> tuple[GpuState, ...]:
    """Return sums and blocks of a rank's GPUs, without series.

    Args:
        data: What ``encode_gpus`` made.
        names: The table of the file, split.
        where: File and key, for messages.

    Raises:
        RecordError: They are none; names the key.
    """
    try:
        found = _decode_gpus(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise RecordError(f"{where}: {error}", hint=DAMAGED_HINT) from error
    return tuple(_gpu_state(gpu, names, f"{where}[{i}]") for i, gpu in enumerate(found))


def _gpu(gpu: GpuState, names: Names) -> _Gpu:
    return _Gpu(
        sums=_amounts(gpu.sums, names),
        phase_sums={int(label): _amounts(sums, names) for label, sums in sorted(gpu.phase_sums.items())},
        blocks=_blocks(gpu.blocks),
    )


def _gpu_state(gpu: _Gpu, names: Sequence[tuple[str, str | int]], where: str) -> GpuState:
    phase_sums = {
        _label(code, f"{where}.phase_sums"): _sums(amounts, names, f"{where}.phase_sums[{code}]")
        for code, amounts in gpu.phase_sums.items()
    }
    return GpuState(
        sums=_sums(gpu.sums, names, f"{where}.sums"),
        phase_sums=phase_sums,
        blocks=_rank_blocks(gpu.blocks, f"{where}.blocks"),
    )


def _label(code: int, where: str) -> Label:
    if code not in _LABELS:
        raise RecordError(f"{where}: {code} is no phase", hint=DAMAGED_HINT)
    return _LABELS[code]


def _amounts(sums: Sums, names: Names) -> Amounts:
    values = {_READ: sums.read_us}
    for family in _FAMILIES:
        values |= {f"{family}:{key}": amount for key, amount in getattr(sums, family).items()}
    return pack_amounts([names.position(name) for name in values], list(values.values()))


def _sums(amounts: Amounts, names: Sequence[tuple[str, str | int]], where: str) -> Sums:
    out = Sums()
    families: dict[str, dict[str | int, int]] = {family: getattr(out, family) for family in _FAMILIES}
    for position, amount in zip(*unpack_amounts(amounts, where), strict=True):
        if position >= len(names):
            raise RecordError(f"{where}: name {position} of {len(names)}", hint=DAMAGED_HINT)
        family, key = names[position]
        if family in families:
            families[family][key] = amount
        else:
            out.read_us = amount
    return out


def _blocks(blocks: RankBlocks) -> _Blocks:
    held = sorted(blocks.items(), key=lambda item: item[0])
    keys, rows = zip(*held, strict=True) if held else ((), ())
    matrix = np.stack(rows, axis=1) if rows else np.empty((len(BLOCK_COLUMNS), 0), dtype=np.int64)
    return _Blocks(
        length_s=blocks.length_s,
        first_s=blocks.first_s,
        last_s=blocks.last_s,
        labels=memoryview(bytes(int(label) for label, _ in keys)),
        numbers=packed(np.array([number for _, number in keys], dtype=np.int64)),
        columns=[packed(column) for column in matrix],
    )


def _rank_blocks(blocks: _Blocks, where: str) -> RankBlocks:
    count, length_s = blocks.labels.nbytes, blocks.length_s
    if len(blocks.columns) != len(BLOCK_COLUMNS) or not 0 < length_s < 2**62 or length_s.bit_count() != 1:
        what = f"{len(blocks.columns)} columns, {length_s} s"
        raise RecordError(f"{where}: {what}: these are no blocks of a rank", hint=DAMAGED_HINT)
    numbers = unpacked(blocks.numbers, count, f"{where}.numbers").tolist()
    rows = np.empty((count, len(BLOCK_COLUMNS)), dtype=np.int64)
    for i, (name, column) in enumerate(zip(BLOCK_COLUMNS, blocks.columns, strict=True)):
        rows[:, i] = unpacked(column, count, f"{where}.{name}")
    labels = [_label(code, where) for code in blocks.labels.tobytes()]
    sums = dict(zip(zip(labels, numbers, strict=True), rows, strict=True))
    return RankBlocks.of(sums, length_s, blocks.first_s, blocks.last_s)


def encode_series(many: Sequence[Series]) -> bytes:
    """Return the sum of several series."""
    some = [series for series in many if len(series)]
    first = min((series.first_index for series in some), default=0)
    length = max((series.first_index + len(series) for series in some), default=first) - first
    columns = dict[str, Column]()
    for name in SERIES_COLUMNS:  # one at a time: a day of a node is some 10 MB
        total = np.zeros(length, dtype=np.int64)
        for series in some:
            at = series.first_index - first
            total[at : at + len(series)] += series.column(name)
        if total.any() or name == ROWS_COLUMN:
            columns[name] = packed(total, whole=name == ROWS_COLUMN)
    return _encode(_Series(first, length, columns))


class StoredSeries(msgspec.Struct, frozen=True, kw_only=True):
    """A series as it lies in a file.

    Attributes:
        first_index: Second of the first row.
        length: Rows.
        columns: name -> shape (length,): views, of any integer type.
    """

    first_index: int
    length: int
    columns: Mapping[str, IntArray]

    def series(self) -> JobSeries:
        """Return it as a series."""
        return JobSeries(self.first_index, self.columns)


def decode_series(data: bytes, where: str) -> StoredSeries:
    """Return a series.

    Args:
        data: What ``encode_series`` made.
        where: File and key, for messages.

    Raises:
        RecordError: It is none; names the key.
    """
    try:
        found = _decode_series(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise RecordError(f"{where}: {error}", hint=DAMAGED_HINT) from error
    if not abs(found.first_index) < 2**62 or ROWS_COLUMN not in found.columns or found.length < 0:
        raise RecordError(f"{where}: this is no series", hint=DAMAGED_HINT)
    if not found.columns[ROWS_COLUMN].type:
        raise RecordError(f"{where}.{ROWS_COLUMN}: the rows are only claimed", hint=DAMAGED_HINT)
    unknown = found.columns.keys() - set(SERIES_COLUMNS)
    if unknown:
        raise RecordError(f"{where}: {min(unknown)!r} is no column of a series", hint=DAMAGED_HINT)
    columns = {name: unpacked(column, found.length, f"{where}.{name}") for name, column in found.columns.items()}
    return StoredSeries(first_index=found.first_index, length=found.length, columns=columns)
