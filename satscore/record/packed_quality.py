"""The qualities of a reading in a recording: four bits per field.

Format 1 had a byte per field.
"""

import numpy as np
import numpy.typing as npt

from satscore.core.fields import Quality

BITS = 4
"""Room for 16 reasons."""
_MASK = (1 << BITS) - 1
QualityArray = npt.NDArray[np.uint8]


def packed_width(fields_count: int, format_version: int) -> int:
    """Return the bytes that the qualities of one reading take."""
    return fields_count if format_version == 1 else (fields_count + 1) // 2


def pack(quality: QualityArray) -> QualityArray:
    """Return qualities in four bits each: an even field in the low half of its byte, the next one in the high half.

    Args:
        quality: shape (n, field), a Quality each.

    Returns:
        shape (n, (field + 1) // 2).
    """
    n, count = quality.shape
    halves = np.zeros((n, (count + 1) // 2, 2), dtype=np.uint8)
    halves.reshape(n, -1)[:, :count] = np.minimum(quality, np.uint8(_MASK))
    packed: QualityArray = halves[:, :, 0] | (halves[:, :, 1] << np.uint8(BITS))
    return packed


def unpack(stored: QualityArray, format_version: int) -> QualityArray:
    """Return the quality of each field; a reason that only a later version knows is an error of the driver.

    Args:
        stored: shape (n, ``packed_width``).
        format_version: Of the recording.

    Returns:
        shape (n, field); with one column more than there are fields, if four bits are left over.
    """
    return (_OF_BYTE if format_version == 1 else _OF_HALVES).take(stored).view(np.uint8)


def _known(qualities: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.unsignedinteger]:
    """Return, per byte, the qualities in it side by side as one number (one look-up for all of them)."""
    clipped = np.minimum(np.stack(qualities, axis=1), int(Quality.ERROR)).astype(np.uint8)
    return clipped.view(f"u{len(qualities)}").reshape(-1)


_BYTES = np.arange(256)
_OF_BYTE = _known([_BYTES])
_OF_HALVES = _known([_BYTES & _MASK, _BYTES >> BITS])
