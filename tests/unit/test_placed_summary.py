"""Whose GPUs a summary is about: unused ones count nowhere, shared ones are said, and a report knows the same."""

import os
from pathlib import Path

import msgspec
import pytest

from satscore.core.gate import judge
from satscore.core.gpu import GpuInfo
from satscore.core.placement import GpuLooks, Placement
from satscore.core.summary import Summary, encode
from satscore.record.run_file import read_run_file
from satscore.run.recorder import Recorder
from satscore.run.replay import rebuild
from satscore.run.results import summarise
from satscore.views.text import render
from tests.unit.runs import COMMAND, H200_INFO, Run, batches, joined, measured
from tests.unit.scenes import E1, IDLE
from tests.unit.sim_runs import run_end, run_file, run_start

WORK, NO_WORK = [(10.0, E1)], [(10.0, IDLE)]
UUIDS = tuple(f"GPU-{i}" for i in range(4))


def gpu(index: int) -> GpuInfo:
    return msgspec.structs.replace(H200_INFO, index=index, nvml_index=index + 4, uuid=UUIDS[index])


def four(*parts: object) -> Run:
    """Return a run of four GPUs, each with its own intervals."""
    runs = [measured(given, gpus=[gpu(i)]) for i, given in enumerate(parts)]  # type: ignore[arg-type]
    header = msgspec.structs.replace(runs[0].header, gpus=[gpu(i) for i in range(4)])
    return Run(header=header, table=joined([run.table for run in runs]))


MIXED = four(NO_WORK, WORK, NO_WORK, WORK)


def placed(*used: int, assumed: bool = False, **changes: object) -> Placement:
    """Return what looks told: processes on these GPUs of four."""
    rows = (GpuLooks(uuid=uuid, nvml_index=i + 4, searched=True, computes=i in used) for i, uuid in enumerate(UUIDS))
    return Placement(assumed=assumed, gpus=tuple(msgspec.structs.replace(row, **changes) for row in rows))


def summary_of(run: Run, placement: Placement | None) -> Summary:
    ranks = [(run.header, run.session())]
    end = run_end(10.0, [])
    return summarise(run_file(run_start(COMMAND), end, version="1.2.3", placement=placement), ranks, directory=None)


def test_unused_gpus_are_in_no_number():
    summary = summary_of(MIXED, placed(1, 3))
    alone = summary_of(four(WORK, WORK, WORK, WORK), None)
    assert summary.job.gpus_count == summary.job.gpus_scored_count == 2
    assert summary.job.score.score_pct == pytest.approx(alone.job.score.score_pct)
    assert summary.job.score.scope_gpu_s == pytest.approx(20)
    (rank,) = summary.ranks
    assert [(g.nvml_index, g.use) for g in rank.gpus] == [(5, "process"), (7, "process")]
    assert [(g.index, g.nvml_index, g.uuid, g.known_by, g.engine_active_frac) for g in rank.gpus_unused] == [
        (0, 4, "GPU-0", "process", 0.0),
        (2, 6, "GPU-2", "process", 0.0),
    ]
    assert rank.score.score_pct == summary.job.score.score_pct
    assert summary.job.worst is not None
    assert summary.job.worst.nvml_index in (5, 7)
    assert not any("had no work" in note for note in summary.notes)


def test_without_knowledge_all_visible_gpus_count():
    summary = summary_of(MIXED, None)
    assert summary.job.gpus_count == 4
    assert {g.use for g in summary.ranks[0].gpus} == {"visible"}
    assert summary.ranks[0].gpus_unused == []
    [finding] = [finding for finding in summary.findings if finding.id == "GPU_IDLE_RANK"]
    assert [name.nvml_index for name in finding.ranks] == [4, 6]


def test_the_block_names_unused_gpus_in_one_phrase():
    assert "GPUs       2: worst" in render(summary_of(MIXED, placed(1, 3)))
    assert "           GPU 4, 6 are visible but not used by the command: not scored\n" in render(
        summary_of(MIXED, placed(1, 3))
    )
    assert "GPUs       GPU 4, 6, 7 are visible but" in render(summary_of(MIXED, placed(1, foreign=True)))
    assert "GPU 6 is visible but not used" in render(summary_of(MIXED, placed(0, 1, 3)))
    assert "not used" not in render(summary_of(MIXED, placed(0, 1, 2, 3)))


def test_the_block_says_only_what_is_known_of_unused_gpus():
    shown = [msgspec.structs.replace(row, environment="environment") for row in placed().gpus[:2]]
    text = render(summary_of(MIXED, Placement(gpus=(*shown, *placed().gpus[2:]))))
    assert "GPU 6, 7 are visible but not shown to the command's processes: not scored\n" in text


@pytest.mark.parametrize(("count", "said"), [(1, "1 GPU is visible but"), (2, "2 GPUs are visible but")])
def test_unused_gpus_of_several_ranks_are_counted(count, said):
    summary = summary_of(MIXED, placed(*range(4 - count), foreign=True))
    job = msgspec.structs.replace(summary.job, ranks_count=2)
    one = summary.ranks[0]
    ranks = [one, msgspec.structs.replace(one, rank=1, gpus=[], gpus_unused=[])]
    assert f" {said}" in render(msgspec.structs.replace(summary, job=job, ranks=ranks))
    assert "visible" not in render(msgspec.structs.replace(summary, job=job)), "an unlisted rank may count them"


def test_work_where_nobody_was_seen_counts_and_is_said():
    summary = summary_of(MIXED, placed(1))
    (rank,) = summary.ranks
    assert [(g.nvml_index, g.use) for g in rank.gpus] == [(5, "process"), (7, "visible")]
    assert [g.nvml_index for g in rank.gpus_unused] == [4, 6]
    assert "GPU 7 worked, but no process of the command was seen there: it is scored" in summary.notes
    assert not any("worked" in note for note in summary_of(MIXED, placed(1, 3)).notes)


def test_work_of_others_alone_is_dropped_and_can_be_seen():
    rows = placed(1).gpus
    theirs = msgspec.structs.replace(rows[3], foreign=True, judged_ms=1, shared_ms=1)
    summary = summary_of(MIXED, Placement(gpus=(*rows[:3], theirs)))
    assert [(g.nvml_index, (g.engine_active_frac or 0) > 0.5) for g in summary.ranks[0].gpus_unused] == [
        (4, False),
        (6, False),
        (7, True),
    ]
    assert "GPU_SHARED" not in {f.id for f in summary.findings}


def test_a_model_that_is_not_known_matters_only_where_the_gpu_is_used():
    """One GPU that cannot be scored leaves the job without a score, but not one that is not the job's."""
    strange = msgspec.structs.replace(gpu(0), name="NVIDIA X1")
    header = msgspec.structs.replace(MIXED.header, gpus=[strange, *MIXED.header.gpus[1:]])
    run = Run(header=header, table=MIXED.table)
    assert summary_of(run, None).job.score.score_pct is None
    summary = summary_of(run, placed(1, 3))
    assert summary.job.score.score_pct is not None
    assert not any("X1" in note for note in summary.notes)


def test_a_command_on_none_of_the_gpus_read_has_no_score_and_hears_why():
    outside = GpuLooks(uuid="GPU-9", nvml_index=9, searched=True, computes=True)
    placement = Placement(gpus=(*placed().gpus, outside))
    summary = summary_of(MIXED, placement)
    assert summary.headline.score_pct is None
    assert summary.headline.reason == "the command does not use the GPUs that were read (GPU 4, 5, 6, 7)"
    (note,) = [note for note in summary.notes if "GPU-9" in note]
    assert note.startswith("the command uses GPU 9 (GPU-9), which nobody reads: start satscore with the CUDA_VISIBLE")
    assert [(g.nvml_index, g.uuid, g.known_by) for g in summary.ranks[0].gpus_unread] == [(9, "GPU-9", "process")]
    text = render(summary)
    assert "GPU 4, 5, 6, 7 are visible but not used" in text
    assert "GPU 9 (GPU-9)" in text


def test_a_score_of_a_part_of_the_commands_gpus_passes_no_gate():
    """Nor does one with the work of others in it."""
    assert judge(summary_of(MIXED, placed(1, 3, judged_ms=4000)), 1) is None
    outside = GpuLooks(uuid="GPU-9", nvml_index=9, searched=True, computes=True)
    parted = summary_of(MIXED, Placement(gpus=(*placed(1, 3).gpus, outside)))
    shared = summary_of(MIXED, placed(1, 3, judged_ms=4000, shared_ms=3000, company_max_count=2))
    for summary, told in ((parted, "uses GPU 9, which nobody reads"), (shared, "GPU_SHARED")):
        assert summary.headline.score_pct is not None
        refusal = judge(summary, 1)
        assert refusal is not None
        assert refusal.exit_code == 5
        assert told in refusal.text


def test_a_gpu_that_environment_alone_shows_is_claimed_less_boldly():
    outside = GpuLooks(uuid="GPU-9", nvml_index=9, environment="environment")
    placement = Placement(gpus=(*placed(environment=None).gpus, outside))
    assert any("the command is shown GPU 9" in note for note in summary_of(MIXED, placement).notes)


def test_how_a_gpu_was_chosen_is_said():
    unsure = placed(assumed=True, searched=False)
    summary = summary_of(MIXED, unsure)
    assert {g.use for g in summary.ranks[0].gpus} == {"assumed"}
    assert any("CUDA_DEVICE_ORDER=PCI_BUS_ID" in note for note in summary.notes)
    sure = summary_of(MIXED, placed(0, 1, 2, 3, assumed=True))
    assert not any("CUDA_DEVICE_ORDER" in note for note in sure.notes)


# --- company


def test_a_shared_gpu_is_said_and_lowers_the_grade():
    clear = summary_of(MIXED, placed(1, 3, judged_ms=4000))
    shared = summary_of(MIXED, placed(1, 3, judged_ms=4000, shared_ms=3000, company_max_count=2))
    assert (clear.job.score.grade, shared.job.score.grade) == ("B", "C")
    assert shared.ranks[0].score.grade == shared.ranks[0].gpus[0].score.grade == "C"
    assert shared.job.score.score_pct == clear.job.score.score_pct
    (finding,) = [f for f in shared.findings if f.id == "GPU_SHARED"]
    assert (finding.severity, finding.points_pct) == ("info", 0)
    assert {item.key: item.value for item in finding.evidence} == {"foreign_processes": 2, "shared_frac": 0.75}
    assert [g.shared_frac for g in shared.ranks[0].gpus] == [0.75, 0.75]
    assert any("GPU 5, 7: processes of others" in note for note in shared.notes)
    for summary in (clear, shared):
        assert "GPU_SHARED" not in {item.id for item in summary.not_judged}
    assert "GPU_SHARED" not in {f.id for f in clear.findings}


def test_what_makes_the_counters_doubtful_comes_before_what_they_tell():
    stalled = four(*[[(1.0, E1), (1.0, IDLE)] * 5] * 4)
    summary = summary_of(stalled, placed(*range(4), judged_ms=4, shared_ms=4, company_max_count=1))
    assert len(summary.findings) > 1
    assert summary.findings[0].id == "GPU_SHARED"


def test_others_on_an_unused_gpu_are_no_company():
    rows = placed(1, 3, judged_ms=4000).gpus
    busy = msgspec.structs.replace(rows[0], shared_ms=4000, company_max_count=1)
    summary = summary_of(MIXED, Placement(gpus=(busy, *rows[1:])))
    assert "GPU_SHARED" not in {f.id for f in summary.findings}
    assert summary.job.score.grade == "B"


@pytest.mark.parametrize("placement", [None, placed(1, 3)])
def test_where_processes_are_hidden_company_is_not_judged(placement):
    summary = summary_of(MIXED, placement)
    assert {item.id: item.missing for item in summary.not_judged}["GPU_SHARED"] == ["process ids on the GPU"]
    assert {g.shared_frac for g in summary.ranks[0].gpus} == {None}
    assert summary.job.score.grade == "B"


def test_company_is_judged_without_a_score():
    run = four(*[WORK] * 4)
    header = msgspec.structs.replace(run.header, source="nvml", has_pipe_counters=False)
    gauges = Run(header=header, table=run.table)
    summary = summary_of(gauges, placed(1, judged_ms=1, shared_ms=1, company_max_count=1))
    assert [f.id for f in summary.findings] == ["GPU_SHARED", "NO_COUNTERS"]
    assert summary.job.score.grade == "D"


# --- what is stored


@pytest.mark.parametrize("killed", [False, True])
def test_a_report_knows_the_same(tmp_path: Path, killed: bool):
    placement = placed(1, 3, judged_ms=4, shared_ms=1, company_max_count=1)
    recorder = Recorder(tmp_path / "run", with_readings=True, version="1.2.3")
    recorder.begin(run_start(COMMAND), MIXED.header)
    for table in batches(MIXED.table, 20):
        recorder.append(table)
    recorder.update(placement)
    recorder.close_stream()
    end = None if killed else run_end(10.0, [])
    ranks = [(MIXED.header, MIXED.session())]
    directory = str(recorder.directory)
    live = summarise(
        run_file(run_start(COMMAND), end, version="1.2.3", placement=placement), ranks, directory=directory
    )
    if end is not None:
        recorder.end(end)
    assert encode(rebuild(tmp_path / "run").summary) == encode(live)


def test_the_end_of_64_gpus_fits_on_a_full_disk(tmp_path: Path):
    """A name that cannot be replaced stands for a full disk: no new file, but the old one can be written."""
    rows = [GpuLooks(uuid=f"GPU-12345678-1234-1234-1234-{i:012d}", nvml_index=i) for i in range(64)]
    day_ms = 86_400_000
    known = {"searched": True, "foreign": True, "judged_ms": day_ms, "shared_ms": day_ms, "company_max_count": 100}
    looked = [msgspec.structs.replace(row, **known, environment="environment") for row in rows]
    recorder = Recorder(tmp_path / "run", with_readings=False, version="1.2.3")
    recorder.placement = Placement(gpus=tuple(rows))
    recorder.begin(run_start(COMMAND), None)
    (tmp_path / "run" / f".run.json.{os.getpid()}.tmp").mkdir()
    recorder.placement = Placement(gpus=tuple(looked))
    notes = ["a note of some length about what could not be read, with its remedy " * 2] * 10
    recorder.end(run_end(10.0, notes))
    content = read_run_file(tmp_path / "run")
    assert content.placement == recorder.placement
    assert content.end is not None
    assert content.end.notes == notes


def test_a_disk_that_refuses_the_update_costs_only_that(tmp_path: Path):
    recorder = Recorder(tmp_path / "run", with_readings=True, version="1.2.3")
    recorder.begin(run_start(COMMAND), MIXED.header)
    (tmp_path / "run").rename(tmp_path / "gone")
    recorder.update(placed(1))
    assert recorder.notes == []
    assert recorder.placement == placed(1)


def test_nothing_is_written_where_nothing_is_recorded(tmp_path: Path):
    recorder = Recorder(None, with_readings=False, version="1.2.3")
    recorder.begin(run_start(COMMAND), MIXED.header)
    recorder.update(placed(1))
    assert list(tmp_path.iterdir()) == []
