"""A run on a DCGM engine that ends, hangs and comes back: the command never notices, the summary says when.

On the fake of DCGM's library (tests/fakes/dcgm), through the program and its own process as a user starts them.
"""

import functools
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.build import FakeDcgm, FakeNvml, fake_dcgm, fake_nvml, listen
from tests.process.harness import (
    PATIENT,
    PROGRAM,
    TIMEOUT_S,
    environment,
    finish,
    lives,
    running,
    wait_for,
)

__all__ = ["fake_dcgm", "fake_nvml"]

COMMAND = "import sys, time; print('out'); print('err', file=sys.stderr); time.sleep(%s); sys.exit(7)"


@pytest.fixture(name="engine")
def _engine() -> Iterator[str]:
    with listen() as address:
        yield address


class Run:
    """A run on a script that the test may change, with its summary."""

    def __init__(self, fake: FakeDcgm, folder: Path, engine: str, script: str = "h200", extra: str = "") -> None:
        self.fake = fake
        self.script, self.name = fake.script(script, extra), script
        self.json = folder / "summary.json"
        self.recording = folder / "run"
        fakes = fake.environment(self.script)
        wanted = ("SATSCORE_DCGM_BINDINGS", "LD_LIBRARY_PATH", "FAKE_DCGM_SCRIPT")
        self.env = environment(**PATIENT, **{name: fakes[name] for name in wanted})
        self.words = [
            *PROGRAM,
            *("--source", "dcgm", "--dcgm", engine, "--json", str(self.json), "--out", str(self.recording)),
            *("--record", "full", "--quiet", "--"),
        ]

    def change(self, extra: str) -> None:
        self.fake.change(self.script, self.name, extra)

    def size(self) -> int:
        """The bytes that are recorded so far."""
        return sum(file.stat().st_size for file in self.recording.glob("readings-*.arrows"))

    def wait_for_readings(self, batches: int = 1) -> None:
        """Wait until more readings have been recorded, a batch every second or five."""
        for _ in range(batches):
            seen = wait_for(self.size, "the recording")
            wait_for(functools.partial(self.has_more_than, seen), "more readings")

    def has_more_than(self, size: int) -> bool:
        return self.size() > size

    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads(self.json.read_text())
        return summary


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def test_a_run_on_dcgm_has_a_score(fake_dcgm, tmp_path, engine):
    run = Run(fake_dcgm, tmp_path, engine)
    done = finish([*run.words, *python(COMMAND % 3)], env=run.env)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    summary = run.summary()
    assert summary["source"]["name"] == "dcgm"
    assert summary["headline"]["score_pct"] is not None
    assert not outages(run)


def notes_of(summary: dict[str, Any]) -> list[str]:
    notes: list[str] = summary["notes"]
    return notes


def python_until(file: Path) -> list[str]:
    """A command that ends with status 7 when a file is there."""
    return python(
        "import os, sys, time; print('out', flush=True)\n"
        f"while not os.path.exists({str(file)!r}): time.sleep(0.01)\nprint('end'); sys.exit(7)"
    )


@pytest.mark.slow
@pytest.mark.parametrize("away", ["engine dead", "engine hang"])
def test_an_engine_that_goes_and_comes_back_in_mid_run(fake_dcgm, tmp_path, engine, away):
    run, end = Run(fake_dcgm, tmp_path, engine), tmp_path / "end"
    with running([*run.words, *python_until(end)], env=run.env) as process:
        run.wait_for_readings()
        first = worker_of(process.pid)
        assert first
        run.change(away)
        wait_for(lambda: not lives(first), "the end of the process that hangs")
        run.change("engine up\ngeneration 1")
        wait_for(lambda: worker_of(process.pid) not in (first, None), "another process", 2 * TIMEOUT_S)
        run.wait_for_readings(2)
        end.touch()
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, out, err) == (7, b"out\nend\n", b"")
    (note,) = outages(run)
    assert re.search(r"from \d\d:\d\d:\d\d to \d\d:\d\d:\d\d \(UTC\)", note), note
    assert "readings went on afterwards" in note


def outages(run: Run) -> list[str]:
    return [note for note in notes_of(run.summary()) if "nothing was read" in note]


def worker_of(wrapper: int) -> int | None:
    """The process that reads DCGM, among the children of the wrapper."""
    for task in Path(f"/proc/{wrapper}/task").iterdir():  # any thread of ours may have started it
        try:
            children = (task / "children").read_text().split()
            found = [pid for pid in children if b"dcgm.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        except OSError:
            continue
        if found:
            return int(found[0])
    return None


def test_an_engine_that_stays_away_costs_nothing_but_the_readings(fake_dcgm, tmp_path, engine):
    run, end = Run(fake_dcgm, tmp_path, engine), tmp_path / "end"
    with running([*run.words, *python_until(end)], env=run.env) as process:
        run.wait_for_readings()
        first = worker_of(process.pid)
        assert first
        run.change("engine dead")
        wait_for(lambda: not lives(first), "the end of the process that reads DCGM")
        time.sleep(0.5)  # a read that finds it gone
        end.touch()
        out, _ = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, out) == (7, b"out\nend\n")
    (note,) = outages(run)
    assert re.search(r"from \d\d:\d\d:\d\d \(UTC\) on", note), note


@pytest.mark.slow
def test_the_process_that_reads_is_killed_and_another_goes_on(fake_dcgm, tmp_path, engine):
    run, end = Run(fake_dcgm, tmp_path, engine), tmp_path / "end"
    with running([*run.words, *python_until(end)], env=run.env) as process:
        run.wait_for_readings()
        first = worker_of(process.pid)
        assert first
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: worker_of(process.pid) not in (first, None), "another process")
        run.wait_for_readings(2)
        end.touch()
        process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 7
    (note,) = outages(run)
    assert "signal 9" in note
    assert "readings went on" in note


@pytest.mark.parametrize(("extra", "words"), [
    ("watch pipes -33", "datacenter-gpu-manager-4-proprietary"),
    ("crash dcgmGroupCreate", "process that reads DCGM ended: it died of signal 6"),
    ("print dcgmEntitiesGetLatestValues\ncall dcgmConnect* -21", "no host engine answers"),
])  # fmt: skip
def test_an_engine_that_cannot_be_read_leaves_the_command_alone(fake_dcgm, tmp_path, engine, extra, words):
    run = Run(fake_dcgm, tmp_path, engine, extra=extra)
    done = finish([*run.words, *python(COMMAND % 4)], env=run.env)  # long enough for the answer on a busy machine
    assert (done.returncode, done.stdout) == (7, b"out\n")
    assert words in json.dumps(run.summary())


def test_nothing_listens(fake_dcgm, tmp_path):
    run = Run(fake_dcgm, tmp_path, f"unix://{tmp_path}/engine")
    done = finish([*run.words, *python(COMMAND % 0.2)], env=run.env)
    assert done.returncode == 7
    assert "No such file or directory" in json.dumps(run.summary())


@pytest.mark.slow
def test_both_sources_agree_on_the_fakes_of_the_same_gpus(fake_dcgm, fake_nvml: FakeNvml, tmp_path, engine):
    run = Run(fake_dcgm, tmp_path, engine)
    nvml = fake_nvml.environment("h200_llm")
    path = f"{run.env['LD_LIBRARY_PATH']}:{nvml['LD_LIBRARY_PATH']}"
    env = run.env | {"LD_LIBRARY_PATH": path, "FAKE_NVML_SCRIPT": nvml["FAKE_NVML_SCRIPT"]}
    words = ["both" if word == "dcgm" else word for word in run.words]
    done = finish([*words, *python(COMMAND % 4)], env=env)
    assert done.returncode == 7
    summary = run.summary()
    assert summary["source"]["name"] == "both"
    (note,) = [note for note in notes_of(summary) if note.startswith("GPM and DCGM over")]
    assert float(re.findall(r"(\d\.\d+) by GPM", note)[0]) == pytest.approx(
        float(re.findall(r"(\d\.\d+) by DCGM", note)[0]), abs=0.05
    )
