"""Which GPU gets which model: the name and what the chip reports must agree, or there is no model."""

import msgspec
import pytest

from satscore.core.gpu import GpuInfo
from satscore.core.hwmodel import match
from satscore.run.models import load_library

MODELS = load_library({}).models
MIB = 1 << 20

CHIPS: dict[str, dict[str, float]] = {
    "a100-sxm-40": {"sm": 108, "bus": 5120, "clock": 1215, "mib": 40960},
    "a100-sxm-80": {"sm": 108, "bus": 5120, "clock": 1593, "mib": 81920},
    "h100-sxm": {"sm": 132, "bus": 5120, "clock": 2619, "mib": 81559},
    "h200-sxm": {"sm": 132, "bus": 6144, "clock": 3201, "mib": 143771},
    "gh200-96": {"sm": 132, "bus": 6144, "clock": 2619, "mib": 97871},
    "gh200-144": {"sm": 132, "bus": 6144, "clock": 3201, "mib": 146831},
    "b200": {"sm": 148, "bus": 7680, "clock": 3996, "mib": 183359},
    "v100-sxm2-16": {"sm": 80, "bus": 4096, "clock": 877, "mib": 16160},
    "v100-sxm2-32": {"sm": 80, "bus": 4096, "clock": 877, "mib": 32510},
    "a100-pcie-40": {"sm": 108, "bus": 5120, "clock": 1215, "mib": 40536},
    "a100-pcie-80": {"sm": 108, "bus": 5120, "clock": 1512, "mib": 81920},
    "a30": {"sm": 56, "bus": 3072, "clock": 1215, "mib": 24576},
    "h100-pcie": {"sm": 114, "bus": 5120, "clock": 1593, "mib": 81559},
    "h100-nvl": {"sm": 132, "bus": 6016, "clock": 2619, "mib": 95830},
    "h200-nvl": {"sm": 132, "bus": 6144, "clock": 3201, "mib": 143771},
    "gb200": {"sm": 152, "bus": 7936, "clock": 3996, "mib": 189471},
    "b300": {"sm": 148, "bus": 7680, "clock": 3996, "mib": 275040},
    "gb300": {"sm": 152, "bus": 7936, "clock": 3996, "mib": 284208},
    "l4": {"sm": 58, "bus": 192, "clock": 6251, "mib": 23034},
    "l40s": {"sm": 142, "bus": 384, "clock": 9001, "mib": 46068},
    "rtx-4090": {"sm": 128, "bus": 384, "clock": 10501, "mib": 24564},
    "rtx-6000-ada": {"sm": 142, "bus": 384, "clock": 10001, "mib": 49140},
}
"""What the chip of each model reports; the memory sizes are those of public listings."""
NAMES = [
    ("NVIDIA A100-SXM4-40GB", "a100-sxm-40"),
    ("A100-SXM4-40GB", "a100-sxm-40"),
    ("NVIDIA A100-SXM4-80GB", "a100-sxm-80"),
    ("NVIDIA H100 80GB HBM3", "h100-sxm"),
    ("NVIDIA H200", "h200-sxm"),
    ("NVIDIA GH200 120GB", "gh200-96"),
    ("NVIDIA GH200 480GB", "gh200-96"),
    ("NVIDIA GH200 144G HBM3e", "gh200-144"),
    ("NVIDIA B200", "b200"),
    ("Tesla V100-SXM2-16GB", "v100-sxm2-16"),
    ("Tesla V100-SXM2-32GB", "v100-sxm2-32"),
    ("NVIDIA A100-PCIE-40GB", "a100-pcie-40"),
    ("A100-PCIE-40GB", "a100-pcie-40"),
    ("NVIDIA A100 80GB PCIe", "a100-pcie-80"),
    ("A100 80GB PCIe", "a100-pcie-80"),
    ("NVIDIA A30", "a30"),
    ("NVIDIA H100 PCIe", "h100-pcie"),
    ("NVIDIA H100 NVL", "h100-nvl"),
    ("NVIDIA H200 NVL", "h200-nvl"),
    ("NVIDIA GB200", "gb200"),
    ("NVIDIA B300 SXM6 AC", "b300"),
    ("NVIDIA GB300", "gb300"),
    ("NVIDIA L4", "l4"),
    ("NVIDIA L40S", "l40s"),
    ("NVIDIA GeForce RTX 4090", "rtx-4090"),
    ("GeForce RTX 4090", "rtx-4090"),
    ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
]


def gpu(name: str | None, chip: dict[str, float], **facts: object) -> GpuInfo:
    known = {
        "sm_count": int(chip["sm"]),
        "memory_bus_bits": int(chip["bus"]),
        "mem_clock_max_mhz": float(chip["clock"]),
        "memory_total_bytes": int(chip["mib"]) * MIB,
        "mig_enabled": False,
    }
    return GpuInfo(index=0, name=name, **(known | facts))  # type: ignore[arg-type]


def test_every_model_is_matched_by_all_its_names() -> None:
    tested = {(name, model) for name, model in NAMES if name.startswith(("NVIDIA", "Tesla"))}
    assert tested == {(name, model.id) for model in MODELS for name in model.nvml_names}
    assert set(CHIPS) == {model.id for model in MODELS}


@pytest.mark.parametrize(("name", "model"), NAMES)
def test_the_right_name_on_the_right_chip_matches(name: str, model: str) -> None:
    result = match(MODELS, gpu(name, CHIPS[model]))
    assert result.model is not None
    assert result.model.id == model
    assert result.notes == ()


@pytest.mark.parametrize(("name", "model"), NAMES)
@pytest.mark.parametrize(
    ("fact", "value", "word"),
    [
        ("sm_count", 124, "SM count (124 SM here"),
        ("memory_bus_bits", 4608, "memory bus (4608 bit here"),
        ("mem_clock_max_mhz", 1400.0, "memory clock (1400 MHz here"),
        ("memory_total_bytes", 64 << 30, "memory size (6.871947674e+10 B here"),
    ],
)
def test_the_right_name_on_another_chip_does_not(name: str, model: str, fact: str, value: float, word: str) -> None:
    result = match(MODELS, gpu(name, CHIPS[model], **{fact: value}))
    assert result.model is None
    assert result.closest_id == model
    assert word in result.reason
    assert "No peaks of a similar part are used" in result.reason
    assert result.file_to_add is not None
    assert result.file_to_add in result.reason


@pytest.mark.parametrize(("name", "model"), NAMES)
@pytest.mark.parametrize("missing", ["sm_count", "memory_bus_bits", "mem_clock_max_mhz", "memory_total_bytes"])
def test_a_fact_that_is_not_reported_is_skipped_and_said(name: str, model: str, missing: str) -> None:
    result = match(MODELS, gpu(name, CHIPS[model], **{missing: None}))
    assert result.model is not None
    assert result.model.id == model
    assert len(result.notes) == 1
    assert "not reported by the driver" in result.notes[0]


def test_the_name_alone_is_not_enough() -> None:
    bare = GpuInfo(index=0, name="NVIDIA H200", mig_enabled=False)
    result = match(MODELS, bare)
    assert result.model is None
    assert "no SM count, memory bus or clock is reported" in result.reason
    only_size = GpuInfo(index=0, name="NVIDIA H200", memory_total_bytes=143771 * MIB)
    assert match(MODELS, only_size).model is None


def test_mig_has_no_model_not_even_by_hint() -> None:
    for facts in ({}, {"model_hint": "h200-sxm"}):
        result = match(MODELS, gpu("NVIDIA H200", CHIPS["h200-sxm"], mig_enabled=True, **facts))
        assert result.model is None
        assert "MIG is enabled" in result.reason
    result = match(MODELS, gpu("NVIDIA H200", CHIPS["h200-sxm"], mig_enabled=None))
    assert result.model is not None
    assert result.notes == ("the driver does not say whether MIG is enabled: taken as off",)


@pytest.mark.parametrize(
    ("name", "chip"),
    [
        ("NVIDIA H100", {"sm": 132, "bus": 5120, "clock": 2619, "mib": 81559}),
        ("NVIDIA H100", {"sm": 132, "bus": 6144, "clock": 1569, "mib": 95830}),
        ("NVIDIA H100 80GB HBM3", {"sm": 132, "bus": 6144, "clock": 1569, "mib": 95830}),
        ("NVIDIA H100 PCIe", {"sm": 132, "bus": 5120, "clock": 2619, "mib": 81559}),
        ("NVIDIA H100 NVL", {"sm": 132, "bus": 6144, "clock": 2619, "mib": 97871}),
        ("NVIDIA H200 NVL", {"sm": 132, "bus": 6016, "clock": 2619, "mib": 95830}),
        ("NVIDIA H20", {"sm": 78, "bus": 6144, "clock": 2619, "mib": 97871}),
        ("NVIDIA A100-SXM-64GB", {"sm": 124, "bus": 4096, "clock": 1593, "mib": 65536}),
        ("NVIDIA GB200", {"sm": 148, "bus": 7936, "clock": 3996, "mib": 189471}),
        ("NVIDIA GB200", {"sm": 152, "bus": 7680, "clock": 3996, "mib": 189471}),
        ("NVIDIA B300 SXM6 AC", {"sm": 160, "bus": 8192, "clock": 3996, "mib": 294912}),
        ("NVIDIA GB300", {"sm": 160, "bus": 7936, "clock": 3996, "mib": 284208}),
        ("Tesla V100-SXM2-32GB", {"sm": 80, "bus": 4096, "clock": 877, "mib": 16160}),
        ("Tesla V100-PCIE-32GB", {"sm": 80, "bus": 4096, "clock": 877, "mib": 32510}),
        ("NVIDIA A100 80GB PCIe", {"sm": 108, "bus": 5120, "clock": 1593, "mib": 81920}),
        ("NVIDIA A10", {"sm": 72, "bus": 384, "clock": 6251, "mib": 23028}),
        ("NVIDIA L40", {"sm": 142, "bus": 384, "clock": 9001, "mib": 46068}),
        ("NVIDIA GeForce RTX 4090 D", {"sm": 114, "bus": 384, "clock": 10501, "mib": 24564}),
        ("NVIDIA GeForce RTX 4090", {"sm": 114, "bus": 384, "clock": 10501, "mib": 24564}),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", {"sm": 76, "bus": 256, "clock": 9001, "mib": 16376}),
        ("NVIDIA GH200 120GB", {"sm": 132, "bus": 6144, "clock": 3201, "mib": 146831}),
        ("NVIDIA GH200 144G HBM3e", {"sm": 132, "bus": 6144, "clock": 2619, "mib": 97871}),
        ("NVIDIA A100-SXM4-80GB", {"sm": 108, "bus": 5120, "clock": 1215, "mib": 40960}),
        (None, {"sm": 132, "bus": 6144, "clock": 3201, "mib": 143771}),
    ],
)
def test_a_similar_part_gets_no_model(name: str | None, chip: dict[str, float]) -> None:
    result = match(MODELS, gpu(name, chip))
    assert result.model is None
    assert result.closest_id is not None
    assert result.file_to_add is not None
    assert f"add {result.file_to_add} to ~/.config/satscore/hwmodels (docs/hwmodels.md)" in result.reason


def test_the_explanation_names_closest_model_fact_and_file() -> None:
    result = match(MODELS, gpu("NVIDIA H20", {"sm": 78, "bus": 6144, "clock": 2619, "mib": 97871}))
    assert result.closest_id == "gh200-96"
    assert result.reason == (
        "no hardware model lists 'NVIDIA H20'; closest is gh200-96, but these differ: "
        "SM count (78 SM here, 132 SM there). No peaks of a similar part are used: to score this GPU, "
        "add h20.toml to ~/.config/satscore/hwmodels (docs/hwmodels.md)."
    )
    result = match(MODELS, gpu("NVIDIA GB200", CHIPS["gb200"], sm_count=148), "/site")
    assert result.reason == (
        "'NVIDIA GB200' is a name of gb200, but these differ: SM count (148 SM here, 152 SM there). "
        "No peaks of a similar part are used: to score this GPU, add gb200-variant.toml to /site "
        "(docs/hwmodels.md), with what this chip reports as its [chip]."
    )
    result = match(MODELS, gpu("NVIDIA B200", CHIPS["b200"], sm_count=144))
    assert result.file_to_add == "b200-variant.toml"
    assert match((), gpu("NVIDIA B200", CHIPS["b200"])).reason.startswith("no hardware models are loaded")


@pytest.mark.parametrize(
    ("clock", "vboost", "matches"),
    [
        (2619 * 1.019, None, True),
        (2619 * 0.981, None, True),
        (2619 * 1.021, None, False),
        (2619 * 0.979, 0, False),
        (2619 * 0.96, 1, True),
        (2619 * 0.94, 1, False),
        (2619 * 1.03, 1, False),
    ],
)
def test_the_memory_clock_may_be_two_percent_off_and_lower_with_vboost(
    clock: float, vboost: int | None, matches: bool
) -> None:
    info = gpu("NVIDIA GH200 120GB", CHIPS["gh200-96"], mem_clock_max_mhz=clock, vboost_level=vboost)
    assert (match(MODELS, info).model is not None) == matches


@pytest.mark.parametrize(
    ("name", "model", "bits", "bound_bits"),
    [("NVIDIA B200", "b200", 8192, 7680), ("NVIDIA GB200", "gb200", 8064, 7936)],
)
def test_a_second_bus_width_that_drivers_report_is_accepted(name: str, model: str, bits: int, bound_bits: int) -> None:
    result = match(MODELS, gpu(name, CHIPS[model], memory_bus_bits=bits))
    assert result.model is not None
    assert result.model.memory_bus_bits == bound_bits


@pytest.mark.parametrize(("model", "mib"), [("l4", 24576), ("l40s", 49140), ("rtx-6000-ada", 46068)])
def test_ecc_in_the_same_memory_makes_it_smaller_or_not(model: str, mib: int) -> None:
    [name] = [name for name, known in NAMES if known == model]
    result = match(MODELS, gpu(name, CHIPS[model], memory_total_bytes=mib * MIB))
    assert result.model is not None


def test_memory_in_gb_and_in_gib_both_match() -> None:
    for size in (80e9, 80 * 2.0**30):
        info = gpu("NVIDIA H100 80GB HBM3", CHIPS["h100-sxm"], memory_total_bytes=int(size))
        assert match(MODELS, info).model is not None


def test_a_hint_selects_by_id_whatever_the_name() -> None:
    result = match(MODELS, GpuInfo(index=0, name="SIMULATED", model_hint="gh200-96"))
    assert result.model is not None
    assert result.model.id == "gh200-96"
    result = match(MODELS, GpuInfo(index=0, model_hint="gh200-95"))
    assert result.model is None
    assert result.closest_id == "gh200-96"
    assert result.file_to_add == "gh200-95.toml"


def test_two_models_that_fit_equally_give_none() -> None:
    tables = {model.id: model for model in MODELS}
    both = msgspec.structs.replace(tables["h100-sxm"], nvml_names=("NVIDIA H200",))
    info = GpuInfo(index=0, name="NVIDIA H200", sm_count=132, mig_enabled=False)
    result = match((tables["h200-sxm"], both), info)
    assert result.model is None
    assert "could be h200-sxm or h100-sxm" in result.reason
