"""The state of one rank at a point of the run: all that a summary is made from, without what made it."""

import msgspec

from satscore.core.job_series import JobSeries, Series
from satscore.core.labels import Label
from satscore.core.rank_blocks import RankBlocks
from satscore.core.sums import Sums


class GpuState(msgspec.Struct, frozen=True, kw_only=True):
    """What was added up of one GPU; series and blocks may be those that go on."""

    sums: Sums
    phase_sums: dict[Label, Sums] = msgspec.field(default_factory=dict)
    series: Series = msgspec.field(default_factory=JobSeries)
    blocks: RankBlocks = msgspec.field(default_factory=RankBlocks)


class RankState(msgspec.Struct, frozen=True, kw_only=True):
    """What was added up of one rank's GPUs; to be used before more is added.

    Attributes:
        gpus: In the order of the rank's GPUs.
        first_ns: Begin of the first reading on the axis of the readings; None: there was none.
        last_ns: End of the last one.
        intervals_count: Readings in which at least one counter answered.
        intervals_ns: Their length, summed over GPUs.
    """

    gpus: tuple[GpuState, ...]
    first_ns: int | None
    last_ns: int | None
    intervals_count: int
    intervals_ns: int
