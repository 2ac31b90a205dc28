"""Rules about a GPU that has nothing to do, or too little at a time."""

from satscore.core.facts import Facts
from satscore.core.host import gaps_variant, stall_variant
from satscore.core.rank_row import RankName
from satscore.core.rules_measures import (
    BLOCKED,
    CPUS_USED,
    ENGINE,
    GAMMA,
    GAPS,
    GRID,
    HOST,
    IDLE,
    IDLE_LONG,
    IDLE_SHORT,
    IO_PRESSURE,
    IOWAIT,
    OCCUPANCY,
    RUNNABLE,
    SCORE,
    SM,
)
from satscore.core.rules_model import Advice, Measure, Rule

BURSTY = 0.5
"""Burstiness from which on gaps are longer than a read interval."""


def _least_waiting(facts: Facts) -> tuple[RankName, ...]:
    """Return the rank that does not wait where the others do: the gaps are its own."""
    return () if facts.job.least_waiting is None else (facts.job.least_waiting,)


def _empty_share(facts: Facts) -> float | None:
    """Return which share of all losses are empty or stalled SMs, which a larger batch per GPU could fill."""
    parts = [facts.loss_points.get(part) for part in ("grid", "issue_stall")]
    if facts.score_points is None or None in parts:
        return None
    lost = 100.0 - facts.score_points
    return sum(part for part in parts if part is not None) / lost if lost > 0 else 0.0


MEMORY_USED = Measure(
    key="memory_used_frac",
    name="memory used, at most",
    unit="frac",
    fetch=lambda f: f.memory_used_frac,
    counter="memory used",
)
EMPTY_SHARE = Measure(
    key="empty_share",
    name="of the loss, empty or stalled SMs",
    unit="frac",
    fetch=_empty_share,
    rests_on=(SCORE, ENGINE, SM),
)

_CPUS_FULL = Advice(
    action="fewer workers, or more CPUs",
    hint="The command's threads fill all CPUs that it may use: fewer loader workers and OpenMP threads, more CPUs per "
    "task (--cpus-per-task), cheaper preprocessing, or preprocessing ahead of the run.",
    next_command="top -H -b -n 1 | head -40",
    because=(CPUS_USED, RUNNABLE),
)

HOST_RULES = (
    Rule(
        id="HOST_STALL",
        title="the GPU waits for the host in long gaps",
        meaning="Nothing runs on the GPU for whole read intervals, again and again: the input pipeline, a "
        "synchronous checkpoint or log, or a call that waits for the GPU holds the program up.",
        conditions=(IDLE_LONG.at_least(8.0), GAMMA.at_least(BURSTY)),
        evidence=(IDLE_LONG, *HOST, GAMMA),
        advice=Advice(
            action="prefetch data, write asynchronously",
            hint="More loader workers, prefetch and pinned memory, data on local disk; write checkpoints and logs "
            "asynchronously; avoid .item() and other synchronisation in the loop.",
            next_command="py-spy dump --pid $(pgrep -n python)",
        ),
        variants={
            "files": Advice(
                action="stage data to local disk",
                hint="The command waits for its file system: stage data to local disk or memory, read fewer and larger "
                "files, prefetch; write checkpoints and logs asynchronously.",
                next_command="py-spy dump --pid $(pgrep -n python)",
                because=(IOWAIT, IO_PRESSURE, BLOCKED),
            ),
            "cpus": _CPUS_FULL,
        },
        variant=lambda facts: stall_variant(facts.host),
        false_positives="Checkpoints, evaluation, pipeline bubbles longer than a read.",
        claims=("idle_long",),
        ranks=_least_waiting,
    ),
    Rule(
        id="HOST_GAPS",
        title="many short gaps: launch-bound, small kernels",
        meaning="Gaps shorter than a read interval and kernels that fill few SMs: the host cannot launch work as "
        "fast as the GPU finishes it.",
        conditions=(GAPS.at_least(25.0), GAMMA.below(BURSTY)),
        evidence=(IDLE_SHORT, GRID, SM, *HOST, GAMMA),
        advice=Advice(
            action="CUDA Graphs, larger micro-batch",
            hint="CUDA Graphs or torch.compile(mode='reduce-overhead'), a larger micro-batch, a fused optimiser, CPU "
            "binding. The gaps are shorter than the read period: host stalls of that length look the same.",
            next_command="nsys profile -t cuda,osrt -d 20 CMD",
        ),
        variants={"cpus": _CPUS_FULL},
        variant=lambda facts: gaps_variant(facts.host),
        false_positives="A tiny model by choice; many small collectives.",
        claims=("idle_short", "grid"),
        ranks=_least_waiting,
        yields_to=("SMALL_GRID",),
    ),
    Rule(
        id="SMALL_GRID",
        title="kernels run all the time but leave SMs empty",
        meaning="A kernel is resident nearly always, so launching is not the problem, yet a good part of the SMs "
        "has no block: grids smaller than the GPU, or a last wave that fills it badly.",
        conditions=(GRID.at_least(15.0), IDLE.below(10.0), GAMMA.below(BURSTY)),
        evidence=(GRID, SM, IDLE),
        advice=Advice(
            action="larger batch per GPU, overlap streams",
            hint="A larger batch per GPU, longer sequences or fused operators give each kernel more blocks; "
            "independent kernels can overlap in streams.",
            next_command="ncu --section LaunchStats --launch-count 50 CMD",
        ),
        false_positives="Persistent kernels that leave SMs to communication on purpose.",
        claims=("grid",),
    ),
    Rule(
        id="MEM_HEADROOM",
        title="half of the GPU's memory is free, the SMs are not full",
        meaning="At most half of the memory was ever in use, and most of what is lost are empty or stalled SMs: "
        "more work per step would fit.",
        conditions=(MEMORY_USED.below(0.5), SCORE.below(50.0), EMPTY_SHARE.at_least(0.5)),
        evidence=(MEMORY_USED, EMPTY_SHARE, OCCUPANCY),
        advice=Advice(
            action="larger micro-batch, recompute less",
            hint="A larger micro-batch, or less activation recomputation at the same batch, uses the free memory.",
            next_command="nvidia-smi --query-gpu=memory.used,memory.total --format=csv -l 1",
        ),
        false_positives="Memory that grows later (KV cache, longer sequences); an allocator that fragments. On GH200, "
        "where the operating system manages this memory, its pages count as used too, also after a process has ended: "
        "more may be free than is shown.",
        informational=True,
    ),
)
