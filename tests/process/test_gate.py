"""--fail-under as CI uses it: the command's failure wins, then the score decides, and nothing passes unjudged."""

import json
from pathlib import Path

import numpy as np
import pytest

from satscore.core.fields import INDEX, Quality
from tests.fakes.build import fake_nvml
from tests.process.harness import PATIENT, PROGRAM, environment, finish, satscore
from tests.process.replays import play
from tests.unit.runs import Run, measured
from tests.unit.scenes import E1
from tests.unit.sim_runs import run_end
from tests.unit.test_session import record

__all__ = ["fake_nvml"]


def recording(directory: Path, unknown: int = 0, seconds: int = 10) -> Path:
    """Record a run with one score; in its last so many seconds the tensor counter is not known."""
    run = measured([(1.0, E1)] * seconds)
    late = np.arange(len(run.table)) >= seconds - unknown
    run.table.values[late, INDEX["tensor_active_frac"]] = np.nan
    run.table.quality[late, INDEX["tensor_active_frac"]] = Quality.BLANK
    record(directory, Run(header=run.header, table=run.table), batch=5, end=run_end(10.0, []))
    return directory


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return recording(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def partial(tmp_path_factory):
    return recording(tmp_path_factory.mktemp("partial") / "run", unknown=3)


def gated(source: str, lowest: str, *command: str, env: dict[str, str] | None = None) -> tuple[int, list[str]]:
    """Run a command quietly behind a gate; return status and lines."""
    words = satscore(*command, options=("--source", source, "--fail-under", lowest))
    done = finish(words, env=environment(**(env or {})))
    return done.returncode, done.stderr.decode().splitlines()


@pytest.mark.parametrize("options", [["--quiet"], []])
def test_a_replay_that_passes_says_that_nothing_was_measured(whole, tmp_path, options):
    done = play(whole, tmp_path / "run", options=["--fail-under", "20", *options])
    assert done.returncode == 0
    (line,) = [line for line in done.stderr.splitlines() if "fail-under" in line]
    assert line.startswith("satscore: --fail-under 20 judged a REPLAY (replay:")
    assert (done.stderr == f"{line}\n") == bool(options)


def test_a_score_that_is_too_low_is_3_and_its_line_with_quiet_too(whole, tmp_path):
    done = play(whole, tmp_path / "run", options=["--quiet"], env={"SATSCORE_FAIL_UNDER": "99"})
    assert done.returncode == 3
    replayed, line = done.stderr.splitlines()
    assert "judged a REPLAY" in replayed
    assert line.startswith("satscore: --fail-under 99: the score is ")
    assert line.endswith(" points too low: exit 3")


def test_a_partial_score_is_5(partial, tmp_path):
    done = play(partial, tmp_path / "run", options=["--quiet", "--fail-under", "1"])
    assert done.returncode == 5
    assert "the score is partial: coverage 70.0 %" in done.stderr


@pytest.mark.parametrize(("ending", "status"), [("exit 3", 3), ("kill -TERM $$", -15)])
def test_a_command_that_failed_has_its_own_status_and_no_line(whole, tmp_path, ending, status):
    done = play(whole, tmp_path / "run", options=["--quiet", "--fail-under", "99"], ending=ending)
    assert (done.returncode, done.stderr) == (status, "")


def test_no_score_is_5():
    """This machine has no GPU, or a stand-in that the tests leave out of the path."""
    status, lines = gated("nvml", "1", "true", env={"LD_LIBRARY_PATH": ""})
    assert status == 5
    assert lines[-1].startswith("satscore: --fail-under 1: no score: ")


def test_a_command_of_which_little_was_read_is_5(fake_nvml, tmp_path):
    """The driver takes long to start; the command ends once it has been read a few times."""
    fakes = fake_nvml.environment("h200_llm", extra="slow nvmlInitWithFlags 1500", log=tmp_path / "calls")
    wanted = {name: fakes[name] for name in ("LD_LIBRARY_PATH", "FAKE_NVML_SCRIPT", "FAKE_NVML_LOG")}
    read = 'until [ "$(grep -c nvmlGpmSampleGet "$FAKE_NVML_LOG")" -ge 4 ]; do sleep 0.05; done 2>/dev/null'
    json_file = tmp_path / "summary.json"
    options = ("--json", str(json_file), "--fail-under", "1")
    done = finish(satscore("sh", "-c", read, options=options), env=environment(**PATIENT, **wanted))
    assert done.returncode == 5
    run = json.loads(json_file.read_text())["run"]
    assert f"not judged: only {run['observed_s']:.1f} of {run['duration_s']:.1f} s were read" in done.stderr.decode()
    missed_s = run["duration_s"] - run["observed_s"]
    assert missed_s > 1.5
    notes = json.loads(json_file.read_text())["notes"]
    assert any(f"the first {missed_s:.1f} of the command's" in note for note in notes)


def test_a_summary_that_comes_too_late_is_5(whole):
    status, lines = gated(f"replay:{whole},speed=100", "1", "true", env={"SATSCORE_EXIT_WAIT_S": "0"})
    assert status == 5
    assert lines[-1] == "satscore: --fail-under 1: no score: there is no summary: exit 5"


def test_a_nested_run_is_not_judged_and_says_so():
    inner = satscore("sh", "-c", "exit 0", options=("--fail-under", "99"))
    done = finish(satscore(*inner))
    assert done.returncode == 0
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("satscore: --fail-under is not judged: ")


@pytest.mark.parametrize("value", ["-1", "101", "nan", "high", "1e9"])
def test_what_is_no_score_is_refused_before_the_command_starts(tmp_path, value):
    done = finish([*PROGRAM, "--fail-under", value, "--", "touch", str(tmp_path / "started")])
    assert done.returncode == 125
    assert done.stderr.decode().startswith("satscore: error: --fail-under: ")
    assert not (tmp_path / "started").exists()


def test_where_measuring_breaks_the_gate_does_not_pass(tmp_path):
    """Imports fail once the command runs, as from a file system that is lost; its failure still wins."""
    program = tmp_path / "lost.py"
    program.write_text(
        "import sys\n"
        "sys.modules['satscore.launch.supervise'] = None\n"
        "from satscore.cli.main import entry_point\n"
        "entry_point()\n"
    )
    for script, status in (("exit 0", 5), ("exit 4", 4), ("kill -TERM $$", -15)):
        done = finish([PROGRAM[0], str(program), "--fail-under", "1", "--", "sh", "-c", script])
        assert done.returncode == status
    assert finish([PROGRAM[0], str(program), "--", "true"]).returncode == 0


def test_report_has_the_same_gate(whole, partial):
    for run, lowest, status in ((whole, "20", 0), (whole, "99", 3), (partial, "1", 5)):
        done = finish([*PROGRAM, "report", str(run), "--fail-under", lowest])
        assert (done.returncode, done.stdout[:12]) == (status, b"--- satscore")
        assert done.stderr.count(b"--fail-under") == (status != 0)
    as_json = finish([*PROGRAM, "report", str(whole), "--json", "-", "--fail-under", "99"])
    assert (as_json.returncode, as_json.stdout[:1]) == (3, b"{")
    wrong = finish([*PROGRAM, "report", str(whole), "--fail-under", "much"])
    assert (wrong.returncode, wrong.stdout) == (125, b"")
    assert b"--fail-under: 'much' is not a score" in wrong.stderr
