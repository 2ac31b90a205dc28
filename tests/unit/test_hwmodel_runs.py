"""Every shipped hardware model from the chip's facts to the summary: a score on its chip, none on another."""

import msgspec
import pytest

from satscore.core.gpu import GpuInfo
from satscore.core.summary import Summary
from tests.unit.runs import measured
from tests.unit.sim_runs import run_start
from tests.unit.test_hwmodel_match import CHIPS, MODELS, NAMES, gpu

NAME_OF = {model: name for name, model in NAMES}
HALF = {
    "engine_active_frac": 1.0,
    "sm_active_frac": 1.0,
    "tensor_active_frac": 0.5,
    "dram_active_frac": 0.25,
    "fp64_active_frac": 0.0,
    "fp32_active_frac": 0.0,
    "fp16_active_frac": 0.0,
}
"""Half of the tensor pipe and a quarter of DRAM; clocks come with the chip."""


def chip(model: str, **facts: object) -> GpuInfo:
    return gpu(NAME_OF[model], CHIPS[model], uuid="GPU-0", **facts)


def summary_of(info: GpuInfo, clock_mhz: float, dtype: str | None = None) -> Summary:
    values = HALF | {"sm_clock_mhz": clock_mhz, "mem_clock_mhz": info.mem_clock_max_mhz or 0.0}
    start = msgspec.structs.replace(run_start(["python", "train.py"]), dtype=dtype)
    return measured([(10.0, values)], gpus=(info,)).summary(start=start)


@pytest.mark.parametrize("name", sorted(CHIPS))
def test_a_chip_is_scored_by_its_own_model(name: str) -> None:
    [model] = [model for model in MODELS if model.id == name]
    dtype = "bf16" if "bf16" in model.flops_peak else "fp16"
    summary = summary_of(chip(name), model.rated_clock_mhz["tensor"], dtype)
    [found] = summary.ranks[0].gpus
    assert found.model_id == name
    assert summary.headline.score_pct == pytest.approx(50.0)
    rates = summary.job.rates
    slowest = model.flops_peak.get("tf32", model.flops_peak["fp16"])
    fastest = max(model.flops_peak.get(fast, 0.0) for fast in ("fp16", "fp8", "fp4"))
    assert rates.tensor_flops_s == pytest.approx(model.flops_peak[dtype] / 2, rel=1e-5)
    assert rates.tensor_flops_min_s == pytest.approx(slowest / 2, rel=1e-5)
    assert rates.tensor_flops_max_s == pytest.approx(fastest / 2, rel=1e-5)
    assert rates.dram_bytes_s == pytest.approx(model.dram_clock_bytes_s(model.mem_clock_mhz) / 4, rel=1e-5)
    assert set(rates.link_frac) == {f"{link}_{way}" for link in model.link_peak_bytes_s for way in ("tx", "rx")}


@pytest.mark.parametrize("name", sorted(CHIPS))
def test_another_chip_of_that_name_has_no_score_but_a_file_to_add(name: str) -> None:
    summary = summary_of(chip(name, sm_count=int(CHIPS[name]["sm"]) - 2), 1500.0)
    [found] = summary.ranks[0].gpus
    assert summary.headline.score_pct is None
    assert found.model_id is None
    assert found.model_note is not None
    assert "SM count" in found.model_note
    assert "with what this chip reports as its [chip]" in found.model_note
    assert found.bounds == []
