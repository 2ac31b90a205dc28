"""Choosing a source: the richest that works here, and for each that does not, why and what to do."""

from collections.abc import Callable

from satscore.counters.clock import MonotonicClock
from satscore.counters.nvml import Visible, open_gpm, open_nvml
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
    return None, notes
