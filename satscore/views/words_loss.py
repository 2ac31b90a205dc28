"""The words for where the rest went: the loss tree of one GPU or of the job."""

from collections.abc import Iterator, Sequence

from satscore.core.summary import Headline, Summary
from satscore.core.summary_gpu import LossPart
from satscore.core.summary_job import JobTreeItem

SHOWN_PCT = 0.05
"""Parts that would be printed as 0.0 are left out."""
LINE_PCT = 1.0
"""Smaller parts share a line."""
BAR_WIDTH = 14
BAR_FROM_ROOM = 80
"""With fewer columns than this the words need those of the bars."""
NAMES = {
    "idle": "nothing on the GPU",
    "coverage": "SMs empty",
    "transient": "ranks wait in turn",
    "persistent": "ranks wait for the same one",
    "idle_ranks": "GPUs that never work",
    "issue": "SMs wait",
    "clock": "clock below rated",
    "idle|coverage": "idle or SMs empty (cannot tell: engine counter missing)",
    "coverage|issue": "SMs empty or waiting (cannot tell: SM counter missing)",
    "idle|coverage|issue": "idle, empty or waiting (cannot tell: counters missing)",
    "idle_long": "long gaps",
    "idle_short": "short gaps",
    "comm": "communication",
    "wait": "collectives wait",
    "comm_or_wait": "communication or waiting",
    "grid": "small grids",
    "issue_other": "at the other roof, up to",
    "issue_stall": "stalls or wrong pipe",
    "clock_power": "power cap",
    "clock_thermal": "temperature",
    "clock_hw": "hardware slowdown",
    "clock_board": "board limit",
    "clock_sync_boost": "sync boost",
    "clock_app_clocks": "app clocks",
    "clock_other": "no reason given",
    "clock_unknown": "reason not readable",
}
BETWEEN_RANKS = ("transient", "persistent")
ASSUMPTION = "assumes equal work per rank"
FACTORS = {
    "availability": "avail",
    "communication": "comm",
    "transient_balance": "transient",
    "load_balance": "load",
    "issue": "issue",
    "clock": "clock",
}


def job_tree(summary: Summary) -> JobTreeItem | None:
    """Return the tree of several ranks, where there is one."""
    return summary.job.tree if summary.job.gpus_count > 1 else None


def top_parts(summary: Summary) -> list[LossPart]:
    """Return the top parts of the tree that explains the headline, largest first."""
    job, tree = summary.job, job_tree(summary)
    if tree is not None:
        parts = tree.parts
    elif summary.headline.kind == "steady" and job.steady is not None:
        parts = job.steady.loss
    else:
        parts = job.loss.datasheet if job.loss else []
    return sorted((part for part in parts if part.points_pct >= SHOWN_PCT), key=lambda part: -part.points_pct)


def losses(parts: Sequence[LossPart], room: int) -> Iterator[str]:
    """Yield one row per part with a bar where there is room for it, then one for all small parts.

    Args:
        parts: Largest first.
        room: Columns of a row.
    """
    large = [part for part in parts if part.points_pct >= LINE_PCT]
    for part in large:
        filled = min(BAR_WIDTH, round(part.points_pct / 100 * BAR_WIDTH))
        bar = f" {'#' * filled:<{BAR_WIDTH}} " if room >= BAR_FROM_ROOM else " "
        head = f"{part.points_pct:4.1f}{bar}"
        yield head + part_text(part, room - len(head))
    small = ", ".join(f"{part.name} {part.points_pct:.1f}" for part in parts[len(large) :])
    if small:
        yield f"below {LINE_PCT:.0f}: {small}"


def part_text(part: LossPart, room: int) -> str:
    """Return a part in words, with what it consists of where that is more than one thing, as far as it fits."""
    if part.name in BETWEEN_RANKS:
        text = f"{part.name}: {NAMES[part.name]}"
        return max((t for t in (text, f"{text} ({ASSUMPTION})") if len(t) <= room), key=len, default=text)
    inner = sorted((p for p in part.parts if p.points_pct >= SHOWN_PCT), key=lambda p: -p.points_pct)
    if not inner:
        return NAMES[part.name] if "|" in part.name else f"{part.name}: {NAMES[part.name]}"
    text = f"{part.name}: "
    for i, one in enumerate(inner):
        more = f"{', ' if i else ''}{NAMES[one.name]} {one.points_pct:.1f}"
        dots = ", ..." if i < len(inner) - 1 else ""
        if i and len(text + more + dots) > room:
            return f"{text}, ..."
        text += more
    return text


def other_time(tree: JobTreeItem, headline: Headline) -> str:
    """Return of which time the tree and the scores of single GPUs are, where that is not the headline's; else nothing.

    Ranks are compared over the time that was known as steady while it came; the headline knows better.
    """
    if headline.score_pct is None or abs(tree.score_pct - headline.score_pct) < SHOWN_PCT:
        return ""
    return " over all" if tree.scope == "total" else f" of {tree.time_s:.0f} s"


def factors(tree: JobTreeItem, where: str = "") -> list[str]:
    """Return wordings of the tree as a product, the longest first.

    Args:
        tree: Of the job.
        where: Of which time it is, where that is not the headline's.
    """
    values = " x ".join(f"{name} {_factor(tree.product_frac.get(key))}" for key, name in FACTORS.items())
    own = f"S {tree.score_pct:.1f}{where}"
    return [f"{own} = {values}", f"{own} by these parts, load balance {_factor(tree.product_frac.get('load_balance'))}"]


def _factor(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"
