"""Choosing a source: the richest that works here, and for each that does not, why and what to do."""

import os
import threading
from collections.abc import Callable

from satscore.counters.clock import MonotonicClock
from satscore.counters.nvml import NO_PIPES_TEXT, Visible, open_gpm, open_nvml
from satscore.counters.replay import PREFIX, ReplaySpec, parse_replay
from satscore.counters.simulated import SimulatedRank, open_simulated
from satscore.counters.source import Source
from satscore.errors import CounterError, SatscoreError

DEFAULT_PERIOD_S = 0.2
Opener = Callable[[], Source]


def open_source(
    wanted: str,
    visible: Visible | None = None,
    open_replay: Callable[[ReplaySpec], Source] | None = None,
    *,
    dcgm: str | None = None,
    period_s: float = DEFAULT_PERIOD_S,
    stop: threading.Event | None = None,
    job: SimulatedRank | None = None,
) -> tuple[Source | None, list[str]]:
    """Open a source; never raises, because a command must run without one as well.

    Args:
        wanted: ``auto``, ``gpm``, ``dcgm``, ``nvml``, ``both``, ``sim[:SCENARIO]`` or ``replay:FILE``.
        visible: Picks the GPUs to read from the driver's list.
        open_replay: Opens a recording, which this layer knows nothing about.
        dcgm: Address of DCGM's host engine; None: the usual one.
        period_s: Time between reads, which an engine has to know, s.
        stop: Set when nobody waits for an engine any longer that does not answer: the command has ended.
        job: Which rank this process is of a job that is simulated.

    Returns:
        The source, or None; and what could not be had, with the remedy, most telling first.
    """
    if wanted.partition(":")[0] == "sim":
        return _first((lambda: open_simulated(wanted, job=job),))
    if wanted.startswith(PREFIX):
        return _first((lambda: (open_replay or _refuse_replay)(parse_replay(wanted)),))
    openers = _openers(visible, dcgm, period_s, stop or threading.Event())
    if wanted == "both":
        return _both(openers["gpm"], openers["dcgm"])
    if wanted in openers:
        return _first((openers[wanted],))
    # Where GPM works, nothing of DCGM is even looked for.
    engine = openers["dcgm"] if dcgm else _only_with_bindings(openers["dcgm"])
    source, notes = _first((openers["gpm"], engine, openers["nvml"]))
    if source is not None and source.has_pipe_counters:  # why another source was not there is no news
        return source, []
    if source is not None or dcgm:  # the GPUs are there, or an engine was named: what DCGM lacks is the remedy
        notes.sort(key=_is_of_other_source)
    return source, notes


def _openers(visible: Visible | None, dcgm: str | None, period_s: float, stop: threading.Event) -> dict[str, Opener]:
    """Return what opens each source of this machine, by its name."""
    clock = MonotonicClock()

    def engine() -> Source:
        from satscore.counters.dcgm.opening import open_dcgm  # noqa: PLC0415 - only where it is read

        return open_dcgm(clock, visible, address=dcgm, period_s=period_s, stop=stop)

    return {"gpm": lambda: open_gpm(clock, visible), "dcgm": engine, "nvml": lambda: open_nvml(clock, visible)}


def _only_with_bindings(engine: Opener) -> Opener:
    def opener() -> Source:
        from satscore.counters.dcgm.bindings import binding_folders  # noqa: PLC0415 - only after GPM has failed

        if not binding_folders(os.environ):
            raise _NotHereError
        return engine()

    return opener


def _is_of_other_source(note: str) -> bool:
    return not note.startswith("DCGM")


class _NotHereError(Exception):
    """A source that nobody expects here: no news."""


def _refuse_replay(spec: ReplaySpec) -> Source:
    raise CounterError(f"{spec.path}: recordings are not read here", hint="satscore --source replay:FILE -- CMD")


def _both(gpm: Opener, engine: Opener) -> tuple[Source | None, list[str]]:
    """Open GPM and DCGM; with one of them alone, that one is used."""
    from satscore.counters.both import BothSource  # noqa: PLC0415 - only where it is asked for

    first, notes = _first((gpm,))
    second, more = _first((engine,))
    if first is not None and second is not None:
        return BothSource(first, second), [*notes, *more]
    if first is not None:
        return first, [*more, "--source both: there is only GPM, nothing is compared"]
    if second is not None:
        return second, [*notes, "--source both: there is only DCGM, which is scored; nothing is compared"]
    return None, [*notes, *more]


def _first(openers: tuple[Opener, ...]) -> tuple[Source | None, list[str]]:
    notes: list[str] = []
    for opener in openers:
        try:
            return opener(), notes
        except _NotHereError:
            continue
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
