"""The end of a run: bounded, complete where it can be, one line for each failure, whatever the disk does."""

import datetime as dt
import json
import os
import re
import shlex
import time

import pytest

from tests.process.harness import PATIENT, PROGRAM, environment, finish, sampled

SIM = [*PROGRAM, "--source", "sim:gemm,speed=20"]


def test_quiet_says_failures_and_nothing_else(tmp_path):
    words = [*SIM, "--quiet", "--record", "no"]
    done = finish([*words, "--json", "/proc/nowhere/s.json", "--", *sampled(0.3)])
    assert done.returncode == 0
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("satscore: cannot write /proc/nowhere/s.json: ")
    assert finish([*words, "--", *sampled(0.3)]).stderr == b""
    assert finish([*PROGRAM, "--quiet", "--", "true"], env=environment(LD_LIBRARY_PATH="")).stderr == b""


def test_quiet_says_that_nothing_is_recorded():
    done = finish([*SIM, "--quiet", "--out", "/proc/nowhere", "--", *sampled(0.3)])
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("satscore: nothing is recorded: /proc/nowhere")


def test_a_file_that_takes_nothing_costs_the_wait_and_not_the_text(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    begun = time.monotonic()
    done = finish(
        [*SIM, "--out", "run", "--json", "fifo", "--", "sh", "-c", f"{shlex.join(sampled(0.5))}; exit 3"],
        cwd=tmp_path,
        env=environment(SATSCORE_EXIT_WAIT_S="1"),
    )
    assert time.monotonic() - begun < 10
    assert done.returncode == 3
    text = done.stderr.decode()
    assert "saturation" in text
    assert text.splitlines()[-1] == "satscore: files not (all) written in time; the command is not affected"
    assert json.loads((tmp_path / "run" / "run.json").read_bytes())["end"]["exit_code"] == 3


@pytest.mark.parametrize("value", ["inf", "nan", "-1", "1e300", "soon"])
def test_a_strange_exit_wait_still_gives_the_text(value):
    done = finish([*SIM, "--record", "no", "--", *sampled(0.3)], env=environment(SATSCORE_EXIT_WAIT_S=value))
    assert done.returncode == 0
    assert b"saturation" in done.stderr
    assert b"the command is not affected" not in done.stderr


SLOW_IMPORT = """
import sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "satscore.run.measurement":
            time.sleep(1.0)
sys.meta_path.insert(0, Slow())
"""


def test_the_start_is_that_of_the_command_and_not_of_our_imports(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SLOW_IMPORT)
    env = environment(**PATIENT)
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    done = finish([*SIM, "--quiet", "--out", "run", "--", "sh", "-c", "date +%s.%N; sleep 2"], cwd=tmp_path, env=env)
    run = json.loads((tmp_path / "run" / "summary.json").read_bytes())["run"]
    assert dt.datetime.fromisoformat(run["started_utc"]).timestamp() == pytest.approx(float(done.stdout), abs=0.5)


DYING_SOURCE = """
from satscore.counters.simulated import SimulatedSource
read, count = SimulatedSource.read, [0]
def dying(self):
    count[0] += 1
    if count[0] > 6:
        raise OSError("the driver went away")
    return read(self)
SimulatedSource.read = dying
"""


def test_a_source_that_dies_costs_coverage_up_to_the_end(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(DYING_SOURCE)
    env = environment(**PATIENT)
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    words = [*PROGRAM, "--source", "sim:gemm", "--quiet", "--record", "no", "--json", "s.json", "--", *sampled(3.5)]
    assert finish(words, cwd=tmp_path, env=env).returncode == 0
    summary = json.loads((tmp_path / "s.json").read_bytes())
    score = summary["job"]["score"]
    assert score["coverage_frac"] < 0.5
    assert score["score_min_pct"] + 30 < score["score_max_pct"]
    assert "sampling stopped: OSError: the driver went away" in summary["notes"]


ON_A_SMALL_DISK = r"""
mount -t tmpfs -o size=200k none "$1" || exit 77
cd "$1" && shift
"$@" --out run -- sh -c 'sleep 4; cat /dev/zero > fill 2> /dev/null; sleep 0.2; exit 9'
echo "status $?"
cat run/run.json
rm fill
"$@" --quiet --record no -- true
"""


def test_a_disk_that_is_full_at_the_end_still_holds_how_the_run_ended(tmp_path):
    done = finish(["unshare", "-rm", "sh", "-c", ON_A_SMALL_DISK, "sh", str(tmp_path), *SIM])
    if done.returncode == 77 or b"unshare: " in done.stderr:
        pytest.skip("no mount in a namespace of one's own here")
    match = re.match(rb"status 9\n(.*)", done.stdout, re.DOTALL)
    assert match, done.stdout
    end = json.loads(match[1])["end"]
    assert end["exit_code"] == 9
    assert end["duration_s"] > 1.5
    text = done.stderr.decode()
    assert "saturation" in text
    assert "satscore: cannot write run/summary.json: No space left on device" in text
    assert "cannot write run/run.json" not in text
