"""Integers on the wire: columns in the narrowest type that holds them, and amounts of up to 128 bits.

Raw bytes are little-endian on every machine. Decoding allocates nothing by a size that is only claimed:
arrays are views of the bytes that are there.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from satscore.core.readings import IntArray
from satscore.errors import RecordError

DAMAGED_HINT = "the file was changed or damaged"
CONSTANT = ""
TYPES = {name: np.dtype(f"<{name}") for name in ("u1", "i1", "u2", "i2", "u4", "i4", "i8")}
"""Narrowest first; 8 bytes have a sign always, so that columns can be added up."""
_RANGES = {name: (int(np.iinfo(kind).min), int(np.iinfo(kind).max)) for name, kind in TYPES.items()}
LIMB_BITS = 64
_LOW_MASK = (1 << LIMB_BITS) - 1


class Column(msgspec.Struct, frozen=True, array_like=True):
    """A column of integers: one value for all rows, or a row each."""

    type: str
    """Key of TYPES; empty: all rows hold ``value``."""
    value: int = 0
    data: memoryview = memoryview(b"")


class Amounts(msgspec.Struct, frozen=True, array_like=True):
    """Amounts under names that a table lists once: position in it and two limbs each."""

    names: memoryview
    """u2 each: position in the table."""
    low: memoryview
    """u8 each: the lower 64 bits."""
    high: memoryview
    """i8 each: what is above them, with the sign; empty where that is 0 throughout."""


def packed(values: IntArray, *, whole: bool = False) -> Column:
    """Return a column.

    Args:
        values: shape (n,).
        whole: Keep a row each even if all are equal, so that the rows are there to be counted.
    """
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    if low == high and not whole:
        return Column(CONSTANT, low)
    name = next(name for name, (least, most) in _RANGES.items() if least <= low and high <= most)
    return Column(name, 0, _bytes_of(values.astype(TYPES[name])))


def unpacked(column: Column, length: int, where: str) -> IntArray:
    """Return the rows of a column, shape (length,): a view of its bytes, of the type that it is stored in.

    Args:
        column: The column.
        length: How many rows it must have.
        where: File and key, for messages.

    Raises:
        RecordError: It has another number of rows, or is of no known type.
    """
    if column.type == CONSTANT:
        if not -(2**63) <= column.value < 2**63:
            raise RecordError(f"{where}: {column.value} has more than 64 bits", hint=DAMAGED_HINT)
        return np.broadcast_to(np.int64(column.value), (length,))
    kind = TYPES.get(column.type)
    if kind is None:
        raise RecordError(f"{where}: type {column.type!r} is not one of {', '.join(TYPES)}", hint=DAMAGED_HINT)
    if column.data.nbytes != length * kind.itemsize:
        raise RecordError(
            f"{where}: {column.data.nbytes} bytes are not {length} rows of type {column.type}", hint=DAMAGED_HINT
        )
    return np.frombuffer(column.data, dtype=kind)


def pack_amounts(positions: Sequence[int], amounts: Sequence[int]) -> Amounts:
    """Return amounts as two limbs each.

    Raises:
        OverflowError: One has more than 128 bits.
    """
    low = np.array([amount & _LOW_MASK for amount in amounts], dtype="<u8")
    high = np.array([amount >> LIMB_BITS for amount in amounts], dtype="<i8")
    return Amounts(
        names=_bytes_of(np.array(positions, dtype="<u2")),
        low=_bytes_of(low),
        high=_bytes_of(high) if high.any() else memoryview(b""),
    )


def unpack_amounts(packed: Amounts, where: str) -> tuple[list[int], list[int]]:
    """Return positions and amounts.

    Raises:
        RecordError: The parts do not belong together.
    """
    count, odd = divmod(packed.names.nbytes, 2)
    if odd or packed.low.nbytes != 8 * count or packed.high.nbytes not in (0, 8 * count):
        sizes = f"{packed.names.nbytes}, {packed.low.nbytes} and {packed.high.nbytes} bytes"
        raise RecordError(f"{where}: {sizes} are not names, lower and upper halves of amounts", hint=DAMAGED_HINT)
    amounts: list[int] = np.frombuffer(packed.low, dtype="<u8").tolist()
    if packed.high.nbytes:
        high = np.frombuffer(packed.high, dtype="<i8").tolist()
        amounts = [(upper << LIMB_BITS) | lower for upper, lower in zip(high, amounts, strict=True)]
    return np.frombuffer(packed.names, dtype="<u2").tolist(), amounts


def _bytes_of(values: "np.typing.NDArray[np.generic]") -> memoryview:
    return memoryview(values.tobytes())
