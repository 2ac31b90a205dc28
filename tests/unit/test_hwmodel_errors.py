"""What makes a hardware model file wrong, how it is said, and that nothing but ModelError escapes."""

import copy
import math
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from satscore.core.hwmodel import HardwareModel
from satscore.core.hwmodel_check import check_set
from satscore.core.hwmodel_parse import check_and_build, model_error

FOLDER = Path(__file__).parents[2] / "hwmodels"
RAW = {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.toml"))}


def model_of(tables: dict[str, Any], file: str) -> HardwareModel:
    model, problems = check_and_build(tables, file)
    assert model is not None, problems
    return model


MODELS = {name: model_of(raw, f"{name}.toml") for name, raw in RAW.items()}


def raw(name: str = "h200-sxm") -> dict[str, Any]:
    return copy.deepcopy(RAW[name])


def messages(tables: object) -> list[str]:
    return [model_error("x.toml", problem).message for problem in check_and_build(tables, "x.toml")[1]]


def flops_row(tables: dict[str, Any], dtype: str, pipe: str = "tensor") -> dict[str, Any]:
    rows: list[dict[str, Any]] = tables["flops"]
    return next(row for row in rows if row["dtype"] == dtype and row["pipe"] == pipe)


def test_an_unknown_key_names_file_key_and_the_nearest_key() -> None:
    tables = raw()
    tables["chip"]["sm_cuont"] = tables["chip"].pop("sm_count")
    assert messages(tables) == [
        "x.toml: chip.sm_cuont: unknown key; nearest valid key is 'sm_count'",
        "x.toml: chip.sm_count: missing",
    ]


def test_a_key_inside_a_list_is_named_with_its_index() -> None:
    tables = raw()
    tables["flops"][2]["peak"]["vlaue"] = 1.0
    assert messages(tables) == ["x.toml: flops[2].peak.vlaue: unknown key; nearest valid key is 'value'"]


def test_all_problems_are_found_and_there_is_no_model() -> None:
    tables = raw()
    tables["chip"]["sm_count"]["unit"] = "cores"
    tables["dram"]["peak"]["unit"] = "GB/s"
    assert messages(tables) == [
        "x.toml: chip.sm_count.unit: must be 'SM', not 'cores'",
        "x.toml: dram.peak.unit: must be 'B/s', not 'GB/s'",
    ]
    assert check_and_build(tables, "x.toml")[0] is None


KINDS = "must be one of 'datasheet', 'derived', 'measured', 'assumed'"
WRONG_VALUES = [
    ("dram.peak.unit", "GB/s", "dram.peak.unit: must be 'B/s', not 'GB/s'"),
    ("link.nvlink.unit", "Gbit/s", "link.nvlink.unit: must be 'B/s', not 'Gbit/s'"),
    ("rated_clock_mhz.tensor.unit", "GHz", "rated_clock_mhz.tensor.unit: must be 'MHz', not 'GHz'"),
    ("counter_gain.dram.value", 0, "counter_gain.dram.value: must be finite and positive, not 0"),
    ("counter_gain.dram.value", 97.0, "counter_gain.dram.value: 97 cannot be true for this quantity"),
    ("chip.mem_clock_mhz.value", math.nan, "chip.mem_clock_mhz.value: must be finite and positive, not nan"),
    ("chip.mem_clock_mhz.value", math.inf, "chip.mem_clock_mhz.value: must be finite and positive, not inf"),
    ("power.gpu_max_w.value", -700, "power.gpu_max_w.value: must be finite and positive, not -700"),
    ("chip.sm_count.value", 132.5, "chip.sm_count.value: must be a whole number, not 132.5"),
    ("chip.sm_count.value", "132", "chip.sm_count.value: must be a number, not '132'"),
    ("chip.sm_count.value", True, "chip.sm_count.value: must be a number, not True"),
    ("chip.sm_count.kind", "guess", "chip.sm_count.kind: " + KINDS + ", not 'guess'"),
    ("chip.sm_count.source", "nowhere", "chip.sm_count.source: there is no [source.nowhere]"),
    ("chip.sm_count.uncertainty_frac", 3.0, "chip.sm_count.uncertainty_frac: must be 0 to 1, not 3"),
    ("chip.sm_count", 132, "chip.sm_count: must be a table, not 132"),
    ("counter_gain.fp32.note", "", "counter_gain.fp32.note: missing: a number that is assumed must say how"),
    ("nvml_names", [], "nvml_names: is empty: without a name no GPU can match"),
    ("nvml_names", "NVIDIA H200", "nvml_names: must be a list, not 'NVIDIA H200'"),
    ("nvml_names", ["NVIDIA H200", "H200"], "nvml_names[1]: 'H200' is listed twice"),
    ("nvml_names_source", "nowhere", "nvml_names_source: there is no [source.nowhere]"),
    ("source.h200-smi.read", "last year", "source.h200-smi.read: 'last year' is not a date YYYY-MM or YYYY-MM-DD"),
    ("source.h200-smi.read", "2026-13", "source.h200-smi.read: '2026-13' is not a date YYYY-MM or YYYY-MM-DD"),
    ("source.h200-smi.where", " ", "source.h200-smi: title and where must say where to look"),
    ("schema", 2, "schema: is 2; this version of satscore reads 1"),
    ("id", "H200 SXM", "id: 'H200 SXM' must be lower-case letters, digits and '-'"),
    ("dram.bound", "largest", "dram.bound: must be one of 'datasheet', 'derived', not 'largest'"),
    ("dram.route_note", "", "dram.route_note: missing: a wider tolerance must say why the two routes differ"),
    ("dram.route_tolerance_frac", 0.9, "dram.route_tolerance_frac: must be above 0.02, at most 0.1, not 0.9"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "message"), WRONG_VALUES, ids=[f"{w[0]}={w[1]!r}" for w in WRONG_VALUES])
def test_a_wrong_value_is_named(key: str, value: object, message: str) -> None:
    tables = raw()
    *path, last = key.split(".")
    table = tables
    for name in path:
        table = table[name]
    table[last] = value
    assert f"x.toml: {message}" in messages(tables)


def test_faster_types_must_not_be_slower() -> None:
    tables = raw()
    flops_row(tables, "fp8")["flop_per_clk_sm"]["value"] = 2048
    flops_row(tables, "fp8")["peak"]["value"] = 494.7e12
    found = messages(tables)
    assert "x.toml: flops[4].flop_per_clk_sm.value: fp8 is below bf16" in found
    assert "x.toml: flops[4].peak.value: fp8 is below bf16" in found


@pytest.mark.parametrize("name", sorted(RAW))
@pytest.mark.parametrize("slip", [10.0, 0.1, 2.0, 1.05], ids=["x10", "/10", "sparse", "5 %"])
def test_a_slip_in_a_printed_peak_breaks_the_agreement_of_the_routes(name: str, slip: float) -> None:
    printed = [row["peak"] for row in RAW[name]["flops"] if "peak" in row and "route_tolerance_frac" not in row]
    for i in range(len(printed)):
        tables = raw(name)
        rows = [row for row in tables["flops"] if "peak" in row and "route_tolerance_frac" not in row]
        rows[i]["peak"]["value"] *= slip
        assert any(".peak.value: two routes disagree" in text for text in messages(tables))
    tables = raw(name)
    tables["dram"]["peak"]["value"] *= slip if slip > 1.1 or slip < 1 else 1.11
    assert any("dram.peak.value: two routes disagree" in text for text in messages(tables))


def test_a_slip_in_a_part_breaks_the_agreement_too() -> None:
    for table, key in (("rated_clock_mhz", "tensor"), ("chip", "sm_count"), ("chip", "mem_clock_mhz")):
        tables = raw()
        tables[table][key]["value"] *= 10
        assert any("two routes disagree" in text for text in messages(tables)), key


def test_the_h200s_two_bandwidths_are_refused_without_the_stated_reason() -> None:
    tables = raw()
    del tables["dram"]["route_tolerance_frac"]
    [message] = messages(tables)
    assert message == (
        "x.toml: dram.peak.value: two routes disagree by 0.0243 (allowed 0.02): printed 4.8e+12 B/s, "
        "memory clock x bus / 8 x 2 gives 4.91674e+12"
    )


def test_a_tolerance_that_is_not_needed_is_refused() -> None:
    tables = raw("h100-sxm")
    tables["dram"] |= {"route_tolerance_frac": 0.03, "route_note": "just in case"}
    assert messages(tables) == ["x.toml: dram.route_tolerance_frac: is not needed: the routes are 0.000693 apart"]


def test_a_rate_without_a_printed_peak_must_say_why() -> None:
    tables = raw("b200")
    flops_row(tables, "fp16", "vector")["route_note"] = ""
    assert messages(tables) == ["x.toml: flops[9].peak: missing; without a printed peak, route_note must say why"]


def test_ceilings_are_checked() -> None:
    tables = raw()
    first, dram = tables["attainable"][0], tables["attainable"][-1]
    tables["attainable"].append(copy.deepcopy(first))
    dram["dtype"] = "bf16"
    first["dtype"] = "fp4"
    tables["attainable"][1]["cap_w"] = -1.0
    tables["attainable"][1]["attainable_active_frac"] = {**first["attainable_active_frac"], "value": 1.2}
    found = "\n".join(messages(tables))
    assert "attainable[0].dtype: must be a tensor dtype of this file" in found
    assert "attainable[1].cap_w: must be finite and positive, not -1" in found
    assert "attainable[1].attainable_active_frac.value: 1.2 cannot be true" in found
    assert "attainable[2].dtype: DRAM has no dtype" in found
    tables = raw()
    tables["attainable"].append(copy.deepcopy(tables["attainable"][0]))
    assert messages(tables) == [
        "x.toml: attainable[3]: the same resource, dtype, cap and vBoost level are listed twice"
    ]


def test_a_rate_listed_twice_and_an_unknown_dtype_are_refused() -> None:
    tables = raw()
    tables["flops"] += [copy.deepcopy(tables["flops"][0]), {**copy.deepcopy(tables["flops"][0]), "dtype": "fp6"}]
    found = messages(tables)
    assert "x.toml: flops[9]: tensor fp64 is listed twice" in found
    known = "fp64, tf32, fp16, bf16, fp8, int8, fp4, fp16_acc16, fp8_acc16"
    assert f"x.toml: flops[10].dtype: 'fp6' is not one of {known}" in found


def test_names_that_do_not_decide_between_two_files_fail_the_set() -> None:
    first = MODELS["h200-sxm"]
    tables = raw()
    tables["id"] = "h200-other"
    same = model_of(tables, "h200-other.toml")
    [(file, problem)] = check_set([first, same])
    assert (file, problem.key) == ("h200-other.toml", "nvml_names")
    assert problem.message.startswith("'NVIDIA H200' is also in h200-sxm.toml")
    [(file, problem)] = check_set([first, msgspec.structs.replace(same, nvml_names=(" H200",))])
    assert (file, problem.message[:32]) == ("h200-other.toml", "' H200' is also in h200-sxm.toml")
    tables = raw("h100-sxm") | {"nvml_names": ["NVIDIA H200"]}
    assert list(check_set([first, model_of(tables, "h100.toml")])) == []
    file, problem = next(check_set([MODELS["b200"], MODELS["b200"]]))
    assert (file, problem.key, problem.message) == ("b200.toml", "id", "'b200' is also the id of b200.toml")


# --- whatever stands in a file is a problem, not an exception

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def places(value: object) -> list[tuple[Any, Any]]:
    """Every (container, key) of a parsed file."""
    items: list[tuple[Any, Any]] = []
    pairs = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, inner in pairs:
        items += [(value, key), *places(inner)]
    return items


def model_or_problems(tables: object) -> None:
    model, problems = check_and_build(tables, "x.toml")
    assert (model is None) == bool(problems)
    assert all(problem.message for problem in problems)
    if model is not None:
        assert all(math.isfinite(n.value) and n.value > 0 for n in model.numbers.values())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_mutated_file_gives_a_model_or_problems(data: st.DataObject) -> None:
    tables = raw(data.draw(st.sampled_from(sorted(RAW))))
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(tables)))
        action = data.draw(st.sampled_from(["replace", "remove", "add", "scale"]))
        if action == "replace":
            container[key] = data.draw(ANYTHING)
        elif action == "remove":
            del container[key]
        elif action == "add" and isinstance(container, dict):
            container[data.draw(st.text(max_size=6))] = data.draw(ANYTHING)
        elif isinstance(container[key], float):
            factor = data.draw(st.sampled_from([0.0, -1.0, 10.0, 1e300, 1e-300, 1.01]))
            container[key] = container[key] * factor
        if not places(tables):
            break
    model_or_problems(tables)


@settings(max_examples=50, deadline=None)
@given(ANYTHING)
def test_any_object_gives_a_model_or_problems(thing: object) -> None:
    model_or_problems(thing)
