"""Files of a run: private by default, and whole or not there at all."""

import contextlib
import errno
import os
from pathlib import Path

DEFAULT_PARENT = "satscore-runs"
FILE_MODE = 0o600
DIRECTORY_MODE = 0o700


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that readers see the old content or the new one, never a part.

    Args:
        path: Where to write; its directory must exist.
        data: The whole content.

    Raises:
        OSError: The file system refuses (full, read-only, no permission); no temporary file is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_requested(path: Path, data: bytes) -> None:
    """Write a file that the user named: atomically where it is (or will be) a regular file.

    ``--json /dev/stderr`` or a FIFO must be written to, not replaced.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            file.write(data)
        return
    write_atomic(path, data)


def make_run_directory(wanted: Path, claim: str) -> Path:
    """Create a new directory for one run and return it.

    An existing directory is used if it is empty; else ``-2``, ``-3``, ... is appended, so that two
    runs never mix and nothing is overwritten.

    Args:
        wanted: Its path.
        claim: Name of the file that is created in it: of several runs that start together and find the
            same empty directory, one creates it.

    Raises:
        OSError: It cannot be created.
    """
    wanted.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    for attempt in range(1, 10_000):
        if attempt > 1 and not wanted.name:
            break  # "/" and "." have no name to number
        candidate = wanted if attempt == 1 else wanted.with_name(f"{wanted.name}-{attempt}")
        try:
            candidate.mkdir(mode=DIRECTORY_MODE)
        except FileExistsError:
            if attempt > 1 or not candidate.is_dir() or any(candidate.iterdir()):
                continue
        with contextlib.suppress(FileExistsError):
            os.close(os.open(candidate / claim, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
            return candidate
    raise FileExistsError(errno.EEXIST, "exists and is not empty", str(wanted))
