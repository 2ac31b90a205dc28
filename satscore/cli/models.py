"""``satscore models``: which GPUs have a score, every number behind it with its source, and checks of files."""

import argparse
import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from satscore.cli.output import write_stdout
from satscore.cli.parser import Parser
from satscore.core.catalogue import Catalogue, Entry
from satscore.core.hwmodel import HardwareModel, Number, plain_name
from satscore.errors import UsageError
from satscore.launch.stderr import say
from satscore.run.models import check_library, folder_to_add, load_library

LIST_HEADER = ("id", "name", "SMs", "16-bit TFLOP/s", "DRAM GB/s", "NVLink GB/s", "ceilings")
SHIPPED = "shipped"
SCALES = (("T", 1e12), ("G", 1e9))
SCALED_UNITS = ("FLOP/s", "OP/s", "B/s")
EXAMPLES = """\
examples:
  satscore models                      one row per GPU that has a score
  satscore models show gh200-96        every number of one GPU, with unit, kind, uncertainty and source
  satscore models check                validate the files of all folders (exit 1 if one is wrong)
  satscore models check my-gpu.toml    validate a file of your own

folders, later ones win by id: shipped, SATSCORE_HWMODELS (one or more, ':' between them),
$XDG_CONFIG_HOME/satscore/hwmodels (default ~/.config/satscore/hwmodels)
"""


def main(argv: list[str]) -> int:
    """Run the command and return its exit status.

    Args:
        argv: The words after ``models``; none means ``list``.

    Raises:
        UsageError: A wrong flag or an unknown model.
    """
    options = _parser().parse_args(argv or ["list"])
    if options.action == "check":
        return _check([Path(name) for name in options.files], os.environ)
    library = load_library(os.environ)
    for note in library.notes():
        say(f"satscore: {note}")
    found = library.catalogue
    _write(show_lines(_find(found, options.name)) if options.action == "show" else list_lines(found))
    return 0


def list_lines(found: Catalogue) -> Iterator[str]:
    """Yield a table with one row per model, then the files of those that are not shipped; at most 100 columns."""
    entries = [(entry, entry.model) for _, entry in sorted(found.winners.items()) if entry.model is not None]
    rows = [LIST_HEADER, *(_list_row(model) for _, model in entries)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(LIST_HEADER) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[-1]])
    added = [(entry, model) for entry, model in entries if entry.layer != SHIPPED]
    yield from ("", *(f"{model.id} is from {entry.layer}: {_origin(entry)}" for entry, model in added)) if added else ()


def show_lines(entry: Entry) -> Iterator[str]:
    """Yield every number of a model with its unit, kind, uncertainty and source, and its file if not the base's."""
    assert entry.model is not None
    model = entry.model
    yield f"{model.id}: {model.name}"
    yield f"file: {_origin(entry)}"
    yield f"matches NVML names {', '.join(repr(name) for name in model.nvml_names)} with the same chip facts"
    if model.nvml_names_source is not None:
        yield f"  names from {model.nvml_names_source.label}"
    yield ""
    distinct = dict.fromkeys(number.source for number in model.numbers.values())
    sources = {source: i for i, source in enumerate(distinct, start=1)}
    width = max(len(key) for key in model.numbers)
    for key, number in model.numbers.items():
        file = entry.number_files.get(key)
        yield f"{key.ljust(width)}  {_number_text(number)}  [{sources[number.source]}]{f' from {file}' if file else ''}"
        if number.note:
            yield f"    {number.note}"
    yield ""
    yield "sources"
    for source, i in sources.items():
        yield f"  [{i}] {source.label}{f' <{source.url}>' if source.url else ''}"
    yield from ("", "open", *(f"  {text}" for text in model.open_checks)) if model.open_checks else ()


def quantity(value: float, unit: str) -> str:
    """Return a value with its unit, scaled for reading: 989.43 TFLOP/s, 4800 GB/s, 1830 MHz."""
    if unit == "1":
        return f"{value:g}"
    if unit in SCALED_UNITS:
        # Bandwidth reads best in GB/s throughout: 3352.3 beside 450.
        prefix, scale = SCALES[1] if unit == "B/s" else SCALES[0]
        return f"{value / scale:.6g} {prefix}{unit}"
    return f"{value:.6g} {unit}"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="satscore models",
        description="Hardware models: the bounds of each GPU, every number with its source.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="list|show|check", parser_class=Parser)
    actions.add_parser("list", help="one row per model (default)", description="One row per model.")
    show = actions.add_parser("show", help="every number of one model, with its source")
    show.add_argument("name", metavar="NAME", help="a model's id, or the GPU's name as nvidia-smi prints it")
    check = actions.add_parser("check", help="validate all files, or those given")
    check.add_argument("files", metavar="FILE", nargs="*", help="model files (default: those of all folders)")
    return parser


def _origin(entry: Entry) -> str:
    """Return an entry's file, what it builds on and what it overrides."""
    files, base = [entry.file], entry.extends
    while base is not None:
        files.append(base.file)
        base = base.extends
    text = " extends ".join(files)
    if entry.overrides is None or entry.overrides.file in files:
        return text
    return f"{text}, overrides {entry.overrides.file}"


def _find(found: Catalogue, name: str) -> Entry:
    for entry in found.winners.values():
        known_names = (plain_name(one) for one in entry.model.nvml_names) if entry.model is not None else ()
        if entry.model is not None and (name == entry.model.id or plain_name(name) in known_names):
            return entry
    known = sorted(found.winners)
    longer = [one for one in known if one.startswith(name.lower())]
    near = longer or difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.0)
    raise UsageError(
        f"there is no hardware model '{name}'" + (f"; nearest is '{near[0]}'" if near else ""),
        hint=f"Known: {', '.join(known)}. "
        f"For another one, add <id>.toml to {folder_to_add(os.environ)} (docs/hwmodels.md).",
    )


def _check(given: list[Path], environ: Mapping[str, str]) -> int:
    """Print every problem of every file to stdout; return 1 if there is any, else 0."""
    library, entries = check_library(environ, given)
    _write([f"FAIL {problem.message}" for problem in library.folder_problems])
    for entry in entries:
        lines = [f"FAIL {problem.message}" for problem in entry.problems]
        _write(lines or [f"ok   {_origin(entry)}{_overridden(entry, library.catalogue)}"])
    bad = sum(bool(entry.problems) for entry in entries)
    _write([f"{len(entries)} files, {bad} wrong" if bad else f"{len(entries)} files, all valid"])
    return 1 if bad or library.folder_problems else 0


def _overridden(entry: Entry, found: Catalogue) -> str:
    """Return which file wins over a valid one, if another does."""
    assert entry.model is not None
    winner = found.winners[entry.model.id]
    return "" if winner is entry else f"; {winner.file} wins"


def _list_row(model: HardwareModel) -> tuple[str, ...]:
    nvlink = model.link_peak_bytes_s.get("nvlink")
    caps = sorted({f"{c.cap_w:g} W {c.cap_scope}" for c in model.attainable})
    flops = model.flops_peak.get("bf16") or model.flops_peak.get("fp16")
    return (
        model.id,
        model.name,
        str(model.sm_count),
        f"{flops / 1e12:.1f}" if flops else "-",
        f"{model.dram_peak_bytes_s / 1e9:.1f}",
        f"{nvlink / 1e9:g}" if nvlink else "-",
        ", ".join(caps) or "none",
    )


def _number_text(number: Number) -> str:
    uncertainty = f"+-{number.uncertainty_frac * 100:g} %"
    return f"{quantity(number.value, number.unit):>20}  {number.kind:<9}  {uncertainty:>8}"


def _write(lines: Iterator[str] | list[str]) -> None:
    write_stdout("".join(f"{line}\n" for line in lines))
