"""What satscore and its DCGM process say to each other: one JSON value a line, over the process's pipes.

A call into DCGM may hang for minutes or take its process down. So it is made in a process of its own
(worker.py), which makes one attempt: whatever fails, it says so and ends, and client.py starts another.
"""

import msgspec

BLANK = 1
"""Status of a value that DCGM answered without a reason: plain blank. Other statuses are DCGM's own, all <= 0."""

StaticValue = int | float | str


class Connect(msgspec.Struct, frozen=True, kw_only=True, tag="connect"):
    """First line to the process: which engine, and which facts of its GPUs.

    Attributes:
        bindings: Folder of the vendor's Python bindings.
        address: ``HOST:PORT``, ``unix://PATH``, or None: an engine inside the process.
        timeout_s: How long connecting may take, for the vendor's own limit; ours is the client's.
        static_fields: Ordinary field ids to ask once, per GPU.
    """

    bindings: str
    address: str | None
    timeout_s: float
    static_fields: list[int]


class Watch(msgspec.Struct, frozen=True, kw_only=True, tag="watch"):
    """Second line to the process: what to read, until its input ends.

    Attributes:
        entities: The engine's ids of the GPUs.
        pipe_fields: Profiling field ids (1001 and above): in a group and watch of their own.
        other_fields: Ordinary field ids.
        period_us: Time between samples.
        cpu_fields: Field ids to read of every CPU that the engine knows; none: it is not asked for CPUs.
        cpu_period_us: Time between samples of CPUs: their meters take long to answer.
    """

    entities: list[int]
    pipe_fields: list[int]
    other_fields: list[int]
    period_us: int
    cpu_fields: list[int] = []
    cpu_period_us: int = 1_000_000


class EngineGpu(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU as the engine knows it; ``static`` has the fields that it answered."""

    entity: int
    static: dict[int, StaticValue]


class EngineCpu(msgspec.Struct, frozen=True, kw_only=True):
    """A CPU as the engine knows it; ``cores`` are the kernel's numbers of its cores."""

    entity: int
    cores: list[int]


class Found(msgspec.Struct, frozen=True, kw_only=True, tag="found"):
    """Answer to Connect.

    Attributes:
        bindings_version: Version of the bindings' library, or None.
        gpus: Those that the engine can read.
    """

    bindings_version: str | None
    gpus: list[EngineGpu]


class Watching(msgspec.Struct, frozen=True, kw_only=True, tag="watching"):
    """Answer to Watch.

    Attributes:
        refused: Field ids that the engine would not watch, with its status.
        multiplexed: Entities whose pipe fields take turns, because the hardware cannot count all at once.
        cpus: All that the engine knows, where fields of them were asked for.
    """

    refused: dict[int, int]
    multiplexed: list[int]
    cpus: list[EngineCpu] = []


class Value(msgspec.Struct, frozen=True, array_like=True):
    """One sample of one field.

    Attributes:
        entity: The engine's id of the GPU; for a field of ``Watch.cpu_fields``, of the CPU.
        field: DCGM's field id.
        ts_us: The engine's wall clock when it took the sample, us since 1970.
        status: 0, BLANK or a negative status of DCGM; blanks that state a reason have that status.
        value: None unless status is 0.
    """

    entity: int
    field: int
    ts_us: int
    status: int
    value: float | int | None


class Samples(msgspec.Struct, frozen=True, kw_only=True, tag="samples"):
    """What a fetch brought: samples of our own watch that no earlier message held; may be empty.

    Attributes:
        fetched_ns: CLOCK_MONOTONIC after the fetch (the same clock in both processes).
        wall_ns: This machine's wall clock at the same instant.
        cpu_s: CPU time of the process so far.
        rss_bytes: Its largest resident memory so far.
        values: In order of time per entity and field.
        step_us: Time between two samples of a pipe field in the engine, which is shorter than our period where
            another client watches it, too; None where it was not looked at, as it mostly is not.
    """

    fetched_ns: int
    wall_ns: int
    cpu_s: float
    rss_bytes: int
    values: list[Value]
    step_us: int | None = None


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """Last line of the process.

    Attributes:
        stage: What could not be done: ``bindings``, ``library``, ``connect``, ``gpus``, ``watch``,
            ``fetch``, ``defect``.
        status: DCGM's status, or None if it was no answer of DCGM.
        text: What was said, for people.
    """

    stage: str
    status: int | None
    text: str


Request = Connect | Watch
Message = Found | Watching | Samples | Failed
