"""The block of long runs and of jobs: phases, interval, job tree, ranks by name, progress, and what gives way."""

import re
from typing import Any, Literal

import msgspec
import pytest

from satscore.core.progress import Progress
from satscore.core.rank_row import RankName
from satscore.core.summary import Extreme, FindingItem, Summary
from satscore.core.summary_job import (
    ConfidenceItem,
    DipsItem,
    PhaseItem,
    PhasesItem,
    Quantiles,
    RegimeItem,
    SuspectItem,
)
from satscore.views.text import MAX_LINES, render
from tests.unit.runs import simulated
from tests.unit.sim_runs import four_ranks

replace = msgspec.structs.replace
WIDTHS = (60, 70, 80, 90, 100)
JOB = simulated("sim:slow-gpu", 200, 0.5).summary()
ALONE = simulated("sim:llm", 200, 0.5).summary()
NODES = ("nid001", "nid002")
PROGRESS = Progress(
    calls_count=2001,
    processes_count=1,
    first_ns=0,
    last_ns=10**12,
    range_s=1000.0,
    steps_count=2000,
    step_time_p50_s=0.5,
    step_time_p90_s=0.55,
    step_time_p99_s=0.61,
    step_time_max_s=4.0,
    tokens_s=1_234_000.0,
    flops_s=3.2e15,
    power_scope="module",
    tokens_per_j=512.0,
    mfu_pct=38.12,
    t_over_mfu=1.21,
    energy_scope="module",
    energy_kwh=3.21,
    missing={},
    notes=[],
)


def name(rank: int, gpu: int = 0, host: str = "nid001") -> RankName:
    return RankName(rank=rank, gpu_index=gpu, nvml_index=None, hostname=host)


def suspect(who: RankName, kind: Literal["slow", "overloaded"] = "slow", cause: str = "thermal") -> SuspectItem:
    return SuspectItem(
        name=who,
        kind=kind,
        cause=cause,
        z=9.0,
        excess_pct=12.0,
        efficiency_ratio=0.8,
        sm_clock_mhz=1305.0,
        median_clock_mhz=1710.0,
        temp_max_c=88.0,
        speed_up=1.2,
    )


def with_job(summary: Summary, **changes: Any) -> Summary:
    return replace(summary, job=replace(summary.job, **changes))


def with_phases(summary: Summary, **changes: Any) -> Summary:
    assert summary.job.phases is not None
    return with_job(summary, phases=replace(summary.job.phases, **changes))


def dips(**changes: Any) -> DipsItem:
    given = {"dips_count": 8, "time_s": 84.0, "cost_pct": 3.5, "periodic": True, "period_s": 129.0, "duration_s": 10.5}
    return DipsItem(**({"kind": "checkpoint"} | given | changes))


def phase(label: Any, time_s: float) -> PhaseItem:
    return PhaseItem(label=label, time_s=time_s, share_frac=0.1, score_pct=40.0)


def level(start_s: float, score_pct: float | None) -> RegimeItem:
    return RegimeItem(start_s=start_s, stop_s=start_s + 100, score_pct=score_pct)


COURSE = [phase("startup", 61.0), phase("warmup", 65.0), phase("steady", 990.0), phase("dip", 84.0)]


def row(summary: Summary, label: str, width: int = 100) -> str:
    """Return the lines of a section as one text; empty if there are none."""
    lines = render(summary, width).split("\n")
    at = next((i for i, line in enumerate(lines) if line.startswith(label)), None)
    if at is None:
        return ""
    more = lines[at + 1 :]
    until = next((i for i, line in enumerate(more) if not line.startswith(" ")), len(more))
    return " ".join(" ".join([lines[at], *more[:until]]).split())


def test_the_headline_is_that_of_the_steady_phase_with_its_interval():
    steady, interval = JOB.job.steady, JOB.headline.ci95
    assert steady is not None
    assert interval is not None
    moved = with_job(JOB, steady=replace(steady, score_attainable_pct=61.0, coverage_frac=0.97, time_s=150.0))
    text = row(replace(moved, headline=replace(JOB.headline, score_pct=55.5, score_hi_pct=77.7)), "saturation")
    assert text.startswith(f"saturation 55.5 of 100 (..77.7) | 95 % {interval.low_pct:.1f}..{interval.high_pct:.1f}")
    assert "unreliable | 61.0 of attainable | grade B coverage 97 %" in text
    assert f"S of the steady 150 s | over all 200 s: {JOB.job.score.score_pct:.1f} | profile train: tensor" in text
    sure = replace(JOB.headline, ci95=replace(interval, reliable=True))
    assert "unreliable" not in render(replace(JOB, headline=sure))
    unknown = replace(JOB.headline, ci95=None)
    assert "95 %" not in render(replace(JOB, headline=unknown))


def test_a_steady_run_that_knows_one_phase_has_no_line_of_phases():
    assert row(ALONE, "phases") == ""
    assert row(with_job(ALONE, phases=None), "phases") == ""


def test_phases_are_told_with_their_seconds():
    text = row(with_phases(ALONE, phases=[*COURSE, phase("tail", 12.0)], dips=dips()), "phases")
    expected = "startup 61 s, warmup 65 s, steady 990 s, 8 dips 84 s (every 129 s, like checkpoints) tail 12 s"
    assert text == f"phases {expected}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "gc", "period_s": None}, "8 dips 84 s (like garbage collection)"),
        ({"kind": "unknown"}, "8 dips 84 s (every 129 s)"),
        ({"kind": "unknown", "period_s": None, "dips_count": 1}, ", 1 dip 84 s"),
        ({"period_s": 14_400.0, "time_s": 36_000.0}, "8 dips 10.0 h (every 4.0 h, like checkpoints)"),
    ],
)
def test_dips_are_described(changes, said):
    assert row(with_phases(ALONE, phases=COURSE, dips=dips(**changes)), "phases").endswith(said)


def test_a_run_that_is_never_steady_and_one_that_changes_its_level_say_so():
    assert "never steady: the level drifts throughout" in row(with_phases(ALONE, never_steady=True), "phases")
    two = with_phases(ALONE, regimes=[level(0, 52.76), level(140, 45.3)])
    assert row(two, "phases") == "phases steady 200 s, level 52.8, from 140 s on 45.3"
    many = with_phases(ALONE, regimes=[level(100 * i, 50.0 + i) for i in range(5)])
    assert row(many, "phases") == "phases steady 200 s, 5 steady levels, first 50.0, last 54.0"


def test_one_gpu_shows_the_losses_of_the_phase_that_the_headline_is_of():
    steady = ALONE.job.steady
    assert steady is not None
    issue = next(part for part in steady.loss if part.name == "issue")
    shown = replace(issue, points_pct=44.4)
    summary = with_job(ALONE, steady=replace(steady, loss=[shown]))
    assert row(summary, "lost").startswith("lost 44.4 ###### issue: ")
    assert "44.4" not in render(replace(summary, headline=replace(ALONE.headline, kind="total")))
    assert "factors" not in render(ALONE)


def test_several_gpus_show_the_job_tree_and_its_score():
    tree = JOB.job.tree
    assert tree is not None
    parts = {part.name: part for part in tree.parts}
    text = row(JOB, "lost")
    assert f"{parts['persistent'].points_pct:.1f} ## persistent: ranks wait for the same one" in text
    assert "(assumes equal work per rank)" in text
    product = row(JOB, "factors")
    assert product.startswith(f"factors S {tree.score_pct:.1f} = avail {tree.product_frac['availability']:.2f} x comm")
    assert f"x load {tree.product_frac['load_balance']:.2f} x issue" in product
    # Both are of the steady phase; were the tree of all the run, it would be said.
    other = with_job(
        JOB, tree=replace(tree, scope="total", score_pct=40.0, product_frac=dict.fromkeys(tree.product_frac))
    )
    assert row(other, "factors").startswith("factors S 40.0 over all")
    assert "x load n/a x" in row(other, "factors")
    narrow = row(JOB, "factors", 80)
    assert (
        narrow == f"factors S {tree.score_pct:.1f} by these parts, load balance {tree.product_frac['load_balance']:.2f}"
    )


def test_small_parts_share_a_line_and_large_ones_never_do():
    tree = JOB.job.tree
    assert tree is not None
    text = row(JOB, "lost")
    small = [part for part in tree.parts if 0.05 <= part.points_pct < 1]
    assert small
    listed = ", ".join(f"{p.name} {p.points_pct:.1f}" for p in sorted(small, key=lambda p: -p.points_pct))
    assert text.endswith(f"below 1: {listed}")
    assert all(f" {part.name}: " in text for part in tree.parts if part.points_pct >= 1)


def test_gpus_that_hold_the_job_up_are_named_with_node_and_cause():
    named = RankName(rank=0, gpu_index=0, nvml_index=None, hostname="nid001234")
    assert "slow: GPU 0 on nid001234 (clock low)" in row(JOB, "GPUs")
    finding = next(f for f in JOB.findings if f.id == "STRAGGLER")
    assert finding.ranks == [named]
    assert f"STRAGGLER (GPU 0 on nid001234), {finding.points_pct:.1f} points: " in render(JOB)


def cluster(**changes: Any) -> Summary:
    """Return a job of 4 ranks with one GPU each on two nodes."""
    summary = four_ranks(20, ["train"])
    return with_job(summary, **({"nodes_count": 2} | changes))


def test_ranks_of_several_nodes_are_named_by_rank_and_node():
    slow = [suspect(name(1)), suspect(name(3, host="nid002")), suspect(name(2), "overloaded", "unknown")]
    worst = Extreme(rank=1, gpu_index=0, nvml_index=None, hostname="nid001", score_pct=33.3)
    text = row(cluster(suspects=slow, worst=worst), "GPUs")
    assert "worst 33.3 (rank 1 on nid001)" in text
    assert "slow: rank 1 on nid001, rank 3 on nid002 (hot)" in text
    assert text.endswith("overloaded: rank 2 on nid001")
    several = row(cluster(suspects=[suspect(name(1, 2))], gpus_count=16), "GPUs")
    assert "slow: rank 1 GPU 2 on nid001 (hot)" in several


def test_of_many_ranks_the_first_few_are_named_and_the_rest_counted():
    slow = [suspect(name(i, host=NODES[i // 8])) for i in range(12)]
    assert "slow: rank 0, 1, 2, 3 on nid001 and 8 more (hot)" in row(cluster(suspects=slow), "GPUs")


def test_quantiles_stand_beside_the_ends_of_more_than_eight_gpus():
    over = Quantiles(p5_pct=41.1, p50_pct=42.2, p95_pct=43.3)
    assert "5/50/95 %: 41.1/42.2/43.3" in row(cluster(gpus_count=9, over_gpus=over), "GPUs")
    assert "5/50/95" not in render(cluster(gpus_count=8, over_gpus=over))


def with_findings(summary: Summary, *findings: FindingItem) -> Summary:
    return replace(summary, findings=list(findings))


def test_of_two_findings_that_are_tied_the_first_says_so():
    found = ALONE.findings[0]
    text = render(
        with_findings(ALONE, replace(found, id="A", tied_with=["B"]), replace(found, id="B", tied_with=["A"]))
    )
    assert f"A, {found.points_pct:.1f} points, tied with B: " in text
    assert text.count("tied with") == 1


def test_a_finding_without_points_states_none():
    text = render(with_findings(ALONE, replace(ALONE.findings[0], points_pct=0.0, severity="info")))
    assert f"info       {ALONE.findings[0].id}: {ALONE.findings[0].title}" in text


def test_progress_is_told_in_readable_numbers():
    text = row(replace(ALONE, progress=PROGRESS), "progress")
    assert text == (
        "progress 2000 steps of 0.50 s (p99 0.61 s) | 1.23 Mtokens/s | 512 tokens/J | MFU 38.1 (T/MFU 1.21) 3.21 kWh"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step_time_p50_s": 0.0123, "step_time_p99_s": 0.0999}, "2000 steps of 12.3 ms (p99 99.9 ms)"),
        ({"step_time_p50_s": None}, "progress 2000 steps |"),
        ({"tokens_s": 3.4e10}, "| 34.0 Gtokens/s |"),
        ({"tokens_s": 250.0, "tokens_per_j": 0.0123}, "| 250 tokens/s | 0.0123 tokens/J"),
        ({"mfu_pct": None, "t_over_mfu": None}, "| 3.20 PFLOP/s"),
        ({"t_over_mfu": None}, "| MFU 38.1 | 3.21 kWh"),
        ({"energy_kwh": None}, "(T/MFU 1.21)"),
    ],
)
def test_progress_that_is_known_in_part(changes, said):
    assert said in row(replace(ALONE, progress=replace(PROGRESS, **changes)), "progress")


def test_progress_without_rates_gives_a_reason():
    nothing = dict.fromkeys(("steps_count", "tokens_s", "tokens_per_j", "mfu_pct", "flops_s", "energy_kwh"))
    said = replace(PROGRESS, **nothing, missing={"steps_count": "needs step="})
    assert row(replace(ALONE, progress=said), "progress") == "progress reported, but no rates: needs step="


def test_numbers_from_sums_say_so():
    assert "scored from sums" not in render(ALONE)
    summary = replace(ALONE, source=replace(ALONE.source, resolution="sums"))
    assert "readings of 0.50 s, scored from sums" in row(summary, "own cost")


def crowded() -> Summary:
    """Return a summary in which every section has as much to say as it can."""
    tree, steady, phases = JOB.job.tree, JOB.job.steady, JOB.job.phases
    assert tree is not None
    assert steady is not None
    assert phases is not None
    ranks = [name(i, host=NODES[i // 8]) for i in range(12)]
    findings = [
        replace(JOB.findings[0], id=f"FINDING_{i}", ranks=ranks, points_pct=20.0 - i, tied_with=["FINDING_0"])
        for i in range(7)
    ]
    job = replace(
        JOB.job,
        gpus_count=16,
        ranks_count=16,
        nodes_count=2,
        score=replace(JOB.job.score, partial=True),
        steady=replace(steady, time_s=150.0),
        tree=replace(tree, parts=[replace(part, points_pct=9.0) for part in tree.parts]),
        phases=PhasesItem(
            phases=[*COURSE, phase("tail", 12.0)],
            segments=[],
            segments_count=0,
            never_steady=True,
            run_score_pct=None,
            start_cost_pct=0.0,
            dips=dips(),
            regimes=[level(0, 52.8), level(140, None)],
        ),
        suspects=[suspect(ranks[1]), suspect(ranks[9], "overloaded", "unknown")],
        over_gpus=Quantiles(p5_pct=41.1, p50_pct=42.2, p95_pct=43.3),
    )
    interval = ConfidenceItem(
        low_pct=40.0,
        high_pct=44.0,
        half_width_pct=2.0,
        windows_count=150,
        batch_windows_count=8,
        batches_count=18,
        dof=17.0,
        reliable=False,
        systematic_pct=1.0,
    )
    notes = [f"note {i}: {'the driver refused to say anything about it ' * 4}" for i in range(5)]
    headline = replace(JOB.headline, ci95=interval)
    return replace(JOB, job=job, headline=headline, findings=findings, notes=notes, progress=PROGRESS)


@pytest.mark.parametrize("width", WIDTHS)
def test_what_matters_most_is_there_however_much_there_is_to_say(width):
    text = render(crowded(), width)
    lines = text.split("\n")
    assert len(lines) <= MAX_LINES
    assert max(len(line) for line in lines if not line.startswith("files")) <= width
    for label in ("saturation", "phases", "bound", "lost", "factors", "GPUs", "signals", "progress", "own cost"):
        assert sum(line.startswith(label) for line in lines) == 1, label
    assert "95 % 40.0..44.0, unreliable" in text
    assert "grade B" in text
    assert re.search(r"S \d+\.\d (=|by)", text)
    assert "FINDING_0" in text
    shown = len(set(re.findall(r"^\w+ +(FINDING_\d)", text, re.MULTILINE)))
    assert f"{7 - shown} more in summary.json" in text
    assert re.search(r'\d not \(wholly\) shown: "notes" in summary\.json', text)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_left_out_without_a_sign(width):
    """Every part of every section is whole, or its line ends in dots."""
    summary = crowded()
    text = render(summary, width)
    for label, parts in (
        ("signals", ["max "]),
        ("phases", ["startup 61 s", "8 dips 84 s", "tail 12 s", "never steady"]),
        ("GPUs", ["worst", "best", "5/50/95", "slow: rank 1 on nid001", "overloaded: rank 9"]),
        ("progress", ["2000 steps", "tokens/s", "MFU 38.1", "kWh"]),
    ):
        section = row(summary, label, width)
        assert all(part in section for part in parts) or section.endswith("..."), (label, section)
    assert text.count("...") < len(text.split("\n"))


@pytest.mark.parametrize("width", [80, 90, 100])
def test_what_is_given_up_is_needed(width):
    """With few findings and no notes there is room: nothing is cut short where all of it fits."""
    text = render(replace(ALONE, findings=ALONE.findings[:1], notes=[]), width)
    finding = ALONE.findings[0]
    assert "because" in text
    assert finding.action in text
    assert not re.search(r"^(signals|own cost|phases).* \.\.\.$", text, re.MULTILINE)


def test_a_wide_block_gives_up_less_than_a_narrow_one():
    words = [len(re.findall(r"\w+", render(crowded(), width))) for width in (60, 80, 100)]
    assert words[0] < words[1] < words[2]


def test_findings_are_shown_without_a_score_too():
    none = replace(ALONE.headline, kind="none", score_pct=None, reason="no pipe counters")
    found = ALONE.findings[0]
    text = render(
        replace(ALONE, headline=none, findings=[replace(found, id="NO_COUNTERS"), replace(found, id="OTHER")])
    )
    assert "score      none: no pipe counters" in text
    assert f"OTHER, {found.points_pct:.1f} points: " in text
    assert "NO_COUNTERS" not in text
    assert "no rule applies" not in render(replace(ALONE, headline=none, findings=[]))


def test_the_steady_phase_is_never_longer_than_what_was_read():
    steady = ALONE.job.steady
    assert steady is not None
    assert "S of the steady 200 s |" in render(with_job(ALONE, steady=replace(steady, time_s=201.0)))


@pytest.mark.parametrize("width", WIDTHS)
def test_parts_of_a_loss_are_left_out_whole(width):
    lines = [line for line in render(JOB, width).split("\n") if re.match(r"(lost|    ) *\d+\.\d [# ]*\w+: ", line)]
    assert len(lines) == len([p for p in JOB.job.tree.parts if p.points_pct >= 1]) if JOB.job.tree else False
    for line in lines:
        assert re.search(r"( \d+\.\d|, \.\.\.|ranks wait for the same one|\(assumes equal work per rank\))$", line), (
            line
        )


@pytest.mark.parametrize("width", [60, 70, 80])
def test_no_line_is_left_empty_while_something_is_given_up(width):
    text = render(JOB, width)
    assert "..." in text.split("\n", 2)[2]
    assert len(text.split("\n")) == MAX_LINES


@pytest.mark.parametrize("width", [60, 100])
def test_a_title_is_whole_where_there_is_room(width):
    assert ALONE.findings[0].title in render(replace(ALONE, findings=ALONE.findings[:1], notes=[]), width)
