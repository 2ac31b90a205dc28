"""What a rule is: data about measures of Facts, and a three-valued judgement of its conditions.

A *measure* is one number that can be taken from Facts, with its name and unit; a *condition* is a
measure with a threshold; a *rule* is conditions with everything that is said where they hold. A
condition that is known to fail decides, whatever else is unknown; where an unknown one could still
decide, the rule is 'not judged: missing X'.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import msgspec

from satscore.core.facts import Facts
from satscore.core.rank_row import RankName

Fetch = Callable[[Facts], float | None]
Op = Literal[">=", "<"]
Scope = Literal["gpu", "job", "run"]
"""Whose facts a rule judges: each GPU's own; the means over all GPUs that worked; or what is only known of
the whole run (phases, ranks, the measurement itself), which holds by itself and needs no hysteresis."""
NEAR_SLACK = 0.2
"""A condition is near where it holds with its threshold relaxed by this share (docs/method.md, "Findings")."""


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """A number of Facts.

    Attributes:
        key: Stable name for programs.
        name: For people; reads well before a value ("idle in long gaps 12.3").
        unit: As of EvidenceItem: frac, points, count, 1, or a physical one.
        fetch: Takes it from Facts; None where it is not known.
        counter: What is said to be missing where it is not known; its name if that says it.
        rests_on: What must be known for it to mean anything; named in its place where that is missing.
    """

    key: str
    name: str
    unit: str
    fetch: Fetch
    counter: str = ""
    rests_on: tuple["Measure", ...] = ()

    def value(self, facts: Facts) -> float | None:
        """Return the number, or None where it or anything that it rests on is not known."""
        return None if self.lacks(facts) else self.fetch(facts)

    def lacks(self, facts: Facts) -> list[str]:
        """Return the names of what is missing; empty where the number is known."""
        missing = [name for part in self.rests_on for name in part.lacks(facts)]
        return missing or ([] if self.fetch(facts) is not None else [self.counter or self.name])

    def at_least(self, threshold: float) -> "Condition":
        """Return the condition that this is not below a threshold."""
        return Condition(measure=self, op=">=", threshold=float(threshold))

    def below(self, threshold: float) -> "Condition":
        """Return the condition that this is below a threshold."""
        return Condition(measure=self, op="<", threshold=float(threshold))


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A measure with the threshold that it is held against."""

    measure: Measure
    op: Op
    threshold: float

    def holds(self, facts: Facts, *, near: bool = False) -> bool | None:
        """Return whether it holds, with a relaxed threshold if asked for; None: not known."""
        value = self.measure.value(facts)
        if value is None:
            return None
        slack = NEAR_SLACK if near else 0.0
        if self.op == ">=":
            return value >= self.threshold * (1.0 - slack)
        return value < self.threshold * (1.0 + slack)


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """What to do about a finding."""

    action: str
    """In a few words."""
    hint: str
    next_command: str
    because: tuple[Measure, ...] = ()
    """What speaks for it: of the rule's evidence, it comes second."""


Way = tuple[Condition, ...]
"""Conditions that must hold together."""
Claims = tuple[str, ...] | Callable[[Facts], tuple[str, ...]]
"""Parts of the loss tree, or a function that tells them, whose docstring says them for the document."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule.

    Attributes:
        id: Stable name.
        title: What is found, in at most 60 characters.
        meaning: The same in full, for the document.
        conditions: All must hold.
        alternatives: Other sets of conditions; one set that holds is enough.
        evidence: The numbers that decided, most telling first.
        advice: What to do.
        variants: What to do instead, by what ``variant`` tells.
        variant: Names the variant; a name without an entry means ``advice``.
        false_positives: When not to believe it.
        claims: Parts of the loss tree that it explains: their points are at stake.
        cost: Points at stake that are no part of the loss tree.
        also_needs: What must be known besides the conditions.
        scope: Whose facts it judges.
        ranks: The GPUs that a job's finding is about.
        informational: Nothing is lost, e.g. a run that is at its DRAM roof.
        doubts: It makes the counters themselves doubtful, so it is said first.
        yields_to: Rules that explain the same loss more precisely: what they claim is theirs.
    """

    id: str
    title: str
    meaning: str
    conditions: Way
    alternatives: tuple[Way, ...] = ()
    evidence: tuple[Measure, ...]
    advice: Advice
    variants: dict[str, Advice] = {}
    variant: Callable[[Facts], str] = lambda _: ""
    false_positives: str
    claims: Claims = ()
    cost: Measure | None = None
    also_needs: tuple[Measure, ...] = ()
    scope: Scope = "job"
    ranks: Callable[[Facts], tuple[RankName, ...]] | None = None
    informational: bool = False
    doubts: bool = False
    yields_to: tuple[str, ...] = ()

    @property
    def ways(self) -> tuple[Way, ...]:
        """Return every set of conditions of which one must hold."""
        return (self.conditions, *self.alternatives)

    @property
    def needs(self) -> list[str]:
        """Return the names of all that it may lack, in order."""
        measures = [*(condition.measure for way in self.ways for condition in way), *self.also_needs]
        return list(dict.fromkeys(name for measure in measures for name in _names(measure)))

    def claimed(self, facts: Facts) -> tuple[str, ...]:
        """Return the parts of the loss tree that it claims there."""
        return self.claims(facts) if callable(self.claims) else self.claims

    def advice_for(self, facts: Facts) -> Advice:
        """Return what to do there."""
        return self.variants.get(self.variant(facts), self.advice)

    def evidence_for(self, advice: Advice) -> tuple[Measure, ...]:
        """Return its evidence, most telling first: what was found, then what speaks for the advice."""
        found, others = self.evidence[:1], self.evidence[1:]
        return (*found, *advice.because, *(measure for measure in others if measure not in advice.because))


def _names(measure: Measure) -> list[str]:
    """Return what can be missing for a measure: what it rests on, down to its roots, or itself."""
    return [name for part in measure.rests_on for name in _names(part)] or [measure.counter or measure.name]


class Verdict(NamedTuple):
    """A rule on one set of facts.

    Attributes:
        way: The conditions that held; None: the rule does not apply, or could not be judged.
        missing: What would have been needed; empty where the judgement is sure.
    """

    way: Way | None
    missing: tuple[str, ...]


def judge(rule: Rule, facts: Facts, *, near: bool = False) -> Verdict:
    """Judge a rule on one set of facts, with relaxed thresholds if asked for."""
    also = [name for measure in rule.also_needs for name in measure.lacks(facts)]
    missing = list[str]()
    for way in rule.ways:
        held = [condition.holds(facts, near=near) for condition in way]
        if False in held:
            continue
        lacking = [name for condition in way for name in condition.measure.lacks(facts)] + also
        if not lacking:
            return Verdict(way, ())
        missing += lacking
    return Verdict(None, tuple(dict.fromkeys(missing)))


def points_of(parts: Sequence[str], facts: Facts) -> float:
    """Return the points of some parts of the loss tree together."""
    return sum(facts.loss_points.get(part, 0.0) for part in parts)
