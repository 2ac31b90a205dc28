"""Power of CPU and module by a host engine that knows CPUs, through the program, on the fake of DCGM's library."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.build import FakeDcgm, fake_dcgm, listen
from tests.process.harness import PATIENT, PROGRAM, environment, finish

__all__ = ["fake_dcgm"]

POWERS = "\n".join(f"value cpu{cpu} 1130 {100 + cpu}\nvalue cpu{cpu} 1133 {600 + cpu}" for cpu in range(4))


def summary_of(fake: FakeDcgm, folder: Path, extra: str) -> dict[str, Any]:
    """Run for some seconds on four modules, whose GPUs the engine counts from the last one on."""
    swapped = "\n".join(
        f"value {gpu} {70 + at} {word}"
        for gpu, words in enumerate(
            [(0, 0, 0, -16777216), (0, 0, -65536, 16777215), (0, -256, 65535, 0), (-1, 255, 0, 0)]
        )
        for at, word in enumerate(words)
    )
    fakes = fake.environment("gh200", extra=f"{swapped}\n{POWERS}\n{extra}")
    wanted = ("SATSCORE_DCGM_BINDINGS", "LD_LIBRARY_PATH", "FAKE_DCGM_SCRIPT")
    env = environment(**PATIENT, **{name: fakes[name] for name in wanted})
    file = folder / "summary.json"
    with listen() as engine:
        words = ["--source", "dcgm", "--dcgm", engine, "--json", str(file), "--out", str(folder / "run"), "--quiet"]
        command = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(3)"]
        assert finish([*PROGRAM, *words, "--", *command], env=env).returncode == 0
    summary: dict[str, Any] = json.loads(file.read_text())
    return summary


def powers(summary: dict[str, Any], name: str) -> list[float | None]:
    return [gpu["rates"][name] for gpu in summary["ranks"][0]["gpus"]]


def test_each_gpu_has_the_power_of_its_own_cpu_and_module(fake_dcgm: FakeDcgm, tmp_path: Path) -> None:
    summary = summary_of(fake_dcgm, tmp_path, "")
    assert powers(summary, "power_cpu_w") == pytest.approx([103, 102, 101, 100])
    assert powers(summary, "power_module_w") == pytest.approx([603, 602, 601, 600])
    assert not [note for note in summary["notes"] if "CPU's power" in note or "CPUs" in note]


def test_what_the_engine_does_not_know_is_unknown_and_said(fake_dcgm: FakeDcgm, tmp_path: Path) -> None:
    summary = summary_of(fake_dcgm, tmp_path, "value 1 70-73 blank\nwatch 1133 -17")
    assert powers(summary, "power_cpu_w")[1] is None
    assert powers(summary, "power_cpu_w")[0] == pytest.approx(103)
    assert powers(summary, "power_module_w") == [None] * 4
    assert [note for note in summary["notes"] if note.startswith("GPU 1: which of the host engine's CPUs")]
    assert [note for note in summary["notes"] if "power_module_w: no permission" in note]
