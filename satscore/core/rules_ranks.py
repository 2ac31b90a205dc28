"""Rules about single ranks of the job (docs/method.md, "Stragglers")."""

from collections.abc import Callable

from satscore.core.facts import Facts
from satscore.core.job_facts import Suspect, SuspectKind
from satscore.core.rank_row import RankName
from satscore.core.rules_measures import GPUS_COUNT, RANKS_COMPARED
from satscore.core.rules_model import Advice, Measure, Rule


def _of_kind(kind: SuspectKind) -> Callable[[Facts], list[Suspect]]:
    """Return the function that gives the suspects of a kind, the busiest first."""
    return lambda facts: sorted(
        (suspect for suspect in facts.job.suspects if suspect.kind == kind), key=lambda s: -s.excess_frac
    )


def _named(kind: SuspectKind) -> Callable[[Facts], tuple[RankName, ...]]:
    return lambda facts: tuple(suspect.name for suspect in _of_kind(kind)(facts))


def _claims_of(kind: SuspectKind) -> Callable[[Facts], tuple[str, ...]]:
    def claims(facts: Facts) -> tuple[str, ...]:
        """`persistent`, where the busiest of the ranks that are named is of this kind."""
        busiest = max(facts.job.suspects, key=lambda s: s.excess_frac, default=None)
        return ("persistent",) if busiest is not None and busiest.kind == kind else ()

    return claims


def _row(kind: SuspectKind, key: str, name: str, unit: str, fetch: Callable[[Suspect], float | None]) -> Measure:
    """Return a number of the busiest suspect of a kind."""

    def of_first(facts: Facts) -> float | None:
        suspects = _of_kind(kind)(facts)
        return fetch(suspects[0]) if suspects else None

    return Measure(key=key, name=name, unit=unit, fetch=of_first)


def _counted(kind: SuspectKind, name: str) -> Measure:
    """Return how many ranks of a kind there are."""
    return Measure(
        key=f"{kind}_count",
        name=name,
        unit="count",
        fetch=lambda f: float(len(_of_kind(kind)(f))),
        rests_on=(RANKS_COMPARED,),
    )


def _suspect_rows(kind: SuspectKind) -> tuple[Measure, ...]:
    return (
        _row(kind, "excess_frac", "busy longer than the median rank by", "frac", lambda s: s.excess_frac),
        _row(kind, "efficiency_ratio", "work per busy second, of the median", "frac", lambda s: s.efficiency_ratio),
        _row(kind, "z", "robust z", "1", lambda s: s.z),
        _row(kind, "sm_clock_mhz", "SM clock", "MHz", lambda s: s.sm_clock_mhz),
        _row(kind, "median_clock_mhz", "median SM clock", "MHz", lambda s: s.median_clock_mhz),
        _row(kind, "temp_max_c", "temperature up to", "C", lambda s: s.temp_max_c),
        _row(kind, "speed_up", "job faster without it, times", "1", lambda s: s.speed_up),
    )


def _cause(facts: Facts) -> str:
    """Tell the variant of advice: why the busiest slow GPU is slow."""
    suspects = _of_kind("slow")(facts)
    return suspects[0].cause if suspects else ""


IDLE_GPUS = Measure(key="idle_count", name="idle GPUs", unit="count", fetch=lambda f: float(len(f.job.idle_ranks)))
_ROLES = "Ranks with different roles (pipeline stages, parameter servers): compare them within groups (--group-by)."
_DRAIN = "nvidia-smi -q -d PERFORMANCE,ECC,PAGE_RETIREMENT,ROW_REMAPPER"

RANK_RULES = (
    Rule(
        id="STRAGGLER",
        title="the job waits for a slow GPU",
        meaning="One or a few GPUs are busy for longer than the others and get less done per busy second; in "
        "synchronous training all others wait for them. Assumes equal work per rank.",
        conditions=(
            GPUS_COUNT.at_least(2),
            _counted("slow", "slow GPUs").at_least(1),
        ),
        evidence=_suspect_rows("slow"),
        advice=Advice(
            action="leave the node out, report it",
            hint="Run without that node (sbatch --exclude) and report it. Its clock is like the others' or its state "
            "unknown: look for ECC errors and remapped rows, another process on it, a bad link.",
            next_command=_DRAIN,
        ),
        variants={
            cause: Advice(action=action, hint=hint, next_command=command)
            for cause, (action, hint, command) in {
                "thermal": (
                    "leave the node out, report it",
                    "It is hot and its clock is lowered: run without that node (sbatch --exclude), report it.",
                    "nvidia-smi -q -d TEMPERATURE,PERFORMANCE",
                ),
                "power": (
                    "compare the power limits of the GPUs",
                    (
                        "A power cap holds its clock below that of the others: compare the limits (nvidia-smi -q -d "
                        "POWER), run without that node until they agree."
                    ),
                    "nvidia-smi -q -d POWER",
                ),
                "hw": (
                    "leave the node out, report it",
                    "A hardware slowdown or power brake holds its clock down: run without that node, report it.",
                    _DRAIN,
                ),
                "clock": (
                    "unlock its clock, or leave it out",
                    (
                        "Its clock is lower than the others' and no reason is given: locked clocks, or other "
                        "application clocks; reset them with nvidia-smi -rgc, or run without that node."
                    ),
                    "nvidia-smi -q -d CLOCK,PERFORMANCE",
                ),
            }.items()
        },
        variant=_cause,
        false_positives=_ROLES,
        claims=_claims_of("slow"),
        scope="run",
        ranks=_named("slow"),
    ),
    Rule(
        id="OVERLOADED_RANK",
        title="the job waits for a rank with more work",
        meaning="One or a few ranks are busy for longer than the others and as fast per busy second: they have more "
        "to do, and all others wait for them.",
        conditions=(
            GPUS_COUNT.at_least(2),
            _counted("overloaded", "overloaded ranks").at_least(1),
        ),
        evidence=_suspect_rows("overloaded"),
        advice=Advice(
            action="move work to the other ranks",
            hint="Split pipeline stages evenly (embedding and loss count), balance experts, distribute long "
            "sequences over ranks.",
            next_command="nsys profile -t cuda,nvtx -d 30 CMD",
        ),
        false_positives=_ROLES,
        claims=_claims_of("overloaded"),
        scope="run",
        ranks=_named("overloaded"),
    ),
    Rule(
        id="GPU_IDLE_RANK",
        title="a GPU of the job never works while others do",
        meaning="The engine of a GPU is idle for 95 % of the run or more while the other ranks work.",
        conditions=(IDLE_GPUS.at_least(1),),
        evidence=(
            IDLE_GPUS,
            GPUS_COUNT,
        ),
        advice=Advice(
            action="check CUDA_VISIBLE_DEVICES and ranks",
            hint="Two ranks may use the same GPU, or fewer ranks run than GPUs were asked for: check "
            "CUDA_VISIBLE_DEVICES, --gpus-per-task and torch.cuda.set_device(local_rank).",
            next_command="srun --overlap --jobid=$SLURM_JOB_ID nvidia-smi",
        ),
        false_positives="Spare ranks; a GPU that is held for evaluation.",
        claims=("idle_ranks",),
        scope="run",
        ranks=lambda facts: facts.job.idle_ranks,
    ),
)
