"""The recording of readings: an Arrow IPC stream, one row per reading, written batch by batch."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import nanoarrow as na
import numpy as np

from satscore.core.fields import FIELDS, INDEX, N_FIELDS, SPARSE_FIELDS, Quality
from satscore.core.readings import ReadingTable
from satscore.errors import RecordError
from satscore.record.arrow_file import ArrowFile, ArrowWriter, rewrite
from satscore.record.packed_quality import BITS, pack, packed_width, unpack
from satscore.record.run_file import FORMAT_VERSION, StreamHeader, decode_checked
from satscore.record.sparse_column import SPARSE_COLUMN, SparseReader, sparse_array, sparse_schema

HEADER_KEY = b"satscore"
NOT_OURS_HINT = "name a recording of satscore (readings-*.arrows) or its run directory"
QUALITY_WIDTH = packed_width(N_FIELDS, FORMAT_VERSION)
QUALITY_NAMES = ", ".join(f"{int(q)}={q.name.lower()}" for q in Quality)
_DENSE = [i for i, field in enumerate(FIELDS) if field.name not in SPARSE_FIELDS]
"""Fields with a column of their own."""


def _schema(header: StreamHeader) -> na.Schema:
    header = msgspec.structs.replace(header, format_version=FORMAT_VERSION, fields=[field.name for field in FIELDS])
    columns = {
        "gpu": na.Schema(na.uint16(), nullable=False),
        "start_ns": na.Schema(na.int64(), nullable=False, metadata={"unit": "ns"}),
        "end_ns": na.Schema(na.int64(), nullable=False, metadata={"unit": "ns"}),
    }
    for field in (FIELDS[i] for i in _DENSE):
        metadata = {"unit": field.unit, "kind": field.kind.value, "meaning": field.meaning}
        columns[field.name] = na.Schema(na.float32(), nullable=False, metadata=metadata)
    columns[SPARSE_COLUMN] = sparse_schema()
    columns["quality"] = na.Schema(
        na.fixed_size_binary(QUALITY_WIDTH), nullable=False, metadata={f"{BITS} bits per field": QUALITY_NAMES}
    )
    metadata = {HEADER_KEY.decode(): msgspec.json.encode(header).decode()}
    return na.Schema(na.Type.STRUCT, fields=columns, nullable=False, metadata=metadata)


def _wrong_column(schema: na.Schema, header: StreamHeader) -> str | None:
    """Return the first column that cannot be read; counters may be missing or unknown (other versions)."""
    columns = {field.name: field for field in schema.fields}
    types = {"gpu": na.Type.UINT16, "start_ns": na.Type.INT64, "end_ns": na.Type.INT64}
    types |= {field.name: na.Type.FLOAT for field in FIELDS if field.name in columns}
    wrong = [name for name, kind in types.items() if name not in columns or columns[name].type != kind]
    quality, width = columns.get("quality"), _quality_width(header)
    if quality is None or quality.type != na.Type.FIXED_SIZE_BINARY or quality.byte_width != width:
        wrong.append("quality")
    return wrong[0] if wrong else None


def _quality_width(header: StreamHeader) -> int:
    return packed_width(len(header.fields), header.format_version)


def _columns(table: ReadingTable) -> list[object]:
    n, values = len(table), table.values.astype(np.float32)
    return [
        na.c_array(table.gpu.astype(np.uint16)),
        na.c_array(np.ascontiguousarray(table.start_ns)),
        na.c_array(np.ascontiguousarray(table.end_ns)),
        *(na.c_array(np.ascontiguousarray(values[:, i])) for i in _DENSE),
        sparse_array(values, table.quality),
        na.c_array_from_buffers(
            na.fixed_size_binary(QUALITY_WIDTH), n, [None, pack(table.quality).tobytes()], null_count=0
        ),
    ]


class StreamWriter:
    """Appends readings to a new recording.

    Args:
        path: File to create; it must not exist.
        header: What the recording is about; its format and fields are written as those of this version.

    Raises:
        OSError: The file cannot be created.
    """

    def __init__(self, path: Path, header: StreamHeader) -> None:
        self._file = ArrowWriter(path, _schema(header))

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    @property
    def bytes_written(self) -> int:
        """Its size."""
        return self._file.bytes_written

    def append(self, table: ReadingTable) -> None:
        """Write readings as one batch.

        Raises:
            OSError: The disk is full or gone; the file then ends with the last whole batch, and
                nothing more can be appended.
        """
        self._file.append_columns(_columns(table) if len(table) else [], len(table))

    def close(self) -> None:
        """Write the end marker and close the file.

        Raises:
            OSError: The disk is full or gone; what was written stays readable.
        """
        self._file.close()


class Recording(ArrowFile):
    """A recording opened for reading.

    Args:
        path: The file.

    Raises:
        RecordError: It cannot be opened, holds no whole batch, or was not written by satscore.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, HEADER_KEY, "recording", NOT_OURS_HINT)
        self.header = decode_checked(self.header_json, StreamHeader, f"{path} (header)")
        wrong = _wrong_column(self.schema, self.header)
        if wrong:
            raise self._wrong_type(wrong)
        fields = self.header.fields
        self._quality_width = _quality_width(self.header)
        self._sparse = self._sparse_reader()
        self._dense = [name for name in fields if name in INDEX and name in self.names]
        self._dense_ours = [INDEX[name] for name in self._dense]
        known = {*self._dense, *(self._sparse.names if self._sparse else ())}
        self._theirs = np.array([i for i, name in enumerate(fields) if name in known], dtype=np.int64)
        self._ours = [INDEX[fields[i]] for i in self._theirs]

    def batches(self) -> Iterator[ReadingTable]:
        """Return the readings of every whole batch, one by one; a part at the end is left out and ``cut_off`` set.

        Raises:
            RecordError: A batch that is damaged.
        """
        return self.decoded(self._table)

    def _sparse_reader(self) -> SparseReader | None:
        """Return what reads the fields that have no column of their own; None before format 2."""
        if self.header.format_version == 1:
            return None
        schemas = {column.name: column for column in self.schema.fields}
        try:
            return SparseReader(schemas[SPARSE_COLUMN], self.header.fields)
        except (KeyError, ValueError) as error:
            raise self._wrong_type(SPARSE_COLUMN) from error

    def _wrong_type(self, column: str) -> RecordError:
        hint = "the file was rewritten by another program, or damaged"
        return RecordError(f"{self.path}: column '{column}' is missing or of another type", hint=hint)

    def _table(self, columns: Mapping[str, Any], n: int) -> ReadingTable:
        """Return one batch as a table; columns are found by name, unknown ones are ignored."""
        values = np.full((n, N_FIELDS), np.nan, order="F")
        quality = np.full((n, N_FIELDS), int(Quality.NOT_READ), dtype=np.uint8)
        stored = np.frombuffer(columns["quality"].buffer(1), dtype=np.uint8).reshape(n, self._quality_width)
        quality[:, self._ours] = unpack(stored, self.header.format_version).take(self._theirs, axis=1)
        if self._dense:  # all of them by one call: a batch has some 100 rows, a day of four GPUs 17,280 batches
            joined = np.concatenate([columns[name].buffer(1) for name in self._dense])
            with np.errstate(invalid="ignore"):  # a damaged number may be a signalling NaN
                values[:, self._dense_ours] = joined.reshape(len(self._dense), n).T
        if self._sparse:
            self._sparse.take(columns[SPARSE_COLUMN], values, quality)
        return ReadingTable(
            gpu=np.asarray(columns["gpu"].buffer(1)).astype(np.int64),
            start_ns=np.asarray(columns["start_ns"].buffer(1)).astype(np.int64),
            end_ns=np.asarray(columns["end_ns"].buffer(1)).astype(np.int64),
            values=values,
            quality=quality,
        )


def repair(recording: Recording) -> None:
    """Rewrite a cut-off recording as its valid prefix, so that any Arrow reader opens it.

    Not to be called while it is live: the writer would go on in the replaced file.

    Raises:
        OSError: The directory cannot be written; the recording is left as it was.
    """
    rewrite(recording.path, lambda path: StreamWriter(path, recording.header), recording.batches())
