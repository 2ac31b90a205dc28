"""One simulated GPU: it runs segments and adds up cumulative counters.

Time is cut into pieces in which the clock and the kernel are constant, so every counter is linear
in between. Pieces end only at control ticks, at ends of segments, and where the power cap or the
thermal state changes, never at reads: what a read finds does not depend on which other reads there were.
"""

import math
from typing import NamedTuple

from satscore.counters.sim.cooling import RELEASE_C, SLOW_C, temp_after_c, time_to_s
from satscore.counters.sim.kernels import IDLE, KERNELS, RATED_CLOCK_MHZ, Pace, Segment, kernels_at
from satscore.counters.sim.limits import Limits, Targets
from satscore.counters.sim.power import CLOCK_LAG_S, VBOOST_MEMORY_CLOCK, dynamic_share, static_w, switching_w

_SAME_TIME_S = 1e-9
"""Ends closer than this are one: sums of floats must not make pieces of no length."""
_SETTLED_MHZ = 1e-3
_SAME_TEMP_C = 1e-6
"""A piece that ends at a threshold ends there but for rounding."""


class Totals(NamedTuple):
    """Cumulative counters since time 0; per kernel in the order of KERNELS."""

    time_s: float
    seconds: tuple[float, ...]
    """Time in each kernel, s."""
    cycles: tuple[float, ...]
    """SM cycles elapsed in each kernel, 1e6 cycles (MHz x s)."""
    energy_j: float
    power_capped_s: float
    """Time in which a power cap held the target below the ceiling, s."""
    heat_capped_s: float
    """Time in which the temperature held it below that, s."""
    temp_c: float
    """Temperature at ``time_s``, C (a gauge)."""


class SimGpu:
    """A GPU that runs one segment at a time; starts idle, at its ceiling, at rest temperature."""

    def __init__(self, limits: Limits) -> None:
        self.now_s = 0.0
        self._tick_s = limits.tick_s
        self._smoothing = -math.expm1(-limits.tick_s / CLOCK_LAG_S)
        kernels = kernels_at(limits.speed)
        self._static_w = [static_w(k, vboost=limits.vboost) for k in kernels]
        self._switching_w = [switching_w(k, limits.entropy) for k in kernels]
        self._unit_clock_mhz = RATED_CLOCK_MHZ / limits.speed
        """SM clock at which a second of work takes a second."""
        self._memory_rate = (VBOOST_MEMORY_CLOCK if limits.vboost else 1.0) * limits.speed
        self._targets = Targets(limits)
        self._may_heat = self._targets.may_heat
        self._level, self._level_s, self._level_end_s = 0, math.inf, math.inf
        if limits.module is not None and self._targets.levels > 1:
            self._level_s = self._level_end_s = limits.module.cpu.level_s
        self._cooling = limits.cooling
        self._temp_c = limits.cooling.rest_c(self._static_w[IDLE.row])
        self._is_hot = self._temp_c >= SLOW_C
        self._clock_mhz = self._targets.idle.clock_mhz
        self._tick = 0
        self._left_s = 0.0
        self.stop_s = math.inf
        """Time in s at which a segment ends even if work is left."""
        self._seconds = [0.0] * len(KERNELS)
        self._cycles = [0.0] * len(KERNELS)
        self._energy_j = self._power_capped_s = self._heat_capped_s = 0.0
        self.begin(Segment(IDLE, 0.0))

    def begin(self, segment: Segment) -> None:
        """Start a segment at the present time; the one before it must have ended."""
        self._kernel = segment.kernel.row
        self._by_clock = segment.pace is Pace.SM_CLOCK
        self._rate = self._memory_rate if segment.pace is Pace.MEMORY_CLOCK else 1.0
        self._left_s = segment.amount_s
        self._aim()
        self._follow_clock()

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
            self._energy_j + dt_s * self._power_w,
            self._power_capped_s + dt_s * self._target.by_power,
            self._heat_capped_s + dt_s * self._target.by_heat,
            temp_after_c(self._temp_c, self._cooling.rest_c(self._power_w), dt_s),
        )

    def _aim(self) -> None:
        """Take the target for the present kernel, cap and thermal state."""
        self._target = self._targets.of(self._kernel, self._level, hot=self._is_hot)
        self._target_mhz = self._target.clock_mhz

    def _follow_clock(self) -> None:
        """Take what depends on kernel and clock."""
        if self._by_clock:
            self._rate = self._clock_mhz / self._unit_clock_mhz
        k = self._kernel
        self._power_w = self._static_w[k] + self._switching_w[k] * dynamic_share(self._clock_mhz)

    def _piece_end_s(self) -> float:
        """Let the clock follow its target if a tick is due; return the end of the piece in s.

        Repeating the call at the same time changes nothing: reads may ask as often as they like.
        """
        now_s = self.now_s
        if now_s >= self._tick * self._tick_s - _SAME_TIME_S:
            self._tick += 1
            if self._clock_mhz != self._target_mhz:
                gap_mhz = (self._target_mhz - self._clock_mhz) * (1.0 - self._smoothing)
                self._clock_mhz = self._target_mhz - (gap_mhz if abs(gap_mhz) >= _SETTLED_MHZ else 0.0)
                self._follow_clock()
        end_s = now_s + self._left_s / self._rate
        end_s = min(end_s, self.stop_s)
        if end_s > self._level_end_s + _SAME_TIME_S:
            end_s = self._level_end_s
        if self._may_heat:
            threshold_c = RELEASE_C if self._is_hot else SLOW_C
            rest_c = self._cooling.rest_c(self._power_w)
            end_s = min(end_s, now_s + time_to_s(threshold_c, self._temp_c, rest_c))
        if self._clock_mhz == self._target_mhz:
            return end_s
        tick_end_s = self._tick * self._tick_s
        return end_s if end_s <= tick_end_s + _SAME_TIME_S else tick_end_s

    def _finish_piece(self, end_s: float) -> None:
        k, dt_s, power_w = self._kernel, end_s - self.now_s, self._power_w
        self._temp_c = temp_after_c(self._temp_c, self._cooling.rest_c(power_w), dt_s)
        self._seconds[k] += dt_s
        self._cycles[k] += dt_s * self._clock_mhz
        self._energy_j += dt_s * power_w
        if self._target.by_power:
            self._power_capped_s += dt_s
        elif self._target.by_heat:
            self._heat_capped_s += dt_s
        self.now_s = end_s
        left_s = self._left_s - dt_s * self._rate
        self._left_s = left_s if left_s > _SAME_TIME_S and end_s < self.stop_s else 0.0
        if end_s > self._tick * self._tick_s:
            # A settled clock needs no ticks: resume at the first one that is not in the past.
            self._tick = math.ceil((end_s - _SAME_TIME_S) / self._tick_s)
        if end_s >= self._level_end_s - _SAME_TIME_S:
            self._next_level(end_s)
        if self._may_heat:
            self._feel_heat()

    def _next_level(self, at_s: float) -> None:
        done = round(at_s / self._level_s)
        self._level = done % self._targets.levels
        self._level_end_s = (done + 1) * self._level_s
        self._aim()

    def _feel_heat(self) -> None:
        is_hot = self._temp_c >= SLOW_C - _SAME_TEMP_C or (self._is_hot and self._temp_c > RELEASE_C + _SAME_TEMP_C)
        if is_hot != self._is_hot:
            self._is_hot = is_hot
            self._aim()
