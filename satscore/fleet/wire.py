"""What ranks, leaders and the collector say to each other: versioned types and nothing else.

All of it is MessagePack inside encrypted ZeroMQ frames. Numbers are integers with their unit in the name.
"""

import msgspec

PROTOCOL_VERSION = 1
"""Raised with every change that an older satscore would misread; a member of another version is refused by name."""


class LiveRank(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """How one rank is doing now: some 100 bytes, once a second. Means over its GPUs; None is unknown.

    Shares are in ppm of the time or of the bound over the last seconds that were scored.
    """

    rank: int
    hostname: str
    gpus_count: int
    has_ended: bool = False
    """Its command has ended."""
    scored_s: int | None = None
    """Last second that was scored, wall time; None: nothing yet."""
    score_ppm: int | None = None
    engine_ppm: int | None = None
    sm_ppm: int | None = None
    tensor_ppm: int | None = None
    dram_ppm: int | None = None
    clock_mhz: int | None = None
    power_w: int | None = None
    power_cap_w: int | None = None
    temp_max_c: int | None = None
    throttle_ppm: int | None = None
    phase: int | None = None
    """Code of a core.labels.Label."""


class Part(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """All that a rank knows of itself, every minute and at the end; a later one replaces an earlier one.

    Only ``series`` adds up: it is what the rank has to add to, or take from, all that it sent before. So parts
    are numbered from 1 on and counted once each, in order.
    """

    hostname: str
    rank: int
    run_id: str
    """Of this start of the rank: a second one is another."""
    number: int
    is_final: bool
    about: bytes
    """JSON of a record.run_file.RunFile: what ran, how it ended, which GPUs it uses."""
    sums: bytes
    """Content of a file of sums with this rank alone and without series; empty: nothing was read."""
    series: bytes
    """What core.wire.encode_series makes of the series of the GPUs that count; empty: nothing to add."""
    hosts: bytes = b""
    """What run.aside makes of the rows of the host; empty: nothing was read of it, or it is not sent."""
