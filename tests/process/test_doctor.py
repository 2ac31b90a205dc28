"""``satscore doctor`` as a user starts it, on drivers that lack something. On the fake NVML library."""

import json
import re
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from ctypes.util import find_library
from pathlib import Path

import msgspec
import pytest

from satscore.core.diagnosis import Diagnosis
from tests.fakes.build import FakeDcgm, FakeNvml, fake_dcgm, fake_nvml, listen
from tests.process.harness import PROGRAM, environment, finish
from tests.unit.runs import measured
from tests.unit.scenes import E1
from tests.unit.sim_runs import run_end
from tests.unit.test_session import record

__all__ = ["fake_dcgm", "fake_nvml"]

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
    "before hopper": ("a100", "", (), "grade      D", "DCGM only: a host engine and its Python bindings"),
    "old driver": ("h200_llm", "driver 470.1", NO_GPM, "grade      D", "GPM needs driver 525 or newer"),
    "build stub": ("h200_llm", "", ("nvmlInitWithFlags",), "grade      none", "ldconfig -p"),
    "mig": ("h200_llm", "set * mig 1", (), "grade      D", "use a GPU without MIG"),
    "not loaded": ("h200_llm", "error nvmlInitWithFlags 9", (), "grade      none", "kernel driver is not loaded"),
    "lost": ("h200_llm", "lost 15 from 0.3", (), "grade      none", "NOT    pipes, clocks"),
    "no clocks": ("h200_llm", "", ("nvmlDeviceGetClockInfo",), "grade      none", "NOT    clocks: not supported"),
}
NOTHING: dict[str, str] = {}
QUICK = ("no permission", "unknown gpu", "build stub")


def doctor(
    fake: FakeNvml,
    *options: str,
    script: str,
    extra: str = "",
    omit: Sequence[str] = (),
    cwd: Path | None = None,
    env: Mapping[str, str] = NOTHING,
    **added: str,
) -> "subprocess.CompletedProcess[bytes]":
    fakes = fake.environment(script, extra=extra, omit=omit)
    wanted = {name: fakes[name] for name in ("LD_LIBRARY_PATH", "FAKE_NVML_SCRIPT")}
    return finish([*DOCTOR, *options], cwd=cwd, env=environment(**(wanted | dict(env) | added)))


IDLE = "series * gpm.1 0 2\nseries * util 0 2\nseries * gpm.20 0 1\nseries * gpm.21 0 1\n"
TOOL_ROWS = """\
| GPU Boost Slider |
| GPU     Slider       Max Value    Current Value |
"""


def tool(folder: Path, says: str, then: str = "") -> dict[str, str]:
    """Return an environment with a tool in the place of nvidia-smi; empty: there is none."""
    folder = folder / "bin"
    folder.mkdir()
    if says:
        script = folder / "nvidia-smi"
        script.write_text(f"#!/bin/sh\n/bin/cat <<END\n{says}\nEND\n{then}\n")
        script.chmod(0o755)
    return {"PATH": str(folder)}


def levels(*of_gpu: int) -> str:
    """Return what nvidia-smi prints of the vBoost levels."""
    return TOOL_ROWS + "\n".join(
        f"|   {gpu}     vboost           4              {k}  |" for gpu, k in enumerate(of_gpu)
    )


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


@pytest.mark.parametrize(
    ("extra", "row", "words"),
    [
        ("series * field.144.0 0 1", "problem", "GPU 0: a memory row waits for a reset to be remapped: ask the site"),
        ("series * field.145.0 0 1", "problem", "row remapping failed: the GPU should be replaced"),
        ("series * temp 0 85\nset * slowdown 87", "problem", "GPU 0: 2 C below the temperature at which it slows"),
        ("series * pcie.lanes 0 8", "problem", "PCIe gen 5 x8 of gen 5 x16 under load: report the node"),
        (IDLE + "series * pcie.lanes 0 8", "warning", "PCIe gen 5 x8 of gen 5 x16; do: look again under load"),
        ("series * nvlink.3 0 0", "warning", "links: GPU 0: NVLink 17 of 18 active; do: report the node to the site"),
        ("process 0 4711", "warning", "on GPU 0 processes compute now"),
        ("series * field.143.0 0 3", "fine", "3 memory rows remapped, 27 C below slowdown"),
        (IDLE + "series * pcie.generation 0 1", "fine", "links: PCIe gen 1 x16 of gen 5 x16 (it rests)"),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_the_health_of_a_gpu_is_told_beside_its_grade(
    fake_nvml: FakeNvml, tmp_path: Path, extra: str, row: str, words: str
) -> None:
    done = doctor(fake_nvml, "--source", "gpm", script="h200_llm", extra=extra, env=tool(tmp_path, levels(0)))
    text = done.stdout.decode("ascii")
    assert done.returncode == 0
    assert words in unwrapped(paragraph(text, row))


def paragraph(text: str, label: str) -> str:
    """Return the lines of a screen under a label."""
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith(f"{label} ")), len(lines))
    after = (i for i in range(first + 1, len(lines)) if not lines[i].startswith(" "))
    return "\n".join(line[11:] for line in lines[first : next(after, len(lines))])


def test_a_healthy_gh200(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    done = doctor(fake_nvml, script="gh200", SATSCORE_MODULE_CAP_W="660", env=tool(tmp_path, levels(0, 0, 0, 0)))
    text = done.stdout.decode("ascii")
    assert done.returncode == 0
    assert not paragraph(text, "problem")
    assert not paragraph(text, "warning")
    fine = unwrapped(paragraph(text, "fine"))
    assert "vBoost: level 0 by nvidia-smi boost-slider -l" in fine
    assert "module cap: 660 W by SATSCORE_MODULE_CAP_W" in fine
    assert "host evidence: readable" in fine
    assert paragraph(text, "grade").startswith("B is possible here")
    assert len(text.splitlines()) <= 30


@pytest.mark.parametrize(
    ("says", "then", "environ", "words"),
    [
        ("", "", NOTHING, "nvidia-smi is not on PATH here; do: nvidia-smi with boost-slider must work here"),
        ("No such option", "exit 2", NOTHING, "it ended with status 2 (No such option); do:"),
        ("something else", "", NOTHING, "unexpected output (something else); do:"),
        (levels(0, 0, 0), "", NOTHING, "the level of GPU 3 is not told"),
        ("", "", {"SLURM_CONSTRAINT": "nvidia_vboost_enabled"}, "level 1 by SLURM_CONSTRAINT, which nobody"),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_a_vboost_level_that_is_not_told(
    fake_nvml: FakeNvml, tmp_path: Path, says: str, then: str, environ: dict[str, str], words: str
) -> None:
    done = doctor(fake_nvml, "--source", "gpm", script="gh200", env=tool(tmp_path, says, then) | environ)
    assert words in unwrapped(paragraph(done.stdout.decode("ascii"), "unknown"))


def test_what_the_site_states_of_a_module_is_asked_for(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    done = doctor(fake_nvml, "--source", "gpm", script="gh200", env=tool(tmp_path, levels(1, 1, 1, 1)))
    text = done.stdout.decode("ascii")
    unknown = unwrapped(paragraph(text, "unknown"))
    assert "module cap: none is stated, the driver's limit is taken (660 W)" in unknown
    assert "do: state the site's by SATSCORE_MODULE_CAP_W" in unknown
    assert "CPU power: the CPU's power is not read" in unknown
    assert "GPU 900 W, module 660 W, vBoost 1" in unwrapped(paragraph(text, "GPUs"))


@pytest.mark.parametrize("script", ["a100", pytest.param("h200_llm", marks=pytest.mark.slow)])
def test_vboost_is_no_gap_where_there_is_none_to_be(fake_nvml: FakeNvml, tmp_path: Path, script: str) -> None:
    done = doctor(fake_nvml, script=script, env=tool(tmp_path, ""))
    assert (b"vBoost" in done.stdout) == (script != "a100")


# ---- DCGM ----


class Bench:
    """doctor beside a DCGM engine, on one set of fakes."""

    def __init__(self, nvml: FakeNvml, dcgm: FakeDcgm, folder: Path) -> None:
        self.nvml, self.dcgm, self.folder = nvml, dcgm, folder

    def doctor(
        self,
        *options: str,
        script: str = "a100",
        extra: str = "",
        bindings: Path | None = None,
        engine: str | None = None,
        gpus: str = "",
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run it with an engine of this script; NVML has GPUs too where ``gpus`` names a script of its own."""
        fakes = self.dcgm.environment(script, extra=extra, bindings=bindings)
        added = {name: fakes[name] for name in ("SATSCORE_DCGM_BINDINGS", "LD_LIBRARY_PATH", "FAKE_DCGM_SCRIPT")}
        if gpus:
            other = self.nvml.environment(gpus)
            added["LD_LIBRARY_PATH"] += f":{other['LD_LIBRARY_PATH']}"
            added["FAKE_NVML_SCRIPT"] = other["FAKE_NVML_SCRIPT"]
        env = environment(**added, **tool(self.folder, levels(0, 0, 0, 0)))
        with listen() as address:
            return finish([*DOCTOR, "--dcgm", engine or address, *options], env=env)


@pytest.fixture
def bench(fake_nvml: FakeNvml, fake_dcgm: FakeDcgm, tmp_path: Path) -> Bench:
    return Bench(fake_nvml, fake_dcgm, tmp_path)


REFUSALS = {
    "no module": ("watch pipes -33", "datacenter-gpu-manager-4-proprietary"),
    "no permission": ("watch pipes -17", "no permission for profiling counters"),
    "held": ("watch pipes -34", "end Nsight, CUPTI or a second host engine"),
    "not supported": ("watch pipes -36", "data centre GPUs from Volta on"),
    "gone": ("call dcgmConnect* -21", "systemctl start nvidia-dcgm"),
    "other version": ("call dcgmConnect* -12", "are of different major versions"),
    "crash": ("crash dcgmGroupCreate", "it died of signal 6"),
    "other GPUs": ("value 0 54 GPU-99999999-0000-0000-0000-000000000000", "name the host engine of this node"),
}


@pytest.mark.parametrize("case", [c if c == "no module" else pytest.param(c, marks=pytest.mark.slow) for c in REFUSALS])
def test_what_an_engine_refuses_has_its_own_remedy_and_decides_the_grade(bench: Bench, case: str) -> None:
    extra, words = REFUSALS[case]
    done = bench.doctor(extra=extra, gpus="a100")
    text = done.stdout.decode("ascii")
    (row,) = [text for text in rows_of(text, "sources") if text.startswith("dcgm   NO ")]
    assert words in unwrapped(row)
    grade = unwrapped(paragraph(text, "grade"))
    assert (done.returncode, grade.startswith("D is possible here, which is no score: DCGM, host engine")) == (1, True)
    assert len(text.splitlines()) <= 30


def rows_of(text: str, label: str) -> list[str]:
    """Return the rows under a label, each with the lines that follow it."""
    return re.split(r"\n(?! )", paragraph(text, label))


def test_nobody_listens(bench: Bench, tmp_path: Path) -> None:
    done = bench.doctor("--source", "dcgm", engine=f"unix://{tmp_path}/engine")
    text = unwrapped(done.stdout.decode("ascii"))
    assert done.returncode == 1
    assert "No such file or directory; start one (systemctl start nvidia-dcgm), or name it" in text


@pytest.mark.slow
def test_an_engine_that_hangs_ends_doctor_in_time(bench: Bench) -> None:
    done = bench.doctor("--source", "dcgm", extra="engine hang")
    assert done.returncode == 1
    assert "no answer for 10 s" in unwrapped(done.stdout.decode("ascii"))


@pytest.mark.slow
def test_bindings_that_are_no_match_are_named(bench: Bench, tmp_path: Path) -> None:
    """The library is of 4.6: bindings of 3.3 do not find theirs."""
    done = bench.doctor("--source", "dcgm", bindings=bench.dcgm.bindings("3.3.9"))
    assert "put its folder into LD_LIBRARY_PATH" in unwrapped(done.stdout.decode("ascii"))


@pytest.mark.slow
def test_a_folder_without_bindings_is_named(bench: Bench, tmp_path: Path) -> None:
    done = bench.doctor("--source", "dcgm", bindings=tmp_path)
    assert "which has no dcgm_agent.py and no dcgm_structs.py" in unwrapped(done.stdout.decode("ascii"))


def test_counters_that_are_paused_come_without_values(bench: Bench) -> None:
    done = bench.doctor(extra="paused 1", gpus="a100")
    text = done.stdout.decode("ascii")
    assert done.returncode == 1
    assert "held by another profiler" in unwrapped(paragraph(text, "problem"))
    assert "'dcgmi profile --resume' ends a pause" in unwrapped(paragraph(text, "problem"))
    assert paragraph(text, "grade").startswith("none is possible here")


def test_counters_that_take_turns_are_grade_c_with_the_reason(bench: Bench) -> None:
    done = bench.doctor(gpus="a100")
    text = done.stdout.decode("ascii")
    assert done.returncode == 1
    assert "dcgm yes pipe counters and gauges of 1 GPU " in unwrapped(text)
    assert "GPU 0 cannot count all pipe counters at once" in unwrapped(paragraph(text, "warning"))
    assert paragraph(text, "grade").startswith("C is possible here: pipe counters of this GPU take turns")
    assert text.count("take turns") == 1


@pytest.mark.slow
def test_a_good_engine_is_enough_without_the_drivers_library(bench: Bench) -> None:
    done = bench.doctor("--source", "dcgm", script="h200")
    text = done.stdout.decode("ascii")
    assert done.returncode == 0
    assert "by dcgm" in text
    assert not paragraph(text, "problem")


# ---- beside the counters ----


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
    assert {s["status"] for s in found["sources"] if s["name"] != "sim"} == {"not tried"}
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
