"""report --scaling as a user calls it: order, outputs, refusals by name, and that one report stays of one run."""

import json
from pathlib import Path

import pytest

from tests.process.harness import PROGRAM, finish
from tests.unit.runs import H200_INFO, Run, measured, simulated
from tests.unit.scenes import E1
from tests.unit.sim_runs import run_end
from tests.unit.test_session import record


def recorded(directory: Path, run: Run, seconds: float) -> Path:
    record(directory, run, batch=200, end=run_end(seconds, []))
    return directory


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Recordings of two GPUs and of four, and one of other data."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        "two": recorded(folder / "two", simulated("sim:slow-gpu,world=2", 30), 100.0),
        "four": recorded(folder / "four", simulated("sim:slow-gpu", 30), 30.0),
        "measured": recorded(folder / "measured", measured([(1.0, E1)] * 10, gpus=[H200_INFO]), 10.0),
    }


def report(*words: object) -> tuple[int, str, str]:
    done = finish([*PROGRAM, "report", *map(str, words)])
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_runs_are_shown_by_size_whatever_their_order(runs, tmp_path):
    file = tmp_path / "scaling.json"
    status, text, said = report(runs["four"], runs["two"], "--scaling", "--json", file)
    assert (status, said) == (0, "")
    assert max(map(len, (line for line in text.splitlines() if not line.startswith("files")))) <= 100
    assert text.startswith("--- satscore ")
    assert "SIMULATED" in text.splitlines()[0]
    assert text.splitlines()[-2:] == [f"files 1    {runs['two']}", f"files 2    {runs['four']}"]
    found = json.loads(file.read_text())
    assert [run["gpus_count"] for run in found["runs"]] == [2, 4]
    assert found["runs"][1]["efficiency_strong_frac"] == pytest.approx(100 * 2 / (30 * 4))


def test_json_alone_goes_to_standard_output(runs):
    status, text, said = report(runs["two"], runs["four"], "--scaling", "--json", "-")
    assert (status, said) == (0, "")
    assert json.loads(text)["basis"] == "duration"


@pytest.mark.parametrize(
    ("names", "words", "error"),
    [
        (["two", "four"], [], "2 runs, but a report is of one"),
        (["two"], ["--scaling"], "--scaling needs two runs or more"),
        (["two", "two"], ["--scaling"], "is named twice"),
        (["two", "four"], ["--scaling", "--fail-under", "1"], "--fail-under judges one run"),
        (["two", "measured"], ["--scaling"], "cannot be compared: the data differ: measured and simulated"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_hint(runs, names, words, error):
    status, text, said = report(*(runs[name] for name in names), *words)
    assert (status, text) == (125, "")
    assert error in said
    assert "satscore: hint: " in said
    if "differ" in error:
        assert f"{runs['measured']} and {runs['two']} cannot" in said


def test_a_run_that_cannot_be_read_is_named(runs, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    status, text, said = report(runs["two"], empty, "--scaling")
    assert (status, text) == (125, "")
    assert said.splitlines()[0].startswith(f"satscore: error: {empty}")
    assert said.splitlines()[0].count(str(empty)) == 1


def test_what_is_said_of_one_of_several_runs_names_it(runs, tmp_path):
    cut = recorded(tmp_path / "cut", simulated("sim:slow-gpu", 30), 30.0)
    (path,) = cut.glob("readings-*")
    path.write_bytes(path.read_bytes()[:-1000])
    status, _, said = report(runs["two"], cut, "--scaling")
    assert status == 0
    assert said.startswith(f"satscore: {cut}: the recording of rank 0 was cut off")
