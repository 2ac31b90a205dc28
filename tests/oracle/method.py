"""docs/method.md, formula by formula, one window and one number at a time. Slow on purpose.

Where the document rounds ("Sums": whole microseconds, whole parts per million), so does this.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.oracle.hardware import Hardware

NS = 1_000_000_000
ACTIVE = {
    "tensor": "tensor_active_frac",
    "fp64": "fp64_active_frac",
    "fp32": "fp32_active_frac",
    "fp16": "fp16_active_frac",
    "dram": "dram_active_frac",
}
PROFILES = {
    "train": ["tensor", "dram"],
    "hpc": ["tensor", "fp64", "fp32", "fp16", "dram"],
    "tensor": ["tensor"],
    "dram": ["dram"],
}
REASONS = ["power", "thermal", "hw", "board", "sync_boost", "app_clocks"]
SCOPES = ["gpu", "module"]

Values = dict[str, float | None]
Quantity = Callable[[Values], float | None]


@dataclass
class Interval:
    """One read interval; a field that is not there or None is unknown."""

    start_ns: int
    end_ns: int
    values: Values


@dataclass
class Window:
    """A window and its share of each interval: (values, length in ns)."""

    length_ns: int
    pieces: list[tuple[Values, int]] = field(default_factory=list)

    def mean(self, quantity: Quantity) -> tuple[float, int]:
        """Return the mean over the known time (0 if there is none) and that time in ns."""
        weighted, known_ns = 0.0, 0
        for values, ns in self.pieces:
            value = quantity(values)
            if value is not None:
                weighted += value * ns
                known_ns += ns
        return (weighted / known_ns if known_ns else 0.0), known_ns

    def known(self, quantity: Quantity) -> float | None:
        """Return the mean, or None where it is known for less than 80 % of the window."""
        value, known_ns = self.mean(quantity)
        return value if known_ns > 0 and known_ns * 10 >= self.length_ns * 8 else None


def windows(intervals: list[Interval], offset_ns: int) -> list[Window]:
    """Lay intervals on the grid of whole seconds of wall time, clipped to the first and last read."""
    first_ns, last_ns = intervals[0].start_ns, intervals[-1].end_ns
    out = {}
    index = (first_ns + offset_ns) // NS
    while index * NS - offset_ns < last_ns:
        begin, end = max(index * NS - offset_ns, first_ns), min((index + 1) * NS - offset_ns, last_ns)
        out[index] = Window(end - begin)
        index += 1
    for each in intervals:
        for index in range((each.start_ns + offset_ns) // NS, (each.end_ns + offset_ns - 1) // NS + 1):
            begin, end = max(each.start_ns, index * NS - offset_ns), min(each.end_ns, (index + 1) * NS - offset_ns)
            out[index].pieces.append((each.values, end - begin))
    return list(out.values())


def product(*factors: float | None) -> float | None:
    """Return the product; unknown if any factor is."""
    result = 1.0
    for factor in factors:
        if factor is None:
            return None
        result *= factor
    return result


class Physics:
    """The quantities of an interval that are formed before any averaging."""

    def __init__(self, hardware: Hardware) -> None:
        self.hw = hardware

    def get(self, name: str) -> Quantity:
        return lambda v: v.get(name)

    def clock(self, v: Values, pipe: str) -> float | None:
        """Return the clock at which a pipe runs."""
        clock, cap = v.get("sm_clock_mhz"), self.hw.tensor_cap_mhz
        return min(clock, cap) if clock is not None and pipe == "tensor" and cap is not None else clock

    def u(self, resource: str) -> Quantity:
        """u_p, or u_M for DRAM: the fraction of the datasheet peak."""
        if resource == "dram":
            scale = self.hw.dram_bytes_s_per_mhz / (self.hw.gain["dram"] * self.hw.dram_peak_bytes_s)
            return lambda v: product(v.get("dram_active_frac"), v.get("mem_clock_mhz"), scale)
        per_mhz = 1 / (self.hw.gain[resource] * self.hw.rated_mhz[resource])
        return lambda v: product(v.get(ACTIVE[resource]), self.clock(v, resource), per_mhz)

    def most(self, resource: str, v: Values) -> float:
        """What a resource may have done in an interval in which its counter was unknown."""
        if resource == "dram":
            return 1.0
        per_mhz = 1 / (self.hw.gain[resource] * self.hw.rated_mhz[resource])
        limit = product(v.get("sm_active_frac"), self.clock(v, resource), per_mhz)
        return 1.0 if limit is None else limit

    def clock_ratio(self, v: Values) -> float | None:
        return product(self.clock(v, "tensor"), 1 / self.hw.rated_mhz["tensor"])

    def comm_like(self, v: Values) -> bool:
        g, s, d = v.get("engine_active_frac"), v.get("sm_active_frac"), v.get("dram_active_frac")
        t, vector = v.get("tensor_active_frac"), v.get("fp32_active_frac")
        if g is None or s is None or d is None or t is None or vector is None:
            return False
        return g >= 0.8 and 0.02 <= s <= 0.35 and t < 0.05 and vector < 0.05 and d < 0.25

    def compute_sm(self, v: Values) -> float | None:
        s = v.get("sm_active_frac")
        return s if s is None or not self.comm_like(v) else 0.0

    def link(self, name: str, way: str) -> Quantity:
        """Return the share of its peak of one link in one direction."""
        return lambda v: product(v.get(f"{name}_{way}_bytes_s"), 1 / self.hw.link_bytes_s[name])

    def links(self, v: Values) -> list[float | None]:
        """Return the share of its peak of every link and direction that the GPU has."""
        return [self.link(name, way)(v) for name in self.hw.link_bytes_s for way in ("tx", "rx")]

    def comm_kind(self, v: Values) -> str | None:
        """Return what a comm-like interval is: comm, wait or comm_or_wait; None for any other."""
        if not self.comm_like(v):
            return None
        shares = self.links(v)
        if any(share is not None and share >= 0.05 for share in shares):
            return "comm"
        return "comm_or_wait" if not shares or any(share is None for share in shares) else "wait"

    def comm(self, kind: str) -> Quantity:
        def engine_while(v: Values) -> float | None:
            g = v.get("engine_active_frac")
            return g if g is None or self.comm_kind(v) == kind else 0.0

        return engine_while

    def comm_link(self, v: Values) -> float | None:
        """Return the share of the busiest link during communication, weighted by the time of it."""
        busiest = max((share for share in self.links(v) if share is not None), default=0.0)
        return product(self.comm("comm")(v), busiest)

    def long_idle(self, v: Values) -> float | None:
        g = v.get("engine_active_frac")
        return None if g is None else (1 - g if g < 0.05 else 0.0)

    def power_share(self, scope: str) -> Quantity:
        def share(v: Values) -> float | None:
            power, limit = v.get(f"power_{scope}_w"), v.get(f"power_limit_{scope}_w")
            if scope == "module" and self.hw.module_cap_w is not None:
                limit = self.hw.module_cap_w if limit is None else min(limit, self.hw.module_cap_w)
            return None if power is None or not limit else power / limit

        return share


@dataclass
class Verdict:
    """U_w and what belongs to it, of one complete window."""

    sat: float
    upper: float
    limiting: str
    active: float
    attainable: float
    attainable_active: float
    exceeds_bound: bool
    exceeds_ceiling: bool


def judge(window: Window, physics: Physics, profile: str) -> Verdict | None:
    """Return the verdict of a window; None where it is not complete."""
    hw, names = physics.hw, PROFILES[profile]
    raw = {r: window.known(physics.u(r)) for r in names}
    if any(value is None for value in raw.values()):
        return None
    u = {r: min(1.0, value) for r, value in raw.items() if value is not None}
    ratio = {r: u[r] / hw.best[r] for r in names}
    first = max(names, key=lambda r: u[r])
    nearest = max(names, key=lambda r: ratio[r])
    return Verdict(
        sat=u[first],
        upper=upper(window, physics, u),
        limiting=first,
        active=window.mean(physics.get(ACTIVE[first]))[0],
        attainable=min(1.0, ratio[nearest]),
        attainable_active=window.mean(physics.get(ACTIVE[nearest]))[0] / hw.best_active[nearest],
        exceeds_bound=any(value is not None and value > 1.02 for value in raw.values()),
        exceeds_ceiling=any(value > 1.03 for value in ratio.values()),
    )


def upper(window: Window, physics: Physics, u: dict[str, float]) -> float:
    """U+_w: one resource is its own bound, tensor and DRAM have the bracket, more have their sum."""
    if len(u) == 1:
        return next(iter(u.values()))
    engine = window.known(physics.get("engine_active_frac"))
    v1 = 1.0 if engine is None else min(1.0, max(engine, *u.values()))
    if set(u) != {"tensor", "dram"}:
        return min(sum(u.values()), v1)
    ratio = window.known(physics.clock_ratio)
    top_t = physics.hw.best_active["tensor"] * (1.0 if ratio is None else ratio)
    return bracket(u["tensor"], u["dram"], v1, top_t, physics.hw.best["dram"])


def bracket(u_t: float, u_m: float, v1: float, top_t: float, top_m: float) -> float:
    """Maximise q + min(u_M, a_M (V1 - q / a_T)) over 0 <= q <= u_T by looking at every corner."""
    if v1 == 0:
        return 0.0
    a_t, a_m = max(top_t, u_t / v1), max(top_m, u_m / v1)

    def value(q: float) -> float:
        left = v1 - q / a_t if q else v1
        return q + min(u_m, a_m * left)

    corners = [0.0, u_t]
    if a_m > 0:
        corner = a_t * (v1 - u_m / a_m)
        corners += [corner] if 0 < corner < u_t else []
    return max(u_t, u_m, min(v1, max(value(q) for q in corners)))


def may_have_been(window: Window, physics: Physics, profile: str) -> tuple[float, float]:
    """Return the bounds of U_w whatever the unknown counters were: the unknown part holds 0, or its limit."""
    low = high = 0.0
    for resource in PROFILES[profile]:
        u, done, room, seen_ns = physics.u(resource), 0.0, 0.0, 0
        for values, ns in window.pieces:
            seen_ns += ns
            value = u(values)
            if value is None:
                room += physics.most(resource, values) * ns
            else:
                done += value * ns
        room += window.length_ns - seen_ns
        low = max(low, done / window.length_ns)
        high = max(high, (done + room) / window.length_ns)
    verdict = judge(window, physics, profile)
    if verdict is not None:
        low, high = min(low, verdict.sat), max(high, verdict.sat)
    return min(1.0, low), min(1.0, high)


def time_mean(all_windows: Iterable[Window], quantity: Quantity) -> float | None:
    """Return the mean over all time in which a quantity is known; None if never."""
    weighted, known_ns = 0.0, 0
    for window in all_windows:
        value, ns = window.mean(quantity)
        weighted += value * ns
        known_ns += ns
    return weighted / known_ns if known_ns else None
