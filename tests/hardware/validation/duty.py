"""V7: matrix products for a share of every period, then nothing."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.hardware.validation.steady import NS_PER_S, Timing, Window, event, steps_per_batch


@dataclass(slots=True, kw_only=True)
class _Edges:
    """What has happened by the edges of periods."""

    start_ns: int = 0
    end_ns: int = 0
    first: int = -1
    last: int = -1
    marks: list[tuple[Any, Any]] = field(default_factory=list)
    overruns: int = 0


def run_duty(
    cuda: Any, step: Callable[[], None], *, duty_frac: float, period_s: float, timing: Timing
) -> tuple[Window, dict[str, float | str]]:
    """Run the load and count what it did between two edges of periods.

    Work stands in the middle of its period, so that the measured part starts and ends in a pause: a
    read that straddles its edge then sees no work on either side.

    Args:
        cuda: ``torch.cuda``.
        step: Queues one step of the work.
        duty_frac: Share of the period with work.
        period_s: Length of a period, s.
        timing: How long.

    Returns:
        The measured part (its steps are those between the edges), and the counted share of busy time
        with the number of periods that their work did not fit into.
    """
    count = steps_per_batch(cuda, step, duty_frac * period_s)
    edges = _Edges()
    began_ns = time.monotonic_ns()
    for period in itertools.count():
        edge_ns = began_ns + round(period * period_s * NS_PER_S)
        now_ns = _sleep_until(edge_ns)
        if _note_edge(edges, period, now_ns, now_ns - began_ns, timing):
            break
        _sleep_until(edge_ns + round((1.0 - duty_frac) * period_s / 2 * NS_PER_S))
        measured = edges.first >= 0 and edges.last < 0
        pair = _work(cuda, step, count)
        if measured:
            edges.marks.append(pair)
            edges.overruns += time.monotonic_ns() > edge_ns + period_s * NS_PER_S
    return _result(edges, count)


def _result(edges: _Edges, count: int) -> tuple[Window, dict[str, float | str]]:
    """Return the measured part of ``count`` steps per period, and its counted share of busy time."""
    wall_s = (edges.end_ns - edges.start_ns) / NS_PER_S
    busy_s = sum(first.elapsed_time(last) for first, last in edges.marks) / 1e3
    window = Window(
        start_ns=edges.start_ns, end_ns=edges.end_ns, gpu_s=wall_s, steps=(edges.last - edges.first) * count
    )
    return window, {"busy_frac": busy_s / wall_s, "overruns": edges.overruns, "steps_per_period": count}


def _note_edge(edges: _Edges, period: int, now_ns: int, run_ns: int, timing: Timing) -> bool:
    """Note what an edge is: the start of the measured part, its end, or the end of the tail (True)."""
    if edges.first < 0:
        if run_ns >= timing.warm_s * NS_PER_S:
            edges.first, edges.start_ns = period, now_ns
    elif edges.last < 0 and now_ns - edges.start_ns >= (timing.seconds - 0.001) * NS_PER_S:
        edges.last, edges.end_ns = period, now_ns
    return edges.last >= 0 and now_ns - edges.end_ns >= timing.tail_s * NS_PER_S


def _work(cuda: Any, step: Callable[[], None], count: int) -> tuple[Any, Any]:
    first, last = event(cuda), event(cuda)
    first.record()
    for _ in range(count):
        step()
    last.record()
    last.synchronize()
    return first, last


def _sleep_until(time_ns: int) -> int:
    """Sleep to an absolute time; return the time that it is then."""
    while (left_ns := time_ns - time.monotonic_ns()) > 0:
        time.sleep(left_ns / NS_PER_S)
    return time.monotonic_ns()
