"""The pure parts of the fleet: what is kept, what is counted, what a round trip says, what a frame holds."""

import contextlib

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from satscore.errors import UsageError
from satscore.fleet.address import own_addresses, reachable
from satscore.fleet.keys import job_keys, leader_endpoint, read_key_file
from satscore.fleet.ledger import MOST_GAP_S, Ledger
from satscore.fleet.offset import LAST_TRIPS, ClockOffset
from satscore.fleet.outbox import GAP_PAUSE_S, RETRY_S, Outbox
from satscore.fleet.shared import MOST_LINES, Notes
from satscore.fleet.wire import (
    MOST_BYTES,
    PROTOCOL_VERSION,
    Heard,
    Message,
    Refused,
    Rows,
    Taken,
    WireError,
    decode,
    encode,
)
from satscore.launch.host_port import parse_address
from satscore.record.meeting import Meeting
from tests.fleet.harness import gpu_seconds, part, row, seconds

MESSAGES: list[Message] = [
    Rows(hostname="n0", rows=[row(1), row(2)], sent_ns=5, offset_ns=-3),
    part(1, series=seconds(0, 3)),
    Heard(echo_ns=None, now_ns=1, offset_ns=2, silent_ms=3, epoch=4),
    Taken(rank=1, run_id="x", number=2),
    Refused(rank=1, run_id="x", reason="why"),
]


def ledger(world=4):
    notes = Notes()
    return Ledger(world, notes), notes


class TestOutbox:
    def outbox(self, *numbers, final=None):
        one = Outbox(1, "start-of-1")
        for number in numbers:
            assert one.put(part(1, number, is_final=number == final))
        return one

    def test_a_part_is_sent_once_on_a_way_and_again_on_a_new_one(self):
        one = self.outbox(1)
        [frame] = one.due("a", 0.0)
        one.sent(frame, "a", 0.0)
        assert one.due("a", RETRY_S - 0.1) == []
        assert one.due("b", 0.1) == [frame]

    def test_without_an_answer_it_is_sent_again_later_and_later(self):
        one = self.outbox(1)
        sent_s, now_s = [], 0.0
        while now_s < 8 * RETRY_S:
            for frame in one.due("a", now_s):
                one.sent(frame, "a", now_s)
                sent_s.append(now_s)
            now_s += 1.0
        assert sent_s == [0, RETRY_S, 3 * RETRY_S, 7 * RETRY_S]

    def test_acknowledged_parts_are_gone_and_the_final_one_finishes(self):
        one = self.outbox(1, 2, final=2)
        one.take(1, 0.0)
        assert (one.acknowledged, one.is_finished, len(one.due("a", 0.0))) == (1, False, 1)
        one.take(2, 0.0)
        assert (one.acknowledged, one.is_finished, one.due("a", 0.0)) == (2, True, [])

    def test_a_gap_brings_what_is_kept_soon_but_not_in_a_loop(self):
        one = self.outbox(1, 2)
        for frame in one.due("a", 0.0):
            one.sent(frame, "a", 0.0)
        one.take(0, 0.1)
        assert one.due("a", 0.2) == []
        assert len(one.due("a", 0.1 + GAP_PAUSE_S)) == 2

    def test_a_part_that_is_too_large_is_not_kept(self):
        one = Outbox(1, "x")
        assert not one.put(part(1, sums=b"x" * MOST_BYTES))
        assert one.due("a", 0.0) == []

    def test_a_refused_rank_sends_nothing_more(self):
        one = self.outbox(1, final=1)
        one.refuse()
        one.put(part(1, 2))
        assert one.due("a", 0.0) == []
        assert not one.is_finished


class TestLedger:
    @settings(max_examples=30, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), max_size=60),
        st.permutations([(rank, number) for rank in range(3) for number in range(1, 6)]),
    )
    def test_every_part_counts_once_in_whatever_order_and_however_often_it_comes(self, tries, rest):
        one, _ = ledger(3)
        for rank, number in [*tries, *rest, *rest, *rest, *rest, *rest]:
            answer = one.take(part(rank, number, is_final=number == 5, series=seconds(10 * number, number)), 0.0)
            assert isinstance(answer, Taken)
            assert answer.number <= 5
        assert one.wait(0.0)
        assert gpu_seconds(one.collected(0.0).series) == 3 * (1 + 2 + 3 + 4 + 5)
        assert {its.number for its in one.collected(0.0).parts.values()} == {5}

    def test_what_was_collected_does_not_change_any_more(self):
        one, _ = ledger()
        one.take(part(1, 1, series=seconds(0, 3)), 0.0)
        before = one.collected(1.0)
        one.take(part(1, 2, series=seconds(0, 3)), 0.0)
        one.take_rows(Rows(hostname="n0", rows=[row(1)]), 0.5)
        assert gpu_seconds(before.series) == 3
        assert (before.parts[1].number, before.live, before.last_heard_s) == (1, {}, {1: 1.0})

    def test_a_part_before_which_one_is_missing_is_not_counted(self):
        one, _ = ledger()
        assert one.take(part(1, 2), 0.0) == Taken(rank=1, run_id="start-of-1", number=0)
        assert one.collected(0.0).parts == {}

    def test_all_are_there_only_when_every_rank_has_sent_its_final_part(self):
        one, _ = ledger(2)
        one.take(part(0), 0.0)
        one.take(part(0, 2), 0.0)
        one.take(part(1, 1, is_final=False), 0.0)
        assert not one.wait(0.0)
        one.take(part(1, 2), 0.0)
        assert one.wait(0.0)

    def test_a_second_start_of_a_rank_counts_if_the_first_one_had_delivered_nothing(self):
        one, notes = ledger()
        one.take(part(1, 2, run_id="first"), 0.0)
        assert one.take(part(1, 1, run_id="second"), 0.0) == Taken(rank=1, run_id="second", number=1)
        assert isinstance(one.take(part(1, 1, run_id="first"), 0.0), Refused)
        assert "started twice" in notes.lines()[0]

    def test_a_clock_that_was_never_set_does_not_stretch_the_series(self):
        one, notes = ledger()
        one.take(part(1, series=seconds(1_800_000_000, 3)), 0.0)
        assert isinstance(one.take(part(2, series=seconds(0, 3)), 0.0), Refused)
        assert isinstance(one.take(part(3, series=seconds(1_800_000_003 + MOST_GAP_S, 3)), 0.0), Taken)
        assert "days from that of the others" in notes.lines()[0]
        assert gpu_seconds(one.collected(0.0).series) == 6

    def test_amounts_that_no_rank_has_are_refused(self):
        one, notes = ledger()
        assert isinstance(one.take(part(1, series=seconds(0, 3, 2**50)), 0.0), Refused)
        assert "no sum over the GPUs of a rank" in notes.lines()[0]

    @settings(deadline=None)
    @given(st.binary(max_size=200))
    def test_hostile_series_never_raise(self, data):
        one, _ = ledger()
        assert isinstance(one.take(part(1, series=data), 0.0), Taken | Refused)

    def test_notes_and_hosts_without_end_are_not_kept(self):
        one, notes = ledger(2)
        for number in range(1000):
            one.take(part(10 + number), 0.0)
            one.take_rows(Rows(hostname=f"n{number}", rows=[], offset_ns=1), 0.0)
        assert len(notes.lines()) == MOST_LINES + 1
        assert "968 more" in notes.lines()[-1]
        assert len(one.collected(0.0).offsets_ns) == 2

    def test_names_without_end_are_not_kept(self):
        one, _ = ledger()
        one.take_rows(Rows(hostname="n" * 1000, rows=[row(1, "n" * 1000)], offset_ns=1), 0.0)
        assert isinstance(one.take(part(1, run_id="x" * 1000), 0.0), Refused)
        found = one.collected(0.0)
        assert (found.live, found.offsets_ns, found.parts) == ({}, {}, {})


class TestOffset:
    def test_the_quickest_round_trip_counts(self):
        one = ClockOffset()
        assert one.best_ns is None
        one.add(1_000, 1_900, 900, 10_000)
        one.add(2_000, 2_100, 100, 7_050)
        one.add(3_000, 3_500, 500, 9_000)
        assert one.best_ns == 5_000

    def test_after_many_others_it_is_forgotten(self):
        one = ClockOffset()
        one.add(0, 2, 2, 1)
        for _ in range(LAST_TRIPS):
            one.add(0, 10, 10, 105)
        assert one.best_ns == 100

    def test_a_clock_that_was_set_meanwhile_ends_all_that_was_known(self):
        one = ClockOffset()
        one.add(0, 10, 10, 5)
        one.add(0, 5_000_000_010, 10, 5)
        assert one.best_ns is None


class TestFrames:
    @pytest.mark.parametrize("message", MESSAGES)
    def test_a_message_comes_out_as_it_went_in(self, message):
        assert decode(encode(message)) == message

    @settings(deadline=None)
    @given(st.sampled_from(MESSAGES), st.data())
    def test_a_damaged_frame_is_an_error_or_another_message(self, message, data):
        frame = bytearray(encode(message))
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(WireError):
            decode(bytes(frame))

    def test_another_version_is_told_from_damage(self):
        frame = encode(MESSAGES[0])
        with pytest.raises(WireError) as raised:
            decode(bytes([PROTOCOL_VERSION + 1]) + frame[1:])
        assert raised.value.version == PROTOCOL_VERSION + 1
        with pytest.raises(WireError) as raised:
            decode(frame[:-1])
        assert raised.value.version is None

    @settings(deadline=None)
    @given(st.binary(max_size=100))
    def test_anything_else_is_an_error(self, data):
        with pytest.raises(WireError):
            decode(bytes([PROTOCOL_VERSION]) + b"?" + data)


class TestKeys:
    def meeting(self, tmp_path, **other):
        fields = {"key": "k", "secret": b"s" * 32} | other
        return Meeting(directory=tmp_path, begun_ns=0, file=tmp_path / "run.json", **fields)

    def test_the_same_secret_and_job_give_the_same_keys_and_all_else_gives_others(self, tmp_path):
        keys = job_keys(self.meeting(tmp_path))
        assert keys == job_keys(self.meeting(tmp_path / "elsewhere"))
        others = [job_keys(self.meeting(tmp_path, key="l")), job_keys(self.meeting(tmp_path, secret=b"t" * 32))]
        assert len({keys.server_secret, keys.client_secret, *(one.client_secret for one in others)}) == 4

    def test_a_leaders_name_differs_by_host_and_by_job(self, tmp_path):
        names = {leader_endpoint(self.meeting(tmp_path, key=key), host) for key in ("k", "l") for host in ("n0", "n1")}
        assert len(names) == 4
        assert all(len(name) < 90 for name in names)

    def test_a_key_file_is_read_without_the_white_space_around(self, tmp_path):
        path = tmp_path / "key"
        path.write_text("0123456789abcdef\n")
        path.chmod(0o600)
        assert read_key_file(path) == b"0123456789abcdef"

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
    def test_a_key_file_that_others_can_open_is_refused_with_the_remedy(self, tmp_path, mode):
        path = tmp_path / "key"
        path.write_text("0123456789abcdef")
        path.chmod(mode)
        with pytest.raises(UsageError) as raised:
            read_key_file(path)
        assert raised.value.hint == f"chmod 600 {path}"

    def test_a_key_file_that_is_too_short_or_missing_is_refused(self, tmp_path):
        with pytest.raises(UsageError, match="No such file"):
            read_key_file(tmp_path / "key")
        (tmp_path / "key").write_text("0123456789abcde\n")
        (tmp_path / "key").chmod(0o600)
        with pytest.raises(UsageError, match="15 bytes are too few"):
            read_key_file(tmp_path / "key")


class TestAddress:
    @pytest.mark.parametrize(
        ("text", "address"),
        [("nid1:7", ("nid1", 7)), ("10.0.0.1:65535", ("10.0.0.1", 65535)), ("[fe80::1]:9", ("fe80::1", 9))],
    )
    def test_host_and_port(self, text, address):
        assert parse_address(text) == address

    @pytest.mark.parametrize("text", ["", "host", "host:", ":7", "host:0", "host:65536", "host:x", "fe80::1:9", "h:-1"])
    def test_what_is_no_address_is_refused(self, text):
        with pytest.raises(UsageError):
            parse_address(text)

    def test_only_addresses_that_answer_are_reachable(self):
        import socket

        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            assert reachable(["no.such.host.invalid", "127.0.0.2", "127.0.0.1"], port) == [f"tcp://127.0.0.1:{port}"]
        assert reachable(["127.0.0.1"], port) == []
        assert reachable(["255.255.255.255", "::ffff:255.255.255.255"], port) == []
        assert reachable([], port) == []

    def test_this_host_has_an_address(self):
        assert own_addresses()
