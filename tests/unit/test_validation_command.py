"""The hardware validation's command without a GPU: children that fail, the dry run whole, exit statuses."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from satscore.record.stream import Recording
from tests.fakes.build import FakeNvml, compiler, fake_nvml
from tests.hardware.validation.environment import script
from tests.hardware.validation.sampling import parse_line, run_child, sample_load

__all__ = ["fake_nvml"]

PEAK = 989.43e12


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_child_that_dies_or_prints_nothing_is_an_error_of_that_load() -> None:
    line, stderr = run_child(python("import os, sys; print('boo', file=sys.stderr); os.abort()"), timeout_s=30)
    assert line.error == "the load ended without a result (signal 6)"
    assert "boo" in stderr
    line, _ = run_child(python("print('no json')"), timeout_s=30)
    assert line.error == "the load ended without a result (exit status 0)"


def test_a_child_that_hangs_is_killed() -> None:
    line, _ = run_child(python("import time; time.sleep(600)"), timeout_s=0.5)
    assert line.error is not None
    assert "killed" in line.error


def test_the_line_is_found_among_other_output() -> None:
    line = parse_line('noise\n{"workload": "V5:copy", "start_ns": 1, "end_ns": 2, "truth": {"bytes_s": 4e12}}\n\n', 0)
    assert (line.start_ns, line.end_ns, line.truth) == (1, 2, {"bytes_s": 4e12})


def test_a_load_without_a_source_is_an_error_of_that_load(tmp_path: Path) -> None:
    sampled = sample_load("sim:nothing", None, python("0"), tmp_path / "r.arrows", timeout_s=10)
    assert sampled.error is not None
    assert "nothing" in sampled.error


def test_a_failing_load_keeps_its_readings_and_its_last_words(tmp_path: Path) -> None:
    code = "import sys, time; time.sleep(0.3); print('CUDA error', file=sys.stderr); sys.exit(1)"
    sampled = sample_load("sim:gemm,speed=20", None, python(code), tmp_path / "r.arrows", timeout_s=10)
    assert sampled.error == "the load ended without a result (exit status 1)"
    assert "CUDA error" in sampled.stderr
    assert len(list(Recording(tmp_path / "r.arrows").batches())) == 1


def test_a_load_on_a_machine_without_torch_says_so_in_its_line() -> None:
    hide = "import sys; sys.modules['torch'] = None; sys.path.insert(0, sys.argv[1]); "
    code = hide + "from tests.hardware.validation.child import main; sys.exit(main(['--workload', 'V0:random']))"
    root = str(script().parents[2])
    line, _ = run_child([*python(code), root], timeout_s=60)
    assert line.error is not None
    assert "torch" in line.error


def validate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script()), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_dry_run_goes_through_everything(tmp_path: Path) -> None:
    out = tmp_path / "out"
    cases = "V0,V5:copy,V7:50-200ms,V8:loop,V9:16,V4:fp16"
    done = validate("--dry-run", "--quick", "--speed", "60", "--out", str(out), "--cases", cases)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((out / "results.json").read_text())
    assert results["data_kind"] == "simulated"
    assert "SIMULATED" in done.stdout
    status = {item["name"]: item["status"] for item in results["items"]}
    assert status.pop("V4:fp16") == "skipped"
    assert set(status.values()) == {"pass"}
    assert results["verdicts"]["r1"]["verdict"] == "no_clock_cap"
    assert results["environment"]["command"][-2:] == ["--cases", cases]
    zeros = next(item for item in results["items"] if item["name"] == "V0:zeros")
    assert zeros["measured"]["tensor_score_pct"] == pytest.approx(90.34, abs=0.3)
    assert zeros["truth"]["flop_s"] == pytest.approx(0.9034 * PEAK, rel=1e-3)
    assert zeros["measured"]["fields"]["sm_clock_mhz"] == pytest.approx(1980, abs=1)
    assert max(len(line) for line in done.stdout.splitlines() if not line.startswith("results:")) <= 100


def test_the_recording_gives_the_numbers_again(tmp_path: Path) -> None:
    done = validate("--dry-run", "--quick", "--out", str(tmp_path / "out"), "--cases", "V5:copy")
    assert done.returncode == 0, done.stdout + done.stderr
    recording = Recording(tmp_path / "out" / "readings-V5-copy.arrows")
    assert recording.header.data_kind == "simulated"
    (table,) = recording.batches()
    assert len(table) > 20
    assert np.nanmean(table.column("dram_active_frac")) == pytest.approx(0.875, abs=0.01)


def test_without_torch_or_gpu_nothing_is_written_and_the_status_is_3(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    code = (
        "import os, sys; os.environ['PYTHONPATH'] = sys.argv[1]; sys.path.insert(0, sys.argv[2]); "
        "from tests.hardware.validation.cli import main; sys.exit(main(['--out', sys.argv[1] + '/out']))"
    )
    command = [*python(code), str(tmp_path), str(script().parents[2])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert "no torch here" in done.stderr
    assert "nothing was written" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments", [("--out", "x", "--cases", "V3"), (), ("--out", "x", "--speed", "0"), ("--out", "x", "--budget", "-1")]
)
def test_wrong_usage_is_status_2(arguments: tuple[str, ...]) -> None:
    done = validate(*arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_an_earlier_result_is_never_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "results.json").write_text("mine")
    done = validate("--dry-run", "--out", str(out), "--cases", "V4:fp16")
    assert (out / "results.json").read_text() == "mine"
    assert re.search(r"results: .*out-2/results\.json", done.stdout)


def test_a_rate_that_does_not_fit_fails_the_command(tmp_path: Path) -> None:
    """The simulator's 16 spinning SMs stand for the measurement; 40 are stated as the truth."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from tests.hardware.validation import checks, cli; "
        "checks.number = lambda truth, key, old=checks.number: 40 / 132 if key == 'sm_frac' else old(truth, key); "
        "sys.exit(cli.main(['--dry-run', '--cases', 'V9:16', '--out', sys.argv[2]]))"
    )
    command = [*python(code), str(script().parents[2]), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "sm_active_pct" in done.stdout


def test_a_stopped_run_keeps_what_it_measured(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, str(script()), "--dry-run", "--out", str(out), "--cases", "V5,V0", "--speed", "20"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "V0:random" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        stdout, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - begun < 10
    results = json.loads((out / "results.json").read_text())
    assert results["interrupted"] is True
    assert results["items"][0]["name"] == "V0:random"
    assert "interrupted" in stdout


# --- the whole command on fakes: NVML, torch and the CUDA driver -----------------------------------

FAKES = Path(__file__).resolve().parents[1] / "hardware" / "fakes"
SHORT = """
import sys
from dataclasses import replace
from tests.hardware.validation import cli, plan
plan.PLAN = tuple(replace(w, warm_s=0.3, seconds=1.5, quick_seconds=None) for w in plan.PLAN)
sys.exit(cli.main(["--out", sys.argv[1], "--cases", sys.argv[2]]))
"""


@pytest.fixture(scope="module")
def fake_cuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fake_cuda")
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    source = str(FAKES / "fake_cuda.c")
    subprocess.run([compiler() or "cc", *flags, "-o", str(folder / "libcuda.so.1"), source], check=True)
    return folder


@pytest.mark.slow
def test_the_real_path_runs_on_fakes(fake_nvml: FakeNvml, fake_cuda: Path, tmp_path: Path) -> None:
    environment = fake_nvml.environment("h200_llm")
    environment["LD_LIBRARY_PATH"] = f"{fake_cuda}:{environment['LD_LIBRARY_PATH']}"
    environment["PYTHONPATH"] = f"{FAKES}:{environment['PYTHONPATH']}"
    cases = "V0:random,V4,V5:copy,V7:50-20ms,V8,V9:16,V1:fp8-8192,TRAIN"
    command = [*python(SHORT), str(tmp_path / "out"), cases]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["data_kind"] == "measured"
    items = {item["name"]: item for item in results["items"]}
    training = items.pop("TRAIN:gpt")  # the fake torch has no layers: this load fails, the others do not
    assert (training["status"], bool(training["stderr"])) == ("error", True)
    assert {item["status"] for item in items.values()} <= {"pass", "fail", "inconclusive"}, done.stderr
    assert all(item["measured"]["coverage_frac"] > 0.95 for item in items.values())
    assert items["V0:random"]["truth"]["flop_s"] == pytest.approx(2 * 8192**3 / 1e-3, rel=0.02)
    assert items["V9:16"]["truth"]["blocks"] == 16
    assert results["environment"]["torch"]["torch"] == "0.0+fake"
    assert results["environment"]["idle"]["engine_active_frac"] is not None
    assert done.returncode == 1
