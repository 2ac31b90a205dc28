"""``satscore doctor`` as a user starts it, on drivers that lack something. On the fake NVML library."""

import json
import re
import socket
import subprocess
import time
from collections.abc import Sequence
from ctypes.util import find_library
from pathlib import Path

import msgspec
import pytest

from satscore.core.diagnosis import Diagnosis
from tests.fakes.build import FakeNvml, fake_nvml
from tests.process.harness import PROGRAM, environment, finish
from tests.unit.runs import measured
from tests.unit.scenes import E1
from tests.unit.sim_runs import run_end
from tests.unit.test_session import record

__all__ = ["fake_nvml"]

DOCTOR = [*PROGRAM, "doctor"]
NO_GPM = (
    "nvmlGpmQueryDeviceSupport",
    "nvmlGpmSampleAlloc",
    "nvmlGpmSampleGet",
    "nvmlGpmMetricsGet",
    "nvmlGpmSampleFree",
)
CASES: dict[str, tuple[str, str, Sequence[str], str, str]] = {
    # script, more of it, missing symbols; the last row begins with; something that the screen says
    "no permission": ("h100_no_permission", "", (), "grade      D", "no permission to read pipe counters"),
    "unknown gpu": (
        "h200_llm",
        "set * name NVIDIA X900",
        (),
        "grade      none",
        "add x900.toml to ~/.config/satscore/hwmodels (docs/hwmodels.md)",
    ),
    "before hopper": ("a100", "", (), "grade      D", "exist through DCGM only"),
    "old driver": ("h200_llm", "driver 470.1", NO_GPM, "grade      D", "GPM needs driver 525 or newer"),
    "build stub": ("h200_llm", "", ("nvmlInitWithFlags",), "grade      none", "ldconfig -p"),
    "mig": ("h200_llm", "set * mig 1", (), "grade      D", "use a GPU without MIG"),
    "not loaded": ("h200_llm", "error nvmlInitWithFlags 9", (), "grade      none", "kernel driver is not loaded"),
    "lost": ("h200_llm", "lost 15 from 0.3", (), "grade      none", "NOT    pipes, clocks"),
    "no clocks": ("h200_llm", "", ("nvmlDeviceGetClockInfo",), "grade      none", "NOT    clocks: not supported"),
}
QUICK = ("no permission", "unknown gpu", "build stub")


def doctor(
    fake: FakeNvml,
    *options: str,
    script: str,
    extra: str = "",
    omit: Sequence[str] = (),
    cwd: Path | None = None,
    **added: str,
) -> "subprocess.CompletedProcess[bytes]":
    fakes = fake.environment(script, extra=extra, omit=omit)
    wanted = {name: fakes[name] for name in ("LD_LIBRARY_PATH", "FAKE_NVML_SCRIPT")}
    return finish([*DOCTOR, *options], cwd=cwd, env=environment(**(wanted | added)))


def unwrapped(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in CASES])
def test_every_gap_is_said_with_what_to_do(fake_nvml: FakeNvml, case: str) -> None:
    script, extra, omit, last, words = CASES[case]
    done = doctor(fake_nvml, script=script, extra=extra, omit=omit)
    text = done.stdout.decode("ascii")
    assert (done.returncode, done.stderr) == (1, b"")
    assert unwrapped(words) in unwrapped(text)
    rows = [line for line in text.splitlines() if not line.startswith(" ")]
    assert rows[-1].startswith(last)
    assert max(map(len, text.splitlines())) <= 100
    assert len(text.splitlines()) <= 30


def test_a_good_gpu(fake_nvml: FakeNvml) -> None:
    done = doctor(fake_nvml, script="h200_llm")
    text = done.stdout.decode("ascii")
    grade = text[text.index("grade ") :].split()[1]
    assert done.returncode == (0 if grade in "AB" else 1)
    assert "gpm    yes pipe counters and gauges of 1 GPU " in text
    assert "known  pipes, clocks, power GPU, throttle reasons" in text
    assert "problem" not in text


def test_the_json_can_be_pasted_into_an_issue(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    home = tmp_path / "dave"
    (home / "secretproject" / "runs_carol").mkdir(parents=True)
    uuid = "GPU-00000000-0000-0000-0000-000000000002"
    done = doctor(
        fake_nvml,
        "--json",
        "out.json",
        script="gh200",
        cwd=home / "secretproject",
        HOME=str(home),
        USER="alice",
        LOGNAME="bob",
        SLURM_JOB_USER="carol",
        SATSCORE_OUT="runs_carol/alice/new",
        SATSCORE_HWMODELS="bob/models:/home/erin/models",
        CUDA_VISIBLE_DEVICES=uuid,
    )
    text = (home / "secretproject" / "out.json").read_text()
    found = msgspec.json.decode(text, type=Diagnosis)
    for hidden in (socket.gethostname(), str(home), uuid, "alice", "bob", "carol", "dave", "erin"):
        alone = re.compile(rf"(?<![^\W_]){re.escape(hidden)}(?![^\W_])")
        assert not alone.search(text)
        assert not alone.search(done.stdout.decode())
    gpm = next(source.examined for source in found.sources if source.name == "gpm")
    assert gpm is not None
    assert [(gpu.number, gpu.uuid) for gpu in gpm.gpus] == [(2, "GPU-00000000")]
    assert gpm.gpus_shown_count == 4
    assert any(check.text == "1 of 4, hidden are 3 by CUDA_VISIBLE_DEVICES" for check in found.checks)
    assert any("~/secretproject/runs_..." in check.text for check in found.checks)
    assert any("/home/.../models" in note for note in gpm.notes)


def test_simulated_is_marked_and_passes(tmp_path: Path) -> None:
    done = finish([*DOCTOR, "--source", "sim:gh200x4", "--json", str(tmp_path / "doctor.json")])
    found = json.loads((tmp_path / "doctor.json").read_text())
    assert (done.returncode, found["data_kind"], found["best"], found["grade"]) == (0, "simulated", "sim", "B")
    assert {s["status"] for s in found["sources"] if s["name"] != "sim"} == {"not tried", "not read"}
    assert "| SIMULATED (sim:gh200x4) |" in done.stdout.decode("ascii").splitlines()[0]


def test_slow_simulations_and_replays_are_looked_at_in_real_time(tmp_path: Path) -> None:
    record(tmp_path / "run", measured([(0.2, E1)] * 10), batch=5, end=run_end(2.0, []))
    for source in ("sim:llm,speed=0.01", f"replay:{tmp_path / 'run'},speed=0.01"):
        done = finish([*DOCTOR, "--source", source])
        text = done.stdout.decode("ascii")
        assert "hangs" not in text
        assert "driver" not in text
        assert (done.returncode, "\ngrade      B is possible" in text) == (0, True)


@pytest.mark.slow
def test_json_on_standard_output_is_all_that_is_there() -> None:
    done = finish([*DOCTOR, "--source", "sim", "--json"])
    assert json.loads(done.stdout)["data_kind"] == "simulated"


@pytest.mark.skipif(find_library("nvidia-ml") is not None, reason="this machine has the driver's library")
def test_no_driver_library() -> None:
    done = finish(DOCTOR, env=environment(LD_LIBRARY_PATH=""))
    text = unwrapped(done.stdout.decode("ascii"))
    assert done.returncode == 1
    assert "libnvidia-ml.so.1 was not found" in text
    assert "--gpus all, --nv" in text
    assert "nvml NO as gpm" in text


@pytest.mark.slow
@pytest.mark.parametrize("where", ["nvmlInitWithFlags", "nvmlDeviceGetFieldValues from 0.5", "nvmlShutdown"])
def test_a_driver_that_hangs_ends_doctor_in_time_with_a_line(fake_nvml: FakeNvml, where: str) -> None:
    begun = time.monotonic()
    done = doctor(fake_nvml, script="h200_llm", extra=f"hang {where}")
    assert time.monotonic() - begun < 15.0
    assert done.returncode == 1
    assert "no answer in time" in done.stdout.decode()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--source", "abacus"], "--source: 'abacus' is not a source"),
        (["--source", "replay:nodir"], "--source: nodir: No such file or directory"),
        (["--jsn"], "satscore doctor: unrecognized arguments: --jsn"),
        pytest.param(["--source", "sim", "--json", "/no/such/x"], "cannot write /no/such/x", marks=pytest.mark.slow),
    ],
)
def test_wrong_usage_is_125(words: list[str], message: str) -> None:
    done = finish([*DOCTOR, *words])
    assert (done.returncode, done.stdout) == (125, b"")
    assert message in done.stderr.decode()


def test_the_process_that_forks_has_no_threads_of_numpy() -> None:
    script = "import sys, satscore.cli.doctor; print('numpy' in sys.modules)"
    assert finish([PROGRAM[0], "-c", script]).stdout == b"False\n"
