"""What the rules judge: points and shares of a run, derived from its sums.

A fact that cannot be known is None; a rule that needs it is 'not judged', which is said.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec

from satscore.core.bounds import PROFILES
from satscore.core.gpu import GpuInfo
from satscore.core.host import NOTHING_READ, HostFacts
from satscore.core.intervals import COMM_SMS_FRAC, THROTTLE_REASONS
from satscore.core.job_facts import JobFacts
from satscore.core.links import LinkFacts, links_of
from satscore.core.losses import PARTS
from satscore.core.sums import Sums, merge_all
from satscore.core.units import MIB, PPM, points
from satscore.core.window_rows import MILLI

HOT_MARGIN_C = 3.0
"""Closer than this to the temperature at which it slows itself down a GPU is hot (docs/method.md, "Findings")."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a scope (a GPU, a rank's GPUs, a job); ``_points`` are points of the score.

    ``loss_points`` has every part of the loss tree; together with ``score_points`` they add up to
    100 over complete windows. For several GPUs the parts of idle and coverage are those of the busiest
    rank, and ``transient`` and ``persistent`` hold what the others waited (docs/method.md, "Job tree").
    """

    score_points: float | None
    score_hpc_points: float | None
    score_by: dict[str, float]
    loss_points: dict[str, float]
    gamma: float | None
    """Burstiness of the engine-active share over read intervals: 0 even, 1 on/off."""
    engine: float | None
    sm: float | None
    active: dict[str, float | None]
    saturation: dict[str, float | None]
    comm_link: float | None
    """Share of its peak of the busiest link, in intervals of communication alone."""
    comm_nvlink: float | None
    """The same of NVLink."""
    comm_frac: float | None
    """Share of time in comm-like intervals, whether links moved or not."""
    occupancy: float | None
    clock_ratio_max: float | None
    sm_clock_mhz: float | None
    throttle: dict[str, float | None]
    """Share of time with clocks held down, by reason."""
    clock_iqr_mhz: float | None
    """Interquartile range of the SM clock over windows with work."""
    power_high: dict[str, float | None]
    """Share of time with power at 96.5 % or more of the limit, per scope."""
    power_frac: dict[str, float | None]
    power_limit_w: dict[str, float | None]
    bound_exceeded_frac: float | None
    """Share of complete time above 102 % of a bound."""
    ceiling_exceeded_frac: float | None
    """Share of complete time more than 3 % above the attainable rate."""
    temp_max_c: float | None
    power_cpu_w: float | None = None
    """Mean power of the CPU on the same module."""
    memory_used_frac: float | None = None
    """Most memory in use over the GPU's, of the fullest GPU."""
    vboost_level: int | None = None
    temp_margin_c: float | None = None
    """How far the temperature stayed below the one at which the GPU slows itself down; None: not read."""
    links: LinkFacts = LinkFacts()
    """Over the whole run: what a link is does not depend on the phase."""
    host: HostFacts = NOTHING_READ
    job: JobFacts = JobFacts()


def facts_of(per_gpu: Sequence[Sums], profile: str) -> Facts:
    """Return the facts of a scope from the sums of its GPUs."""
    return facts_from(merge_all(per_gpu), burstiness([burst_terms(sums) for sums in per_gpu]), profile)


def facts_from(sums: Sums, gamma: float | None, profile: str) -> Facts:
    """Return the facts of a scope from the sums over all its GPUs, and its burstiness."""
    complete = sums.total(f"complete_us:{profile}")
    comm = sums.mean("comm")
    return Facts(
        score_points=profile_points(sums, profile),
        score_hpc_points=profile_points(sums, "hpc"),
        score_by={r: _points_of(sums, f"by:{r}", complete) for r in PROFILES[profile]},
        loss_points={part: _points_of(sums, f"loss:{part}", complete) for part in PARTS},
        gamma=gamma,
        engine=sums.mean("engine"),
        sm=sums.mean("sm"),
        active={r: sums.mean(f"x_{r}") for r in PROFILES["hpc"]},
        saturation={r: sums.mean(f"u_{r}") for r in PROFILES["hpc"]},
        comm_link=_ratio(sums.mean("comm_link"), comm),
        comm_nvlink=_ratio(sums.mean("comm_nvlink"), comm),
        comm_frac=_sum_of(sums, ("comm", "wait", "comm_or_wait")),
        occupancy=sums.mean("occupancy"),
        bound_exceeded_frac=sums.total("exceeds_bound_us") / complete if complete else None,
        ceiling_exceeded_frac=sums.total("exceeds_ceiling_us") / complete if complete else None,
        temp_max_c=sums.maxima["temp_gpu_c"] / MILLI if "temp_gpu_c" in sums.maxima else None,
        power_cpu_w=sums.mean("power_cpu_w"),
        clock_ratio_max=sums.mean("clock_ratio_max"),
        sm_clock_mhz=sums.mean("sm_clock_mhz"),
        throttle={reason: sums.mean(f"throttle_{reason}") for reason in THROTTLE_REASONS},
        clock_iqr_mhz=_clock_iqr_mhz(sums),
        power_high={s: _share(sums, f"power_high_us:{s}", f"known_us:power_frac_{s}") for s in ("gpu", "module")},
        power_frac={s: sums.mean(f"power_frac_{s}") for s in ("gpu", "module")},
        power_limit_w={s: sums.mean(f"power_limit_{s}_w") for s in ("gpu", "module")},
    )


def with_gpu(facts: Facts, info: GpuInfo, whole: Sums) -> Facts:
    """Return the facts of one GPU with those that need what it says of itself.

    Args:
        facts: Over the phases that are judged.
        info: Of the GPU.
        whole: Its sums over the whole run.
    """
    used_mib, memory_bytes = whole.maxima.get("memory_used_mib"), info.memory_total_bytes
    return msgspec.structs.replace(
        facts,
        memory_used_frac=None if used_mib is None or not memory_bytes else used_mib / MILLI * MIB / memory_bytes,
        vboost_level=info.vboost_level,
        temp_margin_c=temp_margin_c(info, facts.temp_max_c),
        links=links_of(info, whole.pcie_us, whole.nvlink_us, whole.counts, whole.read_us),
    )


def temp_margin_c(info: GpuInfo, temp_max_c: float | None) -> float | None:
    """Return how far a GPU's highest temperature stayed below the one at which it slows itself down, C."""
    if info.temp_slowdown_c is None or temp_max_c is None:
        return None
    return info.temp_slowdown_c - temp_max_c


def profile_points(sums: Sums, profile: str) -> float | None:
    """Return the mean of a profile's window values over complete windows, in points."""
    complete = sums.total(f"complete_us:{profile}")
    return _points_of(sums, f"sat:{profile}", complete) if complete else None


def nearest_cap(power_frac: Mapping[str, float | None]) -> tuple[str | None, float | None]:
    """Return the scope whose power is nearest to its limit, and that share; None, None where none is known."""
    known = {scope: share for scope, share in power_frac.items() if share is not None}
    scope = max(known, key=lambda s: known[s], default=None)
    return scope, known[scope] if scope else None


def _points_of(sums: Sums, name: str, time_us: int) -> float:
    return points(sums.total(name) / PPM / time_us) if time_us else 0.0


def _share(sums: Sums, part: str, whole: str) -> float | None:
    return sums.total(part) / sums.total(whole) if sums.total(whole) else None


def burst_terms(sums: Sums) -> tuple[float, float]:
    """Return the variance of one GPU's engine-active share over read intervals, and the largest that it could have.

    Both times the known time in us, so that those of several GPUs add.
    """
    mean, squared = sums.mean("engine"), sums.mean("engine_squared")
    if mean is None or squared is None:
        return 0.0, 0.0
    weight = sums.total("known_us:engine")
    return weight * max(0.0, squared - mean * mean), weight * mean * (1.0 - mean)


def burstiness(terms: Sequence[tuple[float, float]]) -> float | None:
    """Return gamma = Var(g) / (mean g (1 - mean g)) over read intervals, pooled within GPUs.

    0 for gaps shorter than an interval, 1 for on/off (docs/method.md, "Findings"). Differences *between*
    GPUs are not burstiness, so variances are taken per GPU (``burst_terms``) and then added.
    """
    variance, chance = math.fsum(v for v, _ in terms), math.fsum(c for _, c in terms)
    return min(1.0, variance / chance) if chance > 0 else None


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _sum_of(sums: Sums, quantities: Sequence[str]) -> float | None:
    known = [value for q in quantities if (value := sums.mean(q)) is not None]
    return sum(known) if known else None


def _clock_iqr_mhz(sums: Sums) -> float | None:
    """Return the interquartile range of the SM clock over windows with work, exact to a bin."""
    whole_us = sum(sums.clock_us.values())
    if whole_us == 0:
        return None
    edges, passed_us = sorted(sums.clock_us), 0
    quartiles = list[int]()
    for edge in edges:
        passed_us += sums.clock_us[edge]
        while len(quartiles) < 2 and passed_us * 4 >= whole_us * (1, 3)[len(quartiles)]:
            quartiles.append(edge)
    return float(quartiles[1] - quartiles[0])


def comm_share_estimate(engine: float, sm: float) -> float:
    """Return the largest share of active time that could be communication, 0..1.

    e = (1 - s/g) / (1 - s_c) with s_c = 16/132 (docs/method.md, "Loss tree").
    """
    if engine <= 0:
        return 0.0
    estimate = (1.0 - sm / engine) / (1.0 - COMM_SMS_FRAC)
    return min(1.0, max(0.0, estimate))


def tensor_flops_s(saturation_frac: float, peak_flops_s: float) -> float:
    """Return FLOP/s of a tensor fraction for one dtype's dense peak; the dtype must be stated."""
    return saturation_frac * peak_flops_s
