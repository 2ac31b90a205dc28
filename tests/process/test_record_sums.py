"""Runs that keep sums instead of readings, as a user starts and kills them."""

import json
import signal
from pathlib import Path

import pytest

from satscore.errors import RecordError
from satscore.record.sums_file import SumsFile
from tests.process.harness import PATIENT, PROGRAM, TIMEOUT_S, environment, finish, running, sampled, wait_for
from tests.process.replays import report, summary_in

SOURCE = ("--source", "sim:gh200x4,speed=100")


def read_s(run: Path) -> float:
    """Return the simulated seconds that the sums of a run hold so far."""
    try:
        (path,) = run.glob("sums-*.msgpack")
        with SumsFile(path) as file:
            rank = file.head.ranks[0]
            return ((rank.last_ns or 0) - (rank.first_ns or 0)) / 1e9
    except (ValueError, RecordError):
        return 0.0


def test_a_report_of_sums_is_the_summary_of_the_run(tmp_path):
    run = tmp_path / "run"
    done = finish([*PROGRAM, *SOURCE, "--record", "sums", "--out", str(run), "--", *sampled(2)])
    assert done.returncode == 0, done.stderr
    assert sorted(path.name.split("-")[0] for path in run.iterdir()) == ["run.json", "summary.json", "sums"]
    live, again = summary_in(run), report(run)
    assert (live["source"].pop("resolution"), again["source"].pop("resolution")) == ("readings", "sums")
    assert again == live
    assert live["cost"]["recording_bytes"] == next(run.glob("sums-*")).stat().st_size
    assert live["job"]["score"]["score_pct"] is not None


def test_a_killed_run_is_reported_from_the_last_sums(tmp_path):
    run, go = tmp_path / "run", tmp_path / "go"
    words = [*PROGRAM, "--quiet", *SOURCE, "--record", "sums", "--out", str(run), "--", *sampled(1, go)]
    with running(words, env=environment(**PATIENT)) as wrapper:
        # A minute of the simulated time, so that sums have been rewritten.
        kept_s = wait_for(lambda: (now_s := read_s(run)) > 60 and now_s, "sums of a minute")
        wrapper.send_signal(signal.SIGKILL)
        wrapper.wait(TIMEOUT_S)
        go.touch()
    summary = report(run)
    assert not summary["run"]["finished"]
    assert summary["source"]["resolution"] == "sums"
    assert summary["run"]["observed_s"] >= kept_s
    assert summary["job"]["score"]["scope_gpu_s"] > 4 * (kept_s - 2)
    assert not list(run.glob("readings-*"))
    assert not list(run.glob(".*.tmp"))


@pytest.mark.parametrize(("how", "kept"), [("full", "readings"), ("no", None)])
def test_other_recordings_hold_no_sums(tmp_path, how, kept):
    run = tmp_path / "run"
    done = finish([*PROGRAM, "--quiet", *SOURCE, "--record", how, "--out", str(run), "--", *sampled(1)])
    assert done.returncode == 0, done.stderr
    names = {path.name.split("-")[0] for path in run.iterdir()}
    assert names == {"run.json", "summary.json"} | ({kept} if kept else set())


def test_damaged_sums_are_one_line_that_names_the_file(tmp_path):
    run = tmp_path / "run"
    finish([*PROGRAM, "--quiet", *SOURCE, "--record", "sums", "--out", str(run), "--", *sampled(1)])
    (path,) = run.glob("sums-*")
    path.write_bytes(path.read_bytes()[:-100])
    done = finish([*PROGRAM, "report", str(run)])
    assert done.returncode == 125
    assert path.name in done.stderr.decode()
    assert "bytes where its head says" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_a_report_on_sums_is_a_gate_too(tmp_path):
    run = tmp_path / "run"
    finish([*PROGRAM, "--quiet", *SOURCE, "--record", "sums", "--out", str(run), "--", *sampled(1)])
    done = finish([*PROGRAM, "report", str(run), "--json", "-", "--fail-under", "99"])
    assert done.returncode == 3
    assert json.loads(done.stdout)["source"]["resolution"] == "sums"
