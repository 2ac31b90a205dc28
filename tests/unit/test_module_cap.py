"""A cap on the module that the site states: who gets it, what it bounds, and that it is said."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satscore.core.bounds import resolve, unmodelled
from satscore.core.gpu import GpuInfo
from satscore.core.hwmodel import Attainable, HardwareModel, Number, Source
from satscore.core.intervals import THROTTLE_REASONS, Q, quantities
from satscore.core.summary import Summary
from satscore.core.summary_gpu import Bound
from satscore.run.module_cap import with_module_caps
from satscore.views.text import render
from tests.unit.runs import H200_INFO, MODELS, measured
from tests.unit.scenes import E1, H200, series

GH200 = next(model for model in MODELS if model.id == "gh200-96")
GPU = GpuInfo(
    index=0,
    name="NVIDIA GH200 120GB",
    sm_count=132,
    memory_bus_bits=6144,
    mem_clock_max_mhz=2619.0,
    sm_clock_max_mhz=1980.0,
    power_limit_gpu_w=900.0,
    power_limit_module_w=1000.0,
    vboost_level=0,
    mig_enabled=False,
)
SOURCE = Source(title="site", where="page", read="2026-09")
MODULE = {"power_module_w": 590.0, "power_limit_module_w": 1000.0, "power_gpu_w": 500.0, "power_limit_gpu_w": 900.0}
ENV = "SATSCORE_MODULE_CAP_W"


def capped_model(watts: float) -> HardwareModel:
    number = Number(value=watts, unit="W", kind="datasheet", uncertainty_frac=0.0, source=SOURCE)
    return msgspec.structs.replace(GH200, numbers=GH200.numbers | {"power_w.module_cap": number})


def cap_of(gpu: GpuInfo, model: HardwareModel, **environ: str) -> tuple[float | None, str | None]:
    [out], notes = with_module_caps([gpu], [model], environ)
    assert notes == []
    assert msgspec.structs.replace(out, module_cap_w=None, module_cap_source=None) == gpu
    return out.module_cap_w, out.module_cap_source


def test_the_model_states_it_and_the_environment_wins():
    assert cap_of(GPU, GH200) == (None, None)
    assert cap_of(GPU, capped_model(660)) == (660, "site, page, 2026-09")
    assert cap_of(GPU, capped_model(660), **{ENV: " 620.5 "}) == (620.5, ENV)
    assert cap_of(GPU, GH200, **{ENV: "620"}) == (620, ENV)


def test_a_gpu_without_a_module_never_gets_one():
    h200 = next(model for model in MODELS if model.id == "h200-sxm")
    assert cap_of(H200_INFO, h200, **{ENV: "620"}) == (None, None)
    unknown = GpuInfo(index=0, name="new part")
    assert cap_of(unknown, h200, **{ENV: "620"}) == (None, None)


def test_a_module_is_known_by_the_driver_or_by_the_model():
    refused = msgspec.structs.replace(GPU, power_limit_module_w=None)
    assert cap_of(refused, capped_model(660)) == (660, "site, page, 2026-09")
    unknown = GpuInfo(index=0, name="new part", power_limit_module_w=1000.0)
    assert cap_of(unknown, GH200, **{ENV: "620"}) == (620, ENV)


@pytest.mark.parametrize("text", ["66O", "0", "-660", "nan", "inf", "0.66", "660000", "660 W", "1e3000", "٦٦٠ W"])
def test_a_bad_value_is_said_and_ignored(text: str):
    [out], notes = with_module_caps([GPU], [capped_model(640)], {ENV: text})
    assert out.module_cap_w == 640
    [note] = notes
    assert note.startswith(f"{ENV}={text!r} is ignored: it must be a number of W from 100 to 10000")


@given(st.text(max_size=12))
def test_no_text_in_the_environment_raises(text: str):
    [out], notes = with_module_caps([GPU], [GH200], {ENV: text})
    assert (out.module_cap_w is None) or (100 <= out.module_cap_w <= 10_000 and not notes)


# --- the limit in force


def test_the_lower_of_reported_and_stated_is_in_force_and_unknown_is_no_zero():
    def limit(reported: float | None, stated: float | None) -> float | None:
        return GpuInfo(index=0, power_limit_module_w=reported, module_cap_w=stated).module_limit_w

    assert [limit(1000, 660), limit(600, 660), limit(None, 660), limit(1000, None)] == [660, 600, 660, 1000]
    assert limit(None, None) is None


def test_it_chooses_the_ceiling():
    assert resolve(GH200, GPU).ceilings_at_other_cap
    capped = resolve(GH200, msgspec.structs.replace(GPU, module_cap_w=660.0))
    assert not capped.ceilings_at_other_cap
    assert [c.cap_w for c in capped.ceilings] == [660, 660]


def entry(cap_w: float, vboost: int | None, frac: float, scope: str = "module") -> Attainable:
    return Attainable(
        resource="tensor",
        dtype="bf16",
        cap_scope="gpu" if scope == "gpu" else "module",
        cap_w=cap_w,
        vboost_level=vboost,
        attainable_frac=frac,
        attainable_active_frac=None,
        uncertainty_frac=0.0,
        kind="measured",
        source=SOURCE,
    )


@pytest.mark.parametrize(
    ("vboost", "entries", "expected"),
    [
        (0, [entry(1000, None, 0.1), entry(1000, 0, 0.2)], 0.2),  # a recorded level is better than none
        (0, [entry(1000, 0, 0.1), entry(900, 0, 0.2, "gpu")], 0.1),  # equals: the first, an overlay's
        (0, [entry(660, 0, 0.1), entry(700, None, 0.2)], 0.2),  # another cap: the nearest, recorded or not
        (None, [entry(1000, 1, 0.1), entry(1005, None, 0.2)], 0.2),  # level unknown: one that holds for any
        (1, [entry(1000, 0, 0.1), entry(500, 1, 0.2)], 0.2),  # another level is never used
    ],
)
def test_the_entry_of_our_state_comes_before_the_nearest(
    vboost: int | None, entries: list[Attainable], expected: float
):
    model = msgspec.structs.replace(GH200, attainable=tuple(entries))
    bounds = resolve(model, msgspec.structs.replace(GPU, vboost_level=vboost))
    assert bounds.attainable_frac["tensor"] == expected


@pytest.mark.parametrize(
    ("reported", "stated", "limit"), [(1000, 660, 660), (600, 660, 600), (None, 660, 660), (1000, None, 1000)]
)
def test_module_power_is_divided_by_it(reported: float | None, stated: float | None, limit: float):
    bounds = msgspec.structs.replace(H200, module_cap_w=stated)
    known = MODULE if reported is None else MODULE | {"power_limit_module_w": reported}
    unknown = ["power_limit_module_w"] if reported is None else []
    values = quantities(series([(1.0, E1 | known)], unknown=unknown), bounds)[0]
    assert values[Q["power_limit_module_w"]] == limit
    assert values[Q["power_frac_module"]] == pytest.approx(590 / limit)
    assert values[Q["power_frac_gpu"]] == pytest.approx(500 / 900)


def test_without_a_known_limit_the_share_is_unknown():
    values = quantities(series([(1.0, E1 | MODULE)], unknown=["power_limit_module_w"]), H200)[0]
    assert math.isnan(values[Q["power_frac_module"]])
    assert unmodelled(msgspec.structs.replace(GPU, module_cap_w=660.0)).module_cap_w == 660


# --- the summary and the text


def summary(cap_w: float | None, gpu: GpuInfo = GPU) -> Summary:
    info = msgspec.structs.replace(gpu, module_cap_w=cap_w, module_cap_source=ENV if cap_w else None)
    busy = E1 | MODULE | {"mem_clock_mhz": 2619.0}
    throttle = [f"throttle_{reason}_frac" for reason in THROTTLE_REASONS]
    return measured([(10.0, busy)], gpus=[info], unknown=throttle).summary()


def caps(found: Summary) -> list[Bound]:
    return [row for row in found.ranks[0].gpus[0].bounds if row.role == "cap"]


def test_the_stated_cap_is_found_and_the_evidence_names_it():
    assert "MODULE_POWER" not in {finding.id for finding in summary(None).findings}
    [finding] = [finding for finding in summary(600).findings if finding.id == "MODULE_POWER"]
    evidence = {item.key: item for item in finding.evidence}
    assert (evidence["power_limit_module_w"].name, evidence["power_limit_module_w"].value) == ("module cap", 600)
    assert evidence["power_frac_module"].value == pytest.approx(590 / 600, abs=1e-5)


def test_block_and_bound_rows_say_that_the_site_states_it():
    found = summary(600)
    [row] = caps(found)
    assert (row.resource, row.kind, row.value, row.unit, row.source) == ("power_module", "stated", 600, "W", ENV)
    assert row.condition == "whole module, stated by the site; the driver reports 1000 W"
    assert "GPU cap 900 W, module cap 600 W (site), vBoost 0; attainable: " in render(found)
    assert found.job.score.power_scope == "module"


def test_a_cap_that_the_power_contradicts_is_said():
    notes = "\n".join(summary(300).notes)
    assert f"the stated cap of 300 W cannot be right: the module drew 590 W on average ({ENV})" in notes
    assert not any("cannot be right" in note for cap_w in (None, 540, 1100) for note in summary(cap_w).notes)


def test_a_stated_cap_above_the_reported_one_is_not_in_force():
    found = summary(1100)
    assert len(caps(found)) == 1
    assert "module cap 1000 W, vBoost" in render(found)
    assert caps(summary(None)) == []


def test_a_long_line_of_the_block_is_broken_between_its_parts():
    lines = render(summary(600, msgspec.structs.replace(GPU, vboost_level=None))).split("\n")
    assert "           GPU cap 900 W, module cap 600 W (site), vBoost unknown" in lines
    assert "           attainable: tensor ~72 %, dram ~93 %" in lines


def test_an_unknown_gpu_has_its_cap_too():
    unknown = msgspec.structs.replace(GPU, name="NVIDIA XYZ")
    assert [row.value for row in caps(summary(600, unknown))] == [600]
