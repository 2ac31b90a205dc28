"""Choosing a source: the richest that works here, and for each that does not, why and what to do."""

from collections.abc import Callable

from satscore.counters.clock import MonotonicClock
from satscore.counters.nvml import NO_PIPES_TEXT, Visible, open_gpm, open_nvml
from satscore.counters.simulated import open_simulated
from satscore.counters.source import Source
from satscore.errors import CounterError


def open_source(wanted: str, visible: Visible | None = None) -> tuple[Source | None, list[str]]:
    """Open a source; never raises, because a command must run without one as well.

    Args:
        wanted: ``auto``, ``gpm``, ``nvml`` or ``sim[:SCENARIO]``.
        visible: Picks the GPUs to read from the driver's list.

    Returns:
        The source, or None; and what could not be had, with the remedy, most telling first.
    """
    if wanted.partition(":")[0] == "sim":
        return _first((lambda: open_simulated(wanted),))
    clock = MonotonicClock()
    gpm, nvml = (lambda: open_gpm(clock, visible)), (lambda: open_nvml(clock, visible))
    return _first({"gpm": (gpm,), "nvml": (nvml,)}.get(wanted, (gpm, nvml)))


def _first(openers: tuple[Callable[[], Source], ...]) -> tuple[Source | None, list[str]]:
    notes: list[str] = []
    for opener in openers:
        try:
            return opener(), notes
        except CounterError as error:
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
    return notes[0] if notes else NO_PIPES_TEXT
