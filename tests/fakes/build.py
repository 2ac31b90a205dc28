"""Builds the fake vendor libraries and runs code on them in child processes.

A process loads a vendor library once and keeps it, so every use is a child of its own.
"""

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NVML = HERE / "nvml"
DCGM = HERE / "dcgm"
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


def _compile(source: Path, into: Path, *options: str) -> None:
    flags = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler() or "cc", *flags, *options, "-o", str(into), str(source), "-lm"], check=True)


DCGM_VERSIONS = ("3.3.9", "4.2.3", "4.6.0")


def _vendor_bindings() -> dict[str, Path]:
    """Return the bindings that SATSCORE_DCGM_BINDINGS names, by the version of the fake that they fit."""
    folder = Path(os.environ.get("SATSCORE_DCGM_BINDINGS", ""))
    try:
        structs, agent = [(folder / name).read_text() for name in ("dcgm_structs.py", "dcgm_agent.py")]
    except OSError:
        return {}
    if "libdcgm.so.3" in structs:
        return {"3.3.9": folder}
    return {"4.6.0" if "dcgmConnect_v3" in agent else "4.2.3": folder}


VENDOR_BINDINGS = _vendor_bindings()


class FakeDcgm:
    """The fake DCGM: library and stand-in bindings of a version, and scripts that can change in mid-run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._built: dict[str, Path] = {}

    def library(self, version: str = "4.6.0") -> Path:
        """Return a folder with the client library of a version."""
        if version not in self._built:
            into = Path(tempfile.mkdtemp(dir=self.folder, prefix=f"lib-{version}-"))
            major, minor, patch = map(int, version.split("."))
            number = 10000 * major + 100 * minor + patch
            options = (f"-DVERSION={number}", f"-Wl,-soname,libdcgm.so.{major}", "-pthread")
            _compile(DCGM / "fake_dcgm.c", into / f"libdcgm.so.{major}", *options)
            self._built[version] = into
        return self._built[version]

    def bindings(self, version: str = "4.6.0") -> Path:
        """Return the vendor's bindings, where SATSCORE_DCGM_BINDINGS names some of this version, else the stand-in."""
        return VENDOR_BINDINGS.get(version) or self.stand_in(version)

    def stand_in(self, version: str = "4.6.0") -> Path:
        """Return a folder with the stand-in for the vendor's bindings of a version."""
        into = self.library(version) / "bindings"
        if not into.exists():
            shutil.copytree(DCGM / "bindings", into, ignore=shutil.ignore_patterns("__pycache__"))
            numbers = tuple(map(int, version.split(".")))
            (into / "variant.py").write_text(
                f'"""Which version of DCGM this is a stand-in for."""\n\nVERSION = {numbers}\n'
            )
        return into

    def script(self, script: str = "h200", extra: str = "") -> Path:
        """Return a new script file: a script of tests/fakes/dcgm without its suffix, or "", and lines after it."""
        handle, path = tempfile.mkstemp(dir=self.folder, suffix=".script")
        os.close(handle)
        self.change(Path(path), script, extra)
        return Path(path)

    @staticmethod
    def change(path: Path, script: str = "h200", extra: str = "") -> None:
        """Replace a script file at once, so that no process reads half of it."""
        text = (DCGM / f"{script}.script").read_text() if script else ""
        new = path.with_suffix(".new")
        new.write_text(f"{text}\n{extra}\n")
        new.replace(path)

    def environment(
        self,
        script: str | Path = "h200",
        *,
        variant: str = "4.6.0",
        extra: str = "",
        log: Path | None = None,
        bindings: Path | None = None,
    ) -> dict[str, str]:
        """Return the environment of a child that finds the fake.

        Args:
            script: A script of tests/fakes/dcgm without its suffix, "" for none, or a file of ``script()``.
            variant: Version of library and bindings.
            extra: Lines after a named script; later lines win.
            log: File for one line per call.
            bindings: Other bindings than the stand-in.
        """
        path = script if isinstance(script, Path) else self.script(script, extra)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FAKE_DCGM_")}
        environment = inherited | {
            "SATSCORE_DCGM_BINDINGS": str(bindings or self.bindings(variant)),
            "LD_LIBRARY_PATH": f"{self.library(variant)}:{os.environ.get('LD_LIBRARY_PATH', '')}",
            "FAKE_DCGM_SCRIPT": str(path),
            "PYTHONPATH": f"{ROOT}:{DCGM}",
        }
        return environment | ({"FAKE_DCGM_LOG": str(log)} if log else {})

    def run(self, snippet: str, script: str | Path = "h200", *, dies: bool = False, **options: Any) -> Any:
        """Run Python code on the fake and return what it passed to ``emit`` (see dcgm/child.py).

        Args:
            snippet: The code.
            script: As for ``environment``, and so are the options.
            dies: Whether the process ends by a signal, which is then returned.
        """
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", f"from child import *\n{snippet}"],
            env=self.environment(script, **options) | {"PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if dies:
            return -done.returncode
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @staticmethod
    def calls(log: Path) -> list[tuple[float, str]]:
        """Return the calls in a log: seconds since 1970, function."""
        rows = (line.split() for line in log.read_text().splitlines())
        return [(float(t), name) for t, name in rows]


@contextlib.contextmanager
def listen(unix: Path | None = None) -> Iterator[str]:
    """Listen where a client first looks whether an engine is there; yields its address.

    The fake library does not connect to it: connections are accepted by the kernel and stay unread.

    Args:
        unix: Path of a unix socket to make; None: a TCP port of this machine.
    """
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as listener:
        listener.bind(str(unix) if unix else ("127.0.0.1", 0))
        listener.listen(128)
        yield f"unix://{unix}" if unix else f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="session")
def fake_dcgm(tmp_path_factory: pytest.TempPathFactory) -> FakeDcgm:
    """The fake DCGM libraries, built for this session as they are needed."""
    if compiler() is None:
        pytest.skip("no C compiler (cc, gcc, clang): the fake DCGM library cannot be built")
    return FakeDcgm(tmp_path_factory.mktemp("fake_dcgm"))
