"""What the rules judge: points and shares of a run, derived from its sums.

A fact that cannot be known is None; a rule that needs it is 'not judged', which is said.
"""

from collections.abc import Mapping, Sequence

import msgspec

from satscore.core.bounds import PROFILES
from satscore.core.losses import PARTS
from satscore.core.sums import Sums, merge_all
from satscore.core.units import PPM, points

SINGLE_CTA_COMM_SMS = 16
"""SMs that a communication kernel is taken to occupy (docs/method.md, "Loss tree")."""
H100_SMS = 132


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a scope (a GPU, a rank's GPUs, a job); ``_points`` are points of the score.

    ``loss_points`` has every part of the loss tree; together with ``score_points`` they add up to
    100 over complete windows.
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
    clock_ratio_max: float | None
    sm_clock_mhz: float | None
    throttle_power: float | None
    power_high: dict[str, float | None]
    """Share of time with power at 96.5 % or more of the limit, per scope."""
    power_frac: dict[str, float | None]
    power_limit_w: dict[str, float | None]
    shared_frac: float | None = None
    """Share of the time judged with processes of others there, of the GPU with the largest; None: not known."""
    foreign_processes: int = 0
    """The most of them at a look."""


def facts_of(per_gpu: Sequence[Sums], profile: str) -> Facts:
    """Return the facts of a scope from the sums of its GPUs."""
    sums = merge_all(per_gpu)
    complete = sums.total(f"complete_us:{profile}")
    comm, comm_link = sums.mean("comm"), sums.mean("comm_link")
    return Facts(
        score_points=profile_points(sums, profile),
        score_hpc_points=profile_points(sums, "hpc"),
        score_by={r: _points_of(sums, f"by:{r}", complete) for r in PROFILES[profile]},
        loss_points={part: _points_of(sums, f"loss:{part}", complete) for part in PARTS},
        gamma=burstiness(per_gpu),
        engine=sums.mean("engine"),
        sm=sums.mean("sm"),
        active={r: sums.mean(f"x_{r}") for r in PROFILES["hpc"]},
        saturation={r: sums.mean(f"u_{r}") for r in PROFILES["hpc"]},
        comm_link=comm_link / comm if comm and comm_link is not None else None,
        clock_ratio_max=sums.mean("clock_ratio_max"),
        sm_clock_mhz=sums.mean("sm_clock_mhz"),
        throttle_power=sums.mean("throttle_power"),
        power_high={s: _share(sums, f"power_high_us:{s}", f"known_us:power_frac_{s}") for s in ("gpu", "module")},
        power_frac={s: sums.mean(f"power_frac_{s}") for s in ("gpu", "module")},
        power_limit_w={s: sums.mean(f"power_limit_{s}_w") for s in ("gpu", "module")},
    )


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


def burstiness(per_gpu: Sequence[Sums]) -> float | None:
    """Return gamma = Var(g) / (mean g (1 - mean g)) over read intervals, pooled within GPUs.

    0 for gaps shorter than an interval, 1 for on/off (docs/method.md, "Findings"). Differences *between*
    GPUs are not burstiness, so variances are taken per GPU and then weighted by time.
    """
    variance = chance = 0.0
    for sums in per_gpu:
        mean, squared = sums.mean("engine"), sums.mean("engine_squared")
        if mean is None or squared is None:
            continue
        weight = sums.total("known_us:engine")
        variance += weight * max(0.0, squared - mean * mean)
        chance += weight * mean * (1.0 - mean)
    return min(1.0, variance / chance) if chance > 0 else None


def comm_share_estimate(engine: float, sm: float) -> float:
    """Return the largest share of active time that could be communication, 0..1.

    e = (1 - s/g) / (1 - s_c) with s_c = 16/132 (docs/method.md, "Loss tree").
    """
    if engine <= 0:
        return 0.0
    estimate = (1.0 - sm / engine) / (1.0 - SINGLE_CTA_COMM_SMS / H100_SMS)
    return min(1.0, max(0.0, estimate))


def tensor_flops_s(saturation_frac: float, peak_flops_s: float) -> float:
    """Return FLOP/s of a tensor fraction for one dtype's dense peak; the dtype must be stated."""
    return saturation_frac * peak_flops_s
