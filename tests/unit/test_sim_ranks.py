"""Simulated ranks: one barrier for all, found by each on its own; and what each scenario's odd rank does.

Truth is taken from the GPUs themselves: every segment that one begins is written down.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from statistics import fmean, pvariance
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.counters.sim.cooling import Cooling
from satscore.counters.sim.gpu import SimGpu, Totals
from satscore.counters.sim.job import Job
from satscore.counters.sim.kernels import COMM, ELEM, GEMM, IDLE, LOAD, SPIN, Segment, span, work
from satscore.counters.sim.limits import Limits
from satscore.counters.sim.noise import chance, pick
from satscore.counters.sim.ranks import SimRank, build_ranks
from satscore.counters.sim.scenarios import SCENARIOS
from satscore.counters.sim.workload import Odd, Ranks, Scenario, Uneven
from satscore.counters.simulated import SimulatedSource
from tests.unit.test_sim import get, mean, record

SAME_S = 1e-6
JOBS = [name for name, scenario in SCENARIOS.items() if scenario.ranks]
ODD = [
    Odd(ceiling_mhz=1305.0),
    Odd(power_limit_w=450.0),
    Odd(speed=0.8),
    Odd(work=1.3),
    Odd(work=0.6),
    Odd(c_per_w=0.14),
    Odd(hw_slowdown_mhz=990.0),
    Odd(before=(span(IDLE, 0.7), work(LOAD, 0.05))),
    Odd(is_idle=True),
    None,
]
STEP_GEMM_MCYCLES = 20 * 0.06 * 1830
"""Of one step of the language model, in 1e6 SM cycles."""


class Trace(NamedTuple):
    """A rank, and the start in s and the segment of all that its GPU ran."""

    rank: SimRank
    began: list[tuple[float, Segment]]

    def leaves_s(self) -> list[float]:
        """Return when it left each barrier: every step has one collective, right behind it."""
        return [at_s for at_s, segment in self.began if segment.kernel is COMM]


@contextmanager
def written_down() -> Iterator[dict[SimGpu, list[tuple[float, Segment]]]]:
    began: dict[SimGpu, list[tuple[float, Segment]]] = {}

    begin = SimGpu.begin

    def noted(gpu: SimGpu, segment: Segment) -> None:
        began.setdefault(gpu, []).append((gpu.now_s, segment))
        begin(gpu, segment)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimGpu, "begin", noted)
        yield began


def traced(scenario: Scenario, seconds: float, *, seed: int = 0, world: int = 4, ranks: Sequence[int]) -> list[Trace]:
    with written_down() as began:
        made = build_ranks(scenario, seed=seed, world=world, ranks=ranks)
        for rank in made:
            rank.totals(seconds)
    return [Trace(rank, began[rank._gpu]) for rank in made]


def of(scenario: str, ranks: Ranks, **changes: object) -> Scenario:
    return replace(SCENARIOS[scenario], ranks=ranks, **changes)  # type: ignore[arg-type]


def check_barriers(scenario: Scenario, seconds: float, seed: int, world: int) -> list[Trace]:
    """Assert that all ranks that compute leave every barrier together."""
    traces = traced(scenario, seconds, seed=seed, world=world, ranks=range(world))
    leaves = [trace.leaves_s() for trace in traces if not trace.rank.scenario.is_idle]
    steps = min(map(len, leaves))
    assert steps > 1
    for at_s in zip(*(each[:steps] for each in leaves), strict=True):
        assert max(at_s) - min(at_s) <= SAME_S
    return traces


# The barrier


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("seed", [0, 3, -7, 10**20 + 1])
def test_all_ranks_leave_a_barrier_at_the_same_instant(name: str, seed: int) -> None:
    if name != "pcie-comm":
        check_barriers(SCENARIOS[name], 30.0, seed, 4)


@settings(max_examples=20, deadline=None)
@given(
    odd=st.sampled_from(ODD),
    uneven=st.none() | st.builds(Uneven, work=st.floats(1, 2), every=st.integers(1, 3)),
    jitter_frac=st.just(0.0) | st.floats(0.001, 0.3),
    spread_frac=st.just(0.0) | st.floats(0.001, 0.2),
    ambient_c=st.sampled_from([27.0, 45.0, 66.0]),
    power_limit_w=st.sampled_from([700.0, 500.0, 350.0]),
    seed=st.integers(-5, 10**9),
    world=st.integers(1, 5),
)
def test_ranks_apart_agree_whatever_is_staged(
    odd, uneven, jitter_frac, spread_frac, ambient_c, power_limit_w, seed, world
) -> None:
    ranks = Ranks(odd=odd, uneven=uneven, jitter_frac=jitter_frac, spread_frac=spread_frac)
    if world == 1 and odd is not None and odd.is_idle:
        return
    scenario = of("healthy", ranks, cooling=Cooling(ambient_c), power_limit_w=power_limit_w)
    together = check_barriers(scenario, 15.0, seed, world)
    for rank in {0, seed % world, world - 1}:
        (alone,) = traced(scenario, 15.0, seed=seed, world=world, ranks=[rank])
        assert alone.began == together[rank].began
        assert alone.rank.totals(15.0) == together[rank].rank.totals(15.0)


@pytest.mark.parametrize("name", ["healthy", "uneven", "overloaded-rank", "contended-gpu", "hot-rank", "stalled-rank"])
@pytest.mark.parametrize("seed", [1, 6])
def test_no_work_is_lost_at_a_barrier(name: str, seed: int) -> None:
    scenario = SCENARIOS[name]
    job = Job(scenario=scenario, seed=seed, world=4)
    for number, trace in enumerate(check_barriers(scenario, 120.0, seed, 4)):
        leaves_s, own = trace.leaves_s(), trace.rank.scenario
        (again,) = build_ranks(scenario, seed=seed, world=4, ranks=[number])
        totals, steps = again.totals(leaves_s[-1]), len(leaves_s)
        amount = own.work * sum(job.work(number, step) for step in range(steps))
        assert totals.cycles[GEMM.row] == pytest.approx(amount * STEP_GEMM_MCYCLES / own.speed, rel=1e-9)
        elem_s = (amount * 20 * 0.02 + (steps - 1) * 0.08) / own.speed
        # A rank in its turn may come a hair later than one that always has so much to do: that is cut off.
        assert totals.seconds[ELEM.row] == pytest.approx(elem_s, rel=2e-4)


@pytest.mark.parametrize("name", [name for name in JOBS if name not in ("healthy", "pcie-comm")])
def test_the_barrier_opens_when_the_last_rank_arrives(name: str) -> None:
    traces = traced(SCENARIOS[name], 60.0, seed=2, ranks=range(4))
    leaves_s = traces[0].leaves_s() if not traces[0].rank.scenario.is_idle else traces[1].leaves_s()
    least_s = [math.inf] * len(leaves_s)
    for trace in traces:
        if not trace.rank.scenario.is_idle:
            waits = {round(at_s + seg.amount_s, 6): seg.amount_s for at_s, seg in trace.began if seg.kernel is SPIN}
            least_s = [min(s, waits.get(round(t, 6), 0.0)) for s, t in zip(least_s, leaves_s, strict=True)]
    # A rank that comes from a wait begins the next step with a slightly higher clock than one that is always last.
    assert max(least_s) < 5e-3
    assert fmean(least_s) < 1e-4


def test_no_rank_costs_more_in_a_larger_job() -> None:
    scenario = of("healthy", Ranks(odd=Odd(work=1.2), uneven=Uneven(work=1.1), jitter_frac=0.02, spread_frac=0.03))
    for world in (2, 10**9):
        with written_down() as began:
            build_ranks(scenario, seed=11, world=world, ranks=[world // 2])[0].totals(20.0)
        assert len(began) == 3  # itself, the odd one and the last of the others


# What the ranks do


def totals_of(scenario: Scenario, seconds: float, seed: int = 0, world: int = 4) -> list[Totals]:
    return [rank.totals(seconds) for rank in build_ranks(scenario, seed=seed, world=world, ranks=range(world))]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", [name for name in JOBS if getattr(SCENARIOS[name].ranks, "odd", None)])
def test_exactly_one_rank_is_odd(name: str, seed: int) -> None:
    waits = [totals.seconds[SPIN.row] for totals in totals_of(SCENARIOS[name], 60.0, seed)]
    others = [wait_s for rank, wait_s in enumerate(waits) if rank != seed % 4]
    assert len(set(others)) == 1
    if name == "idle-rank":
        assert waits == [0.0] * 4
    elif name in ("hot-rank", "narrow-pcie", "lost-nvlink"):  # cold as yet; links slow nothing down
        assert waits[seed % 4] == 0.0
    else:
        assert waits[seed % 4] == 0.0
        assert others[0] > 6.0


def odd_and_other(name: str, seconds: float = 60.0) -> tuple[SimulatedSource, dict[str, float], dict[str, float]]:
    """Return a recording of ranks 0, the odd one, and 1: means of some fields."""
    names = ["sm_clock_mhz", "power_gpu_w", "pcie_rx_bytes_s", "engine_active_frac", "sm_active_frac"]
    names += ["tensor_active_frac", *(f"throttle_{kind}_frac" for kind in ("power", "thermal", "hw", "app_clocks"))]
    source, reads = record(f"sim:{name}", seconds)
    odd, other = ({field: mean(reads, field, gpu) for field in names} for gpu in (0, 1))
    return source, odd, other


def test_a_capped_rank_says_its_own_limit() -> None:
    source, odd, other = odd_and_other("capped-gpu")
    assert [gpu.power_limit_gpu_w for gpu in source.gpus] == [450, 700, 700, 700]
    assert odd["power_gpu_w"] < 450
    assert odd["throttle_power_frac"] > 0.85
    assert odd["sm_clock_mhz"] < other["sm_clock_mhz"] - 200


def test_hardware_that_slows_down_is_named_as_such() -> None:
    _, odd, other = odd_and_other("hw-slowdown")
    assert odd["sm_clock_mhz"] == pytest.approx(990)
    assert odd["throttle_hw_frac"] == pytest.approx(1)
    assert odd["throttle_app_clocks_frac"] == 0
    assert other["throttle_hw_frac"] == 0


def test_a_contended_gpu_does_less_at_a_clock_that_is_no_lower() -> None:
    source, odd, other = odd_and_other("contended-gpu")
    assert odd["sm_clock_mhz"] > other["sm_clock_mhz"]
    assert odd["sm_active_frac"] > other["sm_active_frac"] + 0.1
    assert odd["tensor_active_frac"] < other["tensor_active_frac"]
    hfu = [source.truth(gpu).hfu_frac for gpu in range(4)]
    assert max(hfu) - min(hfu) < 0.03


def test_a_hot_rank_is_slow_once_it_is_hot() -> None:
    _, reads = record("sim:hot-rank", 150)
    late = reads[len(reads) * 2 // 3 :]
    assert mean(late, "throttle_thermal_frac", 0) > 0.9
    assert mean(late, "throttle_thermal_frac", 1) == 0
    assert mean(late, "sm_clock_mhz", 0) < mean(late, "sm_clock_mhz", 1) - 200
    assert get(late[-1][0], "temp_gpu_c") == pytest.approx(86, abs=2)


def test_an_overloaded_rank_does_more_than_the_others() -> None:
    source, _, _ = odd_and_other("overloaded-rank", 150)
    gemm_s = [source.kernel_seconds(gpu)["gemm"] for gpu in range(4)]
    assert gemm_s[0] / gemm_s[1] == pytest.approx(1.3, abs=0.01)
    assert source.truth(0).hfu_frac / source.truth(1).hfu_frac == pytest.approx(1.3, abs=0.01)


def test_a_stalled_rank_begins_its_steps_without_data() -> None:
    source, odd, other = odd_and_other("stalled-rank")
    ran = [source.kernel_seconds(gpu) for gpu in range(4)]
    assert ran[0]["idle"] == pytest.approx(ran[1]["idle"] + 0.7 * 60 / 3.16, abs=1.0)
    assert ran[1]["spin"] == pytest.approx(0.75 * 60 / 3.16, abs=1.0)
    assert "spin" not in ran[0]
    assert odd["pcie_rx_bytes_s"] == pytest.approx(ran[0]["load"] / 60 * 0.5 * 63e9)
    assert other["pcie_rx_bytes_s"] == 0
    assert odd["engine_active_frac"] < 0.8 < 0.98 < other["engine_active_frac"]


def test_nobody_waits_for_an_idle_rank() -> None:
    source, odd, _ = odd_and_other("idle-rank")
    assert source.kernel_seconds(0) == {"idle": pytest.approx(60)}
    assert (odd["engine_active_frac"], odd["tensor_active_frac"]) == (0, 0)
    assert odd["power_gpu_w"] == pytest.approx(110)
    assert "spin" not in source.kernel_seconds(1)
    _, reads = record("sim:idle-rank", 1)
    used = [get(reading, "memory_used_bytes") / reading_total(source, i) for i, reading in enumerate(reads[-1])]
    assert used == pytest.approx([0.004, 0.82, 0.82, 0.82], abs=1e-3)


def reading_total(source: SimulatedSource, gpu: int) -> int:
    total = source.gpus[gpu].memory_total_bytes
    assert total is not None
    return total


def test_turns_go_round() -> None:
    ranks = Ranks(uneven=Uneven(work=1.5, every=3))
    job = Job(scenario=of("uneven", ranks), seed=2, world=4)
    heavy = [[rank for rank in range(4) if job.work(rank, step) > 1] for step in range(13)]
    assert heavy == [[2]] * 3 + [[3]] * 3 + [[0]] * 3 + [[1]] * 3 + [[2]]
    assert {job.work(None, step) for step in range(13)} == {1.5}
    both = Job(scenario=of("uneven", replace(ranks, odd=Odd(work=1.2))), seed=2, world=4)
    assert [both.work(None, step) for step in range(13)] == [1.0] * 3 + [1.5] * 9 + [1.0]


def test_in_an_uneven_job_all_wait_alike_in_the_long_run_and_one_at_a_time_does_not() -> None:
    job = SCENARIOS["uneven-slow"]
    turn_s = traced(job, 160.0, ranks=[0])[0].leaves_s()[49]
    assert 130 < turn_s < 180  # blocks of about a minute lie within a turn
    waits_s = [totals.seconds[SPIN.row] for totals in totals_of(job, 4 * turn_s)]
    assert max(waits_s) - min(waits_s) < 0.05 * max(waits_s)
    first_s = [totals.seconds[SPIN.row] for totals in totals_of(job, turn_s)]
    assert first_s[0] < 0.1
    assert min(first_s[1:]) > 0.18 * turn_s
    each_step = [totals.seconds[SPIN.row] for totals in totals_of(SCENARIOS["uneven"], turn_s)]
    assert min(each_step) > 0.1 * turn_s


# Healthy variation


def test_jitter_shortens_the_work_of_all_but_one_rank_of_a_step() -> None:
    job = Job(scenario=of("healthy", Ranks(jitter_frac=0.1)), seed=9, world=5)
    shares = [[job.work(rank, step) for rank in range(5)] for step in range(400)]
    assert all(sorted(step)[-2] < 1.0 == max(step) for step in shares)
    short = [share for step in shares for share in step if share < 1.0]
    assert 0.9 < min(short) < 0.901
    assert fmean(short) == pytest.approx(0.95, abs=0.003)
    longest = [step.index(1.0) for step in shares]
    assert min(longest.count(rank) for rank in range(5)) > 50
    assert {job.work(None, step) for step in range(50)} == {1.0}


def test_the_odd_rank_is_never_declared_the_slowest_of_the_others() -> None:
    ranks = Ranks(odd=Odd(ceiling_mhz=1305.0), jitter_frac=0.1, spread_frac=0.1)
    for seed in range(8):
        job = Job(scenario=of("healthy", ranks), seed=seed, world=4)
        full = {rank for step in range(60) for rank in range(4) if job.work(rank, step) == 1.0}
        assert full == {0, 1, 2, 3} - {seed % 4}
        worst = [rank for rank in range(4) if job.scenario_of(rank).entropy == 1.0]
        assert len(worst) == 1
        assert worst != [seed % 4]


def test_chips_differ_in_power_and_so_in_clock() -> None:
    scenario = of("healthy", Ranks(spread_frac=0.1))
    job = Job(scenario=scenario, seed=4, world=4)
    needs = [job.scenario_of(rank).entropy for rank in range(4)]
    assert 0.9 < min(needs) < max(needs) == 1.0
    assert len(set(needs)) == 4
    totals = totals_of(scenario, 60.0, seed=4)
    clocks = [each.cycles[GEMM.row] / each.seconds[GEMM.row] for each in totals]
    assert sorted(range(4), key=lambda rank: -clocks[rank]) == sorted(range(4), key=lambda rank: needs[rank])
    waits_s = [each.seconds[SPIN.row] for each in totals]
    assert waits_s[needs.index(1.0)] < 1e-3 < min(w for w in waits_s if w != min(waits_s))


def test_healthy_ranks_wait_little_and_seeds_differ() -> None:
    waits: dict[int, list[float]] = {}
    for seed in range(6):
        waits[seed] = [totals.seconds[SPIN.row] / 100 for totals in totals_of(SCENARIOS["healthy"], 100.0, seed)]
        assert 0 < min(waits[seed]) < max(waits[seed]) < 0.03
    assert len(set(map(tuple, waits.values()))) == 6


def test_chance_is_the_published_generator_and_even() -> None:
    assert chance(0) == (0xE220A8397B1DCDAF >> 11) / 2**53  # first output of splitmix64 for state 0
    draws = [chance(seed, number, rank) for seed in range(10) for number in range(20) for rank in range(50)]
    assert len(set(draws)) == len(draws)
    assert 0.0 <= min(draws) < 0.001 < 0.999 < max(draws) < 1.0
    assert fmean(draws) == pytest.approx(0.5, abs=0.01)
    assert pvariance(draws) == pytest.approx(1 / 12, abs=0.002)
    assert chance(1, 2) != chance(2, 1)
    assert {pick(3, number) for number in range(50)} == {0, 1, 2}


def test_a_stalled_gpu_is_not_slow() -> None:
    """What is ahead of a rank's work is no part of it: jitter and a work factor leave it alone."""
    odd = Odd(before=(span(IDLE, 0.5),), work=2.0)
    (trace,) = traced(of("healthy", Ranks(odd=odd, jitter_frac=0.2)), 30.0, ranks=[0])
    stalls = [segment for _, segment in trace.began if segment.kernel is IDLE and segment.amount_s > 0.02]
    assert len(stalls) > 4
    assert {segment.amount_s for segment in stalls} == {0.5}


def test_limits_of_a_rank_are_those_of_its_gpu() -> None:
    scenario = SCENARIOS["slow-gpu"]
    ranks = build_ranks(scenario, seed=3, world=4, ranks=range(4))
    assert [rank.scenario.ceiling_mhz for rank in ranks] == [1980, 1980, 1980, 1305]
    assert ranks[3].scenario.limits() == Limits(700.0, ceiling_mhz=1305.0)
