"""The bundle of examples/bundle: moved, read-only, on every Python that is here, with a hostile environment."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.process.harness import PATIENT, ROOT, TIMEOUT_S, finish, sampled

pytestmark = pytest.mark.slow

MAKE = [sys.executable, str(ROOT / "examples" / "bundle" / "make_bundle.py")]
BUILD_TIMEOUT_S = 900.0
SIM = ("--source", "sim:gemm,speed=20")
NO_NETWORK = ("Retrying (", "NameResolutionError", "ConnectTimeout", "NewConnectionError")
MACHINE_OF_ELF = {"x86_64": 62, "aarch64": 183}
VERSIONS = ("3.11", "3.12", "3.13", "3.14")


def version_of(python: Path) -> str:
    """The version of an interpreter as 3.12, empty if it does not run."""
    words = [str(python), "-I", "-S", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def find_pythons() -> dict[str, Path]:
    """An interpreter of each version that is here; ours for its own version."""
    roots = [Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"]
    places = [place for root in roots for place in sorted(root.glob("3.*/bin/python3"))]
    places += [Path(found) for version in VERSIONS if (found := shutil.which(f"python{version}"))]
    return {version_of(place): place for place in [*places, Path(sys.executable)]}


PYTHONS = find_pythons()
OWN = "{}.{}".format(*sys.version_info)
USED = sorted(version for version in PYTHONS if version in VERSIONS)
OLD = [python for version, python in PYTHONS.items() if version in {"3.6", "3.7", "3.8", "3.9", "3.10"}]
needs_old = pytest.mark.skipif(not OLD, reason="no Python below 3.11 is here")


def make(out: Path, *options: str) -> None:
    """Make a bundle; skip where there is no network."""
    words = [*MAKE, "--out", str(out), *options]
    done = subprocess.run(words, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
    if any(word in done.stderr for word in NO_NETWORK):
        pytest.skip("no network for pip")
    assert done.returncode == 0, done.stderr


def state(root: Path) -> dict[str, tuple[int, int, str]]:
    """Every file with its mode, time and bytes."""
    return {
        str(path.relative_to(root)): (
            path.stat().st_mode,
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(root.rglob("*"))
    }


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle for all Pythons that are here and both machines, moved after it was made, read-only."""
    folder = tmp_path_factory.mktemp("made")
    make(folder / "first", "--python", *(str(PYTHONS[version]) for version in USED))
    moved = folder / "second place" / "satscore-bundle"
    moved.parent.mkdir()
    (folder / "first").rename(moved)
    for path in [moved, *moved.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    before = state(moved)
    yield moved
    assert state(moved) == before  # root writes into read-only folders, too
    for path in [moved, *moved.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)  # pytest would keep hundreds of megabytes of three runs


@pytest.fixture
def hostile(tmp_path):
    """A PYTHONPATH on which packages and site files raise."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in ("numpy", "msgspec", "satscore", "sitecustomize", "usercustomize", "struct", "json"):
        (folder / f"{name}.py").write_text('raise RuntimeError("of the job")\n')
    return folder


def program(bundle: Path) -> str:
    return str(bundle / "bin" / "satscore")


@pytest.mark.parametrize("version", USED)
def test_a_run_is_scored_with_nothing_in_the_environment_but_a_python(bundle, tmp_path, version):
    env = {"PATH": str(PYTHONS[version].parent), **PATIENT}
    words = [program(bundle), *SIM, "--record", "no", "--json", "s.json", "--", *sampled(0.5)]
    done = finish(words, cwd=tmp_path, env=env)
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"saturation" in done.stderr
    assert json.loads((tmp_path / "s.json").read_bytes())["headline"]["score_pct"] > 0


@pytest.mark.parametrize("version", USED)
def test_the_ranks_of_a_job_print_one_block(bundle, tmp_path, version):
    """Only such ranks import ZeroMQ, and a rank that cannot is summed up alone."""
    ranks = []
    try:
        for rank in range(2):
            places = {"RANK": rank, "SIZE": 2, "LOCAL_RANK": rank, "LOCAL_SIZE": 2}
            env = {f"OMPI_COMM_WORLD_{name}": str(value) for name, value in places.items()}
            env |= {"PATH": str(PYTHONS[version].parent), "PMIX_NAMESPACE": "ns-7", **PATIENT}
            words = [program(bundle), *SIM, "--", *sampled(1.5)]
            ranks.append(subprocess.Popen(words, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True))
        first, second = (rank.communicate(timeout=3 * TIMEOUT_S)[1] for rank in ranks)
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert "2 ranks on 1 node" in first
    assert "do not know of each other" not in first
    assert second == ""


def test_an_empty_environment_is_enough(bundle, tmp_path):
    if version_of(Path("/usr/bin/python3")) not in USED:
        pytest.skip("without PATH the system's python3 is found, and that is none of those that are here")
    done = finish([program(bundle), *SIM, "--json", "s.json", "--", "sleep", "2"], cwd=tmp_path, env={})
    assert done.returncode == 0
    assert json.loads((tmp_path / "s.json").read_bytes())["headline"]["score_pct"] > 0


@pytest.mark.parametrize("start", [[], [sys.executable]], ids=["by its first line", "by a Python"])
def test_what_is_on_the_jobs_path_is_for_the_job_only(bundle, tmp_path, hostile, start):
    env = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(hostile), "PYTHONNOUSERSITE": "1", **PATIENT}
    if not start:
        env["PYTHONHOME"] = "/nowhere"  # with it a Python that is named does not start at all
    else:
        (hostile / "sitecustomize.py").unlink()  # such a Python loads it before any code of ours
    words = [*start, program(bundle), *SIM, "--record", "no", "--json", "s.json", "--", *sampled(0.5)]
    assert finish(words, cwd=hostile, env=env).returncode == 0
    assert json.loads((hostile / "s.json").read_bytes())["headline"]["score_pct"] > 0


@pytest.mark.parametrize("start", [[], [sys.executable]], ids=["by its first line", "by a Python"])
def test_the_commands_environment_is_what_was_given(bundle, start):
    folder = str(Path(sys.executable).parent)
    given = {"PATH": f"{folder}:/usr/bin:/bin", "PYTHONPATH": "/of/the/job", "BASH_FUNC_module%%": "() { :; }"}
    done = finish([*start, program(bundle), "--quiet", "--record", "no", "--", "env", "-0"], env=given)
    seen = dict(entry.split("=", 1) for entry in done.stdout.decode().split("\0") if entry)
    assert {name: value for name, value in seen.items() if not name.startswith("SATSCORE_")} == given


def test_the_command_does_not_see_the_bundle(bundle, tmp_path):
    env = {"PATH": str(Path(sys.executable).parent)}
    code = "import sys; print(*sys.path, sep='\\n')"
    bare = finish([sys.executable, "-c", code], cwd=tmp_path, env=env)
    with_us = finish(
        [program(bundle), "--quiet", "--record", "no", "--", sys.executable, "-c", code], cwd=tmp_path, env=env
    )
    assert with_us.stdout == bare.stdout != b""
    assert str(bundle).encode() not in with_us.stdout


def test_status_and_signal_pass(bundle):
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    quiet = [program(bundle), "--quiet", "--record", "no", "--"]
    assert finish([*quiet, "sh", "-c", "exit 7"], env=env).returncode == 7
    assert finish([*quiet, "sh", "-c", "kill -KILL $$"], env=env).returncode == -signal.SIGKILL
    assert finish([*quiet, "/nowhere/to/be/found"], env=env).returncode == 127


def test_closed_standard_streams_stay_closed(bundle):
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    look = "ls -l /proc/self/fd; ls -l /proc/$PPID/fd"
    words = f"exec \"{program(bundle)}\" --quiet --record no -- sh -c 'exec 2>&1; {look}' <&- 2>&-"
    shown = finish(["sh", "-c", words], env=env).stdout.decode()
    command, ours = (
        dict(line.split()[8::2][:2] for line in part.splitlines() if " -> " in line)
        for part in shown.split("total")[1:]
    )
    assert not any(str(bundle) in place for place in command.values())
    assert (ours["0"], ours["2"]) == ("/dev/null", "/dev/null")


def test_a_program_sets_marks_and_imports_nothing_else(bundle, tmp_path):
    assert [path.name for path in (bundle / "python").iterdir()] == ["satscore"]
    assert sorted(path.name for path in (bundle / "python" / "satscore").iterdir()) == ["__init__.py", "marks.py"]
    env = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(bundle / "python")}
    code = "import satscore; print(satscore.mark('x'), satscore.progress(step=1), satscore.__file__)"
    words = [program(bundle), "--quiet", "--record", "no", "--", sys.executable, "-S", "-B", "-c", code]
    assert finish(words, cwd=tmp_path, env=env).stdout.decode() == f"True True {bundle}/python/satscore/__init__.py\n"


def test_other_processes_of_satscore_find_its_modules(bundle):
    """What DCGM is read by is started with the archive on PYTHONPATH."""
    archive = next((bundle / "lib").glob(f"cpython-{OWN.replace('.', '')}-{os.uname().machine}-*.zip"))
    code = "import msgspec, satscore.counters.dcgm.worker; print(msgspec.json.decode(b'[1]'))"
    done = finish([sys.executable, "-B", "-P", "-S", "-c", code], env={"PYTHONPATH": str(archive)})
    assert done.stdout == b"[1]\n"


def test_both_machines_are_served(bundle):
    for version in USED:
        for machine, elf in MACHINE_OF_ELF.items():
            folder = bundle / "lib" / f"cpython-{version.replace('.', '')}-{machine}-linux-gnu"
            objects = [path for path in folder.rglob("*.so*") if path.is_file()]
            assert {int.from_bytes(path.read_bytes()[18:20], "little") for path in objects} == {elf}
            assert list(folder.glob("satscore/hwmodels/gh200-96.toml"))
            with zipfile.ZipFile(folder.with_suffix(".zip")) as archive:
                names = set(archive.namelist())
            assert {"satscore/cli/main.pyc", "numpy/__init__.pyc", "numpy/_core/_multiarray_umath.pyc"} <= names


def test_a_shared_object_goes_before_the_source_beside_it(bundle):
    """As it does for Python, where a wheel has both; Cython compiles sources, too."""
    for archive in (bundle / "lib").glob("*.zip"):
        folder = archive.with_suffix("")
        modules = [path.relative_to(folder) for path in folder.rglob("*.so") if not path.parent.name.endswith(".libs")]
        assert any(path.name.startswith("_zmq.") for path in modules)
        with zipfile.ZipFile(archive) as opened:
            for path in modules:
                compiled = opened.read(str(path.with_name(path.name.partition(".")[0] + ".pyc")))
                assert f"/{path}".encode() in compiled


def test_a_bundle_that_does_not_work_here_is_not_made(tmp_path):
    """With wheels that hold one module each, and one of them raises."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [wanted.partition(">")[0].replace("-", "_") for wanted in project["dependencies"]]
    for name in names:
        with zipfile.ZipFile(tmp_path / f"{name}-99.0-py3-none-any.whl", "w") as wheel:
            module = {"pyzmq": "zmq", "nvidia_ml_py": "pynvml"}.get(name, name)
            wheel.writestr(f"{module}.py", 'raise ImportError("of this wheel")\n' if module == "msgspec" else "")
            information = f"{name}-99.0.dist-info"
            wheel.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.0\n")
            wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{information}/RECORD", "")
    out = tmp_path / "out"
    options = ("--python", sys.executable, "--arch", os.uname().machine, "--wheels", str(tmp_path))
    done = finish([*MAKE, "--out", str(out), *options])
    assert done.returncode == 1
    assert f"{out}: not made: {sys.executable} cannot import all of cpython-".encode() in done.stderr
    assert b"ImportError: of this wheel" in done.stderr.splitlines()[-1]
    assert not out.exists()


def test_licences_are_kept(bundle):
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    for wheel in {name for target in manifest.values() for name in target["wheels_sha256"]}:
        kept = list((bundle / "licenses" / wheel.removesuffix(".whl")).rglob("*"))
        assert any("LICENSE" in path.name or path.suffix == ".py" for path in kept)
        assert any(path.name == "METADATA" for path in kept)
    assert (bundle / "licenses" / "satscore" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@needs_old
def test_an_old_python_makes_way_for_a_newer_one(bundle, tmp_path):
    (tmp_path / "python3").symlink_to(OLD[0])
    (tmp_path / f"python{OWN}").symlink_to(PYTHONS[OWN])
    words = [program(bundle), "--quiet", "--record", "no", "--", "/bin/sh", "-c", "exit 7"]
    done = finish(words, env={"PATH": str(tmp_path)})
    assert done.returncode == 7


@needs_old
@pytest.mark.parametrize("python", OLD, ids=lambda python: python.parts[-3])
def test_an_old_python_is_refused(bundle, python):
    done = finish([program(bundle), "--", "true"], env={"PATH": str(python.parent)})
    assert done.returncode == 125
    assert b"Python 3.11 or newer is needed" in done.stderr
    assert b"  looked for: " + bytes(bundle) in done.stderr


@pytest.mark.parametrize(("suffix", "advice"), [("x86_64-linux-musl", b"glibc"), ("riscv64-linux-gnu", b"PATH")])
def test_a_python_without_parts_is_refused(bundle, suffix, advice):
    tag = f"cpython-{OWN.replace('.', '')}-{suffix}"
    code = f"""
import importlib.machinery, runpy, sys
importlib.machinery.EXTENSION_SUFFIXES.insert(0, ".{tag}.so")
sys.argv = ["satscore", "--", "true"]
runpy.run_path({program(bundle)!r}, run_name="__main__")
"""
    done = finish([sys.executable, "-B", "-X", "satscore_chosen", "-c", code], env={})
    assert done.returncode == 125
    assert f"lib/{tag}.zip".encode() in done.stderr
    assert advice in done.stderr.splitlines()[-1]
    assert f"cpython-{OWN.replace('.', '')}-x86_64-linux-gnu".encode() in done.stderr


def test_the_same_wheels_make_the_same_bytes(tmp_path):
    options = ("--python", sys.executable, "--arch", "aarch64")
    for name in ("first", "second"):
        make(tmp_path / name, *options)
    assert state(tmp_path / "first") == state(tmp_path / "second")
    shutil.rmtree(tmp_path)


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("x")
    done = finish([*MAKE, "--out", str(tmp_path)])
    assert done.returncode == 1
    assert b"is there already" in done.stderr
    assert (tmp_path / "mine").read_text() == "x"
