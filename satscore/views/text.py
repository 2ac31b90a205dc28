"""The block of text at exit: how full, against what, where the rest went, what to do, at what cost.

At most 25 lines of 100 columns (fewer on a narrow terminal), plain ASCII of our own: it lands in
terminals, Slurm logs and CI output alike. Nothing is computed here but rounding.
"""

import textwrap
from collections.abc import Iterable, Iterator

from satscore.core.summary import FindingItem, LossPart, Summary
from satscore.views import words

WIDTH = 100
MIN_WIDTH = 60
MAX_LINES = 25
MAX_FINDINGS = 3
INDENT = "  "
MAX_EVIDENCE = 3
MAX_NOTE_LINES = 4
MAX_REASON_LINES = 4
LABEL = 11
BAR_WIDTH = 14
COMMAND_WIDTH = 40


def render(summary: Summary, width: int = WIDTH) -> str:
    """Return the text for people: at most 25 lines, after one blank line.

    Args:
        summary: What to show.
        width: Columns to keep within, at least 60; only the run directory is never shortened.
    """
    return _Block(summary, max(MIN_WIDTH, min(width, WIDTH))).text()


class _Block:
    """One rendering: a summary laid out in a width."""

    def __init__(self, summary: Summary, width: int) -> None:
        self._summary = summary
        self._width = width

    def text(self) -> str:
        scored = self._summary.headline.score_pct is not None
        body = list(self._scored() if scored else self._unscored())
        tail = list(self._tail())
        notes = self._notes(MAX_NOTE_LINES)
        room = MAX_LINES - 2 - len(body) - len(notes) - len(tail)
        findings = list(self._findings(room)) if scored else []
        lines = ["", self._title(), *body, *findings, *notes, *tail]
        return "\n".join(line.rstrip() for line in lines)

    def _line(self, label: str, text: str) -> str:
        return f"{label:<{LABEL}}{self._short(text, self._width - LABEL)}"

    def _short(self, text: str, room: int) -> str:
        clean = words.printable(text)
        return clean if len(clean) <= room else clean[: room - 3] + "..."

    def _join(self, label: str, parts: Iterable[str], separator: str = " | ") -> str:
        return self._line(label, separator.join(parts))

    def _flow(self, label: str, parts: Iterable[str], separator: str = " | ", indent: str = "") -> Iterator[str]:
        """Yield parts in as few lines as hold them; a line breaks between parts only."""
        line = ""
        for part in parts:
            joined = f"{line}{separator}{part}" if line else f"{indent}{part}"
            if line and len(joined) > self._width - LABEL:
                yield self._line(label, line)
                label, joined = "", f"{indent}{part}"
            line = joined
        if line:
            yield self._line(label, line)

    def _title(self) -> str:
        before, command, after = words.title(self._summary)
        width = self._width - len("---  ---")
        room = width - sum(len(part) + len(" | ") for part in (*before, *after))
        parts = [*before, self._short(command, max(10, min(COMMAND_WIDTH, room))), *after]
        text = self._short(" | ".join(parts), width)
        return f"--- {text} " + "-" * max(3, self._width - len(text) - len("---  "))

    def _scored(self) -> Iterator[str]:
        summary, job = self._summary, self._summary.job
        yield from self._flow("saturation", words.headline(job.score))
        yield from self._flow("", words.scope(summary))
        if job.score.coverage_frac < 1:
            yield from (self._line("", text) for text in words.missing_range(job.score))
        gpu = next(gpu for rank in summary.ranks for gpu in rank.gpus)
        peaks, source = words.peaks(summary, gpu)
        yield self._line("bound", peaks)
        yield self._line("", source)
        yield from self._flow("", words.state(job.rates, gpu), "; ")
        yield from self._losses()
        yield from self._gpus(shown=job.gpus_count > 1)
        yield from self._flow("signals", words.signals(job.score, job.rates), ", ")

    def _losses(self) -> Iterator[str]:
        """Yield one line per top part, largest first, with its parts."""
        for i, part in enumerate(self._parts()):
            bar = "#" * round(part.points_pct / 100 * BAR_WIDTH)
            text = f"{part.points_pct:4.1f} {bar:<{BAR_WIDTH}} {words.part_text(part)}"
            yield self._line("lost" if i == 0 else "", text)

    def _parts(self) -> list[LossPart]:
        loss = self._summary.job.loss
        parts = [part for part in (loss.datasheet if loss else []) if part.points_pct >= words.SHOWN_PCT]
        return sorted(parts, key=lambda part: -part.points_pct)

    def _findings(self, room: int) -> Iterator[str]:
        """Yield the first findings that fit; what went wrong with the measurement itself comes first."""
        findings = self._summary.findings
        if not findings:
            largest = next((f"; largest loss: {p.name} {p.points_pct:.1f}" for p in self._parts()), "")
            yield self._line("findings", f"no rule applies{largest}")
        shown = 0
        for finding in findings[:MAX_FINDINGS]:
            lines = list(self._finding(finding))
            if len(lines) > room:
                break
            yield from lines
            shown, room = shown + 1, room - len(lines)
        if shown < len(findings) and room:
            yield self._line("", f"{len(findings) - shown} more in summary.json")

    def _finding(self, finding: FindingItem) -> Iterator[str]:
        at_stake = finding.points_pct >= words.SHOWN_PCT
        points = f"{finding.points_pct:.1f} points" if at_stake else "no points at stake"
        yield self._line(finding.severity, f"{finding.id}, {points}: {finding.title}")
        because = [words.evidence(item) for item in finding.evidence[:MAX_EVIDENCE]]
        because[:1] = [f"because {text}" for text in because[:1]]
        yield from self._flow("", because, "; ", INDENT)
        yield from self._flow("", [f"do: {finding.action}", f"next: {finding.next_command}"], "; ", INDENT)

    def _unscored(self) -> Iterator[str]:
        """Yield why there is no score, and what is known all the same."""
        score, rates = self._summary.job.score, self._summary.job.rates
        reason = self._wrapped(f"none: {self._summary.headline.reason}")[:MAX_REASON_LINES]
        yield from (self._line("" if i else "score", line) for i, line in enumerate(reason))
        if score.grade is None:
            yield from (self._line("", text) for text in words.missing_range(score))
        achieved = list(words.achieved(rates))
        if achieved:
            yield self._join("achieved", achieved, ", ")
        yield from self._gpus(shown=self._summary.job.gpus_scored_count > 0)

    def _gpus(self, *, shown: bool) -> Iterator[str]:
        """Yield the GPUs that count, where that says more than the headline, and those that do not."""
        texts = [words.over_gpus(self._summary) if shown else "", words.unused(self._summary)]
        for i, text in enumerate(filter(None, texts)):
            yield self._line("" if i else "GPUs", text)

    def _wrapped(self, text: str) -> list[str]:
        return textwrap.wrap(words.printable(text), self._width - LABEL)

    def _notes(self, room: int) -> list[str]:
        """Return notes that fit; the rest is counted and stands in the JSON."""
        said = self._summary.headline.reason or ""
        notes = [n for n in self._summary.notes if n not in said and not n.startswith("SIMULATED")]
        lines = list[str]()
        for shown, note in enumerate(notes):
            wrapped = self._wrapped(note)
            is_last = shown == len(notes) - 1
            cut = len(lines) + len(wrapped) > room - (not is_last)
            if cut:
                wrapped = wrapped[: max(0, room - 1 - len(lines))]
            lines += [self._line("" if i else "note", line) for i, line in enumerate(wrapped)]
            if cut:
                rest = len(notes) - shown
                return [*lines, self._line("note", f'{rest} not (wholly) shown: "notes" in summary.json')]
        return lines

    def _tail(self) -> Iterator[str]:
        cost = list(words.own_cost(self._summary.cost, self._summary.source))
        if cost:
            yield self._join("own cost", cost)
        if self._summary.run.directory:
            # Never shortened: people copy it.
            yield f"{'files':<{LABEL}}{words.printable(self._summary.run.directory)}"
