"""The GPUs of a rank: their hardware models, and the results of those that the command uses."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from satscore.core.bounds import Bounds, resolve, unmodelled
from satscore.core.gpu import GpuInfo
from satscore.core.hwmodel import HardwareModel, MatchResult, match
from satscore.core.own_notes import IDLE_GPU_ENGINE_FRAC, gpu_numbers
from satscore.core.placement import Placement
from satscore.core.rank_state import GpuState
from satscore.core.summarise import GpuResult
from satscore.core.summary_gpu import GpuUse, UnusedGpu


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """The hardware model of a GPU and the bounds that follow from it."""

    found: MatchResult
    bounds: Bounds
    bounds_key: str
    """Digest of the bounds: sums made by others are not comparable with them."""


class Hardware:
    """Matches GPUs with hardware models; of equal GPUs only the first one is looked at.

    Args:
        models: All known hardware models.
        dtype: Tensor data type stated by the user, or None.
        folder: Where the user can add a hardware model, as people read it.
    """

    def __init__(self, models: Sequence[HardwareModel], dtype: str | None, folder: str) -> None:
        self._models = models
        self._dtype = dtype
        self._folder = folder
        self._known: dict[GpuInfo, Matched] = {}

    def of(self, gpu: GpuInfo) -> Matched:
        """Return the model and bounds of a GPU."""
        own = {"index": 0, "nvml_index": None, "uuid": None, "pci_bus_id": None, "remapped_rows_count": None}
        kind = msgspec.structs.replace(gpu, **own)
        if kind not in self._known:
            found = match(self._models, gpu, self._folder)
            bounds = unmodelled(gpu) if found.model is None else resolve(found.model, gpu, self._dtype)
            self._known[kind] = Matched(found=found, bounds=bounds, bounds_key=bounds_key(bounds))
        return self._known[kind]


def bounds_key(bounds: Bounds) -> str:
    """Return the digest of the numbers that windows are scored by: names, sources and notes are not among them."""
    # What is scored of the ceilings stands in attainable_frac and attainable_active_frac.
    numbers = msgspec.structs.replace(bounds, model_id="", ceilings=())
    return f"{zlib.crc32(msgspec.msgpack.encode(numbers)):08x}"


class RankGpus:
    """The GPUs of a rank as a summary needs them. ``engine`` is their mean engine-active share, in their order.

    Args:
        gpus: In the order of the readings' ``gpu`` index.
        hardware: Where their models are found.
    """

    def __init__(self, gpus: Sequence[GpuInfo], hardware: Hardware) -> None:
        self.gpus = tuple(gpus)
        self.matched = tuple(hardware.of(gpu) for gpu in gpus)

    def uses(self, placement: Placement, engine: Sequence[float | None]) -> list[GpuUse | None]:
        """Return how it is known of every GPU that the command uses it; None: it does not.

        Work where nobody was seen counts as the command's, unless it is known to compute elsewhere only.
        """
        elsewhere = placement.computes_elsewhere([gpu.uuid for gpu in self.gpus])
        return [
            placement.use_of(gpu.uuid, worked=not elsewhere and share is not None and share >= IDLE_GPU_ENGINE_FRAC)
            for gpu, share in zip(self.gpus, engine, strict=True)
        ]

    def unused(self, placement: Placement, engine: Sequence[float | None]) -> tuple[UnusedGpu, ...]:
        """Return the GPUs that are known not to be the command's, or that another rank counts."""
        found = []
        for gpu, share, use in zip(self.gpus, engine, self.uses(placement, engine), strict=True):
            known_by = None if use else placement.unused_by(gpu.uuid)
            if known_by is not None:
                found.append(
                    UnusedGpu(
                        index=gpu.index,
                        nvml_index=gpu.nvml_index,
                        uuid=gpu.uuid,
                        known_by=known_by,
                        engine_active_frac=share,
                    )
                )
        return tuple(found)

    def notes(self, placement: Placement, engine: Sequence[float | None]) -> list[str]:
        """Return what the choice of hardware models for the used GPUs left open."""
        uses = self.uses(placement, engine)
        used = [matched.found for matched, use in zip(self.matched, uses, strict=True) if use]
        texts = [note for found in used for note in found.notes]
        texts += [found.reason for found in used if found.model is None]
        unseen = [
            gpu
            for gpu, use in zip(self.gpus, uses, strict=True)
            if use and placement.use_of(gpu.uuid, worked=False) is None
        ]
        if placement.goes_by_local_rank and any(uses):
            which = gpu_numbers(gpu for gpu, use in zip(self.gpus, uses, strict=True) if use)
            texts.append(f"GPU {which} is taken for the rank's by its number on the node: no process of it was seen")
        if unseen:
            which = gpu_numbers(unseen)
            are = "it is" if len(unseen) == 1 else "they are"
            texts.append(f"GPU {which} worked, but no process of the command was seen there: {are} scored")
        return texts

    def result(self, at: int, state: GpuState, use: GpuUse, placement: Placement) -> GpuResult:
        """Return the result of one of the GPUs.

        Args:
            at: Its position.
            state: What was added up of it.
            use: How it is known that the command uses it.
            placement: What is known of the command's GPUs.
        """
        info, matched = self.gpus[at], self.matched[at]
        looks = placement.looks_of(info.uuid)
        return GpuResult(
            info=info,
            model=matched.found.model,
            model_note=None if matched.found.model else matched.found.reason,
            bounds=matched.bounds,
            sums=state.sums,
            phase_sums=state.phase_sums,
            series=state.series,
            blocks=state.blocks,
            use=use,
            shared_frac=looks.shared_frac if looks else None,
            foreign_count=looks.company_max_count if looks else 0,
        )


def certain_gpus(placement: Placement | None, gpus: Sequence[GpuInfo]) -> list[int]:
    """Return the positions of the GPUs that nothing can take from the command any more.

    A look at processes can take those where none of the command's was seen. Another rank cannot take one that
    is claimed here.
    """
    if placement is None:
        return list(range(len(gpus)))
    looks = [placement.looks_of(gpu.uuid) for gpu in gpus]
    uses = [placement.use_of(gpu.uuid, worked=True) for gpu in gpus]
    return [
        at
        for at, (looked, use) in enumerate(zip(looks, uses, strict=True))
        if use is not None and (looked is None or looked.computes)
    ]
