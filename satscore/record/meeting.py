"""Where the ranks of a job meet: one run directory, claimed for one job by ``job.json``.

All ranks must come to the same directory without a word between them, so its name follows from what is wanted,
from the job's key and from what lies there: ``WANTED`` if it is new, empty or this job's; ``WANTED-KEY`` if it
holds anything else; then ``-2``, ``-3``, ... as long as this rank has a run file there already (a second satscore
of the same rank in the same step).

Metadata operations of a rank that joins: one mkdir, one open and read of ``job.json``, one creation of its run
file. The rank that makes the directory adds a creation, a link and a removal. Only a rank that finds no
``job.json`` lists the directory.
"""

import contextlib
import errno
import os
import secrets
import stat
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from satscore.errors import RecordError
from satscore.record.files import DIRECTORY_MODE, FILE_MODE
from satscore.record.run_file import rank_file_name

JOB_FILE = "job.json"
JOB_VERSION = 1
SECRET_BYTES = 32
MOST_BYTES = 1 << 16
"""More than that is no ``job.json``."""
MOST_NUMBER = 10_000
CLAIM_WAIT_S = 1.0
"""So long a rank waits for the one that made the directory to say whose it is; then it says so itself."""
_FIRST_PAUSE_S, _MOST_PAUSE_S = 0.002, 0.1
_TEMPORARY = f".{JOB_FILE}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """The run directory of a job, as one of its ranks has entered it.

    Attributes:
        directory: The run directory; all ranks that see the same file system have the same.
        key: Whose it is (launch.request.Identity).
        secret: Common to all ranks that can read ``job.json``, and to nobody else.
        begun_ns: Wall time at which the first rank entered, by that rank's clock.
        file: The run file of this rank: there, empty, and claimed by this process.
    """

    directory: Path
    key: str
    secret: bytes
    begun_ns: int
    file: Path


class _Job(msgspec.Struct, frozen=True, kw_only=True):
    """Content of ``job.json``."""

    format_version: int
    key: str
    secret: str
    """Hexadecimal."""
    begun_ns: int


def enter(wanted: Path, key: str, *, hostname: str, rank: int, now_ns: int) -> Meeting:
    """Make the run directory of a job or join it, and claim this rank's run file in it.

    Args:
        wanted: Where the job should meet; parents are made as well.
        key: Of the job: the same in all of its ranks.
        hostname: Of this node.
        rank: Of this process.
        now_ns: Wall time, ns.

    Raises:
        OSError: It cannot be made or written; names the path. The caller goes on alone.
        RecordError: ``job.json`` is there but is none of ours; names the file.
    """
    mine = _Job(format_version=JOB_VERSION, key=key, secret=secrets.token_hex(SECRET_BYTES), begun_ns=now_ns)
    wanted.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    base, number = wanted, 1
    while number <= MOST_NUMBER:
        directory = base if number == 1 else base.with_name(f"{base.name}-{number}")
        job = _claimed(directory, mine, f"{hostname}-{rank}", claims_at_once=rank == 0)
        is_ours = job is not None and job.key == key
        if job is not None and is_ours:
            file = directory / rank_file_name(hostname, rank)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
                secret = bytes.fromhex(job.secret)
                return Meeting(directory=directory, key=key, secret=secret, begun_ns=job.begun_ns, file=file)
        if not wanted.name:
            break  # "/" and "." have no name to add to
        if not is_ours and directory == wanted != wanted.with_name(key):
            base = wanted.with_name(f"{wanted.name}-{key}")
        else:
            number += 1
    raise FileExistsError(errno.EEXIST, "is taken, and so is all beside it", str(wanted))


def _claimed(directory: Path, mine: _Job, who: str, *, claims_at_once: bool) -> _Job | None:
    """Return whose a directory is, which is claimed where it is nobody's; None: what lies there is no job's."""
    try:
        directory.mkdir(mode=DIRECTORY_MODE)
        claims_at_once = True
    except FileExistsError:
        if not directory.is_dir():
            return None
    give_up_s = time.monotonic() + CLAIM_WAIT_S
    pause_s = _FIRST_PAUSE_S
    while True:
        job = _read_job(directory / JOB_FILE)
        if job is not None:
            return job
        names = {path.name for path in directory.iterdir()}  # this also makes NFS forget that a file was not there
        if JOB_FILE not in names:
            if any(not name.startswith(_TEMPORARY) for name in names):
                # Listing is not one moment: the claim may have come behind our back.
                return _read_job(directory / JOB_FILE)
            if claims_at_once or time.monotonic() >= give_up_s:
                _claim(directory, mine, who)
                claims_at_once = True
                continue
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _MOST_PAUSE_S)


def _claim(directory: Path, mine: _Job, who: str) -> None:
    """Write ``job.json`` unless it is there: whole or not at all, on NFS as well, where O_EXCL and rename race."""
    temporary = directory / f"{_TEMPORARY}{who}.{os.getpid()}.{secrets.token_hex(4)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(mine) + b"\n")
        with contextlib.suppress(FileExistsError):
            _publish(temporary, directory / JOB_FILE)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _publish(temporary: Path, target: Path) -> None:
    """Give a whole file its name.

    Raises:
        FileExistsError: Another rank was first.
    """
    try:
        os.link(temporary, target)
    except OSError as error:
        # Some file systems (FAT, some FUSE) know no links: the name first, its content a moment later.
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(temporary.read_bytes())


def _read_job(path: Path) -> _Job | None:
    """Return what a ``job.json`` says; None: there is none (yet).

    Raises:
        RecordError: It is none of ours; names the file.
    """
    give_up_s = time.monotonic() + CLAIM_WAIT_S
    while True:
        data = _content(path)
        if data is None:
            return None
        try:
            return _checked(msgspec.json.decode(data, type=_Job), path)
        except (msgspec.DecodeError, ValueError) as error:
            if data.endswith(b"\n") or time.monotonic() >= give_up_s:  # else it is being written
                raise RecordError(f"{path}: {error}", hint="the file was changed or damaged: remove it") from error
            time.sleep(_FIRST_PAUSE_S)


def _content(path: Path) -> bytes | None:
    try:
        # A pipe of that name would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise RecordError(f"{path}: not a file", hint="remove it, or choose another directory with --out")
        return file.read(MOST_BYTES)


def _checked(job: _Job, path: Path) -> _Job:
    if job.format_version != JOB_VERSION:
        raise RecordError(
            f"{path}: format_version {job.format_version}, this satscore knows {JOB_VERSION}",
            hint="use the same satscore in all ranks",
        )
    if len(bytes.fromhex(job.secret)) < SECRET_BYTES or not 0 <= job.begun_ns < 2**63:
        raise RecordError(f"{path}: no secret or no time", hint="the file was changed or damaged: remove it")
    return job
