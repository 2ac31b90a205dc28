"""The text of a scaling trial: a table of the runs, then what changed from the first run to each other one.

At most 100 columns (fewer on a narrow terminal), plain ASCII of our own. Nothing is computed here but rounding.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from satscore.core.scaling_types import Basis, Scaling, ScalingRun
from satscore.views.lines import LABEL, Lines, printable, shortened
from satscore.views.words_loss import NAMES
from satscore.views.words_run import duration

WIDTH, MIN_WIDTH = 100, 60
UNKNOWN = "n/a"
GAP = "  "
MARKED = "*"
"""Beside the number of a run that has marks: they are told below the table."""
DATA_MARKS = {"measured": "", "simulated": "SIMULATED", "replay": "REPLAY"}
RATIO = "S/S1: the score over that of run 1"
MEANINGS: dict[Basis, str] = {
    "tokens": f"efficiency: tokens/s per GPU over that of run 1; {RATIO}",
    "steps": (
        "strong: efficiency by the median step time, if all runs share one global batch; "
        f"weak: if the batch grows with the GPUs; {RATIO}"
    ),
    "duration": (
        "strong: efficiency by the duration of the command, if all runs do the same work; "
        f"weak: if the work grows with the GPUs; {RATIO}"
    ),
    "none": RATIO,
}


def _interval(run: ScalingRun) -> str:
    if run.ci95_low_pct is None or run.ci95_high_pct is None:
        return UNKNOWN
    return f"{run.ci95_low_pct:.1f}..{run.ci95_high_pct:.1f}"


def _number(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else f"{value:{form}}"


class _Column(NamedTuple):
    """A column of the table; ``rank`` says how early a narrow terminal does without it, 0: never."""

    title: str
    cell: Callable[[ScalingRun], str]
    rank: int = 0


COLUMNS = (
    _Column("nodes", lambda run: f"{run.nodes_count}", 3),
    _Column("ranks", lambda run: f"{run.ranks_count}", 4),
    _Column("GPUs", lambda run: f"{run.gpus_count}"),
    _Column("S", lambda run: _number(run.score_pct, ".1f")),
    _Column("95 %", _interval, 5),
    _Column("of", lambda run: run.headline_kind, 6),
    _Column("grade", lambda run: run.grade or UNKNOWN, 2),
)
SPEED_COLUMNS: dict[Basis, tuple[_Column, ...]] = {
    "tokens": (
        _Column("tokens/s", lambda run: _number(run.tokens_s, ",.0f")),
        _Column("efficiency", lambda run: _number(run.efficiency_frac, ".2f")),
    ),
    "steps": (
        _Column("step (s)", lambda run: _number(run.step_time_p50_s, ",.3f")),
        _Column("strong", lambda run: _number(run.efficiency_strong_frac, ".2f")),
        _Column("weak", lambda run: _number(run.efficiency_weak_frac, ".2f")),
    ),
    "duration": (
        _Column("time", lambda run: UNKNOWN if run.duration_s is None else duration(run.duration_s)),
        _Column("strong", lambda run: _number(run.efficiency_strong_frac, ".2f")),
        _Column("weak", lambda run: _number(run.efficiency_weak_frac, ".2f")),
    ),
    "none": (),
}
RATIO_COLUMN = _Column("S/S1", lambda run: _number(run.score_ratio, ".2f"))


def render(scaling: Scaling, width: int = WIDTH) -> str:
    """Return the text for people.

    Args:
        scaling: What to show.
        width: Columns to keep within, at least 60; only directories are never shortened.
    """
    columns = max(MIN_WIDTH, min(width, WIDTH))
    lines = Lines(columns)
    body = [
        _title(scaling, columns),
        *_table(scaling, columns),
        *_paragraph(lines, "", MEANINGS[scaling.basis]),
        *(line for number, run in enumerate(scaling.runs, 1) for line in _details(lines, number, run)),
        *(line for note in scaling.notes for line in _paragraph(lines, "note", note)),
        # Never shortened: people copy them.
        *(f"{f'files {number}':<{LABEL}}{printable(run.directory)}" for number, run in enumerate(scaling.runs, 1)),
    ]
    return "\n".join(line.rstrip() for line in body)


def _title(scaling: Scaling, width: int) -> str:
    parts = [
        f"satscore {scaling.satscore_version}",
        DATA_MARKS[scaling.data_kind],
        f"scaling trial of {len(scaling.runs)} runs",
        scaling.model_id or "unknown GPUs",
        f"profile {scaling.profile}",
        scaling.dtype or "",
    ]
    text = shortened(" | ".join(filter(None, parts)), width - len("---  ---"))
    return f"--- {text} " + "-" * max(3, width - len(text) - len("---  "))


def _table(scaling: Scaling, width: int) -> list[str]:
    """Return a header and a row per run, without the columns for which there is no room."""
    columns = [*COLUMNS, *SPEED_COLUMNS[scaling.basis], RATIO_COLUMN]
    while True:
        rows = [["run", *(column.title for column in columns)]]
        for number, run in enumerate(scaling.runs, 1):
            rows.append([f"{number}{MARKED if run.marks else ''}", *(column.cell(run) for column in columns)])
        widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
        expendable = max(columns, key=lambda column: column.rank)
        if sum(widths) + len(GAP) * len(columns) <= width or not expendable.rank:
            return [_row(cells, widths) for cells in rows]
        columns.remove(expendable)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return a row: the number of the run on the left, all else on the right of its column."""
    number, *others = zip(cells, widths, strict=True)
    return GAP.join([f"{number[0]:<{number[1]}}", *(f"{cell:>{width}}" for cell, width in others)])


def _details(lines: Lines, number: int, run: ScalingRun) -> list[str]:
    """Return what must stand beside a run, and how its score and losses differ from those of the first one."""
    parts = [*run.marks, *(_changes(run) if number > 1 else ())]
    return lines.flow(f"run {number}", parts)


def _changes(run: ScalingRun) -> Iterator[str]:
    change, grown = run.score_change, run.grown
    if change is not None:
        verdict = "more than noise" if change.is_beyond_noise else "within noise"
        limits = f"{change.ci95_low_pct:+.1f}..{change.ci95_high_pct:+.1f}"
        yield f"S {change.difference_pct:+.1f} (95 % {limits}): {verdict}"
    elif run.score_ratio is not None:
        yield f"S against run 1: {run.missing['score_change']}"
    if grown is not None:
        meaning = f" ({NAMES[grown.name]})" if grown.name in NAMES and "|" not in grown.name else ""
        yield f"grew most: {grown.name} {grown.first_pct:.1f} to {grown.here_pct:.1f}{meaning}"
    elif run.loss_growth_pct:
        yield "no loss grew"
    for field in ("score_pct", "efficiency_frac", "loss_growth_pct"):
        if field in run.missing:
            yield run.missing[field]


def _paragraph(lines: Lines, label: str, text: str) -> list[str]:
    """Return a text broken between words, the label before its first line."""
    return [f"{'' if i else label:<{LABEL}}{row}" for i, row in enumerate(lines.wrapped(text))]
