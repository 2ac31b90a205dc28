"""A hardware model file that builds on another one and states only what differs.

``extends = "gh200-96"`` makes a file an overlay (docs/hwmodels.md). Tables are merged key by key. What carries a
source is replaced whole, and cites a source of its own file: a value never ends up under another file's source.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from satscore.core.hwmodel_schema import Problem

ROW_KEYS = {
    "flops": ("pipe", "dtype"),
    "attainable": ("resource", "dtype", "cap_scope", "cap_w", "vboost_level"),
}
"""Lists of tables, with the keys that make two rows the same one."""

Raw = Mapping[str, Any]


def citation_problems(own: Raw) -> list[Problem]:
    """Return what an overlay of the right shape cites but does not have among its own sources, or does not cite."""
    known, cited = own.get("source", {}), dict(_citations(own))
    problems = [
        Problem(key, f"there is no [source.{name}] in this file{_nearest(name, known)}")
        for key, name in cited.items()
        if name not in known
    ]
    unused = [name for name in known if name not in cited.values()]
    return problems + [Problem(f"source.{name}", "is not used by any number") for name in unused]


def merge(base: Raw, own: Raw, file: str) -> dict[str, Any]:
    """Return the whole file that an overlay stands for.

    Args:
        base: The parsed file that it builds on, itself whole.
        own: The parsed overlay, of the right shape and without ``citation_problems``.
        file: Its name, which keeps its sources apart from those of the base.
    """
    own = _with_marked_sources(own, file)
    merged = {key: value for key, value in base.items() if key not in ROW_KEYS}
    for key, value in own.items():
        merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
    for table, fields in ROW_KEYS.items():
        merged[table] = _rows(base.get(table, ()), own.get(table, ()), fields)
    cited = set(dict(_citations(merged)).values())
    stated = own.get("source", {})
    merged["source"] = {name: s for name, s in merged["source"].items() if name in cited or name in stated}
    merged.pop("extends", None)
    return merged


def located(problem: Problem, merged: Raw, own: Raw, file: str, base_file: str) -> Problem:
    """Return a problem of a merged file under the overlay's own key, or under the base's key with that file."""
    head, dot, rest = problem.key.partition(".")
    name, _, index = head.partition("[")
    if name == "source":
        return Problem(problem.key.replace(f" of {file}", "", 1), problem.message)
    if name in ROW_KEYS and index:
        # The overlay's rows come first in the merged file, under the numbers that they have in the overlay.
        i = int(index.rstrip("]"))
        is_own = i < len(own.get(name, ()))
        label = " ".join(str(part) for part in _row_key(merged[name][i], ROW_KEYS[name]) if part is not None)
        head = head if is_own else f"{name}[{label}]"
    else:
        table = own.get(name)
        is_own = rest.partition(".")[0] in table if rest and isinstance(table, dict) else table is not None
    return Problem(f"{head}{dot}{rest}" + ("" if is_own else f" (of {base_file})"), problem.message)


def _rows(base: Sequence[Raw], own: Sequence[Raw], fields: Sequence[str]) -> list[Raw]:
    """Return the overlay's rows, then those of the base that it does not replace: among equals the first counts."""
    replaced = [_row_key(row, fields) for row in own]
    return [*own, *(row for row in base if _row_key(row, fields) not in replaced)]


def _row_key(row: Raw, fields: Sequence[str]) -> tuple[object, ...]:
    return tuple(row.get(field) for field in fields)


def _citations(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, name of a source) for everything that cites one."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name in ("source", "nvml_names_source") and isinstance(item, str):
                yield f"{key}{name}", item
            elif key or name != "source":
                yield from _citations(item, f"{key}{name}.")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _citations(item, f"{key.removesuffix('.')}[{i}].")


def _with_marked_sources(value: Any, file: str) -> Any:  # noqa: ANN401 - parsed TOML of a checked shape
    """Return parsed TOML whose sources, and all that cites them, carry the file's name."""
    if isinstance(value, list | tuple):
        return [_with_marked_sources(item, file) for item in value]
    if not isinstance(value, Mapping):
        return value
    out = {name: _with_marked_sources(item, file) for name, item in value.items()}
    for name in ("source", "nvml_names_source"):
        cited = out.get(name)
        if isinstance(cited, str):
            out[name] = _marked(cited, file)
        elif isinstance(cited, dict):
            out[name] = {_marked(key, file): source for key, source in cited.items()}
    return out


def _marked(name: str, file: str) -> str:
    return f"{name} of {file}"


def _nearest(name: str, known: Raw) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"; nearest is '{near[0]}'" if near else ": an overlay cites its own sources"
