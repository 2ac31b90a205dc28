"""One connection to a DCGM host engine: its GPUs and CPUs, our watches on them, and what they read.

Which of DCGM's calls is used matters more than how. ``dcgmGetValuesSince_v2``, the call made for
following samples, costs a round trip per GPU and field, and its client library clears a message of
4 MB for each: a tenth of a core and more. ``dcgmEntitiesGetLatestValues`` brings the latest sample of
all GPUs and fields in one; the other is left for what lay between two of those.
"""

import contextlib
import ctypes
import dataclasses
import os
from collections.abc import Sequence
from typing import Self

from satscore.counters.dcgm.library import AttemptError, Library, Vendor
from satscore.counters.dcgm.multiplexing import takes_turns
from satscore.counters.dcgm.samples import (
    V1_HEAD_SIZE,
    V1_SIZE,
    V2_SIZE,
    cores_of,
    facts_of_v2,
    value_of_v1,
    values_of_v2,
)
from satscore.counters.dcgm.wire import EngineCpu, EngineGpu, StaticValue, Value, Watch, Watching

FIRST_PIPE_FIELD = 1001
_TIMEOUT = -11
_CONNECTION_NOT_VALID = -21
LOST = frozenset({_TIMEOUT, _CONNECTION_NOT_VALID})
"""Statuses after which no further call on a connection is worth its time."""
_GPU, _CPU = 1, 7  # DCGM_FE_GPU and DCGM_FE_CPU of dcgm_fields.h
_LIVE = 1  # DCGM_FV_FLAG_LIVE_DATA
_KEPT_S = 60.0
"""How long the engine keeps our samples: what a stopped satscore can catch up with. Whole seconds."""


@dataclasses.dataclass(slots=True, kw_only=True)
class _Part:
    """The watches of one kind of field: on what, what was accepted, held before, and refused why."""

    period_us: int
    group: Vendor = None
    pairs: list[Vendor] = dataclasses.field(default_factory=list)
    groups: list[Vendor] = dataclasses.field(default_factory=list)
    fields: list[int] = dataclasses.field(default_factory=list)
    before: list[Value] = dataclasses.field(default_factory=list)
    refused: dict[int, AttemptError] = dataclasses.field(default_factory=dict)


class Engine:
    """A connected engine. Calls may take minutes: the process that makes them can be ended any time."""

    def __init__(self, library: Library, handle: Vendor, *, embedded: bool) -> None:
        self._library = library
        self._handle = handle
        self._embedded = embedded
        self._unique = f"satscore-{os.getpid()}-{os.urandom(4).hex()}"
        self._entity_groups: list[Vendor] = []
        self._watched: list[tuple[Vendor, Vendor]] = []
        self._pipes = self._others = self._cpus = _Part(period_us=0)

    @classmethod
    def connect(cls, library: Library, address: str | None, timeout_s: float) -> Self:
        """Connect to an engine, or start one inside this process.

        Args:
            library: The loaded bindings.
            address: ``HOST:PORT``, ``unix://PATH`` or None for an engine inside.
            timeout_s: The vendor's own limit.

        Raises:
            AttemptError: Stage ``connect``; ``library`` if its records are not those that we read.
        """
        sizes = (ctypes.sizeof(library.structs.c_dcgmFieldValue_v1), ctypes.sizeof(library.structs.c_dcgmFieldValue_v2))
        if sizes != (V1_SIZE, V2_SIZE):
            raise AttemptError("library", None, f"value records of {sizes} bytes, not of {(V1_SIZE, V2_SIZE)}")
        if address is None:
            handle = library.call("connect", "dcgmStartEmbedded", library.structs.DCGM_OPERATION_MODE_AUTO)
        else:
            handle = library.connect(address, round(timeout_s * 1000))
        if not handle:  # a second engine inside one process comes as no handle without an error
            raise AttemptError("connect", None, "DCGM gave no handle and no reason")
        return cls(library, handle, embedded=address is None)

    def gpus(self, static_fields: Sequence[int]) -> list[EngineGpu]:
        """Return the GPUs that the engine can read, with the static fields that they answer.

        Raises:
            AttemptError: Stage ``gpus``, or ``connect`` if there was no connection after all: a login that
                the engine does not answer is told by the first call.
        """
        try:
            entities = self._call("gpus", "dcgmGetAllSupportedDevices")
            static: dict[int, dict[int, StaticValue]] = {entity: {} for entity in entities}
            for entity, facts in static.items():
                self._ask_live(entity, list(static_fields), facts)
        except AttemptError as failure:
            if failure.status in LOST:
                raise AttemptError("connect", failure.status, failure.text) from failure
            raise
        return [EngineGpu(entity=entity, static=facts) for entity, facts in static.items()]

    def _ask_live(self, entity: int, fields: list[int], facts: dict[int, StaticValue]) -> None:
        """Ask fields of a GPU now; one that the engine cannot answer spoils a call, so ask in halves then."""
        # A live call for a pipe field that nobody watches crashes nv-hostengine 4.6.0.
        assert all(field < FIRST_PIPE_FIELD for field in fields), "pipe fields are never asked live"
        if not fields:
            return
        try:
            buffer = self._call("gpus", "dcgmEntitiesGetLatestValues", [self._pair(_GPU, entity)], fields, _LIVE)
        except AttemptError as failure:
            if failure.status in LOST:
                raise
            if len(fields) > 1:
                for half in _halves(fields):
                    self._ask_live(entity, half, facts)
            return
        facts.update((fact.field, fact.value) for fact in facts_of_v2(memoryview(buffer)))

    def watch(self, request: Watch) -> tuple[list[Value], Watching]:
        """Watch pipe and other fields of GPUs, and fields of CPUs.

        Returns:
            What the engine held of them before, and which fields it refused.

        Raises:
            AttemptError: Stage ``watch``: the group cannot be made, or all pipe fields are refused.
        """
        # Pipes apart from the others: one field that fails takes its whole watch along.
        pipes = self._pipes = self._part(_GPU, request.entities, request.period_us)
        self._watch(list(request.pipe_fields), pipes)
        if request.pipe_fields and not pipes.fields:
            raise pipes.refused[request.pipe_fields[0]]
        others = self._others = _Part(period_us=request.period_us, group=pipes.group, pairs=pipes.pairs)
        self._watch(list(request.other_fields), others)
        cpus = self._watch_cpus(request) if request.cpu_fields else []
        refused = pipes.refused | others.refused | self._cpus.refused
        return pipes.before + others.before + self._cpus.before, Watching(
            refused={field: error.status for field, error in refused.items() if error.status is not None},
            multiplexed=[
                entity for entity in request.entities if takes_turns(self._metric_groups(entity), pipes.fields)
            ],
            cpus=cpus,
        )

    def _part(self, kind: int, entities: Sequence[int], period_us: int) -> _Part:
        """Return a part without watches on a new group of entities."""
        name = f"{self._unique}-{kind}"
        group = self._call("watch", "dcgmGroupCreate", self._library.structs.DCGM_GROUP_EMPTY, name)
        self._entity_groups.append(group)
        for entity in entities:
            self._call("watch", "dcgmGroupAddEntity", group, kind, entity)
        return _Part(period_us=period_us, group=group, pairs=[self._pair(kind, entity) for entity in entities])

    def _watch_cpus(self, request: Watch) -> list[EngineCpu]:
        """Watch fields of the engine's CPUs and return those; what fails here leaves the GPUs alone."""
        cpus: list[EngineCpu] = []
        try:
            cpus = self._find_cpus()
            if cpus:
                self._cpus = self._part(_CPU, [cpu.entity for cpu in cpus], request.cpu_period_us)
                self._watch(list(request.cpu_fields), self._cpus)
        except AttemptError as failure:
            if failure.status in LOST:
                raise
        return cpus

    def _find_cpus(self) -> list[EngineCpu]:
        """Return the CPUs that the engine can read, which are the vendor's.

        Raises:
            AttemptError: Its module for CPUs is not loaded: on every other machine.
        """
        said = self._call("watch", "dcgmGetCpuHierarchy")
        return [
            EngineCpu(entity=int(cpu.cpuId), cores=cores_of(cpu.ownedCores.bitmask))
            for cpu in said.cpus[: said.numCpus]
        ]

    def _watch(self, fields: list[int], part: _Part) -> None:
        """Watch fields in one watch, or in halves where the engine refuses it, down to those that it refuses."""
        if not fields:
            return
        field_group = None
        try:
            name = f"{self._unique}-{fields[0]}-{len(fields)}"
            field_group = self._call("watch", "dcgmFieldGroupCreate", fields, name)
            before = self._latest("watch", part.pairs, fields)
            self._call("watch", "dcgmWatchFields", part.group, field_group, part.period_us, _KEPT_S, 0)
        except AttemptError as error:
            if error.status in LOST:
                raise
            if field_group is not None:
                self._quietly("dcgmFieldGroupDestroy", field_group)
            if len(fields) == 1:
                part.refused[fields[0]] = error
            else:
                for half in _halves(fields):
                    self._watch(half, part)
            return
        self._watched.append((part.group, field_group))
        part.groups.append(field_group)
        part.fields += fields
        part.before += before

    def _metric_groups(self, entity: int) -> list[tuple[int, list[int]]]:
        """Return major id and fields of the GPU's metric groups; none if the engine does not say."""
        try:
            said = self._call("watch", "dcgmProfGetSupportedMetricGroups", entity)
        except AttemptError as failure:
            if failure.status in LOST:
                raise
            return []
        groups = [said.metricGroups[index] for index in range(said.numMetricGroups)]
        return [(int(group.majorId), list(group.fieldIds[: group.numFieldIds])) for group in groups]

    def latest(self) -> list[Value]:
        """Return the latest sample of every watched field; the same one until there is another.

        Raises:
            AttemptError: Stage ``fetch``.
        """
        values = self._latest("fetch", self._pipes.pairs, self._pipes.fields + self._others.fields)
        try:
            return values + self._latest("fetch", self._cpus.pairs, self._cpus.fields)
        except AttemptError as failure:
            if failure.status in LOST:
                raise
            return values  # those of the CPUs are then old, which is noticed

    def _latest(self, stage: str, pairs: list[Vendor], fields: list[int]) -> list[Value]:
        if not pairs or not fields:
            return []
        return values_of_v2(memoryview(self._call(stage, "dcgmEntitiesGetLatestValues", pairs, fields, 0)))

    def pipes_since(self, after_us: int) -> list[Value]:
        """Return the pipe samples that the engine took after a time of its clock, in order of time per field.

        Raises:
            AttemptError: Stage ``fetch``: the connection is lost.
        """
        values: list[Value] = []

        def take(_: int, entity: int, records: Vendor, count: int, __: Vendor) -> int:
            first = ctypes.addressof(records.contents)
            heads = (ctypes.string_at(first + index * V1_SIZE, V1_HEAD_SIZE) for index in range(count))
            values.extend(value_of_v1(entity, head) for head in heads)
            return 0

        callback = self._library.agent.dcgmFieldValueEntityEnumeration_f(take)
        for field_group in self._pipes.groups:
            try:
                self._call(
                    "fetch", "dcgmGetValuesSince_v2", self._pipes.group, field_group, after_us + 1, callback, None
                )
            except AttemptError as failure:
                if failure.status in LOST:
                    raise
                # A status of one GPU and field ends the call for all; what it did not bring stays a gap.
        return values

    def close(self) -> None:
        """Undo the watches and leave the engine; whatever fails is left to the engine, which does it at the end."""
        for group, field_group in self._watched:
            self._quietly("dcgmUnwatchFields", group, field_group)
            self._quietly("dcgmFieldGroupDestroy", field_group)
        for group in self._entity_groups:
            self._quietly("dcgmGroupDestroy", group)
        self._quietly("dcgmStopEmbedded" if self._embedded else "dcgmDisconnect")
        with contextlib.suppress(AttemptError):
            self._library.call("close", "dcgmShutdown")

    def _pair(self, kind: int, entity: int) -> Vendor:
        return self._library.structs.c_dcgmGroupEntityPair_t(kind, entity)

    def _call(self, stage: str, function: str, *arguments: Vendor) -> Vendor:
        return self._library.call(stage, function, self._handle, *arguments)

    def _quietly(self, function: str, *arguments: Vendor) -> None:
        with contextlib.suppress(AttemptError):
            self._call("close", function, *arguments)


def _halves(fields: list[int]) -> tuple[list[int], list[int]]:
    middle = len(fields) // 2
    return fields[:middle], fields[middle:]
