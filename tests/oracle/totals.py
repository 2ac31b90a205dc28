"""The oracle's run: loss trees of windows, and what they add up to in microseconds and parts per million."""

import math
from collections import Counter
from dataclasses import dataclass, field

from tests.oracle.hardware import Hardware
from tests.oracle.method import (
    NS,
    PROFILES,
    REASONS,
    Interval,
    Physics,
    Verdict,
    Window,
    judge,
    may_have_been,
    time_mean,
    windows,
)

MILLION = 1_000_000
FLOAT_NOISE = 1e-8
"""Two correct orders of adding floats differ by less than this, in parts per million."""


@dataclass
class Rounding:
    """Rounds to parts per million and remembers whether the last digit of a float could decide."""

    in_doubt: bool = False

    def ppm(self, value: float) -> int:
        scaled = value * MILLION
        self.in_doubt |= abs(scaled - math.floor(scaled) - 0.5) < FLOAT_NOISE
        return round(scaled)

    def floor(self, value: float) -> int:
        self.in_doubt |= value != round(value) and abs(value - round(value)) < FLOAT_NOISE
        return math.floor(value)


def loss_tree(window: Window, physics: Physics, verdict: Verdict, *, attainable: bool, r: Rounding) -> Counter[str]:
    """Return the parts of a window in parts per million; with V4 they add up to a million."""
    g, s = window.known(physics.get("engine_active_frac")), window.known(physics.compute_sm)
    top = verdict.attainable if attainable else verdict.sat
    active = verdict.attainable_active if attainable else verdict.active
    v4 = r.ppm(top)
    v3 = max(v4, r.ppm(min(1.0, active)))
    v2 = v3 if s is None else max(v3, r.ppm(min(1.0, s)))
    v1 = v2 if g is None else max(v2, r.ppm(min(1.0, g)))
    out: Counter[str] = Counter()
    if g is None and s is None:
        out["idle|coverage|issue"] = MILLION - v3
    elif g is None:
        out["idle|coverage"] = MILLION - v2
    elif s is None:
        out["coverage|issue"] = v1 - v3
    if g is not None:
        out += split_idle(MILLION - v1, window, physics, r)
        if s is not None:
            out += split_coverage(v1 - v2, window, physics, r)
    if s is not None:
        other = 0 if attainable else min(v2 - v3, r.ppm(verdict.upper - verdict.sat))
        out["issue_other"], out["issue_stall"] = other, v2 - v3 - other
    return out + split_clock(v3 - v4, window, physics, r)


def split_idle(part: int, window: Window, physics: Physics, r: Rounding) -> Counter[str]:
    long = window.known(physics.long_idle)
    long_ppm = min(part, r.ppm(long or 0.0))
    return Counter(idle_long=long_ppm, idle_short=part - long_ppm)


def split_coverage(part: int, window: Window, physics: Physics, r: Rounding) -> Counter[str]:
    out, left = Counter(), part
    for kind in ("comm", "wait", "comm_or_wait"):
        out[kind] = min(left, r.ppm(window.known(physics.comm(kind)) or 0.0))
        left -= out[kind]
    out["grid"] = left
    return out


def split_clock(part: int, window: Window, physics: Physics, r: Rounding) -> Counter[str]:
    tau = {k: window.known(physics.get(f"throttle_{k}_frac")) for k in REASONS}
    shares = {k: min(1.0, max(0.0, value or 0.0)) for k, value in tau.items()}
    whole = max(1.0, sum(shares.values()))
    out = Counter({f"clock_{k}": r.floor(part * shares[k] / whole) for k in REASONS})
    unreadable = tau["power"] is None or tau["thermal"] is None
    out["clock_unknown" if unreadable else "clock_other"] = part - sum(out.values())
    return out


@dataclass
class Totals:
    """What a run adds up to: microseconds, and microseconds times parts per million."""

    us: Counter[str] = field(default_factory=Counter)
    windows: list[Window] = field(default_factory=list)
    doubt_us: int = 0
    bounds_doubt_us: int = 0
    """Time of windows with a rounding in doubt, of scores and parts, and of S_min and S_max."""
    exact: float = 0.0
    """The same score without any rounding, in points times ns."""


def run(intervals: list[Interval], hardware: Hardware, profile: str, offset_ns: int = 0) -> Totals:
    """Score a run of one GPU."""
    physics, out = Physics(hardware), Totals()
    out.windows = windows(intervals, offset_ns)
    for window in out.windows:
        length_us, rounding, of_bounds = window.length_ns // 1000, Rounding(), Rounding()
        out.us["time"] += length_us
        out.us["windows"] += length_us > 0
        for name in PROFILES:
            verdict = judge(window, physics, name)
            low, high = may_have_been(window, physics, name)
            out.us[f"lo:{name}"] += length_us * of_bounds.ppm(low)
            out.us[f"hi:{name}"] += length_us * of_bounds.ppm(high)
            if verdict is None:
                continue
            out.us[f"complete:{name}"] += length_us
            out.us[f"sat:{name}"] += length_us * rounding.ppm(verdict.sat)
            out.us[f"sat_hi:{name}"] += length_us * rounding.ppm(verdict.upper)
            if name == profile:
                out.exact += 100 * verdict.sat * window.length_ns
                add_headline(out.us, length_us, window, physics, verdict, rounding)
        for scope in ("gpu", "module"):
            share, known_ns = window.mean(physics.power_share(scope))
            high = window.known(physics.power_share(scope)) is not None and share >= 0.965
            out.us[f"power_high:{scope}"] += known_ns * high
            out.us[f"power_known:{scope}"] += known_ns
        out.doubt_us += length_us * rounding.in_doubt
        out.bounds_doubt_us += length_us * of_bounds.in_doubt
    return out


def add_headline(us: Counter[str], length_us: int, window: Window, physics: Physics, v: Verdict, r: Rounding) -> None:
    us["attainable"] += length_us * r.ppm(v.attainable)
    us[f"by:{v.limiting}"] += length_us * r.ppm(v.sat)
    us["exceeds_bound"] += length_us * v.exceeds_bound
    us["exceeds_ceiling"] += length_us * v.exceeds_ceiling
    for tree, attainable in (("loss", False), ("loss_attainable", True)):
        for part, amount in loss_tree(window, physics, v, attainable=attainable, r=r).items():
            us[f"{tree}:{part}"] += length_us * amount


def grade(coverage: float, *, other_state: bool) -> str | None:
    """Return the grade of docs/method.md, "Missing data", of a run with pipe counters and shipped ceilings."""
    if coverage < 0.5:
        return None
    return "C" if coverage < 0.95 or other_state else "B"


def burstiness(totals: Totals) -> tuple[float, float]:
    """Return Var(g) and mean g (1 - mean g) over read intervals, both 0 where g was never known."""
    mean = time_mean(totals.windows, lambda v: v.get("engine_active_frac"))
    squared = time_mean(totals.windows, lambda v: None if (g := v.get("engine_active_frac")) is None else g * g)
    return (squared - mean * mean, mean * (1 - mean)) if mean is not None and squared is not None else (0.0, 0.0)


def energy_j(totals: Totals, scope: str) -> tuple[float | None, bool]:
    """Return mean power x time, None where power was unknown for more than 5 % of it; and whether a us decides that."""
    name = f"power_{scope}_w"
    power = time_mean(totals.windows, lambda v: v.get(name))
    known_ns = sum(window.mean(lambda v: v.get(name))[1] for window in totals.windows)
    scope_ns = sum(window.length_ns for window in totals.windows)
    missing = 0.95 * scope_ns - known_ns
    energy = None if power is None or missing > 0 else power * scope_ns / NS
    return energy, abs(missing) < 1e-5 * scope_ns
