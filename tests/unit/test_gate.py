"""The gate of --fail-under: only a whole score of a command that succeeded passes."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satscore.core.gate import judge
from satscore.core.summary import Summary
from tests.unit.runs import measured
from tests.unit.scenes import E1

WHOLE = measured([(1.0, E1)] * 10).summary()
SCORE_PCT = WHOLE.headline.score_pct or math.nan


def changed(summary: Summary = WHOLE, *, score: dict[str, object] | None = None, **run: object) -> Summary:
    """Return a summary with other values in its score, its headline and its run."""
    score = score or {}
    headline = {key: value for key, value in score.items() if key in ("score_pct", "reason")}
    job_score = msgspec.structs.replace(summary.job.score, **{k: v for k, v in score.items() if k != "reason"})
    return msgspec.structs.replace(
        summary,
        headline=msgspec.structs.replace(summary.headline, **headline),
        job=msgspec.structs.replace(summary.job, score=job_score),
        run=msgspec.structs.replace(summary.run, **run),
    )


@given(score_pct=st.floats(0, 100), lowest_pct=st.floats(0, 100))
def test_a_whole_score_passes_exactly_if_it_is_not_below(score_pct, lowest_pct):
    refusal = judge(changed(score={"score_pct": score_pct}), lowest_pct)
    assert (refusal is None) == (score_pct >= lowest_pct)
    if refusal is not None:
        assert refusal.exit_code == 3


def test_the_text_says_by_how_much():
    assert judge(changed(score={"score_pct": 42.34}), 45) == (
        3,
        "--fail-under 45: the score is 42.34, 2.66 points too low: exit 3",
    )
    refusal = judge(changed(score={"score_pct": 44.9999}), 45)
    assert refusal is not None
    assert "0.0001 points too low" in refusal.text


UNDECIDED = {
    "no summary": (None, "no score: there is no summary"),
    "no score": (changed(score={"score_pct": None, "reason": "no GPU was read"}), "no score: no GPU was read"),
    "partial": (
        changed(score={"partial": True, "coverage_frac": 0.8}),
        "the score is partial: coverage 80.0 %, a gate needs 95 %",
    ),
    "command failed": (changed(exit_code=7), "the command's end was exit 7"),
    "command killed": (changed(exit_code=None, exit_signal="SIGTERM"), "the command's end was SIGTERM"),
    "end not seen": (changed(exit_code=None, finished=False), "the command's end is not recorded"),
}


@pytest.mark.parametrize("name", UNDECIDED)
def test_what_cannot_be_judged_is_5_however_high_the_score(name):
    summary, told = UNDECIDED[name]
    refusal = judge(summary, 0)
    assert refusal is not None
    assert refusal.exit_code == 5
    assert refusal.text.startswith("--fail-under 0: ")
    assert told in refusal.text
    assert refusal.text.endswith(": exit 5")


def test_a_watched_run_has_no_command_that_could_fail():
    assert judge(changed(kind="watch", exit_code=None), SCORE_PCT) is None
