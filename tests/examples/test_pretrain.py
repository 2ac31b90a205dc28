"""examples/pretrain as a user runs it: real training on the CPU, alone, under torchrun and under satscore."""

import importlib.util
import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.process.harness import PROGRAM, environment, running, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install 'satscore[torch]'"
    ),
]

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "pretrain"
TRAIN = [sys.executable, str(FOLDER / "train.py")]
TOUR = [sys.executable, str(FOLDER / "tour.py")]
LAUNCHED = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *TRAIN[1:]]
LIMIT_S = 300.0
NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
STEP = re.compile(r"^step +(\d+)  loss ([\d.]+) +([\d.]+) ms  ([\d,]+) tokens/s$", re.MULTILINE)


def run(command: Sequence[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run to the end without a GPU; a negative return code is the signal it died of."""
    env = environment(**NO_GPU, **variables)
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=env)


def losses(command: Sequence[str]) -> tuple[float, float]:
    """Return the loss of the first and of the last step of a training that ends well."""
    done = run(command)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = STEP.findall(done.stdout)
    return float(steps[0][1]), float(steps[-1][1])


def tokens_per_step(output: str) -> int:
    found = re.search(r", ([\d,]+) tokens per step,", output)
    assert found is not None
    return int(found[1].replace(",", ""))


def test_it_trains_where_satscore_is_not_installed(tmp_path):
    (tmp_path / "satscore.py").write_text("raise ImportError\n")
    code = f"import runpy, sys; sys.path.insert(0, {str(FOLDER)!r}); sys.path.insert(0, {str(tmp_path)!r}); "
    code += f"sys.argv = ['train.py', '--steps', '2']; runpy.run_path({TRAIN[1]!r}, run_name='__main__')"
    done = run([sys.executable, "-c", code])
    assert done.returncode == 0, done.stdout + done.stderr
    assert STEP.findall(done.stdout)[-1][0] == "2"


def under_satscore(command: Sequence[str], folder: Path, scenario: str) -> list[str]:
    options = ["--source", f"sim:{scenario}", "--record", "no", "--json", str(folder / "summary.json")]
    return [*PROGRAM, *options, "--", *command]


@pytest.fixture(scope="module")
def base() -> tuple[float, float]:
    return losses([*TRAIN, "--steps", "12"])


@pytest.fixture(scope="module")
def launched() -> tuple[float, float]:
    return losses([*LAUNCHED, "--steps", "12"])


def test_the_model_learns(base):
    first, last = base
    assert 5.0 < first < 5.6  # guesses among 256 bytes: ln 256 = 5.55
    assert last < first - 1.0


def test_accumulated_micro_batches_are_one_large_batch(base):
    assert losses([*TRAIN, "--steps", "12", "--micro-batch", "16", "--accumulate", "1"]) == pytest.approx(
        base, abs=2e-3
    )


@pytest.mark.parametrize("switch", [["--fp32"], ["--slow-loader", "40"], ["--sync-logging"]])
def test_a_mistake_costs_time_and_changes_no_result(switch, base):
    done = run([*TRAIN, "--steps", "12", *switch])
    assert done.returncode == 0, done.stdout + done.stderr
    steps = STEP.findall(done.stdout)
    assert float(steps[-1][1]) == pytest.approx(base[1], abs=2e-3)
    if "--slow-loader" in switch:
        assert all(float(step_ms) >= 40 for _, _, step_ms, _ in steps)
    assert done.stdout.count("micro-step") == (24 if "--sync-logging" in switch else 0)


def test_a_tiny_batch_is_one_sequence():
    done = run([*TRAIN, "--steps", "40", "--tiny-batch"])
    assert ", 64 tokens per step," in done.stdout
    steps = STEP.findall(done.stdout)
    assert float(steps[-1][1]) < float(steps[0][1]) - 1.0


def test_two_processes_learn_together(base, launched):
    first, last = launched
    assert first == pytest.approx(base[0], abs=2e-3)  # rank 0 has the same data, and the same weights at first
    assert last < first - 1.0
    assert abs(last - base[1]) > 5e-3  # then it also learns from rank 1


def test_without_overlap_the_gradients_are_the_same(launched):
    assert losses([*LAUNCHED, "--steps", "12", "--no-overlap"]) == pytest.approx(launched, abs=2e-3)


def test_the_mfu_is_printed_only_against_a_peak_from_the_user():
    done = run([*TRAIN, "--steps", "2", "--peak-tflops", "0.5"])
    assert re.search(r"tokens/s  MFU [\d.]+ %$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", [TRAIN, LAUNCHED], ids=["one process", "torchrun"])
def test_satscore_around_it(command, tmp_path):
    done = run(under_satscore([*command, "--minutes", "0.05"], tmp_path, "llm"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("done: ")
    assert "SIMULATED (sim:llm)" in done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["data_kind"] == "simulated"
    assert summary["headline"]["score_pct"] > 40
    progress, steps = summary["progress"], int(STEP.findall(done.stdout)[-1][0])
    assert progress["processes_count"] == 1  # rank 0, for all
    assert progress["steps_count"] == steps - 1  # the first call starts the clock
    assert progress["tokens_s"] * progress["range_s"] == pytest.approx(tokens_per_step(done.stdout) * (steps - 1))
    assert progress["flops_s"] > progress["tokens_s"] > progress["tokens_per_j"] > 0
    assert progress["missing"]["mfu_pct"] == "needs --dtype"
    assert [mark["name"] for mark in summary["marks"]] == ["first step done"]


@pytest.mark.parametrize(("command", "status"), [(TRAIN, 2), (LAUNCHED, 1)], ids=["one process", "torchrun"])
def test_exit_status_of_a_failure_is_kept(command, status, tmp_path):
    assert run(under_satscore([*command, "--steps", "0"], tmp_path, "llm")).returncode == status


def test_no_overlap_alone_says_what_to_do():
    done = run([*TRAIN, "--no-overlap"])
    assert done.returncode == 2
    assert "torchrun --standalone" in done.stderr


def test_a_signal_ends_the_training_and_satscore_alike(tmp_path):
    command = under_satscore([*TRAIN, "--minutes", "10"], tmp_path, "llm")
    with running(command, env=environment(**NO_GPU)) as process:
        assert process.stdout is not None
        wait_for(lambda: process.stdout.readline().startswith(b"step"), "the first step", LIMIT_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == -signal.SIGTERM


# --- the tour -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tour():
    spec = importlib.util.spec_from_file_location("tour", FOLDER / "tour.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tour"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_case_of_the_tour_has_its_finding_in_its_scenario(tour):
    from satscore.core.summary import encode
    from tests.unit.runs import simulated

    for case in tour.CASES:
        summary = json.loads(encode(simulated(f"sim:{case.scenario}", 15).summary()))
        line, good = tour.judge(case, summary)
        assert good, line


def test_the_tour_sees_a_wrong_finding_and_a_missing_score(tour):
    base = tour.CASES[0]
    finding = {"id": "HOST_STALL", "points_pct": 31.0}
    headline = {"score_pct": 40.0, "reason": None}
    assert not tour.judge(base, {"headline": headline, "findings": [finding]})[1]
    assert tour.judge(base, {"headline": headline, "findings": []})[1]
    line, good = tour.judge(base, {"headline": {"score_pct": None, "reason": "no pipe counters"}, "findings": []})
    assert not good
    assert "no pipe counters" in line


def test_the_tour_runs_and_keeps_its_files(tmp_path):
    done = run([*TOUR, "--cases", "no-overlap", "--minutes", "0.1", "--out", str(tmp_path / "out")])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SIMULATED" in done.stdout.splitlines()[0]
    assert done.stdout.splitlines()[-1].startswith("no-overlap ")
    assert json.loads((tmp_path / "out" / "no-overlap.json").read_text())["run"]["label"] == "no-overlap"
    assert "done: " in (tmp_path / "out" / "no-overlap.log").read_text()


def test_the_tour_goes_on_where_a_case_has_no_result():
    done = run([*TOUR, "--cases", "base,fp32"], SATSCORE_PERIOD="often")
    assert done.returncode == 1
    assert done.stdout.count("no result, status 125: ") == 2


def test_the_tour_refuses_an_unknown_case():
    done = run([*TOUR, "--cases", "base,typo"])
    assert done.returncode == 2
    assert "no case 'typo'" in done.stderr


def test_the_readme_lists_every_case(tour):
    text = (FOLDER / "README.md").read_text()
    for case in tour.CASES[1:]:
        row = next(line for line in text.splitlines() if line.startswith(f"| `--{case.name}"))
        assert case.scenario in row
        assert all(finding in row for finding in case.expected)
