"""GPUs that were not read over the same time: who came late, was lost or hardly known is not accused, and is said."""

from dataclasses import replace
from functools import cache

import msgspec
import numpy as np
import pytest

from satscore.core.gate import judge
from satscore.core.gpu import GpuInfo
from satscore.core.readings import ReadingTable
from satscore.core.summary import Summary
from tests.unit.runs import H200_INFO, Run, joined, measured, rows
from tests.unit.scenes import E1, IDLE, series

NS = 1_000_000_000
WORK = E1 | {"sm": 0.9}
LIGHT = {"g": 1, "sm": 0.5, "T": 0.4, "d": 0.2, "f": 1745}
SPIN = {"g": 1, "sm": 0.121, "T": 0, "d": 0.01, "f": 1980}


def infos(count: int) -> list[GpuInfo]:
    return [msgspec.structs.replace(H200_INFO, index=i, uuid=f"GPU-{i}") for i in range(count)]


def of_gpu(index: int, parts, *, begin_s: float = 0.0, unknown=()) -> ReadingTable:
    """Return readings of one GPU, a second each, from a time on."""
    table = series([(1.0, values) for length_s, values in parts for _ in range(length_s)], unknown=unknown)
    shift = round(begin_s * NS)
    return replace(
        table,
        gpu=np.full(len(table), index, dtype=np.int64),
        start_ns=table.start_ns + shift,
        end_ns=table.end_ns + shift,
    )


def summary_of(*tables: ReadingTable) -> Summary:
    gpus = infos(len(tables))
    return Run(header=measured(gpus=gpus).header, table=joined(tables)).summary()


def ids(summary: Summary) -> set[str]:
    return {finding.id for finding in summary.findings}


def test_a_wrapper_that_starts_late_has_no_more_work():
    start = [(5, IDLE), (55, WORK)]
    late = of_gpu(3, [(2, IDLE), (55, WORK)], begin_s=3.0)
    summary = summary_of(*(of_gpu(i, start) for i in range(3)), late)
    assert summary.job.suspects == []
    assert not ids(summary) & {"OVERLOADED_RANK", "STRAGGLER", "IMBALANCE"}


def test_a_gpu_that_is_lost_before_the_work_gets_lighter_is_not_blamed():
    whole = [(300, WORK), (300, LIGHT)]
    summary = summary_of(*(of_gpu(i, whole) for i in range(3)), of_gpu(3, whole[:1]))
    assert summary.job.suspects == []
    assert not ids(summary) & {"OVERLOADED_RANK", "STRAGGLER"}
    assert summary.job.score.coverage_frac == pytest.approx(7 / 8, abs=0.01)
    assert summary.job.score.partial
    assert any("GPU 3 (300 s)" in note for note in summary.notes)


def test_a_gpu_that_is_hardly_known_leads_no_block():
    parts = [(200, LIGHT)]
    rare = of_gpu(3, parts)
    known = of_gpu(3, [(200, WORK)])
    seldom = joined(
        [rows(known, slice(0, 200, 20)), rows(of_gpu(3, parts, unknown=["g", "sm"]), np.arange(200) % 20 != 0)]
    )
    summary = summary_of(*(of_gpu(i, parts) for i in range(3)), seldom)
    tree = summary.job.tree
    assert tree is not None
    parts_pct = {part.name: part.points_pct for part in tree.parts}
    assert parts_pct["transient"] + parts_pct["persistent"] < 1.5
    assert "IMBALANCE" not in ids(summary)
    assert len(rare) == 200


@cache
def drifting() -> Summary:
    values = [WORK | {"T": 0.25 + 0.55 * i / 1000} for i in range(1000)]
    return summary_of(of_gpu(0, [(1, each) for each in values]))


def test_a_run_that_drifts_throughout_has_no_interval():
    summary = drifting()
    assert summary.headline.kind == "total"
    assert summary.headline.ci95 is None
    assert "drifts" in (summary.headline.ci_reason or "")
    assert "NEVER_STEADY" in ids(summary)


def test_a_mean_over_two_levels_is_not_reliable():
    summary = summary_of(of_gpu(0, [(400, WORK), (400, LIGHT)]))
    assert summary.headline.ci95 is not None
    assert not summary.headline.ci95.reliable
    assert summary.job.phases is not None
    assert len(summary.job.phases.regimes) == 2


def test_starting_is_no_stall_of_the_host():
    summary = summary_of(of_gpu(0, [(20, IDLE), (70, WORK)]))
    assert summary.headline.short_run
    assert "HOST_STALL" not in ids(summary)
    assert any("20 s had no work on the GPU: start-up" in note for note in summary.notes)


def test_a_long_start_is_reported_once():
    summary = summary_of(of_gpu(0, [(600, IDLE), (125, WORK)]))
    assert summary.headline.kind == "steady"
    assert "SLOW_START" in ids(summary)
    assert "HOST_STALL" not in ids(summary)


def test_a_steady_phase_that_is_hardly_known_is_no_headline():
    unknown = of_gpu(0, [(250, WORK)], begin_s=250.0, unknown=["T"])
    summary = summary_of(joined([of_gpu(0, [(60, IDLE), (190, WORK)]), unknown]))
    assert summary.job.score.coverage_frac == pytest.approx(0.5, abs=0.01)
    assert summary.headline.kind != "steady"


def test_a_gate_asks_for_the_coverage_of_the_steady_phase():
    start = of_gpu(0, [(2400, IDLE)])
    known = of_gpu(0, [(300, WORK)], begin_s=2400.0)
    unknown = of_gpu(0, [(100, WORK)], begin_s=2700.0, unknown=["T"])
    summary = summary_of(joined([start, known, unknown]))
    assert summary.job.score.coverage_frac > 0.95
    assert summary.headline.kind == "steady"
    refusal = judge(summary, 10.0)
    assert refusal is not None
    assert "the score is partial: coverage 75" in refusal.text


def test_an_idle_gpu_makes_no_imbalance_of_a_common_wait():
    parts = [(8, WORK), (2, SPIN)] * 30
    busy = [of_gpu(i, parts) for i in range(3)]
    assert "COMM_WAIT" in ids(summary_of(*busy))
    found = ids(summary_of(*busy, of_gpu(3, [(300, IDLE)])))
    assert {"COMM_WAIT", "GPU_IDLE_RANK"} <= found
    assert "IMBALANCE" not in found


def test_without_a_score_nothing_has_points():
    table = joined([of_gpu(0, [(100, WORK)]), of_gpu(0, [(200, LIGHT)], begin_s=100.0, unknown=["T"])])
    summary = summary_of(table)
    assert summary.headline.kind == "none"
    assert all(finding.points_pct == 0 for finding in summary.findings)
    assert summary.job.suspects == []


def test_a_gpu_without_a_score_is_neither_worst_nor_best():
    poor = joined([of_gpu(1, [(60, LIGHT)]), of_gpu(1, [(140, LIGHT)], begin_s=60.0, unknown=["T"])])
    summary = summary_of(of_gpu(0, [(200, WORK)]), poor)
    assert summary.job.gpus_scored_count == 1
    assert summary.job.worst is not None
    assert summary.job.worst.gpu_index == 0


def test_parts_and_score_add_up_where_a_level_is_unknown():
    summary = summary_of(of_gpu(0, [(200, LIGHT)]), of_gpu(1, [(200, LIGHT)], unknown=["g"]))
    score = summary.headline.score_pct or 0.0
    assert sum(finding.points_pct for finding in summary.findings) <= 100 - score + 1e-6
