"""The state of a run: readings in, summary out. No clock, file or thread; live and replay share it."""

from collections.abc import Sequence

from satscore.core.fields import Quality
from satscore.core.gpu import GpuInfo
from satscore.core.gpu_series import GpuSeries
from satscore.core.hwmodel import USER_FOLDER, HardwareModel
from satscore.core.labelling import OnlineLabels
from satscore.core.labels import Label
from satscore.core.placement import NOTHING_KNOWN, Placement
from satscore.core.rank_state import GpuState, RankState
from satscore.core.readings import ReadingTable, table_of
from satscore.core.run_facts import RankResult
from satscore.core.scorer import GpuScorer
from satscore.core.summary_gpu import UnreadGpu
from satscore.core.sums import Sums
from satscore.core.units import NS_PER_S
from satscore.record.run_file import RunStart, StreamHeader
from satscore.run.rank_gpus import Hardware, RankGpus
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
        self._labels = OnlineLabels(profile)
        self._used = RankGpus(gpus, Hardware(models, dtype, model_folder))
        self._scorers = {
            gpu.index: GpuScorer(matched.bounds, profile, grid_offset_ns=grid_offset_ns)
            for gpu, matched in zip(gpus, self._used.matched, strict=True)
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
            rows = scorer.add(table.of_gpu(index))
            if rows is not None:
                self._labels.take(index, rows)
        self._labels.advance()
        self._settle()
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
        for index, scorer in self._scorers.items():
            rows = scorer.close()
            if rows is not None:
                self._labels.take(index, rows)
        self._labels.flush()
        self._settle()

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
        engine = self._engine()
        uses = self._used.uses(placement, engine)
        return RankResult(
            rank=rank,
            local_rank=local_rank,
            hostname=hostname,
            gpus=tuple(
                self._used.result(at, self._gpu_state(scorer), use, placement)
                for at, (scorer, use) in enumerate(zip(self._scorers.values(), uses, strict=True))
                if use
            ),
            unused=self._used.unused(placement, engine),
            unread=tuple(unread),
        )

    def notes(self, placement: Placement = NOTHING_KNOWN) -> list[str]:
        """Return what the choice of hardware models for the used GPUs left open, and what was lost, once each."""
        lost = f"the recording lacks the last {self._lost_s:.1f} s that were read: they count as not known"
        texts = [lost] if self._lost_s else []
        return list(dict.fromkeys([*texts, *self._used.notes(placement, self._engine())]))

    def state(self) -> RankState:
        """Return what was added up so far, to be used before more is added."""
        return RankState(
            gpus=tuple(self._gpu_state(scorer) for scorer in self._scorers.values()),
            first_ns=self.first_ns,
            last_ns=self.last_ns,
            intervals_count=self.intervals_count,
            intervals_ns=self.intervals_ns,
        )

    def counted(self, placement: Placement) -> list[bool]:
        """Return of each GPU whether it counts as the command's, as far as is known now."""
        return [use is not None for use in self._used.uses(placement, self._engine())]

    @property
    def series(self) -> tuple[GpuSeries, ...]:
        """The series of each GPU, which goes on."""
        return tuple(scorer.series for scorer in self._scorers.values())

    @property
    def phase(self) -> Label | None:
        """The phase of the last window that has one."""
        return self._labels.last

    @property
    def bounds_keys(self) -> tuple[str, ...]:
        """Digest of the bounds of each GPU."""
        return tuple(matched.bounds_key for matched in self._used.matched)

    def _settle(self) -> None:
        first_index, labels = self._labels.settle()
        for scorer in self._scorers.values():
            scorer.settle(first_index, labels)

    def _engine(self) -> list[float | None]:
        return [scorer.sums.mean("engine") for scorer in self._scorers.values()]

    @staticmethod
    def _gpu_state(scorer: GpuScorer) -> GpuState:
        return GpuState(
            sums=Sums().merge(scorer.sums),
            phase_sums={label: Sums().merge(sums) for label, sums in scorer.phase_sums.items()},
            series=scorer.series,
            blocks=scorer.blocks,
        )
