"""Choosing a source: the richest that works here, and for each that does not, why and what to do."""

from collections.abc import Callable

from satscore.counters.clock import MonotonicClock
from satscore.counters.nvml import NO_PIPES_TEXT, Visible, open_gpm, open_nvml
from satscore.counters.replay import PREFIX, ReplaySpec, parse_replay
from satscore.counters.simulated import open_simulated
from satscore.counters.source import Source
from satscore.errors import CounterError, SatscoreError


def open_source(
    wanted: str, visible: Visible | None = None, open_replay: Callable[[ReplaySpec], Source] | None = None
) -> tuple[Source | None, list[str]]:
    """Open a source; never raises, because a command must run without one as well.

    Args:
        wanted: ``auto``, ``gpm``, ``nvml``, ``sim[:SCENARIO]`` or ``replay:FILE``.
        visible: Picks the GPUs to read from the driver's list.
        open_replay: Opens a recording, which this layer knows nothing about.

    Returns:
        The source, or None; and what could not be had, with the remedy, most telling first.
    """
    if wanted.partition(":")[0] == "sim":
        return _first((lambda: open_simulated(wanted),))
    if wanted.startswith(PREFIX):
        return _first((lambda: (open_replay or _refuse_replay)(parse_replay(wanted)),))
    clock = MonotonicClock()
    gpm, nvml = (lambda: open_gpm(clock, visible)), (lambda: open_nvml(clock, visible))
    return _first({"gpm": (gpm,), "nvml": (nvml,)}.get(wanted, (gpm, nvml)))


def _refuse_replay(spec: ReplaySpec) -> Source:
    raise CounterError(f"{spec.path}: recordings are not read here", hint="satscore --source replay:FILE -- CMD")


def _first(openers: tuple[Callable[[], Source], ...]) -> tuple[Source | None, list[str]]:
    notes: list[str] = []
    for opener in openers:
        try:
            return opener(), notes
        except SatscoreError as error:
            text = f"{error.message}; {error.hint}" if error.hint else error.message
            if text not in notes:
                notes.append(text)
        except Exception as error:  # noqa: BLE001 - a defect here must never hurt the user's command
            notes.append(f"opening the counters failed ({error!r}); please report it")
    return None, notes


def no_pipes_reason(source: Source | None, notes: list[str]) -> str | None:
    """Return why there are no pipe counters, with the remedy; None if there are.

    Args:
        source: What ``open_source`` returned.
        notes: What it said.
    """
    if source is not None and source.has_pipe_counters:
        return None
    if source is not None and source.name == "replay":
        return "the recording has no pipe counters: it was made without; replay one with them"
    return notes[0] if notes else NO_PIPES_TEXT
