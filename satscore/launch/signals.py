"""The signals that the wrapper takes for itself, so that it can pass them on.

Imported before the command starts: ``_signal`` is the C module under ``signal``, without the
enumerations whose construction costs 6 ms of the 30 ms that the start may take.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal

__all__ = ["STOP_SIGNALS", "block_handled", "handled_signals", "reset_for_exec", "signal"]

STOP_SIGNALS = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})

# Faults are about this process, not about the command; KILL and STOP cannot be taken; PIPE and XFSZ
# are answers to our own writes; CHLD tells us about the command.
_NEVER_HANDLED = frozenset(
    {
        signal.SIGKILL,
        signal.SIGSTOP,
        signal.SIGCHLD,
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGTRAP,
        signal.SIGSYS,
        signal.SIGPIPE,
        signal.SIGXFSZ,
    }
)
# CPython ignores these two at start, and exec would hand that on to the command.
IGNORED_BY_CPYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def handled_signals() -> frozenset[int]:
    """Return the signals that are forwarded or mirrored: all but faults.

    Also those that were ignored at start, as a script's ``&`` ignores INT and QUIT: the command
    inherits that, but may install a handler and must then be told. The kernel keeps a blocked signal
    for us whatever its disposition. glibc's own two (32, 33) are not among the valid signals.
    """
    return frozenset(signal.valid_signals() - _NEVER_HANDLED)


def block_handled(handled: frozenset[int]) -> frozenset[int]:
    """Block the handled signals and SIGCHLD in this thread and all later ones.

    SIGCHLD gets its default disposition, for a parent that ignores it is never told the status of
    its child (coreutils' timeout does the same).

    Returns:
        The mask as it was: the command gets that one.
    """
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, handled | {signal.SIGCHLD})
    if signal.getsignal(signal.SIGCHLD) != signal.SIG_DFL:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return frozenset(previous)


def default_interrupt() -> None:
    """Let Ctrl-C end this process as it ends any other, until its signals are blocked."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def reset_for_exec() -> None:
    """Undo the dispositions that CPython set at its start, before this process becomes the command."""
    for signo in IGNORED_BY_CPYTHON:
        signal.signal(signo, signal.SIG_DFL)
