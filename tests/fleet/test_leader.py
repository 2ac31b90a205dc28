"""The leader of a node, with a real connection to it: whom it waits for, and what it passes on."""

import zmq

from satscore.fleet.keys import job_keys, leader_endpoint
from satscore.fleet.leader import PRESENT_S, Leader
from satscore.fleet.sockets import caller
from satscore.fleet.wire import Heard, Message, Refused, Rows, Taken, decode, encode
from tests.fleet.harness import meet, part, row
from tests.process.harness import wait_for

ANSWER = Heard(echo_ns=None, now_ns=7, offset_ns=-5, silent_ms=3, epoch=2)


class Node:
    """A leader and one rank that talks to it; the test is the thread of both."""

    def __init__(self, directory):
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        meeting = meet(directory, 1)
        self.endpoint = leader_endpoint(meeting, "n0")
        self.keys = job_keys(meeting)
        self.leader = Leader(self.context, self.keys, self.endpoint)
        self.rank = caller(self.context, self.keys)
        self.rank.connect(self.endpoint)
        wait_for(self._shaken_hands, "the handshake")

    def _shaken_hands(self):
        self.leader.doorman.answer()
        return self.rank.poll(10, zmq.POLLOUT)

    def say(self, message: Message):
        """Send a message to the leader; return what it passes on."""
        self.rank.send(encode(message))
        assert self.leader.socket.poll(20_000)
        return self.leader.look(ANSWER, 0.0)

    def hear(self):
        assert self.rank.poll(20_000)
        return decode(self.rank.recv())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leader.close()
        self.rank.close(0)
        self.context.term()


def test_it_waits_for_a_final_part_to_be_acknowledged_but_for_nobody_who_has_gone(tmp_path):
    with Node(tmp_path / "run") as node:
        assert not node.leader.waits_for(0.0)
        assert node.say(part(1, 3)) == [encode(part(1, 3))]
        assert node.leader.waits_for(PRESENT_S - 0.1)
        assert not node.leader.waits_for(PRESENT_S + 0.1)
        node.leader.pass_back(Taken(rank=1, run_id="start-of-1", number=2))
        assert node.leader.waits_for(0.0)
        node.leader.pass_back(Taken(rank=1, run_id="start-of-1", number=3))
        assert not node.leader.waits_for(0.0)
        assert [node.hear(), node.hear()] == [Taken(rank=1, run_id="start-of-1", number=n) for n in (2, 3)]


def test_it_does_not_wait_for_a_rank_that_was_refused(tmp_path):
    with Node(tmp_path / "run") as node:
        node.say(part(1))
        node.leader.pass_back(Refused(rank=1, run_id="start-of-1", reason="why"))
        assert not node.leader.waits_for(0.0)


def test_the_latest_row_of_a_rank_is_passed_on_once_and_a_question_is_answered(tmp_path):
    with Node(tmp_path / "run") as node:
        assert node.say(Rows(hostname="n0", rows=[row(1)])) == []
        latest = row(1, "renamed")
        assert node.say(Rows(hostname="n0", rows=[latest, row(2)], sent_ns=9)) == []
        assert node.leader.take_rows() == [latest, row(2)]
        assert node.leader.take_rows() == []
        assert node.hear() == Heard(echo_ns=9, now_ns=7, offset_ns=-5, silent_ms=3, epoch=2)


def test_a_change_of_the_way_is_told_to_ranks_that_said_anything_lately(tmp_path):
    with Node(tmp_path / "run") as node:
        node.say(Rows(hostname="n0", rows=[]))
        node.leader.tell_all(ANSWER, PRESENT_S - 0.1)
        assert node.hear() == ANSWER
        node.leader.tell_all(ANSWER, PRESENT_S + 0.1)
        assert not node.rank.poll(50)


def test_there_is_one_leader_of_a_name(tmp_path):
    with Node(tmp_path / "run") as node, zmq.Context() as other:
        assert Leader.elected(other, node.keys, node.endpoint) is None
