"""Ranks that are killed, stopped and continued: each is a process of its own."""

import signal
import time

import pytest

from satscore.fleet.member_thread import SILENT_LEADER_S
from tests.fleet.harness import connections_to, processes
from tests.process.harness import wait_for


def acknowledged(rank, number):
    wait_for(lambda: rank.ask("status")["acknowledged"] >= number, f"part {number} to be acknowledged")


def test_a_leader_that_is_killed_is_replaced_and_every_part_counts_once(tmp_path):
    with processes() as rank:
        collector, leader = rank(tmp_path / "run", 0, 3), rank(tmp_path / "run", 1, 3)
        leader.ask("send", number=1, is_final=False)
        acknowledged(leader, 1)
        follower = rank(tmp_path / "run", 2, 3)
        follower.ask("send", number=1, is_final=False)
        acknowledged(follower, 1)
        assert connections_to(tmp_path / "run") == 1
        leader.kill()
        follower.ask("send", number=2, is_final=True)
        assert follower.ask("finish", seconds=20)
        assert collector.ask("collected")["gpu_seconds"] == 30


def test_a_collector_that_is_killed_holds_nobody_up(tmp_path):
    with processes() as rank:
        collector, member = rank(tmp_path / "run", 0, 2), rank(tmp_path / "run", 1, 2)
        member.ask("send", number=1, is_final=False)
        acknowledged(member, 1)
        collector.kill()
        member.ask("send", number=2, is_final=True)
        assert not member.ask("finish", seconds=0.3)
        member.ask("close")


@pytest.mark.slow
def test_ranks_whose_leader_is_stopped_talk_to_the_collector_themselves(tmp_path):
    with processes() as rank:
        collector, leader = rank(tmp_path / "run", 0, 4), rank(tmp_path / "run", 1, 4)
        leader.ask("send", number=1, is_final=False)
        acknowledged(leader, 1)
        followers = [rank(tmp_path / "run", 2, 4), rank(tmp_path / "run", 3, 4)]
        for each in followers:
            each.ask("send", number=1, is_final=False)
            acknowledged(each, 1)
        leader.signal(signal.SIGSTOP)
        for each in followers:
            each.ask("send", number=2, is_final=True)
        assert [each.ask("finish", seconds=20) for each in followers] == [True, True]
        leader.signal(signal.SIGCONT)
        leader.ask("send", number=2, is_final=True)
        assert leader.ask("finish", seconds=20)
        assert collector.ask("collected")["gpu_seconds"] == 60


@pytest.mark.slow
def test_a_follower_that_is_stopped_and_continued_stays_with_its_leader(tmp_path):
    with processes() as rank:
        collector, leader = rank(tmp_path / "run", 0, 3), rank(tmp_path / "run", 1, 3)
        leader.ask("send", number=1, is_final=False)
        acknowledged(leader, 1)
        follower = rank(tmp_path / "run", 2, 3)
        follower.ask("send", number=1, is_final=False)
        acknowledged(follower, 1)
        follower.signal(signal.SIGSTOP)
        time.sleep(2 * SILENT_LEADER_S)  # as long as it lasts
        follower.signal(signal.SIGCONT)
        follower.ask("send", number=2, is_final=True)
        assert follower.ask("finish", seconds=20)
        assert connections_to(tmp_path / "run") == 1
        assert collector.ask("collected")["final"] == [2]


@pytest.mark.slow
def test_a_collector_that_is_stopped_for_10_s_gets_everything_afterwards(tmp_path):
    with processes() as rank:
        collector, member = rank(tmp_path / "run", 0, 2), rank(tmp_path / "run", 1, 2)
        member.ask("send", number=1, is_final=False)
        acknowledged(member, 1)
        collector.signal(signal.SIGSTOP)
        late = rank(tmp_path / "run", 1, 2, hostname="n1", run_id="late")
        member.ask("send", number=2, is_final=True)
        time.sleep(10)  # as long as it lasts
        collector.signal(signal.SIGCONT)
        assert member.ask("finish", seconds=20)
        late.ask("tell")
        found = collector.ask("collected")
        assert (found["final"], found["gpu_seconds"]) == ([1], 20)


@pytest.mark.slow
def test_a_node_that_vanishes_and_a_rank_that_starts_anew_do_not_disturb_the_others(tmp_path):
    with processes() as rank:
        collector, other = rank(tmp_path / "run", 0, 4), rank(tmp_path / "run", 3, 4, hostname="n1")
        node = [rank(tmp_path / "run", number, 4) for number in (1, 2)]
        for each in node:
            each.ask("tell")
        wait_for(lambda: collector.ask("collected")["live"] == [1, 2], "their rows")
        for each in node:
            each.kill()
        # It had delivered no part: its second start counts. (Its run file is taken: the run goes on beside it, so
        # the second start has the collector of that directory, which nobody is.)
        again = rank(tmp_path / "run", 1, 4, run_id="again")
        again.ask("send", number=1, is_final=True)
        assert not again.ask("finish", seconds=0.5)
        assert "run-2" in wait_for(lambda: again.ask("notes"), "a note, after some seconds of search")[0]
        other.ask("send", number=1, is_final=True)
        assert other.ask("finish", seconds=20)
        assert collector.ask("collected")["final"] == [3]
