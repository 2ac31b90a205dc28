"""From sums to the summary: whole jobs, grades, what is missing and why, and the schema of the JSON."""

import math
from collections.abc import Iterator

import jsonschema
import msgspec
import pytest

from satscore.core.fields import FIELDS, INDEX, Quality
from satscore.core.gpu import GpuInfo
from satscore.core.summary import JobSummary, RankSummary, Summary, decode, encode, json_schema
from satscore.core.summary_gpu import GpuSummary, LossPart
from satscore.run.results import summarise
from satscore.views.text import render
from tests.unit.runs import COMMAND, H200_INFO, Run, joined, measured, simulated
from tests.unit.scenes import E1, IDLE
from tests.unit.sim_runs import four_ranks, no_gpu, run_end, run_file, run_start

PIPES = [f.name for f in FIELDS if f.name.endswith("_active_frac")]
GAUGES = {"power_gpu_w": 600.0, "power_limit_gpu_w": 700.0, "temp_gpu_c": 60.0, "memory_used_bytes": 2.0**35}
REPLACE = msgspec.structs.replace


def known_for(share: float, unknown: str = "T", seconds: int = 100) -> Run:
    """Return a run whose counters are known for a share of its time."""
    good, bad = measured([(1.0, E1)] * seconds), measured([(1.0, E1)] * seconds, unknown=[unknown])
    lost = round(seconds * (1 - share))
    good.table.values[:lost], good.table.quality[:lost] = bad.table.values[:lost], bad.table.quality[:lost]
    return good


def nvml_only() -> Run:
    return measured([(10, E1 | GAUGES)], unknown=PIPES, source="nvml", has_pipe_counters=False)


def killed() -> Summary:
    run = simulated("sim:llm", 12)
    return summarise(run_file(run_start(COMMAND), None, version="0"), [(run.header, run.session())], directory=None)


SUMMARIES = {
    "measured": measured([(10, E1 | GAUGES)]).summary(),
    "simulated": simulated("sim:llm", 12).summary(),
    "node": simulated("sim:gh200x4", 12).summary(),
    "four ranks": four_ranks(12.0, COMMAND),
    "no source": no_gpu(COMMAND),
    "nvml": nvml_only().summary(),
    "nothing known": measured(unknown=[f.name for f in FIELDS]).summary(),
    "links and throttle unknown": measured(
        unknown=[f.name for f in FIELDS if f.name.endswith("_bytes_s") or f.name.startswith("throttle")]
    ).summary(),
    "unknown GPU": measured(gpus=[REPLACE(H200_INFO, name="NVIDIA Q9")]).summary(),
    "nameless GPU": measured(gpus=[REPLACE(H200_INFO, name=None, uuid=None)]).summary(),
    "MIG": measured(gpus=[REPLACE(H200_INFO, mig_enabled=True)]).summary(),
    "partial": known_for(0.7).summary(),
    "low coverage": known_for(0.3).summary(),
    "killed": killed(),
    "fp8": measured().summary(start=REPLACE(run_start(COMMAND), dtype="fp8")),
    "hpc": measured().summary(start=run_start(COMMAND, profile="hpc")),
    "tensor": measured().summary(start=run_start(COMMAND, profile="tensor")),
}


# --- mean and extremes


def gpu_infos(n: int) -> list[GpuInfo]:
    return [REPLACE(H200_INFO, index=i, uuid=f"GPU-{i}") for i in range(n)]


def unequal() -> Summary:
    """Three GPUs of which the second works half of the time and the third runs half as long."""
    tables = [
        measured([(10.0, E1)], gpus=[gpu_infos(3)[0]]).table,
        measured([(1.0, E1), (1.0, IDLE)] * 5, gpus=[gpu_infos(3)[1]]).table,
        measured([(5.0, E1)], gpus=[gpu_infos(3)[2]]).table,
    ]
    return Run(header=measured(gpus=gpu_infos(3)).header, table=joined(tables)).summary()


def test_the_job_is_the_mean_over_time_and_names_the_extremes():
    summary = unequal()
    each = [gpu.score.score_pct or 0.0 for gpu in summary.ranks[0].gpus]
    assert each == pytest.approx([79.6216, 39.8108, 79.6216], abs=1e-3)
    job = summary.job
    assert job.score.score_pct == pytest.approx((10 * each[0] + 10 * each[1] + 5 * each[2]) / 25, abs=1e-6)
    assert job.score.scope_gpu_s == 30  # what was not read of a GPU while the others were counts as not known
    assert job.score.coverage_frac == pytest.approx(25 / 30)
    assert any("GPU 2 (5 s)" in note for note in summary.notes)
    assert job.gpus_count == 3
    assert job.worst is not None
    assert job.best is not None
    assert (job.worst.gpu_index, job.best.gpu_index) == (1, 2)
    assert (job.worst.score_pct, job.best.score_pct) == (each[1], each[2])


def test_the_rank_of_one_process_is_the_job():
    summary = SUMMARIES["node"]
    (rank,) = summary.ranks
    assert (rank.score, rank.loss, rank.rates) == (summary.job.score, summary.job.loss, summary.job.rates)


def test_a_gpu_without_work_is_named():
    busy, idle = gpu_infos(2)
    tables = [measured([(5.0, E1)], gpus=[busy]).table, measured([(5.0, IDLE)], gpus=[idle]).table]
    summary = Run(header=measured(gpus=gpu_infos(2)).header, table=joined(tables)).summary()
    [finding] = [finding for finding in summary.findings if finding.id == "GPU_IDLE_RANK"]
    assert [name.gpu_index for name in finding.ranks] == [1]
    assert "CUDA_VISIBLE_DEVICES" in finding.hint
    assert not any("had no work" in note for note in summary.notes)
    alone = measured([(5.0, IDLE)]).summary()
    assert any("did the command use" in note for note in alone.notes)
    assert "no rule applies" in render(alone)


def test_gpus_without_work_do_not_look_like_a_stalled_host():
    tables = [measured([(5.0, E1), (0.2, IDLE)], gpus=[gpu_infos(4)[0]]).table]
    tables += [measured([(5.2, IDLE)], gpus=[gpu]).table for gpu in gpu_infos(4)[1:]]
    summary = Run(header=measured(gpus=gpu_infos(4)).header, table=joined(tables)).summary()
    assert [finding.id for finding in summary.findings] == ["GPU_IDLE_RANK"]
    assert summary.job.gpus_scored_count == 4


def scopes(summary: Summary) -> Iterator[JobSummary | RankSummary | GpuSummary]:
    yield summary.job
    yield from summary.ranks
    yield from (gpu for rank in summary.ranks for gpu in rank.gpus)


def test_scores_by_resource_add_up_and_so_do_both_trees():
    for summary in SUMMARIES.values():
        for block in scopes(summary):
            if block.score.score_pct is None or block.score.score_attainable_pct is None:
                assert block.loss is None
                continue
            assert block.loss is not None
            assert sum(block.score.by_resource_pct.values()) == pytest.approx(block.score.score_pct, abs=1e-9)
            for tree, top in (
                (block.loss.datasheet, block.score.score_pct),
                (block.loss.attainable, block.score.score_attainable_pct),
            ):
                assert sum(part.points_pct for part in tree) + top == pytest.approx(100, abs=1e-9)
                check_children(tree)


def check_children(parts: list[LossPart]) -> None:
    for part in parts:
        assert part.points_pct >= 0
        if part.parts:
            assert sum(p.points_pct for p in part.parts) == pytest.approx(part.points_pct, abs=1e-9)
            check_children(part.parts)


# --- no score


def test_an_unknown_gpu_has_rates_and_the_file_to_add_but_no_score():
    summary = SUMMARIES["unknown GPU"]
    score, rates = summary.job.score, summary.job.rates
    assert score.score_pct is score.score_min_pct is score.tensor_score_pct is None
    assert score.grade is None
    assert summary.headline.kind == "none"
    assert "add q9.toml to ~/.config/satscore/hwmodels" in (summary.headline.reason or "")
    assert any("add q9.toml to ~/.config/satscore/hwmodels" in note for note in summary.notes)
    assert rates.tensor_active_frac == pytest.approx(0.835)
    assert rates.dram_bytes_s == pytest.approx(0.25 * 4.916736e12, rel=1e-6)
    assert rates.tensor_flops_s is None
    assert summary.ranks[0].gpus[0].bounds == []
    assert {item.id: item.missing for item in summary.not_judged}["MEMORY_MIX"] == ["score"]


def test_a_mig_slice_has_no_score():
    summary = SUMMARIES["MIG"]
    assert summary.job.score.score_pct is None
    assert "MIG is enabled" in (summary.headline.reason or "")
    assert summary.job.score.missing["score_pct"] == summary.headline.reason


def test_one_gpu_that_cannot_be_scored_leaves_the_job_without_a_score_but_not_the_others():
    gpus = gpu_infos(2)
    gpus[1] = REPLACE(gpus[1], name="NVIDIA Q9")
    summary = measured(gpus=gpus).summary()
    assert summary.job.score.score_pct is None
    assert [g.score.score_pct is None for g in summary.ranks[0].gpus] == [False, True]
    assert summary.job.worst == summary.job.best
    assert "q9" in (summary.headline.reason or "")


def test_gauges_alone_are_grade_d_and_never_a_score():
    summary = SUMMARIES["nvml"]
    score = summary.job.score
    assert score.grade == "D"
    assert score.score_pct is score.score_hi_pct is score.score_attainable_pct is None
    assert summary.headline.reason == "no pipe counters from source 'nvml'"
    assert summary.job.rates.power_gpu_w == pytest.approx(600)
    assert summary.job.rates.temp_gpu_max_c == pytest.approx(60)
    assert summary.job.rates.memory_used_max_bytes == pytest.approx(2**35)


def test_without_a_source_the_summary_says_so():
    summary = SUMMARIES["no source"]
    assert (summary.source.name, summary.job.gpus_count, summary.ranks) == ("none", 0, [])
    assert "libnvidia-ml.so.1" in (summary.headline.reason or "")


# --- coverage and grade


@pytest.mark.parametrize(
    ("share", "scored", "partial", "grade"),
    [
        (1.0, True, False, "B"),
        (0.95, True, False, "B"),
        (0.94, True, True, "C"),
        (0.5, True, True, "C"),
        (0.49, False, False, None),
        (0.0, False, False, None),
    ],
)
def test_coverage_decides(share, scored, partial, grade):
    score = known_for(share).summary().job.score
    assert score.coverage_frac == pytest.approx(share)
    assert (score.score_pct is not None, score.partial, score.grade) == (scored, partial, grade)
    assert score.score_min_pct is not None
    assert score.score_max_pct is not None
    assert score.score_min_pct <= 79.6217
    assert score.score_max_pct >= 79.6215
    if not scored:
        assert f"{share:.0%}" in score.missing["score_pct"]
        assert "50%" in score.missing["score_pct"]


@pytest.mark.parametrize("known", [5, 4, 3])
def test_a_window_counts_if_its_counters_are_known_for_four_fifths_of_it(known):
    parts = [(0.2, E1)] * 5
    good, bad = measured(parts), measured(parts, unknown=["T"])
    good.table.values[known:], good.table.quality[known:] = bad.table.values[known:], bad.table.quality[known:]
    score = good.summary().job.score
    assert score.coverage_frac == (1.0 if known >= 4 else 0.0)
    if known >= 4:
        assert score.score_pct == pytest.approx(79.6216, abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "grade"),
    [
        ({}, "B"),
        ({"power_limit_gpu_w": 699.9}, "B"),
        ({"power_limit_gpu_w": 500.0}, "C"),
        ({"power_limit_gpu_w": None}, "B"),
    ],
)
def test_a_ceiling_of_another_cap_is_grade_c_and_said(changes, grade):
    summary = measured(gpus=[REPLACE(H200_INFO, **changes)]).summary()
    assert summary.job.score.grade == grade
    assert any("another power cap" in note for note in summary.notes) == (grade == "C")


def test_an_unknown_ceiling_is_taken_as_the_bound():
    score = measured(gpus=[REPLACE(H200_INFO, power_limit_gpu_w=None)]).summary().job.score
    assert score.score_attainable_pct == score.score_pct


def test_grade_a_needs_a_ceiling_measured_on_this_gpu():
    assert "A" not in {s.job.score.grade for s in SUMMARIES.values()}


def test_a_counter_above_its_bound_is_said():
    summary = measured([(10, E1 | {"T": 1.0, "f": 1980})]).summary()
    assert summary.job.score.bound_exceeded_frac == 1.0
    assert summary.job.score.score_pct == 100
    assert "BOUND_EXCEEDED" in {finding.id for finding in summary.findings}


def test_a_rate_above_the_best_known_kernel_is_said():
    summary = measured([(10, E1 | {"f": 1980})]).summary()
    assert summary.job.score.ceiling_exceeded_frac == 1.0
    assert summary.job.score.bound_exceeded_frac == 0
    assert "CALIBRATION_STALE" in {finding.id for finding in summary.findings}


# --- rates


def test_flops_are_a_range_unless_the_type_is_stated():
    rates = SUMMARIES["measured"].job.rates
    assert rates.tensor_flops_s is None
    assert "--dtype" in rates.missing["tensor_flops_s"]
    assert rates.tensor_flops_min_s == pytest.approx(393.9e12, rel=1e-3)
    assert rates.tensor_flops_max_s == pytest.approx(1575.6e12, rel=1e-3)
    assert SUMMARIES["fp8"].job.rates.tensor_flops_s == pytest.approx(1575.6e12, rel=1e-3)


def test_energy_is_power_over_the_time_in_which_it_was_known():
    rates = SUMMARIES["measured"].job.rates
    assert rates.energy_gpu_j == pytest.approx(6000)
    assert rates.energy_module_j is None
    assert rates.missing["energy_module_j"]


def test_power_is_the_sources_own_mean_and_energy_follows_from_it():
    """A counter that moves every other read books two intervals at once: dE/dt of one reading is not its power."""
    booked = [(0.5, E1 | GAUGES | {"energy_gpu_j": e}) for e in (0.0, 600.0)] * 2
    rates = measured(booked).summary().job.rates
    assert rates.power_gpu_w == pytest.approx(600)
    assert rates.energy_gpu_j == pytest.approx(1200)


def test_energy_of_a_part_of_the_time_is_not_the_energy_of_the_run():
    run = measured([(0.5, E1 | GAUGES)] * 10)
    run.table.values[4:, INDEX["power_gpu_w"]] = float("nan")
    run.table.quality[4:, INDEX["power_gpu_w"]] = Quality.BLANK
    rates = run.summary().job.rates
    assert rates.energy_gpu_j is None
    assert rates.missing["energy_gpu_j"]


def test_the_scores_beside_the_headline_follow_the_same_rule_of_coverage():
    score = known_for(0.3).summary().job.score
    assert score.tensor_score_pct is score.score_hpc_pct is None


def test_dram_alone_never_exceeds_its_bound():
    score = measured([(5.0, E1 | {"T": 0, "d": 0.99})]).summary().job.score
    assert score.dram_score_pct == score.score_pct == 100


def test_fp64_tensor_work_is_rated_at_its_own_clock():
    run = measured([(5.0, E1 | {"T": 0.9, "d": 0, "f": 1980})])
    summary = run.summary(start=REPLACE(run_start(COMMAND), dtype="fp64"))
    assert summary.job.score.tensor_score_pct == pytest.approx(90, abs=1e-3)
    assert summary.job.score.score_attainable_pct == pytest.approx(90, abs=1e-3)
    assert summary.ranks[0].gpus[0].ceilings_missing == ["tensor"]
    assert any("no attainable rate" in note for note in summary.notes)


# --- null with a reason


def blocks(summary: Summary) -> Iterator[tuple[object, dict[str, str]]]:
    for scope in scopes(summary):
        yield scope.score, scope.score.missing
        yield scope.rates, scope.rates.missing


def nulls(block: object) -> set[str]:
    data = msgspec.to_builtins(block)
    inner = {f"{k}.{i}" for k, v in data.items() if isinstance(v, dict) and k != "missing" for i in v if v[i] is None}
    return {k for k, v in data.items() if v is None} | inner


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_null_has_its_reason_and_every_reason_its_null(name):
    for block, missing in blocks(SUMMARIES[name]):
        assert nulls(block) == set(missing), type(block).__name__
        assert all(missing.values())


def test_reasons_are_those_of_the_driver():
    run = measured(unknown=["sm", "f"])
    run.table.quality[:, INDEX["sm_active_frac"]] = Quality.NO_PERMISSION
    run.table.quality[:, INDEX["sm_clock_mhz"]] = Quality.NOT_SUPPORTED
    summary = run.summary()
    assert summary.job.rates.missing["sm_active_frac"] == "no permission"
    assert summary.job.rates.missing["sm_clock_mhz"] == "not supported by this GPU or driver"
    gpu = summary.ranks[0].gpus[0]
    assert gpu.fields_missing["sm_active_frac"] == "no permission"
    assert gpu.fields_known_frac["sm_active_frac"] == 0
    assert gpu.fields_known_frac.keys() == gpu.fields_missing.keys()


def numbers(value: object) -> Iterator[float]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from numbers(inner)
    elif isinstance(value, float):
        yield value


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_number_is_finite(name):
    assert all(math.isfinite(x) for x in numbers(msgspec.to_builtins(SUMMARIES[name])))


# --- the format


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_json_follows_its_schema_and_comes_back_the_same(name):
    data = encode(SUMMARIES[name])
    jsonschema.validate(msgspec.json.decode(data), json_schema(), cls=jsonschema.Draft202012Validator)
    assert decode(data) == SUMMARIES[name]
    assert encode(decode(data)) == data
    assert data.endswith(b"}\n")


def with_extra_keys(value: object) -> object:
    if isinstance(value, dict):
        return {k: with_extra_keys(v) for k, v in value.items()} | ({"added_later": 1} if "missing" in value else {})
    return [with_extra_keys(v) for v in value] if isinstance(value, list) else value


def test_keys_of_a_later_version_are_ignored():
    data = msgspec.json.decode(encode(SUMMARIES["node"]))
    extended = {**with_extra_keys(data), "phases": [], "schema_version": "1.7"}  # type: ignore[dict-item]
    expected = REPLACE(SUMMARIES["node"], schema_version="1.7")
    assert decode(msgspec.json.encode(extended)) == expected


def test_a_summary_with_a_wrong_type_is_named_by_its_path():
    data = msgspec.json.decode(encode(SUMMARIES["measured"]))
    data["job"]["score"]["coverage_frac"] = "much"
    with pytest.raises(msgspec.ValidationError, match=r"\$\.job\.score\.coverage_frac"):
        decode(msgspec.json.encode(data))


def test_numbers_carry_their_unit_in_their_key():
    units = (
        *[
            "_pct",
            "_frac",
            "_s",
            "_w",
            "_mhz",
            "_bytes",
            "_flops_s",
            "_c",
            "_j",
            "_count",
            "_utc",
            "_ns",
            "_kwh",
            "_pct_of_core",
            "_cores",
        ],
    )
    plain = {
        "dof",
        "z",
        "efficiency_ratio",
        "speed_up",
        "t_over_mfu",
        "rank",
        "local_rank",
        "ranks_missing",
        "index",
        "gpu_index",
        "nvml_index",
        "vboost_level",
        "pcie_generation",
        "pcie_generation_max",
        "exit_code",
        "value",
        "threshold",
        "mean_gpm",
        "mean_dcgm",
        "difference",
    }
    schema = json_schema()["$defs"]
    for name, definition in schema.items():
        for key, kind in definition.get("properties", {}).items():
            if "number" in str(kind) or "integer" in str(kind):
                assert key.endswith(units) or key in plain, (name, key)


@pytest.mark.parametrize("ending", [{"exit_code": 3}, {"exit_code": None, "exit_signal": "SIGKILL"}])
def test_how_the_command_ended_is_kept(ending):
    end = REPLACE(run_end(4.0, ["twice", "twice"]), **ending)
    summary = measured().summary(end=end)
    assert {k: getattr(summary.run, k) for k in ending} == ending
    assert summary.notes.count("twice") == 1


def test_a_data_type_that_the_gpu_lacks_is_said():
    summary = measured().summary(start=REPLACE(run_start(COMMAND), dtype="fp4"))
    assert any("--dtype fp4" in note for note in summary.notes)
    assert summary.job.score.tensor_score_pct == pytest.approx(79.6216, abs=1e-3)
    assert "no fp4 tensor rate" in summary.job.rates.missing["tensor_flops_s"]
