"""Who may import whom: the contracts of pyproject.toml, and what really is loaded when a command starts."""

import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

import satscore.core

ROOT = Path(__file__).parents[2]
HEAVY = {"numpy", "msgspec", "pynvml", "nanoarrow", "psutil", "zmq", "textual", "asyncio"}
CORE = sorted(module.name for module in pkgutil.iter_modules(satscore.core.__path__))


def loaded_by(*modules: str) -> set[str]:
    """Return every module that a fresh interpreter has loaded after importing these."""
    code = f"import json, sys\nimport {', '.join(modules)}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(done.stdout))


def test_import_contracts_are_kept(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert re.search(r"Contracts: \d+ kept, 0 broken", printed)


def test_the_path_to_the_spawned_child_loads_nothing_heavy():
    modules = loaded_by("satscore.cli.main", "satscore.cli.run", "satscore.run.loop")
    assert not HEAVY & modules
    assert not {name for name in modules if name.startswith(("satscore.core", "satscore.counters", "satscore.record"))}


def test_the_package_itself_loads_nothing():
    assert {name for name in loaded_by("satscore") if name.startswith("satscore.")} <= {"satscore.errors"}
    assert not HEAVY & loaded_by("satscore")


def test_the_core_loads_nothing_of_the_layers_above_and_no_driver():
    modules = loaded_by(*(f"satscore.core.{name}" for name in CORE))
    ours = {name for name in modules if name.startswith("satscore.")}
    assert {name.split(".")[1] for name in ours} == {"core", "errors"}
    assert not {"pynvml", "nanoarrow", "psutil"} & modules


def test_the_samplers_path_loads_no_numpy():
    """The field table and the driver source are loaded before the first read; arrays come later."""
    assert "numpy" not in loaded_by("satscore.core.fields", "satscore.core.gpu", "satscore.counters.source")


@pytest.mark.parametrize("name", CORE)
def test_a_core_module_can_be_imported_alone(name):
    assert f"satscore.core.{name}" in loaded_by(f"satscore.core.{name}")
