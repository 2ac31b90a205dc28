"""The gate of --fail-under: only a whole score of a command that succeeded passes."""

import math
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satscore.core.gate import caveat, judge
from satscore.core.summary import FindingItem, Summary
from satscore.core.summary_gpu import UnreadGpu
from satscore.core.summary_job import ConfidenceItem
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


def test_the_lower_end_of_the_interval_must_pass():
    interval = ConfidenceItem(
        low_pct=SCORE_PCT - 0.5,
        high_pct=SCORE_PCT + 0.5,
        half_width_pct=0.5,
        windows_count=900,
        batch_windows_count=8,
        batches_count=112,
        dof=111.0,
        reliable=True,
        systematic_pct=0.3,
    )
    sure = msgspec.structs.replace(WHOLE, headline=msgspec.structs.replace(WHOLE.headline, ci95=interval))
    assert judge(sure, SCORE_PCT - 0.5) is None
    refusal = judge(sure, SCORE_PCT - 0.25)
    assert refusal is not None
    assert refusal.exit_code == 3
    assert f"its 95 % interval begins at {SCORE_PCT - 0.5:.2f}, 0.25 points too low" in refusal.text


def with_unread(known_by: Literal["process", "environment"]) -> Summary:
    """Return the summary of a command that also uses a GPU that is not read."""
    unread = [UnreadGpu(nvml_index=3, uuid="GPU-3", known_by=known_by)]
    return msgspec.structs.replace(WHOLE, ranks=[msgspec.structs.replace(WHOLE.ranks[0], gpus_unread=unread)])


SHARED = FindingItem(
    id="GPU_SHARED",
    title="",
    severity="info",
    points_pct=0.0,
    evidence=[],
    action="",
    hint="",
    next_command="",
    false_positives="",
    ranks=[],
    tied_with=[],
)
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
    "watch whose end was not seen": (
        changed(kind="watch", exit_code=None, finished=False),
        "the run's end is not recorded",
    ),
    "read late": (changed(duration_s=40.0), "only 10.0 of 40.0 s were read"),
    "read late, short": (changed(duration_s=11.1), "only 10.0 of 11.1 s were read"),
    "read late, with gaps": (
        changed(score={"coverage_frac": 0.96}, duration_s=40.0, observed_s=39.0),
        "only 37.4 of 40.0 s were read",
    ),
    "a GPU that nobody read": (with_unread("process"), "the command uses GPU 3, which nobody reads"),
    "perhaps one": (with_unread("environment"), "the command is shown GPU 3, which nobody reads"),
    "shared": (
        msgspec.structs.replace(WHOLE, findings=[SHARED]),
        "processes of others computed on the scored GPUs too (GPU_SHARED)",
    ),
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


@pytest.mark.parametrize(
    "summary",
    [
        changed(duration_s=10.9),  # a second at the start is lost to the opening of the counters
        changed(duration_s=100.0, observed_s=95.5),
        changed(kind="watch", exit_code=None, duration_s=11.1),
        msgspec.structs.replace(changed(duration_s=11.1), data_kind="simulated"),
        msgspec.structs.replace(changed(duration_s=11.1), data_kind="replay"),
    ],
)
def test_what_was_read_is_enough(summary):
    assert judge(summary, 0) is None


@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [
        ("measured", "gpm", None),
        ("simulated", "sim", "--fail-under 40 judged SIMULATED data (x): no GPU was measured"),
        ("replay", "replay", "--fail-under 40 judged a REPLAY (x): no GPU was measured"),
        ("simulated", "replay", "--fail-under 40 judged SIMULATED data, replayed (x): no GPU was measured"),
    ],
)
def test_what_is_not_measured_is_said(kind, name, told):
    source = msgspec.structs.replace(WHOLE.source, name=name, scenario=None if kind == "measured" else "x")
    assert caveat(msgspec.structs.replace(WHOLE, data_kind=kind, source=source), 40) == told


def test_a_watched_run_has_no_command_that_could_fail():
    assert judge(changed(kind="watch", exit_code=None), SCORE_PCT) is None
