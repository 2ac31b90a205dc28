"""The head of a file of sums: what must be known of all ranks before the sums of the first are read."""

from typing import Annotated

import msgspec

from satscore.core.fields import FIELDS
from satscore.core.gpu import GpuInfo
from satscore.core.summary import DataKind
from satscore.record.run_file import FORMAT_VERSION, StreamHeader

Count = Annotated[int, msgspec.Meta(ge=0)]


class Section(msgspec.Struct, frozen=True, array_like=True):
    """Where a section is, from the end of the head on, in bytes."""

    offset: Count
    size: Count


class GpuHead(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known of a GPU before its sums are read."""

    info: GpuInfo
    bounds_key: str
    """Digest of the bounds that its windows were scored by."""
    engine_active_frac: float | None
    block_s: Annotated[int, msgspec.Meta(ge=1)]
    steady_us: Count
    """Time that was labelled steady while it came."""


class RankHead(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known of a rank before its sums are read: as StreamHeader and RankState have it."""

    hostname: str
    rank: int
    local_rank: int | None
    source: str
    scenario: str | None
    data_kind: DataKind
    has_pipe_counters: bool
    grid_offset_ns: int
    gpus: list[GpuHead]
    first_ns: int | None
    last_ns: int | None
    intervals_count: Count
    intervals_ns: Count
    section: Section
    names: bytes = b""
    """Positions in the table of the file, u2 each, by the positions that the rank's sums use; empty: the same."""
    about: Section | None = None
    """JSON of the rank's RunFile, as it was when the sums were made; None: it has a file of its own."""

    def header(self) -> StreamHeader:
        """Return the header that a recording of the rank's readings would have."""
        return StreamHeader(
            format_version=FORMAT_VERSION,
            hostname=self.hostname,
            rank=self.rank,
            local_rank=self.local_rank,
            source=self.source,
            scenario=self.scenario,
            data_kind=self.data_kind,
            has_pipe_counters=self.has_pipe_counters,
            grid_offset_ns=self.grid_offset_ns,
            fields=[field.name for field in FIELDS],
            gpus=[gpu.info for gpu in self.gpus],
        )


class SeriesHead(msgspec.Struct, frozen=True, kw_only=True):
    """Whose sum a series is."""

    members: list[tuple[Count, Count]]
    """Position of the rank in the file, and of the GPU in the rank; all of them count, or the only one may not."""
    section: Section


class SumsHead(msgspec.Struct, frozen=True, kw_only=True):
    """The head of a file."""

    profile: str
    dtype: str | None
    names: list[str]
    series: list[SeriesHead]
    ranks: list[RankHead]
    bytes_count: Count
    """Size of all sections together."""
