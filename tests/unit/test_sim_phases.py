"""Simulated jobs that change with time: start, warm-up, checkpoints, another mix; and traffic to the host."""

import itertools
from dataclasses import replace

import pytest

from satscore.counters.sim.boards import GH200_96, H200
from satscore.counters.sim.job import common, own
from satscore.counters.sim.kernels import ATTN, COMM, COPY, ELEM, GEMM, HOST_COMM, IDLE, LOAD, SAVE, span, work
from satscore.counters.sim.ranks import build_ranks
from satscore.counters.sim.scenarios import SCENARIOS
from satscore.counters.sim.workload import Change, Pause, Phases, Ramp, Ranks, Scenario
from satscore.counters.simulated import SimulatedSource
from tests.unit.test_sim import get, mean, record
from tests.unit.test_sim_ranks import check_barriers

PHASES = Phases(
    prologue=(span(IDLE, 3.0), work(COPY, 1.0)),
    ramp=Ramp(steps=4, gap_s=2.0),
    pauses=(Pause(every=3, segments=(span(SAVE, 0.5),)), Pause(every=2, segments=(work(ATTN, 0.3),))),
    change=Change(step=5, own=(work(ELEM, 0.7),), common=(work(COMM, 0.1),)),
)
SMALL = replace(SCENARIOS["llm"], own=(work(GEMM, 0.5),), common=(work(COMM, 0.2),), phases=PHASES)


def kernel_seconds(scenario: Scenario, seconds: float) -> dict[str, float]:
    (rank,) = build_ranks(scenario, seed=0, world=1, ranks=[0])
    names = [kernel.name for kernel in (IDLE, GEMM, ATTN, ELEM, COMM, SAVE, COPY)]
    rows = [kernel.row for kernel in (IDLE, GEMM, ATTN, ELEM, COMM, SAVE, COPY)]
    totals = rank.totals(seconds)
    return {name: totals.seconds[row] for name, row in zip(names, rows, strict=True)}


def test_a_step_is_what_its_phase_makes_of_it() -> None:
    gaps_s = {0: 2.0, 1: 1.5, 2: 1.0, 3: 0.5}
    for step in range(12):
        expected = [work(COMM, 0.2 if step < 5 else 0.1)]
        expected += [span(SAVE, 0.5)] * (step in (2, 5, 8, 11)) + [work(ATTN, 0.3)] * (step % 2)
        expected += [span(IDLE, gaps_s[step])] if step in gaps_s else []
        assert list(common(SMALL, step)) == expected
        assert list(own(SMALL, step, 1.0)) == [work(GEMM, 0.5) if step < 5 else work(ELEM, 0.7)]


def test_work_and_what_is_before_it() -> None:
    scenario = replace(SMALL, work=1.5, before=(span(IDLE, 0.4), work(LOAD, 0.1)))
    assert list(own(scenario, 0, 0.5)) == [span(IDLE, 0.4), work(LOAD, 0.1), work(GEMM, 0.5 * 1.5 * 0.5)]


def test_the_prologue_runs_once() -> None:
    ran = kernel_seconds(SMALL, 4.0)
    assert [ran[name] for name in ("idle", "copy", "gemm")] == pytest.approx([3.0, 1.0, 0.0])
    later = kernel_seconds(SMALL, 60.0)
    assert [later[name] for name in ("idle", "copy")] == pytest.approx([3.0 + 5.0, 1.0])


@pytest.mark.parametrize("jitter_frac", [0.0, 0.1])
def test_ranks_are_in_the_same_phase(jitter_frac: float) -> None:
    check_barriers(replace(SMALL, ranks=Ranks(jitter_frac=jitter_frac)), 20.0, 3, 4)


def tensor_by_block(name: str, seconds: int, block_s: int) -> list[float]:
    _, reads = record(f"sim:{name}", seconds)
    per_block = block_s * 5
    blocks = [reads[at : at + per_block] for at in range(0, len(reads), per_block)]
    return [mean(block, "tensor_active_frac") * mean(block, "engine_active_frac") for block in blocks]


def test_checkpoints_start_slowly_and_come_back_again_and_again() -> None:
    _, reads = record("sim:checkpoints", 540)
    idle_s = 0.2 * sum(get(reading, "sm_active_frac") == 0 for (reading,) in reads)
    saving = [get(reading, "pcie_tx_bytes_s") > 0.05 * 63e9 for (reading,) in reads]
    starts_s = [i / 5 for i in range(1, len(saving)) if saving[i] and not saving[i - 1]]
    gaps_s = [b - a for a, b in itertools.pairwise(starts_s)]
    assert len(starts_s) == 3
    assert max(gaps_s) - min(gaps_s) < 1.0
    assert 100 < gaps_s[0] < 150
    assert 100 < sum(saving) / 5 * 100 / (1.6 * len(starts_s)) < 115  # 1.6 s each, seen in whole reads
    assert not any(get(reading, "engine_active_frac") for (reading,) in reads[:300])
    assert idle_s > 60 + 3 * 9
    early, late = mean(reads[300:400], "engine_active_frac"), mean(reads[700:800], "engine_active_frac")
    assert early < 0.75 < 0.95 < late


def test_a_change_lowers_the_level_for_good() -> None:
    levels = tensor_by_block("regime-change", 300, 60)
    assert levels[0] == pytest.approx(levels[1], abs=0.02)
    assert levels[3] == pytest.approx(levels[4], abs=0.02)
    assert levels[4] < 0.85 * levels[1]


def link(source: SimulatedSource, kernel: str, share: float, peak_bytes_s: float, seconds: float) -> float:
    return source.kernel_seconds()[kernel] / seconds * share * peak_bytes_s


def test_collectives_without_nvlink_take_pcie_and_offload_takes_c2c() -> None:
    source, reads = record("sim:pcie-comm", 30)
    for way in ("tx", "rx"):
        assert mean(reads, f"pcie_{way}_bytes_s") == pytest.approx(link(source, "host-comm", 0.4, 63e9, 30))
        assert mean(reads, f"nvlink_{way}_bytes_s") == 0
    source, reads = record("sim:gh200-offload", 30)
    for way in ("tx", "rx"):
        assert mean(reads, f"c2c_{way}_bytes_s") == pytest.approx(link(source, "host-comm", 0.4, 450e9, 30))
        assert mean(reads, f"pcie_{way}_bytes_s") == 0
        assert mean(reads, f"nvlink_{way}_bytes_s") > 0


@pytest.mark.parametrize(("kernel", "tx", "rx"), [(SAVE, 0.5, 0), (LOAD, 0, 0.5), (HOST_COMM, 0.4, 0.4)])
@pytest.mark.parametrize(("board", "prefix", "peak"), [(H200, "pcie", 63e9), (GH200_96, "c2c", 450e9)])
def test_each_direction_is_its_own(monkeypatch, kernel, tx, rx, board, prefix, peak) -> None:
    scenario = replace(
        SCENARIOS["llm"], own=(span(kernel, 1.0), span(IDLE, 1.0)), board=board or SCENARIOS["llm"].board
    )
    monkeypatch.setitem(SCENARIOS, "links", scenario)
    _, reads = record("sim:links", 4)
    assert mean(reads, f"{prefix}_tx_bytes_s") == pytest.approx(tx * peak / 2)
    assert mean(reads, f"{prefix}_rx_bytes_s") == pytest.approx(rx * peak / 2)
    busy = float(kernel is HOST_COMM)
    assert mean(reads, "gpu_util_frac") == mean(reads, "engine_active_frac") == pytest.approx(busy / 2)


@pytest.mark.parametrize(
    ("name", "sm", "tensor", "dram", "clock_mhz"),
    [
        ("decode", 0.891, 0.17, 0.262, 1980),
        ("latency-bound", 0.9, 0.0, 0.2, 1980),
        ("small-grid", 0.55, 0.47, 0.15, 1980),
    ],
)
def test_steady_loads_read_as_stated(name: str, sm: float, tensor: float, dram: float, clock_mhz: float) -> None:
    _, reads = record(f"sim:{name}", 10)
    last = reads[-1][0]
    names = ("engine_active_frac", "sm_active_frac", "tensor_active_frac", "dram_active_frac", "sm_clock_mhz")
    assert [get(last, field) for field in names] == pytest.approx([1, sm, tensor, dram, clock_mhz])
    assert get(last, "power_gpu_w") < 700


def test_every_scenario_has_one_line_of_its_own() -> None:
    summaries = [scenario.summary for scenario in SCENARIOS.values()]
    assert len(set(summaries)) == len(summaries)
    assert all(len(f"{name}: {scenario.summary}") < 120 for name, scenario in SCENARIOS.items())
    assert not any("\n" in summary or summary.endswith(".") for summary in summaries)


def test_kernel_times_add_up() -> None:
    for name in ("checkpoints", "stalled-rank", "idle-rank"):
        source, _ = record(f"sim:{name}", 80)
        for gpu in range(len(source.gpus)):
            assert sum(source.kernel_seconds(gpu).values()) == pytest.approx(80)
