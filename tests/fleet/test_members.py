"""Ranks, leaders and the collector in one process: what is sent arrives, once, and nobody waits for long."""

import dataclasses
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from satscore.fleet import member_thread
from satscore.fleet.member import SEARCH_S, Member
from tests.fleet.harness import (
    NEVER,
    connections_to,
    gpu_seconds,
    job,
    meet,
    part,
    port_of,
    row,
    seconds,
    soon,
)
from tests.process.harness import wait_for


def wait_taken(member, number):
    wait_for(lambda: member.acknowledged >= number, f"part {number} to be acknowledged")


def test_rows_and_parts_of_two_nodes_arrive_over_one_connection_each(tmp_path):
    with job(tmp_path / "run", 5) as ranks:
        collector = ranks.collector()
        members = {rank: ranks.member(rank, f"n{rank // 2}") for rank in (1, 2, 3, 4)}
        collector.tell(row(0))
        collector.take(part(0, series=seconds(100, 3)))
        for rank, member in members.items():
            member.tell(row(rank, f"n{rank // 2}"))
            member.send(part(rank, hostname=f"n{rank // 2}", series=seconds(100 + rank, 3)))
        collector.wait(soon(), NEVER)
        assert all(member.finish(soon(), NEVER) for member in members.values())
        wait_for(lambda: len(collector.collected().live) == 5, "all rows")
        found = collector.collected()
        assert sorted(found.parts) == [0, 1, 2, 3, 4]
        assert found.parts[3] == part(3, hostname="n1")
        assert gpu_seconds(found.series) == 15
        assert found.live[2] == row(2, "n1")
        assert found.notes == []
        assert all(age_s < 20 for age_s in found.last_heard_s.values())
        # n0 (rank 1), n1 (ranks 2 and 3) and n2 (rank 4): one leader each.
        assert connections_to(tmp_path / "run") == 3


def test_parts_of_a_rank_are_counted_in_order_and_once(tmp_path):
    with job(tmp_path / "run", 2) as ranks:
        collector, member = ranks.collector(), ranks.member(1)
        for number in (1, 2, 3):
            assert member.acknowledged == number - 1
            member.send(part(1, number, is_final=False, series=seconds(10 * number, 10)))
            wait_taken(member, number)
        member.send(part(1, 4, is_final=False, series=seconds(40, 10)))
        member.send(part(1, 5, series=seconds(50, 10, -1)))
        assert member.finish(soon(), NEVER)
        found = collector.collected()
        assert found.parts[1].number == 5
        assert gpu_seconds(found.series) == 30


def test_a_leader_that_leaves_is_replaced_and_nothing_is_lost_or_counted_twice(tmp_path):
    with job(tmp_path / "run", 4) as ranks:
        collector = ranks.collector()
        members = [ranks.member(rank) for rank in (1, 2, 3)]
        for rank, member in enumerate(members, 1):
            member.send(part(rank, 1, is_final=False, series=seconds(0, 10)))
        for member in members:
            wait_taken(member, 1)
        for rank, member in enumerate(members, 1):
            member.send(part(rank, 2, series=seconds(10, 10)))
            assert member.finish(soon(), NEVER)
            member.close()
        assert gpu_seconds(collector.collected().series) == 60


def test_a_collector_that_comes_late_is_found(tmp_path):
    with job(tmp_path / "run", 3) as ranks:
        members = [ranks.member(1), ranks.member(2)]
        for rank, member in enumerate(members, 1):
            member.send(part(rank))
        assert members[0].last_contact_s is None
        collector = ranks.collector()
        assert all(member.finish(soon(), NEVER) for member in members)
        assert sorted(collector.collected().parts) == [1, 2]
        assert members[0].last_contact_s is not None


def searched_longer(member):
    member._began_s -= SEARCH_S


def test_without_a_collector_nobody_waits_beyond_the_deadline_and_a_note_says_where_it_was_looked_for(tmp_path):
    with job(tmp_path / "run", 2) as ranks:
        member = ranks.member(1)
        member.send(part(1))
        assert not member.finish(time.monotonic() + 0.3, NEVER)
        assert member.notes() == []  # shorter runs just end before
        searched_longer(member)
        wait_for(lambda: "file system" in member.notes()[0], "the reason")
        assert str(tmp_path / "run") in member.notes()[0]
        assert len(member.notes()) == 1
        assert member.acknowledged == 0
        assert member.offset_ns is None


def test_hurry_ends_both_waits(tmp_path):
    with job(tmp_path / "run", 2) as ranks:
        collector, member = ranks.collector(), ranks.member(1)
        hurry = threading.Event()
        hurry.set()
        collector.wait(time.monotonic() + 3600, hurry)
        assert not member.finish(time.monotonic() + 3600, hurry)
        hurry.clear()
        threading.Timer(0.1, hurry.set).start()
        collector.wait(time.monotonic() + 3600, hurry)
        assert hurry.is_set()


def test_a_collector_that_ends_leaves_the_ranks_alone(tmp_path):
    with job(tmp_path / "run", 2) as ranks:
        collector, member = ranks.collector(), ranks.member(1)
        member.send(part(1, is_final=False))
        wait_for(lambda: member.acknowledged == 1, "the first part")
        collector.close()
        member.send(part(1, 2))
        assert not member.finish(time.monotonic() + 0.3, NEVER)
        assert member.last_contact_s is not None
        assert gpu_seconds(collector.collected().series) == 0
        assert collector.collected().parts[1].number == 1


def test_a_collector_that_closes_at_once_has_told_all_ranks_that_their_parts_arrived(tmp_path):
    with job(tmp_path / "run", 9) as ranks:
        collector = ranks.collector()
        members = [ranks.member(rank, f"n{rank}") for rank in range(1, 9)]
        collector.take(part(0))
        for rank, member in enumerate(members, 1):
            member.send(part(rank, hostname=f"n{rank}"))
        collector.wait(soon(), NEVER)
        collector.close()
        assert [member.finish(soon(), NEVER) for member in members] == [True] * 8


def test_the_offset_of_a_nodes_clock_is_known_to_leader_and_followers(tmp_path, monkeypatch):
    monkeypatch.setattr(member_thread, "_wall_ns", lambda: time.time_ns() - 5_000_000_000)
    with job(tmp_path / "run", 3) as ranks:
        collector = ranks.collector()
        members = [ranks.member(1, "far"), ranks.member(2, "far")]
        wait_for(lambda: all(4e9 < (member.offset_ns or 0) < 6e9 for member in members), "the offsets")
        wait_for(lambda: 4e9 < collector.collected().offsets_ns.get("far", 0) < 6e9, "the offset there")


def test_a_rank_with_another_secret_gets_nowhere_and_is_told(tmp_path):
    with job(tmp_path / "run", 3) as ranks:
        collector, good = ranks.collector(), ranks.member(1)
        stranger = ranks.member(2, "n1", meeting=dataclasses.replace(meet(tmp_path / "run", 2), secret=b"s" * 32))
        stranger.send(part(2))
        good.send(part(1))
        assert good.finish(soon(), NEVER)
        wait_for(lambda: "key of this job" in " ".join(stranger.notes()), "the reason")
        assert not stranger.finish(time.monotonic() + 0.1, NEVER)
        assert sorted(collector.collected().parts) == [1]
        assert "no key of this job" in wait_for(lambda: " ".join(collector.collected().notes), "the count")


def test_a_stated_address_needs_no_common_directory(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with job(tmp_path / "unused", 2) as ranks:
        meetings = [dataclasses.replace(meet(tmp_path / name, i), secret=b"k" * 16) for i, name in enumerate("ab")]
        collector = ranks.collector(meeting=meetings[0], listen=address)
        member = ranks.member(1, meeting=meetings[1], collector=address)
        member.send(part(1))
        assert member.finish(soon(), NEVER)
        assert sorted(collector.collected().parts) == [1]


def test_a_taken_port_is_a_note_and_rank_0_is_still_collected(tmp_path):
    with socket.create_server(("0.0.0.0", 0)) as taken, job(tmp_path / "run", 1) as ranks:
        collector = ranks.collector(listen=f"127.0.0.1:{taken.getsockname()[1]}")
        collector.take(part(0, series=seconds(0, 2)))
        collector.wait(soon(), NEVER)
        notes = wait_for(lambda: collector.collected().notes, "the note")
        assert "Address already in use" in notes[0]
        assert gpu_seconds(collector.collected().series) == 2


def test_nobody_waits_for_a_collector_that_cannot_listen(tmp_path):
    with socket.create_server(("0.0.0.0", 0)) as taken, job(tmp_path / "run", 2) as ranks:
        collector = ranks.collector(listen=f"127.0.0.1:{taken.getsockname()[1]}")
        wait_for(lambda: collector.collected().notes, "the note")
        collector.wait(time.monotonic() + 3600, NEVER)  # there is a second rank, which will never come
        assert collector.collected().parts == {}


def test_an_address_that_is_none_is_a_note_and_no_traceback(tmp_path):
    with job(tmp_path / "run", 2) as ranks:
        member = ranks.member(1, collector="nowhere")
        searched_longer(member)
        wait_for(lambda: "'nowhere' is no address" in member.notes()[0], "the reason")


def test_a_rank_that_is_started_twice_counts_once_and_is_named(tmp_path):
    with job(tmp_path / "run", 2) as ranks:
        collector, first = ranks.collector(), ranks.member(1, "n0")
        first.send(part(1, series=seconds(0, 5)))
        assert first.finish(soon(), NEVER)
        second = ranks.member(1, "n1", run_id="another", meeting=meet(tmp_path / "run", 1, "n1"))
        second.send(part(1, hostname="n1", run_id="another", series=seconds(0, 7)))
        assert not second.finish(soon(), NEVER)  # at once: it is told
        assert "started twice" in second.notes()[0]
        found = collector.collected()
        assert found.parts[1].run_id == "start-of-1"
        assert gpu_seconds(found.series) == 5
        assert [note for note in found.notes if "rank 1 was started twice, on n0 and on n1" in note]


def test_two_processes_that_say_they_are_one_rank_are_named(tmp_path):
    with job(tmp_path / "run", 2) as ranks:
        collector = ranks.collector()
        for host in ("n0", "n1"):
            ranks.member(1, host, meeting=meet(tmp_path / "run", 1, host)).tell(row(1, host))
        notes = wait_for(lambda: collector.collected().notes, "the note")
        assert notes == ["two processes say that they are rank 1: on n0 and n1"]


def test_two_jobs_on_one_node_do_not_meet(tmp_path):
    with job(tmp_path / "a", 2) as one, job(tmp_path / "b", 2) as other:
        pairs = [(each.collector(), each.member(1)) for each in (one, other)]
        for at, (_, member) in enumerate(pairs):
            member.send(part(1, series=seconds(0, 1 + at)))
        for at, (collector, member) in enumerate(pairs):
            assert member.finish(soon(), NEVER)
            assert gpu_seconds(collector.collected().series) == 1 + at


def test_close_is_quick_and_leaves_no_thread_and_no_descriptor(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    with job(tmp_path / "run", 3) as ranks:
        ranks.collector()
        members = [ranks.member(1), ranks.member(2)]
        for rank, member in enumerate(members, 1):
            member.send(part(rank))
            assert member.finish(soon(), NEVER)
    wait_for(lambda: len(list(Path("/proc/self/fd").iterdir())) == before, "all descriptors to be closed")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("satscore-")]


def test_a_member_that_was_never_started_can_be_used_and_closed(tmp_path):
    member = Member(meet(tmp_path / "run", 1), rank=1, world=2, hostname="n0", run_id="x")
    member.tell(row(1))
    member.send(part(1))
    assert not member.finish(time.monotonic() + 0.05, NEVER)
    member.close()
    member.send(part(1, 2))
    member.close()


def test_the_collectors_file_is_private_and_says_how_to_reach_it(tmp_path):
    with job(tmp_path / "run", 2) as ranks:
        ranks.collector()
        port = port_of(tmp_path / "run")
        assert port > 0
        mode = (tmp_path / "run" / "collector.json").stat().st_mode
        assert stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize("rank", [-1, 2, 2**62])
def test_a_rank_that_the_job_does_not_have_is_refused(tmp_path, rank):
    with job(tmp_path / "run", 2) as ranks:
        collector = ranks.collector()
        member = ranks.member(rank, meeting=meet(tmp_path / "run", 1))
        member.tell(row(rank))
        member.send(part(rank))
        assert not member.finish(soon(), NEVER)
        assert "not one of the 2 ranks" in member.notes()[0]
        assert not collector.collected().parts
        assert not collector.collected().live


def test_an_entry_of_the_directory_that_is_no_address_is_named(tmp_path):
    with job(Path(tmp_path / "run"), 2) as ranks:
        meeting = meet(tmp_path / "run", 1)
        (tmp_path / "run" / "collector.json").write_text("{}")
        member = ranks.member(1, meeting=meeting)
        wait_for(lambda: "collector.json" in " ".join(member.notes()), "the reason")
