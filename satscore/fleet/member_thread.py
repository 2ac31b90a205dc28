"""The thread of a rank in the fleet, and which of three roles it has.

* *follower*: somebody else on the node holds the leader's name; it talks to that one.
* *leader*: it holds the name, talks to the collector, and passes on what the followers say.
* *alone*: the holder of the name does not answer (it is stopped: its name stays taken); it talks to the
  collector itself from then on, so that a node has more than one connection.

A follower whose leader goes tries to become the leader at once. Leaders and lone ranks keep their role.
"""

import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import zmq

from satscore.fleet.finder import Finder
from satscore.fleet.keys import Keys
from satscore.fleet.leader import Leader
from satscore.fleet.offset import ClockOffset
from satscore.fleet.shared import Shared
from satscore.fleet.sockets import HANDSHAKE_MS
from satscore.fleet.uplink import Uplink
from satscore.fleet.wire import Heard, Message, Refused, Rows, Taken, encode

JOIN_S = 0.2
TICK_S = 1.0
ASK_S = 5.0
"""A leader wants an answer of the collector so often; and on each of its first ticks."""
FIRST_ASKS = 4
SILENT_LEADER_S = 3.0
SILENT_COLLECTOR_S = 60.0
"""It may be stopped or have much to do: nothing is lost by waiting, and all is sent again on a new connection."""
LOST_PAUSE_S = 0.05
MOST_LOST = 10
"""So often in a row a follower's connection may end before it was ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a rank is.

    Attributes:
        hostname: Of its node.
        keys: Of the job.
        leader: Endpoint of the node's leader.
        directory: Run directory, in which the collector is found.
        collector: HOST:PORT where the user said it.
        world: Ranks of the job.
    """

    hostname: str
    keys: Keys
    leader: str
    directory: Path
    collector: str | None
    world: int


class MemberThread:
    """Serves one member until that is closed.

    Args:
        place: Where the rank is.
        shared: What it shares with the member.
    """

    def __init__(self, place: Place, shared: Shared) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True, name="satscore-fleet")
        self._place = place
        self._shared = shared
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._finder = Finder(place.directory, place.collector, place.world, shared.wakeup.set)
        self._endpoints: list[str] = []
        self._uplink: Uplink | None = None
        self._leader: Leader | None = None
        self._is_alone = False
        self._was_ready = False
        self._lost_count = 0
        self._retry_s: float | None = None
        """When to connect again; None: when something was found."""
        self._epoch = 0
        self._offset = ClockOffset()
        self._asked: tuple[int, int] | None = None
        """Wall and even clock at the last question, ns."""
        self._asks_count = 0
        self._ask_s = 0.0
        # All nodes of a job start together; their messages spread over the second.
        self._tick_s = time.monotonic() + zlib.crc32(place.hostname.encode("utf-8", "replace")) / 2**32 * TICK_S

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait a moment for its end; it has been asked for it."""
        self._thread.join(JOIN_S)

    def _run(self) -> None:
        """Serve; whatever fails ends the fleet for this rank, and is a note."""
        try:
            while not self._shared.is_closing:
                self._step(time.monotonic())
                self._note_has_way()
                self._poll()
        except Exception as error:  # noqa: BLE001 - nothing of this may hurt the command
            self._shared.notes.add(f"this rank left the others ({type(error).__name__}: {error})")
        finally:
            self._finder.stop()
            for one in (self._uplink, self._leader):
                if one is not None:
                    one.close()
            self._context.destroy(linger=0)
            self._shared.wakeup.close()
            with self._shared.changing():
                self._shared.has_left = True

    def _poll(self) -> None:
        poller = zmq.Poller()
        poller.register(self._shared.wakeup.descriptor, zmq.POLLIN)
        sockets = [self._uplink.socket, self._uplink.monitor] if self._uplink else []
        sockets += [self._leader.socket, self._leader.doorman.socket] if self._leader else []
        for socket in sockets:
            poller.register(socket, zmq.POLLIN)
        now_s = time.monotonic()
        until_s = self._tick_s if self._retry_s is None else self._retry_s
        poller.poll(int(max(0.0, min(until_s - now_s, TICK_S)) * 1000) + 1)
        self._shared.wakeup.clear()

    def _step(self, now_s: float) -> None:
        if self._shared.is_finishing:
            self._finder.hurry()
        if self._uplink is None and (self._retry_s is None or now_s >= self._retry_s):
            self._retry_s = None
            self._connect(now_s)
        if self._uplink is not None:
            for message in self._uplink.look():
                self._hear(message, now_s)
            self._note_way(self._uplink, now_s)
        if self._leader is not None:
            self._lead(self._leader, now_s)
        if now_s >= self._tick_s:
            self._tick_s = max(self._tick_s, now_s - TICK_S) + TICK_S
            self._say_rows(now_s)
        self._send_parts(now_s)

    def _connect(self, now_s: float) -> None:
        if self._leader is None and not self._is_alone:
            self._leader = Leader.elected(self._context, self._place.keys, self._place.leader)
            if self._leader is None:
                self._begin_uplink(self._place.leader, now_s, is_direct=False)
                return
        self._endpoints = self._endpoints or self._finder.found()
        if self._endpoints:
            self._begin_uplink(self._endpoints.pop(0), now_s, is_direct=True)
        else:
            self._finder.search(again=self._lost_count > 0)

    def _begin_uplink(self, endpoint: str, now_s: float, *, is_direct: bool) -> None:
        self._uplink = Uplink(self._context, self._place.keys, endpoint, is_direct=is_direct, now_s=now_s)
        self._was_ready = False

    def _note_way(self, uplink: Uplink, now_s: float) -> None:
        """See whether the uplink has become ready, is lost, or is silent for too long."""
        if uplink.is_ready and not self._was_ready:
            self._was_ready = True
            self._lost_count = 0
            self._finder.was_right()
            self._asks_count = 0
            self._change_epoch(now_s)
            self._say_rows(now_s, asks=True)
        silent_s = uplink.silent_s(now_s)
        if not uplink.is_direct and (silent_s > SILENT_LEADER_S or self._lost_count >= MOST_LOST):
            self._is_alone = True
            uplink.lost = uplink.lost or "the leader of the node is silent"
        elif uplink.is_direct and silent_s > (SILENT_COLLECTOR_S if uplink.is_ready else HANDSHAKE_MS / 1e3):
            uplink.lost = uplink.lost or "the collector is silent"
        if uplink.lost is None:
            return
        if uplink.is_direct:
            self._finder.reason = uplink.lost
        uplink.close()
        self._uplink = None
        self._lost_count += 1
        self._retry_s = now_s + (0.0 if uplink.is_ready else LOST_PAUSE_S)
        if uplink.is_direct and self._leader is not None:
            self._leader.tell_all(self._answer(now_s), now_s)

    def _note_has_way(self) -> None:
        has_way = self._uplink is not None and self._uplink.way is not None
        if has_way != self._shared.has_way:
            with self._shared.changing():
                self._shared.has_way = has_way

    def _change_epoch(self, now_s: float) -> None:
        self._epoch += 1
        if self._leader is not None:
            self._leader.tell_all(self._answer(now_s), now_s)

    def _answer(self, now_s: float) -> Heard:
        """Return what a leader tells the ranks of its node."""
        contact_s = self._shared.contact_s
        is_open = self._uplink is not None and self._uplink.way is not None
        return Heard(
            echo_ns=None,
            now_ns=_wall_ns(),
            offset_ns=self._shared.offset_ns,
            silent_ms=None if contact_s is None else round((now_s - contact_s) * 1e3),
            epoch=self._epoch if is_open else 0,
        )

    def _hear(self, message: Message, now_s: float) -> None:
        if self._uplink is not None and self._uplink.is_direct:
            with self._shared.changing():
                self._shared.contact_s = now_s
        if isinstance(message, Heard):
            self._note_heard(message, now_s)
        elif not isinstance(message, Taken | Refused):
            return
        elif not self._note_own(message, now_s) and self._leader is not None:
            self._leader.pass_back(message)

    def _note_heard(self, heard: Heard, now_s: float) -> None:
        is_direct = self._uplink is not None and self._uplink.is_direct
        if self._asked is not None and heard.echo_ns == self._asked[0] and (is_direct or heard.offset_ns is not None):
            sent_ns, even_ns = self._asked
            trip_ns = time.monotonic_ns() - even_ns
            self._offset.add(sent_ns, _wall_ns(), trip_ns, heard.now_ns + (heard.offset_ns or 0))
        with self._shared.changing():
            self._shared.offset_ns = self._offset.best_ns
            if not is_direct and heard.silent_ms is not None:
                self._shared.contact_s = now_s - heard.silent_ms / 1e3

    def _note_own(self, message: Taken | Refused, now_s: float) -> bool:
        """Return whether the answer was for a part of this rank."""
        with self._shared.changing():
            if not self._shared.outbox.is_of(message.rank, message.run_id):
                return False
            if isinstance(message, Refused):
                self._shared.outbox.refuse()
                self._shared.notes.add(message.reason)
            else:
                self._shared.outbox.take(message.number, now_s)
                self._shared.contact_s = now_s
        return True

    def _lead(self, leader: Leader, now_s: float) -> None:
        for frame in leader.look(self._answer(now_s), now_s):
            if self._uplink is not None and self._uplink.way is not None:
                self._uplink.send(frame)  # else its rank sends it again
        others_wait = leader.waits_for(now_s)
        if others_wait != self._shared.others_wait:
            with self._shared.changing():
                self._shared.others_wait = others_wait

    def _say_rows(self, now_s: float, *, asks: bool = False) -> None:
        uplink = self._uplink
        if uplink is None or not uplink.is_ready:
            return
        with self._shared.changing():
            own, self._shared.row = self._shared.row, None
        rows = [*([own] if own else []), *(self._leader.take_rows() if self._leader else [])]
        asks = asks or not uplink.is_direct or now_s >= self._ask_s
        if not rows and not asks:
            return
        sent_ns = None
        if asks:
            self._asks_count += 1
            self._ask_s = now_s + (ASK_S if self._asks_count >= FIRST_ASKS else 0.0)
            self._asked = (sent_ns := _wall_ns(), time.monotonic_ns())
        rows_message = Rows(hostname=self._place.hostname, rows=rows, sent_ns=sent_ns, offset_ns=self._offset.best_ns)
        frame = encode(rows_message)
        if asks:
            uplink.ask(frame, now_s)
        else:
            uplink.send(frame)

    def _send_parts(self, now_s: float) -> None:
        uplink = self._uplink
        if uplink is None or uplink.way is None:
            return
        with self._shared.changing():
            for frame in self._shared.outbox.due(uplink.way, now_s):
                if not uplink.send(frame):
                    break
                self._shared.outbox.sent(frame, uplink.way, now_s)

    @property
    def search_reason(self) -> str:
        """Why there is no way to the collector, if there is none."""
        return self._finder.reason


def _wall_ns() -> int:
    return time.time_ns()
