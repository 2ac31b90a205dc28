"""Builds the fake vendor libraries and runs code on them in child processes.

A process loads a vendor library once and keeps it, so every use is a child of its own.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NVML = HERE / "nvml"
NVML_SONAME = "libnvidia-ml.so.1"


@functools.cache
def compiler() -> str | None:
    """Return the C compiler, or None if there is none."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


class FakeNvml:
    """The fake NVML: built once per set of missing symbols, then put on a child's library path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._built: dict[tuple[str, ...], Path] = {}

    def library(self, omit: Sequence[str] = ()) -> Path:
        """Return a folder with the library, without the given symbols (as an old driver lacks them)."""
        key = tuple(sorted(omit))
        if key not in self._built:
            into = Path(tempfile.mkdtemp(dir=self.folder))
            command = [compiler() or "cc", "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
            if key:
                script = into / "symbols.map"
                script.write_text("{ global: *; local: " + " ".join(f"{name};" for name in key) + " };\n")
                command.append(f"-Wl,--version-script={script}")
            command += ["-o", str(into / NVML_SONAME), str(NVML / "fake_nvml.c"), "-lm"]
            subprocess.run(command, check=True)
            self._built[key] = into
        return self._built[key]

    def environment(
        self, script: str = "h200_llm", *, extra: str = "", omit: Sequence[str] = (), log: Path | None = None
    ) -> dict[str, str]:
        """Return the environment of a child that finds the fake.

        Args:
            script: A script of tests/fakes/nvml without its suffix, or "" for none.
            extra: Lines after it; later lines win.
            omit: Symbols that the library lacks.
            log: File for one line per call.
        """
        text = (NVML / f"{script}.script").read_text() if script else ""
        handle, path = tempfile.mkstemp(dir=self.folder, suffix=".script")
        with os.fdopen(handle, "w") as file:
            file.write(f"{text}\n{extra}\n")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FAKE_NVML_")}
        environment = inherited | {
            "LD_LIBRARY_PATH": f"{self.library(omit)}:{os.environ.get('LD_LIBRARY_PATH', '')}",
            "FAKE_NVML_SCRIPT": path,
            "PYTHONPATH": f"{ROOT}:{NVML}",
        }
        return environment | ({"FAKE_NVML_LOG": str(log)} if log else {})

    def run(self, snippet: str, script: str = "h200_llm", **options: Any) -> Any:
        """Run Python code on the fake and return what it passed to ``emit`` (see nvml/child.py)."""
        code = f"from child import *\n{snippet}"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env=self.environment(script, **options),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr, done.stderr
        return json.loads(done.stdout)

    @staticmethod
    def calls(log: Path) -> list[tuple[float, str, int | None]]:
        """Return the calls in a log: seconds since nvmlInit, function, GPU."""
        rows = (line.split() for line in log.read_text().splitlines())
        return [(float(t), name, None if gpu == "-" else int(gpu)) for t, name, gpu in rows]


@pytest.fixture(scope="session")
def fake_nvml(tmp_path_factory: pytest.TempPathFactory) -> FakeNvml:
    """The fake NVML library, built for this session."""
    if compiler() is None:
        pytest.skip("no C compiler (cc, gcc, clang): the fake NVML library cannot be built")
    return FakeNvml(tmp_path_factory.mktemp("fake_nvml"))
