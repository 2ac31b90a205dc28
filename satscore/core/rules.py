"""The rule engine: every rule is judged, every loss belongs to one finding, ties are said.

Where several findings explain the same part of the loss tree, a more precise rule goes first, then
the one with more points; what is left to the others is all that they report.
"""

from collections.abc import Collection, Sequence

import msgspec

from satscore.core.facts import Facts
from satscore.core.rank_row import RankName
from satscore.core.rules_model import Measure, Rule, Way, judge, points_of
from satscore.core.summary import EvidenceItem, FindingItem, NotJudgedItem, Severity

MOST_NAMED = 64
"""GPUs that a finding names; of more it says how many."""
HIGH_POINTS, MEDIUM_POINTS, LOW_POINTS = 15.0, 5.0, 1.0
TIE_POINTS = 2.0
"""The two largest findings are not told apart if their points differ by no more."""


class Firing(msgspec.Struct, frozen=True, kw_only=True):
    """A rule in one window: whether it fires, and whether it would with relaxed thresholds."""

    fires: bool
    near: bool


class _Place(msgspec.Struct, frozen=True, kw_only=True):
    """Facts that a rule is judged on, and their share of the scored time."""

    name: RankName | None
    """None: the whole job."""
    facts: Facts
    share: float


class _Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that holds at a place."""

    place: _Place
    way: Way
    parts: tuple[str, ...]
    """What it claims there."""

    @property
    def points(self) -> float:
        """Points of the whole that it explains."""
        return self.place.share * points_of(self.parts, self.place.facts)

    @property
    def strength(self) -> tuple[float, float]:
        """For choosing the place that shows it best."""
        return self.points, self.way[0].measure.value(self.place.facts) or 0.0


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """A rule with the places where it holds, of so many that were judged."""

    rule: Rule
    hits: tuple[_Hit, ...]
    places_count: int

    @property
    def points(self) -> float:
        """Points at stake."""
        if self.rule.cost is not None:
            return self.rule.cost.value(self.hits[0].place.facts) or 0.0
        return sum(hit.points for hit in self.hits)

    @property
    def names_gpus(self) -> bool:
        """Whether it is about single GPUs: then it is said however little is at stake."""
        return self.rule.scope == "gpu" or bool(_ranks(self))


def evaluate(
    rules: Sequence[Rule],
    facts: Facts,
    weight: float = 1.0,
    per_gpu: Sequence[tuple[RankName, Facts, float]] = (),
    held: Collection[str] = (),
) -> tuple[list[FindingItem], list[NotJudgedItem]]:
    """Judge all rules on one scope.

    Args:
        rules: In any order.
        facts: Of the GPUs that worked.
        weight: Their share of the scored time: their points count that much in the whole.
        per_gpu: The same GPUs one by one, each with its share of the scored time, for the rules that
            judge every GPU by itself; where it is empty these rules judge ``facts``.
        held: Rules that hold already (the live view): they are judged with relaxed thresholds.

    Returns:
        Findings: what makes the counters doubtful first, then by points. A part of the loss tree that one
        finding claims is not counted in another. Findings below 1 point are left out unless they are
        informational or name GPUs. And the rules that lack a counter.
    """
    whole = (_Place(name=None, facts=facts, share=weight),)
    gpus = tuple(_Place(name=name, facts=own, share=share) for name, own, share in per_gpu) or whole
    found, not_judged = [], []
    for rule in rules:
        places = gpus if rule.scope == "gpu" else whole
        hits, missing = _judge_places(rule, places, near=rule.id in held)
        if hits:
            found.append(_Found(rule=rule, hits=hits, places_count=len(places)))
        elif missing:
            not_judged.append(NotJudgedItem(id=rule.id, missing=missing))
    kept = [item for one in _share_out(found) if (item := _finding(one)) is not None]
    doubtful = {rule.id for rule in rules if rule.doubts}
    kept.sort(key=lambda item: (item.id not in doubtful, -item.points_pct, item.id))
    return _with_ties(kept, facts.job.ci_points), not_judged


def firings(
    rules: Sequence[Rule], facts: Facts, per_gpu: Sequence[tuple[RankName, Facts, float]] = ()
) -> dict[str, Firing]:
    """Judge one window for the live view: the rules on counters that can be judged, by id.

    Args:
        rules: In any order; those of the whole run are left out, they hold by themselves.
        facts: Of the GPUs that worked.
        per_gpu: As for ``evaluate``.
    """
    out = {}
    for rule in rules:
        places = [own for _, own, _ in per_gpu] if per_gpu and rule.scope == "gpu" else [facts]
        verdicts = [judge(rule, own) for own in places]
        fires = any(verdict.way for verdict in verdicts)
        if rule.scope != "run" and (fires or not any(verdict.missing for verdict in verdicts)):
            out[rule.id] = Firing(fires=fires, near=any(judge(rule, own, near=True).way for own in places))
    return out


def _judge_places(rule: Rule, places: Sequence[_Place], *, near: bool) -> tuple[tuple[_Hit, ...], list[str]]:
    hits, missing = [], dict[str, None]()
    for place in places:
        verdict = judge(rule, place.facts, near=near)
        missing |= dict.fromkeys(verdict.missing)
        if verdict.way is not None:
            hits.append(_Hit(place=place, way=verdict.way, parts=rule.claimed(place.facts)))
    return tuple(hits), list(missing)


def _share_out(found: Sequence[_Found]) -> list[_Found]:
    """Give every part at every place to one finding; a finding to which nothing is left goes."""
    by_id = {one.rule.id: one for one in found}

    def depth(one: _Found) -> int:
        return max((1 + depth(by_id[other]) for other in one.rule.yields_to if other in by_id), default=0)

    taken, out = set[tuple[RankName | None, str]](), []
    for one in sorted(found, key=lambda one: (depth(one), -one.points, one.rule.id)):
        hits = []
        for hit in one.hits:
            left = tuple(part for part in hit.parts if (hit.place.name, part) not in taken)
            taken.update((hit.place.name, part) for part in left)
            if left or not hit.parts or one.rule.informational:
                hits.append(msgspec.structs.replace(hit, parts=left))
        if hits:
            out.append(msgspec.structs.replace(one, hits=tuple(hits)))
    return out


def _finding(one: _Found) -> FindingItem | None:
    """Return the finding, or None where too little is at stake to say it."""
    rule, points = one.rule, one.points
    small = points < LOW_POINTS
    if small and not (rule.informational or one.names_gpus):
        return None
    shown = max(one.hits, key=lambda hit: hit.strength)
    facts = shown.place.facts
    advice = rule.advice_for(facts)
    return FindingItem(
        id=rule.id,
        title=rule.title,
        severity="info" if rule.informational or small else _severity(points),
        points_pct=points,
        evidence=[*_gpus_concerned(one), *_evidence(rule.evidence_for(advice), shown.way, facts)],
        action=advice.action,
        hint=advice.hint,
        next_command=advice.next_command,
        false_positives=rule.false_positives,
        ranks=_ranks(one)[:MOST_NAMED],
        tied_with=[],
    )


def _ranks(one: _Found) -> list[RankName]:
    """Return the GPUs that a finding is about; none where it is about all."""
    if one.rule.ranks is not None:
        return list(one.rule.ranks(one.hits[0].place.facts))
    if len(one.hits) == one.places_count:
        return []
    return [hit.place.name for hit in one.hits if hit.place.name is not None]


def _gpus_concerned(one: _Found) -> list[EvidenceItem]:
    count = len(_ranks(one))
    if one.rule.scope != "gpu" or count == 0:
        return []
    name = f"GPUs of {one.places_count}:"
    return [EvidenceItem(key="gpus_concerned", name=name, value=float(count), unit="count", threshold=None)]


def _evidence(measures: Sequence[Measure], way: Way, facts: Facts) -> list[EvidenceItem]:
    """Return the rows whose value is known, with the threshold that was held against it."""
    thresholds = {condition.measure.key: condition.threshold for condition in way}
    return [
        EvidenceItem(key=m.key, name=m.name, value=value, unit=m.unit, threshold=thresholds.get(m.key))
        for m in measures
        if (value := m.value(facts)) is not None
    ]


def _severity(points: float) -> Severity:
    if points >= HIGH_POINTS:
        return "high"
    return "medium" if points >= MEDIUM_POINTS else "low"


def _with_ties(findings: list[FindingItem], ci_points: float | None) -> list[FindingItem]:
    """Let the two largest name each other where their points cannot be told apart."""
    at_stake = sorted((f for f in findings if f.severity != "info"), key=lambda f: (-f.points_pct, f.id))[:2]
    if len(at_stake) < 2 or at_stake[0].points_pct - at_stake[1].points_pct > max(TIE_POINTS, ci_points or 0.0):
        return findings
    first, second = (f.id for f in at_stake)
    partner = {first: [second], second: [first]}
    return [msgspec.structs.replace(f, tied_with=partner.get(f.id, [])) for f in findings]
