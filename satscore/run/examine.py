"""Open a source, read it for a second, look beside it: what ``doctor`` knows of a source it knows from this."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import msgspec

from satscore.core.diagnosis import SourceFinding, Timing
from satscore.core.fields import Reading
from satscore.core.units import NS_PER_S
from satscore.core.vboost import Vboost
from satscore.counters.grace import GracePower
from satscore.counters.replay import ReplaySpec
from satscore.counters.select import open_source
from satscore.counters.source import Source, lend_cpu_power
from satscore.counters.vboost import DEADLINE_S, VboostReader
from satscore.run.examined import Beside, judge
from satscore.run.lookout import GpuChoice
from satscore.run.replay_source import open_replay

INTERVALS = 6
INTERVAL_NS = 200_000_000
"""Six reads of the default period: error counts come once a second. Of real time, where a simulation is slow."""
_STAGES = {"sim": "opening", "replay": "opening", "dcgm": "opening DCGM"}

Say = Callable[[str], None]


def examine(name: str, spec: str, say: Say, *, dcgm: str | None = None) -> bytes:
    """Return a SourceFinding as JSON; may hang where the driver does.

    Args:
        name: The source's name in the list.
        spec: What opens it: ``gpm``, ``sim:llm``, ...
        say: Told the stage of the work.
        dcgm: DCGM's host engine, or None for the usual ones.
    """
    return msgspec.json.encode(_examine(name, spec, say, dcgm))


def _examine(name: str, spec: str, say: Say, dcgm: str | None) -> SourceFinding:
    say(_STAGES.get(name, "opening the driver"))
    choice = GpuChoice(os.environ)
    begun_ns = time.monotonic_ns()
    source, notes = open_source(spec, choice.choose, lambda replay: _open_replay(replay, begun_ns), dcgm=dcgm)
    placement = [choice.note] if choice.note else []
    open_s = (time.monotonic_ns() - begun_ns) / NS_PER_S
    if source is None:
        return SourceFinding(name=name, status="no", text="; ".join([*notes, *placement]))
    looks = _Looks(source)
    readings, timing = _read(source, open_s, say)
    say("asking for the processes on the GPUs")
    processes = source.processes()
    say("waiting for nvidia-smi")
    beside = Beside(
        processes=processes,
        gpus_shown_count=len(choice.machine) or len(source.gpus),
        vboost=looks.vboost(),
        cpu_power_notes=looks.cpu_power_notes(),
    )
    say("scoring")
    found = judge(source, readings, INTERVALS, timing, beside)
    found = msgspec.structs.replace(found, notes=[*placement, *found.notes])
    say("closing")
    source.close()
    return SourceFinding(name=name, status="yes", text=_what(source, timing), examined=found)


class _Looks:
    """What is asked beside the counters of measured GPUs, as beside a run."""

    def __init__(self, source: Source) -> None:
        gpus = source.gpus if source.kind == "measured" else ()
        self._vboost = VboostReader()
        self._vboost.start(gpus)
        self._power = GracePower(gpus)
        lend_cpu_power(source, self._power.read_w)

    def vboost(self) -> Vboost:
        return self._vboost.levels(DEADLINE_S + 1.0, threading.Event())

    def cpu_power_notes(self) -> list[str]:
        self._power.close()
        return self._power.notes


def _open_replay(spec: ReplaySpec, begun_ns: int) -> Source:
    """Open a recording; one that is to be played slowly is looked at as fast as it was made."""
    return open_replay(replace(spec, speed=max(1.0, spec.speed)), begun_ns)[0]


def _what(source: Source, timing: Timing) -> str:
    gpus = f"{len(source.gpus)} GPU{'s' if len(source.gpus) != 1 else ''}"
    what = f"pipe counters and gauges of {gpus}" if source.has_pipe_counters else f"gauges of {gpus}, no pipe counters"
    return f"{what} (opened in {timing.open_s:.1f} s)"


def _read(source: Source, open_s: float, say: Say) -> tuple[list[Reading], Timing]:
    clock, never = source.clock, threading.Event()
    say("taking the base line")
    interval_ns = round(INTERVAL_NS * min(1.0, getattr(clock, "speed", 1.0)))
    if source.name == "dcgm":  # an engine's first samples after a watch are blank, which says nothing of the next
        clock.wait_until(clock.now_ns() + 2 * interval_ns, never)
    last_ns = clock.now_ns()
    readings = source.read()
    ended_ns = clock.now_ns()
    took_ns, late_ns = [], [0]
    for i in range(INTERVALS):
        say(f"reading, {i + 1} of {INTERVALS}")
        clock.wait_until(last_ns + interval_ns, never)
        begun_ns = clock.now_ns()
        late_ns.append(begun_ns - max(last_ns + interval_ns, ended_ns))
        readings += source.read()
        ended_ns = clock.now_ns()
        took_ns.append(ended_ns - begun_ns)
        last_ns = begun_ns
    return readings, Timing(
        open_s=open_s,
        read_mean_s=sum(took_ns) / len(took_ns) / NS_PER_S,
        read_max_s=max(took_ns) / NS_PER_S,
        timer_late_max_s=max(late_ns) / NS_PER_S,
    )
