"""What comes to the collector's port but is not of this job: it goes on, and counts it."""

import contextlib
import os
import socket
import time

import pytest
import zmq

from satscore.fleet import collector_thread, sockets
from satscore.fleet.keys import job_keys
from satscore.fleet.wire import PROTOCOL_VERSION, Heard, Rows, Taken, decode, encode
from satscore.record.meeting import Meeting
from tests.fleet.harness import NEVER, connected, gpu_seconds, job, meet, part, port_of, row, seconds, soon
from tests.process.harness import wait_for


@pytest.fixture
def ranks(tmp_path, monkeypatch):
    monkeypatch.setattr(collector_thread, "SETTLED_S", 0.05)
    with job(tmp_path / "run", 3) as one:
        yield one


@contextlib.contextmanager
def insider(meeting: Meeting, port: int):
    """A connection with the right key, to say anything."""
    with zmq.Context() as context, sockets.caller(context, job_keys(meeting)) as one:
        one.connect(f"tcp://127.0.0.1:{port}")
        assert one.poll(20_000, zmq.POLLOUT)
        yield one


def assert_works(ranks, collector):
    member = ranks.member(1)
    member.send(part(1, series=seconds(0, 4)))
    assert member.finish(soon(), NEVER)
    assert gpu_seconds(collector.collected().series) == 4


def assert_note(collector, words):
    return wait_for(lambda: [note for note in collector.collected().notes if words in note], words)


@pytest.mark.parametrize(
    "what", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(range(1, 256)) * 4, b"\x01\x00\x05\x00hello"]
)
def test_another_protocol_is_counted(ranks, tmp_path, what):
    collector = ranks.collector()
    with connected(port_of(tmp_path / "run")) as stranger:
        stranger.sendall(what)
        assert_note(collector, "1 connections to the collector were none of satscore's")
        assert_works(ranks, collector)


def test_an_endless_stream_ends_with_its_connection(ranks, tmp_path):
    collector = ranks.collector()
    with connected(port_of(tmp_path / "run")) as stranger, pytest.raises(OSError, match=r"reset|Broken"):
        stranger.sendall(os.urandom(1 << 26))
    assert_works(ranks, collector)


def test_silent_connections_do_not_keep_ranks_out(ranks, tmp_path, monkeypatch):
    monkeypatch.setattr(sockets, "HANDSHAKE_MS", 200)
    collector = ranks.collector()
    port = port_of(tmp_path / "run")
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connected(port)) for _ in range(300)]
        assert_works(ranks, collector)
        assert_note(collector, "300 connections")
        for one in silent:
            one.settimeout(20)
            with contextlib.suppress(ConnectionResetError):
                while one.recv(1024):
                    pass  # the greeting, and then the end


def test_who_connects_and_leaves_is_not_mentioned(ranks, tmp_path):
    collector = ranks.collector()
    for _ in range(20):
        connected(port_of(tmp_path / "run")).close()
    assert_works(ranks, collector)
    time.sleep(0.1)  # longer than it takes to be a stranger here
    assert collector.collected().notes == []


def test_a_peer_without_encryption_is_refused(ranks, tmp_path):
    collector = ranks.collector()
    with zmq.Context() as context, context.socket(zmq.DEALER) as one:
        one.linger = 0
        monitor = one.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        one.connect(f"tcp://127.0.0.1:{port_of(tmp_path / 'run')}")
        one.send(encode(part(2)))
        assert monitor.poll(20_000)
        one.disable_monitor()
        monitor.close(0)
    assert not collector.collected().parts
    assert_works(ranks, collector)


def test_the_servers_key_alone_lets_nobody_in(ranks, tmp_path):
    collector = ranks.collector()
    meeting = meet(tmp_path / "run", 2)
    public, secret = zmq.curve_keypair()
    with zmq.Context() as context, context.socket(zmq.DEALER) as one:
        one.linger = 0
        one.curve_serverkey = job_keys(meeting).server_public
        one.curve_publickey, one.curve_secretkey = public, secret
        one.connect(f"tcp://127.0.0.1:{port_of(tmp_path / 'run')}")
        one.send(encode(part(2)))
        assert_note(collector, "had no key of this job")
    assert not collector.collected().parts


def test_messages_that_are_none_are_counted_once(ranks, tmp_path):
    collector = ranks.collector()
    good = encode(Rows(hostname="n", rows=[row(1)]))
    with insider(meet(tmp_path / "run", 2), port_of(tmp_path / "run")) as one:
        for frame in (b"", good[:1], good[:-1], good + b"x", good[:1] + b"Z" + good[2:]):
            one.send(frame)
        one.send_multipart([good, good])
        one.send(encode(Taken(rank=1, run_id="x", number=1)))
        assert_note(collector, "7 messages to the collector were none of satscore's")
    assert_works(ranks, collector)


def test_a_message_that_is_too_large_ends_its_connection_only(ranks, tmp_path, monkeypatch):
    monkeypatch.setattr(sockets, "MOST_BYTES", 10_000)
    collector = ranks.collector()
    with insider(meet(tmp_path / "run", 2), port_of(tmp_path / "run")) as one:
        monitor = one.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        one.send(b"x" * 20_000)
        assert monitor.poll(20_000)
        one.disable_monitor()
        monitor.close(0)
    assert_works(ranks, collector)


def test_another_version_is_named_and_told(ranks, tmp_path):
    collector = ranks.collector()
    with insider(meet(tmp_path / "run", 2), port_of(tmp_path / "run")) as one:
        one.send(bytes([PROTOCOL_VERSION + 1]) + b"Rwhatever")
        assert one.recv()[0] == PROTOCOL_VERSION  # which is all that it needs to know
    note = assert_note(collector, "another satscore")[0]
    assert f"version {PROTOCOL_VERSION + 1}" in note
    assert_works(ranks, collector)


def test_a_collector_of_another_version_is_named_by_the_rank(ranks, tmp_path, monkeypatch):
    ranks.collector()
    other = bytes([PROTOCOL_VERSION + 1])
    monkeypatch.setattr(collector_thread, "encode", lambda message: other + encode(message)[1:])
    member = ranks.member(1)
    notes = wait_for(lambda: [note for note in member.notes() if "same satscore" in note], "the note")
    assert f"version {PROTOCOL_VERSION + 1}" in notes[0]


def test_a_damaged_series_refuses_its_rank_and_nobody_else(ranks):
    collector, bad = ranks.collector(), ranks.member(2)
    bad.send(part(2, 1, is_final=False, series=seconds(0, 3)))
    wait_for(lambda: bad.acknowledged == 1, "the first part")
    bad.send(part(2, 2, series=seconds(0, 3)[:-1]))
    assert not bad.finish(soon(), NEVER)
    assert "rank 2 on n0" in bad.notes()[0]
    assert_note(collector, "what it sent counts up to part 1")
    found = collector.collected()
    assert (found.parts[2].number, gpu_seconds(found.series)) == (1, 3)


def test_questions_are_answered_with_the_time(ranks, tmp_path):
    ranks.collector()
    with insider(meet(tmp_path / "run", 2), port_of(tmp_path / "run")) as one:
        before_ns = time.time_ns()
        one.send(encode(Rows(hostname="n", rows=[], sent_ns=7)))
        answer = decode(one.recv())
        assert isinstance(answer, Heard)
        assert answer.echo_ns == 7
        assert before_ns <= answer.now_ns <= time.time_ns()


def test_a_bare_socket_on_the_leaders_name_sends_the_ranks_to_the_collector(ranks, tmp_path):
    from satscore.fleet.keys import leader_endpoint

    collector = ranks.collector()
    meeting = meet(tmp_path / "run", 1)
    name = leader_endpoint(meeting, "n0").removeprefix("ipc://@")
    with socket.socket(socket.AF_UNIX) as squatter:
        squatter.bind("\0" + name)
        squatter.listen()
        member = ranks.member(1, meeting=meeting)
        member.send(part(1))
        assert member.finish(soon(), NEVER)
    assert sorted(collector.collected().parts) == [1]
