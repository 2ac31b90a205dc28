"""CPU time of processes that come and go: whatever was seen is counted once, by whomever it is told.

A process tells its own time, and that of the children for which it has waited. So a child that is gone
may be told by its parent once more: as much as the parent's waited time grew by is taken off again. What
nobody waited for stays as it was last seen.
"""

from dataclasses import dataclass
from typing import NamedTuple

_PARENT, _OWN, _WAITED, _THREADS, _START, _RSS = 1, slice(11, 13), slice(13, 15), 17, 19, 21
"""Where /proc/PID/stat (proc_pid_stat(5)) says it, counted from the state on."""


class ProcessStat(NamedTuple):
    """A process as /proc shows it; times in clock ticks."""

    parent: int
    start_ticks: int
    """Since boot: tells a process from the next one with its number."""
    own_ticks: int
    waited_ticks: int
    """Of children that it waited for, and of theirs."""
    threads_count: int
    rss_pages: int


def parse_stat(data: bytes) -> ProcessStat | None:
    """Return what /proc/PID/stat says; the name in it may hold spaces and brackets. None: nothing sensible."""
    fields = data.rpartition(b")")[2].split()
    try:
        return ProcessStat(
            parent=int(fields[_PARENT]),
            start_ticks=int(fields[_START]),
            own_ticks=sum(map(int, fields[_OWN])),
            waited_ticks=sum(map(int, fields[_WAITED])),
            threads_count=int(fields[_THREADS]),
            rss_pages=int(fields[_RSS]),
        )
    except (ValueError, IndexError):
        return None


@dataclass(slots=True)
class _Known:
    stat: ProcessStat
    seen_ns: int
    parent_waited_ticks: int
    """What its parent had waited for by then."""
    claimed_ticks: int = 0
    """Of the waited time: what had been counted as its children's."""
    heritage_ticks: int = 0
    """Of children that went when it was gone already: it may have waited for them."""

    @property
    def counted_ticks(self) -> int:
        return self.stat.own_ticks + self.stat.waited_ticks


class Seen(NamedTuple):
    """What one more look at a process told."""

    new_ticks: int
    since_ns: int
    """Time since the look before; 0: it is the first."""
    waited_ticks: int
    """Of the new ones, those of children that it waited for; until these are lost they count twice."""


class Ledger:
    """The known processes of the command. One user: nothing here is thread-safe."""

    def __init__(self) -> None:
        self.total_ticks = 0
        """CPU time of all that was ever seen."""
        self._known: dict[int, _Known] = {}
        self._children: dict[int, set[int]] = {}

    def __contains__(self, pid: int) -> bool:
        return pid in self._known

    def __len__(self) -> int:
        return len(self._known)

    @property
    def pids(self) -> list[int]:
        """The processes that are known to live."""
        return list(self._known)

    @property
    def threads_count(self) -> int:
        """Their threads."""
        return sum(known.stat.threads_count for known in self._known.values())

    @property
    def rss_pages(self) -> int:
        """Their resident pages."""
        return sum(known.stat.rss_pages for known in self._known.values())

    def is_other(self, pid: int, stat: ProcessStat) -> bool:
        """Return whether a known process has gone and another has its number."""
        return pid in self._known and self._known[pid].stat.start_ticks != stat.start_ticks

    def parent_of(self, pid: int) -> int | None:
        """Return the parent of a known process, if that is known, too."""
        known = self._known.get(pid)
        return known.stat.parent if known and known.stat.parent in self._known else None

    def children_of(self, pid: int, least_ticks: int = 0, most_ticks: int | None = None) -> list[int]:
        """Return the known children of a process, with so much CPU time counted."""
        counted = ((child, self._known[child].counted_ticks) for child in self._children.get(pid, ()))
        return [
            child for child, ticks in counted if least_ticks <= ticks and (most_ticks is None or ticks <= most_ticks)
        ]

    def see(self, pid: int, stat: ProcessStat, now_ns: int) -> Seen:
        """Take what a process shows now."""
        parent = self._known.get(stat.parent)
        parent_waited = parent.stat.waited_ticks if parent else 0
        known = self._known.get(pid)
        if known is None:
            self._known[pid] = known = _Known(stat, now_ns, parent_waited)
            self._children.setdefault(stat.parent, set()).add(pid)
            self.total_ticks += known.counted_ticks
            return Seen(known.counted_ticks, 0, 0)
        if stat.parent != known.stat.parent:
            self._leave(pid, known.stat.parent)
            self._children.setdefault(stat.parent, set()).add(pid)
        new, waited = stat.own_ticks - known.stat.own_ticks, stat.waited_ticks - known.stat.waited_ticks
        since_ns = now_ns - known.seen_ns
        known.stat, known.seen_ns, known.parent_waited_ticks = stat, now_ns, parent_waited
        self.total_ticks += new + waited
        return Seen(new + waited, since_ns, waited)

    def lose(self, pid: int, *, parent_lives: bool) -> None:
        """Take a process as gone.

        Args:
            pid: The process; its own children have been looked at.
            parent_lives: Whether its parent was seen just now, hence tells what it waited for.
        """
        gone = self._known.pop(pid, None)
        if gone is None:
            return
        self._leave(pid, gone.stat.parent)
        self._children.pop(pid, None)
        parent, mine = self._known.get(gone.stat.parent), gone.counted_ticks + gone.heritage_ticks
        if parent is None:
            return
        if not parent_lives:
            parent.heritage_ticks += mine
            return
        waited = parent.stat.waited_ticks
        claim = max(0, min(mine, waited - gone.parent_waited_ticks, waited - parent.claimed_ticks))
        parent.claimed_ticks += claim
        self.total_ticks -= claim

    def _leave(self, pid: int, parent: int) -> None:
        family = self._children.get(parent)
        if family is not None:
            family.discard(pid)
            if not family:
                del self._children[parent]
