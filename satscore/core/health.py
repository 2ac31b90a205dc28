"""The health of a GPU beside its score: what its memory, links and driver tell, and what of it is worth saying."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from satscore.core.facts import HOT_MARGIN_C, temp_margin_c
from satscore.core.gpu import GpuInfo
from satscore.core.links import LOST_FRAC, links_of
from satscore.core.summary_gpu import GpuHealth
from satscore.core.sums import Sums
from satscore.core.window_rows import MILLI

MOST_NAMED = 8


def health_of(info: GpuInfo, sums: Sums, foreign_processes: int) -> GpuHealth:
    """Return the health of one GPU.

    Args:
        info: What it says of itself.
        sums: Over the whole run.
        foreign_processes: The most processes of others on it at a look.
    """
    links = links_of(info, sums.pcie_us, sums.nvlink_us, sums.counts, sums.read_us)
    hottest = sums.maxima.get("temp_gpu_c")
    return GpuHealth(
        xid_count=sums.counts.get("xid_count"),
        ecc_corrected_count=sums.counts.get("ecc_corrected_count"),
        ecc_uncorrected_count=sums.counts.get("ecc_uncorrected_count"),
        remapped_rows_before_count=info.remapped_rows_count,
        remapped_rows_count=sums.counts.get("remapped_rows_count"),
        remap_pending=info.remap_pending,
        remap_failed=info.remap_failed,
        pcie_generation=links.pcie_generation,
        pcie_generation_max=links.pcie_generation_max,
        pcie_lanes_count=links.pcie_lanes_count,
        pcie_lanes_max_count=links.pcie_lanes_max_count,
        pcie_lost_frac=links.pcie_lost_frac,
        pcie_replay_count=sums.counts.get("pcie_replay_count"),
        nvlink_active_count=links.nvlink_active_count,
        nvlink_count=links.nvlink_count,
        nvlink_lost_frac=links.nvlink_lost_frac,
        nvlink_error_count=sums.counts.get("nvlink_error_count"),
        temp_margin_c=temp_margin_c(info, None if hottest is None else hottest / MILLI),
        foreign_processes_count=foreign_processes,
    )


class _Ill(NamedTuple):
    """One thing that can be wrong.

    Attributes:
        is_so: Whether it is.
        text: What is said: what is wrong, then what to do.
        rule: The rule that tells it as a finding.
    """

    is_so: Callable[[GpuHealth], bool]
    text: Callable[[GpuHealth], str]
    rule: str | None = None


def _any(count: int | None) -> bool:
    return count is not None and count > 0


def _lost(frac: float | None) -> bool:
    return frac is not None and frac >= LOST_FRAC


def _of(count: int | None, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


_ILLS = (
    _Ill(
        lambda h: h.remap_failed is True,
        lambda _: "row remapping failed: the GPU should be replaced; report it to the site",
    ),
    _Ill(
        lambda h: _any(h.xid_count),
        lambda h: f"{_of(h.xid_count, 'critical Xid event', 'critical Xid events')}: see 'dmesg | grep -i xid'",
    ),
    _Ill(
        lambda h: _any(h.ecc_uncorrected_count),
        lambda h: (
            f"uncorrected ECC errors: {h.ecc_uncorrected_count} during the run; its results are in doubt, "
            "report the GPU to the site"
        ),
    ),
    _Ill(
        lambda h: h.remap_pending is True,
        lambda _: "a memory row waits for a reset to be remapped: ask the site to reset the GPU",
    ),
    _Ill(
        lambda h: _any(h.remapped_rows_count),
        lambda h: (
            f"{_of(h.remapped_rows_count, 'memory row', 'memory rows')} remapped during the run "
            f"({_number(h.remapped_rows_before_count)} before): report it to the site if it goes on"
        ),
    ),
    _Ill(
        lambda h: _lost(h.nvlink_lost_frac),
        lambda h: f"{h.nvlink_active_count} of {h.nvlink_count} NVLink connections active: report the node to the site",
        "LINK_DEGRADED",
    ),
    _Ill(
        lambda h: _lost(h.pcie_lost_frac),
        lambda h: (
            f"PCIe gen {h.pcie_generation} x{h.pcie_lanes_count} of gen {h.pcie_generation_max} "
            f"x{h.pcie_lanes_max_count} under load: report the node to the site"
        ),
        "LINK_DEGRADED",
    ),
    _Ill(
        lambda h: h.temp_margin_c is not None and h.temp_margin_c < HOT_MARGIN_C,
        lambda h: f"{_margin(h.temp_margin_c)} the temperature at which it slows itself down: check its cooling",
        "THERMAL",
    ),
)
"""Gravest first. Company, and errors of links, are left to their rules: those tell what is normal."""


def _number(count: int | None) -> str:
    return "unknown" if count is None else str(count)


def _margin(margin_c: float | None) -> str:
    margin_c = margin_c or 0.0
    return f"{margin_c:.0f} C below" if margin_c > 0 else "at"


def health_lines(gpus: Sequence[tuple[str, GpuHealth]], told: Collection[str] = ()) -> list[str]:
    """Return what is wrong with GPUs, gravest first; GPUs of which the same is said share a line.

    Args:
        gpus: How each is called in a list after "GPU" (``2``, ``1 of rank 3``), and its health.
        told: Rules that were found: what they tell is not said again.

    Returns:
        Sentences such as ``GPU 0, 2: a memory row waits for ...``; none where all is well.
    """
    said = dict[str, list[str]]()
    for ill in _ILLS:
        for name, health in gpus:
            if ill.rule not in told and ill.is_so(health):
                said.setdefault(ill.text(health), []).append(name)
    return [f"GPU {_named(names)}: {text}" for text, names in said.items()]


def is_well(health: GpuHealth) -> bool:
    """Return whether there is nothing to say; what is not read is no illness."""
    return not any(ill.is_so(health) for ill in _ILLS)


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
