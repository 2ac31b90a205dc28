"""The shipped hardware models: every peak to the stated digits, ceilings, links, sources, and a golden table."""

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from satscore.core.hwmodel_check import check_set
from satscore.run.models import load_library

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "hwmodels").glob("*.toml"))
GOLDEN = ROOT / "tests" / "golden" / "peaks.txt"
REGENERATE = "SATSCORE_REGENERATE_GOLDEN"
"""Set this environment variable to 1 to write tests/golden/peaks.txt anew; then read the diff."""
GOLDEN_PREFIXES = (
    "rated_clock_mhz", "flops_", "vector_flops_", "dram_", "link_peak_bytes_s", "attainable_",
)  # fmt: skip


def raw_of(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


RAW = {path.stem: raw_of(path) for path in SHIPPED}
MODELS = {model.id: model for model in load_library({}).models}


# --- the shipped numbers


def test_the_products_that_are_shipped() -> None:
    assert set(RAW) == {
        "v100-sxm2-16", "v100-sxm2-32",
        "a100-pcie-40", "a100-pcie-80", "a100-sxm-40", "a100-sxm-80", "a30",
        "h100-pcie", "h100-nvl", "h100-sxm", "h200-nvl", "h200-sxm", "gh200-96", "gh200-144",
        "b200", "gb200", "b300", "gb300",
        "l4", "l40s", "rtx-4090", "rtx-6000-ada",
    }  # fmt: skip


def golden_lines() -> list[str]:
    lines = []
    for name, model in MODELS.items():
        for key, number in model.numbers.items():
            if key.startswith(GOLDEN_PREFIXES):
                uncertainty = f"+-{number.uncertainty_frac:g}"
                lines.append(
                    f"{name:<12} {key:<52} {number.value:<14.8g} {number.unit:<7} {number.kind:<9} {uncertainty}"
                )
    return lines


def test_a_changed_peak_is_a_visible_diff() -> None:
    text = "\n".join(golden_lines()) + "\n"
    if os.environ.get(REGENERATE) == "1":
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8"), f"peaks changed; if on purpose, set {REGENERATE}=1"


HOPPER = ("h100-sxm", "h200-sxm", "gh200-96", "gh200-144")
TFLOPS = [
    *((m, "flops_peak", d, v, 2) for m in HOPPER for d, v in
      [("bf16", 989.43), ("fp16", 989.43), ("tf32", 494.71), ("fp8", 1978.86), ("fp64", 66.91)]),
    *((m, "vector_flops_peak", d, v, 2) for m in HOPPER for d, v in [("fp32", 66.91), ("fp64", 33.45)]),
    ("a100-sxm-40", "flops_peak", "bf16", 311.87, 2),
    ("a100-sxm-80", "flops_peak", "bf16", 311.87, 2),
    ("a100-pcie-40", "flops_peak", "bf16", 311.87, 2), ("a100-pcie-80", "flops_peak", "int8", 623.74, 2),
    ("v100-sxm2-16", "flops_peak", "fp16", 125.34, 2), ("v100-sxm2-32", "vector_flops_peak", "fp64", 7.83, 2),
    ("a30", "flops_peak", "bf16", 165.15, 2), ("h100-pcie", "flops_peak", "bf16", 756.45, 2),
    ("h100-pcie", "flops_peak", "fp64", 51.22, 2), ("h100-nvl", "flops_peak", "bf16", 835.3, 1),
    ("h200-nvl", "flops_peak", "fp8", 1670.7, 1), ("gb200", "flops_peak", "bf16", 2500.0, 0),
    ("gb200", "vector_flops_peak", "fp32", 80.2, 1), ("gb200", "vector_flops_peak", "fp64", 40.1, 1),
    ("b300", "flops_peak", "bf16", 2250.0, 0), ("b300", "vector_flops_peak", "fp64", 1.2, 1),
    ("gb300", "flops_peak", "fp4", 15002.0, 0), ("gb300", "flops_peak", "fp64", 1.3, 1),
    ("gb300", "flops_peak", "int8", 156.0, 0), ("l4", "flops_peak", "bf16", 121.2, 1),
    ("l40s", "flops_peak", "bf16", 366.4, 1), ("l40s", "flops_peak", "fp8", 732.9, 1),
    ("rtx-6000-ada", "flops_peak", "bf16", 364.2, 1), ("rtx-4090", "flops_peak", "bf16", 165.2, 1),
    ("rtx-4090", "flops_peak", "fp16_acc16", 330.3, 1), ("rtx-4090", "flops_peak", "fp8", 330.3, 1),
    ("rtx-4090", "flops_peak", "fp8_acc16", 660.6, 1),
]  # fmt: skip


@pytest.mark.parametrize(("model", "field", "dtype", "tflops", "digits"), TFLOPS)
def test_compute_peaks_to_the_stated_digits(model: str, field: str, dtype: str, tflops: float, digits: int) -> None:
    assert round(getattr(MODELS[model], field)[dtype] / 1e12, digits) == tflops


@pytest.mark.parametrize(
    ("model", "derived_gb_s", "bound_gb_s"),
    [
        ("h100-sxm", 3352.3, 3352.3),
        ("gh200-96", 4022.8, 4022.8),
        ("gh200-144", 4916.7, 4916.7),
        ("h200-sxm", 4916.7, 4800.0),
        ("a100-sxm-80", 2039.0, 2039.0),
        ("a100-sxm-40", 1555.2, 1555.2),
        ("b200", 7672.3, 7672.3),
        ("v100-sxm2-16", 898.0, 898.0),
        ("v100-sxm2-32", 898.0, 898.0),
        ("a100-pcie-40", 1555.2, 1555.2),
        ("a100-pcie-80", 1935.4, 1935.4),
        ("a30", 933.1, 933.1),
        ("h100-pcie", 2039.0, 2039.0),
        ("h100-nvl", 3939.0, 3939.0),
        ("h200-nvl", 4916.7, 4800.0),
        ("gb200", 7928.1, 7928.1),
        ("b300", 7672.3, 7672.3),
        ("gb300", 7928.1, 7928.1),
        ("l4", 300.0, 300.0),
        ("l40s", 864.1, 864.1),
        ("rtx-4090", 1008.1, 1008.1),
        ("rtx-6000-ada", 960.1, 960.1),
    ],
)
def test_dram_peaks_to_the_stated_digits(model: str, derived_gb_s: float, bound_gb_s: float) -> None:
    found = MODELS[model]
    assert round(found.dram_clock_bytes_s(found.mem_clock_mhz) / 1e9, 1) == derived_gb_s
    assert round(found.dram_peak_bytes_s / 1e9, 1) == bound_gb_s


@pytest.mark.parametrize(
    ("model", "links"),
    [
        ("a100-sxm-40", {"nvlink": 300e9, "pcie": 31.5e9}),
        ("a100-sxm-80", {"nvlink": 300e9, "pcie": 31.5e9}),
        ("h100-sxm", {"nvlink": 450e9, "pcie": 63.0e9}),
        ("h200-sxm", {"nvlink": 450e9, "pcie": 63.0e9}),
        ("gh200-96", {"nvlink": 450e9, "c2c": 450e9}),
        ("gh200-144", {"nvlink": 450e9, "c2c": 450e9}),
        ("b200", {"nvlink": 900e9}),
        ("v100-sxm2-16", {"nvlink": 150e9, "pcie": 15.75e9}),
        ("v100-sxm2-32", {"nvlink": 150e9, "pcie": 15.75e9}),
        ("a100-pcie-40", {"nvlink": 300e9, "pcie": 31.5e9}),
        ("a100-pcie-80", {"nvlink": 300e9, "pcie": 31.5e9}),
        ("a30", {"nvlink": 100e9, "pcie": 31.5e9}),
        ("h100-pcie", {"nvlink": 300e9, "pcie": 63.0e9}),
        ("h100-nvl", {"nvlink": 300e9, "pcie": 63.0e9}),
        ("h200-nvl", {"nvlink": 450e9, "pcie": 63.0e9}),
        ("gb200", {"nvlink": 900e9, "c2c": 450e9}),
        ("b300", {"nvlink": 900e9, "pcie": 126.0e9}),
        ("gb300", {"nvlink": 900e9, "c2c": 450e9}),
        ("l4", {"pcie": 31.5e9}),
        ("l40s", {"pcie": 31.5e9}),
        ("rtx-4090", {"pcie": 31.5e9}),
        ("rtx-6000-ada", {"pcie": 31.5e9}),
    ],
)
def test_links_per_direction_exist_only_where_the_part_has_them(model: str, links: dict[str, float]) -> None:
    assert MODELS[model].link_peak_bytes_s == links


@pytest.mark.parametrize(
    ("model", "resource", "scope", "cap_w", "vboost", "frac", "active"),
    [
        ("h200-sxm", "tensor", "gpu", 700, None, 0.797, 0.835),
        ("h200-sxm", "dram", "gpu", 700, None, 0.896, 0.875),
        ("h100-sxm", "tensor", "gpu", 700, None, 0.803, None),
        ("h100-sxm", "dram", "gpu", 700, None, 0.91, None),
        ("gh200-96", "tensor", "module", 660, 0, 0.72, None),
        ("gh200-96", "dram", "module", 660, 0, 0.93, None),
        ("gh200-144", "tensor", "gpu", 900, None, 0.838, None),
        ("gh200-144", "dram", "gpu", 900, None, 0.90, None),
        ("a100-sxm-40", "tensor", "gpu", 400, None, 0.869, None),
        ("a100-sxm-40", "dram", "gpu", 400, None, 0.85, None),
        ("a100-sxm-80", "tensor", "gpu", 400, None, 0.869, None),
        ("a100-sxm-80", "dram", "gpu", 400, None, 0.85, None),
        ("b200", "tensor", "gpu", 1000, None, 0.776, None),
        ("a100-pcie-80", "tensor", "gpu", 300, None, 0.811, None),
        ("h100-nvl", "dram", "gpu", 310, None, 0.895, None),
        ("gb200", "tensor", "gpu", 1200, None, 0.729, None),
        ("b300", "tensor", "gpu", 1100, None, 0.786, None),
        ("b300", "dram", "gpu", 1100, None, 0.938, None),
        ("gb300", "tensor", "gpu", 1400, None, 0.738, None),
    ],
)
def test_ceilings(
    model: str, resource: str, scope: str, cap_w: float, vboost: int | None, frac: float, active: float | None
) -> None:
    [entry] = [c for c in MODELS[model].attainable if c.resource == resource]
    assert (entry.cap_scope, entry.cap_w, entry.vboost_level) == (scope, cap_w, vboost)
    assert (entry.attainable_frac, entry.attainable_active_frac) == (frac, active)
    assert entry.uncertainty_frac >= 0.03
    assert (entry.uncertainty_frac > 0.03) == ("uncertain" in entry.note)


def test_a_ceiling_whose_cap_nobody_recorded_is_assumed() -> None:
    ceilings = [(name, c) for name, model in MODELS.items() for c in (*model.attainable, *model.attainable_if_stated)]
    unrecorded = ("cap not recorded", "cap and vBoost not recorded", "cap are not recorded", "cap are not stated")
    found = [(name, c) for name, c in ceilings if any(words in c.note for words in unrecorded)]
    assert {name for name, _ in found} == {"gb300", "b300", "a100-pcie-80", "gh200-96"}
    assert {c.kind for _, c in found} == {"assumed"}


def test_no_ceiling_is_made_up_and_each_that_is_missing_is_said() -> None:
    for name, model in MODELS.items():
        lacking = {"tensor", "dram"} - {c.resource for c in model.attainable}
        said = " ".join(model.open_checks).lower()
        assert lacking == {
            r for r in ("tensor", "dram") if f"no {r} ceiling" in said or "no attainable rate" in said
        }, name
    assert all(not MODELS[name].attainable for name in ("v100-sxm2-32", "a30", "h100-pcie", "l40s", "rtx-4090"))


def test_the_parts_without_a_dtype_have_no_rate_for_it() -> None:
    assert set(MODELS["v100-sxm2-32"].flops_peak) == {"fp16"}
    ampere = {"fp64", "tf32", "fp16", "bf16", "int8"}
    assert all(set(MODELS[name].flops_peak) == ampere for name in ("a100-pcie-40", "a100-pcie-80", "a30"))
    ada = {"tf32", "fp16", "bf16", "fp8", "int8"}
    assert all(set(MODELS[name].flops_peak) == ada for name in ("l4", "l40s", "rtx-6000-ada"))
    assert set(MODELS["rtx-4090"].flops_peak) == ada | {"fp16_acc16", "fp8_acc16"}
    assert all(set(model.vector_flops_peak) == {"fp64", "fp32", "fp16"} for model in MODELS.values())


@pytest.mark.parametrize(("ultra", "older"), [("b300", "b200"), ("gb300", "gb200")])
def test_blackwell_ultra_gave_up_fp64_and_int8_for_fp4(ultra: str, older: str) -> None:
    new, old = MODELS[ultra].flops_peak, MODELS[older].flops_peak
    assert new["bf16"] == old["bf16"]
    assert new["fp4"] == 1.5 * old["fp4"]
    assert new["fp64"] < old["fp64"] / 20
    assert new["int8"] == old["int8"] / 32
    assert MODELS[ultra].vector_flops_peak["fp64"] < MODELS[older].vector_flops_peak["fp64"] / 20


def test_every_new_part_says_what_can_read_its_pipe_counters() -> None:
    said = {name: text for name, model in MODELS.items() for text in model.open_checks if "pipe counters" in text}
    gpm = {"h100-pcie", "h100-nvl", "h200-nvl", "gb200", "b300", "gb300"}
    assert {name for name, text in said.items() if "NVML-GPM, as on" in text} == gpm
    assert "none is known" in said.pop("rtx-4090")
    assert all("without it there is no score" in text for name, text in said.items() if name not in gpm)
    assert {"v100-sxm2-16", "v100-sxm2-32", "a100-pcie-40", "a100-pcie-80", "a30"} <= set(said)
    assert {"l4", "l40s", "rtx-6000-ada"} <= set(said)


DENSE_16_BIT = {
    512: ("rtx-4090",),
    1024: ("v100-sxm2-16", "v100-sxm2-32", "l4", "l40s", "rtx-6000-ada"),
    2048: ("a100-pcie-40", "a100-pcie-80", "a100-sxm-40", "a100-sxm-80", "a30"),
    4096: ("h100-pcie", "h100-nvl", "h100-sxm", "h200-nvl", "h200-sxm", "gh200-96", "gh200-144"),
    8192: ("b200", "gb200", "b300", "gb300"),
}
"""FLOP per clock and SM by generation. With 2:4 sparsity it would be twice that."""


@pytest.mark.parametrize(("per_clock", "names"), DENSE_16_BIT.items())
def test_rates_are_dense_and_fp16_is_as_fast_as_bf16(per_clock: int, names: tuple[str, ...]) -> None:
    for name in names:
        model = MODELS[name]
        dense = per_clock * model.sm_count * model.rated_clock_mhz["tensor"] * 1e6
        found = [model.flops_peak[dtype] for dtype in ("fp16", "bf16") if dtype in model.flops_peak]
        assert found == pytest.approx([dense] * len(found)), name


def test_every_product_has_its_dense_rate_stated() -> None:
    assert {name for names in DENSE_16_BIT.values() for name in names} == set(RAW)


@pytest.mark.parametrize("name", sorted(RAW))
def test_a_ceiling_of_another_dtype_never_stands_for_tensor(name: str) -> None:
    assert {c.dtype for c in MODELS[name].attainable if c.resource == "tensor"} <= {"bf16"}
    assert all(c.dtype == "fp8" for c in MODELS[name].attainable_if_stated)


@pytest.mark.parametrize("name", sorted(RAW))
def test_every_number_has_a_place_and_a_date(name: str) -> None:
    model = MODELS[name]
    for key, number in model.numbers.items():
        assert number.source.title, key
        assert number.source.where, key
        assert number.source.read in ("2026-08", "2026-11"), key
        assert model.source_of(key) is number.source
    assert model.tensor_clock_cap_mhz is None
    assert set(model.counter_gain.values()) == {1.0}


@pytest.mark.parametrize("name", HOPPER)
def test_hopper_quotes_tensor_work_at_another_clock(name: str) -> None:
    assert MODELS[name].rated_clock_mhz == {"tensor": 1830, "fp64": 1980, "fp32": 1980, "fp16": 1980}
    assert MODELS[name].sm_clock_max_mhz == 1980


def test_a_source_reads_as_one_line() -> None:
    label = MODELS["h100-sxm"].source_of("flops_peak.bf16").label
    assert label.startswith("NVIDIA H100 whitepaper, table 3")
    assert label.endswith("2026-08")
    with pytest.raises(KeyError):
        MODELS["h100-sxm"].source_of("flops_peak.fp4")


def test_the_routes_of_the_h200_are_both_stated() -> None:
    numbers = MODELS["h200-sxm"].numbers
    assert numbers["dram_derived_bytes_s"].value == 4916.736e9
    assert "+2.43 %" in numbers["dram_derived_bytes_s"].note
    assert numbers["dram_peak_bytes_s"].kind == "datasheet"


def test_the_shipped_set_has_no_problem() -> None:
    assert list(check_set(list(MODELS.values()))) == []
