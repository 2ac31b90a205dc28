"""The thread that listens for the leaders of the nodes, and answers them."""

import resource
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import zmq

from satscore.fleet.address import write_address
from satscore.fleet.keys import Keys
from satscore.fleet.ledger import Ledger
from satscore.fleet.shared import Notes, Wakeup
from satscore.fleet.sockets import JUST_LEFT, LISTENER_EVENTS, Doorman, events_of, frames_of, listener
from satscore.fleet.wire import Heard, Message, Part, Refused, Rows, WireError, decode, encode
from satscore.launch.host_port import parse_address

BACKLOG = 4096
"""Connections that the kernel holds until they are accepted (or net.core.somaxconn, if that is less)."""
STOP_S = 0.2
SETTLED_S = 2.0
"""A connection that is not known by then is a stranger's."""
ROOM_FOR_FILES = 1024
"""Descriptors beside one for each rank: the usual limit of a process, for all that it does otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """Where a collector listens.

    Attributes:
        directory: Run directory, in which its address is told.
        hostname: Of this node.
        keys: Of the job.
        listen: HOST:PORT at which the others were told to find it; None: any port.
        world: Ranks of the job.
    """

    directory: Path
    hostname: str
    keys: Keys
    listen: str | None
    world: int


class CollectorThread:
    """Serves one collector until ``stop``.

    Args:
        post: Where it listens.
        ledger: Gets what comes.
        notes: Gets what a user should know.
    """

    def __init__(self, post: Post, ledger: Ledger, notes: Notes) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True, name="satscore-collect")
        self._post = post
        self._ledger = ledger
        self._notes = notes
        self._wakeup = Wakeup()
        self._is_stopping = False
        self._strangers = Strangers()
        self._garbled_count = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def goes_on(self) -> bool:
        """Whether something may still come."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ask it to end, and wait for that a moment."""
        self._is_stopping = True
        self._wakeup.set()
        self._thread.join(STOP_S)

    def notes(self) -> list[str]:
        """Return what came that was not of this job, as counts."""
        lines = self._strangers.lines(time.monotonic())
        if self._garbled_count:
            lines.append(f"{self._garbled_count} messages to the collector were none of satscore's and were ignored")
        return lines

    def _run(self) -> None:
        """Serve; whatever fails ends the collecting, and is a note: the ranks have their files."""
        try:
            _raise_file_limit(self._post.world)
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            try:
                self._serve(context)
            finally:
                context.destroy(linger=0)
        except Exception as error:  # noqa: BLE001 - nothing of this may hurt the command
            self._notes.add(
                f"the collector of the other ranks does not work ({type(error).__name__}: {error}):"
                " satscore report joins their files"
            )
        finally:
            self._wakeup.close()

    def _serve(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        doorman = Doorman(context, self._post.keys)
        socket = listener(context, self._post.keys)
        socket.setsockopt(zmq.BACKLOG, BACKLOG)
        monitor = socket.get_monitor_socket(LISTENER_EVENTS)
        try:
            self._listen(socket)
            poller = zmq.Poller()
            for one in (doorman.socket, monitor, socket, self._wakeup.descriptor):
                poller.register(one, zmq.POLLIN)
            while not self._is_stopping:
                poller.poll()
                doorman.answer()
                for event, value in events_of(monitor):
                    self._strangers.note(event, value, time.monotonic())
                self._answer_all(socket)
        finally:
            socket.disable_monitor()
            for each in (monitor, socket, doorman.socket):
                each.close(0)  # answers that were sent have left by then, unless their node reads nothing

    def _answer_all(self, socket: "zmq.Socket[bytes]") -> None:
        now_s = time.monotonic()
        for peer, *frames in frames_of(socket):
            answer = self._take(frames, now_s)
            if answer is not None:
                with suppress(zmq.Again):
                    socket.send_multipart([peer, encode(answer)], zmq.NOBLOCK)

    def _listen(self, socket: "zmq.Socket[bytes]") -> None:
        port = parse_address(self._post.listen)[1] if self._post.listen is not None else 0
        # On all addresses: the one that others know may be that of a gateway, and nobody gets in without the key.
        socket.bind(f"tcp://*:{port or '*'}")
        endpoint = socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        port = int(endpoint.rstrip(b"\0").rpartition(b":")[2])
        try:
            write_address(self._post.directory, port, self._post.hostname, time.time_ns())
        except OSError as error:
            if self._post.listen is None:
                self._notes.add(f"no rank will find the collector: its address could not be written ({error})")

    def _take(self, frames: list[bytes], now_s: float) -> Message | None:
        try:
            message = decode(frames[0] if len(frames) == 1 else b"")
        except WireError as error:
            if error.version is None:
                self._garbled_count += 1
                return None
            self._notes.add(f"a rank runs another satscore ({error}): it is left out; use the same one in all ranks")
            return Refused(rank=-1, run_id="", reason=str(error))
        if isinstance(message, Part):
            return self._ledger.take(message, now_s)
        if isinstance(message, Rows):
            self._ledger.take_rows(message, now_s)
            if message.sent_ns is None:
                return None
            return Heard(echo_ns=message.sent_ns, now_ns=time.time_ns(), offset_ns=0, silent_ms=0, epoch=1)
        self._garbled_count += 1
        return None


class Strangers:
    """Counts the connections that did not get in."""

    def __init__(self) -> None:
        self._accepted = 0
        self._known = 0
        """Got in, or connected and left without a word as leaders do to try an address."""
        self._wrong_key = 0
        self._recent_s = deque[float]()
        """When the last ones were accepted: they may still be shaking hands."""

    def note(self, event: int, value: int, now_s: float) -> None:
        """Take an event of the listener's monitor."""
        if event == zmq.EVENT_ACCEPTED:
            self._accepted += 1
            self._recent_s.append(now_s)
            self._forget(now_s)
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._known += 1
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._known += value in JUST_LEFT
        else:
            self._wrong_key += 1

    def lines(self, now_s: float) -> list[str]:
        """Return what a user should know."""
        self._forget(now_s)
        mute = self._accepted - self._known - self._wrong_key - len(self._recent_s)
        out: list[str] = []
        if self._wrong_key:
            out.append(f"{self._wrong_key} connections to the collector had no key of this job and were refused")
        if mute > 0:
            out.append(f"{mute} connections to the collector were none of satscore's and were closed")
        return out

    def _forget(self, now_s: float) -> None:
        while self._recent_s and now_s - self._recent_s[0] > SETTLED_S:
            self._recent_s.popleft()


def _raise_file_limit(world: int) -> None:
    """Allow a descriptor for each rank, and as many as usual for all else; the command was started before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = world + ROOM_FOR_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
            )
