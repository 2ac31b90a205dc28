"""Starting the command: the same words, descriptors, environment and signals as without us.

Imported before the command starts: standard library only, and little of it.

Two differences to a bare start remain, both of the interpreter and the C library: glibc's
``posix_spawn`` leaves its internal signals 32 and 33 ignored in the command, and a SIGPIPE or
SIGXFSZ that was ignored when we started is back at its default (CPython ignores both before any
code of ours could look).
"""

import errno
import os
import sys

from satscore.errors import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, LaunchError
from satscore.launch.signals import IGNORED_BY_CPYTHON, reset_for_exec

PARENT_VARIABLE = "SATSCORE_PARENT"
_SHELL = "/bin/sh"
# The values that CPython writes into LC_CTYPE when it starts in the C locale (PEP 538).
_COERCED_LOCALES = (b"C.UTF-8", b"C.utf8", b"UTF-8")


def fill_closed_descriptors() -> None:
    """Put /dev/null where standard input, output or error is closed.

    No later file of ours can then land there and be taken for the command's. Closed on exec: the
    command still finds the descriptor closed, as without us.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    # print(file=None) would write our words to stdout, which is the command's.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115


def child_environment(added: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Return our environment plus ``added``, less what the interpreter itself put into it."""
    environment = dict(os.environb)
    if environment.get(b"LC_CTYPE") in _COERCED_LOCALES:
        _undo_coercion(environment)
    environment.update(added)
    return environment


def _undo_coercion(environment: dict[bytes, bytes]) -> None:
    """Set LC_CTYPE back to what we were started with, which the kernel still shows."""
    try:
        with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - pathlib is not imported yet
            entries = file.read().split(b"\0")
    except OSError:
        return
    del environment[b"LC_CTYPE"]
    for entry in entries:
        if entry.startswith(b"LC_CTYPE="):
            environment[b"LC_CTYPE"] = entry.partition(b"=")[2]


def spawn(command: list[str], environment: dict[bytes, bytes], mask: frozenset[int]) -> int:
    """Start the command and return its process id.

    Args:
        command: The program and its arguments, handed on verbatim; no shell.
        environment: The command's whole environment.
        mask: The signals that were blocked when we started, hence blocked in the command.

    Raises:
        LaunchError: It could not be started: 127 not found, 126 any other reason.
    """

    def start(argv: list[str]) -> int:
        return os.posix_spawnp(argv[0], argv, environment, setsigmask=sorted(mask), setsigdef=IGNORED_BY_CPYTHON)

    try:
        _refuse_empty(command)
        try:
            return start(command)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            return start(_as_shell_script(command))
    except OSError as error:
        raise _launch_error(command[0], error) from error


def execute(command: list[str], environment: dict[bytes, bytes]) -> None:
    """Become the command; does not return.

    Raises:
        LaunchError: As for ``spawn``.
    """
    reset_for_exec()
    try:
        _refuse_empty(command)
        try:
            os.execvpe(command[0], command, environment)  # noqa: S606 - the user's words, no shell
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            os.execve(_SHELL, _as_shell_script(command), environment)  # noqa: S606
    except OSError as error:
        raise _launch_error(command[0], error) from error


def _refuse_empty(command: list[str]) -> None:
    if not command[0]:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _as_shell_script(command: list[str]) -> list[str]:
    """A script without a first line ``#!``: what execvp(3) does, and so env and nohup."""
    return [_SHELL, _find(command[0]) or command[0], *command[1:]]


def _find(name: str) -> str | None:
    if "/" in name:
        return name if os.path.exists(name) else None  # noqa: PTH110 - pathlib is not imported yet
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder or ".", name)  # noqa: PTH118
        if os.access(path, os.X_OK) and os.path.isfile(path):  # noqa: PTH113
            return path
    return None


def _launch_error(name: str, error: OSError) -> LaunchError:
    reason, hint = os.strerror(error.errno or 0), ""
    if error.errno == errno.ENOENT:
        if _find(name):
            reason = "its interpreter is missing"
            hint = f"look at the first line of {_find(name)!r}"
        elif "/" not in name:
            reason = "not found on PATH"
        return LaunchError(f"cannot run {name!r}: {reason}", hint=hint, exit_code=EXIT_NOT_FOUND)
    if error.errno == errno.EACCES:
        hint = "it is a directory" if os.path.isdir(name) else "is it executable (chmod +x)?"  # noqa: PTH112
    return LaunchError(f"cannot run {name!r}: {reason}", hint=hint, exit_code=EXIT_NOT_EXECUTABLE)
