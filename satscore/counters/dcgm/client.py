"""satscore's end of the pipes to the process that reads DCGM: deadlines, and another attempt after each failure.

Whatever DCGM does, nobody waits for it here: a call that hangs costs the process, which is killed.
"""

import enum
import time
from collections.abc import Callable

import msgspec

from satscore.core.units import NS_PER_S
from satscore.counters.dcgm import ids
from satscore.counters.dcgm.listener import Listener
from satscore.counters.dcgm.process import WORKER, BrokenStreamError, WorkerProcess
from satscore.counters.dcgm.wire import Connect, Failed, Found, Message, Samples, Watch, Watching
from satscore.errors import CounterError

LISTEN_S = 0.5
FOUND_S = 10.0
WATCHING_S = 10.0
"""Starting DCGM's libraries, connecting and watching may take so long each; a stopped engine never ends."""
MIN_SILENCE_S, SILENCE_PERIODS = 3.0, 10
"""A process that watches says something every period."""
FIRST_REST_S, LONGEST_REST_S = 1.0, 30.0
"""Between attempts; twice as long each time, but for those that started no process: those cost nothing."""
_LEAVE_S = 2.5
"""A process that has said why it ends may take so long for it."""

DIED = "died"
"""The stage of a failure that the process could not tell itself; beside those of ``wire.Failed``."""

Event = Watching | Samples | Failed
Arm = Callable[[Found], Watch]
"""Says what to read of the GPUs that were found; raises CounterError where none of them is ours."""


class _State(enum.Enum):
    RESTS = enum.auto()
    ASKS = enum.auto()
    CONNECTS = enum.auto()
    ARMS = enum.auto()
    WATCHES = enum.auto()
    CLOSED = enum.auto()


class Client:
    """One engine, read through one process at a time. One owner thread.

    Args:
        connect: What the process is told first.
        arm: Called with what each attempt found.
        period_s: Time between samples, s.
        command: What to run; the worker, but for tests.
        now_ns: CLOCK_MONOTONIC in ns.
    """

    def __init__(
        self,
        connect: Connect,
        arm: Arm,
        *,
        period_s: float,
        command: tuple[str, ...] = WORKER,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.cpu_s = 0.0
        """CPU time of all processes so far."""
        self.rss_bytes = 0
        """Largest resident memory of any of them."""
        self._connect = connect
        self._arm = arm
        self._command = command
        self._now_ns = now_ns
        self._silence_s = max(MIN_SILENCE_S, SILENCE_PERIODS * period_s)
        self._longest_tick_ns = round(max(1.0, 2 * period_s) * NS_PER_S)
        self._listener = Listener(connect.address) if connect.address else None
        self._decoder = msgspec.json.Decoder(Message)
        self._process: WorkerProcess | None = None
        self._leaving: list[tuple[WorkerProcess, int]] = []
        self._failures = 0
        self._ended_cpu_s, self._present_cpu_s = 0.0, 0.0
        self._polled_ns = now_ns()
        self._waited_ns = 0
        self._rest_until_ns = self._polled_ns
        self._state = _State.RESTS

    @property
    def is_watching(self) -> bool:
        """Whether samples are coming, as far as is known."""
        return self._state is _State.WATCHES

    def poll(self) -> list[Event]:
        """Return what has happened since the last call; never waits.

        ``Failed`` ends an attempt, for whatever reason; the next one begins by itself after a rest.
        """
        now_ns = self._now_ns()
        # Only time in which somebody looked counts: we may have been stopped together with the process.
        self._waited_ns += min(now_ns - self._polled_ns, self._longest_tick_ns)
        self._polled_ns = now_ns
        self._see_off(now_ns)
        if self._state is _State.RESTS and now_ns >= self._rest_until_ns:
            self._begin()
        try:
            if self._state is _State.ASKS:
                self._ask()
            return self._hear() if self._process else []
        except _AttemptError as ended:
            return [*ended.before, self._end_attempt(ended.failed, is_leaving=ended.is_leaving)]

    def wait(self, timeout_s: float) -> None:
        """Wait until there may be something to poll, at most so long; while opening only."""
        if self._process is not None:
            self._process.wait_readable(timeout_s)
        else:
            time.sleep(min(timeout_s, 0.01))

    def close(self) -> None:
        """End all processes, within half a second unless several hang in the driver."""
        process, self._process = self._process, None
        self._enter(_State.CLOSED)
        if self._listener is not None:
            self._listener.close()
        leaving, self._leaving = [each for each, _ in self._leaving], []
        for each in leaving:
            each.kill()
        for each in [process, *leaving] if process is not None else leaving:
            each.close()

    def _enter(self, state: _State) -> None:
        self._state = state
        self._waited_ns = 0

    def _begin(self) -> None:
        self._enter(_State.ASKS)
        if self._listener is not None:
            self._listener.begin()

    def _ask(self) -> None:
        """Start a process once somebody listens; an engine inside the process needs nobody."""
        problem = self._listener.answer() if self._listener is not None else ""
        if problem is None and self._waited_ns < LISTEN_S * NS_PER_S:
            return
        if problem != "":
            raise _AttemptError(Failed(stage="connect", status=None, text=problem or "the connection timed out"))
        try:
            self._process = WorkerProcess(self._command)
        except OSError as error:
            raise _AttemptError(Failed(stage="defect", status=None, text=f"no process: {error}")) from error
        self._enter(_State.CONNECTS)
        self._send(self._connect)

    def _send(self, request: Connect | Watch) -> None:
        assert self._process is not None
        self._process.send(msgspec.json.encode(request))  # a process that is gone is noticed by its silence

    def _hear(self) -> list[Event]:
        assert self._process is not None
        events: list[Event] = []
        try:
            lines, at_end = self._process.lines()
            for line in lines:
                self._take(self._decoder.decode(line), events)
        except (BrokenStreamError, msgspec.MsgspecError) as error:
            raise _AttemptError(Failed(stage="defect", status=None, text=f"odd answer: {error}"), events) from error
        ending = self._process.ending() if at_end else ""
        if ending:
            raise _AttemptError(Failed(stage=DIED, status=None, text=ending), events)
        if self._waited_ns > self._limit_s() * NS_PER_S:
            text = f"no answer for {self._limit_s():g} s"
            raise _AttemptError(Failed(stage=_STAGES[self._state], status=ids.TIMEOUT, text=text), events)
        return events

    def _limit_s(self) -> float:
        return {_State.CONNECTS: FOUND_S, _State.ARMS: WATCHING_S}.get(self._state, self._silence_s)

    def _take(self, message: Message, events: list[Event]) -> None:
        if isinstance(message, Failed):
            raise _AttemptError(message, events, is_leaving=True)
        if isinstance(message, Found) and self._state is _State.CONNECTS:
            try:
                watch = self._arm(message)
            except CounterError as error:
                failed = Failed(stage="gpus", status=None, text=error.message)
                raise _AttemptError(failed, events) from error
            self._enter(_State.ARMS)
            self._send(watch)
        elif isinstance(message, Watching) and self._state is _State.ARMS:
            self._enter(_State.WATCHES)
            events.append(message)
        elif isinstance(message, Samples) and self._state is _State.WATCHES:
            self._waited_ns = 0
            self._present_cpu_s = message.cpu_s
            self.cpu_s = self._ended_cpu_s + message.cpu_s
            self.rss_bytes = max(self.rss_bytes, message.rss_bytes)
            if message.values:
                self._failures = 0
            events.append(message)
        else:
            text = f"{type(message).__name__} came out of turn"
            raise _AttemptError(Failed(stage="defect", status=None, text=text), events)

    def _end_attempt(self, failed: Failed, *, is_leaving: bool) -> Failed:
        process, self._process = self._process, None
        now_ns = self._now_ns()
        self._ended_cpu_s += self._present_cpu_s
        self._present_cpu_s = 0.0
        if process is not None:
            self._leaving.append((process, now_ns + (round(_LEAVE_S * NS_PER_S) if is_leaving else 0)))
            self._see_off(now_ns)
        if self._listener is not None:
            self._listener.close()
        rest_s = FIRST_REST_S
        if process is not None:
            rest_s = min(LONGEST_REST_S, FIRST_REST_S * 2.0 ** min(self._failures, 10))
            self._failures += 1
        self._rest_until_ns = now_ns + round(rest_s * NS_PER_S)
        self._enter(_State.RESTS)
        return failed

    def _see_off(self, now_ns: int) -> None:
        """Collect processes that have ended; kill those whose time is over."""
        for process, kill_ns in self._leaving:
            if now_ns >= kill_ns:
                process.kill()
        self._leaving = [(process, kill_ns) for process, kill_ns in self._leaving if not process.reap()]


_STAGES = {_State.CONNECTS: "connect", _State.ARMS: "watch", _State.WATCHES: "fetch"}


class _AttemptError(Exception):
    """The present attempt is over.

    Args:
        failed: Why.
        before: What came before that.
        is_leaving: The process knows, and ends by itself.
    """

    def __init__(self, failed: Failed, before: list[Event] | None = None, *, is_leaving: bool = False) -> None:
        super().__init__(failed.text)
        self.failed = failed
        self.before = before or []
        self.is_leaving = is_leaving
