"""``satscore watch`` and ``satscore demo``: a measurement without a command, ended by time or by a signal."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.fakes.build import FakeDcgm, FakeNvml, fake_dcgm, fake_nvml, listen
from tests.process.harness import PATIENT, PROGRAM, ROOT, TIMEOUT_S, environment, finish, lives, running, wait_for

__all__ = ["fake_dcgm", "fake_nvml"]

WATCH = [*PROGRAM, "watch"]
SIM = ["--source", "sim:gh200x4,speed=20"]


def has_readings(out: Path) -> bool:
    """Whether something is on disk: then several reads have been taken."""
    return any(path.stat().st_size > 20_000 for path in out.glob("readings-*.arrows"))


def summary(out: Path) -> Any:
    return json.loads((out / "summary.json").read_text())


def patient(**added: str) -> dict[str, str]:
    return environment(**(PATIENT | added))


@pytest.mark.parametrize("name", ["INT", pytest.param("TERM", marks=pytest.mark.slow), "HUP"])
def test_a_signal_ends_it_with_the_score_and_a_second_one_loses_nothing(name: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    signo = getattr(signal, f"SIG{name}")
    with running([*WATCH, *SIM, "--out", str(out)], env=patient()) as process:
        wait_for(lambda: has_readings(out) or not lives(process.pid), "a batch of readings")
        process.send_signal(signo)

        def ended() -> bool:
            if process.poll() is None:
                process.send_signal(signo)
            return process.poll() is not None

        wait_for(ended, "the end")
        text = process.stderr.read().decode() if process.stderr else ""
    assert process.returncode == 0
    result = summary(out)
    run = result["run"]
    assert (run["kind"], run["command"], run["exit_code"], run["exit_signal"]) == ("watch", [], None, None)
    assert (result["data_kind"], run["finished"], result["headline"]["kind"]) == ("simulated", True, "total")
    assert "| watch |" in text
    assert "not affected" not in text


def test_a_hangup_that_was_ignored_at_the_start_stays_ignored(tmp_path: Path) -> None:
    out = tmp_path / "run"
    script = 'trap "" HUP; exec "$@"'
    with running(["sh", "-c", script, "sh", *WATCH, "--source", "sim:gh200x4,speed=100", "--out", str(out)]) as process:
        wait_for(lambda: has_readings(out), "a batch of readings")
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        masks = {
            line.split()[0]: int(line.split()[1], 16) for line in lines if line.startswith("Sig") and "/" not in line
        }
        hangup = 1 << (signal.SIGHUP - 1)
        assert (masks["SigBlk:"] & hangup, masks["SigIgn:"] & hangup) == (0, hangup)
        assert lives(process.pid)


def test_the_duration_ends_it(tmp_path: Path) -> None:
    done = finish(
        [*WATCH, *SIM, "--duration", "1", "--json", "s.json"], cwd=tmp_path, env=patient(SATSCORE_FORWARD="never")
    )
    assert (done.returncode, done.stdout) == (0, b"")
    result = json.loads((tmp_path / "s.json").read_text())
    # A second of real time is 20 simulated ones; on a loaded machine the first read comes late.
    assert result["run"]["observed_s"] > 2.0
    assert result["run"]["directory"].endswith("-watch")
    assert b"SIMULATED (sim:gh200x4,speed=20) | watch |" in done.stderr


def test_real_counters_without_a_command(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    fakes = fake_nvml.environment("gh200")
    wanted = {name: fakes[name] for name in ("LD_LIBRARY_PATH", "FAKE_NVML_SCRIPT")}
    done = finish(
        [*WATCH, "--duration", "1", "--quiet", "--record", "no", "--json", "s.json"],
        cwd=tmp_path,
        env=patient(**wanted),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    result = json.loads((tmp_path / "s.json").read_text())
    assert (result["data_kind"], result["source"]["name"], result["job"]["gpus_count"]) == ("measured", "gpm", 4)


def test_a_host_engine_is_read_without_a_command(fake_dcgm: FakeDcgm, tmp_path: Path) -> None:
    fakes = fake_dcgm.environment("h200")
    wanted = {name: fakes[name] for name in ("SATSCORE_DCGM_BINDINGS", "LD_LIBRARY_PATH", "FAKE_DCGM_SCRIPT")}
    out = tmp_path / "run"
    with listen() as engine:
        words = ["--source", "dcgm", "--dcgm", engine, "--duration", "2.5", "--out", str(out)]
        done = finish([*WATCH, *words], env=patient(**wanted))
    result = summary(out)
    assert (done.returncode, result["source"]["name"]) == (0, "dcgm")
    assert result["job"]["score"]["score_pct"] is not None
    assert result["cost"]["helper_cpu_s"] > 0


def test_without_counters_it_ends_at_once_with_1_and_the_reason(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    fakes = fake_nvml.environment("h200_llm", omit=("nvmlInitWithFlags",))
    wanted = {name: fakes[name] for name in ("LD_LIBRARY_PATH", "FAKE_NVML_SCRIPT")}
    done = finish(WATCH, cwd=tmp_path, env=patient(**wanted))
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"satscore: no score: NVML: the driver library is too old")
    assert not list(tmp_path.iterdir())


def test_a_driver_that_hangs_at_the_start_does_not_hang_it(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    fakes = fake_nvml.environment("h200_llm", extra="hang nvmlInitWithFlags")
    wanted = {name: fakes[name] for name in ("LD_LIBRARY_PATH", "FAKE_NVML_SCRIPT")}
    done = finish([*WATCH, "--duration", "0.5"], cwd=tmp_path, env=environment(SATSCORE_EXIT_WAIT_S="0.2", **wanted))
    assert done.returncode == 1
    assert done.stderr.startswith(b"satscore: no score: the driver had not answered")


@pytest.mark.parametrize(("lowest", "status"), [("99", 3), pytest.param("1", 0, marks=pytest.mark.slow)])
def test_the_gate_of_a_run_holds_here_too(lowest: str, status: int, tmp_path: Path) -> None:
    words = [*WATCH, *SIM, "--duration", "1", "--quiet", "--record", "no", "--fail-under", lowest]
    done = finish(words, cwd=tmp_path, env=patient())
    assert done.returncode == status
    assert done.stderr.startswith(f"satscore: --fail-under {lowest} judged SIMULATED data (sim:".encode())
    assert (b"the score is" in done.stderr) == (status == 3)


def test_a_recording_of_a_watch_that_was_killed_passes_no_gate(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with running([*WATCH, "--source", "sim:gh200x4,speed=100", "--out", str(out)]) as process:
        wait_for(lambda: has_readings(out), "a batch of readings")
        process.kill()
        process.wait(TIMEOUT_S)
    done = finish([*PROGRAM, "report", str(out), "--json", "-", "--fail-under", "1"])
    assert json.loads(done.stdout)["headline"]["score_pct"] > 1
    assert done.returncode == 5
    assert b"satscore: --fail-under 1: not judged: the run's end is not recorded: exit 5\n" in done.stderr


@pytest.mark.parametrize("name", ["watch", "doctor", "demo"])
def test_an_interrupt_during_the_imports_ends_it_without_a_traceback(name: str, tmp_path: Path) -> None:
    """The module of the subcommand is one that takes for ever to import."""
    (tmp_path / "endless.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(600)\n")
    code = "from satscore.cli import main; import sys; main.SUBCOMMANDS[sys.argv[1]] = 'endless'; main.entry_point()"
    env = environment() | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    with running([PROGRAM[0], "-c", code, name], env=env) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == -signal.SIGINT
        assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["watch", "--forward", "never"], "--forward: watch starts no command"),
        (["watch", "--", "sleep", "1"], "watch takes no command"),
        (["watch", "sleep"], "watch takes no command"),
        (["watch", "--duration", "0"], "--duration: 0 s is out of range"),
        (["watch", "--duration=soon"], "--duration: 'soon' is not a number of seconds"),
        (["watch", "--duratoin", "1"], "did you mean --duration?"),
        (["demo", "--duration", "x"], "satscore demo: --duration: 'x' is not a number of seconds"),
        (["demo", "x"], "satscore demo: unrecognized arguments: x"),
    ],
)
def test_wrong_usage_is_125(words: list[str], message: str) -> None:
    done = finish([*PROGRAM, *words])
    assert (done.returncode, done.stdout) == (125, b"")
    assert message in done.stderr.decode()


def test_help_lists_what_makes_sense_without_a_command() -> None:
    for words in (["watch", "--help"], ["demo", "--help"], ["doctor", "--help"]):
        done = finish([*PROGRAM, *words])
        text = done.stdout.decode()
        assert (done.returncode, done.stderr) == (0, b"")
        assert max(map(len, text.splitlines())) <= 100
        assert "examples:" in text
        assert "--forward" not in text


def test_demo_says_simulated_and_its_recording_can_be_reported(tmp_path: Path) -> None:
    out = tmp_path / "d"
    done = finish([*PROGRAM, "demo", "--duration", "1", "--out", str(out)], cwd=tmp_path, env=patient())
    text = done.stderr.decode()
    assert (done.returncode, done.stdout) == (0, b"")
    assert text.startswith("satscore demo: SIMULATED")
    assert "\nSIMULATED: nothing above was measured" in text
    assert f"satscore report {out}" in text
    assert "\r" not in text
    assert "0:20 simulated minutes in 1 s" in text
    assert max(map(len, text.splitlines())) <= 100
    assert summary(out)["data_kind"] == "simulated"
    again = finish([*PROGRAM, "report", str(out)])
    assert again.returncode == 0
    assert b"| SIMULATED (sim:gh200x4,speed=20) | demo | watch |" in again.stdout


def test_demo_names_no_recording_that_is_not_there(tmp_path: Path) -> None:
    done = finish([*PROGRAM, "demo", "--duration", "0.5", "--out", "/proc/nope"], cwd=tmp_path, env=patient())
    assert done.returncode == 0
    assert b"satscore report" not in done.stderr
    assert b"\n  satscore doctor " in done.stderr


def test_demo_quotes_the_name_of_its_recording(tmp_path: Path) -> None:
    done = finish([*PROGRAM, "demo", "--duration", "0.5", "--out", "a run"], cwd=tmp_path, env=patient())
    assert b"\n  satscore report 'a run'\n" in done.stderr


@pytest.mark.slow
def test_demo_rewrites_one_line_on_a_terminal(tmp_path: Path) -> None:
    words = ["-m", "satscore", "demo", "--duration", "1", "--out", str(tmp_path / "d")]
    child = pexpect.spawn(PROGRAM[0], words, env=patient(), timeout=TIMEOUT_S, dimensions=(30, 100))
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert child.before.count(b"\r[") >= 2
    assert b"SIMULATED 0:00 of 0:20 min" in child.before


def test_a_closed_terminal_hurts_nothing(tmp_path: Path) -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    words = [*PROGRAM, "demo", "--duration", "0.5", "--out", str(tmp_path / "d")]
    done = subprocess.run(words, stderr=write_fd, env=patient(), timeout=TIMEOUT_S, check=False)
    os.close(write_fd)
    assert done.returncode == 0
    assert (tmp_path / "d" / "summary.json").exists()
