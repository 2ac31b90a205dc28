"""``satscore models``: which GPUs have a score, every number behind it with its source, and checks of files."""

import argparse
import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path

from satscore.cli.output import write_stdout
from satscore.cli.parser import Parser
from satscore.core.hwmodel import HardwareModel, Number
from satscore.errors import UsageError
from satscore.run.models import check_files, find_folder, load_models, model_files

LIST_HEADER = ("id", "name", "SMs", "bf16 TFLOP/s", "DRAM GB/s", "NVLink GB/s", "ceilings", "NVML names")
SCALES = (("T", 1e12), ("G", 1e9))
SCALED_UNITS = ("FLOP/s", "OP/s", "B/s")
EXAMPLES = """\
examples:
  satscore models                      one row per GPU that has a score
  satscore models show gh200-96        every number of one GPU, with unit, kind, uncertainty and source
  satscore models check                validate the shipped files (exit 1 if one is wrong)
  satscore models check my-gpu.toml    validate a file of your own
"""


def main(argv: list[str]) -> int:
    """Run the command and return its exit status.

    Args:
        argv: The words after ``models``; none means ``list``.

    Raises:
        UsageError: A wrong flag or an unknown model.
        ModelError: A shipped model file is wrong (``check`` prints instead).
    """
    options = _parser().parse_args(argv or ["list"])
    if options.action == "check":
        return _check([Path(name) for name in options.files])
    models = load_models()
    lines = show_lines(_find(models, options.name)) if options.action == "show" else list_lines(models)
    _write(lines)
    return 0


def list_lines(models: Sequence[HardwareModel]) -> Iterator[str]:
    """Yield a table with one row per model."""
    rows = [LIST_HEADER, *(_list_row(model) for model in models)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(LIST_HEADER) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[-1]])


def show_lines(model: HardwareModel) -> Iterator[str]:
    """Yield every number of a model with its unit, kind, uncertainty and source."""
    yield f"{model.id}: {model.name}"
    yield f"file: {model.file}"
    yield f"matches NVML names {', '.join(repr(name) for name in model.nvml_names)} with the same chip facts"
    if model.nvml_names_source is not None:
        yield f"  names from {model.nvml_names_source.label}"
    yield ""
    distinct = dict.fromkeys(number.source for number in model.numbers.values())
    sources = {source: i for i, source in enumerate(distinct, start=1)}
    width = max(len(key) for key in model.numbers)
    for key, number in model.numbers.items():
        yield f"{key.ljust(width)}  {_number_text(number)}  [{sources[number.source]}]"
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
    check = actions.add_parser("check", help="validate the shipped files, or those given")
    check.add_argument("files", metavar="FILE", nargs="*", help="model files (default: all shipped)")
    return parser


def _find(models: Sequence[HardwareModel], name: str) -> HardwareModel:
    for model in models:
        if name == model.id or name in model.nvml_names:
            return model
    known = [model.id for model in models]
    longer = [one for one in known if one.startswith(name.lower())]
    near = longer or difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.0)
    raise UsageError(
        f"there is no hardware model '{name}'; nearest is '{near[0]}'",
        hint=f"Known: {', '.join(known)}. To add one, write hwmodels/<id>.toml.",
    )


def _check(given: list[Path]) -> int:
    """Print every problem of every file to stdout; return 1 if there is any, else 0."""
    found = check_files(given or model_files(find_folder()))
    for path, problems in found.items():
        _write([f"ok   {path}"] if not problems else [f"FAIL {problem.message}" for problem in problems])
    bad = sum(bool(problems) for problems in found.values())
    _write([f"{len(found)} files, {bad} wrong" if bad else f"{len(found)} files, all valid"])
    return 1 if bad else 0


def _list_row(model: HardwareModel) -> tuple[str, ...]:
    nvlink = model.link_peak_bytes_s.get("nvlink")
    caps = sorted({f"{c.cap_w:g} W {c.cap_scope}" for c in model.attainable})
    return (
        model.id,
        model.name,
        str(model.sm_count),
        f"{model.flops_peak['bf16'] / 1e12:.1f}" if "bf16" in model.flops_peak else "-",
        f"{model.dram_peak_bytes_s / 1e9:.1f}",
        f"{nvlink / 1e9:g}" if nvlink else "-",
        ", ".join(caps) or "none",
        ", ".join(model.nvml_names),
    )


def _number_text(number: Number) -> str:
    uncertainty = f"+-{number.uncertainty_frac * 100:g} %"
    return f"{quantity(number.value, number.unit):>20}  {number.kind:<9}  {uncertainty:>8}"


def _write(lines: Iterator[str] | list[str]) -> None:
    write_stdout("".join(f"{line}\n" for line in lines))
