"""PYTHONPATH is there for the command: what it holds does not shadow the packages that satscore needs."""

import json
import sys

import pytest

from tests.process.harness import PATIENT, PROGRAM, environment, finish, sampled

SIM = ("--source", "sim:gemm,speed=20")


@pytest.fixture
def shadowed(tmp_path):
    """An environment whose PYTHONPATH holds a numpy that does not load, first."""
    (tmp_path / "numpy.py").write_text('raise RuntimeError("of another Python")\n')
    env = environment(**PATIENT)
    return env | {"PYTHONPATH": f"{tmp_path}:{env['PYTHONPATH']}"}


def test_a_run_is_scored_and_the_command_has_its_own_path(shadowed, tmp_path):
    code = "import sys; sys.path[1:2] == [sys.argv[1]] and print('first in the path')"
    words = [*PROGRAM, *SIM, "--record", "no", "--json", "s.json", "--", sys.executable, "-c", code, str(tmp_path)]
    assert finish(words, cwd=tmp_path, env=shadowed).stdout == b"first in the path\n"
    done = finish(
        [*PROGRAM, *SIM, "--record", "no", "--json", "s.json", "--", *sampled(0.5)], cwd=tmp_path, env=shadowed
    )
    assert b"saturation" in done.stderr
    assert json.loads((tmp_path / "s.json").read_bytes())["headline"]["score_pct"] > 0


def test_subcommands_load(shadowed, tmp_path):
    watch = [*PROGRAM, "watch", "--duration", "0.5", *SIM, "--out", str(tmp_path / "run")]
    assert finish(watch, env=shadowed).returncode == 0
    assert finish([*PROGRAM, "report", str(tmp_path / "run")], env=shadowed).returncode == 0
    assert b"grade" in finish([*PROGRAM, "doctor", "--source", "sim"], env=shadowed).stdout


def test_an_installation_that_does_not_load_is_said(tmp_path):
    """As where numpy was built for another Python: here it is hidden by a finder."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nclass No:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'numpy': raise ImportError('PLEASE READ THIS\\nbuilt for another Python')\n"
        "sys.meta_path.insert(0, No())\n"
    )
    env = environment(**PATIENT)
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    done = finish([*PROGRAM, *SIM, "--record", "no", "--", "sh", "-c", "exit 7"], env=env)
    assert done.returncode == 7
    assert b"ImportError: built for another Python" in done.stderr
    done = finish([*PROGRAM, "watch", "--duration", "1", *SIM, "--record", "no"], env=env)
    assert done.returncode == 1
    done = finish([*PROGRAM, "report", str(tmp_path)], env=env)
    assert done.returncode == 125
    assert b"Traceback" not in done.stderr
