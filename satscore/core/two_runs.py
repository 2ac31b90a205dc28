"""Whether run B is worse than run A: difference, interval, verdict, what would decide (docs/method.md, "Two runs").

Two runs of one program differ by more than the windows inside each can tell: other nodes, other neighbours, other
temperatures. That run-to-run spread is a term of its own in the error of the difference; without it, chance is
called a regression. Everything here is in points of the score (0 to 100); the difference d is B minus A.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import msgspec
import numpy as np

from satscore.core.comparable import RunScore, caveats, faults
from satscore.core.effects import RankCheck, rank_check
from satscore.core.readings import FloatArray
from satscore.core.student import pooled_dof, t_quantile
from satscore.errors import EXIT_BELOW, EXIT_UNDECIDED

Verdict = Literal["ok", "regression", "inconclusive", "invalid"]
SigmaFrom = Literal["stated", "runs", "default"]
"""Where the run-to-run spread comes from: the caller, the run means of a side with 3 runs or more, or nowhere."""

EXIT_INCONCLUSIVE = 4
EXIT_CODES: dict[Verdict, int] = {
    "ok": 0,
    "regression": EXIT_BELOW,
    "inconclusive": EXIT_INCONCLUSIVE,
    "invalid": EXIT_UNDECIDED,
}
DELTA_MIN_POINTS, DELTA_FRAC = 1.0, 0.02
"""A drop matters from 1 point or 2 % of A's score on, whichever is more."""
SIGMA_RUN_DEFAULT_POINTS = 0.5
SIGMA_RUNS_MIN = 3
"""From fewer runs of one job no spread is estimated."""
MORE_MAX = 100
"""More runs than this, or runs so many times as long, are no advice."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """B minus A with its standard error, and the drop that matters."""

    a_points: float
    """Mean over the runs of A."""
    b_points: float
    d_points: float
    se_d_points: float
    dof: float
    ci95_low_points: float
    ci95_high_points: float
    delta_points: float
    """A drop of so much or more matters."""
    sigma_run_points: float
    """Standard deviation between runs of one job, as used."""
    sigma_run_from: SigmaFrom


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The result of comparing the runs of B with those of A."""

    verdict: Verdict
    exit_code: int
    reason: str
    runs_a_count: int
    runs_b_count: int
    difference: Difference | None
    """null: a run has no score or no interval. It is there for runs that are not comparable, too."""
    needed_length_factor: int | None
    """If inconclusive: runs so many times as long decide if d stays as it is; null: no longer runs do."""
    needed_runs_count: int | None
    """If inconclusive: so many runs per side decide if d stays as it is; null: more than 100 would be needed."""
    rank_check: RankCheck | None
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """The runs of one side. ``variance`` is that of their mean, as far as the windows inside the runs tell."""

    run_means: tuple[float, ...]
    runs_count: int
    mean: float
    variance: float
    dof: float

    def of_runs(self, count: int) -> "_Side":
        """Return the side as it would be with so many runs like these."""
        scale = count / self.runs_count
        return replace(self, runs_count=count, variance=self.variance / scale, dof=self.dof * scale)

    def longer(self, factor: int) -> "_Side":
        """Return the side as it would be with longer runs; that batches get longer, not more, is the worse case."""
        return replace(self, variance=self.variance / factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sigma:
    """The run-to-run spread."""

    points: float
    source: SigmaFrom


@dataclass(frozen=True, slots=True, kw_only=True)
class _Advice:
    """What would decide; None: nothing within reason does."""

    length_factor: int | None = None
    runs_count: int | None = None


def compare(a: Sequence[RunScore], b: Sequence[RunScore], *, sigma_run_points: float | None) -> Comparison:
    """Compare the runs of B with those of A, the baseline.

    ``se_d^2 = se_A^2 + se_B^2 + sigma_run^2 (1/K_A + 1/K_B)`` for K runs per side; a side's score is the mean of its
    runs. Degrees of freedom are Welch's; where sigma_run is estimated from these runs, K_A + K_B - 2 at most.

    Args:
        a: Runs of the baseline, at least one.
        b: Runs to judge, at least one.
        sigma_run_points: Standard deviation between runs of one job, if known. None: it is estimated from the run
            means if a side has 3 runs or more, else 0.5 points are assumed.

    Raises:
        ValueError: If a side has no run, or the spread is negative or not finite.
    """
    if not a or not b:
        raise ValueError("a comparison needs at least one run of A and one of B")
    if sigma_run_points is not None and not 0 <= sigma_run_points < math.inf:
        raise ValueError(f"the run-to-run spread must be a finite number of points >= 0, not {sigma_run_points!r}")
    why_not, side_a, side_b = faults(a, b), _side(a), _side(b)
    verdict: Verdict = "invalid"
    difference, advice = None, _Advice()
    if side_a is not None and side_b is not None:
        sigma = _sigma(side_a, side_b, sigma_run_points)
        difference = _difference(side_a, side_b, sigma)
        verdict = verdict if why_not else _verdict(difference)
        advice = _advice(side_a, side_b, sigma) if verdict == "inconclusive" else advice
    return Comparison(
        verdict=verdict,
        exit_code=EXIT_CODES[verdict],
        reason="; ".join(why_not) if difference is None or why_not else _reason(verdict, difference, advice),
        runs_a_count=len(a),
        runs_b_count=len(b),
        difference=difference,
        needed_length_factor=advice.length_factor,
        needed_runs_count=advice.runs_count,
        rank_check=rank_check(_batches(a), _batches(b)),
        notes=[*caveats(a, b), *_assumed(difference)],
    )


def _side(runs: Sequence[RunScore]) -> _Side | None:
    """Return the mean over the runs of a side; None if one of them has no score or no interval."""
    known = [
        (run.mean_points, run.se_points**2, run.dof)
        for run in runs
        if run.mean_points is not None and run.se_points is not None and run.dof is not None
    ]
    if len(known) < len(runs):
        return None
    means, variances, dofs = zip(*known, strict=True)
    return _Side(
        run_means=means,
        runs_count=len(runs),
        mean=math.fsum(means) / len(runs),
        variance=math.fsum(variances) / len(runs) ** 2,
        dof=pooled_dof(variances, dofs),
    )


def _sigma(a: _Side, b: _Side, stated_points: float | None) -> _Sigma:
    """Return the run-to-run spread: stated, else from the run means, else the default.

    The run means of a side scatter by sigma_run and by what their windows leave open; the latter is taken off,
    because the error of the difference has it as a term of its own.
    """
    if stated_points is not None:
        return _Sigma(points=stated_points, source="stated")
    if max(a.runs_count, b.runs_count) < SIGMA_RUNS_MIN:
        return _Sigma(points=SIGMA_RUN_DEFAULT_POINTS, source="default")
    squares = sum(math.fsum((mean - side.mean) ** 2 for mean in side.run_means) for side in (a, b))
    within = sum((side.runs_count - 1) * side.runs_count * side.variance for side in (a, b))
    return _Sigma(points=math.sqrt(max(0.0, squares - within) / (a.runs_count + b.runs_count - 2)), source="runs")


def _difference(a: _Side, b: _Side, sigma: _Sigma) -> Difference:
    """Return B - A with its standard error and degrees of freedom."""
    se = math.sqrt(a.variance + b.variance + sigma.points**2 * (1 / a.runs_count + 1 / b.runs_count))
    dof = pooled_dof([a.variance, b.variance], [a.dof, b.dof])
    if sigma.source == "runs":
        dof = min(dof, a.runs_count + b.runs_count - 2.0)
    d, half_width = b.mean - a.mean, t_quantile(0.975, dof) * se
    return Difference(
        a_points=a.mean,
        b_points=b.mean,
        d_points=d,
        se_d_points=se,
        dof=dof,
        ci95_low_points=d - half_width,
        ci95_high_points=d + half_width,
        delta_points=max(DELTA_MIN_POINTS, DELTA_FRAC * a.mean),
        sigma_run_points=sigma.points,
        sigma_run_from=sigma.source,
    )


def _verdict(found: Difference) -> Verdict:
    """Return whether a drop that matters is shown, ruled out (at 95 %, one-sided), or neither."""
    if found.d_points <= -found.delta_points:
        return "regression" if found.ci95_high_points < 0 else "inconclusive"
    lowest = found.d_points - t_quantile(0.95, found.dof) * found.se_d_points
    return "ok" if lowest > -found.delta_points else "inconclusive"


def _advice(a: _Side, b: _Side, sigma: _Sigma) -> _Advice:
    """Return by how much longer or more runs would decide, if the difference stayed as it is."""

    def longer_decide(factor: int) -> bool:
        return _verdict(_difference(a.longer(factor), b.longer(factor), sigma)) != "inconclusive"

    def more_decide(count: int) -> bool:
        more_a, more_b = a.of_runs(max(count, a.runs_count)), b.of_runs(max(count, b.runs_count))
        return _verdict(_difference(more_a, more_b, sigma)) != "inconclusive"

    fewest = min(a.runs_count, b.runs_count)
    return _Advice(
        length_factor=_first(range(2, MORE_MAX + 1), longer_decide),
        runs_count=_first(range(fewest + 1, MORE_MAX + 1), more_decide),
    )


def _first(candidates: range, decides: Callable[[int], bool]) -> int | None:
    """Return the first number that decides; a larger one always does if a smaller one does."""
    found = bisect_left(candidates, True, key=decides)  # noqa: FBT003
    return candidates[found] if found < len(candidates) else None


def _reason(verdict: Verdict, found: Difference, advice: _Advice) -> str:
    """Return the verdict in words, with the numbers behind it."""
    interval = f"{found.ci95_low_points:+.2f} to {found.ci95_high_points:+.2f}"
    text = f"B - A = {found.d_points:+.2f} points (95 % interval {interval})"
    drop = f"a drop of {found.delta_points:.2f} points or more"
    if verdict == "regression":
        return f"{text}: {drop}, beyond chance"
    if verdict == "ok":
        return f"{text}: {drop} is ruled out"
    why = (
        f"{drop}, but chance may be the cause" if found.d_points <= -found.delta_points else f"{drop} is not ruled out"
    )
    return f"{text}: {why}. If the difference stays as it is, {_way_out(found, advice)}"


def _way_out(found: Difference, advice: _Advice) -> str:
    """Return what would decide, in words."""
    ways = []
    if advice.length_factor is not None:
        ways.append(f"runs {advice.length_factor} times as long")
    if advice.runs_count is not None:
        ways.append(f"{advice.runs_count} runs per side")
    if not ways:
        return f"neither {MORE_MAX} runs per side nor runs {MORE_MAX} times as long decide: it lies at the limit"
    text = f"{' or '.join(ways)} decide"
    if advice.length_factor is None:
        text += f"; longer runs alone do not (run-to-run spread {found.sigma_run_points:.2f} points)"
    return text


def _assumed(found: Difference | None) -> list[str]:
    """Return what is said of a run-to-run spread that nobody measured."""
    if found is None or found.sigma_run_from != "default":
        return []
    return [
        f"the run-to-run spread is not known: {found.sigma_run_points:g} points are assumed; 3 runs of A measure it"
    ]


def _batches(runs: Sequence[RunScore]) -> FloatArray:
    """Return the batch means of all runs of a side."""
    return np.array([value for run in runs for value in run.batch_means_points], dtype=np.float64)
