"""Which of the signals that reach the wrapper the command must still be sent. Pure."""

from dataclasses import dataclass

from satscore.launch.signals import signal

# si_code of signals that a process sent, from <asm-generic/siginfo.h>: SI_USER 0 (kill), SI_QUEUE -1,
# SI_TKILL -6 and the other negative ones. Positive codes are the kernel's: 128 (SI_KERNEL) for a
# terminal's keys, window size and hang-up.
_SENT_BY_PROCESS_MAX = 0

DUPLICATE_WINDOW_NS = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A signal as it reached the wrapper.

    Attributes:
        signo: Its number.
        code: si_code: who generated it.
        sender_pid: The process that sent it; 0 for the kernel and for other PID namespaces.
    """

    signo: int
    code: int
    sender_pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the decision needs to know beside the signal.

    Attributes:
        policy: auto, always or never.
        child_pid: The command.
        leads_session: The wrapper leads its session: the kernel tells a hang-up to it alone.
        linuxproc: Slurm is known to signal every descendant of a task itself.
        since_same_ns: Time since this signal was last forwarded; None: never.
    """

    policy: str
    child_pid: int
    leads_session: bool = False
    linuxproc: bool = False
    since_same_ns: int | None = None


def should_forward(arrival: Arrival, around: Surroundings) -> bool:
    """Decide whether the command gets this signal from us.

    It does not if it has it already: the kernel signals a terminal's whole foreground group, the
    command's own ``kill(0, ...)`` reached itself, Slurm's linuxproc tracking reaches every process.
    Launchers repeat themselves, so ``auto`` passes identical standard signals on once per 50 ms.
    Real-time signals are queued by the kernel, one delivery for each that was sent: none of them is
    a repetition, and a program may count them.
    """
    if around.policy == "never" or arrival.sender_pid == around.child_pid:
        return False
    if arrival.code > _SENT_BY_PROCESS_MAX:
        return _meant_for_us_alone(arrival.signo, leads_session=around.leads_session)
    if around.policy == "always":
        return True
    return not around.linuxproc and not _is_duplicate(arrival.signo, around.since_same_ns)


def _meant_for_us_alone(signo: int, *, leads_session: bool) -> bool:
    """Whether a signal of the kernel reached the wrapper without reaching the command.

    A timer set before us (``alarm 60; exec satscore ...``) survives exec and belongs to our process;
    at a hang-up the kernel signals the session's leader and nobody else.
    """
    if signo == signal.SIGALRM:
        return True
    return leads_session and signo in {signal.SIGHUP, signal.SIGCONT}


def _is_duplicate(signo: int, since_same_ns: int | None) -> bool:
    return signo < signal.SIGRTMIN and since_same_ns is not None and since_same_ns < DUPLICATE_WINDOW_NS
