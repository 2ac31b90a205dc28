"""The vBoost level: the tool's table, the job's constraint, which GPUs have one, what it decides."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satscore.core.bounds import resolve
from satscore.core.gpu import GpuInfo
from satscore.core.hwmodel import match
from satscore.core.vboost import CONSTRAINT_VARIABLES, TOOL, Vboost, parse_levels, stated_level, told, with_vboost
from satscore.run.module_cap import known_hardware
from satscore.run.rank_gpus import Hardware
from satscore.views.text import render
from tests.unit.runs import H200_INFO, MODELS, measured
from tests.unit.scenes import E1
from tests.unit.test_module_cap import GPU, capped_model

RULE = "+-------------------------------------------------+"
HEAD = f"""{RULE}
| GPU Boost Slider                                |
| GPU     Slider       Max Value    Current Value |
|=================================================|
"""
CSCS = HEAD + "".join(f"|   {gpu}     vboost           4              0       |\n{RULE}\n" for gpu in range(4))
UNKNOWN = msgspec.structs.replace(GPU, vboost_level=None, compute_capability=(9, 0), nvml_index=2)


def table(*rows: str) -> str:
    return HEAD + "".join(f"{row}\n{RULE}\n" for row in rows)


# --- the table


def test_the_table_of_four_gpus():
    assert parse_levels(CSCS) == {0: 0, 1: 0, 2: 0, 3: 0}


def test_gpus_differ_and_other_sliders_are_not_vboost():
    text = table("| 0 vboost 4 1 |", "| 0 memboost 2 2 |", "| 3 vboost 1 0 |", "| 12 vboost 4 4 |")
    assert parse_levels(text) == {0: 1, 3: 0, 12: 4}


@pytest.mark.parametrize(
    "row",
    [
        "|  1   vboost   4   N/A  |",
        "|  1   vboost   N/A   0  |",
        "|  1   vboost   4  |",
        "|  1   vboost   4  0  0  |",
        "|  1   vboost   4  -1  |",
        "|  1   vboost   4  0.5  |",
        "|  1   vboost   0  1  |",
        "|  1   vboost   4  4000  |",
        f"|  1   vboost   4  {'0' * 5000}  |",
        "|  1   vboosts   4  1  |",
        "|  x   vboost   4  1  |",
        "|  1   vboost   4  \N{SUPERSCRIPT ONE}  |",
        "|  1   vboost   4  \N{ARABIC-INDIC DIGIT ONE}  |",
        "   1   vboost   4  1   ",
        "warning: GPU 1 vboost 4 1",
    ],
)
def test_what_is_no_row_tells_nothing_of_its_gpu(row: str):
    assert parse_levels(table("| 0 vboost 4 1 |", row)) == {0: 1}


def test_two_rows_of_a_gpu_that_differ_tell_nothing():
    assert parse_levels(table("| 0 vboost 4 1 |", "| 0 vboost 4 0 |", "| 0 vboost 4 1 |", "| 1 vboost 4 0 |")) == {1: 0}
    assert parse_levels(table("| 0 vboost 4 1 |", "| 0 vboost 4 1 |")) == {0: 1}


def test_widths_separators_colours_and_line_ends_do_not_matter():
    text = (
        "\x1b[1mWARNING: infoROM is corrupted at gpu 0009:01:00.0\x1b[0m\r\n"
        "|GPU Boost Slider|\r\n| GPU | Slider | Max Value | Current Value |\r\n"
        "\x1b[32m|0|vboost|4|1|\x1b[0m\r\n|\N{NO-BREAK SPACE}10 | vboost | 4 | 0\t|\r\n"
    )
    assert parse_levels(text) == {0: 1, 10: 0}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GPU Boost Slider\n\t Enabled : Yes",
        "Invalid Argument",
        CSCS.replace("Max Value    Current Value", "Current Value    Max Value"),
        CSCS.replace("GPU Boost Slider", "GPU Other Slider"),
        "|   0     vboost           4              0       |",
    ],
)
def test_without_title_and_columns_there_is_no_table(text: str):
    assert parse_levels(text) is None
    note = told(text).note
    assert note is not None
    assert note.startswith(f"the vBoost level is unknown: {TOOL}: unexpected output (")


def test_a_table_without_vboost_is_nothing_to_say():
    assert told(HEAD) == Vboost()


@given(st.text(alphabet=st.sampled_from("| 0123456789vbost\n\x1bN/A"), max_size=80))
def test_no_text_raises_and_levels_are_plausible(text: str):
    levels = parse_levels(HEAD + text)
    assert levels is not None
    assert all(0 <= gpu <= 999 and 0 <= level <= 999 for gpu, level in levels.items())


# --- the constraint


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("nvidia_vboost_enabled", 1),
        ("nvidia_vboost_enable", 1),
        ("nvidia_vboost_disabled", 0),
        ("nvidia_vboost_disable", 0),
        ("thp_never&nvidia_vboost_enabled", 1),
        ("thp_never,nvidia_vboost_enabled", 1),
        ("(thp_never & nvidia_vboost_enabled)", 1),
        ("nvidia_vboost_enabled&nvidia_vboost_enable", 1),
        ("nvidia_vboost_enabled&nvidia_vboost_disabled", None),
        ("nvidia_vboost_enabled|gpu", None),
        ("[nvidia_vboost_enabled]", None),
        ("[nvidia_vboost_enabled*2&gpu*4]", None),
        ("nvidia_vboost_enabled*2&gpu*4", None),
        ("gpu*4&nvidia_vboost_enabled", None),
        ("gpu|mc&nvidia_vboost_enabled", None),
        ("my_nvidia_vboost_enabled", None),
        ("gpu", None),
        ("(null)", None),
        ("", None),
    ],
)
def test_a_constraint_states_a_level_only_where_every_node_must_have_it(text: str, level: int | None):
    for variable in CONSTRAINT_VARIABLES:
        stated = stated_level({variable: text})
        assert (stated.level if stated else None) == level
        assert stated is None or stated.variable == variable


def test_the_jobs_own_features_come_first():
    both = {"SBATCH_CONSTRAINT": "nvidia_vboost_enabled", "SLURM_JOB_CONSTRAINTS": "nvidia_vboost_disabled"}
    assert stated_level(both) == (0, "nvidia_vboost_disabled", "SLURM_JOB_CONSTRAINTS")
    assert stated_level(both | {"SLURM_JOB_CONSTRAINTS": "gpu|mc"}) == (1, "nvidia_vboost_enabled", "SBATCH_CONSTRAINT")


# --- who gets a level

ASKED = {"SLURM_JOB_CONSTRAINTS": "thp_never&nvidia_vboost_enabled"}
WHY_NOT = Vboost(note="the vBoost level is unknown: it broke")


def level_of(gpu: GpuInfo, vboost: Vboost, **environ: str) -> tuple[int | None, str | None, list[str]]:
    [out], notes = with_vboost([gpu], vboost, environ)
    assert msgspec.structs.replace(out, vboost_level=None, vboost_source=None) == msgspec.structs.replace(
        gpu, vboost_level=None, vboost_source=None
    )
    return out.vboost_level, out.vboost_source, notes


def test_the_tool_counts_as_nvml_does_whatever_the_runs_own_order():
    gpus = [msgspec.structs.replace(UNKNOWN, index=i, nvml_index=n) for i, n in enumerate((3, 0, None, 7))]
    out, notes = with_vboost(gpus, Vboost(levels={0: 1, 3: 0}), {})
    assert [gpu.vboost_level for gpu in out] == [0, 1, None, None]
    assert [gpu.vboost_source for gpu in out] == [TOOL, TOOL, None, None]
    assert notes == []


def test_the_tool_is_believed_before_the_constraint_and_a_difference_is_said():
    assert level_of(UNKNOWN, Vboost(levels={2: 1}), **ASKED) == (1, TOOL, [])
    level, source, [note] = level_of(UNKNOWN, Vboost(levels={2: 0}), **ASKED)
    assert (level, source) == (0, TOOL)
    assert note == (
        "the job asked for nvidia_vboost_enabled (SLURM_JOB_CONSTRAINTS), but vBoost is 0 on GPU 2 "
        f"({TOOL}): report the node to the site"
    )


def test_the_constraint_speaks_where_the_tool_told_nothing_and_is_not_verified():
    level, source, notes = level_of(UNKNOWN, WHY_NOT, **ASKED)
    assert (level, source) == (1, "SLURM_JOB_CONSTRAINTS")
    assert len(notes) == 1
    assert notes[0].startswith("vBoost 1 is what the job asked for (nvidia_vboost_enabled in SLURM_JOB_CONSTRAINTS)")
    assert "nobody has verified" in notes[0]


def test_a_gpu_that_the_tool_leaves_out_stays_unknown():
    assert level_of(UNKNOWN, Vboost(levels={0: 1}), **ASKED) == (None, None, [])


def test_without_an_answer_the_reason_is_said():
    assert level_of(UNKNOWN, WHY_NOT) == (None, None, [WHY_NOT.note])
    assert level_of(UNKNOWN, Vboost()) == (None, None, [])


@pytest.mark.parametrize("capability", [(7, 0), (8, 0), (8, 9), (12, 0)])
def test_a_gpu_that_cannot_have_it_gets_none_and_no_note(capability: tuple[int, int]):
    gpu = msgspec.structs.replace(UNKNOWN, compute_capability=capability)
    assert level_of(gpu, Vboost(levels={2: 1}), **ASKED) == (None, None, [])
    assert level_of(gpu, WHY_NOT, **ASKED) == (None, None, [])


@pytest.mark.parametrize(
    ("capability", "module_w", "may"),
    [((9, 0), None, True), ((10, 3), None, True), ((8, 9), 700.0, False), (None, 1000.0, True), (None, None, False)],
)
def test_who_may_have_vboost(capability: tuple[int, int] | None, module_w: float | None, may: bool):
    gpu = GpuInfo(index=0, compute_capability=capability, power_limit_module_w=module_w)
    assert gpu.may_have_vboost == may


def test_a_level_that_is_known_already_is_kept():
    assert level_of(GPU, Vboost(levels={0: 1}), **ASKED) == (0, None, [])


def test_of_mixed_gpus_each_gets_what_is_its_own():
    old = msgspec.structs.replace(UNKNOWN, compute_capability=(8, 0), nvml_index=0)
    known = msgspec.structs.replace(UNKNOWN, vboost_level=3, vboost_source="simulated", nvml_index=1)
    for vboost in (Vboost(levels={0: 1, 1: 1, 2: 1}), WHY_NOT):
        out, _ = with_vboost([old, known, UNKNOWN], vboost, ASKED)
        assert out[:2] == [old, known]
        assert out[2].vboost_level == 1


# --- what it decides


def at(level: int | None, cap_w: float | None) -> GpuInfo:
    return msgspec.structs.replace(UNKNOWN, vboost_level=level, module_cap_w=cap_w)


@pytest.mark.parametrize(
    ("level", "cap_w", "grade", "tensor"),
    [
        (0, 660.0, "B", 0.72),  # the entry's own state
        (None, 660.0, "C", 0.72),  # it may be another
        (0, None, "C", 0.72),  # another cap: that of the driver, 1000 W
        (1, 660.0, "B", 1.0),  # no entry of this level: 1 is taken, and said
    ],
)
def test_level_and_cap_choose_ceiling_and_grade(level: int | None, cap_w: float | None, grade: str, tensor: float):
    gpu = at(level, cap_w)
    summary = measured([(10.0, E1 | {"mem_clock_mhz": 2619.0})], gpus=[gpu]).summary()
    assert summary.job.score.grade == grade
    assert Hardware(MODELS, None, "").of(gpu).bounds.attainable_frac["tensor"] == tensor
    assert any("no attainable rate is known" in note for note in summary.notes) == (tensor == 1.0)


def test_a_gpu_without_vboost_is_not_graded_down_for_an_unknown_level():
    summary = measured([(10.0, E1)], gpus=[H200_INFO]).summary()
    assert (H200_INFO.vboost_level, summary.job.score.grade) == (None, "B")


@pytest.mark.parametrize(("module_w", "same"), [(None, True), (1000.0, True), (660.0, False)])
def test_a_ceiling_of_the_gpus_own_cap_holds_only_where_the_module_allows_it(module_w: float | None, same: bool):
    """A GPU of 900 W on a module of 660 W never draws 900 W: its ceiling is not that of the 900 W entry."""
    model = next(model for model in MODELS if model.id == "gh200-144")
    gpu = GpuInfo(index=0, power_limit_gpu_w=900.0, power_limit_module_w=module_w, vboost_level=0)
    bounds = resolve(model, gpu)
    assert bounds.attainable_frac["tensor"] == 0.838
    assert bounds.ceilings_at_other_cap is not same


def test_the_cap_of_the_gpu_alone_is_not_the_modules():
    """Where the driver refuses the GPU's scope, its limit is unknown, whatever the module's is."""
    model = next(model for model in MODELS if model.id == "gh200-144")
    bounds = resolve(model, GpuInfo(index=0, power_limit_module_w=900.0, vboost_level=0))
    assert bounds.ceilings == ()
    assert set(bounds.ceilings_missing) == {"tensor", "dram"}


def test_dram_is_divided_by_the_clock_in_force_not_by_the_clock_that_vboost_took():
    slow = E1 | {"d": 0.8, "mem_clock_mhz": 2619.0 * 0.97}
    summary = measured([(10.0, slow)], gpus=[at(1, 660.0)]).summary()
    assert summary.job.score.dram_score_pct == pytest.approx(80 * 0.97, abs=0.01)


@pytest.mark.parametrize(
    ("level", "capability", "known"),
    [(1, (9, 0), True), (None, (9, 0), True), (0, (9, 0), False), (None, (8, 0), False)],
)
def test_a_memory_clock_that_vboost_may_have_lowered_is_the_same_chip(
    level: int | None, capability: tuple[int, int], known: bool
):
    gpu = msgspec.structs.replace(
        UNKNOWN,
        vboost_level=level,
        compute_capability=capability,
        power_limit_module_w=None,
        mem_clock_max_mhz=2619.0 * 0.96,
    )
    assert (match(MODELS, gpu).model is not None) == known


# --- the way into a run


class SourceOf:
    """What known_hardware looks at of a source."""

    def __init__(self, kind: str, name: str = "gpm") -> None:
        self.kind, self.name, self.gpus = kind, name, (UNKNOWN,)


def hardware(source: object) -> tuple[GpuInfo, list[str]]:
    [gpu], _, notes = known_hardware(source, ASKED, Vboost(levels={2: 0}))  # type: ignore[arg-type]
    return gpu, notes


def test_a_run_knows_its_level_before_its_bounds():
    gpu, notes = hardware(SourceOf("measured"))
    assert gpu.vboost_level == 0
    assert "but vBoost is 0 on GPU 2" in "\n".join(notes)


@pytest.mark.parametrize(("kind", "name"), [("simulated", "sim"), ("replay", "replay")])
def test_what_is_not_measured_here_has_nothing_of_this_node(kind: str, name: str):
    gpu, notes = hardware(SourceOf(kind, name))
    assert gpu.vboost_level is None
    assert notes == []


def test_doctors_alps_node_is_healthy_with_level_0_read_and_the_cap_stated():
    read, _ = with_vboost([msgspec.structs.replace(UNKNOWN, module_cap_w=660.0)], Vboost(levels={2: 0}), {})
    bounds = resolve(capped_model(660), read[0])
    assert not bounds.ceilings_at_other_cap
    assert bounds.ceilings_missing == ()
    assert "vBoost 0" in render(measured([(10.0, E1 | {"mem_clock_mhz": 2619.0})], gpus=read).summary())
