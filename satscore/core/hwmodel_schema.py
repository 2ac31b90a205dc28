"""The shape of a hardware model file, and a reader that names every key that does not fit it.

One table type per TOML table. ``read_tables`` walks a parsed file along these types, so that a typo is
reported with its place and the nearest valid key, and all mistakes of a file are reported at once.
"""

import difflib
import functools
import typing
from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

from satscore.core.hwmodel_types import Bounded, CapScope, NumberKind

SCHEMA_VERSION = 1
MISSING = "missing"

Pipe = Literal["tensor", "vector"]
Route = Literal["datasheet", "derived"]


class Problem(NamedTuple):
    """One mistake: the dotted key (lists by index) and what is wrong with it."""

    key: str
    message: str


class RawSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[source.NAME]``: a place where numbers were read."""

    title: str
    where: str
    read: str
    url: str = ""


class RawNumber(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``{ value, unit, kind, uncertainty_frac, source, note }``; ``source`` names a ``[source.NAME]``."""

    value: float
    unit: str
    kind: NumberKind
    uncertainty_frac: float
    source: str
    note: str = ""


class RawChip(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[chip]``: what the chip itself reports, by which it is recognised."""

    sm_count: RawNumber
    memory_bus_bits: RawNumber
    memory_bus_bits_alternate: RawNumber | None = None
    """A second width that some drivers report for the same part."""
    memory_size: RawNumber
    mem_clock_mhz: RawNumber
    sm_clock_max_mhz: RawNumber
    tensor_clock_cap_mhz: RawNumber | None = None


class RawPower(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[power]``: limits of the product; the limit in force is always read from the driver."""

    gpu_min_w: RawNumber | None = None
    gpu_max_w: RawNumber
    module_max_w: RawNumber | None = None
    module_cap_w: RawNumber | None = None
    """A cap on the whole module that a site sets below what the driver reports."""


class RawClocks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[rated_clock_mhz]``: the clock at which each pipe's peak is quoted."""

    tensor: RawNumber
    fp64: RawNumber
    fp32: RawNumber
    fp16: RawNumber


class RawGains(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[counter_gain]``: a counter's reading at architectural saturation."""

    tensor: RawNumber
    fp64: RawNumber
    fp32: RawNumber
    fp16: RawNumber
    dram: RawNumber


class RawFlops(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[flops]]``: one dense rate by two routes, from the SM up (the bound) and as printed."""

    pipe: Pipe
    dtype: str
    flop_per_clk_sm: RawNumber
    peak: RawNumber | None = None
    route_tolerance_frac: float | None = None
    route_note: str = ""


class RawDram(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[dram]``: bandwidth as printed; ``bound`` says whether that or clock x bus is the bound."""

    peak: RawNumber
    bound: Route
    route_tolerance_frac: float | None = None
    route_note: str = ""


class RawLinks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[link]``: peaks per direction; a link that the part lacks, or whose rate is unknown, is left out."""

    nvlink: RawNumber | None = None
    pcie: RawNumber | None = None
    c2c: RawNumber | None = None


class RawAttainable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[attainable]]``: the best measured rate at one cap; no ``vboost_level`` means not recorded."""

    resource: Bounded
    dtype: str | None = None
    cap_scope: CapScope
    cap_w: float
    vboost_level: int | None = None
    attainable_frac: RawNumber
    attainable_active_frac: RawNumber | None = None


class RawModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole file."""

    extends: str | None = None
    """Id of the model that the file builds on; gone once they are merged (``core.hwmodel_overlay``)."""
    schema: int
    id: str
    name: str
    nvml_names: tuple[str, ...]
    nvml_names_source: str
    open_checks: tuple[str, ...] = ()
    source: dict[str, RawSource]
    chip: RawChip
    power: RawPower
    rated_clock_mhz: RawClocks
    counter_gain: RawGains
    flops: tuple[RawFlops, ...]
    dram: RawDram
    link: RawLinks
    attainable: tuple[RawAttainable, ...] = ()


def read_tables(raw: object) -> tuple[RawModel | None, list[Problem]]:
    """Give a parsed TOML file its types.

    Args:
        raw: The parsed file, any object.

    Returns:
        The typed file and no problems, or None and every place that does not fit the schema.
    """
    try:
        return msgspec.convert(raw, RawModel), []
    except msgspec.ValidationError as error:
        # Only now is it worth walking the file in Python, which takes ten times as long, to name every mistake.
        return None, list(_walk(raw, RawModel, "")) or [Problem("(file)", str(error))]


def overlay_problems(raw: object) -> list[Problem]:
    """Return what does not fit the schema in a file that builds on another.

    It may leave out tables and keys of tables, but nothing of a number, a source or a row that it states.
    """
    return [p for p in _walk(raw, RawModel, "") if p.message != MISSING or "[" in p.key or p.key.count(".") > 1]


def numbers_in(tables: RawModel) -> Iterator[tuple[str, str, RawNumber]]:
    """Yield (key with indices, key without indices, number) for every number of a file."""
    return _numbers(tables, "", "")


def _numbers(value: object, key: str, pattern: str) -> Iterator[tuple[str, str, RawNumber]]:
    if isinstance(value, RawNumber):
        yield key, pattern, value
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _numbers(getattr(value, name), _join(key, name), _join(pattern, name))
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from _numbers(item, f"{key}[{i}]", pattern)


def _walk(value: object, expected: object, key: str) -> Iterator[Problem]:
    """Compare a value with its expected type; recurses over types, so its depth is that of the schema."""
    arguments = [a for a in typing.get_args(expected) if a is not type(None)]
    if type(None) in typing.get_args(expected):
        expected, arguments = arguments[0], list(typing.get_args(arguments[0]))
    if isinstance(expected, type) and issubclass(expected, msgspec.Struct):
        yield from _walk_table(value, expected, key)
    elif typing.get_origin(expected) is tuple:
        if not isinstance(value, list | tuple):
            yield Problem(key, f"must be a list, not {_kind_of(value)}")
            return
        for i, item in enumerate(value):
            yield from _walk(item, arguments[0], f"{key}[{i}]")
    elif typing.get_origin(expected) is dict:
        if not isinstance(value, dict):
            yield Problem(key, f"must be a table, not {_kind_of(value)}")
            return
        for name, item in value.items():
            if not isinstance(name, str):
                yield Problem(_join(key, _shown(name)), "a key must be text")
            yield from _walk(item, arguments[1], _join(key, _shown(name).strip("'")))
    else:
        yield from _walk_leaf(value, expected, key)


def _walk_table(value: object, table: type[msgspec.Struct], key: str) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield Problem(key or "(file)", f"must be a table, not {_kind_of(value)}")
        return
    fields = _fields(table)
    types = {field.name: field.type for field in fields}
    for name, item in value.items():
        if name in types:
            yield from _walk(item, types[name], _join(key, name))
        else:
            near = difflib.get_close_matches(str(name), types, n=1, cutoff=0.0)[0]
            yield Problem(_join(key, str(name)), f"unknown key; nearest valid key is '{near}'")
    for field in fields:
        if field.required and field.name not in value:
            yield Problem(_join(key, field.name), MISSING)


@functools.cache
def _fields(table: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Resolve a table's types once: doing so per table of a file took two thirds of its loading time."""
    return msgspec.structs.fields(table)


def _walk_leaf(value: object, expected: object, key: str) -> Iterator[Problem]:
    choices = typing.get_args(expected)
    if choices:
        if not (isinstance(value, str) and value in choices):
            yield Problem(key, f"must be one of {', '.join(map(repr, choices))}, not {_shown(value)}")
        return
    try:
        msgspec.convert(value, type=expected)
    except msgspec.ValidationError:
        name = {float: "a number", int: "a whole number", str: "text"}.get(typing.cast("type", expected), "")
        yield Problem(key, f"must be {name}, not {_kind_of(value)}")


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _kind_of(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    return _shown(value)


def _shown(value: object) -> str:
    """Show a value in at most 60 characters; an integer too large to print must not raise."""
    try:
        text = repr(value)
    except ValueError:
        text = "a huge number"
    return text if len(text) <= 60 else f"{text[:57]}..."
