"""ZeroMQ sockets as the fleet uses them: encrypted, bounded, never blocking, never lingering."""

import errno
import struct
from collections.abc import Iterator

import zmq
from zmq.utils import z85

from satscore.fleet.keys import Keys
from satscore.fleet.wire import MOST_BYTES

HANDSHAKE_MS = 20_000
"""A connection that has not shown its key by then is closed. As a job starts, thousands come at once."""
QUEUE_MESSAGES = 64
"""Per connection and direction; what does not fit is dropped, and sent again if it has to arrive."""
UNREAD_MESSAGES = 1
"""Per connection of a listener, before the sender has to wait: 10,000 parts at once are 400 MB."""
KEEPALIVE_IDLE_S = 60
"""The connection of a node that lost its power ends some minutes later."""
_DOMAIN = b"satscore"
_DOORMAN_ENDPOINT = "inproc://zeromq.zap.01"
_EVENT = struct.Struct("=hi")
_FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
CALLER_EVENTS = _FAILED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED
LISTENER_EVENTS = _FAILED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_ACCEPTED
JUST_LEFT = (errno.ECONNRESET, errno.EPIPE)
"""Values of EVENT_HANDSHAKE_FAILED_NO_DETAIL: somebody connected and left, as a leader does to try an address."""


def listener(context: "zmq.Context[zmq.Socket[bytes]]", keys: Keys) -> "zmq.Socket[bytes]":
    """Return a socket to bind, to which only holders of the job's secret get; it needs a Doorman."""
    socket = context.socket(zmq.ROUTER)
    _bound(socket)
    socket.setsockopt(zmq.RCVHWM, UNREAD_MESSAGES)
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.server_secret)
    # Without a domain, libzmq would let peers of ZMTP 1.0 in, which know no keys.
    socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
    return socket


def caller(context: "zmq.Context[zmq.Socket[bytes]]", keys: Keys) -> "zmq.Socket[bytes]":
    """Return a socket to connect, once: when its connection is lost, it is to be replaced."""
    socket = context.socket(zmq.DEALER)
    _bound(socket)
    socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server_public)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.client_public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.client_secret)
    socket.setsockopt(zmq.RECONNECT_IVL, -1)
    socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing is queued for a connection that is not there
    return socket


def _bound(socket: "zmq.Socket[bytes]") -> None:
    for option, value in (
        (zmq.LINGER, 0),
        (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
        (zmq.MAXMSGSIZE, MOST_BYTES),
        (zmq.SNDHWM, QUEUE_MESSAGES),
        (zmq.RCVHWM, QUEUE_MESSAGES),
        (zmq.IPV6, 1),
        (zmq.TCP_KEEPALIVE, 1),
        (zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S),
    ):
        socket.setsockopt(option, value)


class Doorman:
    """Answers libzmq's question whether a client's key may come in (ZAP, rfc.zeromq.org/spec/27).

    zmq.auth.thread.ThreadAuthenticator does the same with a thread and an asyncio loop of its own (50 ms of
    imports); here the thread that serves the listener asks as well.

    Args:
        context: Of the listeners.
        keys: Of the job; there is one key for all clients.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", keys: Keys) -> None:
        self.socket = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(_DOORMAN_ENDPOINT)
        self._admitted = z85.decode(keys.client_public)

    def answer(self) -> None:
        """Answer all questions that are there."""
        for frames in frames_of(self.socket):
            version, request, *_, mechanism, key = frames if len(frames) == 7 else (b"1.0", b"", b"", b"")
            admitted = mechanism == b"CURVE" and key == self._admitted
            status = (b"200", b"OK") if admitted else (b"400", b"not a key of this job")
            self.socket.send_multipart([version, request, *status, b"", b""])


def frames_of(socket: "zmq.Socket[bytes]", most: int = 1024) -> Iterator[list[bytes]]:
    """Yield the messages that are there, at most so many: nobody may keep a thread to himself."""
    for _ in range(most):
        try:
            yield socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return


def events_of(monitor: "zmq.Socket[bytes]") -> Iterator[tuple[int, int]]:
    """Yield event and value of what a monitor has seen; zmq.utils.monitor would import asyncio for it (50 ms)."""
    for head, *_ in frames_of(monitor):
        yield _EVENT.unpack(head)
