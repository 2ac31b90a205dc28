"""The command's processes: found rarely, looked at in slices, whose cost is bounded however many there are.

Not by psutil: for the same facts of a process it takes 8 times as long (94 us against 11), and 7.7 ms for
the tree of 100 processes (against 0.1 ms for a list of the machine's), besides 40 ms for its import
(tests/bench/host.py measures ours).
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from satscore.counters.host.files import read_once
from satscore.counters.host.ledger import Ledger, ProcessStat, Seen, parse_stat

SLICE_CPU_S = 0.0006
"""CPU time per second for looks at processes: 15 to 50 of them."""
BURST_CPU_S = 0.03
"""As much may be saved up for finding processes: a command that starts hundreds does so at its beginning."""
FIRST_SCAN_S, LONGEST_SCAN_S = 1.0, 10.0
SCAN_SHARE = 0.0003
"""Of a core, for lists of all processes of the machine: on one with very many they are rarer."""
RAREST_SCAN_S = 60.0
HOT_FRAC = 0.05
"""From this share of a core on a process is looked at in every visit, as long as the slice allows."""
NS_PER_S = 1_000_000_000
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TOLD_LATE_S = 10.0
_SLACK_TICKS = 2
"""User and system time are cut to whole ticks one by one."""
_TOGETHER = 2.5
"""Visits between two looks up to which new CPU time is of now."""


class Visit(NamedTuple):
    """The command's processes at a visit."""

    cpu_s: float
    """CPU time since the last visit. What a rare look tells of a longer time is told over the next 10 s."""
    processes_count: int
    threads_count: int
    rss_bytes: int


class ProcessTree:
    """The processes of a command, by descent; those that lost their parents by what ``owns`` says.

    Args:
        child_pid: The command's first process.
        cpus_count: Of the node: no more can be busy.
        owns: Whether a process that descends from none of the known ones is the command's all the same (it
            carries the command's mark). None: descent alone decides.
        root: Where /proc is.
        cpu_clock: CPU time of this thread, s.
    """

    def __init__(
        self,
        child_pid: int,
        cpus_count: float,
        owns: Callable[[int], bool] | None = None,
        root: Path = Path("/"),
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._proc = str(root / "proc")
        self._owns = owns or (lambda _: False)
        self._cpu_clock = cpu_clock
        self._child = child_pid
        self._cpus_count = cpus_count
        self._first = self._stat_of(child_pid)
        self._ledger = Ledger()
        self._queue: list[int] = []
        self._hot: dict[int, None] = {}
        self._entries: set[str] = set()
        self._candidates: list[int] = []
        self._scanned_forks: int | None = None
        self._next_scan_ns = 0
        self._pause_s = FIRST_SCAN_S
        self._counted_ticks = 0
        self._owed_ticks = 0.0
        self._credit_s = BURST_CPU_S
        self._late_ticks = 0

    @property
    def is_known(self) -> bool:
        """Whether /proc showed the command's first process."""
        return self._first is not None

    def visit(self, now_ns: int, duration_s: float, forks_count: int | None) -> Visit:
        """Look at a slice of the processes.

        Args:
            now_ns: Present time.
            duration_s: Since the last visit; 0: this is the first, and its CPU time is 0.
            forks_count: How many processes and threads the node ever started: as long as that stays the same
                there is nobody to be found. None: not known.
        """
        began_s, self._late_ticks = self._cpu_clock(), 0
        self._credit_s = min(BURST_CPU_S, self._credit_s + SLICE_CPU_S * duration_s)
        if self._first is not None and self._child not in self._ledger and duration_s == 0:
            self._adopt(self._child, self._first, now_ns)
        if now_ns >= self._next_scan_ns and (forks_count is None or forks_count != self._scanned_forks):
            self._scan(now_ns, forks_count)
        self._take_candidates(now_ns, self._cpu_clock() + self._credit_s)
        self._look_around(now_ns, duration_s)
        self._credit_s = max(0.0, self._credit_s - (self._cpu_clock() - began_s))
        return Visit(
            cpu_s=self._told(duration_s) / _TICKS_PER_S,
            processes_count=len(self._ledger),
            threads_count=self._ledger.threads_count,
            rss_bytes=self._ledger.rss_pages * _PAGE_BYTES,
        )

    def _told(self, duration_s: float) -> float:
        """Return the ticks to tell now: no second shows hours, nothing is told twice, and nothing is lost."""
        new = self._ledger.total_ticks - self._counted_ticks
        self._counted_ticks = self._ledger.total_ticks
        if duration_s == 0:
            return 0.0
        # More than all CPUs could do: a child that changed its parent and ended unseen is told by both.
        most = self._cpus_count * duration_s * _TICKS_PER_S
        now = min(new - self._late_ticks, most)
        self._owed_ticks += self._late_ticks
        told = min(most, max(0.0, now + self._owed_ticks * min(1.0, duration_s / _TOLD_LATE_S)))
        self._owed_ticks = max(0.0, self._owed_ticks + now - told)
        return told

    def _scan(self, now_ns: int, forks_count: int | None) -> None:
        """List all processes of the machine: who is new becomes a candidate, who is missing has the next turn."""
        began_s = self._cpu_clock()
        try:
            entries = set(os.listdir(self._proc))  # noqa: PTH208 - names, thousands of them
        except OSError:
            return
        new = [int(name) for name in entries - self._entries if name.isdigit()]
        # Ids are handed out in order, so the command's processes are above its first one (unless they wrapped).
        self._candidates += [pid for pid in new if pid not in self._ledger]
        self._candidates.sort(key=lambda pid: (pid < self._child, pid), reverse=True)
        gone = [pid for pid in self._queue if str(pid) not in entries]
        self._queue = [*gone, *self._queue]
        self._entries, self._scanned_forks = entries, forks_count
        cost_s = min(RAREST_SCAN_S, (self._cpu_clock() - began_s) / SCAN_SHARE)
        self._next_scan_ns = now_ns + round(max(self._pause_s, cost_s) * NS_PER_S)
        self._pause_s = min(2 * self._pause_s, LONGEST_SCAN_S)

    def _take_candidates(self, now_ns: int, until_s: float) -> None:
        """Decide on new processes until a time, one at least."""
        while self._candidates:
            pid = self._candidates.pop()
            stat = self._stat_of(pid)
            if stat is not None and pid not in self._ledger and self._is_ours(pid, stat):
                self._adopt(pid, stat, now_ns)
                self._pause_s = FIRST_SCAN_S  # processes start together
            if self._cpu_clock() >= until_s:
                return

    def _is_ours(self, pid: int, stat: ProcessStat) -> bool:
        if self._first is None or stat.start_ticks < self._first.start_ticks:
            return False
        if stat.parent in self._ledger:
            return True
        # Others that the wrapper started are its own helpers.
        return stat.parent != self._first.parent and self._owns(pid)

    def _look_around(self, now_ns: int, duration_s: float) -> None:
        """Look at those that work much for half a slice, then at all in turn for the rest; one each at least."""
        together_ns = _TOGETHER * duration_s * NS_PER_S
        until_s = self._cpu_clock() + SLICE_CPU_S
        looked = self._look_at(list(self._hot), now_ns, together_ns, until_s - SLICE_CPU_S / 2)
        for pid in looked & self._hot.keys():  # next time it begins with those that had no turn now
            self._hot[pid] = self._hot.pop(pid)
        queue = [pid for pid in dict.fromkeys(self._queue) if pid in self._ledger]
        looked |= self._look_at([pid for pid in queue if pid not in looked], now_ns, together_ns, until_s)
        self._queue = sorted((pid for pid in queue if pid in self._ledger), key=looked.__contains__)

    def _look_at(self, pids: list[int], now_ns: int, together_ns: float, until_s: float) -> set[int]:
        """Look at processes until a time; return which had their turn."""
        looked = set[int]()
        for pid in pids:
            looked.add(pid)
            self._look(pid, now_ns, together_ns)
            if self._cpu_clock() >= until_s:
                break
        return looked

    def _look(self, pid: int, now_ns: int, together_ns: float) -> None:
        """Look at one, and at its children whose time it may now tell, too."""
        stat = self._stat_of(pid)
        if stat is None or self._ledger.is_other(pid, stat):
            self._lose(pid, now_ns, together_ns)
            self._candidates += [] if stat is None else [pid]
        else:
            self._see(pid, stat, now_ns, together_ns)

    def _see(self, pid: int, stat: ProcessStat, now_ns: int, together_ns: float) -> None:
        seen = self._ledger.see(pid, stat, now_ns)
        self._judge(pid, seen, together_ns)
        if seen.waited_ticks > 0:
            # Who had more than it waited for is not among them.
            for child in self._ledger.children_of(pid, 1, seen.waited_ticks + _SLACK_TICKS):
                self._look(child, now_ns, together_ns)

    def _lose(self, pid: int, now_ns: int, together_ns: float) -> None:
        """Take one as gone, after those of its children that went with it; its parent tells what it waited for."""
        if pid not in self._ledger:
            return
        for child in self._ledger.children_of(pid):
            self._look(child, now_ns, together_ns)
        parent = self._ledger.parent_of(pid)
        stat = None if parent is None else self._stat_of(parent)
        parent_lives = parent is not None and stat is not None and not self._ledger.is_other(parent, stat)
        if parent is not None and stat is not None and parent_lives:
            self._see(parent, stat, now_ns, together_ns)  # may have come to this one, too
        self._ledger.lose(pid, parent_lives=parent_lives)
        self._hot.pop(pid, None)

    def _judge(self, pid: int, seen: Seen, together_ns: float) -> None:
        if seen.since_ns > together_ns:
            self._late_ticks += seen.new_ticks
        if seen.new_ticks * NS_PER_S > HOT_FRAC * _TICKS_PER_S * seen.since_ns:
            self._hot.setdefault(pid)
        elif seen.since_ns:
            self._hot.pop(pid, None)

    def _adopt(self, pid: int, stat: ProcessStat, now_ns: int) -> None:
        self._late_ticks += self._ledger.see(pid, stat, now_ns).new_ticks
        self._queue.append(pid)

    def _stat_of(self, pid: int) -> ProcessStat | None:
        try:
            return parse_stat(read_once(f"{self._proc}/{pid}/stat"))
        except OSError:
            return None
