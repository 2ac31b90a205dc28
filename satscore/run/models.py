"""Reading hardware model files: those shipped, the site's and the user's."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import satscore
from satscore.core.catalogue import Catalogue, Entry, Layer, ModelFile, catalogue
from satscore.core.hwmodel import HardwareModel
from satscore.errors import ModelError

FOLDER = "hwmodels"
SITE_VARIABLE = "SATSCORE_HWMODELS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder of model files, or why it cannot be used."""

    name: str
    """``shipped``, ``site`` or ``user``."""
    path: Path
    files: tuple[Path, ...] = ()
    problem: ModelError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """The models that this machine and user have, and what is wrong with their folders."""

    catalogue: Catalogue
    folder_problems: tuple[ModelError, ...] = ()

    @property
    def models(self) -> tuple[HardwareModel, ...]:
        """The models in force, by id."""
        return self.catalogue.models

    def notes(self) -> list[str]:
        """Return what a run should say: folders that are missing and files that are left out."""
        folders = [f"hardware models: {problem.message}" for problem in self.folder_problems]
        return folders + self.catalogue.notes()


def load_library(environ: Mapping[str, str]) -> Library:
    """Read the shipped models, then the site's, then the user's; later ones win by id. Never raises for a file.

    Args:
        environ: The environment: SATSCORE_HWMODELS, XDG_CONFIG_HOME, HOME.
    """
    folders = find_folders(environ)
    layers = [_layer(folder.name, folder.files) for folder in folders]
    return Library(catalogue=catalogue(layers), folder_problems=_folder_problems(folders))


def check_library(environ: Mapping[str, str], given: Iterable[Path] = ()) -> tuple[Library, tuple[Entry, ...]]:
    """Read all folders and, over them, the files given.

    Returns:
        The library, and the entries to judge: those of the given files, or all if none is given.
    """
    chosen = tuple(dict.fromkeys(given))
    absolute = {path.absolute() for path in chosen}
    folders = find_folders(environ)
    layers = [_layer(f.name, [path for path in f.files if path.absolute() not in absolute]) for f in folders]
    found = catalogue([*layers, _layer("given", chosen)])
    judged = tuple(entry for entry in found.entries if not chosen or entry.layer == "given")
    return Library(catalogue=found, folder_problems=() if chosen else _folder_problems(folders)), judged


def find_folders(environ: Mapping[str, str]) -> list[Folder]:
    """Return the folders of models, lightest first. One that is named twice counts where it weighs most."""
    folders = [_shipped()]
    folders += [_listed("site", Path(part)) for part in environ.get(SITE_VARIABLE, "").split(":") if part]
    user = _user_folder(environ)
    folders += [_listed("user", user)] if user is not None else []
    last = {folder.path: folder for folder in folders}
    return [folder for folder in folders if last[folder.path] is folder]


def folder_to_add(environ: Mapping[str, str]) -> str:
    """Return the folder that is read for the user's own files, as people write it."""
    folder, home = _user_folder(environ), environ.get("HOME", "")
    if folder is None:
        return f"a folder that {SITE_VARIABLE} names"
    return str(Path("~") / folder.relative_to(home)) if home and folder.is_relative_to(home) else str(folder)


def find_folder(package: Path | None = None) -> Path:
    """Return the folder of the shipped models.

    A wheel carries them inside the package (pyproject, force-include); an editable install or a source
    checkout has them beside it.

    Args:
        package: Folder of the ``satscore`` package; default is the imported one.

    Raises:
        ModelError: Neither place has a model file.
    """
    package = Path(satscore.__file__).parent if package is None else package
    places = (package / FOLDER, package.parent / FOLDER)
    for place in places:
        if model_files(place):
            return place
    raise ModelError(
        f"no hardware models in {places[0]} or {places[1]}",
        hint="Reinstall satscore: the installation is incomplete.",
    )


def model_files(folder: Path) -> list[Path]:
    """Return the model files of a folder by name; empty if there is no such folder."""
    return sorted(folder.glob("*.toml"))


def read_toml(path: Path) -> dict[str, object]:
    """Parse a TOML file.

    Raises:
        ModelError: It cannot be read, or is not TOML; the message names the file and, for TOML, the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: is not UTF-8: {error.reason} at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        # tomllib raises a bare ValueError for an integer of too many digits, and recurses into nested lists.
        raise ModelError(f"{path}: is not TOML: {error}") from error


def _layer(name: str, paths: Iterable[Path]) -> Layer:
    return Layer(name=name, files=tuple(_file(path) for path in paths))


def _file(path: Path) -> ModelFile:
    try:
        return ModelFile(file=str(path), raw=read_toml(path))
    except ModelError as error:
        return ModelFile(file=str(path), unreadable=error)


def _shipped() -> Folder:
    try:
        path = find_folder()
    except ModelError as error:
        return Folder(name="shipped", path=Path(satscore.__file__).parent / FOLDER, problem=error)
    return Folder(name="shipped", path=path, files=tuple(model_files(path)))


def _listed(name: str, path: Path) -> Folder:
    where = f"{SITE_VARIABLE}: {path}" if name == "site" else str(path)
    try:
        files = sorted(entry for entry in path.iterdir() if entry.suffix == ".toml")
    except OSError as error:
        if name == "user" and isinstance(error, FileNotFoundError):
            return Folder(name=name, path=path)
        problem = ModelError(
            f"{where}: cannot be read: {error.strerror}",
            hint=f"{SITE_VARIABLE} is a list of folders with ':' between them",
        )
        return Folder(name=name, path=path, problem=problem)
    return Folder(name=name, path=path, files=tuple(files))


def _user_folder(environ: Mapping[str, str]) -> Path | None:
    """Return the user's folder by the XDG rules: a relative XDG_CONFIG_HOME is ignored."""
    config, home = environ.get("XDG_CONFIG_HOME", ""), environ.get("HOME", "")
    if config.startswith("/"):
        return Path(config) / "satscore" / FOLDER
    return Path(home) / ".config" / "satscore" / FOLDER if home.startswith("/") else None


def _folder_problems(folders: Iterable[Folder]) -> tuple[ModelError, ...]:
    return tuple(folder.problem for folder in folders if folder.problem is not None)
