"""The block of text at exit: how full, against what, where the rest went, what to do, at what cost.

At most 25 lines of 100 columns (fewer on a narrow terminal), plain ASCII of our own: it lands in
terminals, Slurm logs and CI output alike. Nothing is computed here but rounding.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from satscore.core.summary import FindingItem, Summary
from satscore.core.summary_gpu import Score
from satscore.views import words, words_loss, words_ranks, words_run
from satscore.views.lines import LABEL, MORE, Lines, printable, shortened

WIDTH = 100
MIN_WIDTH = 60
MAX_LINES = 25
MAX_FINDINGS = 3
INDENT = "  "
MAX_EVIDENCE = 3
NOTE_LINES = (4, 2, 1)
MAX_REASON_LINES = 4
COMMAND_WIDTH, LEAST_COMMAND_WIDTH = 40, 10
TELLING_RANGE_PCT = 1.0
"""Missing counters that could have moved the score by less need no line."""
REASON_OF_NO_SCORE = "NO_COUNTERS"
"""This finding is what the line of the missing score says."""

SACRIFICES = (
    "evidence 3",
    "evidence 2",
    "advice 3",
    "signals",
    "notes",
    "own cost",
    "bound",
    "evidence 1",
    "scope",
    "title",
    "advice 2",
    "progress",
    "phases",
    "GPUs",
    "finding 3",
    "advice 1",
    "finding 2",
    "most notes",
    "ranks",
    "range",
)
"""What to do without when the lines do not suffice, the least telling first: of the first three findings the
evidence, the advice, or all but that there are more; of other sections all that one line does not hold; the range
within which missing counters leave the score, since it is called partial all the same."""


def render(summary: Summary, width: int = WIDTH) -> str:
    """Return the text for people: at most 25 lines, the first of them blank.

    Args:
        summary: What to show.
        width: Columns to keep within, at least 60; only the run directory is never shortened.
    """
    columns = max(MIN_WIDTH, min(width, WIDTH))
    return "\n".join(line.rstrip() for line in _fitted(summary, columns))


def _fitted(summary: Summary, width: int) -> list[str]:
    """Return the lines with as much in them as fits."""

    def lines(given_up: Sequence[str]) -> list[str]:
        return _Block(summary, width, frozenset(given_up)).lines()

    enough = (n for n in range(len(SACRIFICES)) if len(lines(SACRIFICES[:n])) <= MAX_LINES)
    given_up = SACRIFICES[: next(enough, len(SACRIFICES))]
    for one in reversed(given_up):  # some saved nothing, or less than was left over in the end
        fewer = tuple(other for other in given_up if other != one)
        if len(lines(fewer)) <= MAX_LINES:
            given_up = fewer
    return lines(given_up)


def _is_range_telling(score: Score) -> bool:
    low, high = score.score_min_pct, score.score_max_pct
    return score.partial or (low is not None and high is not None and high - low >= TELLING_RANGE_PCT)


class _Block:
    """One rendering: a summary laid out in a width, without some of SACRIFICES."""

    def __init__(self, summary: Summary, width: int, given_up: frozenset[str]) -> None:
        self._summary = summary
        self._width = width
        self._given_up = given_up
        self._lines = Lines(width)

    def lines(self) -> list[str]:
        """Return all lines."""
        scored = self._summary.headline.score_pct is not None
        body = chain(self._scored() if scored else self._unscored(), self._findings(scored=scored))
        return ["", self._title(), *body, *self._notes(), *self._tail()]

    def _flow(
        self, section: str, parts: Iterable[str], separator: str = " | ", *, label: str | None = None
    ) -> list[str]:
        """Return a section that may have to do with one line; its name is its label unless another is given."""
        most = 1 if section in self._given_up else None
        return self._lines.flow(section if label is None else label, parts, separator, most=most)

    def _title(self) -> str:
        before, command, after = words.title(self._summary)
        width = self._width - len("---  ---")
        if self._summary.run.label and len(" | ".join((*before, *after))) > width:
            before = before[:-1]  # how it ended tells more than the label
        room = width - sum(len(part) + len(" | ") for part in (*before, *after))
        has_room = room >= min(len(command), LEAST_COMMAND_WIDTH)
        parts = [*before, *([shortened(command, min(COMMAND_WIDTH, room))] if has_room else []), *after]
        text = shortened(" | ".join(parts), width)
        return f"--- {text} " + "-" * max(3, self._width - len(text) - len("---  "))

    def _scored(self) -> Iterator[str]:
        summary, job = self._summary, self._summary.job
        yield from self._lines.flow("saturation", words.headline(summary))
        yield from self._flow("ranks", words_ranks.absent(summary))
        yield from self._flow("scope", words.scope(summary), label="")
        if "range" not in self._given_up and _is_range_telling(job.score):
            yield from (self._lines.line("", text) for text in words.missing_range(job.score))
        yield from self._flow("phases", words_run.phases(summary), ", ")
        gpu = next(gpu for rank in summary.ranks for gpu in rank.gpus)
        peaks, source = words.peaks(summary, gpu)
        yield from self._flow("bound", peaks.split(", "), ", ")
        yield from self._flow("bound", source.split(", "), ", ", label="")
        yield from self._flow("bound", words.state(job.rates, gpu), "; ", label="")
        yield from self._losses()
        yield from self._gpus(shown=job.gpus_count > 1)
        yield from self._flow("signals", words.signals(summary), ", ")
        yield from self._progress()

    def _progress(self) -> Iterator[str]:
        if self._summary.progress is not None:
            yield from self._flow("progress", words_run.progress(self._summary.progress))

    def _losses(self) -> Iterator[str]:
        """Yield one line per top part, largest first, with its parts; then the job's as a product."""
        rows = words_loss.losses(words_loss.top_parts(self._summary), self._lines.room)
        yield from (self._lines.line("" if i else "lost", row) for i, row in enumerate(rows))
        tree = words_loss.job_tree(self._summary)
        if tree is not None:
            where = words_loss.other_time(tree, self._summary.headline)
            yield self._lines.fitting("factors", words_loss.factors(tree, where))

    def _findings(self, *, scored: bool) -> Iterator[str]:
        """Yield the first findings; what went wrong with the measurement itself comes first."""
        findings = [f for f in self._summary.findings if scored or f.id != REASON_OF_NO_SCORE]
        if scored and not findings:
            parts = words_loss.top_parts(self._summary)
            largest = f"; largest loss: {parts[0].name} {parts[0].points_pct:.1f}" if parts else ""
            yield self._lines.line("findings", f"no rule applies{largest}")
        shown = [f for i, f in enumerate(findings[:MAX_FINDINGS], 1) if f"finding {i}" not in self._given_up]
        said = set[str]()
        for i, finding in enumerate(shown, 1):
            yield from self._finding(i, finding, [name for name in finding.tied_with if name not in said])
            said.add(finding.id)
        if len(shown) < len(findings):
            yield self._lines.line("", f"{len(findings) - len(shown)} more in summary.json")

    def _finding(self, number: int, finding: FindingItem, ties: Sequence[str]) -> Iterator[str]:
        """Yield the finding of a number; of two that are tied the first one says so."""
        where = f" ({words_ranks.names(finding.ranks, self._summary, with_host=True)})" if finding.ranks else ""
        at_stake = f", {finding.points_pct:.1f} points" if finding.points_pct >= words_loss.SHOWN_PCT else ""
        tied = f", tied with {', '.join(ties)}" if ties else ""
        head = [f"{finding.id}{where}{at_stake}{tied}", finding.title]
        if "title" in self._given_up:
            yield self._lines.line(finding.severity, ": ".join(head))
        else:
            yield from self._lines.flow(finding.severity, head, ": ")
        if f"evidence {number}" not in self._given_up:
            because = [words.evidence(item) for item in finding.evidence[:MAX_EVIDENCE]]
            because[:1] = [f"because {text}" for text in because[:1]]
            yield from self._lines.flow("", because, "; ", indent=INDENT)
        if f"advice {number}" not in self._given_up:
            advice = [f"do: {finding.action}", f"next: {finding.next_command}"]
            yield from self._lines.flow("", advice, "; ", indent=INDENT)

    def _unscored(self) -> Iterator[str]:
        """Yield why there is no score, and what is known all the same."""
        summary, score = self._summary, self._summary.job.score
        reason = self._lines.wrapped(f"none: {summary.headline.reason}")[:MAX_REASON_LINES]
        yield from (self._lines.line("" if i else "score", line) for i, line in enumerate(reason))
        yield from self._flow("ranks", words_ranks.absent(summary))
        if score.grade is None:
            yield from (self._lines.line("", text) for text in words.missing_range(score))
        yield from self._lines.flow("achieved", words.achieved(summary.job.rates), ", ")
        yield from self._gpus(shown=summary.job.gpus_scored_count > 0)
        yield from self._progress()

    def _gpus(self, *, shown: bool) -> Iterator[str]:
        """Yield the GPUs that count, where that says more than the headline, and those that do not."""
        label = "GPUs"
        if shown:
            compared = [*words_ranks.over_gpus(self._summary), *words_ranks.suspects(self._summary)]
            yield from self._flow(label, compared, ", ")
            label = ""
        unused = words_ranks.unused(self._summary)
        if unused:
            yield self._lines.line(label, unused)

    def _notes(self) -> list[str]:
        """Return notes that fit; the rest is counted and stands in the JSON."""
        given_up = len(self._given_up & {"notes", "most notes"})
        room = NOTE_LINES[given_up]
        said = self._summary.headline.reason or ""
        notes = [n for n in self._summary.notes if n not in said and not n.startswith("SIMULATED")]
        notes = [n for n in notes if not words_ranks.is_said(n)]
        lines = list[str]()
        for shown, note in enumerate(notes):
            wrapped = self._lines.wrapped(note)
            is_last = shown == len(notes) - 1
            cut = len(lines) + len(wrapped) > room - (not is_last)
            if cut:
                wrapped = wrapped[: max(0, room - 1 - len(lines))]
                wrapped[-1:] = [line[: self._lines.room - len(MORE)] + MORE for line in wrapped[-1:]]
            lines += [self._lines.line("" if i else "note", line) for i, line in enumerate(wrapped)]
            if cut:
                rest = len(notes) - shown
                return [*lines, self._lines.line("note", f'{rest} not (wholly) shown: "notes" in summary.json')]
        return lines

    def _tail(self) -> Iterator[str]:
        yield from self._flow("own cost", words.own_cost(self._summary.cost, self._summary.source))
        if self._summary.run.directory:
            # Never shortened: people copy it.
            yield f"{'files':<{LABEL}}{printable(self._summary.run.directory)}"
