"""The rule engine: needs first, then a judgement, then points that no two findings share.

A rule is data (title, hint, next command, when not to believe it) and one small function over
Facts. The engine checks the rule's needs and says 'not judged: missing X' instead of staying silent.
"""

from collections.abc import Callable, Sequence

import msgspec

from satscore.core.facts import Facts
from satscore.core.summary import EvidenceItem, FindingItem, NotJudgedItem, Severity

HIGH_POINTS, MEDIUM_POINTS, LOW_POINTS = 15.0, 5.0, 1.0


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule's function returns when its condition holds.

    Attributes:
        claims: Parts of the loss tree that the finding explains; their points are at stake.
        evidence: The numbers that decided.
        informational: True where nothing is lost, e.g. a run that is at its DRAM roof.
    """

    claims: tuple[str, ...]
    evidence: tuple[EvidenceItem, ...]
    informational: bool = False


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule. ``needs`` maps a counter's plain name to a function that fetches it (None = missing)."""

    id: str
    title: str
    needs: dict[str, Callable[[Facts], float | None]]
    judge: Callable[[Facts], Judgement | None]
    action: str
    """The hint in a few words."""
    hint: str
    next_command: str
    false_positives: str


def evaluate(rules: Sequence[Rule], facts: Facts, weight: float = 1.0) -> tuple[list[FindingItem], list[NotJudgedItem]]:
    """Judge all rules on one scope.

    Args:
        rules: In any order.
        facts: Of the GPUs that worked.
        weight: Their share of the scored time: their points count that much in the whole.

    Returns:
        Findings, most points first; a part of the loss tree claimed by one finding is not counted in
        another. And the rules that lack a counter. Findings below 1 point are left out unless they
        are informational.
    """
    not_judged, judged = [], []
    for rule in rules:
        missing = [name for name, fetch in rule.needs.items() if fetch(facts) is None]
        if missing:
            not_judged.append(NotJudgedItem(id=rule.id, missing=missing))
        elif (judgement := rule.judge(facts)) is not None:
            judged.append((rule, judgement))
    judged.sort(key=lambda pair: -_points(pair[1].claims, facts))
    findings, claimed = [], set[str]()
    for rule, judgement in judged:
        points = weight * _points([part for part in judgement.claims if part not in claimed], facts)
        if points < LOW_POINTS and not judgement.informational:
            continue
        claimed.update(judgement.claims)
        findings.append(_finding(rule, judgement, points))
    return sorted(findings, key=lambda f: -f.points_pct), not_judged


def _points(parts: Sequence[str], facts: Facts) -> float:
    return sum(facts.loss_points.get(part, 0.0) for part in parts)


def _finding(rule: Rule, judgement: Judgement, points: float) -> FindingItem:
    return FindingItem(
        id=rule.id,
        title=rule.title,
        severity="info" if judgement.informational else _severity(points),
        points_pct=points,
        evidence=list(judgement.evidence),
        action=rule.action,
        hint=rule.hint,
        next_command=rule.next_command,
        false_positives=rule.false_positives,
    )


def _severity(points: float) -> Severity:
    if points >= HIGH_POINTS:
        return "high"
    return "medium" if points >= MEDIUM_POINTS else "low"
