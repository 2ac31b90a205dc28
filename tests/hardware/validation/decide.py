"""The open questions of the scoring model, answered from measured numbers. Pure functions."""

import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec

R1_TOLERANCE_FRAC = 0.025
"""The two answers to R1 are 8.2 % apart at 1980 MHz; a reading within 2.5 % of one is not the other."""
R1_MIN_CLOCK_RATIO = 1.05
"""Below this clock over the rated one the answers are too close to tell apart."""
GAIN_TOLERANCE_FRAC = 0.03
GAIN_MIN_SHARE = 0.2
"""A load below this share of its peak says little about the reading at the peak."""
ENGINE_TOLERANCE = 0.05


class GemmReading(msgspec.Struct, frozen=True, kw_only=True):
    """One steady matrix-product load: what was counted and what was read."""

    flops_share: float
    """Counted FLOP/s over the datasheet peak of the dtype, 1 = the peak."""
    tensor_active_frac: float
    """x_T, mean."""
    sm_clock_mhz: float
    """f, mean."""
    rated_clock_mhz: float = 1830.0
    """Clock at which the peak is quoted."""


class R1Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether tensor work follows the SM clock above the rated clock."""

    verdict: Literal["no_clock_cap", "tensor_clock_cap", "undecided"]
    tensor_clock_cap_mhz: float | None
    reason: str
    numbers: dict[str, float]


def decide_r1(random: GemmReading | None, zeros: GemmReading | None) -> R1Verdict:
    """Decide R1 from the same product on random data and on zeros (check V0).

    Zeros take little power, so their clock stays above the rated one. Without a cap the pipe works at
    the SM clock, and x_T reads share x f_ref / f there (about 0.835 for 894 TFLOP/s at 1980 MHz, as for
    random data). With a cap it works at the rated clock, x_T reads the share itself (about 0.904), and
    x_T f / f_ref overstates (T = 97.8). Random data, near or below the rated clock, must agree with
    either answer, or the counter has a gain of its own and nothing is decided.

    Args:
        random: The load on random data; None if it could not be measured.
        zeros: The load on zeros; None if it could not be measured.
    """
    if random is None or zeros is None:
        missing = " and ".join(n for n, r in (("random", random), ("zeros", zeros)) if r is None)
        return _undecided(f"not measured: {missing}", {})
    numbers = _r1_numbers(random, zeros)
    ratio = zeros.sm_clock_mhz / zeros.rated_clock_mhz
    if ratio < R1_MIN_CLOCK_RATIO:
        text = f"zeros ran at {zeros.sm_clock_mhz:.0f} MHz: the answers differ only above {zeros.rated_clock_mhz:.0f}"
        return _undecided(text, numbers)
    fits_free = _fits(numbers, "free")
    fits_capped = _fits(numbers, "capped")
    if fits_free == fits_capped:
        both = "fits both answers" if fits_free else "fits neither answer"
        return _undecided(f"what x_T reads {both}; see the ratios (1 = the answer holds)", numbers)
    if fits_free:
        reason = f"zeros: x_T {zeros.tensor_active_frac:.3f}, {numbers['zeros_x_if_free']:.3f} expected without a cap"
        return R1Verdict(verdict="no_clock_cap", tensor_clock_cap_mhz=None, reason=reason, numbers=numbers)
    reason = (
        f"zeros: x_T {zeros.tensor_active_frac:.3f} and T {numbers['zeros_tensor_score']:.1f} "
        f"for {100 * zeros.flops_share:.1f} counted: the pipe worked at {zeros.rated_clock_mhz:.0f} MHz"
    )
    return R1Verdict(
        verdict="tensor_clock_cap", tensor_clock_cap_mhz=zeros.rated_clock_mhz, reason=reason, numbers=numbers
    )


def _undecided(reason: str, numbers: dict[str, float]) -> R1Verdict:
    return R1Verdict(verdict="undecided", tensor_clock_cap_mhz=None, reason=reason, numbers=numbers)


def _r1_numbers(random: GemmReading, zeros: GemmReading) -> dict[str, float]:
    """Return what both answers expect x_T to read, and the ratio of the reading to it."""
    out: dict[str, float] = {}
    for name, reading in (("random", random), ("zeros", zeros)):
        f, f_ref = reading.sm_clock_mhz, reading.rated_clock_mhz
        out[f"{name}_x"] = reading.tensor_active_frac
        out[f"{name}_sm_clock_mhz"] = f
        out[f"{name}_flops_share"] = reading.flops_share
        out[f"{name}_tensor_score"] = 100.0 * reading.tensor_active_frac * f / f_ref
        for answer, pipe_clock in (("free", f), ("capped", min(f, f_ref))):
            expected = reading.flops_share * f_ref / pipe_clock if pipe_clock > 0 else 0.0
            out[f"{name}_x_if_{answer}"] = expected
            out[f"{name}_ratio_if_{answer}"] = reading.tensor_active_frac / expected if expected > 0 else 0.0
    return out


def _fits(numbers: dict[str, float], answer: str) -> bool:
    ratios = (numbers[f"{name}_ratio_if_{answer}"] for name in ("random", "zeros"))
    return all(abs(ratio - 1.0) <= R1_TOLERANCE_FRAC for ratio in ratios)


class GainReading(msgspec.Struct, frozen=True, kw_only=True):
    """One load of one resource: the share of its peak that was counted, and the share that was read."""

    workload: str
    resource: str
    counted_share: float
    """Counted FLOP/s or B/s over the datasheet peak."""
    read_share: float
    """u of the same load from the counter, with gain 1."""


class GainFit(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate for a counter's gain kappa: its reading at architectural saturation."""

    resource: str
    check: str
    verdict: Literal["gain_is_1", "candidate", "undecided"]
    kappa: float | None
    spread: float | None
    """Largest minus smallest gain over the workloads."""
    gains: dict[str, float]
    reason: str


def fit_gains(readings: Sequence[GainReading]) -> list[GainFit]:
    """Return one candidate per resource: R3 for the vector pipes, R4 for DRAM.

    The gain of a load is read share / counted share: 1 where the counter counts what was done, 0.5
    where it reads half at the peak. Loads of one resource that disagree decide nothing: the counter
    then also counts something that depends on the load (turnarounds, refresh).
    """
    resources = list(dict.fromkeys(reading.resource for reading in readings))
    return [_fit(resource, [r for r in readings if r.resource == resource]) for resource in resources]


def _fit(resource: str, readings: Sequence[GainReading]) -> GainFit:
    check = "R4" if resource == "dram" else "R3"
    gains = {r.workload: r.read_share / r.counted_share for r in readings if r.counted_share >= GAIN_MIN_SHARE}
    if not gains:
        text = f"no load reached {GAIN_MIN_SHARE:.0%} of the peak"
        return GainFit(
            resource=resource, check=check, verdict="undecided", kappa=None, spread=None, gains={}, reason=text
        )
    kappa, spread = statistics.median(gains.values()), max(gains.values()) - min(gains.values())
    verdict: Literal["gain_is_1", "candidate", "undecided"] = "candidate"
    reason = f"the counter reads {kappa:.3f} of what was counted: counter_gain.{resource} = {kappa:.3f}"
    if spread > 2 * GAIN_TOLERANCE_FRAC * kappa:
        verdict, reason = "undecided", f"the loads disagree by {spread:.3f}: the reading depends on the kind of load"
    elif abs(kappa - 1.0) <= GAIN_TOLERANCE_FRAC:
        verdict, reason = "gain_is_1", f"the counter reads what was counted within {GAIN_TOLERANCE_FRAC:.0%}"
    return GainFit(
        resource=resource, check=check, verdict=verdict, kappa=kappa, spread=spread, gains=gains, reason=reason
    )


class R5Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine-active counter reads between kernels."""

    verdict: Literal["drops_between_kernels", "stays_between_kernels", "drops_in_long_gaps_only", "undecided"]
    reason: str
    numbers: dict[str, float]


def decide_r5(
    *, gap_busy: float | None, gap_engine: float | None, launch_busy: float | None, launch_engine: float | None
) -> R5Verdict:
    """Decide R5 from gaps of about 10 ms (V7) and of microseconds (V8).

    Args:
        gap_busy: Counted share of time with a kernel, 20 ms duty cycle.
        gap_engine: Engine active (g) there.
        launch_busy: About the same for tiny kernels launched one by one.
        launch_engine: Engine active (g) there.
    """
    given = {
        "gap_busy": gap_busy,
        "gap_engine": gap_engine,
        "launch_busy": launch_busy,
        "launch_engine": launch_engine,
    }
    numbers = {name: value for name, value in given.items() if value is not None}
    if gap_busy is None or gap_engine is None or launch_busy is None or launch_engine is None:
        missing = ", ".join(name for name, value in given.items() if value is None)
        return R5Verdict(verdict="undecided", reason=f"not measured: {missing}", numbers=numbers)
    if abs(gap_engine - gap_busy) > ENGINE_TOLERANCE:
        stays = gap_engine >= 1 - ENGINE_TOLERANCE
        text = f"gaps of 10 ms: g reads {gap_engine:.2f}, {gap_busy:.2f} was counted"
        return R5Verdict(verdict="stays_between_kernels" if stays else "undecided", reason=text, numbers=numbers)
    text = f"gaps between launches: g reads {launch_engine:.2f}, about {launch_busy:.2f} was busy"
    if launch_busy > 1 - 3 * ENGINE_TOLERANCE:
        return R5Verdict(verdict="undecided", reason=f"{text}: too few gaps to tell", numbers=numbers)
    if launch_engine <= launch_busy + 2 * ENGINE_TOLERANCE:
        return R5Verdict(verdict="drops_between_kernels", reason=text, numbers=numbers)
    if launch_engine >= 1 - ENGINE_TOLERANCE:
        return R5Verdict(verdict="drops_in_long_gaps_only", reason=text, numbers=numbers)
    return R5Verdict(verdict="undecided", reason=text, numbers=numbers)
