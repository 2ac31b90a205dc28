"""Scaling trials: efficiencies, score ratios, which loss grew, what is not comparable, and the text of it."""

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core.gate import RANKS_MISSING
from satscore.core.scaling import scaling_of
from satscore.core.scaling_types import Scaling, ScalingRun, encode
from satscore.core.summary import Summary
from satscore.core.summary_gpu import LossPart
from satscore.core.summary_job import ConfidenceItem
from satscore.errors import UsageError
from satscore.views.scaling import render
from tests.unit.runs import simulated
from tests.unit.sim_runs import four_ranks, no_gpu
from tests.unit.test_text_job import PROGRESS

replace = msgspec.structs.replace
JOB = four_ranks(150, ["python", "pretrain.py"])
ALONE = simulated("sim:llm", 150, 0.5).summary()
SHORT = simulated("sim:llm", 40, 0.5).summary()


def sized(
    gpus: int,
    *,
    nodes: int = 1,
    tokens_s: float | None = None,
    step_s: float | None = None,
    of: Summary = JOB,
    job: dict[str, Any] | None = None,
    run: dict[str, Any] | None = None,
    **changes: Any,
) -> Summary:
    """Return a summary as that of a job of another size and speed."""
    made = replace(of, job=replace(of.job, gpus_count=gpus, ranks_count=gpus, nodes_count=nodes, **(job or {})))
    if tokens_s is not None or step_s is not None:
        missing = {"tokens_s": "needs tokens="} if tokens_s is None else {}
        made = replace(made, progress=replace(PROGRESS, tokens_s=tokens_s, step_time_p50_s=step_s, missing=missing))
    return replace(made, run=replace(made.run, **(run or {})), **changes)


def trial(*summaries: Summary) -> Scaling:
    return scaling_of([(f"runs/{number}", summary) for number, summary in enumerate(summaries)])


def scored(summary: Summary, score_pct: float, half_width_pct: float | None = 0.2) -> Summary:
    """Return a summary with another score and interval."""
    interval = None
    if half_width_pct is not None:
        interval = ConfidenceItem(
            low_pct=score_pct - half_width_pct,
            high_pct=score_pct + half_width_pct,
            half_width_pct=half_width_pct,
            windows_count=900,
            batch_windows_count=8,
            batches_count=112,
            dof=111.0,
            reliable=True,
            systematic_pct=0.4,
        )
    return replace(summary, headline=replace(summary.headline, score_pct=score_pct, ci95=interval))


def losses(parts: dict[str, float]) -> list[LossPart]:
    return [LossPart(name=name, points_pct=points, parts=[]) for name, points in parts.items()]


def with_tree(summary: Summary, **parts: float) -> Summary:
    """Return a summary whose job tree has other parts."""
    tree = summary.job.tree
    assert tree is not None
    old = {part.name: part.points_pct for part in tree.parts}
    return replace(summary, job=replace(summary.job, tree=replace(tree, parts=losses(old | parts))))


# --- how fast


def test_by_tokens_there_is_one_efficiency_whatever_kind_of_scaling_it_is():
    found = trial(sized(4, tokens_s=1000.0, step_s=1.0), sized(16, nodes=4, tokens_s=3000.0, step_s=2.0))
    first, other = found.runs
    assert found.basis == "tokens"
    assert other.efficiency_frac == pytest.approx(3000 / 1000 / 4)
    assert (other.efficiency_strong_frac, other.efficiency_weak_frac) == (None, None)
    assert (first.efficiency_frac, first.score_ratio) == (1.0, 1.0)


def test_by_step_times_there_are_two_because_nobody_knows_which_it_is():
    found = trial(sized(4, step_s=1.0), sized(16, step_s=0.4))
    assert found.basis == "steps"
    assert found.runs[1].efficiency_strong_frac == pytest.approx(1.0 * 4 / (0.4 * 16))
    assert found.runs[1].efficiency_weak_frac == pytest.approx(1.0 / 0.4)
    assert found.runs[1].efficiency_frac is None


def test_without_progress_the_durations_are_compared_and_doubted():
    found = trial(sized(1, run={"duration_s": 900.0}), sized(2, run={"duration_s": 500.0}))
    assert found.basis == "duration"
    assert found.runs[1].efficiency_strong_frac == pytest.approx(0.9)
    assert found.runs[1].efficiency_weak_frac == pytest.approx(1.8)
    assert any("start-up included" in note for note in found.notes)
    assert not any("doubtful" in note for note in found.notes)


@pytest.mark.parametrize(
    ("durations", "command", "doubt"),
    [
        ((900.0, 905.0), ["python", "x.py"], "took as long"),
        ((900.0, 500.0), ["/bin/sleep", "900"], "sleep"),
        ((900.0, 500.0), ["bash", "-c", 'exec "$@"', "rank", "sleep", "900"], "sleep"),
        ((60.0, 31.0), ["python", "x.py"], "shortest command took 31 s"),
    ],
)
def test_durations_that_tell_little_are_said_to(durations, command, doubt):
    pair = [sized(4**i, run={"duration_s": time, "command": command}) for i, time in enumerate(durations)]
    (note,) = [note for note in trial(*pair).notes if note.startswith("doubtful")]
    assert doubt in note


def test_equal_durations_on_equally_many_gpus_are_no_doubt():
    found = trial(*[sized(4, run={"duration_s": 900.0}) for _ in range(2)])
    assert not any(note.startswith("doubtful") for note in found.notes)


def test_the_duration_of_a_command_that_failed_says_nothing_but_its_tokens_do():
    ended = {"exit_code": None, "exit_signal": "SIGTERM", "duration_s": 600.0}
    slow = trial(sized(1, run={"duration_s": 900.0}), sized(2, run=ended))
    assert slow.basis == "none"
    assert slow.runs[1].duration_s is None
    assert "efficiency_frac" in slow.runs[1].missing
    assert slow.runs[1].marks == ["SIMULATED", "failed: SIGTERM"]
    by_tokens = trial(sized(1, tokens_s=10.0), sized(2, tokens_s=18.0, run=ended))
    assert by_tokens.runs[1].efficiency_frac == pytest.approx(0.9)


def test_where_ranks_are_missing_nobody_knows_how_many_gpus_there_were():
    lacking = {"ranks_missing_count": 4, "ranks_expected_count": 12}
    found = trial(sized(4, tokens_s=10.0), sized(8, tokens_s=25.0, job=lacking), sized(16, tokens_s=40.0))
    assert [run.efficiency_frac for run in found.runs] == [1.0, None, 1.0]
    assert "how many GPUs" in found.runs[1].missing["efficiency_frac"]
    assert found.runs[1].score_ratio == 1.0


@pytest.mark.parametrize("counts", [{"ranks_failed_count": 1}, {"ranks_lost_count": 1}])
def test_the_duration_counts_only_if_all_ranks_succeeded(counts):
    found = trial(sized(4), sized(8, job=counts), sized(16, run={"duration_s": 90.0}))
    assert [run.duration_s for run in found.runs] == [150.0, None, 90.0]


def test_one_measure_holds_for_all_and_who_lacks_it_says_so():
    found = trial(sized(1, tokens_s=10.0, step_s=1.0), sized(2, tokens_s=19.0), sized(4, step_s=0.3))
    assert found.basis == "tokens"
    assert found.runs[2].efficiency_frac is None
    assert found.runs[2].missing["efficiency_frac"].endswith("tokens_s: needs tokens=")
    assert found.runs[2].step_time_p50_s == 0.3


@given(
    st.lists(
        st.tuples(st.integers(1, 20_000), st.floats(0.01, 1e9)), min_size=2, max_size=8, unique_by=lambda pair: pair[0]
    ),
    st.floats(0.1, 10.0),
)
@settings(max_examples=30, deadline=None)
def test_efficiency_does_not_depend_on_units_or_order(sizes, scale):
    runs = [(f"run{gpus}", sized(gpus, tokens_s=rate)) for gpus, rate in sizes]
    scaled = [(f"run{gpus}", sized(gpus, tokens_s=rate * scale)) for gpus, rate in reversed(sizes)]
    one, other = scaling_of(runs), scaling_of(scaled)
    assert [run.gpus_count for run in one.runs] == sorted(gpus for gpus, _ in sizes)
    assert [run.directory for run in one.runs] == [run.directory for run in other.runs]
    for mine, theirs in zip(one.runs, other.runs, strict=True):
        assert mine.efficiency_frac == pytest.approx(theirs.efficiency_frac)


# --- how full


@pytest.mark.parametrize(("score", "beyond"), [(44.0, True), (48.9, False), (51.2, False), (56.0, True)])
def test_a_score_differs_by_more_than_noise_or_not(score, beyond):
    """The spread between runs is 0.5 points: t x sqrt(0.5^2 + 0.5^2 + ...) is about 1.4."""
    found = trial(scored(sized(4), 50.0), scored(sized(8), score)).runs[1]
    change = found.score_change
    assert change is not None
    assert change.difference_pct == pytest.approx(score - 50.0)
    assert change.ci95_high_pct - change.difference_pct == pytest.approx(1.41, abs=0.03)
    assert change.is_beyond_noise == beyond
    assert found.score_ratio == pytest.approx(score / 50.0)


def test_without_an_interval_there_is_a_ratio_and_no_verdict():
    found = trial(scored(sized(4), 50.0), scored(sized(8), 40.0, None)).runs[1]
    assert found.score_change is None
    assert found.score_ratio == pytest.approx(0.8)
    assert "no confidence interval" in found.missing["score_change"]


def test_the_loss_that_grew_most_is_named():
    pair = with_tree(sized(4), coverage=5.0, persistent=1.0), with_tree(sized(8), coverage=9.0, persistent=3.0)
    found = trial(*pair).runs[1]
    assert found.grown is not None
    assert (found.grown.name, found.grown.first_pct, found.grown.here_pct) == ("coverage", 5.0, 9.0)
    assert found.loss_growth_pct["persistent"] == 2.0


def test_where_no_loss_grew_none_is_named():
    found = trial(sized(4), sized(8)).runs[1]
    assert found.grown is None
    assert set(found.loss_growth_pct.values()) == {0.0}


def test_the_loss_tree_of_one_gpu_stands_for_its_job_tree_and_that_is_said():
    found = trial(like_job(ALONE), sized(4))
    grown = found.runs[1].grown
    assert grown is not None
    assert grown.name == "persistent"
    assert grown.first_pct == 0.0
    assert any("runs/0 has one GPU and no job tree" in note for note in found.notes)
    growth = sum(found.runs[1].loss_growth_pct.values())
    assert JOB.job.tree is not None
    assert ALONE.job.loss is not None
    assert growth == pytest.approx(100 - JOB.job.tree.score_pct - sum(p.points_pct for p in ALONE.job.loss.datasheet))


@pytest.mark.parametrize(("scope", "before"), [("total", 7.0), ("steady", 3.0)])
def test_the_losses_of_one_gpu_are_of_the_same_time_as_those_of_the_job_tree_beside_it(scope, before):
    assert ALONE.job.loss is not None
    assert ALONE.job.steady is not None
    assert JOB.job.tree is not None
    parts = {part.name: part.points_pct for part in ALONE.job.loss.datasheet}
    job = replace(
        ALONE.job,
        loss=replace(ALONE.job.loss, datasheet=losses(parts | {"coverage": 7.0})),
        steady=replace(ALONE.job.steady, loss=losses(parts | {"coverage": 3.0})),
    )
    other = sized(4, job={"tree": replace(JOB.job.tree, scope=scope)})
    after = {part.name: part.points_pct for part in JOB.job.tree.parts}["coverage"]
    found = trial(like_job(replace(ALONE, job=job)), other).runs[1]
    assert found.loss_growth_pct["coverage"] == pytest.approx(after - before)


def test_without_a_job_tree_means_over_gpus_are_compared_with_means():
    found = trial(sized(4), sized(8, job={"tree": None}))
    assert found.runs[1].loss_growth_pct.keys() == {"idle", "coverage", "issue", "clock"}
    assert any(note.startswith("runs/1 has no job tree") for note in found.notes)


def test_losses_by_other_parts_are_not_compared():
    merged = losses({"idle|coverage": 30.0, "issue": 20.0, "clock": 5.0})
    assert JOB.job.steady is not None
    other = sized(8, job={"tree": None, "steady": replace(JOB.job.steady, loss=merged)})
    found = trial(sized(4), other).runs[1]
    assert (found.loss_growth_pct, found.grown) == ({}, None)
    assert "loss_growth_pct" in found.missing


def test_trees_of_different_times_are_compared_and_said_to_be():
    assert JOB.job.tree is not None
    other = sized(8, job={"tree": replace(JOB.job.tree, scope="steady")})
    assert "the losses of runs/0 are of the whole run, those of runs/1 of the steady phase" in trial(JOB, other).notes


# --- what can be compared


def like_job(summary: Summary) -> Summary:
    """Return a run as of the hardware of JOB."""
    gpu = JOB.ranks[0].gpus[0]
    ranks = [
        replace(rank, gpus=[replace(g, model_id=gpu.model_id, vboost_level=gpu.vboost_level) for g in rank.gpus])
        for rank in summary.ranks
    ]
    names = ("power_limit_gpu_w", "power_limit_module_w")
    limits = {name: getattr(JOB.job.rates, name) for name in names}
    return replace(summary, ranks=ranks, job=replace(summary.job, rates=replace(summary.job.rates, **limits)))


def of_gpus(**changes: Any) -> Summary:
    """Return JOB with other GPUs."""
    ranks = [replace(rank, gpus=[replace(gpu, **changes) for gpu in rank.gpus]) for rank in JOB.ranks]
    return replace(JOB, ranks=ranks)


def of_rates(**changes: Any) -> Summary:
    return replace(JOB, job=replace(JOB.job, rates=replace(JOB.job.rates, **changes)))


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (of_gpus(model_id="h200-sxm"), "GPU model differs: gh200-96 and h200-sxm"),
        (of_gpus(vboost_level=1), "vBoost level differs: 0 and 1"),
        (of_gpus(vboost_level=None), "vBoost level differs: 0 and unknown"),
        (of_rates(power_limit_module_w=560.0), "power limit (W) differs: 660.0 and 560.0"),
        (of_rates(power_limit_gpu_w=700.0), "power limit (W) differs: 900.0 and 700.0"),
        (replace(JOB, method=replace(JOB.method, profile="hpc")), "profile differs: train and hpc"),
        (replace(JOB, method=replace(JOB.method, dtype="fp8")), "data type (--dtype) differs: not stated and fp8"),
        (replace(JOB, data_kind="measured"), "data differ: simulated and measured"),
    ],
)
def test_runs_that_mean_different_things_are_refused_by_name(other, what):
    with pytest.raises(UsageError) as refused:
        trial(JOB, sized(8, of=other))
    assert refused.value.message.startswith("runs/0 and runs/1 cannot be compared: ")
    assert what in refused.value.message
    assert "leave out" in refused.value.hint


def test_a_cap_within_two_per_cent_is_the_same():
    assert len(trial(JOB, sized(8, of=of_rates(power_limit_module_w=655.0))).runs) == 2


def test_what_no_run_knows_is_taken_as_equal_and_said():
    pair = [sized(gpus, of=of_gpus(vboost_level=None)) for gpus in (4, 8)]
    assert "vBoost level is not known of any run: taken as equal" in trial(*pair).notes
    bare = [sized(gpus, of=of_gpus(vboost_level=None, may_have_vboost=False)) for gpus in (4, 8)]
    assert not any("vBoost" in note for note in trial(*bare).notes)


def test_one_run_is_no_trial():
    with pytest.raises(UsageError, match="needs 2 runs or more, not 1"):
        trial(JOB)


def test_two_runs_of_one_size_are_both_shown():
    found = trial(sized(4, tokens_s=10.0), sized(4, tokens_s=9.0))
    assert [run.tokens_s for run in found.runs] == [10.0, 9.0]
    assert found.runs[1].efficiency_frac == pytest.approx(0.9)


def test_a_run_without_any_gpu_is_marked_and_nothing_is_made_of_it():
    found = trial(replace(no_gpu(["python", "x.py"]), data_kind="simulated"), sized(4), sized(8))
    assert [run.gpus_count for run in found.runs] == [0, 4, 8]
    assert found.runs[0].score_pct is None
    for run in found.runs[1:]:
        assert (run.score_ratio, run.efficiency_strong_frac, run.grown) == (None, None, None)
        assert {"score_ratio", "efficiency_frac", "loss_growth_pct"} <= run.missing.keys()
    assert render(found)


# --- marks and text


@pytest.mark.parametrize(
    ("summary", "mark"),
    [
        (sized(8, run={"exit_code": 3}), "failed: exit 3"),
        (sized(8, run={"finished": False, "exit_code": None}), "end not recorded"),
        (sized(8, job={"score": replace(JOB.job.score, partial=True, coverage_frac=0.8)}), "partial: coverage 80 %"),
        (sized(8, notes=[f"{RANKS_MISSING}sums of 3 cannot be read"]), f"{RANKS_MISSING}sums of 3 cannot be read"),
        (sized(8, job={"ranks_missing_count": 3, "ranks_expected_count": 11}), f"{RANKS_MISSING}3 of 11"),
        (sized(8, job={"ranks_failed_count": 2}), "ranks failed: 2"),
        (sized(8, job={"ranks_lost_count": 1}), "ranks lost: 1"),
        (sized(8, data_kind="replay"), "REPLAY"),
        (sized(8, run={"kind": "watch", "exit_code": None}), None),
    ],
)
def test_what_must_stand_beside_the_numbers(summary, mark):
    first = replace(JOB, data_kind="replay" if summary.data_kind == "replay" else "simulated")
    marks = [m for m in trial(first, summary).runs[1].marks if m != "SIMULATED"]
    assert marks == ([] if mark is None else [mark])


def longest(text: str) -> int:
    return max(len(line) for line in text.splitlines() if not line.startswith("files"))


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("speed", ["tokens", "steps", "duration", "none"])
@pytest.mark.parametrize("count", [2, 8])
def test_the_text_keeps_within_its_width_and_names_every_run(width, speed, count):
    said: dict[str, Any] = {"tokens": {"tokens_s": 123_456_789.0}, "steps": {"step_s": 12.3456}}.get(speed, {})
    run = {"exit_code": 1} if speed == "none" else {"duration_s": 86_400.0}
    sizes = [16 * 4**i for i in range(count)]
    found = trial(*[sized(gpus, nodes=gpus // 4, run=run, of=ALONE, **said) for gpus in sizes])
    text = render(found, width)
    assert found.basis == speed
    assert longest(text) <= width
    for number, gpus in enumerate(sizes, 1):
        (row,) = [line for line in text.splitlines() if line.startswith(f"{number}* ")]
        assert f" {gpus} " in row
        assert f"files {number}    runs/{number - 1}" in text.splitlines()
    assert "SIMULATED" in text.splitlines()[0]


def test_a_row_says_what_the_json_does():
    pair = scored(sized(4, tokens_s=1000.0), 50.0), scored(sized(16, nodes=4, tokens_s=3000.0), 44.0)
    head, first, other = render(trial(*pair)).splitlines()[1:4]
    assert " ".join(head.split()) == "run nodes ranks GPUs S 95 % of grade tokens/s efficiency S/S1"
    assert " ".join(first.split()) == "1* 1 4 4 50.0 49.8..50.2 steady B 1,000 1.00 1.00"
    assert " ".join(other.split()) == "2* 4 16 16 44.0 43.8..44.2 steady B 3,000 0.75 0.88"


def test_text_of_others_cannot_reach_the_terminal_raw():
    found = scaling_of([("a\x1b[2J", sized(4)), ("b", sized(8, notes=[f"{RANKS_MISSING}\x1b[31m"]))])
    assert "\x1b" not in render(found)


def test_scores_of_different_parts_are_said_to_be():
    found = trial(like_job(SHORT), like_job(ALONE))
    assert any("scores are of different parts" in note for note in found.notes)


def test_the_json_has_its_version_and_every_run():
    found = trial(sized(4, tokens_s=10.0), sized(8, tokens_s=18.0))
    assert msgspec.json.decode(encode(found), type=Scaling) == found
    assert found.schema_version == "1.0"


def test_every_null_ratio_has_its_reason():
    """In any mixture of what is known of three runs."""
    kinds = (
        sized(4, tokens_s=10.0),
        sized(4, step_s=1.0),
        sized(4, run={"exit_code": 1}),
        scored(sized(4), 0.0),
        scored(sized(4), 40.0, None),
    )
    for chosen in itertools.product(kinds, repeat=3):
        for run in trial(*chosen).runs[1:]:
            assert (run.score_ratio is None) == ("score_ratio" in run.missing)
            assert (run.score_change is None) == ("score_change" in run.missing)
            assert (not efficiencies(run)) == ("efficiency_frac" in run.missing)


def efficiencies(run: ScalingRun) -> list[float]:
    values = run.efficiency_frac, run.efficiency_strong_frac, run.efficiency_weak_frac
    return [value for value in values if value is not None]
