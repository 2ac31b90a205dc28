"""Make a folder that runs satscore on the Python of any container: no installation, and nothing is written.

    python examples/bundle/make_bundle.py --out satscore-bundle

Needs pip and a network, or ``--wheels FOLDER`` with the wheels. The same wheels, the same sources and the same
Pythons make the same bytes. What lies where: README.md in this folder.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from try_out import try_out
from wheels import BundleError, Parts, Target, download, sort_wheel

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
MACHINES = ("x86_64", "aarch64")
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
FOR_PROGRAMS = ("satscore/__init__.py", "satscore/marks.py")
"""What a program imports to set marks; standard library only."""
EPOCH = (1980, 1, 1, 0, 0, 0)
EPOCH_S = 315532800
COMPILE = """
import pathlib, py_compile, sys
for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.py")):
    name = path.relative_to(sys.argv[1])
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(path), str(path) + "c", f"<satscore-bundle>/{name}", doraise=True, invalidation_mode=mode)
"""


def read_project() -> tuple[list[str], dict[str, bytes], dict[str, bytes]]:
    """Return what pyproject.toml asks for: the dependencies, the modules and the data beside them."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    modules = {
        str(path.relative_to(PROJECT)): path.read_bytes()
        for package in wheel["packages"]
        for path in sorted((PROJECT / package).rglob("*.py"))
    }
    data: dict[str, bytes] = {}
    for source, place in wheel["force-include"].items():
        path = PROJECT / source
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        data |= {str(PurePosixPath(place, file.relative_to(path))): file.read_bytes() for file in files}
    return project["project"]["dependencies"], modules, data


def compile_modules(archived: Mapping[str, bytes], compiler: str | None, folder: Path) -> dict[str, bytes]:
    """Return the archive's content with compiled modules in the place of sources, if there is a compiler.

    Raises:
        BundleError: A module does not compile.
    """
    if compiler is None:
        return dict(archived)
    sources = {name: data for name, data in archived.items() if name.endswith(".py")}
    for name, data in sources.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    environment = {"PYTHONHASHSEED": "0", "PATH": os.defpath}  # constants that are sets have an order
    command = [compiler, "-S", "-c", COMPILE, str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise BundleError(f"{compiler} does not compile the modules:\n{done.stderr.strip()}")
    rest = {name: data for name, data in archived.items() if name not in sources}
    return rest | {f"{name}c": (folder / f"{name}c").read_bytes() for name in sources}


def write_archive(path: Path, archived: Mapping[str, bytes]) -> None:
    """Write a zip file whose bytes depend on nothing but its content; stored, as zlib's output differs by version."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(archived.items()):
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, data)


class Tree:
    """A folder that is filled; files of the same bytes, as the libraries of one package for two Pythons, are one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[bytes, Path] = {}
        self._written: set[str] = set()

    def write(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file or link it to one that is there; a wheel for all machines comes once for each."""
        if name in self._written:
            return
        self._written.add(name)
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        known = self._known.setdefault(hashlib.sha256(data + bytes([mode & 0o111])).digest(), path)
        if known != path:
            os.link(known, path)
            return
        path.write_bytes(data)
        path.chmod(mode)

    def finish(self) -> None:
        """Give everything one time."""
        for folder, _, files in os.walk(self.root, topdown=False):
            for name in [*files, "."]:
                os.utime(Path(folder, name), (EPOCH_S, EPOCH_S))


def interpreter(version: str) -> str | None:
    """Return a Python of this version that runs here, to compile for it."""
    for candidate in (sys.executable, shutil.which(f"python{version}")):
        if candidate and version_of(candidate) == version:
            return candidate
    return None


def version_of(python: str) -> str | None:
    """Return the version of an interpreter as 3.12, None if it does not run."""
    command = [python, "-I", "-S", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() or None


def targets(pythons: list[str], machines: list[str]) -> list[Target]:
    """Return the targets, by version.

    Raises:
        BundleError: A version is not one of ours, or an interpreter does not run.
    """
    compilers = {}
    for python in pythons:
        version = version_of(python) if "/" in python else python
        if version not in VERSIONS:
            raise BundleError(f"--python {python}: not one of {', '.join(VERSIONS)} or an interpreter of these")
        compilers[version] = str(Path(python).absolute()) if "/" in python else interpreter(version)
    return [
        Target(version=version, machine=machine, compiler=compiler)
        for version, compiler in sorted(compilers.items())
        for machine in machines
    ]


def make(tree: Tree, wanted: list[Target], wheels: Path | None) -> None:
    """Fill the folder.

    Raises:
        BundleError: A wheel is missing, a module does not compile, or a Python that is here cannot use the bundle.
    """
    requirements, modules, data = read_project()
    tree.write("bin/satscore", (HERE / "start.py").read_bytes(), 0o755)
    tree.write("lib/other_python.py", (HERE / "other_python.py").read_bytes())
    for name in FOR_PROGRAMS:
        tree.write(f"python/{name}", modules[name])
    tree.write("licenses/satscore/LICENSE", (PROJECT / "LICENSE").read_bytes())
    manifest = {}
    for target in wanted:
        with tempfile.TemporaryDirectory() as scratch:
            files = download(target, requirements, Path(scratch, "wheels"), wheels)
            manifest[target.tag] = {
                "compiled": target.compiler is not None,
                "wheels_sha256": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
            }
            parts = Parts(archived=dict(modules), files=dict(data))
            for file in files:
                sort_wheel(file, target, parts)
            archived = compile_modules(parts.archived, target.compiler, Path(scratch, "modules"))
        sizes = write_target(tree, target, parts, archived)
        tried = "tried" if try_out(tree.root, target, modules) else "not tried: no such Python here"
        print(f"{target.tag}: {sizes}; {tried}")
    tree.write("manifest.json", json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n")
    tree.finish()


def write_target(tree: Tree, target: Target, parts: Parts, archived: Mapping[str, bytes]) -> str:
    """Write the parts of one target, and say how large they are."""
    write_archive(tree.root / "lib" / f"{target.tag}.zip", archived)
    for name, content in parts.files.items():
        tree.write(f"lib/{target.tag}/{name}", content, 0o755)
    for name, content in parts.licences.items():
        tree.write(f"licenses/{name}", content)
    modules_mb = (tree.root / "lib" / f"{target.tag}.zip").stat().st_size / 1e6
    files_mb = sum(map(len, parts.files.values())) / 1e6
    how = "" if target.compiler else ", NOT COMPILED"
    return f"modules {modules_mb:.1f} MB{how}, shared objects and data {files_mb:.1f} MB"


def main() -> None:
    """Make a bundle as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder to make; must not exist")
    parser.add_argument(
        "--python",
        nargs="+",
        default=list(VERSIONS[:3]),
        metavar="X.Y|PATH",
        help="versions, or interpreters of them where pythonX.Y is not on PATH (default: 3.11 3.12 3.13)",
    )
    parser.add_argument("--arch", nargs="+", default=list(MACHINES), choices=MACHINES, help="default: both")
    parser.add_argument("--wheels", type=Path, help="take the wheels out of this folder, without a network")
    given = parser.parse_args()
    try:
        given.out.mkdir(parents=True)
        (given.out / "lib").mkdir()
        tree = Tree(given.out)
        make(tree, targets(given.python, given.arch), given.wheels)
    except FileExistsError:
        parser.exit(1, f"{given.out}: is there already; remove it or name another folder\n")
    except (BundleError, OSError) as error:
        shutil.rmtree(given.out, ignore_errors=True)
        parser.exit(1, f"{given.out}: not made: {error}\n")
    print(f"{given.out}: {disk_usage_mb(given.out):.0f} MB in {sum(1 for _ in given.out.rglob('*'))} files and folders")


def disk_usage_mb(root: Path) -> float:
    """Return the size of all files, each once however many names it has."""
    sizes = {(info.st_dev, info.st_ino): info.st_size for info in (path.lstat() for path in root.rglob("*"))}
    return sum(sizes.values()) / 1e6


if __name__ == "__main__":
    main()
