"""The screen of ``satscore doctor``: plain ASCII, at most 100 columns, what is fine in few words."""

import textwrap
from collections.abc import Iterator, Sequence

from satscore.core.diagnosis import Diagnosis, Examined, GpuFinding, best_source
from satscore.views.lines import printable

WIDTH = 100
MIN_WIDTH = 60
LABEL = 11
MARKS = {"simulated": "SIMULATED", "replay": "REPLAY"}
SHORT = {"yes": "yes", "no": "NO", "not tried": "-"}
MAX_NOTES = 3


def render_diagnosis(diagnosis: Diagnosis, width: int = WIDTH) -> str:
    """Return the text; its last paragraph is the grade that is possible.

    Args:
        diagnosis: What was found.
        width: Columns to keep within, 60 to 100.
    """
    screen = _Screen(max(MIN_WIDTH, min(width, WIDTH)))
    found = best_source(diagnosis.sources)
    screen.title(_title(diagnosis))
    _sources(screen, diagnosis)
    if found is not None and found.examined is not None:
        _counters(screen, found.name, found.examined)
    _checks(screen, diagnosis)
    screen.row("grade", "", _grade(diagnosis))
    return "\n".join(screen.lines) + "\n"


class _Screen:
    """Lines of labelled, wrapped rows; a label that repeats is shown once."""

    def __init__(self, width: int) -> None:
        self.lines: list[str] = []
        self._width = width
        self._label = ""

    def title(self, text: str) -> None:
        self.lines.append(f"--- {text} ".ljust(self._width, "-")[: self._width])

    def row(self, label: str, lead: str, text: str) -> None:
        shown = "" if label == self._label else label
        self._label = label
        head = f"{shown:<{LABEL}}{lead}"
        indent = " " * len(head)
        body = textwrap.wrap(printable(text), self._width - len(head), break_on_hyphens=False) or [""]
        self.lines += [f"{head if i == 0 else indent}{line}".rstrip() for i, line in enumerate(body)]


def _title(diagnosis: Diagnosis) -> str:
    mark = MARKS.get(diagnosis.data_kind, "")
    parts = [f"satscore {diagnosis.satscore_version} doctor", f"{mark} ({diagnosis.wanted})" if mark else ""]
    return " | ".join([*filter(None, parts), f"Python {diagnosis.python_version}", diagnosis.architecture])


def _sources(screen: _Screen, diagnosis: Diagnosis) -> None:
    """Show every source; a reason that two of them share is given once."""
    named: dict[str, str] = {}
    for source in diagnosis.sources:
        text = f"as {named[source.text]}" if source.text in named else source.text
        named.setdefault(source.text, source.name)
        screen.row("sources", f"{source.name:<7}{SHORT[source.status]:<4}", text)


def _counters(screen: _Screen, source: str, found: Examined) -> None:
    for numbers, gpu in _alike(found.gpus):
        screen.row("GPUs", f"{numbers}  ", _gpu(gpu))
    known = [group.name for group in found.counters if group.status == "known"]
    if known:
        screen.row(f"by {source}", "known  ", ", ".join(known))
    for lead, text in _gaps(found):
        screen.row(f"by {source}", lead, text)
    for note in _telling(found)[:MAX_NOTES]:
        screen.row("notes", "", note)


def _alike(gpus: Sequence[GpuFinding]) -> Iterator[tuple[str, GpuFinding]]:
    """Yield GPUs that differ in nothing but number and UUID as one, with their numbers."""
    groups: list[tuple[list[int], GpuFinding]] = []
    for gpu in gpus:
        alike = next((numbers for numbers, other in groups if _gpu(other) == _gpu(gpu)), None)
        if alike is None:
            groups.append(([gpu.number], gpu))
        else:
            alike.append(gpu.number)
    for numbers, gpu in groups:
        in_a_row = len(numbers) > 1 and numbers == list(range(numbers[0], numbers[-1] + 1))
        yield f"{numbers[0]}-{numbers[-1]}" if in_a_row else ",".join(map(str, numbers)), gpu


def _gpu(gpu: GpuFinding) -> str:
    limits = (("GPU", gpu.power_limit_gpu_w), ("module", gpu.power_limit_module_w), ("site's module", gpu.module_cap_w))
    caps = [f"{scope} {watts:.0f} W" for scope, watts in limits if watts is not None]
    facts = [f"model {gpu.model_id or 'unknown'}", f"cap {', '.join(caps) or 'unknown'}"]
    if gpu.vboost_level is not None or gpu.may_have_vboost:
        facts.append(f"vBoost {'unknown' if gpu.vboost_level is None else gpu.vboost_level}")
    facts += ["MIG on"] if gpu.mig_enabled else []
    return f"{gpu.name or 'without a name'}: {', '.join(facts)}"


def _gaps(found: Examined) -> Iterator[tuple[str, str]]:
    """Yield what could not be read: whole groups by reason, then the fields of groups that are known in part."""
    whole: dict[str, list[str]] = {}
    for group in found.counters:
        if group.status == "unknown":
            whole.setdefault(" or ".join(dict.fromkeys(group.missing.values())), []).append(group.name)
    for reason, names in whole.items():
        yield "NOT    ", f"{', '.join(names)}: {reason}"
    for group in found.counters:
        if group.status == "partly":
            yield "partly ", f"{group.name}, without {_missing(group.missing)}"
    absent = [group.name for group in found.counters if group.status == "absent"]
    if absent:
        yield "-      ", f"{', '.join(absent)}: only modules of CPU and GPU have them"


def _missing(missing: dict[str, str]) -> str:
    """Return the fields by reason: ``a, b (no permission)``."""
    by_reason: dict[str, list[str]] = {}
    for field, reason in missing.items():
        by_reason.setdefault(reason, []).append(field)
    return "; ".join(f"{', '.join(fields)} ({reason})" for reason, fields in by_reason.items())


def _telling(found: Examined) -> list[str]:
    """Return the notes that no other row repeats."""
    said = {field for group in found.counters for field in group.missing} | {"SIMULATED", "pipe counters (GPM)"}
    said |= {gpu.model_note for gpu in found.gpus if gpu.model_note}
    return [note for note in found.notes if not any(words in note for words in said)]


def _checks(screen: _Screen, diagnosis: Diagnosis) -> None:
    fine = [f"{check.name}: {check.text}" for check in diagnosis.checks if check.status == "ok"]
    if fine:
        screen.row("fine", "", "; ".join(fine))
    for check in diagnosis.checks:
        if check.status != "ok":
            do = f"; do: {check.remedy}" if check.remedy else ""
            screen.row(check.status, "", f"{check.name}: {check.text}{do}")


def _grade(diagnosis: Diagnosis) -> str:
    lead = {None: "none is possible here, so no score: ", "D": "D is possible here, which is no score: "}
    return lead.get(diagnosis.grade, f"{diagnosis.grade} is possible here: ") + diagnosis.grade_reason
