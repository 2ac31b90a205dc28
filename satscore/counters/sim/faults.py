"""Faults of reading: what a driver does to counters on a bad day. The GPU itself is as before.

Which read suffers what is a pure function of seed, rank and time. Values that a fault takes away carry
the reason that a real source gives them; nothing is put in their place.
"""

import math
import random
from typing import NamedTuple

from satscore.core.fields import FIELDS, INDEX, N_FIELDS, Kind, Quality, Reading, blank_reading

SLOT_S = 0.1
"""A driver renews its samples every 100 ms: reads of the same one share its faults."""
LOST_PERIOD_S = 30.0
_TURNS = (
    ("fp64_active_frac", "fp32_active_frac", "fp16_active_frac", "integer_active_frac"),
    tuple(f.name for f in FIELDS if f.name.startswith("tensor_")),
)
"""Groups of pipe counters that cannot be counted together: what is left out in even and in odd turns."""
_ENERGY = tuple((INDEX[f"energy_{scope}_j"], INDEX[f"power_{scope}_w"]) for scope in ("gpu", "module"))
_COUNTED = tuple(i for i, f in enumerate(FIELDS) if f.kind is not Kind.GAUGE)
"""What must have moved since the last read."""
_SINCE_RESET = tuple(i for i, f in enumerate(FIELDS) if f.name.startswith(("throttle_", "energy_")))
"""Differences of the driver's running totals."""


class Faults(NamedTuple):
    """How often each fault happens; 0: never."""

    blank: float = 0.0
    """Share of values that the driver answers without a number."""
    stale: float = 0.0
    """Share of reads in which the driver repeats its counters; energy is booked with the next."""
    reset: float = 0.0
    """Share of reads before which the driver's running totals began anew."""
    jitter: float = 0.0
    """Up to how many seconds before the read a GPU's counters were taken."""
    multiplex: float = 0.0
    """Length in s of the turns that two groups of pipe counters take, because they exclude each other."""
    lost: float = 0.0
    """For how many seconds, once in every LOST_PERIOD_S, the GPU does not answer."""

    def as_text(self) -> str:
        """Return the faults as they are written in a selection."""
        return "+".join(f"{name}:{value:g}" for name, value in zip(self._fields, self, strict=True) if value)


NO_FAULTS = Faults()
MOST = Faults(blank=1.0, stale=1.0, reset=1.0, jitter=SLOT_S / 2, multiplex=3600.0, lost=LOST_PERIOD_S)
"""Highest value of each; a later read never sees an earlier time."""


class FaultyReads:
    """The faults of one GPU's reads.

    Args:
        faults: Which, how often.
        seed: Of the simulation.
        rank: Whose GPU.
    """

    def __init__(self, faults: Faults, seed: int, rank: int) -> None:
        self._faults = faults
        self._key = f"{seed} {rank}"
        self._owed = [(0.0, 0.0)] * len(_ENERGY)
        """Energy in J that no reading has booked yet, and the time in s in which it was used."""

    def delay_s(self, now_s: float) -> float:
        """Return how long in s before the read the counters were taken."""
        if not self._faults.jitter:
            return 0.0
        return self._faults.jitter * self._random("delay", now_s // SLOT_S).random()

    def spoil(self, reading: Reading, start_s: float, end_s: float) -> Reading:
        """Return what is left of a reading, which may be changed in place.

        Args:
            reading: Exact.
            start_s: Its start in s of simulated time.
            end_s: Its end in s of simulated time.
        """
        if self._is_lost(start_s, end_s):
            self._owed = [(0.0, 0.0)] * len(_ENERGY)
            return blank_reading(reading.gpu, reading.start_ns, reading.end_ns, Quality.GPU_LOST)
        used_j = [reading.values[energy] for energy, _ in _ENERGY]
        chance = self._random("read", end_s // SLOT_S)
        if self._faults.multiplex:
            turn = _TURNS[int(end_s // self._faults.multiplex) % 2]
            _take_away(reading, [INDEX[name] for name in turn], Quality.NOT_READ)
        if chance.random() < self._faults.stale:
            _take_away(reading, _COUNTED, Quality.STALE)
        was_reset = chance.random() < self._faults.reset
        if was_reset:
            _take_away(reading, _SINCE_RESET, Quality.BLANK)
        blank = [i for i in range(N_FIELDS) if chance.random() < self._faults.blank]
        _take_away(reading, blank, Quality.BLANK)
        self._book(reading, used_j, end_s - start_s, was_reset=was_reset)
        return reading

    def _book(self, reading: Reading, used_j: list[float], dt_s: float, *, was_reset: bool) -> None:
        """Book energy as a real source does: what a read missed stands in the next, unless a reset ate it."""
        for scope, (energy, power) in enumerate(_ENERGY):
            owed_j, owed_s = self._owed[scope]
            used, since_s = owed_j + used_j[scope], owed_s + dt_s
            if reading.quality[energy] == Quality.OK:
                reading.values[energy] = used
                if owed_s and reading.quality[power] == Quality.OK:
                    reading.values[power] = used / since_s
                self._owed[scope] = (0.0, 0.0)
            else:
                self._owed[scope] = (0.0, 0.0) if was_reset else (used, since_s)

    def _is_lost(self, start_s: float, end_s: float) -> bool:
        lost_s = self._faults.lost
        if not lost_s:
            return False
        for period in range(int(start_s // LOST_PERIOD_S), int(end_s // LOST_PERIOD_S) + 1):
            within_s = self._random("lost", period).random() * (LOST_PERIOD_S - lost_s)
            begin_s = period * LOST_PERIOD_S + within_s
            if start_s < begin_s + lost_s and end_s > begin_s:
                return True
        return False

    def _random(self, what: str, number: float) -> random.Random:
        return random.Random(f"{self._key} {what} {number:.0f}")  # noqa: S311 - to be repeatable, not secret


def _take_away(reading: Reading, fields: "list[int] | tuple[int, ...]", reason: Quality) -> None:
    """Make known values unknown; what was unknown keeps its reason."""
    for i in fields:
        if reading.quality[i] == Quality.OK:
            reading.values[i] = math.nan
            reading.quality[i] = reason
