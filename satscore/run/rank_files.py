"""What the ranks of a run said of themselves: ``run.json``, and in a job a file for each other rank."""

import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from satscore.core.bounds import PROFILES
from satscore.core.gate import RANKS_MISSING
from satscore.core.groups import checked_grouping
from satscore.core.int_columns import DAMAGED_HINT
from satscore.errors import RecordError, UsageError
from satscore.record.run_file import RUN_FILE, RunFile, decode_checked, rank_file_name, read_run_file, read_some
from satscore.run.members import Member, member_without_gpu

RANK_PATTERN = "run-*.json"
UNREADABLE = "cannot be read"
NOTHING_KEPT = "began, but nothing of it was kept"
NO_FILE = "its run-*.json is missing"
MOST_SAID = 8
"""Files that cannot be read and are said one by one."""
_RANK_IN_NAME = re.compile(r"-(\d{1,9})\.[a-z]+\Z", re.ASCII)


def rank_in_name(path: Path) -> int | None:
    """Return the rank that the name of a file says it is of; None: none."""
    found = _RANK_IN_NAME.search(path.name)
    return int(found[1]) if found else None


class RankFiles:
    """The ranks of a run, as they said themselves.

    A run without a launcher has one file, which is that of all its recordings.

    Args:
        lead: Of the rank that stands for the run.
        others: Those of the other ranks; one that is not of the same job is left out.

    Attributes:
        lead: Of the rank that stands for the run.
        notes: What is wrong with the files.
        why_missing: rank -> why it is left out.
    """

    def __init__(self, lead: RunFile, others: Iterable[tuple[str, RunFile]] = ()) -> None:
        self.lead = lead
        self.notes: list[str] = []
        self.why_missing: dict[int, str] = {}
        self._known = {_key(lead): lead}
        self._hosts = {_key(lead)[1]: lead.start.hostname}
        """rank -> its node: a rank that is there twice counts once."""
        for where, content in sorted(others, key=lambda one: one[1].start.started_utc):
            try:
                self._take(self._checked(content, where), where)
            except RecordError as error:
                self.leave_out(error, content.start.job.rank if content.start.job else None)

    def _take(self, content: RunFile, where: str) -> None:
        """Know a rank, unless another with its number began before."""
        hostname, rank = _key(content)
        first = self._hosts.setdefault(rank, hostname)
        if first == hostname:
            self._known[hostname, rank] = content
        elif len(self.notes) < MOST_SAID:
            self.notes.append(f"{where}: rank {rank} is there twice: it counts once, as it began first, on {first}")

    def leave_out(self, error: RecordError, rank: int | None) -> None:
        """Take a rank as missing, because something of it cannot be read."""
        if len(self.notes) < MOST_SAID:
            self.notes.append(RANKS_MISSING + error.message)
        if rank is not None:
            self.why_missing[rank] = UNREADABLE

    def content(self, hostname: str, rank: int, about: bytes | None = None) -> RunFile | None:
        """Return what a rank said of itself; None: nothing that can be believed, so it is left out.

        Args:
            hostname: Of its node.
            rank: Its number.
            about: What lies beside its sums, as it was when those were made: by that its GPUs count.
        """
        if self.lead.start.job is None:
            return self.lead
        if self._hosts.get(rank, hostname) != hostname:
            return None
        key = hostname, rank
        known, beside = self._known.get(key), self._beside(about, key)
        if known is None and beside is None:
            self.why_missing.setdefault(rank, NO_FILE)
            return None
        if known is not None and beside is not None:
            known = msgspec.structs.replace(known, placement=beside.placement)
        return known or beside

    def without_gpu(self, members: Iterable[Member]) -> list[Member]:
        """Return the ranks of a job that had no GPU to read; of the others that are not there, note why.

        Args:
            members: Those of which something was read.
        """
        if self.lead.start.job is None:
            return []
        there, out = {member.key for member in members}, list[Member]()
        for (hostname, rank), content in self._known.items():
            if (hostname, rank) in there:
                continue
            member = member_without_gpu(content)
            if member is None:
                self.why_missing.setdefault(rank, NOTHING_KEPT)
            else:
                out.append(member)
        return out

    def _beside(self, about: bytes | None, key: tuple[str, int]) -> RunFile | None:
        if about is None:
            return None
        where = f"what rank {key[1]} on {key[0]} said of itself"
        try:
            return self._checked(decode_checked(about, RunFile, where), where, key)
        except RecordError as error:
            self.leave_out(error, key[1])
            return None

    def _checked(self, content: RunFile, where: str, key: tuple[str, int] | None = None) -> RunFile:
        """Return what a rank said, if it is of the same job as the lead."""
        mine, job = self.lead.start.job, content.start.job
        if job is None or mine is None:
            raise RecordError(f"{where}: $.start.job: it is of no job", hint=DAMAGED_HINT)
        if job.key != mine.key or job.world != mine.world:
            raise RecordError(
                f"{where}: $.start.job: it is of another job ({job.key}, {job.world} ranks)", hint=DAMAGED_HINT
            )
        if not 0 <= job.rank < job.world:
            raise RecordError(f"{where}: $.start.job.rank: {job.rank} of {job.world}", hint=DAMAGED_HINT)
        if key is not None and _key(content) != key:
            raise RecordError(f"{where}: it names another rank", hint=DAMAGED_HINT)
        return content


def read_rank_files(directory: Path, group_by: str | None = None) -> RankFiles:
    """Read what the ranks of a run said of themselves.

    Args:
        directory: The run directory.
        group_by: How ranks are grouped for their comparison; None: as in the run.

    Raises:
        RecordError: There is no run; names file and key.
    """
    others, errors = list[tuple[Path, RunFile]](), list[tuple[Path, RecordError]]()
    for path in sorted(directory.glob(RANK_PATTERN)):
        try:
            others.append((path, _read(path)))
        except RecordError as error:
            errors.append((path, error))
    lead, lead_path, note = _lead(directory, others)
    files = RankFiles(
        _regrouped(lead, lead_path, group_by),
        [(str(path), content) for path, content in others if path != lead_path],
    )
    for path, problem in errors:
        files.leave_out(problem, rank_in_name(path))
    files.notes[:0] = [note] if note else []
    return files


def _lead(directory: Path, others: list[tuple[Path, RunFile]]) -> tuple[RunFile, Path, str | None]:
    """Return the file that stands for the run, where it is, and what is to be said if it is not rank 0's."""
    path = directory / RUN_FILE
    try:
        return read_run_file(directory), path, None
    except RecordError as error:
        if not others:
            raise
        why = error.message
    first, content = min(others, key=lambda one: _key(one[1])[::-1])
    start = content.start
    rank = start.job.rank if start.job else 0
    return content, first, f"rank 0 left nothing ({why}): rank {rank} on {start.hostname} stands for the run"


def _read(path: Path) -> RunFile:
    """Return the file of one rank."""
    try:
        data = read_some(path)
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}", hint=DAMAGED_HINT) from error
    if not data.strip():
        raise RecordError(f"{path}: empty: the rank wrote nothing", hint=DAMAGED_HINT)
    content = decode_checked(data, RunFile, str(path))
    job = content.start.job
    if job is None or path.name != rank_file_name(content.start.hostname, job.rank):
        raise RecordError(f"{path}: $.start: it is of another rank than its name says", hint=DAMAGED_HINT)
    return content


def _key(content: RunFile) -> tuple[str, int]:
    return content.start.hostname, content.start.job.rank if content.start.job else 0


def _regrouped(content: RunFile, path: Path, group_by: str | None) -> RunFile:
    """Return what stands for the run with another grouping, where one is given; what it names exists."""
    start = content.start
    if start.profile not in PROFILES:
        raise RecordError(
            f"{path}: $.start.profile: {start.profile!r} is not one of {', '.join(PROFILES)}", hint=DAMAGED_HINT
        )
    try:
        grouping = checked_grouping(start.group_by if group_by is None else group_by)
    except UsageError as error:
        raise RecordError(f"{path}: $.start.group_by: {error.message}", hint="name another one: --group-by") from error
    return msgspec.structs.replace(content, start=msgspec.structs.replace(start, group_by=grouping))
