"""Reading the shipped hardware models: package data of a wheel, else the folder beside the package."""

import tomllib
from collections.abc import Iterable
from pathlib import Path

import satscore
from satscore.core.hwmodel import HardwareModel, find_problems, find_set_problems, parse_model
from satscore.errors import ModelError

FOLDER = "hwmodels"


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


def load_file(path: Path) -> HardwareModel:
    """Load one model file; ModelError names file and key of the first problem."""
    return parse_model(read_toml(path), str(path))


def load_models(folder: Path | None = None) -> tuple[HardwareModel, ...]:
    """Load every model, ordered by file name.

    Args:
        folder: Where to look; default is the folder of the shipped models.

    Raises:
        ModelError: A file is wrong, or two models cannot be told apart: then no model is safe to use.
    """
    folder = find_folder() if folder is None else folder
    models = tuple(load_file(path) for path in model_files(folder))
    for problem in _set_problems(models):
        raise problem
    return models


def check_files(paths: Iterable[Path]) -> dict[Path, list[ModelError]]:
    """Return every problem of every file; problems of the set stand at the file that brought them."""
    found: dict[Path, list[ModelError]] = {}
    models: list[HardwareModel] = []
    for path in paths:
        try:
            raw = read_toml(path)
        except ModelError as error:
            found[path] = [error]
            continue
        found[path] = find_problems(raw, str(path))
        if not found[path]:
            models.append(parse_model(raw, str(path)))
    for problem in _set_problems(models):
        place = next(path for path in found if problem.message.startswith(f"{path}: "))
        found[place].append(problem)
    return found


def _set_problems(models: Iterable[HardwareModel]) -> list[ModelError]:
    """Problems of models together: names that do not decide, and ids that are not the file's name."""
    models = tuple(models)
    named = [
        ModelError(f"{m.file}: id: '{m.id}' must be the name of the file: {m.id}.toml")
        for m in models
        if Path(m.file).stem != m.id
    ]
    return named + find_set_problems(models)
