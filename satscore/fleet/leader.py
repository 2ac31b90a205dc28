"""What the leader of a node does for the other ranks there: passes on what they send, and the answers back."""

import errno
from dataclasses import dataclass, field
from typing import Self

import zmq

from satscore.fleet.keys import Keys
from satscore.fleet.sockets import Doorman, frames_of, listener
from satscore.fleet.wire import Heard, LiveRank, Message, Part, Refused, Rows, Taken, WireError, decode, encode

PRESENT_S = 3.0
"""A rank that has said nothing for so long is not waited for."""


@dataclass(slots=True)
class _Rank:
    """A rank that talks through this leader."""

    peer: bytes
    said_s: float
    final: dict[str, int] = field(default_factory=dict)
    """run_id -> number of the final part that was passed on and is not acknowledged."""
    is_done: bool = False


class Leader:
    """The listening end of a node's leader.

    Args:
        context: Of the thread that uses it.
        keys: Of the job.
        endpoint: The name that makes a rank the leader.

    Raises:
        zmq.ZMQError: It cannot listen.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", keys: Keys, endpoint: str) -> None:
        self.doorman = Doorman(context, keys)
        self.socket = listener(context, keys)
        try:
            self.socket.bind(endpoint)
        except zmq.ZMQError:
            self.close()
            raise
        self._rows: dict[int, LiveRank] = {}
        self._peers: dict[bytes, float] = {}
        """When each connection said something last."""
        self._ranks: dict[int, _Rank] = {}

    @classmethod
    def elected(cls, context: "zmq.Context[zmq.Socket[bytes]]", keys: Keys, endpoint: str) -> Self | None:
        """Return a leader; None: another process holds the name.

        Raises:
            zmq.ZMQError: It cannot listen for another reason.
        """
        try:
            return cls(context, keys, endpoint)
        except zmq.ZMQError as error:
            if error.errno == errno.EADDRINUSE:
                return None
            raise

    def look(self, answer: Heard, now_s: float) -> list[bytes]:
        """Take what the ranks of the node have sent; return the frames that are for the collector.

        Args:
            answer: What they want to know.
            now_s: Any time that goes on evenly, s.
        """
        self.doorman.answer()
        onward: list[bytes] = []
        for peer, *frames in frames_of(self.socket):
            try:
                message = decode(frames[0] if len(frames) == 1 else b"")
            except WireError:
                continue  # it hears nothing from us, and talks to the collector, which says why
            self._peers[peer] = now_s
            if isinstance(message, Rows):
                self._take_rows(message, peer, answer, now_s)
            elif isinstance(message, Part):
                self._note_part(message, peer, now_s)
                onward.append(frames[0])
        return onward

    def take_rows(self) -> list[LiveRank]:
        """Return the rows that came since the last call, one of each rank."""
        rows, self._rows = list(self._rows.values()), {}
        return rows

    def tell_all(self, answer: Heard, now_s: float) -> None:
        """Tell all ranks that the way to the collector has changed."""
        self._peers = {peer: said_s for peer, said_s in self._peers.items() if now_s - said_s < PRESENT_S}
        for peer in self._peers:
            self._send(peer, answer)

    def pass_back(self, message: Taken | Refused) -> None:
        """Give the collector's answer to the rank that it is for."""
        rank = self._ranks.get(message.rank)
        if rank is None:
            return
        self._send(rank.peer, message)
        last = rank.final.get(message.run_id)
        if last is not None and (isinstance(message, Refused) or message.number >= last):
            rank.is_done = True

    def waits_for(self, now_s: float) -> bool:
        """Return whether a rank is there whose final part has not been acknowledged."""
        return any(not rank.is_done and now_s - rank.said_s < PRESENT_S for rank in self._ranks.values())

    def close(self) -> None:
        """Stop listening: the name is free."""
        self.socket.close(0)
        self.doorman.socket.close(0)

    def _take_rows(self, message: Rows, peer: bytes, answer: Heard, now_s: float) -> None:
        for row in message.rows:
            self._rows[row.rank] = row
            self._present(row.rank, peer, now_s)
        if message.sent_ns is not None:
            self._send(peer, Heard(
                echo_ns=message.sent_ns,
                now_ns=answer.now_ns,
                offset_ns=answer.offset_ns,
                silent_ms=answer.silent_ms,
                epoch=answer.epoch,
            ))  # fmt: skip

    def _note_part(self, part: Part, peer: bytes, now_s: float) -> None:
        rank = self._present(part.rank, peer, now_s)
        if part.is_final:
            rank.final[part.run_id] = part.number

    def _present(self, number: int, peer: bytes, now_s: float) -> _Rank:
        rank = self._ranks.setdefault(number, _Rank(peer=peer, said_s=now_s))
        rank.peer, rank.said_s = peer, now_s
        return rank

    def _send(self, peer: bytes, message: Message) -> None:
        self.socket.send_multipart([peer, encode(message)], zmq.NOBLOCK)  # a ROUTER drops what does not fit
