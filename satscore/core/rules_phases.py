"""Rules about the course of the run (docs/method.md, "Phases")."""

from collections.abc import Callable

from satscore.core.facts import Facts
from satscore.core.job_facts import DipFacts, RegimeFacts
from satscore.core.rules_model import Advice, Measure, Rule


def _phases_known(facts: Facts) -> float | None:
    return 1.0 if facts.job.phase_s else None


def _start_frac(facts: Facts) -> float | None:
    job = facts.job
    started = job.phase_s.get("startup", 0.0) + job.phase_s.get("warmup", 0.0)
    return started / job.run_s if job.run_s > 0 else None


def _of_dips(key: str, name: str, unit: str, fetch: Callable[[DipFacts], float]) -> Measure:
    """Return a number of the periodic dips; None where there are none."""
    return Measure(
        key=key, name=name, unit=unit, fetch=lambda f: None if f.job.periodic is None else fetch(f.job.periodic)
    )


def _largest_change(facts: Facts) -> RegimeFacts | None:
    return max(
        facts.job.regime_changes or (), key=lambda c: (abs(c.after_points - c.before_points), -c.at_s), default=None
    )


def _of_change(key: str, name: str, unit: str, fetch: Callable[[RegimeFacts], float]) -> Measure:
    """Return a number of the largest change of level; None where there is none."""

    def of_largest(facts: Facts) -> float | None:
        change = _largest_change(facts)
        return None if change is None else fetch(change)

    return Measure(key=key, name=name, unit=unit, fetch=of_largest)


PHASES = Measure(key="phases", name="phases", unit="1", fetch=_phases_known)
RUN_LENGTH = Measure(key="run_s", name="length of the run", unit="s", fetch=lambda f: f.job.run_s)
START_FRAC = Measure(key="start_frac", name="start-up and warm-up", unit="frac", fetch=_start_frac, rests_on=(PHASES,))
START_COST = Measure(
    key="start_cost_points",
    name="cost of start-up and warm-up",
    unit="points",
    fetch=lambda f: f.job.start_cost_points,
    rests_on=(PHASES,),
)
DIP_COST = Measure(
    key="dip_cost_points",
    name="cost of the dips",
    unit="points",
    fetch=lambda f: 0.0 if f.job.periodic is None else f.job.periodic.cost_points,
    rests_on=(PHASES,),
)
UNSETTLED = Measure(
    key="never_steady",
    name="no steady phase (1: yes)",
    unit="count",
    fetch=lambda f: None if f.job.never_steady is None else float(f.job.never_steady),
    rests_on=(PHASES,),
)
CHANGES = Measure(
    key="regime_changes_count",
    name="lasting changes of level",
    unit="count",
    fetch=lambda f: None if f.job.regime_changes is None else float(len(f.job.regime_changes)),
    rests_on=(PHASES,),
)

PHASE_RULES = (
    Rule(
        id="PERIODIC_DIPS",
        title="the score dips at regular times",
        meaning="The level falls at regular intervals for a short time: checkpoints (data leaves the GPU meanwhile), "
        "pauses of the garbage collector, evaluation, logging.",
        conditions=(DIP_COST.at_least(1.0),),
        evidence=(
            _of_dips("dip_period_s", "every", "s", lambda d: d.period_s),
            _of_dips("dip_duration_s", "for", "s", lambda d: d.duration_s),
            _of_dips("dips_count", "dips", "count", lambda d: float(d.count)),
            _of_dips("dip_duty_frac", "share of the time", "frac", lambda d: d.duty_frac),
        ),
        advice=Advice(
            action="find what runs at that period",
            hint="Look for what the program does at that period: evaluation, logging, a synchronous checkpoint, "
            "garbage collection.",
            next_command="py-spy record -d 120 -o profile.svg --pid $(pgrep -n python)",
        ),
        variants={
            "checkpoint": Advice(
                action="asynchronous, sharded checkpoints",
                hint="Data leaves the GPU during the dips, as in checkpoints: write them asynchronously and sharded "
                "(torch.distributed.checkpoint.async_save), to local disk first, or less often.",
                next_command="py-spy dump --pid $(pgrep -n python)",
            ),
            "gc": Advice(
                action="control the garbage collector",
                hint="Short dips without traffic while the host is busy, as of Python's garbage collector: gc.freeze() "
                "after start-up, gc.disable() with gc.collect() at fixed steps, the same on all ranks.",
                next_command="py-spy record -d 120 --gil -o profile.svg --pid $(pgrep -n python)",
            ),
        },
        variant=lambda facts: "" if facts.job.periodic is None else facts.job.periodic.kind,
        false_positives="Evaluation that is meant to run so often.",
        cost=DIP_COST,
        scope="run",
    ),
    Rule(
        id="SLOW_START",
        title="start-up and warm-up take a large part of the run",
        meaning="A fifth or more of a run of at least ten minutes is over before the level is steady.",
        conditions=(RUN_LENGTH.at_least(600.0), START_FRAC.at_least(0.2)),
        evidence=(START_FRAC, START_COST, RUN_LENGTH),
        advice=Advice(
            action="cache compilation, stage data",
            hint="Keep compilation caches (TORCHINDUCTOR_CACHE_DIR, TRITON_CACHE_DIR) on fast storage, stage container "
            "image and data to the node, import less, run longer per job.",
            next_command="python -X importtime CMD 2>&1 | sort -t'|' -k2 -n | tail -20",
        ),
        false_positives="Short tests, where start-up is most of the run by nature.",
        cost=START_COST,
        also_needs=(START_COST,),
        scope="run",
    ),
    Rule(
        id="NEVER_STEADY",
        title="the run never reached a steady level",
        meaning="The level drifts from end to end, or the run is a series of different things: there is no level that "
        "a part of it keeps. The headline is that of the whole run, and there is no interval.",
        conditions=(UNSETTLED.at_least(1),),
        evidence=(RUN_LENGTH,),
        advice=Advice(
            action="run longer, or mark the phases",
            hint="Let it run longer; mark phases with satscore mark steady; look at the course of the score for "
            "a drift (temperature, memory, sequence length).",
            next_command="satscore mark steady",
        ),
        false_positives="Runs whose work changes all the time by design.",
        informational=True,
        scope="run",
    ),
    Rule(
        id="REGIME_CHANGE",
        title="the level changed for good within the run",
        meaning="The steady phase has parts with different levels, each held for a minute or more; the score is "
        "their mean and belongs to neither.",
        conditions=(CHANGES.at_least(1),),
        evidence=(
            _of_change("changed_at_s", "largest change after", "s", lambda c: c.at_s),
            _of_change("before_points", "before", "points", lambda c: c.before_points),
            _of_change("after_points", "after", "points", lambda c: c.after_points),
            CHANGES,
        ),
        advice=Advice(
            action="see what changed at that time",
            hint="Compare with the log of the program and the site at that time: batch or sequence length, another "
            "stage of training, a power cap, a neighbour, a failed link.",
            next_command="nvidia-smi -q -d POWER,PERFORMANCE,CLOCK",
        ),
        false_positives="Training that changes on purpose, e.g. longer sequences at the end.",
        informational=True,
        scope="run",
    ),
)
