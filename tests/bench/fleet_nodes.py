"""The nodes of the bench of the fleet: a real socket each, a thousand in one process, which speak as leaders do."""

import argparse
import heapq
import json
import random
import select
import sys
import time

from tests.bench.fleet_parts import KEY, NS, Templates, rows_of

PART_S, ASK_S, RETRY_S, SILENT_S, HANDSHAKE_S, DRAIN_S = 60.0, 5.0, 4.0, 20.0, 10.0, 5.0
"""As run.crew and the fleet's own threads have them; and how long answers are waited for after a phase."""


class Node:
    """The connection of one leader; what it sends is kept until it is acknowledged."""

    def __init__(self, number: int, connect) -> None:
        self.number = number
        self.rest = random.Random(number).random()
        self.waiting: dict[tuple[int, int], tuple[float, float, bool]] = {}
        """Rank and number of a part -> when it was sent first, when it is sent again, whether it is the last."""
        self.ask_s = 0.0
        self.heard_s = time.monotonic()
        self.is_answered = False
        self._connect = connect
        self.socket = connect()

    def connect_again(self) -> None:
        """Begin anew: the connection is lost."""
        self.socket.close(0)
        self.socket, self.heard_s, self.ask_s = self._connect(), time.monotonic(), 0.0
        self.waiting = {key: (first_s, 0.0, last) for key, (first_s, _, last) in self.waiting.items()}


class Senders:
    """Speaks for the nodes from one number to another, until told to stop."""

    def __init__(self, options: argparse.Namespace) -> None:
        import zmq

        from satscore.fleet.keys import job_keys
        from satscore.fleet.sockets import caller
        from satscore.record.meeting import Meeting

        self._zmq = zmq
        self._ranks = options.ranks
        self._templates = Templates(options.dir / "templates", options.ranks)
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 20_000)
        secret = bytes.fromhex(json.loads((options.dir / "run" / "job.json").read_text())["secret"])
        keys = job_keys(Meeting(directory=options.dir, key=KEY, secret=secret, begun_ns=0, file=options.dir / "none"))
        self._epoll = select.epoll()
        self._epoll.register(0, select.EPOLLIN)
        self._by_descriptor: dict[int, Node] = {}

        def connect():
            made = caller(self._context, keys)
            made.connect(f"tcp://127.0.0.1:{options.port}")
            return made

        self._numbers: dict[int, int] = {}
        self._nodes = [Node(number, connect) for number in range(options.first, options.stop)]
        for node in self._nodes:
            self._watch(node)
        self._spread, self._rests, self._is_quiet = 1.0, [], False
        self._due: list[tuple[float, int, int]] = []
        self._clear()

    def _clear(self) -> None:
        self._stats = {"rows": 0, "asked": 0, "answered": 0, "parts": 0, "taken": 0, "resent": 0, "refused": 0}
        self._stats |= {"not_away": 0, "reconnects": 0, "late_max_ms": 0.0, "row_ms": [], "part_ms": []}

    def serve(self) -> None:
        """Wait for all to be answered, then do as told on the standard input."""
        began_s, open_ = time.monotonic(), set(self._nodes)
        ready_ms = []
        while open_:
            for node in list(open_):
                if node.is_answered:
                    open_.discard(node)
                    ready_ms.append(1e3 * (node.heard_s - began_s))
                elif node.ask_s == 0.0 or time.monotonic() - node.heard_s > HANDSHAKE_S:
                    self._say_rows(node, time.monotonic(), silent_s=HANDSHAKE_S)
            self._hear(0.05)
        print(json.dumps({"ready_ms": ready_ms, "reconnects": self._stats["reconnects"]}), flush=True)
        while (command := self._until_told()) != "quit":
            if command in ("spread", "once"):
                self._begin(1.0 if command == "spread" else 0.0)
            elif command == "final":
                self._send_finals()
            else:
                self._is_quiet = command == "stop"
                self._report()

    def _begin(self, spread: float) -> None:
        now_s = time.monotonic()
        begin_s = float(int(now_s) + 1)
        self._spread, self._is_quiet = spread, False
        self._due = [(begin_s + spread * node.rest, 0, i) for i, node in enumerate(self._nodes)]
        for node in self._nodes:
            for rank in self._ranks_of(node):
                self._due.append((begin_s + PART_S * random.Random(rank).random(), 1, rank))
            node.ask_s, node.heard_s = now_s + ASK_S * node.rest, now_s
        heapq.heapify(self._due)
        self._clear()

    def _ranks_of(self, node: Node) -> range:
        first = node.number * self._ranks
        return range(max(1, first), first + self._ranks)  # rank 0 is the collector's own

    def _until_told(self) -> str:
        while True:
            now_s = time.monotonic()
            while not self._is_quiet and self._due and self._due[0][0] <= now_s:
                due_s, kind, which = heapq.heappop(self._due)
                self._stats["late_max_ms"] = max(self._stats["late_max_ms"], 1e3 * (now_s - due_s))
                if kind == 0:
                    self._say_rows(self._nodes[which], now_s)
                    heapq.heappush(self._due, (due_s + 1.0, 0, which))
                else:
                    self._send_part(which, now_s)
                    heapq.heappush(self._due, (due_s + PART_S, 1, which))
                now_s = time.monotonic()
            until_s = self._due[0][0] if self._due and not self._is_quiet else now_s + 1.0
            if self._hear(max(0.0, min(until_s - now_s, 1.0))):
                return sys.stdin.readline().strip()

    def _hear(self, wait_s: float) -> bool:
        """Take what comes; return whether something is on the standard input."""
        told = False
        for descriptor, _ in self._epoll.poll(wait_s):
            if descriptor == 0:
                told = True
            else:
                self._drain(self._by_descriptor[descriptor])
        return told

    def _watch(self, node: Node) -> None:
        descriptor = node.socket.getsockopt(self._zmq.FD)
        self._by_descriptor[descriptor] = node
        # Edges: level-triggered, the descriptor of a ZeroMQ socket would not fall silent.
        self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLET)
        self._drain(node)

    def _drain(self, node: Node) -> None:
        from satscore.fleet.wire import Heard, Refused, Taken, decode

        while True:
            try:
                message = decode(node.socket.recv(self._zmq.NOBLOCK))
            except self._zmq.Again:
                return
            now_s = node.heard_s = time.monotonic()
            node.is_answered = True
            if isinstance(message, Heard) and message.echo_ns is not None:
                self._stats["answered"] += 1
                self._stats["row_ms"].append((time.time_ns() - message.echo_ns) / 1e6)
            elif isinstance(message, Taken):
                for key in [key for key in node.waiting if key[0] == message.rank and key[1] <= message.number]:
                    self._stats["taken"] += 1
                    self._stats["part_ms"].append((now_s - node.waiting.pop(key)[0]) * 1e3)
            elif isinstance(message, Refused):
                self._stats["refused"] += 1

    def _send(self, node: Node, message) -> bool:
        from satscore.fleet.wire import encode

        try:
            node.socket.send(encode(message), self._zmq.NOBLOCK)
        except self._zmq.Again:
            self._stats["not_away"] += 1
            return False
        finally:
            self._drain(node)  # a send may use up the edge of something that came
        return True

    def _say_rows(self, node: Node, now_s: float, silent_s: float = SILENT_S) -> None:
        from satscore.fleet.wire import Rows

        if now_s - node.heard_s > silent_s:
            self._epoll.unregister(node.socket.getsockopt(self._zmq.FD))
            node.connect_again()
            self._watch(node)
            self._stats["reconnects"] += 1
        asks = now_s >= node.ask_s
        now_ns = time.time_ns()
        rows = rows_of(node.number, self._ranks, now_ns // NS)
        message = Rows(hostname=f"node{node.number:05d}", rows=rows, sent_ns=now_ns if asks else None, offset_ns=0)
        if self._send(node, message):
            self._stats["rows"] += 1
            self._stats["asked"] += asks
            node.ask_s = now_s + ASK_S if asks else node.ask_s
        for (rank, number), (first_s, again_s, is_final) in list(node.waiting.items()):
            if now_s >= again_s and self._send(node, self._templates.part(rank, number, is_final=is_final)):
                node.waiting[rank, number] = (first_s, now_s + 2 * (now_s - first_s), is_final)
                self._stats["resent"] += 1

    def _send_part(self, rank: int, now_s: float, *, is_final: bool = False) -> None:
        node = self._nodes[rank // self._ranks - self._nodes[0].number]
        number = self._numbers[rank] = self._numbers.get(rank, 0) + 1
        node.waiting[rank, number] = (now_s, now_s + RETRY_S, is_final)
        if not self._send(node, self._templates.part(rank, number, is_final=is_final)):
            node.waiting[rank, number] = (now_s, now_s, is_final)
        self._stats["parts"] += 1

    def _send_finals(self) -> None:
        self._clear()
        self._due = [due for due in self._due if due[1] == 0]
        began_s = time.monotonic()
        for node in self._nodes:
            for rank in self._ranks_of(node):
                self._send_part(rank, time.monotonic(), is_final=True)
        self._stats["sending_s"] = time.monotonic() - began_s

    def _report(self) -> None:
        give_up_s = time.monotonic() + DRAIN_S
        while time.monotonic() < give_up_s and (
            any(node.waiting for node in self._nodes) or self._stats["answered"] < self._stats["asked"]
        ):
            self._hear(0.05)
        missing = sum(len(node.waiting) for node in self._nodes)
        print(json.dumps({**self._stats, "missing": missing}), flush=True)
