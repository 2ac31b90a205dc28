"""Overlays of hardware models: what is merged, what is left out, and under which file and key that is said."""

import copy
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from satscore.core.catalogue import Catalogue, Layer, ModelFile, catalogue
from satscore.core.hwmodel import Attainable

ROOT = Path(__file__).parents[2]
SHIPPED = {p.stem: tomllib.loads(p.read_text(encoding="utf-8")) for p in sorted((ROOT / "hwmodels").glob("*.toml"))}
BASES = ("gh200-96", "h200-sxm")
CAL = {"title": "own measurement", "where": "nid001234", "read": "2026-09-01"}


def number(value: float, unit: str, source: str = "cal", **more: object) -> dict[str, Any]:
    return {"value": value, "unit": unit, "kind": "measured", "uncertainty_frac": 0.01, "source": source} | more


def overlay(extends: str = "gh200-96", **tables: Any) -> dict[str, Any]:
    return {"extends": extends, "source": {"cal": CAL}} | tables


def ceiling(frac: float, cap_w: float = 660, **more: object) -> dict[str, Any]:
    row: dict[str, Any] = {"resource": "tensor", "dtype": "bf16", "cap_scope": "module", "cap_w": cap_w}
    return row | {"vboost_level": 0, "attainable_frac": number(frac, "1")} | more


def read(*layers: dict[str, Any]) -> Catalogue:
    """Return the catalogue of two shipped models and these layers ({file stem: parsed content}) over them."""
    shipped = {name: SHIPPED[name] for name in BASES}
    return catalogue(
        [
            Layer(
                name=f"layer{i}",
                files=tuple(ModelFile(file=f"/{i}/{stem}.toml", raw=raw) for stem, raw in layer.items()),
            )
            for i, layer in enumerate([shipped, *layers])
        ]
    )


def problems(found: Catalogue) -> list[str]:
    return [problem.message for entry in found.entries for problem in entry.problems]


def bf16(found: Catalogue, model_id: str = "gh200-96") -> list[tuple[float, float]]:
    model = found.winners[model_id].model
    assert model is not None
    return [(c.cap_w, c.attainable_frac) for c in model.attainable if c.resource == "tensor"]


# --- merging


def test_an_overlay_in_place_changes_only_what_it_states():
    found = read({"gh200-96": overlay(power={"module_cap_w": number(660, "W")})})
    assert problems(found) == []
    before, after = read().winners["gh200-96"].model, found.winners["gh200-96"].model
    assert before is not None
    assert after is not None
    assert after.power_w == before.power_w | {"module_cap": 660}
    cap = after.numbers.pop("power_w.module_cap")
    assert cap.source.title == "own measurement"
    after.power_w.pop("module_cap")
    assert msgspec.structs.replace(after, file=before.file) == before


def test_a_ceiling_of_the_same_state_is_replaced_and_another_is_added():
    found = read({"gh200-96": overlay(attainable=[ceiling(0.74), ceiling(0.8, 800)])})
    assert bf16(found) == [(660, 0.74), (800, 0.8)]
    other_boost = read({"gh200-96": overlay(attainable=[ceiling(0.75, vboost_level=1)])})
    assert bf16(other_boost) == [(660, 0.75), (660, 0.72)]


def test_a_chain_over_three_folders_and_the_file_of_every_number():
    site = overlay(power={"module_cap_w": number(640, "W")})
    user = overlay(attainable=[ceiling(0.74)], rated_clock_mhz={"tensor": number(1831, "MHz")})
    found = read({"gh200-96": site}, {"gh200-96": user})
    entry = found.winners["gh200-96"]
    assert problems(found) == []
    assert entry.model is not None
    assert entry.extends is not None
    assert entry.overrides is entry.extends
    assert (entry.file, entry.extends.file) == ("/2/gh200-96.toml", "/1/gh200-96.toml")
    files = entry.number_files
    assert files["power_w.module_cap"] == "/1/gh200-96.toml"
    assert files["rated_clock_mhz.tensor"] == files["attainable_frac.bf16.module_660w_vboost_0"] == "/2/gh200-96.toml"
    assert files["flops_peak.bf16"] == "/2/gh200-96.toml", "derived from what the overlay changed"
    assert "flops_peak.fp64" not in files
    assert "chip.sm_count" not in files
    # Both files call their source 'cal': each number keeps its own.
    assert entry.model.numbers["power_w.module_cap"].source == entry.model.numbers["rated_clock_mhz.tensor"].source


def test_sources_of_one_name_in_two_files_stay_apart():
    site = overlay(power={"module_cap_w": number(640, "W")})
    user = overlay(attainable=[ceiling(0.74)], source={"cal": CAL | {"title": "another"}})
    model = read({"gh200-96": site}, {"gh200-96": user}).winners["gh200-96"].model
    assert model is not None
    assert model.numbers["power_w.module_cap"].source.title == "own measurement"
    assert model.attainable[0].source.title == "another"


def test_a_new_id_is_a_new_part_beside_its_base():
    new = overlay(id="gh200-next", nvml_names=["NVIDIA GH200 next"], nvml_names_source="cal")
    found = read({"gh200-next": new})
    assert problems(found) == []
    assert [m.id for m in found.models] == ["gh200-96", "gh200-next", "h200-sxm"]
    part = found.winners["gh200-next"].model
    assert part is not None
    assert (part.nvml_names, part.sm_count) == (("NVIDIA GH200 next",), 132)
    assert found.winners["gh200-next"].overrides is None


def test_bases_in_one_folder_are_found_in_any_order():
    new = overlay(id="a-part", nvml_names=["A"], nvml_names_source="cal")
    files = {"a-part": new, "gh200-96": overlay(attainable=[ceiling(0.7)])}
    for order in (files, dict(reversed(files.items()))):
        assert bf16(read(order), "a-part") == [(660, 0.7)]


def test_no_file_changes_what_stands_in_an_earlier_folder():
    site = {"a-part": overlay(id="a-part", nvml_names=["A"], nvml_names_source="cal")}
    found = read(site, {"gh200-96": overlay(attainable=[ceiling(0.7)])})
    assert bf16(found, "a-part") == [(660, 0.72)]
    assert bf16(found) == [(660, 0.7)]


def pairs(raw: dict[str, Any]) -> list[tuple[str, str]]:
    tables = ("chip", "power", "rated_clock_mhz", "counter_gain", "link")
    return [(table, key) for table in tables for key in raw[table]]


@given(data=st.data(), name=st.sampled_from(BASES))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_stating_again_what_the_base_states_changes_nothing(data: st.DataObject, name: str):
    base = SHIPPED[name]
    chosen = data.draw(st.lists(st.sampled_from(pairs(base)), unique=True))
    own: dict[str, Any] = {"extends": name, "source": {}}
    for table, key in chosen:
        own.setdefault(table, {})[key] = base[table][key]
    for table in ("flops", "attainable"):
        own[table] = data.draw(st.lists(st.sampled_from(base[table]), unique_by=str))
    cited = [own[table][key]["source"] for table, key in chosen]
    cited += [n["source"] for t in ("flops", "attainable") for r in own[t] for n in r.values() if isinstance(n, dict)]
    own["source"] = {one: base["source"][one] for one in cited}
    before, after = read().winners[name].model, read({name: own}).winners[name]
    assert before is not None
    assert after.model is not None, after.problems
    assert after.number_files == {}

    def order(rows: tuple[Attainable, ...]) -> tuple[Attainable, ...]:
        return tuple(sorted(rows, key=str))

    plain = msgspec.structs.replace(after.model, file=before.file, attainable=order(after.model.attainable))
    assert plain == msgspec.structs.replace(before, attainable=order(before.attainable))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_junk_in_an_overlay_is_a_problem_of_that_file_or_nothing(data: st.DataObject):
    raw = overlay(attainable=[ceiling(0.74)], power={"module_cap_w": number(660, "W")}, nvml_names_source="cal")
    raw = copy.deepcopy(raw)
    place: Any = raw
    while isinstance(place, dict) and place:
        key = data.draw(st.sampled_from(sorted(place)))
        if isinstance(place[key], dict) and data.draw(st.booleans()):
            place = place[key]
            continue
        place[key] = data.draw(JUNK)
        break
    found = read({"gh200-96": raw})
    entry = found.entries[-1]
    assert (entry.model is None) == bool(entry.problems)
    assert all(problem.message.startswith("/1/gh200-96.toml: ") for problem in entry.problems)
    assert found.winners["gh200-96"].model is not None
    assert found.winners["h200-sxm"].model is not None


# --- what is wrong, under the overlay's file and key

NO_TITLE = {"cal": {"where": "here", "read": "2026-09"}}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown base": (overlay("gh200-69"), "extends: there is no other model 'gh200-69'; nearest is 'gh200-96'"),
    "typo": (
        {"extend": "gh200-96", "id": "x"},
        "extend: unknown key; nearest valid key is 'extends'",
    ),
    "not text": (overlay() | {"extends": 5}, "extends: must be text, not 5"),
    "unknown key": (overlay(powr={}), "powr: unknown key; nearest valid key is 'power'"),
    "half a number": (overlay(power={"gpu_max_w": {"value": 900}}), "power.gpu_max_w.unit: missing"),
    "half a source": (overlay(source=NO_TITLE), "source.cal.title: missing"),
    "half a row": (
        overlay(attainable=[{"resource": "dram", "cap_scope": "gpu", "attainable_frac": number(0.9, "1")}]),
        "attainable[0].cap_w: missing",
    ),
    "the base's source": (
        overlay(power={"gpu_max_w": number(900, "W", "method")}),
        "power.gpu_max_w.source: there is no [source.method] in this file; nearest is 'cal'",
    ),
    "unused source": (overlay(), "source.cal: is not used by any number"),
    "bad date": (
        overlay(power={"gpu_max_w": number(900, "W")}, source={"cal": CAL | {"read": "today"}}),
        "source.cal.read: 'today' is not a date YYYY-MM or YYYY-MM-DD",
    ),
    "bad unit": (overlay(power={"gpu_max_w": number(900, "kW")}), "power.gpu_max_w.unit: must be 'W', not 'kW'"),
    "twice": (
        overlay(attainable=[ceiling(0.7), ceiling(0.8)]),
        "attainable[1]: the same resource, dtype, cap and vBoost level are listed twice",
    ),
    "cap above the module": (
        overlay(power={"module_cap_w": number(1200, "W")}),
        "power.module_cap_w.value: 1200 W is above power.module_max_w, 1000 W",
    ),
    "cap in kW": (
        overlay(power={"module_cap_w": number(0.66, "W")}),
        "power.module_cap_w.value: must be 100 to 10000 W, not 0.66",
    ),
    "the base's row no longer fits": (
        overlay(chip={"sm_count": number(66, "SM")}),
        "flops[tensor fp64].peak.value (of /0/gh200-96.toml): two routes disagree by 0.5 ",
    ),
    "the base's table no longer fits": (
        overlay(chip={"mem_clock_mhz": number(3201, "MHz")}),
        "dram.peak.value (of /0/gh200-96.toml): two routes disagree by 0.229 ",
    ),
    "name of the file": (overlay(id="other", power={"gpu_max_w": number(900, "W")}), "id: 'other' must be the name"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_overlay_is_left_out_and_its_base_stays(name: str):
    raw, message = WRONG[name]
    found = read({"gh200-96": raw})
    assert f"/1/gh200-96.toml: {message}" in "\n".join(problems(found))
    assert found.winners["gh200-96"].file == "/0/gh200-96.toml"
    [note] = found.notes()
    assert note.startswith("hardware model left out: /1/gh200-96.toml: ")
    assert "satscore models check" in note


def test_a_cap_needs_a_module():
    found = read({"h200-sxm": overlay("h200-sxm", power={"module_cap_w": number(660, "W")})})
    assert problems(found) == [
        "/1/h200-sxm.toml: power.module_cap_w: this part has no module: power.module_max_w is missing"
    ]


def test_circles_and_broken_bases_name_file_and_key():
    cited = {"power": {"gpu_max_w": number(900, "W")}}
    found = read({n: overlay(to, id=n, **cited) for n, to in (("a", "b"), ("b", "c"), ("c", "a"))})
    circle = "/1/c.toml: extends: goes in a circle: a -> b -> c -> a"
    assert problems(found) == [
        f"/1/a.toml: extends: 'b' cannot be built on: /1/b.toml: extends: 'c' cannot be built on: {circle}",
        f"/1/b.toml: extends: 'c' cannot be built on: {circle}",
        circle,
    ]
    assert [m.id for m in found.models] == list(BASES)


def test_extending_oneself_without_a_base_is_no_circle_but_an_unknown_base():
    [message] = problems(read({"gh300": overlay("gh300", id="gh300", power={"gpu_max_w": number(900, "W")})}))
    assert message == "/1/gh300.toml: extends: there is no other model 'gh300'; nearest is 'gh200-96'"


def test_a_new_part_that_cannot_be_told_apart_is_left_out_and_costs_nobody_else():
    twin = overlay(id="gh200-twin", power={"module_cap_w": number(660, "W")})
    found = read({"gh200-twin": twin, "gh200-96": overlay(attainable=[ceiling(0.7)])})
    [message] = problems(found)
    assert message.startswith("/1/gh200-twin.toml: nvml_names: 'NVIDIA GH200 120GB' is also in /1/gh200-96.toml")
    assert bf16(found) == [(660, 0.7)]


def test_names_may_move_from_one_part_to_another_within_a_folder():
    renamed = overlay(nvml_names=["NVIDIA GH200 480GB"], nvml_names_source="cal")
    taker = overlay(id="a-taker", nvml_names=["NVIDIA GH200 120GB"], nvml_names_source="cal")
    found = read({"a-taker": taker, "gh200-96": renamed})
    assert bf16(found, "a-taker") == [(660, 0.72)]
    # a-taker builds on the gh200-96 of its own folder, then takes the name that this one gave away.
    assert problems(found) == []


def test_a_broken_file_of_a_whole_model_leaves_the_shipped_one_in_force():
    whole = copy.deepcopy(SHIPPED["h200-sxm"])
    whole["chip"]["sm_count"]["unit"] = "cores"
    found = read({"h200-sxm": whole})
    assert found.winners["h200-sxm"].file == "/0/h200-sxm.toml"
    assert problems(found) == ["/1/h200-sxm.toml: chip.sm_count.unit: must be 'SM', not 'cores'"]


def test_a_whole_file_overrides_without_merging():
    whole = copy.deepcopy(SHIPPED["gh200-96"])
    del whole["attainable"]
    whole["open_checks"] = []
    whole["source"].pop("gemm-notes")
    found = read({"gh200-96": whole})
    assert problems(found) == []
    assert bf16(found) == []
    assert found.winners["gh200-96"].number_files == {}
