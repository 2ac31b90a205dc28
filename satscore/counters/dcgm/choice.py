"""Which of an engine's GPUs are ours, by UUID: an engine reads the whole node, a container or job owns a part."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from satscore.core.gpu import GpuInfo
from satscore.counters import nvml_ids
from satscore.counters.dcgm.facts import completed, info_of, uuid_of
from satscore.counters.dcgm.messages import other_gpus
from satscore.counters.dcgm.modules import cores_near
from satscore.counters.dcgm.wire import EngineGpu
from satscore.counters.nvml import Visible
from satscore.counters.nvml_api import load, open_error
from satscore.counters.nvml_info import find_gpus, read_driver
from satscore.counters.nvml_notes import NoteBook
from satscore.errors import CounterError


class Matched(NamedTuple):
    """A GPU of the run: the engine's id of it, its facts, and the cores near it as the engine knows them."""

    entity: int
    info: GpuInfo
    cores: frozenset[int] = frozenset()


class OurGpus:
    """The GPUs of the run: chosen among those that NVML shows here, else among the engine's.

    Args:
        visible: Chooses driver indices; None for all.
        notes: Where those are named that cannot be read.

    Raises:
        CounterError: NVML works here, and shows no GPU that is ours.
    """

    def __init__(self, visible: Visible | None, notes: NoteBook) -> None:
        self._visible = visible
        self._notes = notes
        self._shown = self._from_nvml()
        self._chosen: list[str | None] | None = None
        """Their UUIDs, in the run's order, once an engine has been met."""

    def match(self, gpus: Sequence[EngineGpu], address: str | None) -> list[Matched]:
        """Return the GPUs of the run that an engine has; ``info.index`` is their place in the run.

        A restarted engine may give them other ids: once they are chosen, the UUIDs hold.

        Raises:
            CounterError: It has none of ours.
        """
        by_uuid = {uuid_of(gpu): gpu for gpu in gpus if uuid_of(gpu)}
        wanted = self._wanted(gpus) if self._chosen is None else dict.fromkeys(self._chosen)
        found = [(uuid, info) for uuid, info in wanted.items() if uuid in by_uuid]
        if not found:
            theirs = [f"{uuid_of(gpu) or 'a GPU without UUID'}" for gpu in gpus]
            raise other_gpus(address, theirs, [str(uuid) for uuid in wanted])
        if self._chosen is None:
            self._chosen = [uuid for uuid, _ in found]
        for uuid in wanted:
            if uuid not in by_uuid:
                self._notes.say(f"GPU {uuid} is not known to the DCGM host engine; it is left out")
        matched = []
        for uuid, known in found:
            told = info_of(by_uuid[uuid], self._chosen.index(uuid))
            info = msgspec.structs.replace(completed(known, told), index=told.index) if known else told
            matched.append(Matched(by_uuid[uuid].entity, info, cores_near(by_uuid[uuid].static)))
        return matched

    def _wanted(self, gpus: Sequence[EngineGpu]) -> dict[str | None, GpuInfo | None]:
        """Return the UUIDs to read, with what NVML knows of each."""
        if self._shown is not None:
            return {info.uuid: info for info in self._shown}
        infos = [info_of(gpu, gpu.entity) for gpu in gpus]
        infos = [msgspec.structs.replace(i, index=i.index if i.nvml_index is None else i.nvml_index) for i in infos]
        return dict.fromkeys(info.uuid for info in self._choose(infos))

    def _from_nvml(self) -> list[GpuInfo] | None:
        """Return what this container or job is shown, or None where NVML cannot be used."""
        try:
            api = load()
        except CounterError:
            return None
        try:
            found, refused = find_gpus(api, read_driver(api))
        finally:
            api.close()
        if not found:
            raise open_error(next(iter(refused.values()), nvml_ids.GPU_NOT_FOUND))
        infos = [msgspec.structs.replace(gpu.info, nvml_index=gpu.nvml_index) for gpu in found]
        return self._choose(infos)

    def _choose(self, infos: list[GpuInfo]) -> list[GpuInfo]:
        if self._visible is None:
            return infos
        by_index = {info.index: info for info in infos}
        chosen = [by_index[index] for index in dict.fromkeys(self._visible(infos)) if index in by_index]
        if not chosen:
            raise CounterError(
                f"DCGM: none of the {len(infos)} GPUs here belongs to this process",
                hint="CUDA_VISIBLE_DEVICES or the job's GPU binding leaves it no GPU",
            )
        return chosen
