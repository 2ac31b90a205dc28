"""What must be equal for runs to be a scaling trial, and what keeps a run's numbers from being what they seem."""

from collections.abc import Sequence

from satscore.core.comparable import RunScore, caveats, faults
from satscore.core.confidence import RELIABLE_WINDOWS_MIN
from satscore.core.gate import RANKS_MISSING
from satscore.core.summary import Summary
from satscore.errors import UsageError

LEAVE_OUT_HINT = "a scaling trial varies the number of GPUs only; leave out the run that is different"


def check_settings(runs: Sequence[tuple[str, Summary]]) -> list[str]:
    """Refuse runs whose numbers mean different things; return what could not be checked.

    A run of which no GPU is known has no numbers that could be compared: it is let through.

    Args:
        runs: Directory and summary of each.

    Raises:
        UsageError: Two of them differ; names both directories and what differs.
    """
    known = [(directory, summary) for directory, summary in runs if model_id(summary) is not None]
    for directory, summary in known[1:]:
        where, first = known[0]
        differs = _differences(first, summary)
        if differs:
            raise UsageError(f"{where} and {directory} cannot be compared: {'; '.join(differs)}", hint=LEAVE_OUT_HINT)
    return caveats([_setting(summary, _widest_limit_w(summary)) for _, summary in known], []) if known else []


def model_id(summary: Summary) -> str | None:
    """Return the hardware model of a run's GPUs, several joined; None where none is known."""
    return "+".join(sorted({gpu.model_id for rank in summary.ranks for gpu in rank.gpus if gpu.model_id})) or None


def is_whole(summary: Summary) -> bool:
    """Return whether every rank that is known of is in the numbers; else nobody knows how many GPUs there were."""
    return not summary.job.ranks_missing_count and not any(note.startswith(RANKS_MISSING) for note in summary.notes)


def has_succeeded(summary: Summary) -> bool:
    """Return whether a command ran to its end with success, in all ranks: only then its duration is its work's."""
    run, job = summary.run, summary.job
    is_good = run.kind == "command" and run.finished and run.exit_code == 0
    return is_good and not job.ranks_failed_count and not job.ranks_lost_count


def marks(summary: Summary) -> list[str]:
    """Return what must stand beside every number of a run."""
    run, job = summary.run, summary.job
    found = {"simulated": ["SIMULATED"], "replay": ["REPLAY"], "measured": []}[summary.data_kind]
    if not run.finished:
        found += ["end not recorded"]
    elif run.kind == "command" and run.exit_code != 0:
        found += [f"failed: {run.exit_signal or f'exit {run.exit_code}'}"]
    found += [f"partial: coverage {100 * job.score.coverage_frac:.0f} %"] if job.score.partial else []
    found += _marks_of_ranks(summary)
    found += ["uses GPUs that nobody reads"] if any(rank.gpus_unread for rank in summary.ranks) else []
    found += ["GPUs shared with others"] if any(finding.id == "GPU_SHARED" for finding in summary.findings) else []
    return found


def _marks_of_ranks(summary: Summary) -> list[str]:
    """Return how many ranks lack, failed or were lost; which ones is in the notes of the run itself."""
    job = summary.job
    if job.ranks_missing_count:
        missing = [f"{RANKS_MISSING}{job.ranks_missing_count} of {job.ranks_expected_count}"]
    else:
        missing = [note for note in summary.notes if note.startswith(RANKS_MISSING)]
    failed = [f"ranks failed: {job.ranks_failed_count}"] if job.ranks_failed_count else []
    return [*missing, *failed, *([f"ranks lost: {job.ranks_lost_count}"] if job.ranks_lost_count else [])]


def _differences(one: Summary, other: Summary) -> list[str]:
    kinds = [summary.data_kind for summary in (one, other)]
    texts = [f"the data differ: {kinds[0]} and {kinds[1]}"] if kinds.count("simulated") == 1 else []
    dtypes = [summary.method.dtype or "not stated" for summary in (one, other)]
    texts += [f"the data type (--dtype) differs: {dtypes[0]} and {dtypes[1]}"] if dtypes[0] != dtypes[1] else []
    for limits_w in zip(_limits_w(one), _limits_w(other), strict=True):
        texts += faults([_setting(one, limits_w[0])], [_setting(other, limits_w[1])])
    return list(dict.fromkeys(texts))


def _limits_w(summary: Summary) -> tuple[float | None, float | None]:
    """Return the power limits of the GPU and of its module, means over GPUs."""
    return summary.job.rates.power_limit_gpu_w, summary.job.rates.power_limit_module_w


def _widest_limit_w(summary: Summary) -> float | None:
    gpu_w, module_w = _limits_w(summary)
    return gpu_w if module_w is None else module_w


def _setting(summary: Summary, limit_w: float | None) -> RunScore:
    """Return a faultless score under the settings of a run, so that only these can be found fault with."""
    return RunScore(
        mean_points=0.0,
        se_points=0.0,
        dof=1.0,
        n_windows=RELIABLE_WINDOWS_MIN,
        coverage_frac=1.0,
        grade="B",
        profile=summary.method.profile,
        ceiling="datasheet",
        window_s=summary.method.window_s,
        model_id=model_id(summary),
        cap_w=limit_w,
        vboost_level=_vboost_level(summary),
        ranks_count=1,  # what a scaling trial varies
    )


def _vboost_level(summary: Summary) -> int | None:
    """Return the vBoost level of all GPUs; None where it is unknown or not one level. Without the slider it is 0."""
    gpus = [gpu for rank in summary.ranks for gpu in rank.gpus]
    levels = {gpu.vboost_level if gpu.may_have_vboost else 0 for gpu in gpus}
    return levels.pop() if len(levels) == 1 else None
