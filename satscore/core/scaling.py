"""Runs of one program on more and more GPUs, side by side (docs/outputs.md, "Scaling trials").

Two questions, two kinds of number: how fast the work went (what the command reported, else its duration) and
how full the GPUs were (the score). All of it is relative to the run on the fewest GPUs.
"""

from collections.abc import Iterator, Sequence

import msgspec

from satscore.core.comparable import RunScore
from satscore.core.confidence import LEVEL
from satscore.core.headline import SHORT_RUN_WINDOWS
from satscore.core.scaling_checks import check_settings, has_succeeded, is_whole, marks, model_id
from satscore.core.scaling_losses import loss_growth
from satscore.core.scaling_types import BASIS_FIELDS, SCHEMA_VERSION, Basis, Scaling, ScalingRun, ScoreChange
from satscore.core.student import t_quantile
from satscore.core.summary import Summary
from satscore.core.two_runs import SIGMA_RUN_DEFAULT_POINTS, compare
from satscore.core.units import NS_PER_S
from satscore.core.windows import WINDOW_NS
from satscore.errors import UsageError

RUNS_MIN = 2
BRIEF_S = SHORT_RUN_WINDOWS * WINDOW_NS / NS_PER_S
"""Durations below this are said to be short: starting up is a good part of them."""
SET_TIMES = ("sleep", "timeout")
"""Programs whose duration is set by their arguments."""
SAME_DURATION_FRAC = 0.02


def scaling_of(runs: Sequence[tuple[str, Summary]]) -> Scaling:
    """Compare runs of one program on different numbers of GPUs.

    Args:
        runs: Directory and summary of each, in any order.

    Raises:
        UsageError: There are fewer than two, or they differ in hardware, profile, data type, power cap or vBoost.
    """
    if len(runs) < RUNS_MIN:
        raise UsageError(f"a scaling trial needs {RUNS_MIN} runs or more, not {len(runs)}")
    ordered = sorted(runs, key=lambda run: (run[1].job.gpus_count, run[1].job.nodes_count, run[0]))
    notes = check_settings(ordered)
    alone = [_alone(directory, summary) for directory, summary in ordered]
    basis = _basis(alone)
    compared, beside_notes = [_with_itself(alone[0], basis)], list[str]()
    for run, other in zip(alone[1:], ordered[1:], strict=True):
        made, said = _beside((alone[0], run), (ordered[0], other), basis)
        compared.append(made)
        beside_notes += said
    summaries = [summary for _, summary in ordered]
    kinds = {summary.data_kind for summary in summaries}
    return Scaling(
        schema_version=SCHEMA_VERSION,
        satscore_version=summaries[0].satscore_version,
        data_kind="simulated" if "simulated" in kinds else "replay" if "replay" in kinds else "measured",
        basis=basis,
        profile=summaries[0].method.profile,
        dtype=summaries[0].method.dtype,
        model_id=next(filter(None, map(model_id, summaries)), None),
        runs=compared,
        notes=[*dict.fromkeys((*_work_notes(basis, ordered, alone), *_noise_notes(compared), *beside_notes, *notes))],
    )


def _alone(directory: str, summary: Summary) -> ScalingRun:
    """Return what a run is by itself."""
    head, job, said, run = summary.headline, summary.job, summary.progress, summary.run
    succeeded = has_succeeded(summary)
    return ScalingRun(
        directory=directory,
        marks=marks(summary),
        label=run.label,
        nodes_count=job.nodes_count,
        ranks_count=job.ranks_count,
        gpus_count=job.gpus_count,
        is_whole=is_whole(summary),
        headline_kind=head.kind,
        score_pct=head.score_pct,
        ci95_low_pct=head.ci95.low_pct if head.ci95 else None,
        ci95_high_pct=head.ci95.high_pct if head.ci95 else None,
        ci95_reliable=head.ci95.reliable if head.ci95 else None,
        grade=job.score.grade,
        coverage_frac=job.score.coverage_frac,
        tokens_s=said.tokens_s if said else None,
        step_time_p50_s=said.step_time_p50_s if said else None,
        duration_s=run.duration_s if succeeded else None,
        missing=dict(_missing(summary, succeeded=succeeded)),
    )


def _missing(summary: Summary, *, succeeded: bool) -> Iterator[tuple[str, str]]:
    """Yield field and reason of what is not known of a run by itself."""
    head, said = summary.headline, summary.progress
    if head.score_pct is None:
        yield "score_pct", head.reason or "there is no score"
    if head.ci95 is None:
        yield "ci95_low_pct", head.ci_reason or "there is no interval"
    for field in ("tokens_s", "step_time_p50_s"):
        if said is None or getattr(said, field) is None:
            yield field, said.missing.get(field, "not reported") if said else "the command reported no progress"
    if not succeeded or summary.run.duration_s is None:
        yield "duration_s", "there is no command that ended with success in all ranks"


def _basis(runs: Sequence[ScalingRun]) -> Basis:
    """Return the surest measure of speed that the first run and another one have."""
    for basis, field in BASIS_FIELDS.items():
        if getattr(runs[0], field) and any(getattr(run, field) for run in runs[1:]):
            return basis
    return "none"


def _beside(
    runs: tuple[ScalingRun, ScalingRun], summaries: tuple[tuple[str, Summary], tuple[str, Summary]], basis: Basis
) -> tuple[ScalingRun, tuple[str, ...]]:
    """Return a run with what follows from comparing it with the first, and what must be said of that.

    Args:
        runs: The first one, and the one to compare.
        summaries: Directory and summary of the same two.
        basis: What efficiencies are made from.
    """
    first, run = runs
    missing = dict(run.missing)
    efficiencies = _efficiencies(first, run, basis)
    if not efficiencies:
        missing["efficiency_frac"] = _why_no_efficiency(first, run, basis)
    ratio = run.score_pct / first.score_pct if run.score_pct is not None and first.score_pct else None
    if ratio is None:
        missing["score_ratio"] = "one of the two runs has no score above 0"
    change = _change(summaries[0][1], summaries[1][1])
    if change is None:
        missing["score_change"] = "one of the two scores has no confidence interval"
    losses = loss_growth(*summaries)
    if not losses.growth_points:
        missing["loss_growth_pct"] = "the losses of the two runs are not known by the same parts"
    made = msgspec.structs.replace(
        run,
        **efficiencies,
        score_ratio=ratio,
        score_change=change,
        loss_growth_pct=losses.growth_points,
        grown=losses.grown,
        missing=missing,
    )
    return made, losses.notes


def _with_itself(first: ScalingRun, basis: Basis) -> ScalingRun:
    """Return the first run with its ratios, which are 1 where there are any."""
    ratio = 1.0 if first.score_pct else None
    return msgspec.structs.replace(first, **_efficiencies(first, first, basis), score_ratio=ratio)


def _efficiencies(first: ScalingRun, run: ScalingRun, basis: Basis) -> dict[str, float]:
    """Return efficiencies by field (docs/outputs.md, "Scaling trials"); empty where they are not known."""
    before, now = (None if basis == "none" else getattr(each, BASIS_FIELDS[basis]) for each in (first, run))
    if not before or not now or not _are_counted(first, run):
        return {}
    growth = run.gpus_count / first.gpus_count
    if basis == "tokens":
        return {"efficiency_frac": now / before / growth}
    return {"efficiency_strong_frac": before / now / growth, "efficiency_weak_frac": before / now}


def _are_counted(*runs: ScalingRun) -> bool:
    return all(run.is_whole and run.gpus_count for run in runs)


def _why_no_efficiency(first: ScalingRun, run: ScalingRun, basis: Basis) -> str:
    if basis == "none":
        return "neither tokens/s nor step times nor durations are known of the first run and another one"
    if not _are_counted(first, run):
        return "how many GPUs one of the two runs had is not known"
    field = BASIS_FIELDS[basis]
    return f"the others are compared by {field}: {run.missing.get(field, 'it is 0')}"


def _change(one: Summary, other: Summary) -> ScoreChange | None:
    """Return how a score differs from that of the first run; None where one of them has no interval."""
    found = compare([_score(one)], [_score(other)], sigma_run_points=SIGMA_RUN_DEFAULT_POINTS).difference
    if found is None:
        return None
    return ScoreChange(
        difference_pct=found.d_points,
        ci95_low_pct=found.ci95_low_points,
        ci95_high_pct=found.ci95_high_points,
        is_beyond_noise=not found.ci95_low_points <= 0.0 <= found.ci95_high_points,
    )


def _score(summary: Summary) -> RunScore:
    """Return a run's score with its standard error; settings are left blank, they have been compared."""
    head, interval = summary.headline, summary.headline.ci95
    return RunScore(
        mean_points=head.score_pct,
        se_points=interval.half_width_pct / t_quantile(LEVEL, interval.dof) if interval else None,
        dof=interval.dof if interval else None,
        n_windows=interval.windows_count if interval else 0,
        coverage_frac=summary.job.score.coverage_frac,
        grade=summary.job.score.grade,
        profile="",
        ceiling="datasheet",
        window_s=summary.method.window_s,
        model_id=None,
        cap_w=None,
        vboost_level=None,
        ranks_count=1,
    )


def _work_notes(basis: Basis, summaries: Sequence[tuple[str, Summary]], runs: Sequence[ScalingRun]) -> Iterator[str]:
    """Yield what the measure of speed leaves open."""
    if basis == "none":
        yield "no efficiency: neither progress (satscore.progress) nor durations are known of the first and another run"
    if basis != "duration":
        return
    yield (
        "no progress to compare by: times are durations of the commands, start-up included; "
        "satscore.progress(step=, tokens=) in the program tells more"
    )
    known = [(run.duration_s, run.gpus_count) for run in runs if run.duration_s]
    times_s = [time_s for time_s, _ in known]
    if min(times_s) < BRIEF_S:
        yield f"doubtful: the shortest command took {min(times_s):.0f} s, starting up is a good part of that"
    if _are_set(summary for _, summary in summaries):
        yield "doubtful: a command like sleep or timeout takes as long as it is told: its efficiency means nothing"
    elif len({count for _, count in known}) > 1 and max(times_s) <= (1 + SAME_DURATION_FRAC) * min(times_s):
        yield "doubtful: all commands took as long: if they run for a set time, efficiencies mean nothing"


def _are_set(summaries: Iterator[Summary]) -> bool:
    """Return whether the duration of a command is one of its arguments, also where a shell starts it."""
    words = {word.rpartition("/")[2] for summary in summaries for word in summary.run.command}
    return not words.isdisjoint(SET_TIMES)


def _noise_notes(runs: Sequence[ScalingRun]) -> Iterator[str]:
    """Yield what the comparison of scores takes for granted."""
    if any(run.score_change for run in runs):
        yield f"noise: runs of one job are taken to differ by {SIGMA_RUN_DEFAULT_POINTS:g} points (standard deviation)"
    if any(run.ci95_reliable is False for run in runs):
        yield "an interval of fewer than 300 steady windows, or of several levels, is unreliable"
    if len({run.headline_kind for run in runs} - {"none"}) > 1:
        yield "scores are of different parts: of the steady phase, and of the whole run where none was found"
