"""The files of wheels, sorted by what a program needs of them."""

import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

GLIBCS = ("2_28", "2_27", "2_26", "2_24", "2_17")
"""manylinux platforms (PEP 600) that are accepted: up to glibc 2.28 of RHEL 8, below that of SLES 15 SP5, 2.31."""
NOT_RUN = (".a", ".c", ".cpp", ".f", ".f90", ".h", ".hpp", ".pc", ".pxd", ".pxi", ".pyf", ".pyi", ".pyx")
READ_AS_DATA = ("nanoarrow/_static_version.py",)
BUILD_TOOLS = ("numpy/distutils/", "numpy/f2py/")
LICENCE_WORDS = ("licen", "copying", "notice", "authors")
STUB = '''"""Loads the compiled module of this name, which lies in a folder beside the archive."""

import sys
from importlib.util import module_from_spec, spec_from_file_location

spec = spec_from_file_location(__name__, __loader__.archive[:-4] + "/{path}")
sys.modules[__name__] = module = module_from_spec(spec)
spec.loader.exec_module(module)
'''


class BundleError(Exception):
    """The bundle cannot be made; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A Python that the bundle is for.

    Attributes:
        version: As 3.12.
        machine: As the kernel names it.
        compiler: An interpreter of this version, None if none was found.
    """

    version: str
    machine: str
    compiler: str | None

    @property
    def tag(self) -> str:
        """What such a Python has in the names of its extension modules."""
        return f"cpython-{self.version.replace('.', '')}-{self.machine}-linux-gnu"

    @property
    def module_suffixes(self) -> tuple[str, ...]:
        """How the names of extension modules end that such a Python imports: importlib's EXTENSION_SUFFIXES."""
        return f".{self.tag}.so", ".abi3.so", ".so"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The content of a bundle for one target, by path.

    Attributes:
        archived: What goes into the zip file: modules and the metadata of packages.
        files: Shared objects and data, which have to be files; ``__file__`` of the modules names their folder.
        licences: For people.
    """

    archived: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    licences: dict[str, bytes] = field(default_factory=dict)


def download(target: Target, requirements: Iterable[str], folder: Path, wheels: Path | None) -> list[Path]:
    """Let pip choose the wheels for a target, of the package index or of a folder.

    Raises:
        BundleError: There are none.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", str(folder)]
    command += ["--implementation", "cp", "--python-version", target.version]
    for platform in (*(f"manylinux_{glibc}" for glibc in GLIBCS), "manylinux2014"):
        command += ["--platform", f"{platform}_{target.machine}"]
    if wheels is not None:
        command += ["--no-index", "--find-links", str(wheels)]
    done = subprocess.run([*command, *requirements], check=False, capture_output=True, text=True)
    if done.returncode:
        raise BundleError(f"no wheels for {target.tag}: pip says:\n{done.stderr.strip()}")
    return sorted(folder.glob("*.whl"))


def sort_wheel(path: Path, target: Target, parts: Parts) -> None:
    """Add a wheel's files to the parts, without what no program runs."""
    files = {}
    with zipfile.ZipFile(path) as wheel:
        for name in sorted(name for name in wheel.namelist() if not name.endswith("/")):
            place = PurePosixPath(name)
            if place.parts[0].endswith(".data"):
                if place.parts[1] not in ("purelib", "platlib"):
                    continue
                place = PurePosixPath(*place.parts[2:])
            files[place] = wheel.read(name)
    # Without a file of its own the licence is in the metadata and the comments, which are not compiled.
    has_licence = any(map(_is_licence, files))
    used = {}
    for place, data in files.items():
        is_metadata = place.parts[0].endswith(".dist-info")
        if is_metadata and place.name == "METADATA":
            parts.archived[str(place)] = data
        if _is_licence(place) or place.name == "METADATA" or (place.suffix == ".py" and not has_licence):
            parts.licences[f"{path.stem}/{place}"] = data
        if not (is_metadata or _is_licence(place) or _is_stripped(place)):
            used[place] = data
    _add(used, target, parts)


def _is_licence(place: PurePosixPath) -> bool:
    named = any(word in place.name.lower() for word in LICENCE_WORDS)
    return "licenses" in place.parts or (named and place.suffix != ".py")


def _is_stripped(place: PurePosixPath) -> bool:
    stem = place.name.partition(".")[0]
    if str(place).startswith(BUILD_TOOLS):
        return True
    return place.suffix in NOT_RUN or "tests" in place.parts or stem.endswith("_tests") or place.name == "py.typed"


def _add(used: dict[PurePosixPath, bytes], target: Target, parts: Parts) -> None:
    compiled = _compiled_modules(used, target)
    for place, data in used.items():
        name = str(place)
        if place.suffix != ".py" or name in READ_AS_DATA:
            parts.files[name] = data
        if place in compiled:
            continue  # Cython compiles sources that may lie beside, as pyzmq's do: Python would not look at them
        if place.suffix == ".py":
            parts.archived[name] = data
    for module, shared_object in compiled.items():
        parts.archived[str(module)] = STUB.format(path=shared_object).encode()


def _compiled_modules(places: Iterable[PurePosixPath], target: Target) -> dict[PurePosixPath, PurePosixPath]:
    """Return where each compiled module lies, by the place of its source; of several, the one that Python takes."""
    found: dict[PurePosixPath, PurePosixPath] = {}
    modules = [place for place in places if place.suffix == ".so" and not place.parts[0].endswith(".libs")]
    for suffix in target.module_suffixes:
        for place in modules:
            name = place.name.removesuffix(suffix)
            if "." not in name:
                found.setdefault(place.with_name(f"{name}.py"), place)
    return found
