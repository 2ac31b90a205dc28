"""Heat, module power and vBoost of the simulated GPU: their physics, and what satscore then reports."""

import dataclasses
import itertools
import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from satscore.core.summary import Summary
from satscore.core.summary_gpu import LossPart
from satscore.counters.sim.cooling import RELEASE_C, SLOW_C, Cooling, temp_after_c, time_to_s
from satscore.counters.sim.gpu import SimGpu, Totals
from satscore.counters.sim.kernels import COPY, ELEM, GEMM, IDLE, SPIN, Kernel, Segment, span, work
from satscore.counters.sim.limits import Limits
from satscore.counters.sim.module import CpuLoad, Module
from satscore.counters.sim.power import CLOCK_MIN_MHZ, clock_target_mhz, power_w
from satscore.counters.sim.ranks import build_ranks
from satscore.counters.sim.scenarios import SCENARIOS
from satscore.counters.simulated import open_simulated
from tests.unit.runs import Run, simulated, truth_of

HOT = Cooling(ambient_c=45.0, c_per_w=0.1)
"""Holds at (87 - 45) / 0.1 = 420 W."""


def between(gpu: SimGpu, start_s: float, end_s: float) -> tuple[Totals, Totals]:
    """Return the counters of a GPU that is busy for long, at two times."""
    gpu.advance(start_s)
    start = gpu.totals(start_s)
    gpu.advance(end_s)
    return start, gpu.totals(end_s)


def clock_mhz(gpu: SimGpu, start_s: float, end_s: float) -> float:
    start, end = between(gpu, start_s, end_s)
    return (sum(end.cycles) - sum(start.cycles)) / (end_s - start_s)


def busy(limits: Limits, kernel: Kernel = GEMM) -> SimGpu:
    gpu = SimGpu(limits)
    gpu.begin(Segment(kernel, 1e6))
    return gpu


def clock_parts(summary: Summary) -> dict[str, float]:
    assert summary.job.loss is not None
    (clock,) = [part for part in summary.job.loss.datasheet if part.name == "clock"]
    return {part.name: part.points_pct for part in clock.parts}


def top_part(summary: Summary, name: str) -> LossPart:
    assert summary.job.loss is not None
    return next(part for part in summary.job.loss.datasheet if part.name == name)


def mean_of(run: Run, name: str, start_s: float = 0.0, end_s: float = math.inf) -> float:
    chosen = (run.table.start_ns >= start_s * 1e9) & (run.table.end_ns <= end_s * 1e9)
    return float(run.table.column(name)[chosen].mean())


# Heat


@given(
    temp_c=st.floats(20, 120),
    rest_c=st.floats(20, 120),
    threshold_c=st.floats(20, 120),
)
def test_a_threshold_is_met_when_foretold(temp_c: float, rest_c: float, threshold_c: float) -> None:
    after_s = time_to_s(threshold_c, temp_c, rest_c)
    if math.isinf(after_s):
        assert not min(temp_c, rest_c) + 1e-6 < threshold_c < max(temp_c, rest_c) - 1e-6
    else:
        assert temp_after_c(temp_c, rest_c, after_s) == pytest.approx(threshold_c, abs=1e-6)


def test_a_hot_gpu_slows_down_until_its_temperature_holds() -> None:
    gpu = busy(Limits(700.0, cooling=HOT))
    # From 45 + 0.1 x 110 = 56 C towards 45 + 0.1 x 695.4 = 114.5 C, 87 C is reached after 60 ln(58.5 / 27.5) s.
    hot_s = 60 * math.log((114.5 - 56) / (114.5 - 87))
    assert clock_mhz(gpu, 5.0, hot_s - 1) == pytest.approx(1740)
    held_mhz = clock_target_mhz(GEMM, 420.0, 1980.0, 1.0)
    assert held_mhz == 1335
    assert clock_mhz(gpu, hot_s + 2, 1000.0) == pytest.approx(held_mhz)
    start, end = between(gpu, 1000.0, 1100.0)
    assert (end.energy_j - start.energy_j) / 100 == pytest.approx(power_w(GEMM, held_mhz))
    assert SLOW_C - 1.5 < end.temp_c <= SLOW_C
    assert end.heat_capped_s == pytest.approx(1100 - hot_s, abs=1)
    assert end.heat_capped_s + end.power_capped_s == pytest.approx(1100)


def test_the_clock_returns_after_a_pause_to_cool() -> None:
    gpu = SimGpu(Limits(700.0, cooling=HOT))
    gpu.run(span(GEMM, 300.0))
    assert gpu.totals(300.0).temp_c > RELEASE_C
    gpu.run(span(IDLE, 60.0))
    assert gpu.totals(360.0).temp_c < RELEASE_C
    gpu.begin(span(GEMM, 300.0))
    assert clock_mhz(gpu, 362.0, 363.0) == pytest.approx(1740)


@settings(max_examples=30)
@given(ambient_c=st.floats(0, 70), c_per_w=st.floats(0.03, 0.15), busy_s=st.floats(0.1, 30), idle_s=st.floats(0.1, 30))
def test_no_load_is_hotter_than_where_it_is_slowed_down(ambient_c, c_per_w, busy_s, idle_s) -> None:
    cooling = Cooling(ambient_c, c_per_w)
    assume(cooling.hold_w > power_w(GEMM, CLOCK_MIN_MHZ))  # else no clock is low enough
    gpu = SimGpu(Limits(700.0, cooling=cooling))
    for _ in range(20):
        gpu.run(span(GEMM, busy_s))
        # The clock follows within tenths of a second, in which the temperature moves by less than 1 C.
        assert gpu.totals(gpu.now_s).temp_c < SLOW_C + 1.0
        gpu.run(span(IDLE, idle_s))
    totals = gpu.totals(gpu.now_s)
    assert sum(totals.seconds) == pytest.approx(totals.time_s)


def test_most_of_a_hot_run_is_lost_to_the_temperature() -> None:
    summary = simulated("sim:gemm-hot", 300).summary()
    parts = clock_parts(summary)
    assert parts["clock_thermal"] == pytest.approx(255 / 300 * 0.835 * (1 - 1335 / 1830) * 100, abs=0.5)
    assert parts["clock_power"] == pytest.approx(45 / 300 * 0.835 * (1 - 1740 / 1830) * 100, abs=0.2)
    assert parts["clock_thermal"] > 0.9 * top_part(summary, "clock").points_pct
    rates = summary.job.rates
    assert rates.throttle_frac["thermal"] == pytest.approx(255 / 300, abs=0.01)
    assert rates.temp_gpu_max_c == pytest.approx(SLOW_C, abs=0.1)
    hfu_pct = 100 * truth_of("sim:gemm-hot", 300).hfu_frac
    assert summary.job.score.score_pct == pytest.approx(hfu_pct, abs=0.05)


def test_warm_air_alone_heats_any_scenario() -> None:
    assert mean_of(simulated("sim:gemm,ambient=45", 240), "throttle_thermal_frac", 220) == 1.0
    assert mean_of(simulated("sim:gemm", 240), "throttle_thermal_frac") == 0.0


@pytest.mark.parametrize("ambient_c", [27.0, 64.0])
def test_the_barrier_waits_for_whoever_is_last(ambient_c: float) -> None:
    scenario = dataclasses.replace(SCENARIOS["gh200x4"], cooling=Cooling(ambient_c))
    ranks = build_ranks(scenario, seed=1, world=4, ranks=range(4))
    last = [rank.totals(400.0) for rank in ranks]
    # All ranks have done the same work, but for the step under way.
    steps = [totals.cycles[GEMM.row] / (20 * 0.06 * 1830) for totals in last]
    assert max(steps) - min(steps) < 1
    spin_s = [totals.seconds[SPIN.row] for totals in last]
    heat_s = [totals.heat_capped_s for totals in last]
    slow = 1
    if ambient_c == 27.0:
        assert (spin_s[slow], heat_s) == (0, [0] * 4)
    else:  # the held rank is the cooler one: where heat brings the others below it, it waits for them
        assert min(spin_s) > 1
        assert heat_s[slow] < min(s for i, s in enumerate(heat_s) if i != slow)
    alone = [build_ranks(scenario, seed=1, world=4, ranks=[r])[0].totals(400.0) for r in range(4)]
    assert alone == last


# Module power


def test_energy_of_a_changing_load_is_its_integral() -> None:
    load = CpuLoad((60.0, 240.0, 120.0), level_s=10.0)
    assert [load.energy_j(t) for t in (0, 5, 10, 15, 30, 41)] == [0, 300, 600, 1800, 4200, 5040]
    assert CpuLoad((100.0,)).energy_j(1e6) == 1e8


def test_the_gpu_gets_what_the_cpu_leaves() -> None:
    module = Module(660.0, CpuLoad((10.0, 60.0, 240.0), 10.0))
    assert module.caps_w(620.0) == [620.0, 585.0, 405.0]
    assert module.beside_gpu_j(15.0) == 10 * 10 + 5 * 60 + 15 * 15


def test_the_clock_follows_the_cpu() -> None:
    load = CpuLoad((60.0, 240.0), level_s=10.0)
    gpu = busy(Limits(650.0, module=Module(660.0, load)))
    for start_s, cap_w in ((0, 585.0), (10, 405.0), (20, 585.0), (31430, 405.0)):
        expected = clock_target_mhz(GEMM, cap_w, 1980.0, 1.0)
        assert clock_mhz(gpu, start_s + 2, start_s + 10) == pytest.approx(expected, abs=1e-6)


def test_work_is_exact_through_all_levels() -> None:
    load = CpuLoad((60.0, 240.0, 120.0), level_s=0.7)
    gpu = SimGpu(Limits(650.0, module=Module(660.0, load)))
    for _ in range(40):
        gpu.run(work(GEMM, 0.31))
        gpu.run(span(ELEM, 0.07))
    totals = gpu.totals(gpu.now_s)
    assert totals.cycles[GEMM.row] == pytest.approx(40 * 0.31 * 1830, rel=1e-9)
    assert sum(totals.seconds) == pytest.approx(gpu.now_s)


def test_a_busy_cpu_limits_the_module_while_the_gpu_is_below_its_own_limit() -> None:
    run = simulated("sim:gh200-cpu", 60)
    # As in the worked example: 585 W of the GPU's 650, and the module at its limit.
    assert mean_of(run, "power_gpu_w", 2, 10) == pytest.approx(585, abs=12)
    assert mean_of(run, "power_module_w", 2, 10) == pytest.approx(660, abs=12)
    assert mean_of(run, "power_gpu_w", 32, 40) == pytest.approx(405, abs=8)
    for start_s, cpu_w in enumerate((60, 120, 180, 240, 180, 120)):
        beside = run.table.column("power_module_w") - run.table.column("power_gpu_w")
        level = beside[(run.table.start_ns >= start_s * 1e10) & (run.table.end_ns <= (start_s + 1) * 1e10)]
        assert level == pytest.approx(cpu_w + 15, abs=1e-3)
    rates = run.summary().job.rates
    assert (rates.power_limit_gpu_w, rates.power_limit_module_w) == (650, 660)
    assert (rates.power_module_w or 0) / 660 > 0.965
    assert (rates.power_gpu_w or 0) / 650 < 0.9
    assert clock_parts(run.summary())["clock_power"] == pytest.approx(16.7, abs=0.5)


def test_module_energy_is_the_sum_of_its_parts() -> None:
    run = simulated("sim:gh200-cpu", 90, 0.13)
    gpu_j, module_j = (float(run.table.column(f"energy_{scope}_j").sum()) for scope in ("gpu", "module"))
    end_s = float(run.table.end_ns.max()) / 1e9
    cpu = SCENARIOS["gh200-cpu"].cpu
    assert cpu is not None
    assert module_j - gpu_j == pytest.approx(cpu.energy_j(end_s) + 15 * end_s, rel=1e-6)


def test_more_load_on_the_cpu_means_less_clock() -> None:
    scores = [simulated(f"sim:gh200-cpu,cpu_w={w}", 20).summary().job.score.score_pct for w in (0, 60, 120, 240)]
    assert scores[0] == pytest.approx(75.2, abs=1.5)  # the GPU's own 645 W
    assert all((a or 0) > (b or 0) + 2 for a, b in itertools.pairwise(scores))


# vBoost


def test_vboost_takes_power_from_the_memory_side() -> None:
    assert power_w(IDLE, 1980, vboost=True) == pytest.approx(110 - 6)
    assert power_w(GEMM, 1745) - power_w(GEMM, 1745, vboost=True) == pytest.approx(6 + 8 * 0.25)
    assert clock_target_mhz(GEMM, 500.0, 1980.0, 1.0, vboost=True) == 1485


def test_memory_bound_work_takes_longer_under_vboost_and_a_span_does_not() -> None:
    ends = []
    for vboost in (False, True):
        gpu = SimGpu(Limits(700.0, vboost=vboost))
        gpu.run(work(COPY, 0.97))
        copied_s = gpu.now_s
        gpu.run(span(COPY, 1.0))
        ends.append((copied_s, gpu.now_s - copied_s))
    assert ends[0] == pytest.approx((0.97, 1.0))
    assert ends[1] == pytest.approx((1.0, 1.0))


def test_vboost_raises_the_clock_under_a_cap_and_lowers_the_dram_ceiling() -> None:
    plain, boosted = (simulated(f"sim:gemm-500w{v}", 20) for v in ("", "-vboost"))
    assert mean_of(plain, "sm_clock_mhz", 5) == pytest.approx(1470)
    assert mean_of(boosted, "sm_clock_mhz", 5) == pytest.approx(1485)
    assert (boosted.summary().job.score.score_pct or 0) > (plain.summary().job.score.score_pct or 0) + 0.5
    copy, slower = (simulated(f"sim:copy{v}", 20).summary().job.score for v in ("", ",vboost=1"))
    assert slower.score_pct == pytest.approx(0.97 * (copy.score_pct or 0), abs=0.01)
    truth = truth_of("sim:copy,vboost=1", 20)
    assert slower.score_pct == pytest.approx(100 * truth.saturation_frac, abs=0.05)


def test_vboost_is_said_and_a_ceiling_of_another_level_is_not_used() -> None:
    assert open_simulated("sim:llm,vboost=1").gpus[0].vboost_level == 1
    gpus = {v: simulated(f"sim:gh200-cpu,vboost={v}", 20).summary().ranks[0].gpus[0] for v in (0, 1)}
    assert (gpus[0].vboost_level, gpus[0].ceilings_missing) == (0, [])
    assert (gpus[1].vboost_level, gpus[1].ceilings_missing) == (1, ["tensor", "dram"])
    # The bound stays the datasheet's: the clock in force is what changes.
    assert gpus[1].model_id == "gh200-96"
