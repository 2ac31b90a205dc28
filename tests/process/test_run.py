"""Whole runs as a user starts them: numbers, files, a killed wrapper, a full disk, no GPU."""

import json
import os
import resource
import shlex
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.process.harness import PROGRAM, ROOT, environment, finish, lives, running, sampled, wait_for

SCHEMA = json.loads((ROOT / "docs" / "summary.schema.json").read_text())


def satscore(*words: str) -> list[str]:
    return [*PROGRAM, *words]


def summary_of(directory: Path) -> Any:
    return json.loads((directory / "summary.json").read_text())


def loss_points(loss: list[dict[str, Any]]) -> float:
    return float(sum(part["points_pct"] for part in loss))


def test_simulated_training_is_scored_and_marked(tmp_path):
    run = tmp_path / "run"
    done = finish(satscore("--source", "sim:llm,speed=20", "--out", str(run), "--", *sampled(1.5)))
    assert done.returncode == 0
    assert done.stdout == b""
    text = done.stderr.decode()
    assert "SIMULATED (sim:llm,speed=20)" in text
    assert "short run" in text
    summary = summary_of(run)
    jsonschema.validate(summary, SCHEMA)
    score = summary["job"]["score"]
    assert score["score_pct"] == pytest.approx(53, abs=1.5)
    assert score["score_hi_pct"] == pytest.approx(81, abs=3)
    for tree, top in (("datasheet", "score_pct"), ("attainable", "score_attainable_pct")):
        assert loss_points(summary["job"]["loss"][tree]) + score[top] == pytest.approx(100, abs=1e-6)
    assert summary["data_kind"] == "simulated"
    assert summary["cost"]["cpu_s"] > 0


def test_report_equals_what_was_printed(tmp_path):
    run = tmp_path / "run"
    command = ["sh", "-c", f"{shlex.join(sampled(1))}; exit 5"]
    done = finish(satscore("--source", "sim:gh200x4,speed=20", "--out", str(run), "--", *command))
    assert done.returncode == 5
    report = finish(satscore("report", str(run)))
    assert report.returncode == 0
    assert report.stdout.decode().strip() == done.stderr.decode().strip()
    as_json = finish(satscore("report", str(run), "--json", "-"))
    assert as_json.stdout == (run / "summary.json").read_bytes()


def test_json_of_four_gpus_validates(tmp_path):
    target = tmp_path / "s.json"
    done = finish(
        satscore("--source", "sim:gh200x4,speed=20", "--record", "no", "--json", str(target), "--", *sampled(1)),
        cwd=tmp_path,
    )
    assert done.returncode == 0
    summary = json.loads(target.read_text())
    jsonschema.validate(summary, SCHEMA)
    assert summary["job"]["gpus_count"] == 4
    assert [gpu["index"] for gpu in summary["ranks"][0]["gpus"]] == [0, 1, 2, 3]
    assert list(tmp_path.iterdir()) == [target]


def test_default_directory_is_private_and_named_after_the_label(tmp_path):
    done = finish(satscore("--source", "sim:gemm,speed=20", "--label", "night ly", "--", *sampled(0.5)), cwd=tmp_path)
    assert done.returncode == 0
    (run,) = (tmp_path / "satscore-runs").iterdir()
    assert run.name.endswith("-night-ly")
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in run.iterdir()} == {0o600}
    assert {file.name.partition("-")[0] for file in run.iterdir()} == {"run.json", "summary.json", "readings"}


def test_without_a_gpu_the_command_runs_and_one_line_says_why(tmp_path):
    done = finish(satscore("--", "true"), cwd=tmp_path, env=environment(LD_LIBRARY_PATH=""))
    assert done.returncode == 0
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("satscore: no score: ")
    assert list(tmp_path.iterdir()) == []


def test_without_a_gpu_requested_json_says_why(tmp_path):
    target = tmp_path / "s.json"
    done = finish(satscore("--json", str(target), "--", "sh", "-c", "exit 3"), cwd=tmp_path)
    assert done.returncode == 3
    summary = json.loads(target.read_text())
    jsonschema.validate(summary, SCHEMA)
    assert summary["headline"]["kind"] == "none"
    assert summary["headline"]["reason"]
    assert summary["run"]["exit_code"] == 3


def recorded(run: Path) -> list[Path]:
    """Return the recordings that hold more than their header, which takes 11 kB, and a first batch."""
    return [path for path in run.glob("readings-*") if path.stat().st_size > 40_000]


def test_killed_wrapper_leaves_the_command_and_a_readable_recording(tmp_path):
    run, done, go = tmp_path / "run", tmp_path / "done", tmp_path / "go"
    words = satscore("--source", "sim:llm,speed=20", "--out", str(run), "--")
    with running(
        [*words, "sh", "-c", f"echo $$ > {tmp_path}/pid; {shlex.join(sampled(1, go))}; echo finished > {done}"]
    ) as wrapper:
        wait_for(lambda: recorded(run), "some batches")
        child = int(wait_for((tmp_path / "pid").read_text, "the command's pid"))
        os.kill(wrapper.pid, signal.SIGKILL)
        wrapper.wait(10)
        assert lives(child)
        report = finish(satscore("report", str(run), "--json", "-"))
        go.touch()
        wait_for(done.exists, "the command to finish its work")
    assert report.returncode == 0, report.stderr
    summary = json.loads(report.stdout)
    jsonschema.validate(summary, SCHEMA)
    assert summary["run"]["finished"] is False
    assert summary["source"]["late_reads_count"] is None
    assert summary["source"]["latest_read_s"] is None
    assert summary["job"]["score"]["score_pct"] > 20
    assert any("killed" in note for note in summary["notes"])


def test_report_of_a_run_that_goes_on_does_not_touch_it(tmp_path):
    run, go = tmp_path / "run", tmp_path / "go"
    with running(satscore("--source", "sim:llm,speed=20", "--out", str(run), "--", *sampled(1, go))) as wrapper:
        (recording,) = wait_for(lambda: recorded(run), "some batches")
        inode = recording.stat().st_ino
        with recording.open("ab") as file:
            file.write(b"half a batch")  # as a reader may meet it in the middle of a write
        report = finish(satscore("report", str(run)))
        assert report.returncode == 0
        assert b"still going on" in report.stdout
        assert recording.stat().st_ino == inode
        go.touch()
        assert wrapper.wait(10) == 0


def test_cut_off_recording_is_scored_and_repaired(tmp_path):
    run = tmp_path / "run"
    finish(satscore("--source", "sim:gemm,speed=20", "--out", str(run), "--", *sampled(1.6)))
    (recording,) = run.glob("readings-*.arrows")
    whole = recording.read_bytes()
    recording.write_bytes(whole[: len(whole) - 700])
    report = finish(satscore("report", str(run)))
    assert report.returncode == 0
    assert b"cut off" in report.stderr
    assert b"saturation" in report.stdout
    again = finish(satscore("report", str(run)))
    assert again.stderr == b""
    assert again.stdout == report.stdout


def test_a_recording_that_lost_most_of_the_run_is_not_a_whole_score(tmp_path):
    """Also after it was repaired: the run knows until when it was read."""
    run = tmp_path / "run"
    finish(satscore("--source", "sim:gemm,speed=20", "--out", str(run), "--", *sampled(2.5)))
    whole = summary_of(run)["job"]["score"]
    (recording,) = run.glob("readings-*.arrows")
    ends = [i for i in range(len(recording.read_bytes())) if recording.read_bytes()[i : i + 4] == b"\xff\xff\xff\xff"]
    recording.write_bytes(recording.read_bytes()[: ends[len(ends) // 2] + 40])
    for _ in range(2):
        report = finish(satscore("report", str(run), "--fail-under", "5", "--json", "-"))
        assert report.returncode == 5
        summary = json.loads(report.stdout)
        score = summary["job"]["score"]
        assert score["coverage_frac"] < 0.9
        assert score["score_min_pct"] < whole["score_pct"] < score["score_max_pct"]
        assert score["scope_gpu_s"] == pytest.approx(whole["scope_gpu_s"], rel=1e-6)
        assert any("they count as not known" in note for note in summary["notes"])


def limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))


def test_full_disk_ends_the_recording_and_not_the_run(tmp_path):
    run = tmp_path / "run"
    done = subprocess.run(
        satscore(
            "--source", "sim:gh200x4,speed=20", "--out", str(run), "--", "sh", "-c", f"{shlex.join(sampled(2))}; exit 9"
        ),
        capture_output=True,
        timeout=30,
        env=environment(),
        preexec_fn=limit_file_size,
        check=False,
    )
    assert done.returncode == 9
    assert b"saturation" in done.stderr
    assert b"recording ends early" in done.stderr
    assert b"File too large" in done.stderr


def test_unwritable_directory_is_one_note(tmp_path):
    done = finish(satscore("--source", "sim:gemm,speed=20", "--out", "/proc/nowhere", "--", "sh", "-c", "exit 4"))
    assert done.returncode == 4
    done = finish(satscore("--source", "sim:gemm,speed=20", "--out", "/proc/nowhere", "--", *sampled(1)))
    assert done.returncode == 0
    assert b"nothing is recorded: /proc/nowhere" in done.stderr
    assert b"saturation" in done.stderr


def test_unwritable_json_is_one_line(tmp_path):
    words = ("--source", "sim:gemm,speed=20", "--record", "no", "--json", "/proc/nowhere/s.json")
    done = finish(satscore(*words, "--", *sampled(1)))
    assert done.returncode == 0
    assert b"cannot write /proc/nowhere/s.json" in done.stderr


def test_secrets_do_not_reach_the_files(tmp_path):
    run = tmp_path / "run"
    command = ["sh", "-c", shlex.join(sampled(0.5)), "x", "--hub-token", "abc123", "WANDB_API_KEY=def456"]
    finish(satscore("--source", "sim:gemm,speed=20", "--out", str(run), "--", *command))
    for file in run.iterdir():
        assert b"abc123" not in file.read_bytes()
        assert b"def456" not in file.read_bytes()


def test_unknown_scenario_is_refused_before_the_command_starts(tmp_path):
    done = finish(satscore("--source", "sim:llmm", "--", "touch", str(tmp_path / "started")))
    assert done.returncode == 125
    assert b"'llm'" in done.stderr
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda run: (run / "run.json").unlink(), "run.json: No such file"),
        (lambda run: (run / "run.json").write_text('{"format_version": 1'), "not JSON"),
        (lambda run: (run / "run.json").write_text('{"format_version": 99}'), "newer"),
        (lambda run: (run / "run.json").write_text('{"format_version": 1, "start": {}}'), "run_id"),
        (lambda run: next(run.glob("readings-*")).write_bytes(b""), "empty"),
        (lambda run: next(run.glob("readings-*")).write_bytes(b"x" * 999), "not an Arrow stream"),
        (lambda run: next(run.glob("readings-*")).unlink(), "no recording"),
    ],
)
def test_damaged_run_is_named(tmp_path, damage, told):
    run = tmp_path / "run"
    finish(satscore("--source", "sim:gemm,speed=20", "--out", str(run), "--", *sampled(0.6)))
    damage(run)
    done = finish(satscore("report", str(run)))
    assert done.returncode == 125
    assert told in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_start_delay_path_imports_the_standard_library_only():
    script = (
        "import sys, satscore.cli.main, satscore.cli.run, satscore.run.loop;"
        "print([m for m in ('numpy', 'msgspec', 'nanoarrow', 'psutil', 'pynvml') if m in sys.modules])"
    )
    done = finish([sys.executable, "-c", script])
    assert done.stdout.strip() == b"[]"


@pytest.mark.parametrize("out", ["/", "."])
def test_out_without_a_name_is_one_note(tmp_path, out):
    (tmp_path / "something").touch()
    done = finish(satscore("--source", "sim:gemm,speed=20", "--out", out, "--", *sampled(0.8)), cwd=tmp_path)
    assert done.returncode == 0
    assert b"nothing is recorded" in done.stderr
    assert b"saturation" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["something"]


@pytest.mark.parametrize("words", [("models",), ("--help",), ("models", "show", "h200-sxm")])
def test_full_standard_output_is_one_line(words):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            satscore(*words), stdout=full, stderr=subprocess.PIPE, timeout=30, env=environment(), check=False
        )
    assert done.returncode == 125
    assert b"cannot write to standard output" in done.stderr
    assert b"Traceback" not in done.stderr


def test_damaged_profile_is_named(tmp_path):
    run = tmp_path / "run"
    finish(satscore("--source", "sim:gemm,speed=20", "--out", str(run), "--", *sampled(0.6)))
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace('"profile": "train"', '"profile": "trian"'))
    done = finish(satscore("report", str(run)))
    assert done.returncode == 125
    assert b"$.start.profile: 'trian'" in done.stderr
