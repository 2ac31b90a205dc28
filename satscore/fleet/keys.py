"""The keys of a job's connections: all of them follow from one secret, so nothing else is passed around.

Who knows the secret can be both ends; who does not gets no further than the handshake.
"""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.utils import z85

from satscore.errors import UsageError
from satscore.record.meeting import Meeting

LEAST_SECRET_BYTES = 16
MOST_SECRET_BYTES = 1 << 16
_KEY_BYTES = 32
_NAME_BYTES = 12
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The two key pairs of CURVE, as Z85: of who listens (leader and collector) and of who connects."""

    server_public: bytes
    server_secret: bytes
    client_public: bytes
    client_secret: bytes


def job_keys(meeting: Meeting) -> Keys:
    """Return the keys of a job; another job with the same secret (a key file) has other ones."""
    server, client = (z85.encode(_digest(meeting, use, _KEY_BYTES)) for use in (b"satscore server", b"satscore client"))
    return Keys(
        server_public=zmq.curve_public(server),
        server_secret=server,
        client_public=zmq.curve_public(client),
        client_secret=client,
    )


def leader_endpoint(meeting: Meeting, hostname: str) -> str:
    """Return where the leader of a node listens: an abstract unix socket, freed by the kernel with its process.

    Its name follows from the secret: nobody else can take it in advance.
    """
    name = _digest(meeting, b"satscore leader", _NAME_BYTES, hostname).hex()
    return f"ipc://@satscore-{os.getuid()}-{name}"


def read_key_file(path: Path) -> bytes:
    """Return the secret of a key file, to be put in place of the one of ``job.json``.

    Raises:
        UsageError: It cannot be read, is too short, or others can read it; says what to do.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            secret = file.read(MOST_SECRET_BYTES).strip()
    except OSError as error:
        raise UsageError(
            f"key file {path}: {error.strerror}",
            hint=f"make one that all ranks can read: (umask 077; openssl rand -hex 32 > {path})",
        ) from error
    if status.st_mode & _OTHERS:
        raise UsageError(
            f"key file {path}: its mode {stat.S_IMODE(status.st_mode):04o} opens it to others",
            hint=f"chmod 600 {path}",
        )
    if len(secret) < LEAST_SECRET_BYTES:
        raise UsageError(
            f"key file {path}: {len(secret)} bytes are too few, {LEAST_SECRET_BYTES} is the least",
            hint=f"openssl rand -hex 32 > {path}",
        )
    return secret


def _digest(meeting: Meeting, use: bytes, size: int, *more: str) -> bytes:
    digest = hashlib.blake2b(digest_size=size, person=use, key=hashlib.blake2b(meeting.secret).digest())
    for text in (meeting.key, *more):
        digest.update(text.encode("utf-8", "surrogateescape") + b"\0")
    return digest.digest()
