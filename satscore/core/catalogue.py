"""Which hardware model file counts: folders in the order of their weight, later ones win by id.

A wrong file is left out and costs no other file its place: what it would have overridden stays in force.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from satscore.core.hwmodel_check import check_set
from satscore.core.hwmodel_overlay import citation_problems, located, merge
from satscore.core.hwmodel_parse import check_and_build, model_error
from satscore.core.hwmodel_schema import Problem, overlay_problems
from satscore.core.hwmodel_types import HardwareModel
from satscore.errors import ModelError


class ModelFile(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A file as read: parsed TOML, or why there is none."""

    file: str
    raw: Any = None
    unreadable: ModelError | None = None

    @property
    def stem(self) -> str:
        """The name without folder and ``.toml``: the id that the file must have."""
        return self.file.rpartition("/")[2].removesuffix(".toml")


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one folder."""

    name: str
    files: tuple[ModelFile, ...]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A file among the others. ``model`` is None, and ``problems`` say why, where it is left out."""

    file: str
    layer: str
    model: HardwareModel | None = None
    problems: tuple[ModelError, ...] = ()
    extends: "Entry | None" = None
    """What an overlay builds on."""
    overrides: "Entry | None" = None
    """What would be in force under this id without this file."""
    number_files: dict[str, str] = msgspec.field(default_factory=dict)
    """File of each of the model's ``numbers`` that an overlay set or changed; the others are the base file's."""
    raw: Any = None
    """The whole file, overlays merged in."""


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """All files, in the order of their weight, and the one in force for each id."""

    entries: tuple[Entry, ...]
    winners: dict[str, Entry]

    @property
    def models(self) -> tuple[HardwareModel, ...]:
        """The models in force, by id."""
        return tuple(entry.model for _, entry in sorted(self.winners.items()) if entry.model is not None)

    def notes(self) -> list[str]:
        """Return one line for each file that is left out."""
        return [_left_out(entry.problems) for entry in self.entries if entry.problems]


def catalogue(layers: Sequence[Layer]) -> Catalogue:
    """Read all folders, lightest first: overlays are merged with what they build on.

    An overlay builds on the model of that id in its own folder or, if there is none, on the one in force in the
    folders before it: no file can change or break what stands in an earlier folder.
    """
    entries: list[Entry] = []
    winners: dict[str, Entry] = {}
    for layer in layers:
        reader = _LayerReader(layer, winners)
        found = _settle(winners, [reader.entry(file) for file in layer.files])
        entries += found
        winners |= {entry.model.id: entry for entry in found if entry.model is not None}
    return Catalogue(entries=tuple(entries), winners=winners)


def _left_out(problems: Sequence[ModelError]) -> str:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"hardware model left out: {problems[0].message}{more}; 'satscore models check' lists all"


class _LayerReader:
    """Makes the entries of one folder; an overlay's base first.

    Args:
        layer: The folder.
        before: What is in force without it, by id.
    """

    def __init__(self, layer: Layer, before: Mapping[str, Entry]) -> None:
        self._layer = layer
        self._before = before
        self._done: dict[str, Entry] = {}
        self._open: list[ModelFile] = []

    def entry(self, file: ModelFile) -> Entry:
        """Return the entry of a file."""
        if file.file not in self._done:
            self._open.append(file)
            self._done[file.file] = self._read(file)
            self._open.pop()
        return self._done[file.file]

    def _read(self, file: ModelFile) -> Entry:
        if file.unreadable is not None:
            return Entry(file=file.file, layer=self._layer.name, problems=(file.unreadable,))
        if isinstance(file.raw, dict) and "extends" in file.raw:
            return self._overlay(file)
        return self._whole(file, file.raw)

    def _overlay(self, file: ModelFile) -> Entry:
        problems = overlay_problems(file.raw)
        if problems:
            return self._wrong(file, problems)
        base = self._base(file)
        problems = citation_problems(file.raw)
        if isinstance(base, Problem):
            return self._wrong(file, [base, *problems])
        if problems:
            return self._wrong(file, problems)
        return self._whole(file, merge(base.raw, file.raw, file.file), base)

    def _whole(self, file: ModelFile, raw: Any, base: Entry | None = None) -> Entry:  # noqa: ANN401 - parsed TOML
        model, problems = check_and_build(raw, file.file)
        if model is None:
            if base is not None:
                problems = [located(problem, raw, file.raw, file.file, base.file) for problem in problems]
            return self._wrong(file, problems)
        if model.id != file.stem:
            named = Problem("id", f"'{model.id}' must be the name of the file: {model.id}.toml")
            return self._wrong(file, [named])
        return Entry(
            file=file.file,
            layer=self._layer.name,
            model=model,
            extends=base,
            overrides=self._before.get(model.id),
            number_files=_number_files(model, base),
            raw=raw,
        )

    def _base(self, file: ModelFile) -> Entry | Problem:
        """Return what an overlay builds on, or why there is no such thing."""
        wanted = file.raw["extends"]
        beside = next((f for f in self._layer.files if f.stem == wanted and f is not file), None)
        if beside is None:
            return self._before.get(wanted) or self._unknown(file, wanted)
        if beside in self._open:
            chain = [f.stem for f in self._open[self._open.index(beside) :]]
            return Problem("extends", f"goes in a circle: {' -> '.join([*chain, beside.stem])}")
        base = self.entry(beside)
        if base.model is None:
            return Problem("extends", f"'{wanted}' cannot be built on: {base.problems[0].message}")
        return base

    def _unknown(self, file: ModelFile, wanted: str) -> Problem:
        known = sorted({*self._before, *(f.stem for f in self._layer.files if f is not file)})
        near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.0)
        return Problem("extends", f"there is no other model '{wanted}'" + (f"; nearest is '{near[0]}'" if near else ""))

    def _wrong(self, file: ModelFile, problems: Sequence[Problem]) -> Entry:
        errors = tuple(model_error(file.file, problem) for problem in problems)
        return Entry(file=file.file, layer=self._layer.name, problems=errors)


def _number_files(model: HardwareModel, base: Entry | None) -> dict[str, str]:
    """Return which numbers an overlay set or changed, itself or (derived ones) through what they are made of."""
    if base is None or base.model is None:
        return {}
    before = base.model.numbers
    changed = {name: model.file for name, number in model.numbers.items() if before.get(name) != number}
    return {name: file for name, file in base.number_files.items() if name in model.numbers} | changed


def _settle(before: Mapping[str, Entry], found: list[Entry]) -> list[Entry]:
    """Leave out the models of a folder that cannot be told apart from others in force; new ids before known ones."""
    while True:
        new = [entry.model for entry in found if entry.model is not None]
        new.sort(key=lambda model: model.id not in before)
        taken = {model.id for model in new}
        kept = [entry.model for entry in before.values() if entry.model is not None and entry.model.id not in taken]
        conflict = next(check_set([*kept, *new]), None)
        if conflict is None:
            return found
        file, problem = conflict
        found = [_refused(entry, problem) if entry.file == file else entry for entry in found]


def _refused(entry: Entry, problem: Problem) -> Entry:
    return Entry(file=entry.file, layer=entry.layer, problems=(model_error(entry.file, problem),))
