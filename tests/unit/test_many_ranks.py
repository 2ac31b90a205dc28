"""A run directory of many ranks: whose file is whose, who is missing, failed or lost, and what counts twice."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satscore.core.attendance import (
    MOST_LISTED,
    RankFate,
    attendance,
    attendance_notes,
    numbers,
    with_attendance,
)
from satscore.core.gate import judge
from satscore.core.job_cost import NO_COST, job_cost
from satscore.core.marks import Mark
from satscore.core.placement import GpuLooks, Placement
from satscore.core.progress_state import ProgressState
from satscore.core.summary import Summary
from satscore.errors import RecordError
from satscore.record.marks_file import append_marks, marks_lines, read_marks
from satscore.record.run_file import rank_file_name
from satscore.run.job_result import summary_of_parts
from satscore.run.member_notes import MOST_NOTES, of_ranks
from satscore.run.replay import rebuild
from satscore.views.text import MAX_LINES, render
from tests.unit.job_runs import (
    RankRun,
    collected,
    comparable,
    content_of,
    four_ranks,
    kept_as_readings,
    kept_as_sums,
    part_of,
)
from tests.unit.runs import H200_INFO, MODELS, Run, joined, measured, rows
from tests.unit.scenes import E1, IDLE
from tests.unit.sim_runs import COST

KEPT = pytest.mark.parametrize("kept", [kept_as_readings, kept_as_sums])


def ranks_of(world: int = 4, *, seconds: float = 12.0, seen: int = 1) -> list[RankRun]:
    """Return short measured ranks, two per node, that see as many GPUs of their node."""
    out = []
    for rank in range(world):
        hostname = f"nid{rank // 2}"
        gpus = [
            msgspec.structs.replace(
                H200_INFO, index=i, nvml_index=i, uuid=f"GPU-{hostname}-{rank % 2 if seen == 1 else i}"
            )
            for i in range(seen)
        ]
        run = measured([(1.0, E1)] * round(seconds), gpus=gpus, hostname=hostname, rank=rank)
        content = content_of(rank, world, hostname, local=rank % 2)
        assert content.end is not None
        end = msgspec.structs.replace(content.end, scored_until_ns=int(run.table.end_ns.max()), duration_s=seconds)
        out.append(RankRun(run=run, content=msgspec.structs.replace(content, end=end)))
    return out


def told(summary: Summary, start: str) -> str:
    """Return the one note that begins in some way."""
    (note,) = [note for note in summary.notes if note.startswith(start)]
    return note


# --- whose file is whose


@KEPT
def test_each_rank_ends_as_its_own_file_says(tmp_path, kept):
    ranks = ranks_of()
    ranks[2] = ranks[2].ended(exit_code=None, exit_signal="SIGKILL")
    summary = rebuild(kept(tmp_path / "run", ranks)).summary
    assert [(r.rank, r.exit_code, r.exit_signal) for r in summary.ranks] == [
        (0, 0, None),
        (1, 0, None),
        (2, None, "SIGKILL"),
        (3, 0, None),
    ]
    assert summary.run.exit_code == 0
    assert told(summary, "ranks failed: ") == "ranks failed: rank 2 on nid1 (SIGKILL)"
    refusal = judge(summary, 0.0)
    assert refusal is not None
    assert "1 ranks failed, first rank 2 on nid1 (SIGKILL)" in refusal.text
    assert summary.run.job is not None
    assert (summary.run.job.launcher, summary.run.job.ranks_count) == ("slurm", 4)


def test_a_job_that_is_whole_passes_the_gate(tmp_path):
    summary = rebuild(kept_as_readings(tmp_path / "run", ranks_of())).summary
    assert judge(summary, 0.0) is None
    assert (summary.job.ranks_expected_count, summary.job.ranks_missing_count) == (4, 0)


def test_the_first_to_fail_is_named_first(tmp_path):
    ranks = ranks_of()
    ranks[1] = ranks[1].ended(exit_code=None, exit_signal="SIGTERM", duration_s=11.0)
    ranks[3] = ranks[3].ended(exit_code=1, duration_s=9.0)
    summary = rebuild(kept_as_sums(tmp_path / "run", ranks)).summary
    assert [one.rank for one in summary.job.ranks_failed] == [3, 1]
    assert "rank 3 on nid1 (exit 1), rank 1 on nid0 (SIGTERM)" in told(summary, "ranks failed: ")


@KEPT
def test_a_note_of_some_ranks_says_whose_it_is(tmp_path, kept):
    notes = rebuild(kept(tmp_path / "run", ranks_of())).summary.notes
    assert "a note of all" in notes
    assert "rank 2: a note of rank 2" in notes


@KEPT
def test_without_run_json_the_lowest_rank_stands_for_the_run(tmp_path, kept):
    directory = kept(tmp_path / "run", ranks_of())
    (directory / "run.json").unlink()
    summary = rebuild(directory).summary
    assert summary.run.hostname == "nid0"
    assert summary.run.run_id.endswith("-1")
    assert "rank 1 on nid0 stands for the run" in told(summary, "rank 0 left nothing")
    assert told(summary, "ranks are missing: ").startswith("ranks are missing: 0 (")
    assert summary.job.ranks_missing == [0]
    for path in directory.glob("run-*.json"):
        path.unlink()
    with pytest.raises(RecordError, match=r"run\.json"):
        rebuild(directory)


@KEPT
@pytest.mark.parametrize(
    "change",
    [
        lambda path, _: path.write_bytes(b""),
        lambda path, _: path.write_bytes(b"{"),
        lambda path, text: path.write_bytes(text.replace(b"daint-4711.0", b"daint-4712.0")),
        lambda path, text: path.write_bytes(text.replace(b'"world": 4', b'"world": 9')),
        lambda path, text: path.write_bytes(text.replace(b'"rank": 3', b'"rank": 2')),
        lambda path, text: path.write_bytes(text.replace(b'"hostname": "nid1"', b'"hostname": "nid7"')),
        lambda path, _: (path.unlink(), path.mkdir()),
        lambda path, _: path.unlink(),
    ],
)
def test_a_rank_whose_file_cannot_be_believed_is_left_out_and_named(tmp_path, kept, change):
    directory = kept(tmp_path / "run", ranks_of())
    path = directory / rank_file_name("nid1", 3)
    change(path, path.read_bytes())
    rebuilt = rebuild(directory)
    assert [rank.rank for rank in rebuilt.summary.ranks] == [0, 1, 2]
    assert rebuilt.summary.job.ranks_missing == [3]
    missing = [note for note in rebuilt.summary.notes if note.startswith("ranks are missing: ")]
    assert any(note.startswith("ranks are missing: 3 (") for note in missing)
    if path.exists():
        assert any(path.name in note for note in missing)
    refusal = judge(rebuilt.summary, 0.0)
    assert refusal is not None
    assert refusal.exit_code == 5


def test_a_recording_that_is_damaged_costs_its_rank(tmp_path):
    directory = kept_as_readings(tmp_path / "run", ranks_of())
    (path,) = directory.glob("readings-nid1-3.*")
    path.write_bytes(b"damaged")
    summary = rebuild(directory).summary
    assert summary.job.ranks_missing == [3]
    assert any(path.name in note for note in summary.notes)


def test_a_directory_of_one_file_for_all_ranks_is_read_as_ever(tmp_path):
    ranks = ranks_of()
    directory = kept_as_readings(tmp_path / "run", ranks[1:])
    for path in directory.glob("run-*.json"):
        path.unlink()
    start = msgspec.structs.replace(ranks[0].content.start, job=None)
    kept_as_readings(directory, [ranks[0].with_(start=start)])
    summary = rebuild(directory).summary
    assert summary.job.ranks_count == 4
    assert summary.job.ranks_expected_count is None
    assert summary.run.job is None


# --- missing, lost, without a GPU


def test_a_rank_without_a_gpu_harms_nothing(tmp_path):
    ranks = ranks_of()
    ranks[3] = RankRun(run=None, content=content_of(3, 4, "nid1"))
    summary = rebuild(kept_as_sums(tmp_path / "run", ranks)).summary
    three = rebuild(kept_as_sums(tmp_path / "three", ranks[:3])).summary
    assert (summary.job.ranks_count, summary.job.gpus_count, summary.job.ranks_missing_count) == (4, 3, 0)
    assert summary.ranks[3].score.score_pct is None
    assert summary.headline == three.headline
    assert judge(summary, 0.0) is None


def test_a_rank_that_was_lost_is_named_with_the_time_until_which_it_is_covered(tmp_path):
    ranks = ranks_of()
    short = ranks_of(seconds=7.0)[2]
    ranks[2] = RankRun(run=short.run, content=ranks[2].content).lost()
    summary = rebuild(kept_as_readings(tmp_path / "run", ranks)).summary
    assert told(summary, "ranks without an end: ").startswith(
        "ranks without an end: rank 2 on nid1 (covered until 7 s): lost, or still at work"
    )
    assert summary.job.ranks_lost_count == 1
    assert not summary.ranks[2].finished
    refusal = judge(summary, 0.0)
    assert refusal is not None
    assert "1 ranks have no recorded end" in refusal.text


def test_a_rank_of_which_nothing_was_kept_is_missing(tmp_path):
    ranks = ranks_of()
    ranks[3] = RankRun(run=None, content=msgspec.structs.replace(content_of(3, 4, "nid1"), end=None))
    summary = rebuild(kept_as_sums(tmp_path / "run", ranks)).summary
    assert told(summary, "ranks are missing: ") == "ranks are missing: 3 (began, but nothing of it was kept)"


def test_a_world_of_any_size_costs_nothing(tmp_path):
    ranks = ranks_of()
    for i, one in enumerate(ranks):
        job = one.content.start.job
        assert job is not None
        start = msgspec.structs.replace(one.content.start, job=msgspec.structs.replace(job, world=10**15))
        ranks[i] = one.with_(start=start)
    summary = rebuild(kept_as_sums(tmp_path / "run", ranks)).summary
    assert summary.job.ranks_missing_count == 10**15 - 4
    assert summary.job.ranks_missing == list(range(4, 4 + MOST_LISTED))


@given(
    st.integers(0, 40),
    st.sets(st.integers(-3, 45)),
    st.dictionaries(st.integers(0, 45), st.sampled_from(("why", "how"))),
)
def test_who_is_missing(world, present, why):
    fates = [RankFate(rank=rank, hostname="n", has_ended=True, has_failed=False) for rank in present]
    found = attendance(world, fates)
    missing = set(range(world)) - present
    assert set(found.missing) == missing
    assert found.missing_count == len(missing)
    notes = attendance_notes(world, present, why, found)
    assert bool(notes) == bool(missing | (set(why) - present))


@given(st.sets(st.integers(0, 30)))
def test_numbers_of_ranks_in_few_words(ranks):
    text = numbers(ranks)
    if "more" not in text:
        out = set[int]()
        for stretch in text.split(", ") if text else []:
            first, _, last = stretch.partition("-")
            out |= set(range(int(first), int(last or first) + 1))
        assert out == ranks


# --- ranks that are not alike


@KEPT
def test_ranks_of_different_versions_are_said(tmp_path, kept):
    ranks = ranks_of()
    ranks[3] = ranks[3].with_(satscore_version="1.2.4")
    summary = rebuild(kept(tmp_path / "run", ranks)).summary
    assert told(summary, "ranks have different") == (
        "ranks have different versions of satscore: 1.2.3 (ranks 0-2), 1.2.4 (rank 3)"
    )


def test_readings_of_another_profile_are_scored_by_that_of_rank_0(tmp_path):
    ranks = ranks_of()
    alike = rebuild(kept_as_readings(tmp_path / "alike", ranks)).summary
    start = msgspec.structs.replace(ranks[3].content.start, profile="tensor")
    ranks[3] = ranks[3].with_(start=start)
    summary = rebuild(kept_as_readings(tmp_path / "run", ranks)).summary
    assert summary.headline == alike.headline
    assert "tensor (rank 3)" in told(summary, "ranks have different profiles")


def test_clocks_are_corrected_when_readings_are_scored_anew(tmp_path):
    expected = rebuild(kept_as_readings(tmp_path / "alike", ranks_of())).summary
    ranks = ranks_of()
    ahead_ns = 3_200_000_000
    assert ranks[2].run is not None
    header = msgspec.structs.replace(ranks[2].run.header, grid_offset_ns=ahead_ns)
    ahead = replace(ranks[2], run=replace(ranks[2].run, header=header))
    corrected = ahead.with_(clock_correction_ns=-ahead_ns)
    found = rebuild(kept_as_readings(tmp_path / "corrected", [*ranks[:2], corrected, ranks[3]])).summary
    assert comparable(found) == comparable(expected)
    not_corrected = rebuild(kept_as_readings(tmp_path / "not", [*ranks[:2], ahead, ranks[3]])).summary
    assert not_corrected.run.observed_s == pytest.approx(15.2)


WEAK = E1 | {"T": 0.2, "d": 0.1}

# --- one GPU, several ranks


def looks(*computes: str, hostname: str) -> Placement:
    uuids = [f"GPU-{hostname}-{i}" for i in range(2)]
    return Placement(
        gpus=tuple(
            GpuLooks(uuid=uuid, nvml_index=i, searched=bool(computes), computes=uuid in computes)
            for i, uuid in enumerate(uuids)
        )
    )


@KEPT
def test_ranks_that_see_all_gpus_of_their_node_count_each_once(tmp_path, kept):
    """Nobody knows whose is whose: both ranks of a node would count both."""
    ranks = ranks_of(seen=2)
    summary = rebuild(kept(tmp_path / "run", ranks)).summary
    assert summary.job.gpus_count == 4
    assert [[gpu.uuid for gpu in rank.gpus] for rank in summary.ranks] == [
        ["GPU-nid0-0", "GPU-nid0-1"],
        [],
        ["GPU-nid1-0", "GPU-nid1-1"],
        [],
    ]
    note = "GPU GPU-nid0-0 on nid0 was counted by ranks 0, 1: it counts once, for rank 0"
    assert note in summary.notes
    once = rebuild(kept(tmp_path / "once", [ranks[0], ranks[2]])).summary
    assert summary.job.score == once.job.score
    assert summary.job.phases == once.job.phases


def test_a_gpu_belongs_to_the_rank_that_surely_uses_it(tmp_path):
    ranks = ranks_of(2, seen=2)
    ranks[1] = ranks[1].with_(placement=looks("GPU-nid0-0", hostname="nid0"))
    summary = rebuild(kept_as_sums(tmp_path / "run", ranks)).summary
    assert [[gpu.uuid for gpu in rank.gpus] for rank in summary.ranks] == [["GPU-nid0-1"], ["GPU-nid0-0"]]


@KEPT
def test_the_seconds_of_a_gpu_that_two_ranks_count_are_in_the_job_once(tmp_path, kept):
    busy = [(1.0, E1)] * 200
    both, one = ranks_of(2, seen=2), ranks_of(2)
    run = both[0].run
    assert run is not None
    tables = [
        measured(parts, gpus=[gpu]).table
        for parts, gpu in zip((busy, [(1.0, WEAK)] * 200), run.header.gpus, strict=True)
    ]
    first = replace(both[0], run=Run(header=run.header, table=joined(tables)))
    assert one[1].run is not None
    second = replace(one[1], run=Run(header=one[1].run.header, table=measured([(1.0, WEAK)] * 200).table))
    assert run.header.gpus[1].uuid == second.run.header.gpus[0].uuid  # type: ignore[union-attr]
    summary = rebuild(kept(tmp_path / "run", [first, second])).summary
    alone = rebuild(kept(tmp_path / "alone", [first])).summary
    assert summary.job.gpus_count == 2
    assert summary.headline.kind == "steady"
    assert summary.headline.score_pct == alone.headline.score_pct


def test_gpus_of_different_nodes_may_have_one_name(tmp_path):
    ranks = ranks_of(4)
    alike = [msgspec.structs.replace(H200_INFO, uuid="GPU-same")]
    for i in (0, 2):
        run = ranks[i].run
        assert run is not None
        header = msgspec.structs.replace(run.header, gpus=alike)
        ranks[i] = replace(ranks[i], run=Run(header=header, table=run.table))
    assert rebuild(kept_as_sums(tmp_path / "run", ranks)).summary.job.gpus_count == 4


def test_a_double_in_the_series_of_all_is_said():
    ranks = ranks_of(2, seen=2)
    found = summary_of_parts(ranks[0].content, collected(map(part_of, ranks)), directory=None, models=MODELS)
    assert found.job.gpus_count == 2
    assert any("is still twice in the phases" in note for note in found.notes)


# --- what ranks say, and what they cost


def said(directory: Path, name: str, *marks: str) -> None:
    append_marks(directory / name, marks_lines([Mark(time_ns=1, name=one) for one in marks], ProgressState()))


def test_the_lowest_rank_that_said_something_speaks_for_the_job(tmp_path):
    said(tmp_path, "marks-nid0-10.jsonl", "ten")
    assert [mark.name for mark in read_marks(tmp_path).marks] == ["ten"]
    said(tmp_path, "marks-nid9-2.jsonl", "two")
    (tmp_path / "marks-nid0-1.jsonl").touch()
    assert [mark.name for mark in read_marks(tmp_path).marks] == ["two"]
    said(tmp_path, "marks.jsonl", "zero")
    assert [mark.name for mark in read_marks(tmp_path).marks] == ["zero"]


def test_cost_of_a_job():
    other = msgspec.structs.replace(COST, cpu_s=1.0, cpu_pct_of_core=3.0, rss_max_bytes=10, read_mean_s=None)
    found = job_cost([COST, other])
    assert found.cpu_s == (COST.cpu_s or 0.0) + 1.0
    assert found.cpu_pct_of_core == pytest.approx((1.35 + 3.0) / 2)
    assert found.cpu_max_pct_of_core == 3.0
    assert (found.rss_max_bytes, found.read_mean_s, found.ranks_count) == (COST.rss_max_bytes, COST.read_mean_s, 2)
    assert job_cost([COST]) is COST
    assert job_cost([]) is NO_COST


def test_notes_of_ranks_are_few():
    assert of_ranks([(0, ["a", "a", "b"]), (1, ["a"]), (7, ["b", "a"])]) == ["a", "ranks 0, 7: b"]
    many = of_ranks([(rank, [f"note {rank}"]) for rank in range(1000)])
    assert len(many) == MOST_NOTES + 1
    assert many[-1].startswith(f"{1000 - MOST_NOTES} more notes")


def test_idle_ranks_do_not_hide_in_the_mean(tmp_path):
    """A job whose ranks are half idle is half as good, whichever way the files came."""
    ranks = ranks_of()
    idle = measured([(1.0, IDLE)] * 12, gpus=ranks[3].run.header.gpus, hostname="nid1", rank=3)  # type: ignore[union-attr]
    summary = rebuild(kept_as_sums(tmp_path / "run", [*ranks[:3], replace(ranks[3], run=idle)])).summary
    whole = rebuild(kept_as_sums(tmp_path / "whole", ranks)).summary
    assert summary.headline.score_pct == pytest.approx(0.75 * (whole.headline.score_pct or np.nan), rel=0.05)


# --- words


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize(("ranks", "nodes"), [(1, 1), (4, 2), (16, 4), (128, 32), (10_752, 2_688)])
def test_the_block_says_how_many_and_who_is_not_there(ranks, nodes, width):
    """Whatever the size of the job: the block keeps its size, and what the number lacks stands below it."""
    four = four_ranks()
    summary = summary_of_parts(
        four[0].content, collected(map(part_of, four)), directory="satscore-runs/x", models=MODELS
    )
    fates = [
        RankFate(rank=rank, hostname=f"nid{rank:06d}", has_ended=rank % 3 > 0, has_failed=rank % 3 == 1, exit_code=1)
        for rank in range(0, ranks, 2)
    ]
    found = attendance(ranks, fates)
    job = msgspec.structs.replace(summary.job, ranks_count=len(fates), nodes_count=nodes, gpus_count=ranks)
    notes = [*attendance_notes(ranks, [fate.rank for fate in fates], {}, found), *summary.notes]
    summary = msgspec.structs.replace(summary, job=with_attendance(job, found), notes=notes)
    lines = render(summary, width).splitlines()
    assert len(lines) <= MAX_LINES
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    if ranks > 1:
        assert width < 80 or f"{len(fates):,} rank" in lines[1]
        (at,) = [i for i, line in enumerate(lines) if line.startswith("ranks ")]
        assert at <= 5
        assert f"{ranks // 2:,} of {ranks:,} missing: 1, 3" in lines[at]
    else:
        assert "on 1 node" not in text
        assert "without an end: rank 0" in text


def test_a_large_job_with_everything_wrong_has_short_notes():
    fates = [
        RankFate(rank=rank, hostname=f"nid{rank:06d}", has_ended=rank % 3 > 0, has_failed=rank % 3 == 1, exit_code=1)
        for rank in range(0, 10_752, 2)
    ]
    found = attendance(10_752, fates)
    assert (found.missing_count, found.failed_count, found.lost_count) == (5376, 1792, 1792)
    notes = attendance_notes(10_752, [fate.rank for fate in fates], {}, found)
    assert all(len(note) < 700 for note in notes)


# --- ranks that each see every GPU of their node


def bound_by_number(ranks: list[RankRun], taken: int) -> list[RankRun]:
    """Return the ranks of one node such that the number of each picks its GPU; ``taken`` is how many there are."""
    out = []
    for one in ranks[:taken]:
        assert one.run is not None
        gpus = one.run.header.gpus
        looked = tuple(GpuLooks(uuid=gpu.uuid or "", nvml_index=gpu.nvml_index) for gpu in gpus)
        out.append(one.with_(placement=Placement(gpus=looked, local_choice=(gpus[one.rank].uuid or "",))))
    return out


def node_of_four(world: int = 4) -> list[RankRun]:
    gpus = [msgspec.structs.replace(H200_INFO, index=i, nvml_index=i, uuid=f"GPU-{i}") for i in range(4)]
    runs = [measured([(1.0, E1)] * 12, gpus=gpus, hostname="nid0", rank=rank) for rank in range(world)]
    return [RankRun(run=run, content=content_of(rank, world, "nid0", local=rank)) for rank, run in enumerate(runs)]


@KEPT
def test_ranks_that_each_see_four_gpus_count_one_each_and_nothing_is_said_of_the_others(tmp_path, kept):
    summary = rebuild(kept(tmp_path / "run", bound_by_number(node_of_four(), 4))).summary
    assert [[(gpu.index, gpu.use) for gpu in rank.gpus] for rank in summary.ranks] == [
        [(i, "local_rank")] for i in range(4)
    ]
    assert {gpu.known_by for rank in summary.ranks for gpu in rank.gpus_unused} == {"local_rank"}
    assert sum(len(rank.gpus_unused) for rank in summary.ranks) == 12
    text = render(summary)
    assert "visible but" not in text
    assert "CUDA_DEVICE_ORDER" not in "".join(summary.notes), "the GPUs are alike: their order is no question"
    assert "GPUs       4: worst" in text


def test_gpus_that_no_rank_of_the_node_takes_are_said(tmp_path):
    summary = rebuild(kept_as_sums(tmp_path / "run", bound_by_number(node_of_four(2), 2))).summary
    assert "2 GPUs are visible but left to other ranks of the node: not scored" in render(summary)


@pytest.mark.parametrize(
    ("claimed", "said"),
    [
        (range(4), "other ranks count the GPUs that were read (GPU 0, 1, 2, 3)"),
        (range(1), "the GPUs that were read are left to other ranks of the node (GPU 0, 1, 2, 3)"),
    ],
)
def test_a_rank_whose_gpus_are_all_anothers_says_so(tmp_path, claimed, said):
    ranks = bound_by_number(node_of_four(2), 2)
    placement = ranks[1].content.placement
    assert placement is not None
    uuids = tuple(f"GPU-{i}" for i in claimed)
    choice = ("GPU-0",) if len(claimed) == 1 else tuple(uuids)
    ranks[1] = ranks[1].with_(placement=msgspec.structs.replace(placement, local_choice=choice, claimed=uuids))
    summary = rebuild(kept_as_sums(tmp_path / "run", ranks)).summary
    assert summary.ranks[1].score.missing["score_pct"] == said


def ended_at(one: RankRun, seconds: int) -> RankRun:
    """A rank whose command ended earlier than those of the others."""
    assert one.run is not None
    until_ns = seconds * 1_000_000_000
    table = rows(one.run.table, one.run.table.end_ns <= until_ns)
    cut = replace(one, run=replace(one.run, table=table))
    return cut.ended(duration_s=float(seconds), scored_until_ns=int(table.end_ns.max()))


LATE_S = 7 + 14 + 21
"""What the ranks begin after the first, all together."""


@pytest.mark.parametrize("keep", [kept_as_readings, kept_as_sums])
def test_time_after_the_end_of_a_command_counts_for_no_rank(tmp_path, keep):
    first, second, *others = four_ranks()
    ranks = [first, ended_at(second, 120), *others]
    summary = rebuild(keep(tmp_path / "job", ranks)).summary
    assert summary.job.score.coverage_frac == pytest.approx(1 - LATE_S / (800 - 80), abs=0.005)
    assert told(summary, "commands of ranks ended up to 80 s before")
    parts = collected(part_of(one) for one in ranks)
    assert comparable(summary_of_parts(first.content, parts, directory=None)) == comparable(summary)


@pytest.mark.parametrize("keep", [kept_as_readings, kept_as_sums])
def test_time_after_a_rank_was_lost_is_not_known(tmp_path, keep):
    first, second, *others = four_ranks()
    summary = rebuild(keep(tmp_path / "job", [first, ended_at(second, 120).lost(), *others])).summary
    assert summary.job.score.coverage_frac == pytest.approx(1 - (LATE_S + 80) / 800, abs=0.005)
