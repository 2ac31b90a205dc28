"""Random runs for the oracle: what GPUs do, read badly. Every value is one that float32 holds, as in a recording."""

import random
import struct
from dataclasses import dataclass

from tests.oracle.hardware import EVERY, PIPES, Hardware
from tests.oracle.method import NS, REASONS, Interval, Values

FRACTIONS = [
    "engine_active_frac",
    "sm_active_frac",
    "sm_occupancy_frac",
    "tensor_active_frac",
    "fp64_active_frac",
    "fp32_active_frac",
    "fp16_active_frac",
    "dram_active_frac",
    "gpu_util_frac",
]
LINKS = ["nvlink", "pcie", "c2c"]
EDGES = [0.0, 0.02, 0.05, 0.25, 0.35, 0.8, 1.0]
"""The thresholds of the comm-like and the long-idle test, hit exactly now and then."""


def stored(value: float) -> float:
    """Return the value as a recording holds it."""
    result: float = struct.unpack("f", struct.pack("f", value))[0]
    return result


@dataclass(frozen=True)
class Plan:
    """How a run is read."""

    count: int = 100
    period_s: float = 0.2
    jitter: float = 0.1
    """Standard deviation of the length of an interval over the period."""
    gap: float = 0.02
    """Chance that no interval is read for a while."""
    blank: float = 0.03
    """Chance that a counter of an interval is blank."""
    never: float = 0.0
    """Chance that a counter is never read at all."""
    start_ns: int = 123_456_789


def run_of(rng: random.Random, plan: Plan) -> list[Interval]:
    """Return a run: spells of one kind of work, of a second or so each."""
    out, now_ns, kind, clock = [], plan.start_ns, "gemm", 1980.0
    lost = {name for name in values_of(rng, kind, clock) if rng.random() < plan.never}
    for _ in range(plan.count):
        if rng.random() < min(0.5, plan.period_s / 1.5):
            kind, clock = rng.choice(list(KINDS)), rng.choice([1980.0, 1830.0, rng.uniform(300, 1980)])
        if rng.random() < plan.gap:
            now_ns += round(rng.expovariate(1 / (2 * plan.period_s)) * NS)
        length_ns = max(105_000_000, round(rng.gauss(1, plan.jitter) * plan.period_s * NS))
        values = values_of(rng, kind, clock + rng.gauss(0, 5))
        for name in values:
            if name in lost or rng.random() < plan.blank:
                values[name] = None
        out.append(Interval(now_ns, now_ns + length_ns, values))
        now_ns += length_ns
    return out


def anything(rng: random.Random) -> dict[str, float]:
    return {name: rng.choice([rng.random(), rng.random() ** 4, rng.choice(EDGES)]) for name in FRACTIONS}


def gemm(rng: random.Random) -> dict[str, float]:
    return {"sm_active_frac": 0.97, "tensor_active_frac": rng.uniform(0.5, 1.0), "dram_active_frac": 0.2}


def copy(rng: random.Random) -> dict[str, float]:
    return {"sm_active_frac": 0.98, "dram_active_frac": rng.uniform(0.7, 1.05), "fp32_active_frac": 0.03}


def vector(rng: random.Random) -> dict[str, float]:
    return {"sm_active_frac": 0.99, "fp32_active_frac": 0.9, "fp64_active_frac": rng.random(), "fp16_active_frac": 0.4}


def few_sms(rng: random.Random) -> dict[str, float]:
    return {"sm_active_frac": rng.uniform(0.01, 0.4), "dram_active_frac": rng.uniform(0, 0.3)}


def idle(rng: random.Random) -> dict[str, float]:
    return {"engine_active_frac": rng.choice([0.0, 0.0, 0.04, 0.05, 0.1])}


KINDS = {each.__name__: each for each in (anything, gemm, copy, vector, few_sms, idle)}


def values_of(rng: random.Random, kind: str, clock_mhz: float) -> Values:
    """Return every counter of an interval of one kind of work."""
    shares = dict.fromkeys(FRACTIONS, 0.0) | {"engine_active_frac": 1.0} | KINDS[kind](rng)
    links = {f"{name}_{way}_bytes_s": rng.choice([0.0, rng.uniform(0, 6e10)]) for name in LINKS for way in ("tx", "rx")}
    power = rng.uniform(90, 720)
    state = {
        "sm_clock_mhz": clock_mhz,
        "mem_clock_mhz": rng.choice([2619.0, 3201.0]),
        "power_gpu_w": power,
        "power_module_w": power * rng.uniform(1, 1.3),
        "power_limit_gpu_w": rng.choice([0.0, 700.0, 700.0]),
        "power_limit_module_w": 680.0,
        **{f"throttle_{reason}_frac": rng.choice([0.0, 0.0, 1.0, rng.random()]) for reason in REASONS},
    }
    return {name: stored(value) for name, value in (shares | links | state).items()}


def any_hardware(rng: random.Random) -> Hardware:
    """Return a GPU that nobody builds: gains, clock cap and ceilings of any size."""
    return Hardware(
        rated_mhz={pipe: rng.uniform(1200, 2000) for pipe in PIPES},
        gain={resource: rng.uniform(0.85, 1.1) for resource in EVERY},
        dram_bytes_s_per_mhz=6144 / 8 * 2 * 1e6,
        dram_peak_bytes_s=rng.uniform(3.5e12, 6e12),
        best={resource: rng.uniform(0.6, 1.0) for resource in EVERY},
        best_active={resource: rng.uniform(0.7, 1.0) for resource in EVERY},
        link_bytes_s={name: rng.uniform(3e10, 5e11) for name in rng.sample(LINKS, rng.randint(0, 3))},
        clock_max_mhz=1980.0,
        tensor_cap_mhz=rng.choice([None, 1500.0, 1830.0]),
        module_cap_w=rng.choice([None, 500.0, 800.0]),
    )
