"""The column of a recording for what is 0 or unknown in most readings: (field, value) pairs, a list per reading.

Error counts and the state of links stand in few readings, and most counts are 0: a column for each would be a
fifth of a recording. A field of this column that is known and has no pair is 0; the quality says whether it is known.
"""

from collections.abc import Sequence

import nanoarrow as na
import numpy as np
import numpy.typing as npt
from nanoarrow.c_array import CArray, CArrayView

from satscore.core.fields import FIELDS, INDEX, SPARSE_FIELDS, Quality
from satscore.core.readings import FloatArray
from satscore.record.packed_quality import QualityArray

SPARSE_COLUMN = "sparse"
SPARSE_NAMES = tuple(field.name for field in FIELDS if field.name in SPARSE_FIELDS)
_INDICES = np.array([INDEX[name] for name in SPARSE_NAMES])
_NAMES_KEY = b"fields"
_PAIR_TYPES = {"field": na.Type.UINT8, "value": na.Type.FLOAT}
_PAIR = na.Schema(
    na.Type.STRUCT,
    fields={name: na.Schema(kind, nullable=False) for name, kind in _PAIR_TYPES.items()},
    nullable=False,
)
_LIST = na.list_(_PAIR, nullable=False)
_VALUE_OF = np.full(256, np.nan)
"""Without a pair, by quality."""
_VALUE_OF[Quality.OK] = 0.0


def sparse_schema() -> na.Schema:
    """Return the schema of the column; its metadata name the fields that it holds."""
    metadata = {
        _NAMES_KEY.decode(): ",".join(SPARSE_NAMES),
        "field": "position in the fields of the header; a field that is known and not in the list is 0",
    }
    metadata |= {f.name: f"{f.unit}, {f.kind.value}: {f.meaning}" for f in (FIELDS[i] for i in _INDICES)}
    return na.Schema(_LIST, metadata=metadata, nullable=False)


def sparse_array(values: npt.NDArray[np.float32], quality: QualityArray) -> CArray:
    """Return the column for n readings.

    Args:
        values: shape (n, field of FIELDS).
        quality: shape (n, field of FIELDS), a Quality each.
    """
    mine = values.take(_INDICES, axis=1)
    held = (quality.take(_INDICES, axis=1) == Quality.OK) & (mine.view(np.uint32) != 0)  # by the bits: -0.0 is kept
    ends = np.concatenate([[0], held.sum(axis=1).cumsum()]).astype(np.int32)
    fields = np.broadcast_to(_INDICES.astype(np.uint8), mine.shape)[held]
    children = [
        na.c_array_from_buffers(kind, len(fields), [None, data], null_count=0)
        for kind, data in zip(_PAIR_TYPES.values(), (fields, mine[held]), strict=True)
    ]
    pairs = na.c_array_from_buffers(_PAIR, len(fields), [None], children=children, null_count=0)
    return na.c_array_from_buffers(_LIST, len(values), [None, ends], children=[pairs], null_count=0)


class SparseReader:
    """Takes the column of a file apart.

    Args:
        schema: Of the file's column.
        fields: Of the file's header.

    Attributes:
        names: Of the fields in the column that this version knows.

    Raises:
        ValueError: The column is of another type.
    """

    def __init__(self, schema: na.Schema, fields: Sequence[str]) -> None:
        self.names = [name for name in _stored_names(schema) if name in INDEX]
        self._indices = np.array([INDEX[name] for name in self.names], dtype=np.int64)
        self._index_of = np.array([INDEX[name] if name in self.names else -1 for name in fields], dtype=np.int64)

    def take(self, column: CArrayView, values: FloatArray, quality: QualityArray) -> None:
        """Set the values of the column's fields.

        Args:
            column: Of one batch.
            values: shape (n, field of FIELDS), where to set them.
            quality: shape (n, field of FIELDS), a Quality each.

        Raises:
            ValueError: Its lists do not follow each other.
            IndexError: They name a field that the header has not, or are more or fewer than the readings.
        """
        values[:, self._indices] = _VALUE_OF.take(quality.take(self._indices, axis=1))
        pairs = column.child(0)
        ends, fields, numbers = (np.asarray(part.buffer(1)) for part in (column, pairs.child(0), pairs.child(1)))
        if not len(fields):
            return
        index = self._index_of.take(fields)
        row = np.arange(len(values)).repeat(ends[1:] - ends[:-1])
        known = index >= 0
        with np.errstate(invalid="ignore"):  # a damaged number may be a signalling NaN
            values[row[known], index[known]] = numbers[known]


def _stored_names(schema: na.Schema) -> list[str]:
    """Return the fields that a file's column holds.

    Raises:
        ValueError: It is no such column.
    """
    pair = schema.value_type if schema.type == na.Type.LIST else None
    if pair is None or pair.type != na.Type.STRUCT or {f.name: f.type for f in pair.fields} != _PAIR_TYPES:
        raise ValueError("not lists of a field and a value")
    names: bytes = dict((schema.metadata or {}).items()).get(_NAMES_KEY, b"")
    return names.decode("utf-8", "replace").split(",")
