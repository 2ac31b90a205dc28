"""One simulated GPU: it runs segments and adds up cumulative counters.

Time is cut into pieces in which the clock and the kernel are constant, so every counter is linear
in between. Pieces end only at control ticks and at ends of segments, never at reads: what a read
finds does not depend on which other reads there were.
"""

import math
from typing import NamedTuple

from satscore.counters.sim.kernels import IDLE, KERNELS, RATED_CLOCK_MHZ, Segment
from satscore.counters.sim.power import (
    AMBIENT_C,
    CLOCK_LAG_S,
    CLOCK_MAX_MHZ,
    CONSTANT_W,
    THERMAL_C_PER_W,
    THERMAL_LAG_S,
    clock_target_mhz,
    dynamic_share,
    static_w,
    switching_w,
)

_SAME_TIME_S = 1e-9
"""Ends closer than this are one: sums of floats must not make pieces of no length."""
_SETTLED_MHZ = 1e-3


class Limits(NamedTuple):
    """What holds a GPU's clock down."""

    cap_w: float
    """Power cap on the GPU in W, from whichever scope binds first."""
    ceiling_mhz: float = CLOCK_MAX_MHZ
    """Highest clock in MHz that it may take (locked clocks)."""
    entropy: float = 1.0
    """Toggling of the operands: 1 for random data, 0.6 for zeros."""
    tick_s: float = 0.01
    """Period of the clock control in s."""


class Totals(NamedTuple):
    """Cumulative counters since time 0; per kernel in the order of KERNELS."""

    time_s: float
    seconds: tuple[float, ...]
    """Time in each kernel, s."""
    cycles: tuple[float, ...]
    """SM cycles elapsed in each kernel, 1e6 cycles (MHz x s)."""
    energy_j: float
    power_capped_s: float
    """Time in which the power cap held the target below the ceiling, s."""
    temp_c: float
    """Temperature at ``time_s``, C (a gauge)."""


class SimGpu:
    """A GPU that runs one segment at a time; starts idle, at its ceiling, at rest temperature."""

    def __init__(self, limits: Limits) -> None:
        self.now_s = 0.0
        self._limits = limits
        self._smoothing = -math.expm1(-limits.tick_s / CLOCK_LAG_S)
        self._static_w = [static_w(k) for k in KERNELS]
        self._switching_w = [switching_w(k, limits.entropy) for k in KERNELS]
        self._targets_mhz = [clock_target_mhz(k, limits.cap_w, limits.ceiling_mhz, limits.entropy) for k in KERNELS]
        self._ceiling_mhz = clock_target_mhz(IDLE, math.inf, limits.ceiling_mhz, limits.entropy)
        self._clock_mhz = self._ceiling_mhz
        self._tick = 0
        self._kernel = IDLE.row
        self._by_clock = False
        self._left_s = 0.0
        self._seconds = [0.0] * len(KERNELS)
        self._cycles = [0.0] * len(KERNELS)
        self._energy_j = 0.0
        self._power_capped_s = 0.0
        self._temp_c = AMBIENT_C + THERMAL_C_PER_W * CONSTANT_W

    def begin(self, segment: Segment) -> None:
        """Start a segment at the present time; the one before it must have ended."""
        self._kernel = segment.kernel.row
        self._by_clock = segment.by_clock
        self._left_s = segment.amount_s

    def advance(self, until_s: float) -> bool:
        """Run the segment, but not past ``until_s``; return whether it ended.

        Only whole pieces are added up; ``totals`` adds the share of the piece that is under way.
        """
        while self._left_s > 0.0:
            end_s = self._piece_end_s()
            if end_s > until_s:
                return False
            self._finish_piece(end_s)
        return True

    def run(self, segment: Segment) -> None:
        """Run a segment to its end."""
        self.begin(segment)
        self.advance(math.inf)

    def totals(self, at_s: float) -> Totals:
        """Return the counters at a time in s up to which the GPU has been advanced."""
        k, dt_s = self._kernel, at_s - self.now_s
        seconds, cycles = self._seconds.copy(), self._cycles.copy()
        seconds[k] += dt_s
        cycles[k] += dt_s * self._clock_mhz
        return Totals(
            at_s,
            tuple(seconds),
            tuple(cycles),
            self._energy_j + dt_s * self._power_w(),
            self._power_capped_s + dt_s * self._is_capped(),
            self._temp_after(dt_s),
        )

    def _rate(self) -> float:
        return self._clock_mhz / RATED_CLOCK_MHZ if self._by_clock else 1.0

    def _power_w(self) -> float:
        return self._static_w[self._kernel] + self._switching_w[self._kernel] * dynamic_share(self._clock_mhz)

    def _is_capped(self) -> bool:
        return self._targets_mhz[self._kernel] < self._ceiling_mhz

    def _temp_after(self, dt_s: float) -> float:
        rest_c = AMBIENT_C + THERMAL_C_PER_W * self._power_w()
        return self._temp_c - (rest_c - self._temp_c) * math.expm1(-dt_s / THERMAL_LAG_S)

    def _piece_end_s(self) -> float:
        """Let the clock follow its target if a tick is due; return the end of the piece in s.

        Repeating the call at the same time changes nothing: reads may ask as often as they like.
        """
        target_mhz = self._targets_mhz[self._kernel]
        tick_s = self._limits.tick_s
        if self.now_s >= self._tick * tick_s - _SAME_TIME_S:
            self._tick += 1
            gap_mhz = (target_mhz - self._clock_mhz) * (1.0 - self._smoothing)
            self._clock_mhz = target_mhz if abs(gap_mhz) < _SETTLED_MHZ else target_mhz - gap_mhz
        end_s = self.now_s + self._left_s / self._rate()
        tick_end_s = self._tick * tick_s
        if self._clock_mhz == target_mhz or end_s <= tick_end_s + _SAME_TIME_S:
            return end_s
        return tick_end_s

    def _finish_piece(self, end_s: float) -> None:
        k, dt_s = self._kernel, end_s - self.now_s
        self._temp_c = self._temp_after(dt_s)
        self._seconds[k] += dt_s
        self._cycles[k] += dt_s * self._clock_mhz
        self._energy_j += dt_s * self._power_w()
        if self._is_capped():
            self._power_capped_s += dt_s
        self.now_s = end_s
        left_s = self._left_s - dt_s * self._rate()
        self._left_s = left_s if left_s > _SAME_TIME_S else 0.0
        if self._left_s == 0.0 and end_s > self._tick * self._limits.tick_s:
            # A settled clock needs no ticks: resume at the first one that is not in the past.
            self._tick = math.ceil((end_s - _SAME_TIME_S) / self._limits.tick_s)
