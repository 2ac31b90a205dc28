"""satscore.core against the oracle: any run, any reading of it, any GPU, every profile, to 1e-6 points."""

import random
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from satscore.core.bounds import resolve
from satscore.core.gpu import GpuInfo
from satscore.run.models import load_library
from tests.oracle.compare import assert_same, assert_same_means, bounds_of, core_sums, merged
from tests.oracle.hardware import FOLDER, read
from tests.oracle.makers import Plan, any_hardware, run_of
from tests.oracle.method import Interval, bracket
from tests.oracle.totals import run

MODELS = load_library({}).models
RUN_PROFILES = ["train", "hpc", "tensor"]
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
"""A run is made from a seed: there is no simpler seed."""
plans = st.builds(
    Plan,
    count=st.integers(1, 40),
    period_s=st.sampled_from([0.12, 0.2, 0.5, 1.0, 1.7, 5.0]),
    jitter=st.sampled_from([0.0, 0.02, 0.3]),
    gap=st.sampled_from([0.0, 0.1, 0.5]),
    blank=st.sampled_from([0.0, 0.02, 0.15]),
    never=st.sampled_from([0.0, 0.0, 0.05, 0.3]),
    start_ns=st.integers(0, 10**10),
)
offsets_ns = st.one_of(st.just(0), st.integers(-(10**10), 10**18))


def check(plan: Plan, seed: int, hardware, profile: str, offset_ns: int = 0, batch: int = 1000):
    intervals = run_of(random.Random(seed), plan)
    sums = core_sums(intervals, bounds_of(hardware), profile, offset_ns, batch)
    totals = run(intervals, hardware, profile, offset_ns)
    assert_same(sums, totals, profile)
    assert_same_means(sums, totals, hardware, profile)
    return totals


@settings(max_examples=100, deadline=None, phases=NO_SHRINKING)
@given(plans, st.integers(0, 2**32), st.sampled_from(RUN_PROFILES), offsets_ns, st.integers(1, 50))
def test_any_run(plan, seed, profile, offset_ns, batch):
    check(plan, seed, any_hardware(random.Random(seed)), profile, offset_ns, batch)


@pytest.mark.parametrize("period_s", [0.12, 0.2, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("profile", RUN_PROFILES)
def test_a_long_run(profile, period_s):
    plan = Plan(count=round(400 / max(0.5, period_s)), period_s=period_s, gap=0.01, blank=0.03)
    hardware = read("gh200-96", gpu_w=900.0, module_w=660.0, vboost=0)
    totals = check(plan, 7, hardware, profile, offset_ns=1_700_000_000_123_456_789, batch=97)
    assert totals.doubt_us == 0, "the comparison is to be strict here: choose another seed"
    complete_us = totals.us[f"complete:{profile}"]
    assert 0.5 < complete_us / totals.us["time"] < 1
    # docs/method.md, "Sums": rounding costs less than 5e-5 points (and at the ends less than a microsecond).
    rounded, exact = totals.us[f"sat:{profile}"] / complete_us / 1e4, totals.exact / complete_us / 1000
    assert rounded == pytest.approx(exact, abs=5e-5)
    seen = {name for name, amount in totals.us.items() if amount}
    parts = {"idle_long", "idle_short", "grid", "issue_stall", "clock_power", "clock_other", "clock_unknown"}
    assert {f"loss:{part}" for part in parts} <= seen


STATES = [(None, None, None), (700.0, None, None), (400.0, None, 0), (900.0, 660.0, 0), (620.0, 1000.0, 1)]
"""Power limits in W of the GPU and the module, and the vBoost level."""


@pytest.mark.parametrize("model_id", sorted(path.stem for path in FOLDER.glob("*.toml")))
def test_every_model(model_id):
    model = next(each for each in MODELS if each.id == model_id)
    for turn, (gpu_w, module_w, vboost) in enumerate(STATES):
        hardware = read(model_id, gpu_w=gpu_w, module_w=module_w, vboost=vboost)
        info = GpuInfo(index=0, power_limit_gpu_w=gpu_w, power_limit_module_w=module_w, vboost_level=vboost)
        bounds = resolve(model, info)
        assert bounds.ceilings_at_other_cap == hardware.other_state
        assert model.flops_peak == pytest.approx(hardware.flops)
        intervals = run_of(random.Random(model_id), Plan(count=20, period_s=0.5, blank=0.01))
        profile = RUN_PROFILES[turn % len(RUN_PROFILES)]
        sums, totals = core_sums(intervals, bounds, profile, 0, 9), run(intervals, hardware, profile)
        assert_same(sums, totals, profile, other_state=hardware.other_state)
        assert_same_means(sums, totals, hardware, profile)


@settings(max_examples=15, deadline=None, phases=NO_SHRINKING)
@given(st.integers(0, 2**32), st.sampled_from(RUN_PROFILES))
def test_a_job_of_several_gpus(seed, profile):
    rng, each = random.Random(seed), []
    for gpu in range(3):
        plan = Plan(count=rng.randint(1, 30), period_s=rng.uniform(0.12, 1.5), start_ns=rng.randint(0, 10**9))
        hardware, intervals = any_hardware(rng), run_of(rng, plan)
        each.append(
            (core_sums(intervals, bounds_of(hardware), profile, gpu, 9), run(intervals, hardware, profile, gpu))
        )
    assert_same(*merged([a for a, _ in each], [b for _, b in each]), profile)


def test_an_interval_of_one_counter_is_worth_nothing_but_its_bounds():
    hardware = any_hardware(random.Random(0))
    for name in ("engine_active_frac", "sm_active_frac", "tensor_active_frac", "sm_clock_mhz", "dram_active_frac"):
        for value in (0.0, 0.5, 1.0):
            intervals = [Interval(0, 1_500_000_000, {name: value})]
            sums = core_sums(intervals, bounds_of(hardware), "train", 0, 1)
            totals = run(intervals, hardware, "train", 0)
            assert_same(sums, totals, "train")
            assert sums.total("complete_us:train") == 0


fractions = st.floats(0, 1)


@settings(max_examples=200, deadline=None)
@given(fractions, fractions, fractions, fractions, fractions)
def test_the_corners_of_the_bracket_hold_its_maximum(u_t, u_m, engine, top_t, top_m):
    """A fine search over q finds nothing above the corners."""
    v1 = max(engine, u_t, u_m)
    if v1 == 0:
        return
    a_t, a_m = max(top_t, u_t / v1), max(top_m, u_m / v1)
    best = bracket(u_t, u_m, v1, top_t, top_m)
    for step in range(201):
        q = u_t * step / 200
        value = q + min(u_m, a_m * (v1 - (q / a_t if q else 0.0)))
        assert min(value, v1) <= best + 1e-9


def test_a_run_that_is_read_another_way_is_another_run():
    """The comparison can fail: one counter of one interval, moved by a thousandth, is seen."""
    hardware = read("h200-sxm", gpu_w=700.0, module_w=None, vboost=None)
    intervals = run_of(random.Random(1), Plan(count=50, blank=0, gap=0))
    totals = run(intervals, hardware, "train")
    shares = [each.values["tensor_active_frac"] or 0.0 for each in intervals]
    at = next(i for i, share in enumerate(shares) if 0.1 < share < 0.9)
    intervals[at] = replace(intervals[at], values=intervals[at].values | {"tensor_active_frac": shares[at] + 1e-3})
    with pytest.raises(AssertionError):
        assert_same(core_sums(intervals, bounds_of(hardware), "train", 0, 9), totals, "train")
