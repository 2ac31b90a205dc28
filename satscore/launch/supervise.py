"""The wrapper's one loop: wait for the command, pass signals on, stop and continue with it."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from satscore.launch.ancestry import stat_fields
from satscore.launch.forwarding import Arrival, Surroundings, should_forward
from satscore.launch.signals import signal

# A continue for the whole group may reach us and the command in either order: look at the command
# again after this long before following it into a stop ...
STOP_GRACE_NS = 20_000_000
# ... and this long after our own continue before concluding that it was meant for us alone.
CONTINUE_GRACE_NS = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the command ended: one of the two is None."""

    exit_code: int | None
    signal: int | None


def nobody_else_signals() -> bool:
    """The answer to 'does Slurm signal all descendants itself' outside Slurm."""
    return False


class Supervisor:
    """Waits for the command in the main thread; all handled signals are blocked there.

    Args:
        child_pid: The command.
        handled: The blocked signals, without SIGCHLD.
        policy: auto, always or never.
        linuxproc: Asked at each signal: is Slurm known to signal all descendants itself?
    """

    def __init__(
        self,
        child_pid: int,
        handled: frozenset[int],
        policy: str,
        linuxproc: Callable[[], bool] = nobody_else_signals,
    ) -> None:
        self._child_pid = child_pid
        self._awaited = handled | {signal.SIGCHLD}
        self._policy = policy
        self.linuxproc = linuxproc
        self._leads_session = os.getsid(0) == os.getpid()
        self._last_forward_ns: dict[int, int] = {}
        self._stop_signal: int | None = None
        self._stop_check_ns: int | None = None
        self._continue_check_ns: int | None = None
        self._mirrored = False
        self._outcome: Outcome | None = None

    def wait(self) -> Outcome:
        """Return when the command has ended; what it left behind does not hold us."""
        while self._outcome is None:
            arrival = self._next_signal()
            if arrival is not None and arrival.signo == signal.SIGCHLD:
                self._collect()
            elif arrival is not None:
                self._handle(arrival)
            self._check_what_is_due(time.monotonic_ns())
        return self._outcome

    def _next_signal(self) -> Arrival | None:
        checks = [at for at in (self._stop_check_ns, self._continue_check_ns) if at is not None]
        if checks:
            remaining_s = max(0, min(checks) - time.monotonic_ns()) / 1e9
            info = signal.sigtimedwait(self._awaited, remaining_s)
        else:
            info = signal.sigwaitinfo(self._awaited)
        if info is None:
            return None
        return Arrival(signo=info.si_signo, code=info.si_code, sender_pid=info.si_pid)

    def _collect(self) -> None:
        """Read what happened to the command; SIGCHLD may stand for several changes, or another's."""
        while self._outcome is None:
            pid, status = os.waitpid(self._child_pid, os.WNOHANG | os.WUNTRACED)
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                self._stop_signal = os.WSTOPSIG(status)
                self._stop_check_ns = time.monotonic_ns() + STOP_GRACE_NS
                self._continue_check_ns = None
            elif os.WIFSIGNALED(status):
                self._outcome = Outcome(exit_code=None, signal=os.WTERMSIG(status))
            else:
                self._outcome = Outcome(exit_code=os.WEXITSTATUS(status), signal=None)

    def _handle(self, arrival: Arrival) -> None:
        if arrival.signo == signal.SIGCONT and self._mirrored:
            # fg and bg continue the whole group, so the command has probably got its own; one that has
            # stopped again in the meantime certainly has.
            self._mirrored = False
            if self._stop_check_ns is None:
                self._continue_check_ns = time.monotonic_ns() + CONTINUE_GRACE_NS
            return
        now_ns = time.monotonic_ns()
        last_ns = self._last_forward_ns.get(arrival.signo)
        around = Surroundings(
            policy=self._policy,
            child_pid=self._child_pid,
            leads_session=self._leads_session,
            linuxproc=self.linuxproc(),
            since_same_ns=None if last_ns is None else now_ns - last_ns,
        )
        if should_forward(arrival, around):
            self._last_forward_ns[arrival.signo] = now_ns
            self._send(arrival.signo)

    def _send(self, signo: int) -> None:
        try:
            os.kill(self._child_pid, signo)
        except OSError:
            # A command that changed its user (sudo) would not have got it from this sender either.
            return

    def _check_what_is_due(self, now_ns: int) -> None:
        if self._stop_check_ns is not None and now_ns >= self._stop_check_ns:
            self._stop_check_ns = None
            if self._child_is_stopped() and has_terminal():
                self._stop_like_the_child(self._stop_signal or signal.SIGSTOP)
        if self._continue_check_ns is not None and now_ns >= self._continue_check_ns:
            self._continue_check_ns = None
            if self._policy != "never" and self._has_stayed_stopped():
                self._send(signal.SIGCONT)

    def _has_stayed_stopped(self) -> bool:
        """Whether the command is in the stop that we know of, and not in a new one (a second Ctrl-Z)."""
        if not self._child_is_stopped():
            return False
        self._collect()
        return self._stop_check_ns is None and self._outcome is None

    def _child_is_stopped(self) -> bool:
        return stat_fields(str(self._child_pid))[:1] == ["T"]

    def _stop_like_the_child(self, signo: int) -> None:
        """Stop, so that the shell sees its job stopped; returns when somebody continues us."""
        self._mirrored = True
        if signo in self._awaited:
            os.kill(os.getpid(), signo)
            # Last look while the stop is pending: a continue until here has removed it again.
            if not self._child_is_stopped():
                signal.sigtimedwait({signo}, 0)
                self._mirrored = False
                return
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signo})
            signal.pthread_sigmask(signal.SIG_BLOCK, {signo})
            if signal.SIGCONT in signal.sigpending():
                return
        # SIGSTOP itself, or no shell watches our group, in which the kernel drops the gentle ones.
        if self._child_is_stopped():
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            self._mirrored = False


def has_terminal() -> bool:
    """Whether a controlling terminal, and so perhaps a shell with job control, watches us.

    Without one nobody would see our stop, and nobody would end it: whoever continues the command
    by its own number would leave us stopped for ever, and with us the job.
    """
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
