"""The state of a run: readings in, summary out. No clock, file or thread; live and replay share it."""

from collections.abc import Sequence

from satscore.core.assemble import RankResult
from satscore.core.bounds import resolve, unmodelled
from satscore.core.fields import Quality
from satscore.core.gpu import GpuInfo
from satscore.core.hwmodel import USER_FOLDER, HardwareModel, MatchResult, match
from satscore.core.own_notes import IDLE_GPU_ENGINE_FRAC, gpu_numbers
from satscore.core.placement import NOTHING_KNOWN, Placement
from satscore.core.readings import ReadingTable, table_of
from satscore.core.scorer import GpuScorer
from satscore.core.summarise import GpuResult
from satscore.core.summary import GpuUse, UnreadGpu, UnusedGpu
from satscore.core.units import NS_PER_S
from satscore.record.run_file import RunStart, StreamHeader
from satscore.run.tail import unread


class Session:
    """Scores the readings of one rank's GPUs.

    Args:
        gpus: The rank's GPUs, in the order of the readings' ``gpu`` index.
        models: All known hardware models.
        profile: Key of PROFILES.
        dtype: Tensor data type stated by the user, or None.
        grid_offset_ns: Wall time minus the axis of the readings' times.
        model_folder: Where the user can add a hardware model, as people read it.
    """

    def __init__(
        self,
        gpus: Sequence[GpuInfo],
        models: Sequence[HardwareModel],
        *,
        profile: str,
        dtype: str | None,
        grid_offset_ns: int,
        model_folder: str = USER_FOLDER,
    ) -> None:
        self.gpus = tuple(gpus)
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self.intervals_count = 0
        """Readings in which at least one counter answered."""
        self.intervals_ns = 0
        """Their length, summed over GPUs."""
        self._lost_s = 0.0
        self._matches = {gpu.index: match(models, gpu, model_folder) for gpu in gpus}
        self._scorers = {
            gpu.index: _scorer(gpu, self._matches[gpu.index], profile, dtype, grid_offset_ns) for gpu in gpus
        }

    @classmethod
    def of(
        cls,
        header: StreamHeader,
        start: RunStart,
        models: Sequence[HardwareModel],
        model_folder: str = USER_FOLDER,
    ) -> "Session":
        """Return the session of a run's recording, live or replayed."""
        return cls(
            header.gpus,
            models,
            profile=start.profile,
            dtype=start.dtype,
            grid_offset_ns=header.grid_offset_ns,
            model_folder=model_folder,
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

    def add_lost(self, until_ns: int) -> None:
        """Take the time from the last reading on as not known: it was read, and the recording has lost it.

        Args:
            until_ns: The end of the last reading that there was.
        """
        if self.last_ns is None or self.last_ns >= until_ns:
            return
        self._lost_s = (until_ns - self.last_ns) / NS_PER_S
        self.add(table_of(unread(dict.fromkeys((gpu.index for gpu in self.gpus), self.last_ns), until_ns)))

    def close(self) -> None:
        """Close the last windows, clipped to the last read; nothing may be added afterwards."""
        for scorer in self._scorers.values():
            scorer.finish()

    def result(
        self,
        *,
        rank: int,
        local_rank: int | None,
        hostname: str,
        placement: Placement = NOTHING_KNOWN,
        unread: Sequence[UnreadGpu] = (),
    ) -> RankResult:
        """Return the results of all closed windows; GPUs that the command does not use, or nobody reads, are apart."""
        results = [self._result(gpu, use, placement) for gpu, use in self._uses(placement) if use]
        return RankResult(
            rank=rank,
            local_rank=local_rank,
            hostname=hostname,
            gpus=tuple(results),
            unused=tuple(self._unused(placement)),
            unread=tuple(unread),
        )

    def notes(self, placement: Placement = NOTHING_KNOWN) -> list[str]:
        """Return what the choice of hardware models for the used GPUs left open, and what was lost, once each."""
        used = [gpu for gpu, use in self._uses(placement) if use]
        matches = [self._matches[gpu.index] for gpu in used]
        lost = f"the recording lacks the last {self._lost_s:.1f} s that were read: they count as not known"
        texts = [lost] if self._lost_s else []
        texts += [note for found in matches for note in found.notes]
        texts += [found.reason for found in matches if found.model is None]
        unseen = [gpu for gpu in used if placement.use_of(gpu.uuid, worked=False) is None]
        if unseen:
            which = gpu_numbers(unseen)
            are = "it is" if len(unseen) == 1 else "they are"
            texts.append(f"GPU {which} worked, but no process of the command was seen there: {are} scored")
        return list(dict.fromkeys(texts))

    def _uses(self, placement: Placement) -> list[tuple[GpuInfo, GpuUse | None]]:
        """Return every GPU that is read, and how it is known that the command uses it; None: it does not.

        Work where nobody was seen counts as the command's, unless it is known to compute elsewhere only.
        """
        elsewhere = placement.computes_elsewhere([gpu.uuid for gpu in self.gpus])
        return [
            (gpu, placement.use_of(gpu.uuid, worked=not elsewhere and self._worked(gpu.index))) for gpu in self.gpus
        ]

    def _worked(self, index: int) -> bool:
        engine = self._scorers[index].sums.mean("engine")
        return engine is not None and engine >= IDLE_GPU_ENGINE_FRAC

    def _unused(self, placement: Placement) -> list[UnusedGpu]:
        known_by = placement.known_by
        if known_by is None:
            return []
        return [
            UnusedGpu(
                index=gpu.index,
                nvml_index=gpu.nvml_index,
                uuid=gpu.uuid,
                known_by=known_by,
                engine_active_frac=self._scorers[gpu.index].sums.mean("engine"),
            )
            for gpu, use in self._uses(placement)
            if use is None
        ]

    def _result(self, gpu: GpuInfo, use: GpuUse, placement: Placement) -> GpuResult:
        found, scorer, looks = self._matches[gpu.index], self._scorers[gpu.index], placement.looks_of(gpu.uuid)
        return GpuResult(
            info=gpu,
            model=found.model,
            model_note=None if found.model else found.reason,
            bounds=scorer.bounds,
            sums=scorer.snapshot(),
            use=use,
            shared_frac=looks.shared_frac if looks else None,
            foreign_count=looks.company_max_count if looks else 0,
        )


def _scorer(gpu: GpuInfo, found: MatchResult, profile: str, dtype: str | None, grid_offset_ns: int) -> GpuScorer:
    bounds = unmodelled(gpu) if found.model is None else resolve(found.model, gpu, dtype)
    return GpuScorer(bounds, profile, grid_offset_ns=grid_offset_ns)
