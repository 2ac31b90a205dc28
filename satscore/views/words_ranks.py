"""The words for GPUs and ranks: which are best and worst, which hold the job up, which do not count."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from satscore.core.attendance import NEVER_HEARD_OF, RANKS_FAILED, RANKS_LOST, covered, ending, numbers
from satscore.core.gate import RANKS_MISSING
from satscore.core.own_notes import gpu_number, gpu_numbers
from satscore.core.rank_row import RankName
from satscore.core.summary import Extreme, Summary
from satscore.core.summary_gpu import KnownBy, UnusedGpu

MOST_NAMES = 4
MANY_GPUS = 8
"""Of more than this, quantiles tell more than the ends."""
CAUSES = {
    "thermal": "hot",
    "power": "at its power cap",
    "hw": "hardware slowdown",
    "clock": "clock low",
    "same_clock": "not by its clock",
    "unknown": "",
}
WHY_UNUSED: dict[KnownBy, str] = {
    "process": "not used by the command",
    "local_rank": "left to other ranks of the node",
    "claimed": "counted by another rank",
    "environment": "not shown to the command's processes",
}
"""Where several hold, the first is said."""


def names(of: Sequence[RankName], summary: Summary, *, with_host: bool = False) -> str:
    """Return GPUs as people find them again, ``rank 4, 5 on nid001235``; of many the first few.

    Args:
        of: The GPUs.
        summary: Of the run that they are part of.
        with_host: Say the node even if there is one only.
    """
    ordered = sorted(of, key=lambda name: (name.hostname, name.rank, name.gpu_index))
    texts = []
    for hostname, group in groupby(ordered[:MOST_NAMES], key=lambda name: name.hostname):
        on = f" on {hostname}" if with_host or summary.job.nodes_count > 1 else ""
        texts.append(f"{_numbers(list(group), summary)}{on}")
    rest = len(ordered) - MOST_NAMES
    return ", ".join(texts) + (f" and {rest} more" if rest > 0 else "")


def _numbers(of: Sequence[RankName], summary: Summary) -> str:
    """Return the numbers of GPUs of one node."""
    job = summary.job
    if job.ranks_count == 1:
        return "GPU " + ", ".join(gpu_number(name.nvml_index, name.gpu_index) for name in of)
    if job.gpus_count == job.ranks_count:
        return "rank " + ", ".join(str(name.rank) for name in of)
    return ", ".join(f"rank {name.rank} GPU {gpu_number(name.nvml_index, name.gpu_index)}" for name in of)


def over_gpus(summary: Summary) -> Iterator[str]:
    """Yield how many GPUs there are, the worst, the best, of many also quantiles."""
    job = summary.job
    unscored = job.gpus_count - job.gpus_scored_count
    head = f"{job.gpus_count:,}" + (f" ({unscored} without a score)" if unscored else "")
    if job.worst is None or job.best is None:
        yield head
        return
    worst, best = (f"{end.score_pct:.1f} ({_extreme(end, summary)})" for end in (job.worst, job.best))
    yield f"{head}: worst {worst}"
    yield f"best {best}"
    if job.over_gpus is not None and job.gpus_count > MANY_GPUS:
        over = job.over_gpus
        yield f"5/50/95 %: {over.p5_pct:.1f}/{over.p50_pct:.1f}/{over.p95_pct:.1f}"


def _extreme(end: Extreme, summary: Summary) -> str:
    name = RankName(rank=end.rank, gpu_index=end.gpu_index, nvml_index=end.nvml_index, hostname=end.hostname)
    return names([name], summary)


def suspects(summary: Summary) -> Iterator[str]:
    """Yield which ranks hold the job up, by kind and cause."""
    found = summary.job.suspects
    for kind, cause in dict.fromkeys((suspect.kind, suspect.cause) for suspect in found):
        alike = [suspect.name for suspect in found if (suspect.kind, suspect.cause) == (kind, cause)]
        why = f" ({CAUSES[cause]})" if CAUSES.get(cause) else ""
        yield f"{kind}: {names(alike, summary, with_host=True)}{why}"


def absent(summary: Summary) -> Iterator[str]:
    """Yield which ranks are missing, failed or lost: what makes the number less than that of the job."""
    job = summary.job
    of = f" of {job.ranks_expected_count:,}" if job.ranks_expected_count is not None else ""
    if job.ranks_missing_count:
        rest = job.ranks_missing_count - len(job.ranks_missing)
        more = f" and {rest:,} more" if rest > 0 else ""
        which = f"{numbers(job.ranks_missing)}{more} (satscore report counts late ones)"
        yield f"{job.ranks_missing_count:,}{of} missing: {which}"
    if job.ranks_failed:
        first = job.ranks_failed[0]
        which = f"first rank {first.rank} on {first.hostname} ({ending(first)})"
        yield f"{job.ranks_failed_count:,} failed: {which}"
    if job.ranks_lost:
        lost = job.ranks_lost[0]
        yield f"{job.ranks_lost_count:,} without an end: rank {lost.rank} on {lost.hostname} ({covered(lost)})"


def is_said(note: str) -> bool:
    """Return whether a note tells no more than ``absent``."""
    return note.startswith((RANKS_FAILED, RANKS_LOST)) or (
        note.startswith(RANKS_MISSING) and note.endswith(f"({NEVER_HEARD_OF})") and note.count("(") == 1
    )


def unused(summary: Summary) -> str:
    """Return which GPUs are read but in no number here, and why; empty if there are none."""
    gpus = list(_unused(summary))
    if not gpus:
        return ""
    many = f"{len(gpus)} GPU" if len(gpus) == 1 else f"{len(gpus):,} GPUs"
    which = f"GPU {gpu_numbers(gpus)}" if summary.job.ranks_count == 1 else many
    ways = {gpu.known_by for gpu in gpus}
    why = next(text for known_by, text in WHY_UNUSED.items() if known_by in ways)
    return f"{which} {'is' if len(gpus) == 1 else 'are'} visible but {why}: not scored"


def _unused(summary: Summary) -> Iterator[UnusedGpu]:
    """Yield the GPUs that no rank counts, once each: where ranks share a node, each sees the GPUs of the others.

    Where not all ranks are listed nobody knows which of them count a GPU.
    """
    if len(summary.ranks) < summary.job.ranks_count:
        return
    seen: set[tuple[str, str | None]] = {
        (rank.hostname, gpu.uuid) for rank in summary.ranks for gpu in rank.gpus if gpu.uuid
    }
    for rank in summary.ranks:
        for gpu in rank.gpus_unused:
            name = rank.hostname, gpu.uuid
            if gpu.known_by != "claimed" and (gpu.uuid is None or name not in seen):
                seen.add(name)
                yield gpu
