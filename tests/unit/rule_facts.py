"""Facts for tests of rules: from readings of 0.2 s, from the simulator, and with any fact replaced."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import msgspec
import numpy as np

from satscore.core.bounds import Bounds, resolve
from satscore.core.facts import Facts, facts_of
from satscore.core.hwmodel import match
from satscore.core.intervals import comm_like
from satscore.core.job_facts import JobFacts
from satscore.core.rank_row import RankName
from satscore.core.readings import ReadingTable
from satscore.core.rules import evaluate
from satscore.core.rules_all import RULES
from satscore.core.summary import FindingItem, NotJudgedItem
from tests.unit.runs import MODELS, simulated
from tests.unit.scenes import E1, H200, score, series

READ_S = 0.2
H200_MEMORY_BYTES = 143_771 * 2**20
Reads = Sequence[tuple[int, Mapping[str, float]]]
"""(how many reads of 0.2 s, values of each)."""

PARALLEL_JOB = JobFacts(gpus_count=4, local_gpus_count=4, block_s=64.0, rank_spread=0.01, load_balance=0.99)
LONG_RUN = JobFacts(
    run_s=3600.0,
    phase_s={"startup": 60.0, "warmup": 60.0, "steady": 3480.0, "dip": 0.0, "tail": 0.0},
    start_cost_points=2.0,
    never_steady=False,
    regime_changes=(),
    shared_frac=0.0,
)


def at_reads(reads: Reads, unknown: Iterable[str] = ()) -> ReadingTable:
    """Return readings of 0.2 s each."""
    return series([(READ_S, values) for count, values in reads for _ in range(count)], unknown=unknown)


def facts_from(
    table: ReadingTable, *, bounds: Bounds = H200, memory_bytes: float = H200_MEMORY_BYTES, profile: str = "train"
) -> Facts:
    """Return the facts of one GPU, with those that a summary takes from elsewhere than the sums."""
    sums = score(table, profile, bounds)
    facts = facts_of([sums], profile)
    used = table.column("memory_used_bytes")
    clock = table.column("sm_clock_mhz")[table.column("engine_active_frac") >= 0.5]
    clock = clock[~np.isnan(clock)]
    like = comm_like(table)
    nvlink = np.fmax(table.column("nvlink_tx_bytes_s"), table.column("nvlink_rx_bytes_s"))[like]
    nvlink = nvlink[~np.isnan(nvlink)]
    return msgspec.structs.replace(
        facts,
        memory_used_frac=None if np.isnan(used).all() else float(np.nanmax(used)) / memory_bytes,
        clock_iqr_mhz=float(np.subtract(*np.percentile(clock, [75, 25]))) if len(clock) else None,
        comm_frac=float(like.mean()),
        comm_nvlink=float(nvlink.mean()) / bounds.link_peak_bytes_s["nvlink"] if len(nvlink) else None,
    )


def facts(reads: Reads = ((10, E1),), unknown: Iterable[str] = (), profile: str = "train", **changes: object) -> Facts:
    """Return the facts of readings, with some replaced."""
    return msgspec.structs.replace(facts_from(at_reads(reads, unknown), profile=profile), **changes)


def with_losses(base: Facts, **points: float) -> Facts:
    """Return facts whose loss tree has these parts and no others but the issue part, which takes the rest."""
    rest = 100.0 - (base.score_points or 0.0) - sum(points.values())
    assert rest >= 0
    return msgspec.structs.replace(
        base, loss_points=dict.fromkeys(base.loss_points, 0.0) | points | {"issue_stall": rest}
    )


@cache
def simulated_facts(spec: str, seconds: float) -> tuple[Facts, ...]:
    """Return the facts of every GPU of a simulated run, read every 0.2 s."""
    run = simulated(spec, seconds)
    out = []
    for gpu in run.header.gpus:
        model = match(MODELS, gpu).model
        assert model is not None
        assert gpu.memory_total_bytes is not None
        mine = run.table.of_gpu(gpu.index)
        out.append(facts_from(mine, bounds=resolve(model, gpu), memory_bytes=gpu.memory_total_bytes))
    return tuple(out)


def judged(known: Facts, **more: object) -> tuple[dict[str, FindingItem], dict[str, NotJudgedItem]]:
    """Return the findings of all rules and what was not judged, by id."""
    found, not_judged = evaluate(RULES, known, **more)  # type: ignore[arg-type]
    return {f.id: f for f in found}, {n.id: n for n in not_judged}


def named(rank: int) -> RankName:
    """Return the name of a rank's GPU, four to a node."""
    return RankName(rank=rank, gpu_index=0, nvml_index=rank % 4, hostname=f"nid{rank // 4:06}")
