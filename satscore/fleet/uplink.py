"""A connection to whoever passes on or takes what a rank has: the leader of its node, or the collector."""

import errno
import itertools

import zmq

from satscore.fleet.keys import Keys
from satscore.fleet.sockets import CALLER_EVENTS, caller, events_of, frames_of
from satscore.fleet.wire import Heard, Message, WireError, decode

_serials = itertools.count()


class Uplink:
    """One connection, from its beginning to its end; there is no second one in it.

    Args:
        context: Of the thread that uses it.
        keys: Of the job.
        endpoint: Whom to connect.
        is_direct: The collector itself is there, not a leader.
        now_s: Any time that goes on evenly, s.

    Raises:
        zmq.ZMQError: There are no more sockets to be had.
    """

    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", keys: Keys, endpoint: str, *, is_direct: bool, now_s: float
    ) -> None:
        self.is_direct = is_direct
        self.is_ready = False
        """Both sides know each other."""
        self.lost: str | None = None
        """Why it is over; None: it is not."""
        self.heard: Heard | None = None
        """The last answer."""
        self._waits_since_s: float | None = None
        """When the first question without an answer left."""
        self._serial = next(_serials)
        self._endpoint = endpoint
        self._began_s = now_s
        self.socket = caller(context, keys)
        self.monitor = self.socket.get_monitor_socket(CALLER_EVENTS)
        self.monitor.setsockopt(zmq.LINGER, 0)
        self.socket.connect(endpoint)

    @property
    def way(self) -> object:
        """Names the present way to the collector; None: there is none, what is sent would be lost."""
        epoch = self.heard.epoch if self.heard else 0
        if not self.is_ready or self.lost or not (self.is_direct or epoch):
            return None
        return (self._serial, 0 if self.is_direct else epoch)

    def look(self) -> list[Message]:
        """Return what has come."""
        for event, value in events_of(self.monitor):
            self._note_event(event, value)
        messages: list[Message] = []
        for frame, *more in frames_of(self.socket):
            self._waits_since_s = None
            try:
                message = decode(frame if not more else b"")
            except WireError as error:
                self.lost = f"{self._endpoint} speaks otherwise ({error}): use the same satscore in all ranks"
                break
            if isinstance(message, Heard):
                self.heard = message
            messages.append(message)
        return messages

    def silent_s(self, now_s: float) -> float:
        """Return for how long an answer, or the handshake, has been due."""
        since_s = self._waits_since_s if self.is_ready else self._began_s
        return 0.0 if since_s is None else now_s - since_s

    def ask(self, frame: bytes, now_s: float) -> bool:
        """Send a frame that wants an answer; return False where it does not get away now."""
        if self._waits_since_s is None:
            self._waits_since_s = now_s
        return self.send(frame)

    def send(self, frame: bytes) -> bool:
        """Send a frame; return False where it does not get away now."""
        try:
            self.socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def close(self) -> None:
        """End it."""
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)

    def _note_event(self, event: int, value: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.is_ready = True
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH or (
            event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL and value == errno.EPIPE
        ):
            self.lost = f"{self._endpoint} did not accept the key of this job (is another job there?)"
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            self.lost = f"{self._endpoint} is no satscore, or of another job"
        else:
            self.lost = self.lost or f"{self._endpoint} ended the connection"
