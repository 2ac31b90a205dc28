"""What ranks, leaders and the collector say to each other: versioned types and nothing else.

All of it is MessagePack inside encrypted ZeroMQ frames. Numbers are integers with their unit in the name.
"""

from typing import TypeAlias

import msgspec

PROTOCOL_VERSION = 1
"""Raised with every change that an older satscore would misread; a member of another version is refused by name."""


class LiveRank(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """How one rank is doing now: some 100 bytes, as often as it scores. Means over its GPUs; None is unknown.

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
    """Content of a file of sums with this rank alone and without series, packed (record.some_bytes).

    Empty: nothing was read.
    """
    series: bytes
    """What core.wire.encode_series makes of the series of the GPUs that count; empty: nothing to add."""
    hosts: bytes = b""
    """What run.aside makes of the rows of the host; empty: nothing was read of it, or it is not sent."""


class Rows(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """From a rank to its leader, and from a leader to the collector, once a second: the rows that are new."""

    hostname: str
    rows: list[LiveRank]
    sent_ns: int | None = None
    """The sender's wall clock, ns: an answer is wanted, which repeats it. None: none is wanted."""
    offset_ns: int | None = None
    """The collector's wall clock minus the sender's, ns, as far as the sender knows."""


class Heard(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """From the collector or a leader: the answer to Rows that want one."""

    echo_ns: int | None
    """What the rows had as ``sent_ns``; None: this answers nothing, something has changed."""
    now_ns: int
    """Wall clock of who answers, ns."""
    offset_ns: int | None = None
    """The collector's wall clock minus that of who answers, ns; None: not known."""
    silent_ms: int | None = None
    """Age of the last word of the collector; None: there was none."""
    epoch: int = 0
    """How often there was a new way to the collector; 0: there is none, parts would be lost."""


class Taken(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """From the collector: it has all parts of this start of a rank up to a number; 0: none."""

    rank: int
    run_id: str
    number: int


class Refused(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """From the collector: it takes no part of this start of a rank, now or later."""

    rank: int
    run_id: str
    reason: str


Message: TypeAlias = Rows | Part | Heard | Taken | Refused

MOST_BYTES = 32 << 20
"""Of one message. The part of a rank with 16 GPUs that could not send for a day is some 10 MB."""
_KINDS: dict[type[Message], int] = {Rows: ord("R"), Part: ord("P"), Heard: ord("H"), Taken: ord("T"), Refused: ord("X")}
_encode = msgspec.msgpack.Encoder().encode
_DECODERS = {kind: msgspec.msgpack.Decoder(type_) for type_, kind in _KINDS.items()}


class WireError(Exception):
    """What came is no message of ours.

    Args:
        message: What is wrong with it.
        version: The protocol that it is of, where that is another one.
    """

    def __init__(self, message: str, version: int | None = None) -> None:
        super().__init__(message)
        self.version = version


def encode(message: Message) -> bytes:
    """Return a message as one frame: a byte for the version, one for the kind, and MessagePack."""
    return bytes((PROTOCOL_VERSION, _KINDS[type(message)])) + _encode(message)


def decode(frame: bytes) -> Message:
    """Return the message in a frame.

    Raises:
        WireError: There is none, or it is of another version of the protocol.
    """
    if len(frame) < 2:
        raise WireError(f"{len(frame)} bytes are no message")
    if frame[0] != PROTOCOL_VERSION:
        raise WireError(f"protocol version {frame[0]}, this satscore speaks {PROTOCOL_VERSION}", version=frame[0])
    decoder = _DECODERS.get(frame[1])
    if decoder is None:
        raise WireError(f"no kind of message: {frame[1]}")
    try:
        message: Message = decoder.decode(memoryview(frame)[2:])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise WireError(str(error)) from error
    return message
