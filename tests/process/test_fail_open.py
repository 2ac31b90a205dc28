"""Whatever breaks in the measuring is one line on stderr and never a status."""

import json
from pathlib import Path

import pytest

from tests.process.harness import PROGRAM, environment, finish, sampled

# Read by the interpreter at its start: breaks the measuring of this one process from inside.
BROKEN_LOOP = """
import sys, types
loop = types.ModuleType("satscore.run.loop")
class Telemetry:
    def finish(self, exit_code, signal):
        {finish}
def start(*args):
    {start}
    return Telemetry()
loop.start = start
sys.modules["satscore.run.loop"] = loop
"""
BROKEN_IMPORT = """
import sys
sys.modules[{name!r}] = None
"""
RUN = [*PROGRAM, "--record", "no", "--"]
PLACES = {
    "start": BROKEN_LOOP.format(start="raise ValueError('broken')", finish="pass"),
    "exit at start": BROKEN_LOOP.format(start="sys.exit(3)", finish="pass"),
    "finish": BROKEN_LOOP.format(start="pass", finish="raise OSError('broken')"),
    "exit at finish": BROKEN_LOOP.format(start="pass", finish="sys.exit(3)"),
    "import of the loop": BROKEN_IMPORT.format(name="satscore.run"),
    "import of the options": BROKEN_IMPORT.format(name="dataclasses"),
    "import of the supervisor": BROKEN_IMPORT.format(name="satscore.launch.supervise"),
}


@pytest.mark.parametrize("place", PLACES)
def test_broken_measuring_changes_no_status(place: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(PLACES[place])
    env = environment()
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    for script, status in (("echo out; exit 7", 7), ("echo out; kill -TERM $$", -15)):
        done = finish([*RUN, "sh", "-c", script], env=env)
        assert (done.returncode, done.stdout) == (status, b"out\n")
        assert done.stderr.count(b"\n") == 1
        assert done.stderr.startswith(b"satscore: ")
        assert b"the command is not affected" in done.stderr


@pytest.mark.parametrize("limit", ["-n 5", "-v 60000", "-v 200000"])
def test_narrow_limits_change_no_status(limit: str) -> None:
    done = finish(["bash", "-c", f'ulimit {limit}; exec "$@"', "bash", *RUN, "sh", "-c", "echo out; exit 7"])
    assert (done.returncode, done.stdout) == (7, b"out\n")
    assert b"Traceback" not in done.stderr


def test_what_breaks_while_the_command_runs_costs_no_summary(tmp_path: Path) -> None:
    """A wait that cannot be: what was read until the end is scored all the same."""
    program = tmp_path / "broken.py"
    program.write_text(
        "from satscore.run import measurement\n"
        "measurement.FIRST_BATCH_S = float('nan')\n"
        "from satscore.cli.main import entry_point\n"
        "entry_point()\n"
    )
    options = ["--source", "sim:llm,speed=20", "--record", "no", "--quiet", "--json", str(tmp_path / "s.json")]
    done = finish([PROGRAM[0], str(program), *options, "--", *sampled(0.5)])
    assert (done.returncode, done.stderr) == (0, b"")
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["headline"]["score_pct"] > 1
    assert any(note.startswith("scoring stopped before the end (ValueError(") for note in summary["notes"])
