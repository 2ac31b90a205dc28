"""Running a load without a pause, and counting what it did between two CUDA events."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

NS_PER_S = 1_000_000_000
BATCH_S = 0.02
"""Steps are handed over in batches of about this length: their ends are the only times looked at."""
IN_FLIGHT = 3
"""Batches queued ahead, so that the GPU never waits for us."""
MAX_BATCH = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a load runs, s: before, during and after the measured part."""

    warm_s: float
    seconds: float
    tail_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The measured part of a load.

    Attributes:
        start_ns: CLOCK_MONOTONIC at its start (shared by all processes of the node).
        end_ns: CLOCK_MONOTONIC at its end.
        gpu_s: Its length by CUDA events, s.
        steps: Steps that ended in it.
    """

    start_ns: int
    end_ns: int
    gpu_s: float
    steps: int

    @property
    def wall_s(self) -> float:
        """Its length by CLOCK_MONOTONIC, s."""
        return (self.end_ns - self.start_ns) / NS_PER_S

    def truth(self, **per_step: float) -> dict[str, float | str]:
        """Return rates: for ``flop=2e12`` the entry ``flop_s``, and the lengths.

        Args:
            **per_step: Amount of each thing that one step does.
        """
        out: dict[str, float | str] = {"gpu_s": self.gpu_s, "wall_s": self.wall_s, "steps": self.steps}
        for name, amount in per_step.items():
            out[f"{name}_s"] = amount * self.steps / self.gpu_s
        return out


def steps_per_batch(cuda: Any, step: Callable[[], None], batch_s: float = BATCH_S) -> int:
    """Return how many steps take about ``batch_s`` seconds.

    The first step compiles, allocates and chooses algorithms: it is not timed.

    Args:
        cuda: ``torch.cuda``.
        step: Queues one step of the load.
        batch_s: Wanted length, s.
    """
    for _ in range(3):
        step()
    cuda.synchronize()
    count = 1
    while True:
        elapsed_s = timed(cuda, step, count)
        if elapsed_s >= batch_s / 4 or count >= MAX_BATCH:
            return min(MAX_BATCH, max(1, round(count * batch_s / max(elapsed_s, 1e-9))))
        count = min(MAX_BATCH, count * 4)


def timed(cuda: Any, step: Callable[[], None], count: int) -> float:
    """Run steps and return how long they took by CUDA events, s."""
    first, last = event(cuda), event(cuda)
    first.record()
    for _ in range(count):
        step()
    last.record()
    last.synchronize()
    elapsed_ms: float = first.elapsed_time(last)
    return elapsed_ms / 1e3


def event(cuda: Any) -> Any:
    """Return an event that is waited for asleep: on a GH200 a spinning CPU takes power from the GPU."""
    return cuda.Event(enable_timing=True, blocking=True)


def run_steady(cuda: Any, step: Callable[[], None], timing: Timing) -> Window:
    """Run a load for the whole time and return its measured part.

    Args:
        cuda: ``torch.cuda``.
        step: Queues one step of the load.
        timing: How long.
    """
    count = steps_per_batch(cuda, step)

    def enqueue() -> None:
        for _ in range(count):
            step()

    began_ns = time.monotonic_ns()
    start: tuple[Any, int, int] | None = None
    end: tuple[Any, int, int] | None = None
    for batch, (done, now_ns) in enumerate(_completions(cuda, enqueue)):
        if start is None:
            if now_ns - began_ns >= timing.warm_s * NS_PER_S:
                start = (done, now_ns, batch)
        elif end is None:
            if now_ns - start[1] >= timing.seconds * NS_PER_S:
                end = (done, now_ns, batch)
        elif now_ns - end[1] >= timing.tail_s * NS_PER_S:
            break
    cuda.synchronize()
    assert start is not None
    assert end is not None
    return Window(
        start_ns=start[1],
        end_ns=end[1],
        gpu_s=start[0].elapsed_time(end[0]) / 1e3,
        steps=(end[2] - start[2]) * count,
    )


def _completions(cuda: Any, enqueue: Callable[[], None]) -> Iterator[tuple[Any, int]]:
    """Yield the event and time of each batch's end, for ever; later batches are queued already."""
    flight: deque[Any] = deque()
    while True:
        while len(flight) < IN_FLIGHT:
            enqueue()
            mark = event(cuda)
            mark.record()
            flight.append(mark)
        oldest = flight.popleft()
        oldest.synchronize()
        yield oldest, time.monotonic_ns()
