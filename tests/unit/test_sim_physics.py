"""The simulated chip itself: power, clocks, work, barrier; literals from the model's definition."""

import math
import tracemalloc

import pytest

from satscore.counters.sim.boards import GH200_96, H200, Board
from satscore.counters.sim.gpu import SimGpu, Totals
from satscore.counters.sim.kernels import COMM, COPY, ELEM, GEMM, IDLE, KERNELS, SPIN, kernels_at, span, work
from satscore.counters.sim.limits import Limits
from satscore.counters.sim.power import clock_target_mhz, dynamic_share, power_w, voltage_v
from satscore.counters.sim.ranks import SimRank, build_ranks
from satscore.counters.sim.scenarios import SCENARIOS


def steady_rank(name: str) -> SimRank:
    return build_ranks(SCENARIOS[name], seed=0, world=1, ranks=[0])[0]


def mean_clock_mhz(before: Totals, after: Totals) -> float:
    return (sum(after.cycles) - sum(before.cycles)) / (after.time_s - before.time_s)


@pytest.mark.parametrize(
    ("clock_mhz", "share"),
    [
        (1200, 0.269),
        (1300, 0.330),
        (1400, 0.400),
        (1500, 0.479),
        (1612, 0.578),
        (1745, 0.713),
        (1830, 0.810),
        (1980, 1),
    ],
)
def test_switching_power_falls_with_the_clock_as_defined(clock_mhz: float, share: float) -> None:
    assert dynamic_share(clock_mhz) == pytest.approx(share, abs=6e-4)


def test_voltage_is_flat_up_to_the_knee_and_linear_above() -> None:
    assert [voltage_v(f) for f in (345, 1200, 1590, 1980)] == pytest.approx([0.70, 0.70, 0.875, 1.05])


def test_a_gemm_at_the_700_w_anchor_and_a_locked_one() -> None:
    assert power_w(GEMM, 1745) == pytest.approx(700, abs=1)
    assert power_w(GEMM, 1200) == pytest.approx(345.5, abs=1)
    assert power_w(GEMM, 1980, entropy=0.6) < 700
    assert power_w(IDLE, 1980) == 110


@pytest.mark.parametrize(
    ("cap_w", "ceiling_mhz", "entropy", "target_mhz"),
    [
        (700, 1980, 1, 1740),
        (700, 1980, 0.6, 1980),
        (500, 1980, 1, 1470),
        (700, 1200, 1, 1200),
        (700, 1207, 1, 1200),
    ],
)
def test_clock_target_lies_on_the_grid(cap_w: float, ceiling_mhz: float, entropy: float, target_mhz: float) -> None:
    assert clock_target_mhz(GEMM, cap_w, ceiling_mhz, entropy) == target_mhz


@pytest.mark.parametrize("speed", [1.0, 0.8, 0.1])
@pytest.mark.parametrize("row", range(len(KERNELS)), ids=[kernel.name for kernel in KERNELS])
def test_activities_are_possible(row: int, speed: float) -> None:
    kernel = kernels_at(speed)[row]
    assert kernel.row == row
    assert kernel.tensor + kernel.fp32 <= kernel.sm <= kernel.engine <= 1
    assert kernel.occupancy <= kernel.sm
    assert kernel.dram <= 0.93
    assert max(kernel.nvlink, kernel.host_tx, kernel.host_rx) <= 1


@pytest.mark.parametrize("board", [H200, GH200_96], ids=["h200", "gh200"])
def test_what_goes_to_the_host_passes_the_memory(board: Board) -> None:
    _, peak_bytes_s = board.host_link
    for kernel in KERNELS:
        link_bytes_s = (kernel.host_tx + kernel.host_rx) * peak_bytes_s
        assert link_bytes_s <= kernel.dram * board.dram_peak_bytes_s


def test_a_slow_gpu_keeps_its_sms_busy_for_longer_and_does_the_same_work() -> None:
    healthy, slow = SimGpu(Limits(2000.0)), SimGpu(Limits(2000.0, speed=0.8))
    for gpu in (healthy, slow):
        gpu.run(work(GEMM, 0.6))
        gpu.run(work(ELEM, 0.2))
        gpu.run(work(COMM, 0.1))
    a, b = (gpu.totals(gpu.now_s) for gpu in (healthy, slow))
    assert b.seconds[COMM.row] == pytest.approx(a.seconds[COMM.row])
    for row in (GEMM.row, ELEM.row):
        assert b.seconds[row] == pytest.approx(a.seconds[row] / 0.8)
        assert sum(b.cycles) / b.time_s == pytest.approx(sum(a.cycles) / a.time_s)
        before, after = kernels_at(1.0)[row], kernels_at(0.8)[row]
        assert b.cycles[row] * after.tensor == pytest.approx(a.cycles[row] * before.tensor)
        assert b.seconds[row] * after.dram == pytest.approx(a.seconds[row] * before.dram)
        assert (after.sm, after.occupancy) == (before.sm, before.occupancy)


@pytest.mark.parametrize("stop_s", [0.01, 0.0437, 0.2])
def test_a_segment_ends_where_it_is_stopped(stop_s: float) -> None:
    gpu = SimGpu(Limits(700.0))
    gpu.stop_s = stop_s
    gpu.run(work(GEMM, 60.0))
    assert gpu.now_s == stop_s
    gpu.stop_s = math.inf
    gpu.run(span(IDLE, 1.0))
    assert gpu.totals(gpu.now_s).seconds[GEMM.row] == pytest.approx(stop_s)
    assert gpu.now_s == pytest.approx(1.0 + stop_s)


def test_capping_lengthens_a_gemm_and_leaves_a_copy_alone() -> None:
    ends = {}
    for cap_w in (700.0, 400.0):
        gpu = SimGpu(Limits(cap_w))
        gpu.run(work(COPY, 1.0))
        after_copy = gpu.now_s
        gpu.run(work(GEMM, 1.0))
        ends[cap_w] = (after_copy, gpu.now_s - after_copy)
    assert ends[700.0][0] == pytest.approx(1.0)
    assert ends[400.0][0] == pytest.approx(1.0)
    assert ends[400.0][1] > 1.2 * ends[700.0][1]
    assert ends[700.0][1] == pytest.approx(1830 / 1740, rel=0.02)


def test_work_done_is_exact_whatever_the_clock_did_meanwhile() -> None:
    gpu = SimGpu(Limits(500.0))
    for _ in range(50):
        gpu.run(work(GEMM, 0.0337))
        gpu.run(span(ELEM, 0.0113))
    totals = gpu.totals(gpu.now_s)
    assert totals.cycles[GEMM.row] == pytest.approx(50 * 0.0337 * 1830, rel=1e-9)
    assert totals.seconds[ELEM.row] == pytest.approx(50 * 0.0113, rel=1e-9)
    assert sum(totals.seconds) == pytest.approx(totals.time_s, rel=1e-12)


def test_a_fortnight_does_not_blur_the_counters() -> None:
    young, old = SimGpu(Limits(500.0)), SimGpu(Limits(500.0))
    old.run(span(IDLE, 1.2e6))
    for gpu in (young, old):
        for _ in range(20):
            gpu.run(work(GEMM, 0.06))
            gpu.run(span(ELEM, 0.02))
    assert old.now_s - 1.2e6 == pytest.approx(young.now_s, rel=1e-8)
    assert old.totals(old.now_s).cycles[GEMM.row] == pytest.approx(20 * 0.06 * 1830, rel=1e-8)


def test_the_clock_approaches_its_target_with_a_lag_of_50_ms() -> None:
    rank = steady_rank("gemm")
    at = [rank.totals(t) for t in (0.05, 0.06, 5.0, 10.0)]
    assert mean_clock_mhz(at[0], at[1]) == pytest.approx(1740 + 240 * math.exp(-1.2), abs=1)
    assert mean_clock_mhz(at[2], at[3]) == pytest.approx(1740, rel=1e-9)


def test_temperature_rises_slowly_to_its_rest_value() -> None:
    rank = steady_rank("gemm")
    start_c, minute_c, end_c = (rank.totals(t).temp_c for t in (0.0, 60.0, 1200.0))
    assert start_c == pytest.approx(34.7)
    assert end_c == pytest.approx(27 + 0.07 * power_w(GEMM, 1740), abs=0.1)
    assert (minute_c - start_c) / (end_c - start_c) == pytest.approx(1 - math.exp(-1), abs=0.01)


@pytest.mark.parametrize("name", ["llm-500w", "duty-50", "gemm"])
def test_totals_do_not_depend_on_earlier_reads(name: str) -> None:
    often, once = steady_rank(name), steady_rank(name)
    for i in range(1, 1000):
        often.totals(i * 0.00731)
    assert often.totals(7.31) == once.totals(7.31)


def test_all_ranks_leave_the_barrier_when_the_slow_one_arrives() -> None:
    scenario = SCENARIOS["gh200x4"]
    ranks = build_ranks(scenario, seed=5, world=4, ranks=range(4))
    slow = 5 % 4
    last = [rank.totals(60.0) for rank in ranks]
    spin_s = [totals.seconds[SPIN.row] for totals in last]
    assert spin_s[slow] == 0
    assert all(0.1 < s / 60 < 0.3 for i, s in enumerate(spin_s) if i != slow)
    steps = [totals.cycles[GEMM.row] / (20 * 0.06 * 1830) for totals in last]
    assert max(steps) - min(steps) < 1


def test_a_rank_on_its_own_behaves_as_within_the_whole_job() -> None:
    scenario = SCENARIOS["gh200x4"]
    together = build_ranks(scenario, seed=2, world=4, ranks=range(4))
    for t in (3.3, 47.1):
        expected = [rank.totals(t) for rank in together]
        alone = [build_ranks(scenario, seed=2, world=4, ranks=[r])[0].totals(t) for r in range(4)]
        assert alone == expected


def test_memory_does_not_grow_with_the_length_of_a_run() -> None:
    ranks = build_ranks(SCENARIOS["gh200x4"], seed=0, world=4, ranks=range(4))
    for rank in ranks:
        rank.totals(30.0)
    tracemalloc.start()
    for t in range(31, 300, 3):
        for rank in ranks:
            rank.totals(float(t))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 20_000
