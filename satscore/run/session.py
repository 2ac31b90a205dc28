"""The state of a run: readings in, summary out. No clock, file or thread; live and replay share it."""

from collections.abc import Mapping, Sequence

from satscore.core.assemble import RankResult
from satscore.core.bounds import resolve, unmodelled
from satscore.core.fields import Quality
from satscore.core.gpu import GpuInfo
from satscore.core.hwmodel import HardwareModel, MatchResult, match
from satscore.core.placement import NOTHING_KNOWN, Placement
from satscore.core.readings import ReadingTable
from satscore.core.scorer import GpuScorer
from satscore.core.summarise import GpuResult
from satscore.core.summary import UnusedGpu
from satscore.record.run_file import RunStart, StreamHeader


class Session:
    """Scores the readings of one rank's GPUs.

    Args:
        gpus: The rank's GPUs, in the order of the readings' ``gpu`` index.
        models: All known hardware models.
        profile: Key of PROFILES.
        dtype: Tensor data type stated by the user, or None.
        grid_offset_ns: Wall time minus the axis of the readings' times.
    """

    def __init__(
        self,
        gpus: Sequence[GpuInfo],
        models: Sequence[HardwareModel],
        *,
        profile: str,
        dtype: str | None,
        grid_offset_ns: int,
    ) -> None:
        self.gpus = tuple(gpus)
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self.intervals_count = 0
        """Readings in which at least one counter answered."""
        self.intervals_ns = 0
        """Their length, summed over GPUs."""
        self._matches = {gpu.index: match(models, gpu) for gpu in gpus}
        self._scorers = {
            gpu.index: _scorer(gpu, self._matches[gpu.index], profile, dtype, grid_offset_ns) for gpu in gpus
        }

    @classmethod
    def of(cls, header: StreamHeader, start: RunStart, models: Sequence[HardwareModel]) -> "Session":
        """Return the session of a run's recording, live or replayed."""
        return cls(
            header.gpus,
            models,
            profile=start.profile,
            dtype=start.dtype,
            grid_offset_ns=header.grid_offset_ns,
        )

    def add(self, table: ReadingTable) -> None:
        """Take more readings of any of the GPUs, in time order."""
        if len(table) == 0:
            return
        for index, scorer in self._scorers.items():
            scorer.add(table.of_gpu(index))
        first, last = int(table.start_ns.min()), int(table.end_ns.max())
        self.first_ns = first if self.first_ns is None else min(self.first_ns, first)
        self.last_ns = last if self.last_ns is None else max(self.last_ns, last)
        answered = (table.quality == Quality.OK).any(axis=1)
        self.intervals_count += int(answered.sum())
        self.intervals_ns += int((table.end_ns - table.start_ns)[answered].sum())

    def close(self) -> None:
        """Close the last windows, clipped to the last read; nothing may be added afterwards."""
        for scorer in self._scorers.values():
            scorer.finish()

    def result(
        self, *, rank: int, local_rank: int | None, hostname: str, placement: Placement = NOTHING_KNOWN
    ) -> RankResult:
        """Return the results of all closed windows; GPUs that the command does not use are apart."""
        return RankResult(
            rank=rank,
            local_rank=local_rank,
            hostname=hostname,
            gpus=tuple(
                _result(gpu, self._matches[gpu.index], self._scorers, placement) for gpu in self._used(placement)
            ),
            unused=tuple(
                UnusedGpu(index=gpu.index, nvml_index=gpu.nvml_index, uuid=gpu.uuid, known_by=placement.known_by)
                for gpu in self.gpus
                if placement.known_by and placement.use_of(gpu.uuid) is None
            ),
        )

    def notes(self, placement: Placement = NOTHING_KNOWN) -> list[str]:
        """Return what the choice of hardware models for the used GPUs left open, once each."""
        matches = [self._matches[gpu.index] for gpu in self._used(placement)]
        texts = [note for found in matches for note in found.notes]
        texts += [found.reason for found in matches if found.model is None]
        return list(dict.fromkeys(texts))

    def _used(self, placement: Placement) -> list[GpuInfo]:
        return [gpu for gpu in self.gpus if placement.use_of(gpu.uuid)]


def _scorer(gpu: GpuInfo, found: MatchResult, profile: str, dtype: str | None, grid_offset_ns: int) -> GpuScorer:
    bounds = unmodelled(gpu) if found.model is None else resolve(found.model, gpu, dtype)
    return GpuScorer(bounds, profile, grid_offset_ns=grid_offset_ns)


def _result(gpu: GpuInfo, found: MatchResult, scorers: Mapping[int, GpuScorer], placement: Placement) -> GpuResult:
    scorer, looks = scorers[gpu.index], placement.looks_of(gpu.uuid)
    return GpuResult(
        info=gpu,
        model=found.model,
        model_note=None if found.model else found.reason,
        bounds=scorer.bounds,
        sums=scorer.snapshot(),
        use=placement.use_of(gpu.uuid) or "visible",
        shared_frac=looks.shared_frac if looks else None,
        foreign_count=looks.foreign_max_count if looks else 0,
    )
