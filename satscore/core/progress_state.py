"""The sums of what the command reports by ``progress``: steps, their times, tokens and FLOP.

Integers like all state (docs/method.md, "Sums"): parts of a run, ranks and nodes add up exactly and in
any order, in some kilobytes whatever the number of steps.
"""

import math
from typing import Annotated

import msgspec

from satscore.core.marks import Step
from satscore.core.units import NS_PER_S

BIN_RATIO = 1.01
"""Step times are counted in bins 1 % wide; the middle of a bin is at most 0.5 % off."""
_LOG_RATIO = math.log(BIN_RATIO)
PROCESSES_MAX = 4096
"""Processes whose clock is kept; of more, the one that was silent longest starts anew."""
STEP_JUMP_MAX = 1_000_000
"""A larger difference of two step numbers is another count and not so many steps."""
WRONG_MAX = 1_000_000
"""Wrong values that one line may state."""
_LIMB_BITS = 62
COUNT_MAX = 1 << 40
"""More calls than any run has; sums of that many files' counts stay within 64 bits."""
TIME_MAX_NS = 1 << 62
"""The year 2116: what is that far from 1970 is no time, and differences fit into 64 bits."""
BIN_MAX = int(math.log(2 * TIME_MAX_NS) / _LOG_RATIO)
Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]
Limb = Annotated[int, msgspec.Meta(ge=0, lt=1 << _LIMB_BITS)]
TimeNs = Annotated[int, msgspec.Meta(gt=-TIME_MAX_NS, lt=TIME_MAX_NS)]
LengthNs = Annotated[int, msgspec.Meta(ge=0, le=2 * TIME_MAX_NS - 1)]
Bin = Annotated[int, msgspec.Meta(ge=0, le=BIN_MAX)]


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    """A sum that may exceed 64 bits, as two limbs for formats that hold no more.

    Attributes:
        calls_count: Calls that gave it.
        high: Upper limb, in units of 2^62.
        low: Lower limb, 0 to 2^62 - 1.
    """

    calls_count: Count = 0
    high: Limb = 0
    low: Limb = 0

    @property
    def total(self) -> int:
        """The sum itself."""
        return (self.high << _LIMB_BITS) + self.low

    def plus(self, total: int, calls_count: int = 1) -> "Amount":
        """Return the sum with more added."""
        high, low = divmod(self.total + total, 1 << _LIMB_BITS)
        return Amount(calls_count=self.calls_count + calls_count, high=high, low=low)


class ProgressState(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of any set of calls; those of disjoint sets merge.

    Attributes:
        first_ns: Wall time of the first call; None: there was none.
        last_ns: Wall time of the last call.
        calls_count: Calls of all processes.
        processes_count: Processes that called.
        step_calls_count: Calls that stated a step.
        steps_count: Steps forward of the process that did the most (a maximum: it merges as one).
        times: bin -> steps that took that long: those of all processes; see BIN_RATIO.
        longest_ns: The longest time of a step, exact.
        tokens: Tokens after the first call of each process.
        flop: FLOP after the first call of each process.
        wrong_count: Values that were no numbers, or negative.
        clock_back_count: Differences in which the clock ran backwards; they are no step times.
        lost_bytes: Lines that came faster than they could be read; the amounts are not known then.
    """

    first_ns: TimeNs | None = None
    last_ns: TimeNs | None = None
    calls_count: Count = 0
    processes_count: Count = 0
    step_calls_count: Count = 0
    steps_count: Count = 0
    times: dict[Bin, Count] = msgspec.field(default_factory=dict)
    longest_ns: LengthNs = 0
    tokens: Amount = Amount()
    flop: Amount = Amount()
    wrong_count: Count = 0
    clock_back_count: Count = 0
    lost_bytes: Limb = 0

    def merge(self, other: "ProgressState") -> "ProgressState":
        """Return the state of both sets; neither is changed."""
        firsts = [ns for ns in (self.first_ns, other.first_ns) if ns is not None]
        lasts = [ns for ns in (self.last_ns, other.last_ns) if ns is not None]
        bins = sorted(self.times.keys() | other.times.keys())
        return ProgressState(
            first_ns=min(firsts, default=None),
            last_ns=max(lasts, default=None),
            calls_count=self.calls_count + other.calls_count,
            processes_count=self.processes_count + other.processes_count,
            step_calls_count=self.step_calls_count + other.step_calls_count,
            steps_count=max(self.steps_count, other.steps_count),
            times={each: self.times.get(each, 0) + other.times.get(each, 0) for each in bins},
            longest_ns=max(self.longest_ns, other.longest_ns),
            tokens=self.tokens.plus(other.tokens.total, other.tokens.calls_count),
            flop=self.flop.plus(other.flop.total, other.flop.calls_count),
            wrong_count=self.wrong_count + other.wrong_count,
            clock_back_count=self.clock_back_count + other.clock_back_count,
            lost_bytes=self.lost_bytes + other.lost_bytes,
        )

    @property
    def range_ns(self) -> tuple[int, int] | None:
        """First and last call in wall time, ns; None where that is no span of time."""
        if self.first_ns is None or self.last_ns is None or self.last_ns <= self.first_ns:
            return None
        return self.first_ns, self.last_ns

    def step_time_s(self, share: float) -> float | None:
        """Return the time in s that this share of all steps did not exceed (nearest rank, 0.5 % exact).

        Args:
            share: 0 < share <= 1; 1 is the longest, exactly.
        """
        wanted = math.ceil(share * sum(self.times.values()))
        seen = 0
        for each in sorted(self.times):
            seen += self.times[each]
            if seen >= wanted:
                middle_ns = self.longest_ns if share >= 1 else BIN_RATIO ** (each + 0.5)
                return min(middle_ns, self.longest_ns) / NS_PER_S
        return None


class _Clock:
    """When a process called last, and at which step it is."""

    __slots__ = ("step", "step_ns", "steps_count")

    def __init__(self) -> None:
        self.step: int | None = None
        self.step_ns = 0
        self.steps_count = 0


class ProgressMeter:
    """Turns calls into a state; calls of one process come in their order, processes in any."""

    def __init__(self) -> None:
        self._clocks: dict[tuple[int | None, int], _Clock] = {}
        self._clear()

    def _clear(self) -> None:
        self._range: tuple[int, int] | None = None
        self._counts = dict.fromkeys(("calls", "processes", "step_calls", "wrong", "clock_back", "lost"), 0)
        self._sums = {"tokens": [0, 0], "flop": [0, 0]}
        self._times: dict[int, int] = {}
        self._longest_ns = self._steps_count = 0

    def add(self, call: Step) -> None:
        """Take one call; one at a time that cannot be is only counted as wrong."""
        if abs(call.time_ns) >= TIME_MAX_NS:
            self._counts["wrong"] += 1
            return
        first_ns, last_ns = self._range or (call.time_ns, call.time_ns)
        self._range = min(first_ns, call.time_ns), max(last_ns, call.time_ns)
        self._counts["calls"] += 1
        self._counts["wrong"] += min(call.wrong_count, WRONG_MAX)
        key = (call.rank, call.pid)
        clock = self._clocks.pop(key, None)
        if clock is None:
            clock = _Clock()
            self._counts["processes"] += 1
        else:
            self._amount("tokens", call.tokens)
            self._amount("flop", call.flop)
        self._clocks[key] = clock  # the last one in the order of the dictionary
        if len(self._clocks) > PROCESSES_MAX:
            del self._clocks[next(iter(self._clocks))]
        if call.step is not None:
            self._counts["step_calls"] += 1
            self._step(clock, call.step, call.time_ns)

    def add_lost(self, size_bytes: int) -> None:
        """Take it that so many bytes of lines were not read."""
        self._counts["lost"] += size_bytes

    def take(self) -> ProgressState:
        """Return the state of the calls since the last take; all of them merged are that of the run."""
        counts, bounds = self._counts, self._range
        state = ProgressState(
            first_ns=bounds[0] if bounds else None,
            last_ns=bounds[1] if bounds else None,
            calls_count=counts["calls"],
            processes_count=counts["processes"],
            step_calls_count=counts["step_calls"],
            steps_count=self._steps_count,
            times=dict(sorted(self._times.items())),
            longest_ns=self._longest_ns,
            tokens=Amount().plus(*self._sums["tokens"]),
            flop=Amount().plus(*self._sums["flop"]),
            wrong_count=counts["wrong"],
            clock_back_count=counts["clock_back"],
            lost_bytes=counts["lost"],
        )
        self._clear()
        return state

    def _amount(self, name: str, amount: int | None) -> None:
        if amount is not None:
            self._sums[name][0] += amount
            self._sums[name][1] += 1

    def _step(self, clock: _Clock, step: int, time_ns: int) -> None:
        """Time the steps since the last number; a number that went back, or far away, only starts anew."""
        before, clock_ns = clock.step, time_ns - clock.step_ns
        if before == step:
            return  # several calls within a step: it counts from the first of them
        clock.step, clock.step_ns = step, time_ns
        if before is None or not 0 < step - before <= STEP_JUMP_MAX:
            return
        done = step - before
        clock.steps_count += done
        self._steps_count = max(self._steps_count, clock.steps_count)
        if clock_ns <= 0:
            self._counts["clock_back"] += 1
            return
        each_ns = max(1, clock_ns // done)
        index = int(math.log(each_ns) / _LOG_RATIO)
        self._times[index] = self._times.get(index, 0) + done
        self._longest_ns = max(self._longest_ns, each_ns)
