"""--source replay as a user starts it: the numbers of the report, the mark everywhere, refusals before the start."""

import os
import signal
import sys
from typing import Any

import msgspec
import pytest

from satscore.core.placement import GpuLooks, Placement
from satscore.record.run_file import read_run_file, write_run_file
from satscore.record.stream import Recording
from tests.process.harness import PROGRAM, Reporter, environment, finish, running, satscore
from tests.process.replays import play, report, rows_of, summary_in
from tests.unit.runs import H200_INFO, measured, simulated
from tests.unit.scenes import E1, IDLE
from tests.unit.sim_runs import run_end
from tests.unit.test_session import record

NODE = simulated("sim:gh200x4", 20)
MEASURED = measured([(0.2, E1), (0.2, IDLE | {"d": 0.4}), (0.6, E1 | {"f": 1300})] * 20)


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    directory = tmp_path_factory.mktemp("node") / "run"
    record(directory, NODE, batch=100, end=run_end(20.0, []))
    return directory


@pytest.fixture(scope="module")
def measured_run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("measured") / "run"
    record(directory, MEASURED, batch=25, end=run_end(20.0, []))
    return directory


def parts(summary: Any) -> Any:
    """Return what must not depend on where the readings come from; the host is that of the replay."""
    return without_hosts([summary[name] for name in ("headline", "job", "ranks", "findings", "not_judged")])


def without_hosts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_hosts(item) for key, item in value.items() if key != "hostname"}
    return [without_hosts(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("speed", [10, 100])
def test_a_replay_has_the_numbers_of_the_report_at_any_speed(node, tmp_path, speed):
    done = play(node, tmp_path / "again", speed=speed)
    assert (done.returncode, done.stdout) == (0, "")
    summary = summary_in(tmp_path / "again")
    assert parts(summary) == parts(report(node))
    assert summary["data_kind"] == "simulated"
    assert summary["source"]["name"] == "replay"
    assert summary["source"]["scenario"] == f"replay:{node},speed={speed}"
    assert "| SIMULATED REPLAY (" in done.stderr
    assert "were lost" not in " ".join(summary["notes"])


def test_a_replay_of_a_measurement_is_marked_and_can_be_replayed_again(measured_run, tmp_path):
    done = play(measured_run, tmp_path / "first")
    play(tmp_path / "first", tmp_path / "second")
    for summary in (summary_in(tmp_path / "first"), summary_in(tmp_path / "second"), report(tmp_path / "second")):
        assert summary["data_kind"] == "replay"
        assert summary["source"]["name"] == "replay"
        assert parts(summary) == parts(report(measured_run))
        assert any(note.startswith("REPLAY: no GPU is read.") for note in summary["notes"])
    assert "| REPLAY (" in done.stderr.splitlines()[1]
    assert "SIMULATED" not in done.stderr


def test_a_replay_says_what_the_recorded_run_was_asked_for_otherwise(measured_run, tmp_path):
    options = ["--profile", "hpc", "--dtype", "bf16", "--period", "0.5"]
    play(measured_run, tmp_path / "again", options=options)
    summary = summary_in(tmp_path / "again")
    assert summary["method"]["profile"] == "hpc"
    assert (
        "the recording was made with --profile train, no --dtype, --period 0.2; "
        "the numbers are this run's, with --profile hpc, --dtype bf16, --period 0.5"
    ) in summary["notes"]
    play(measured_run, tmp_path / "same")
    assert not any("was made with" in note for note in summary_in(tmp_path / "same")["notes"])


def test_gpus_that_the_recorded_command_did_not_use_stay_out_of_the_score(tmp_path):
    gpus = [msgspec.structs.replace(H200_INFO, index=i, uuid=f"GPU-{i}") for i in range(2)]
    run = tmp_path / "run"
    record(run, measured([(0.5, E1)] * 12, gpus=gpus), batch=8, end=run_end(6.0, []))
    one, other = (GpuLooks(uuid=gpu.uuid or "", nvml_index=gpu.index, searched=True) for gpu in gpus)
    looks = [msgspec.structs.replace(one, computes=True), msgspec.structs.replace(other, foreign=True)]
    content = msgspec.structs.replace(read_run_file(run), placement=Placement(gpus=tuple(looks)))
    write_run_file(run, content)
    assert report(run)["job"]["gpus_count"] == 1
    play(run, tmp_path / "again")
    for summary in (summary_in(tmp_path / "again"), report(tmp_path / "again")):
        assert parts(summary) == parts(report(run))


def test_a_command_that_outlives_the_recording_is_scored_as_far_as_that_goes(measured_run, tmp_path):
    done = play(measured_run, tmp_path / "again", ending="sleep 0.1")
    assert done.returncode == 0
    summary = summary_in(tmp_path / "again")
    assert summary["run"]["observed_s"] == pytest.approx(20)
    assert summary["job"]["score"]["coverage_frac"] == 1
    (note,) = [note for note in summary["notes"] if "recording" in note and not note.startswith("REPLAY")]
    assert note == "the recording ended after 20.0 s, before the command: the rest is not scored"


def test_a_command_that_ends_first_counts_what_was_played(node, tmp_path):
    done = play(node, tmp_path / "again", speed=1, rows=8)
    assert done.returncode == 0
    summary = summary_in(tmp_path / "again")
    assert 0.3 <= summary["run"]["observed_s"] <= summary["run"]["duration_s"]
    assert summary["job"]["score"]["coverage_frac"] == 1
    assert any("were played, the command was shorter" in note for note in summary["notes"])


def test_a_cut_recording_plays_its_whole_batches_and_is_left_as_it_is(node, tmp_path):
    (path,) = node.glob("readings-*")
    cut = tmp_path / "cut.arrows"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before = cut.read_bytes()
    whole = sum(len(table) for table in Recording(cut).batches())
    assert play(cut, tmp_path / "again", rows=whole).returncode == 0
    assert 0 < whole == rows_of(tmp_path / "again") < len(NODE.table)
    assert any("the recording was cut off" in note for note in summary_in(tmp_path / "again")["notes"])
    assert cut.read_bytes() == before


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("replay", "name a recording or its run directory: replay:FILE"),
        ("replay:", "names no recording"),
        ("replya:x", "did you mean replay?"),
        ("replay:absent.arrows", "absent.arrows: No such file or directory"),
        ("replay:absent.arrows,sped=3", "did you mean speed?"),
        ("replay:text,speed=100", "text: not an Arrow stream"),
        ("replay:nothing", "nothing: empty"),
        ("replay:.", "no recording of readings (readings-*.arrows)"),
    ],
)
def test_what_cannot_be_played_is_refused_before_the_command_starts(tmp_path, source, told):
    (tmp_path / "text").write_text("hello\n" * 100)
    (tmp_path / "nothing").touch()
    done = finish([*PROGRAM, "--source", source, "--", "touch", "started"], cwd=tmp_path)
    assert done.returncode == 125
    assert done.stdout == b""
    assert told in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("threads", [None, "7"])
def test_the_command_sees_nothing_of_the_check(node, threads):
    """The recording is looked at before the start; environment and descriptors stay as they were."""
    script = "import os; print(os.environ.get('OPENBLAS_NUM_THREADS'), sorted(os.listdir('/proc/self/fd')))"
    command = [sys.executable, "-c", script]
    env = environment() | ({} if threads is None else {"OPENBLAS_NUM_THREADS": threads})
    bare = finish(command, env=env)
    done = finish(satscore(*command, options=("--source", f"replay:{node}")), env=env)
    assert (done.returncode, done.stdout) == (0, bare.stdout)
    assert done.stdout.startswith(f"{threads} ".encode())


def test_signals_reach_the_command_and_not_a_thread_of_a_library(node, tmp_path):
    reporter = Reporter(tmp_path, "TERM", "USR1")
    env = environment() | {"OPENBLAS_NUM_THREADS": "4"}
    words = satscore(*reporter.command, options=("--source", f"replay:{node}"))
    with running(words, env=env) as wrapper:
        reporter.wait_ready()
        for signo in (signal.SIGTERM, signal.SIGUSR1):
            os.kill(wrapper.pid, signo)
            reporter.wait_received(signo)
        wrapper.send_signal(signal.SIGRTMAX)
        assert wrapper.wait(20) == 42


def test_a_path_that_is_not_utf8_can_be_replayed(measured_run, tmp_path):
    odd = tmp_path / os.fsdecode(b"r\xff.arrows")
    odd.write_bytes(next(measured_run.glob("readings-*")).read_bytes())
    done = play(odd, tmp_path / "again", rows=len(MEASURED.table))
    assert done.returncode == 0
    assert summary_in(tmp_path / "again")["source"]["scenario"].endswith("r\\udcff.arrows,speed=100")
