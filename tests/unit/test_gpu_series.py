"""The series of one GPU: what was appended comes back to the bit, packed or not, in whatever pieces it came."""

import numpy as np
import pytest

from satscore.core import gpu_series
from satscore.core.gpu_series import GpuSeries
from satscore.core.job_series import SERIES_COLUMNS, JobSeries, merge_series
from satscore.core.scorer import GpuScorer
from tests.unit.runs import batches, simulated
from tests.unit.scenes import H200

RUN = simulated("sim:llm-faulty", 75)


def series_of(size: int) -> GpuSeries:
    scorer = GpuScorer(H200, "train")
    for part in batches(RUN.table.of_gpu(0), size):
        scorer.add(part)
    scorer.close()
    return scorer.series


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("chunk", [7, 50, 4096])
def test_pieces_and_chunks_change_no_bit(monkeypatch, size, chunk):
    whole = series_of(10_000)
    columns = whole.columns()
    monkeypatch.setattr(gpu_series, "CHUNK", chunk)
    pieces = series_of(size)
    assert (pieces.first_index, len(pieces)) == (whole.first_index, len(whole))
    assert pieces.columns().keys() == columns.keys()
    for name in SERIES_COLUMNS:
        assert (pieces.column(name) == columns.get(name, 0)).all(), name


def test_it_is_the_series_of_a_job_of_one():
    one = series_of(100)
    job = merge_series([one])
    assert job.same_as(JobSeries(one.first_index, one.columns()))
    assert job.column("gpus").tolist() == [1] * len(one)


def test_packed_it_is_a_third_or_less(monkeypatch):
    monkeypatch.setattr(gpu_series, "CHUNK", 70)
    series = series_of(1000)
    columns = series.columns()
    assert len(columns) > 15
    packed = [len(data) for chunk in series._packed for _, data in chunk.values()]
    assert len(packed) >= len(columns)
    assert sum(packed) < 0.5 * 70 * 4 * len(packed)


def test_gaps_are_rows_of_nothing():
    series = series_of(1000)
    assert np.all(series.column("time_ms") >= 0)
    assert series.column("complete_ms").sum() < series.column("time_ms").sum()
