"""How often the comparison of two runs is right, on simulated runs.

A run is 900 windows of AR(1) noise (phi 0.6, standard deviation 2) around 50 points plus a deviation of its own;
B's runs are lower by a drop. ``pytest -s -m slow`` prints the table of docs/method.md, "Two runs".
"""

from collections import Counter

import msgspec
import numpy as np
import pytest

from satscore.core.comparable import RunScore
from satscore.core.confidence import confidence_of
from satscore.core.two_runs import compare
from tests.unit.noise import ar1

LEVEL, WINDOWS, PHI, SD = 50.0, 900, 0.6, 2.0
SEED = 13
PAIRS = 400


def runs_of(count: int, sigma: float) -> list[RunScore]:
    """Return runs of one job whose means differ with a standard deviation of sigma."""
    rng = np.random.default_rng(SEED)
    noise = ar1(rng, phi=PHI, runs=count, windows=WINDOWS)
    scores = []
    for values in LEVEL + SD * noise + sigma * rng.standard_normal((count, 1)):
        found = confidence_of([values])
        assert found is not None
        scores.append(
            RunScore(
                mean_points=found.mean,
                se_points=found.se,
                dof=found.dof,
                n_windows=found.n_windows,
                coverage_frac=1.0,
                grade="B",
                profile="train",
                ceiling="datasheet",
                window_s=1.0,
                model_id="h200",
                cap_w=700.0,
                vboost_level=0,
                ranks_count=8,
            )
        )
    return scores


def lowered(run: RunScore, drop: float) -> RunScore:
    assert run.mean_points is not None
    return msgspec.structs.replace(run, mean_points=run.mean_points - drop)


def shares(runs: list[RunScore], k: int, drop: float, sigma: float | None) -> dict[str, float]:
    """Return the share of each verdict over pairs of k runs each."""
    verdicts: Counter[str] = Counter()
    for first in range(0, len(runs), 2 * k):
        a, b = runs[first : first + k], [lowered(run, drop) for run in runs[first + k : first + 2 * k]]
        verdicts[compare(a, b, sigma_run_points=sigma).verdict] += 1
    return {verdict: count / verdicts.total() for verdict, count in verdicts.items()}


def test_a_large_drop_is_found_and_none_is_not():
    runs = runs_of(160, 0.5)
    assert shares(runs, 1, 3.0, 0.5).get("regression", 0) >= 0.85
    assert shares(runs, 1, 0.0, 0.5).get("regression", 0) <= 0.10


# The spread between runs, their number per side, the spread that is stated (None: not known), and for drops of
# 0, 2 and 3 points the least and greatest share of regressions.
TABLE = [
    (0.5, 1, 0.5, ((0, 0.05), (0.68, 0.88), (0.94, 1))),
    (0.5, 3, 0.5, ((0, 0.02), (0.96, 1), (0.99, 1))),
    (0.5, 3, None, ((0, 0.02), (0.87, 0.99), (0.97, 1))),
    (1.0, 1, 1.0, ((0, 0.05), (0.20, 0.40), (0.45, 0.65))),
    (1.0, 3, 1.0, ((0, 0.05), (0.50, 0.72), (0.90, 1))),
    (1.0, 3, None, ((0, 0.05), (0.34, 0.55), (0.68, 0.86))),
    # Run-to-run spread ignored: chance is called a regression. This is why there is a default.
    (0.5, 1, 0.0, ((0.05, 0.13), (0.85, 0.98), (0.98, 1))),
    # Nor does the default help a job whose runs differ twice as much.
    (1.0, 1, None, ((0.13, 0.26), (0.54, 0.74), (0.80, 0.94))),
]


@pytest.mark.slow
@pytest.mark.parametrize(("sigma", "k", "stated", "bands"), TABLE)
def test_decisions(sigma, k, stated, bands):
    runs = runs_of(2 * k * PAIRS, sigma)
    for drop, (least, most) in zip((0.0, 2.0, 3.0), bands, strict=True):
        found = shares(runs, k, drop, stated)
        cells = [f"{100 * found.get(verdict, 0):.1f}" for verdict in ("regression", "inconclusive", "ok")]
        print(f"| {sigma} | {k} | {stated} | {drop:g} | {' | '.join(cells)} |")
        assert least <= found.get("regression", 0) <= most, drop
