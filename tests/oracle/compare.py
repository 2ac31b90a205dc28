"""satscore.core's answer and the oracle's to the same run, side by side. The only module here that knows both."""

from collections import Counter
from collections.abc import Sequence

import pytest

from satscore.core.bounds import Bounds
from satscore.core.facts import facts_of
from satscore.core.fields import Reading, blank_reading, put
from satscore.core.gpu import GpuInfo
from satscore.core.rates import rates_of
from satscore.core.readings import table_of
from satscore.core.scorer import GpuScorer
from satscore.core.summarise import GpuResult, ScopeContext, loss_of, score_of
from satscore.core.summary_gpu import LossPart, Score
from satscore.core.sums import Sums, merge_all
from tests.oracle.hardware import Hardware
from tests.oracle.method import PROFILES, Interval, Physics, time_mean
from tests.oracle.totals import Totals, burstiness, energy_j, grade

POINTS = 1e-6
"""Largest difference in points."""
DIGIT_POINTS = 1e-3
"""What a window may differ where its rounding hangs on the last bit of a float: a part per million per part."""
NEAR = 1e-6
"""Largest difference of a mean that satscore keeps in parts per million, or (x 1000) in thousandths."""


def bounds_of(hw: Hardware) -> Bounds:
    """Return the oracle's hardware as satscore.core wants it."""
    return Bounds(
        model_id="oracle",
        rated_clock_mhz=hw.rated_mhz,
        counter_gain=hw.gain,
        dram_clock_bytes_s_per_mhz=hw.dram_bytes_s_per_mhz,
        dram_peak_bytes_s=hw.dram_peak_bytes_s,
        attainable_frac=hw.best,
        attainable_active_frac=hw.best_active,
        link_peak_bytes_s=hw.link_bytes_s,
        sm_clock_max_mhz=hw.clock_max_mhz,
        tensor_clock_cap_mhz=hw.tensor_cap_mhz,
        module_cap_w=hw.module_cap_w,
    )


def reading_of(interval: Interval) -> Reading:
    """Return an interval as a source would have read it."""
    out = blank_reading(0, interval.start_ns, interval.end_ns)
    for name, value in interval.values.items():
        if value is not None:
            put(out, name, value)
    return out


def core_sums(intervals: Sequence[Interval], bounds: Bounds, profile: str, offset_ns: int, batch: int) -> Sums:
    """Return satscore's sums of a run, fed in batches."""
    scorer, readings = GpuScorer(bounds, profile, grid_offset_ns=offset_ns), [reading_of(each) for each in intervals]
    for at in range(0, len(readings), batch):
        scorer.add(table_of(readings[at : at + batch]))
    return scorer.finish()


def context_of(profile: str, *, other_state: bool = False) -> ScopeContext:
    """Return what a scope with pipe counters and shipped ceilings depends on."""
    return ScopeContext(
        profile=profile, has_pipe_counters=True, no_score_reason=None, is_doubtful=other_state, dtype=None
    )


def result_of(sums: Sums, hw: Hardware) -> GpuResult:
    """Return the result of a GPU whose hardware is known by its bounds alone."""
    return GpuResult(info=GpuInfo(index=0), model=None, model_note=None, bounds=bounds_of(hw), sums=sums)


def assert_same(sums: Sums, totals: Totals, profile: str, *, other_state: bool = False) -> None:
    """Fail unless score, bounds, grade and both loss trees of a scope are the oracle's."""
    score, us = score_of(sums, context_of(profile, other_state=other_state)), totals.us
    scope_us, complete_us = us["time"], us[f"complete:{profile}"]
    coverage = complete_us / scope_us
    assert sums.total("time_us") == scope_us
    assert score.windows_count == us["windows"]
    assert score.coverage_frac == pytest.approx(coverage, abs=1e-12)
    assert score.grade == grade(coverage, other_state=other_state)
    assert score.partial == (0.5 <= coverage < 0.95)
    slack = POINTS + DIGIT_POINTS * totals.bounds_doubt_us / scope_us
    for side, value in (("lo", score.score_min_pct), ("hi", score.score_max_pct)):
        assert_close(value, us[f"{side}:{profile}"] / scope_us / 1e4, side, abs=slack)
    slack = POINTS + DIGIT_POINTS * totals.doubt_us / max(1, complete_us)
    beside = {"hpc": score.score_hpc_pct, "tensor": score.tensor_score_pct, "dram": score.dram_score_pct}
    for name, value in beside.items():
        enough = us[f"complete:{name}"] >= 0.5 * scope_us
        assert_close(value, us[f"sat:{name}"] / us[f"complete:{name}"] / 1e4 if enough else None, name, abs=slack)
    if complete_us:
        assert_close(score.bound_exceeded_frac, us["exceeds_bound"] / complete_us, "bound", abs=1e-12)
        assert_close(score.ceiling_exceeded_frac, us["exceeds_ceiling"] / complete_us, "ceiling", abs=1e-12)
    assert (score.score_pct is not None) == (coverage >= 0.5)
    if score.score_pct is not None:
        assert_same_score(sums, score, us, profile, slack)


def assert_same_score(sums: Sums, score: Score, us: Counter[str], profile: str, slack: float) -> None:
    """The same for what there is only with a score."""

    def points(name: str) -> float:
        return us[name] / us[f"complete:{profile}"] / 1e4

    assert_close(score.score_pct, points(f"sat:{profile}"), "S", abs=slack)
    assert_close(score.score_hi_pct, points(f"sat_hi:{profile}"), "S_hi", abs=slack)
    assert_close(score.score_attainable_pct, points("attainable"), "S_att", abs=slack)
    assert set(score.by_resource_pct) == set(PROFILES[profile])
    for resource, value in score.by_resource_pct.items():
        assert_close(value, points(f"by:{resource}"), resource, abs=slack)
    loss = loss_of(sums, profile, score)
    assert loss is not None
    for tree, parts in (("loss", loss.datasheet), ("loss_attainable", loss.attainable)):
        mine, theirs = leaves(parts), {name.partition(":")[2] for name in us if name.startswith(f"{tree}:")}
        for name in mine.keys() | theirs:
            assert_close(mine.get(name, 0.0), points(f"{tree}:{name}"), f"{tree}:{name}", abs=slack)


def assert_close(mine: float | None, value: float | None, what: str, **tolerance: float) -> None:
    """Fail unless both are unknown or both are known and the same."""
    assert (mine is None) == (value is None), what
    assert mine is None or mine == pytest.approx(value, **tolerance), what


def leaves(parts: Sequence[LossPart]) -> dict[str, float]:
    """Return the parts of a tree that have no parts; a group without any has no loss."""
    out: Counter[str] = Counter()
    for part in parts:
        if part.parts:
            out.update(leaves(part.parts))
        elif part.points_pct:
            out[part.name] = part.points_pct
    return dict(out)


MEANS = {
    "engine": "engine_active_frac",
    "sm": "sm_active_frac",
    "occupancy": "sm_occupancy_frac",
    "x_tensor": "tensor_active_frac",
    "x_fp64": "fp64_active_frac",
    "x_fp32": "fp32_active_frac",
    "x_fp16": "fp16_active_frac",
    "x_dram": "dram_active_frac",
    "gpu_util": "gpu_util_frac",
    "throttle_power": "throttle_power_frac",
    "throttle_board": "throttle_board_frac",
}
GAUGES = ("sm_clock_mhz", "mem_clock_mhz", "power_gpu_w", "power_module_w")


def assert_same_means(sums: Sums, totals: Totals, hw: Hardware, profile: str) -> None:
    """Fail unless the means beside the score, links, power, energy and burstiness are the oracle's."""
    physics = Physics(hw)
    quantities = {name: (physics.get(column), 1.0) for name, column in MEANS.items()}
    quantities |= {name: (physics.get(name), 1e3) for name in GAUGES}
    quantities |= {name: (physics.comm(name), 1.0) for name in ("comm", "wait", "comm_or_wait")}
    quantities |= {f"power_frac_{scope}": (physics.power_share(scope), 1.0) for scope in ("gpu", "module")}
    quantities |= {
        f"link_{name}_{way}": (physics.link(name, way), 1.0) for name in hw.link_bytes_s for way in ("tx", "rx")
    }
    for name, (quantity, scale) in quantities.items():
        # Time is kept in whole microseconds per window; the windows at the ends may be short.
        assert_close(sums.mean(name), time_mean(totals.windows, quantity), name, abs=NEAR * scale, rel=2e-5)
    facts = facts_of([sums], profile)
    variance, chance = burstiness(totals)
    assert (facts.gamma or 0.0) * chance == pytest.approx(max(0.0, variance), abs=1e-4)
    if facts.comm_link is not None:
        share, comm = time_mean(totals.windows, physics.comm_link), time_mean(totals.windows, physics.comm("comm"))
        assert_close(facts.comm_link * (comm or 0.0), share, "comm_link", abs=1e-5)
    for scope, share in facts.power_high.items():
        known = totals.us[f"power_known:{scope}"]
        assert_close(share, totals.us[f"power_high:{scope}"] / known if known else None, scope, abs=1e-4)
    rates = rates_of(sums, context_of(profile), [result_of(sums, hw)])
    for scope, energy in (("gpu", rates.energy_gpu_j), ("module", rates.energy_module_j)):
        expected, is_close = energy_j(totals, scope)
        if not is_close:
            assert_close(energy, expected, scope, rel=1e-4)
    saturation = time_mean(totals.windows, physics.u("dram"))
    if saturation is not None:
        full = hw.gain["dram"] * hw.dram_peak_bytes_s
        assert_close(rates.dram_bytes_s, saturation * full, "dram_bytes_s", abs=NEAR * full, rel=1e-4)


def merged(sums: Sequence[Sums], totals: Sequence[Totals]) -> tuple[Sums, Totals]:
    """Return the sums and totals of several GPUs."""
    whole = Totals(
        us=sum((each.us for each in totals), Counter()),
        doubt_us=sum(each.doubt_us for each in totals),
        bounds_doubt_us=sum(each.bounds_doubt_us for each in totals),
    )
    return merge_all(sums), whole
