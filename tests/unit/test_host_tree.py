"""The command's processes: everything counted once, whoever tells it; slices; who belongs to the command."""

import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from satscore.counters.host.ledger import Ledger, ProcessStat, parse_stat
from satscore.counters.host.tree import BURST_CPU_S, SLICE_CPU_S, ProcessTree
from tests.unit.host_proc import Process, Processes, machine

NS = 1_000_000_000
TICKS = 100
WRAPPER, CHILD = 50, 100


class Watched:
    """A tree in a made-up /proc, visited once a second; a look costs ``look_s`` of CPU."""

    def __init__(self, root: Path, look_s: float = 0.0, owned: Iterable[int] = (), cpus: float = 8.0) -> None:
        self.processes = Processes(machine(root))
        self.processes.add(1, Process(0, start=0, name="init"))
        self.processes.add(CHILD, Process(WRAPPER))
        self.looks: list[int] = []
        self.asked: list[int] = []
        self.now_s = 0
        owned = set(owned)

        def owns(pid: int) -> bool:
            self.asked.append(pid)
            return pid in owned

        self.tree = ProcessTree(CHILD, cpus, owns, root, lambda: len(self.looks) * look_s)
        stat_of = self.tree._stat_of

        def counted(pid: int):
            self.looks.append(pid)
            return stat_of(pid)

        self.tree._stat_of = counted  # type: ignore[method-assign]
        self.visit(first=True)

    def visit(self, *, first: bool = False, forks: int | None = None) -> float:
        """One visit; returns the ticks told."""
        self.now_s += 1
        self.shown = self.tree.visit(self.now_s * NS, 0.0 if first else 1.0, forks)
        return self.shown.cpu_s * TICKS

    def visits(self, count: int) -> float:
        return sum(self.visit() for _ in range(count))


@pytest.fixture
def watched(tmp_path: Path) -> Callable[..., Watched]:
    return lambda **given: Watched(tmp_path, **given)


def test_a_stat_line_is_read_whatever_the_name_is():
    fields = ["S", "7", *["0"] * 9, "11", "2", "30", "4", "0", "0", "5", "0", "999", "123456", "77", "0"]
    for name in ("sh", "a b", ") R 1 2 3 (", "é\n"):
        stat = parse_stat(f"42 ({name}) {' '.join(fields)}\n".encode())
        assert stat is not None
        assert (stat.parent, stat.start_ticks, stat.own_ticks, stat.waited_ticks) == (7, 999, 13, 34)
        assert (stat.threads_count, stat.rss_pages) == (5, 77)
    for nonsense in (b"", b"42 (x) S 7", b"42 (x) S seven" + b" 0" * 40):
        assert parse_stat(nonsense) is None


def test_what_the_first_process_did_before_is_not_told_and_what_it_does_is(watched):
    run = watched()
    run.processes.work(CHILD, 250)
    assert run.visit() == 250
    assert run.visit() == 0


def test_descendants_are_found_at_the_next_scan(watched):
    run = watched()
    run.processes.add(101, Process(CHILD, threads=4, rss=5))
    run.processes.add(102, Process(101))
    run.processes.add(103, Process(1))
    run.visit()
    assert run.shown.processes_count == 3
    assert (run.shown.threads_count, run.shown.rss_bytes) == (6, 25 * 4096)


def test_processes_older_than_the_command_are_not_even_asked_about(watched):
    run = watched(owned=[30, 104])
    run.processes.add(30, Process(1, start=999))
    run.processes.add(104, Process(1))
    run.visit()
    assert run.asked == [104]
    assert run.shown.processes_count == 2


def test_what_the_wrapper_starts_besides_is_no_part_of_the_command(watched):
    run = watched(owned=[105])
    run.processes.add(105, Process(WRAPPER))
    run.visit()
    assert run.shown.processes_count == 1


def test_a_process_that_lost_its_parent_stays_known(watched):
    run = watched()
    run.processes.add(101, Process(CHILD))
    run.processes.add(102, Process(101))
    run.visit()
    run.processes.end(101)
    run.processes.work(102, 40)
    assert run.visit() == 40
    assert run.shown.processes_count == 2


def test_nobody_is_looked_for_while_nothing_was_started(watched):
    run = watched()
    run.visit(forks=5)
    run.processes.add(101, Process(CHILD))
    for _ in range(30):
        run.visit(forks=5)
    assert run.shown.processes_count == 1
    run.visit(forks=6)
    assert run.shown.processes_count == 2


def test_a_child_that_was_waited_for_is_counted_once(watched):
    run = watched()
    run.processes.add(101, Process(CHILD))
    run.visit()
    run.processes.work(101, 300)
    assert run.visit() == 300
    run.processes.work(101, 20)
    run.processes.end(101)
    assert run.visits(3) == 20
    assert run.shown.processes_count == 1


def test_a_child_that_nobody_waited_for_keeps_what_was_seen(watched):
    run = watched()
    run.processes.add(101, Process(CHILD))
    run.visit()
    run.processes.work(101, 300)
    assert run.visit() == 300
    run.processes.end(101, waited=False)
    run.processes.work(CHILD, 5)
    assert run.visits(3) == 5


def test_only_what_a_parent_waited_for_lately_can_be_its_childs(watched):
    """A program that ignores SIGCHLD waits for nobody, whatever it waited for before."""
    run = watched()
    run.processes.add(101, Process(CHILD))
    run.processes.alive[CHILD].waited = 500
    run.processes.work(CHILD, 0)
    run.visits(40)
    run.processes.work(101, 300)
    assert run.visit() == 300
    run.processes.end(101, waited=False)
    run.processes.work(CHILD, 400)
    assert run.visit() == 400


def test_what_a_parent_waited_for_is_taken_off_once(watched):
    run = watched()
    for pid in (101, 102):
        run.processes.add(pid, Process(CHILD))
    run.visit()
    for pid in (101, 102):
        run.processes.work(pid, 100)
    assert run.visit() == 200
    run.processes.end(101)
    run.processes.end(102, waited=False)
    run.processes.work(CHILD, 300)
    assert run.visit() == 300


def test_a_child_with_another_parent_is_a_child_of_that_one():
    ledger = Ledger()
    for pid, parent in ((1, 0), (2, 1), (3, 2), (3, 1)):
        ledger.see(pid, ProcessStat(parent, 5, 7, 0, 1, 1), NS)
    assert (ledger.children_of(1), ledger.children_of(2)) == ([2, 3], [])
    ledger.lose(3, parent_lives=True)
    assert (ledger.children_of(1), ledger.children_of(2)) == ([2], [])


def test_a_family_that_ends_together_is_counted_once(watched):
    """The children's time reaches the living grandparent through parents that nobody saw in between."""
    run = watched(look_s=SLICE_CPU_S)  # one of each sort per visit
    for pid, parent in ((101, CHILD), (102, 101), (103, 102), (104, 102)):
        run.processes.add(pid, Process(parent))
    run.visits(8)
    for pid in (101, 102, 103, 104):
        run.processes.work(pid, 100)
    assert run.visits(60) == pytest.approx(400, abs=1)
    for pid in (104, 103, 102, 101):
        run.processes.work(pid, 1)
        run.processes.end(pid)
    assert run.visits(60) == pytest.approx(4, abs=1)


def test_short_lived_children_are_told_by_their_parent(watched):
    run = watched()
    for i in range(5):
        run.processes.add(200 + i, Process(CHILD))
        run.processes.work(200 + i, 30)
        run.processes.end(200 + i)
    assert run.visit() == 150


def test_a_number_that_is_used_again_is_another_process(watched):
    run = watched()
    run.processes.add(101, Process(CHILD))
    run.visit()
    run.processes.work(101, 70)
    run.visit()
    run.processes.end(101)
    run.processes.add(101, Process(1, start=5000, own=9999))
    assert run.visits(15) == 0
    assert run.shown.processes_count == 1


def test_what_a_late_find_tells_is_spread(watched):
    """A worker that was found after it had worked for long is no second with a hundred cores."""
    run = watched(cpus=4.0)
    run.processes.add(101, Process(CHILD, own=2000))
    told = [run.visit() for _ in range(100)]
    assert max(told) <= 4 * TICKS
    assert sum(told) == pytest.approx(2000, abs=1)


def test_no_second_shows_more_than_all_cpus_can_do(watched):
    run = watched(cpus=2.0)
    run.processes.alive[CHILD].waited = 10_000  # of children that changed their parents unseen
    run.processes.work(CHILD, 0)
    assert run.visit() == 200
    run.processes.work(CHILD, 50)
    assert run.visit() == 50


def test_a_visit_costs_a_slice_and_everybody_has_a_turn(watched):
    run = watched(look_s=SLICE_CPU_S / 10)
    for pid in range(101, 301):
        run.processes.add(pid, Process(CHILD))
    run.visits(5)
    assert run.shown.processes_count == 201
    run.looks.clear()
    for _ in range(22):
        before = len(run.looks)
        run.visit()
        assert len(run.looks) - before <= 11
    assert set(run.looks) >= set(range(101, 301))
    for pid in range(101, 301):
        run.processes.work(pid, 10)
    # In turns of 20 s, each told over 10 s more.
    assert run.visits(60) == pytest.approx(2000, rel=0.05)


def test_what_a_rare_look_tells_is_spread(watched):
    run = watched(look_s=SLICE_CPU_S / 10)
    for pid in range(101, 301):
        run.processes.add(pid, Process(CHILD))
    run.visits(45)
    run.processes.work(150, 700)
    told = [run.visit() for _ in range(120)]
    assert max(told) <= 71
    assert sum(told) == pytest.approx(700, abs=1)


def test_those_that_a_list_lacks_have_the_next_turn(watched):
    run = watched(look_s=SLICE_CPU_S / 10)
    for pid in range(101, 601):
        run.processes.add(pid, Process(CHILD))
    run.visits(30)
    assert run.shown.processes_count == 501
    for pid in range(300, 305):
        run.processes.end(pid)
    run.visits(13)
    assert run.shown.processes_count == 496


def test_those_that_work_are_looked_at_every_time(watched):
    run = watched(look_s=SLICE_CPU_S / 10)
    for pid in range(101, 201):
        run.processes.add(pid, Process(CHILD))
    run.visits(30)
    for _ in range(40):
        run.processes.work(150, 100)
        run.visit()
    for _ in range(10):
        run.processes.work(150, 100)
        assert run.visit() == pytest.approx(100, abs=8)


def test_finding_many_is_bounded_too(watched):
    run = watched(look_s=BURST_CPU_S / 50)
    for pid in range(101, 301):
        run.processes.add(pid, Process(CHILD))
    run.visit()
    assert 40 <= run.shown.processes_count <= 52
    run.visits(200)
    assert run.shown.processes_count > 150


def test_a_command_that_cannot_be_seen_is_said(tmp_path):
    tree = ProcessTree(12345, 2.0, root=machine(tmp_path))
    assert not tree.is_known


@pytest.mark.parametrize("seed", range(40))
def test_no_time_is_told_twice_whatever_lives_and_dies(tmp_path, seed):
    """Every parent waits: all CPU time is told in the end, but what was spent by orphans unseen."""
    rng = random.Random(seed)
    run = Watched(tmp_path, look_s=SLICE_CPU_S / rng.choice((3, 10, 1000)), owned=range(999), cpus=1e3)
    alive, next_pid, spent, told, unwaited = [CHILD], 101, 0, 0.0, 0
    for _ in range(80):
        for _ in range(rng.randrange(4)):
            pid = rng.choice(alive)
            match rng.choice(("fork", "work", "work", "end")):
                case "fork":
                    run.processes.add(next_pid, Process(pid, start=2000 + next_pid))
                    alive.append(next_pid)
                    next_pid += 1
                case "work":
                    ticks = rng.randrange(60)
                    spent += ticks
                    run.processes.work(pid, ticks)
                case "end" if pid != CHILD:
                    if run.processes.alive[pid].parent == 1:
                        unwaited += run.processes.alive[pid].own + run.processes.alive[pid].waited
                    run.processes.end(pid)
                    alive.remove(pid)
        told += run.visit()
        assert told <= spent + 0.5
    told += run.visits(300)
    assert spent - unwaited - 0.5 <= told <= spent + 0.5
