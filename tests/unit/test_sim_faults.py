"""Faults of reading: which values go, with what reason, and that satscore invents nothing for them."""

import threading
from functools import cache

import numpy as np
import pytest

from satscore.core.fields import FIELDS, INDEX, Kind, Quality, Reading
from satscore.core.readings import ReadingTable
from satscore.counters.clock import ManualClock
from satscore.counters.sim.faults import LOST_PERIOD_S
from satscore.counters.simulated import Placement, SimulatedSource, open_simulated
from tests.unit.runs import simulated, truth_of

SECONDS = 120
ALL = "blank:0.03+stale:0.02+reset:0.01+jitter:0.02+lost:2"


@cache
def table(faults: str, scenario: str = "llm") -> ReadingTable:
    return simulated(f"sim:{scenario},faults={faults}", SECONDS).table


def share(of: ReadingTable, quality: Quality, names: list[str]) -> float:
    return float((of.quality[:, [INDEX[name] for name in names]] == quality).mean())


def supported() -> list[str]:
    """Return the fields that a simulated H200 has."""
    plain = simulated("sim:llm", 1).table
    return [f.name for f in FIELDS if plain.quality[0, INDEX[f.name]] == Quality.OK]


def read_all(spec: str, seconds: float, placement: Placement | None = None) -> tuple[SimulatedSource, list[Reading]]:
    clock, never = ManualClock(), threading.Event()
    source = open_simulated(spec, clock, placement=placement)
    readings = source.read()
    for tick in range(1, round(seconds / 0.2) + 1):
        clock.wait_until(round(tick * 2e8), never)
        readings += source.read()
    return source, readings


def test_known_values_of_a_faulty_driver_are_the_true_ones() -> None:
    # Energy and power are not compared: what one read missed is booked with the next.
    names = [f.name for f in FIELDS if not f.name.startswith(("energy_", "power_gpu", "power_module"))]
    columns = [INDEX[name] for name in names]
    faulty, plain = table("blank:0.1+stale:0.1+reset:0.1+lost:5+multiplex:1"), simulated("sim:llm", SECONDS).table
    known = faulty.quality[:, columns] == Quality.OK
    assert 0.5 < known.mean() < 0.9
    assert np.array_equal(faulty.values[:, columns][known], plain.values[:, columns][known])
    assert np.isnan(faulty.values[faulty.quality != Quality.OK]).all()


def test_blanks_hit_the_stated_share_of_values() -> None:
    assert share(table("blank:0.05"), Quality.BLANK, supported()) == pytest.approx(0.05, abs=0.01)
    assert share(table("blank:1"), Quality.BLANK, supported()) == 1.0
    assert share(table("blank:1"), Quality.NOT_SUPPORTED, ["power_module_w"]) == 1.0


def test_a_stale_read_lacks_everything_that_counts_and_keeps_the_gauges() -> None:
    stale = table("stale:0.2")
    hit = stale.quality[:, INDEX["tensor_active_frac"]] == Quality.STALE
    assert hit.mean() == pytest.approx(0.2, abs=0.05)
    gauges = [f.name for f in FIELDS if f.kind is Kind.GAUGE and f.name in supported()]
    counted = [f.name for f in FIELDS if f.kind is not Kind.GAUGE and f.name in supported()]
    assert (stale.quality[hit][:, [INDEX[n] for n in counted]] == Quality.STALE).all()
    assert (stale.quality[hit][:, [INDEX[n] for n in gauges]] == Quality.OK).all()
    assert (stale.quality[~hit][:, [INDEX[n] for n in counted]] == Quality.OK).all()


def test_energy_that_a_read_missed_is_booked_with_the_next() -> None:
    faulty = table("stale:0.2+blank:0.2")
    energy = faulty.column("energy_gpu_j")
    last = np.flatnonzero(~np.isnan(energy))[-1]
    plain = simulated("sim:llm", SECONDS).table.column("energy_gpu_j")
    assert np.nansum(energy) == pytest.approx(plain[: last + 1].sum(), rel=1e-6)
    assert np.nanmax(faulty.column("power_gpu_w")) < 720


def test_a_reset_has_no_energy_and_no_throttle_times_and_loses_what_was_owed() -> None:
    faulty = table("reset:0.1")
    hit = faulty.quality[:, INDEX["energy_gpu_j"]] == Quality.BLANK
    assert hit.mean() == pytest.approx(0.1, abs=0.04)
    assert (faulty.quality[hit][:, INDEX["throttle_power_frac"]] == Quality.BLANK).all()
    assert (faulty.quality[hit][:, INDEX["tensor_active_frac"]] == Quality.OK).all()
    plain = simulated("sim:llm", SECONDS).table.column("energy_gpu_j")
    assert np.array_equal(faulty.column("energy_gpu_j")[~hit], plain[~hit])


def test_groups_of_pipes_take_turns() -> None:
    turns = table("multiplex:1")
    tensor = turns.quality[:, INDEX["tensor_active_frac"]]
    vector = turns.quality[:, INDEX["fp32_active_frac"]]
    assert set(tensor) == set(vector) == {Quality.OK, Quality.NOT_READ}
    assert ((tensor == Quality.OK) != (vector == Quality.OK)).all()
    assert (tensor == Quality.OK).mean() == pytest.approx(0.5, abs=0.01)
    assert share(turns, Quality.OK, ["sm_active_frac", "dram_active_frac", "sm_clock_mhz"]) == 1.0


def test_a_gpu_is_lost_once_in_every_period_and_comes_back() -> None:
    faulty = table("lost:3")
    lost = (faulty.quality == Quality.GPU_LOST).all(axis=1)
    assert ((faulty.quality == Quality.GPU_LOST).any(axis=1) == lost).all()
    periods = faulty.start_ns // round(LOST_PERIOD_S * 1e9)
    lost_s = [float((faulty.end_ns - faulty.start_ns)[lost & (periods == p)].sum()) / 1e9 for p in range(4)]
    # The reads at both ends of the outage reach beyond it.
    assert all(3.0 <= s <= 3.4 + 1e-6 for s in lost_s)
    assert np.count_nonzero(np.diff(lost.astype(int)) == 1) == 4


def test_times_of_reads_are_those_of_the_counters() -> None:
    faulty, plain = table("jitter:0.05"), simulated("sim:llm", SECONDS).table
    delay_s = (plain.end_ns - faulty.end_ns) / 1e9
    assert 0 <= delay_s.min() < 0.005
    assert 0.045 < delay_s.max() <= 0.05
    assert (faulty.start_ns[1:] == faulty.end_ns[:-1]).all()
    seconds = (faulty.end_ns - faulty.start_ns) / 1e9
    energy_j = truth_of("sim:llm,faults=jitter:0.05", SECONDS).energy_gpu_j
    assert float((faulty.column("power_gpu_w") * seconds).sum()) == pytest.approx(energy_j, rel=1e-6)


def test_faults_follow_from_seed_rank_and_time_alone() -> None:
    _, together = read_all(f"sim:gh200x4,seed=2,faults={ALL}", 20)
    for rank in range(4):
        placement = Placement(rank=rank, world=4, origin_ns=0)
        _, alone = read_all(f"sim:gh200x4,seed=2,faults={ALL}", 20, placement)
        mine = [reading for reading in together if reading.gpu == rank]
        assert [r[1:3] for r in alone] == [r[1:3] for r in mine]
        assert [r.quality for r in alone] == [r.quality for r in mine]
        assert np.array_equal([r.values for r in alone], [r.values for r in mine], equal_nan=True)
    by_rank = [b"".join(bytes(r.quality) for r in together if r.gpu == rank) for rank in range(4)]
    assert len(set(by_rank)) == 4
    _, reseeded = read_all(f"sim:gh200x4,seed=6,faults={ALL}", 20)  # the same slow rank
    assert [r.quality for r in reseeded] != [r.quality for r in together]


def test_a_read_that_is_left_out_leaves_the_others_alone() -> None:
    clock, never = ManualClock(), threading.Event()
    source = open_simulated(f"sim:llm,faults={ALL}", clock)
    source.read()
    seen: dict[int, bytes] = {}
    for tick in range(1, 200):
        clock.wait_until(round(tick * 2e8), never)
        if tick % 7:
            seen |= {reading.end_ns: bytes(reading.quality) for reading in source.read()}
    _, every = read_all(f"sim:llm,faults={ALL}", 39.8)
    lost = bytes([Quality.GPU_LOST]) * len(FIELDS)
    same = [seen[r.end_ns] == bytes(r.quality) for r in every if r.end_ns in seen and lost != seen[r.end_ns]]
    assert len(same) > 100
    assert all(same)


@pytest.mark.parametrize("spec", ["sim:llm-faulty", *(f"sim:llm-faulty,seed={seed}" for seed in (1, 2))])
def test_satscore_says_what_it_does_not_know(spec: str) -> None:
    run, true = simulated(spec, SECONDS).summary(), simulated("sim:llm", SECONDS).summary().job.score
    score = run.job.score
    assert true.score_pct is not None
    assert score.score_pct is not None
    assert (score.grade, true.grade) == ("C", "B")
    assert score.partial
    assert 0.5 < score.coverage_frac < 0.85
    assert (score.score_min_pct or 0.0) < true.score_pct - 3
    assert (score.score_max_pct or 100.0) > true.score_pct + 3
    assert (true.score_min_pct, true.score_max_pct) == pytest.approx((true.score_pct, true.score_pct))
    assert score.score_pct == pytest.approx(true.score_pct, abs=1.5)
    truth = truth_of(spec, SECONDS)
    assert truth == pytest.approx(truth_of("sim:llm", SECONDS), rel=1e-3)
    assert score.tensor_score_pct == pytest.approx(100 * truth.hfu_frac, abs=1.5)


@pytest.mark.parametrize(
    "faults", ["blank:0.05", "stale:0.3", "stale:1", "lost:20", "multiplex:1", "multiplex:10", "blank:0.5", ALL]
)
@pytest.mark.parametrize("scenario", ["llm", "gemm-500w", "llm-stall"])
def test_the_true_score_lies_between_the_bounds_whatever_is_missing(scenario: str, faults: str) -> None:
    score = simulated(f"sim:{scenario},faults={faults}", 60).summary().job.score
    true = simulated(f"sim:{scenario}", 60).summary().job.score.score_pct
    assert true is not None
    assert score.score_min_pct is not None
    assert score.score_max_pct is not None
    # Reads of other times move windows by what is not linear between reads.
    moved = 0.3 if "jitter" in faults else 1e-3
    assert score.score_min_pct - moved <= true <= score.score_max_pct + moved
    assert score.coverage_frac < 1
    if score.coverage_frac < 0.5:
        assert (score.score_pct, score.grade) == (None, None)
        assert "complete" in score.missing["score_pct"]


def test_more_faults_never_raise_coverage_or_narrow_the_bounds() -> None:
    scores = [simulated(f"sim:llm,faults=blank:{p}", 60).summary().job.score for p in (0.01, 0.1, 0.3, 0.9)]
    coverage = [score.coverage_frac for score in scores]
    width = [(score.score_max_pct or 0) - (score.score_min_pct or 0) for score in scores]
    assert coverage == sorted(coverage, reverse=True)
    assert width == sorted(width)
    assert width[-1] > 80


def test_jitter_with_honest_times_costs_nothing() -> None:
    score = simulated("sim:llm,faults=jitter:0.05", 60).summary().job.score
    true = simulated("sim:llm", 60).summary().job.score
    assert (score.coverage_frac, score.grade) == (1.0, true.grade)
    assert score.score_pct == pytest.approx(true.score_pct, abs=0.3)


def test_faults_are_said_in_the_note() -> None:
    (note,) = open_simulated("sim:llm,faults=lost:3+blank:0.05").notes()
    assert "Read faults: blank:0.05+lost:3." in note
    assert "faults" not in open_simulated("sim:llm").notes()[0]
