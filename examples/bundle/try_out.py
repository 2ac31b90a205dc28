"""Whether a bundle works: it is tried by the Pythons that are here."""

import ast
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from wheels import BundleError, Target

ENVIRONMENT = {"PATH": os.defpath, "SATSCORE_EXIT_WAIT_S": "60"}  # a summary comes, however loaded the machine is
OPTIONS = ("-B", "-I", "-S")
"""As in the first line of start.py."""
IMPORT_ALL = """
import importlib, runpy, sys
start = runpy.run_path(sys.argv[1])
sys.meta_path.insert(0, start["Archive"](start["ARCHIVE"]))
for name in sys.argv[2:]:
    importlib.import_module(name)
"""


def try_out(root: Path, target: Target, modules: Mapping[str, bytes]) -> bool:
    """Import all that satscore consists of and imports, and run a command of no duration.

    Args:
        root: The bundle.
        target: A Python that it is for.
        modules: Sources of satscore, by path.

    Returns:
        Whether there is such a Python here to try it by.

    Raises:
        BundleError: The bundle does not work with it.
    """
    if target.compiler is None or not _fits(target.compiler, target):
        return False
    python, program = [target.compiler, *OPTIONS], str(root.resolve() / "bin" / "satscore")
    with tempfile.TemporaryDirectory() as scratch:
        done = _run([*python, "-c", IMPORT_ALL, program, *wanted_imports(modules)], scratch)
        if done.returncode:
            raise BundleError(f"{target.compiler} cannot import all of {target.tag}:\n{done.stderr.strip()}")
        done = _run([*python, program, "--source", "sim", "--json", "summary.json", "--", "true"], scratch)
        # The status is the command's, also where satscore fails.
        if done.returncode or not Path(scratch, "summary.json").exists():
            raise BundleError(f"{target.compiler} sums up no run with {target.tag}:\n{done.stderr.strip()}")
    return True


def wanted_imports(modules: Mapping[str, bytes]) -> list[str]:
    """Return the names of satscore's modules and of what they import, at whatever time, of other packages."""
    ours = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in modules}
    others = {name for source in modules.values() for name in _imported(ast.parse(source))}
    theirs = {name for name in others if name.partition(".")[0] not in {"satscore", *sys.stdlib_module_names}}
    return [*sorted(theirs), *sorted(ours)]


def _imported(tree: ast.Module) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _fits(python: str, target: Target) -> bool:
    """Whether an interpreter is of this machine, C library and ABI; its version is known to be right."""
    done = _run([python, *OPTIONS, "-c", "import importlib.machinery as m; print(m.EXTENSION_SUFFIXES[0])"], ".")
    return done.stdout.strip() == target.module_suffixes[0]


def _run(command: list[str], folder: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, env=ENVIRONMENT, cwd=folder)
