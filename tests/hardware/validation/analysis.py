"""From the readings of a load's measured part to the numbers that are compared with its truth."""

from collections.abc import Sequence

import msgspec
import numpy as np

from satscore.core.bounds import Bounds, resolve, unmodelled
from satscore.core.facts import Facts, facts_of, profile_points
from satscore.core.fields import FIELDS, Kind
from satscore.core.gpu import GpuInfo
from satscore.core.hwmodel import HardwareModel, match
from satscore.core.readings import ReadingTable
from satscore.core.rules import evaluate
from satscore.core.rules_all import RULES
from satscore.core.scorer import GpuScorer
from satscore.core.sums import Sums
from satscore.core.units import PPM, points

PROFILE = "train"
INTEGRAL_COLUMNS = [i for i, field in enumerate(FIELDS) if field.kind is Kind.INTEGRAL]


class Peaks(msgspec.Struct, frozen=True, kw_only=True):
    """The datasheet peaks that counted rates are divided by."""

    model_id: str
    tensor_flops_s: dict[str, float]
    vector_flops_s: dict[str, float]
    dram_bytes_s: float
    rated_clock_mhz: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What the readings of one load say; None where it cannot be known.

    Attributes:
        fields: Per field of the readings: time mean; for amounts (energy, errors) the sum.
        score_pct: S, with its bracket, its attainable and its ``hpc`` twin.
        tensor_score_pct: T with the bounds in force.
        tensor_score_capped_pct: T as it would be with tensor_clock_cap_mhz at the rated clock.
        saturation: u_raw per resource, 1 = the datasheet peak, not clipped.
        loss_points: Every part of the loss tree.
        gamma: Burstiness of the engine-active share.
        findings: Rules that would speak, strongest first.
        coverage_frac: Share of the measured part that readings cover.
    """

    fields: dict[str, float | None]
    score_pct: float | None
    score_hi_pct: float | None
    score_attainable_pct: float | None
    score_hpc_pct: float | None
    tensor_score_pct: float | None
    tensor_score_capped_pct: float | None
    saturation: dict[str, float | None]
    loss_points: dict[str, float]
    gamma: float | None
    findings: list[str]
    readings_count: int
    coverage_frac: float

    def loss(self, *prefixes: str) -> float | None:
        """Return the points of the loss parts whose names start with one of the prefixes."""
        if self.score_pct is None:
            return None
        return sum(value for name, value in self.loss_points.items() if name.startswith(prefixes))

    def field(self, name: str) -> float | None:
        """Return the mean of a field."""
        return self.fields.get(name)


def clip(table: ReadingTable, start_ns: int, end_ns: int) -> ReadingTable:
    """Return the part of the readings inside [start, end): means stay, amounts shrink with the length."""
    start = np.maximum(table.start_ns, start_ns)
    end = np.minimum(table.end_ns, end_ns)
    inside = end > start
    share = (end - start)[inside] / (table.end_ns - table.start_ns)[inside]
    values = table.values[inside].copy()
    values[:, INTEGRAL_COLUMNS] *= share[:, None]
    return ReadingTable(
        gpu=table.gpu[inside],
        start_ns=start[inside],
        end_ns=end[inside],
        values=values,
        quality=table.quality[inside],
    )


def field_means(table: ReadingTable) -> dict[str, float | None]:
    """Return the time mean of every field over the time in which it is known; the sum for amounts."""
    length = (table.end_ns - table.start_ns).astype(np.float64)
    out: dict[str, float | None] = {}
    for field in FIELDS:
        column = table.column(field.name)
        known = ~np.isnan(column)
        if not known.any():
            out[field.name] = None
        elif field.kind is Kind.INTEGRAL:
            out[field.name] = float(column[known].sum())
        else:
            out[field.name] = float((column[known] * length[known]).sum() / length[known].sum())
    return out


def peaks_of(models: Sequence[HardwareModel], gpu: GpuInfo) -> tuple[Peaks | None, str]:
    """Return the peaks of a GPU, or None; and why this model or none."""
    found = match(models, gpu)
    if found.model is None:
        return None, found.reason
    model = found.model
    peaks = Peaks(
        model_id=model.id,
        tensor_flops_s=dict(model.flops_peak),
        vector_flops_s=dict(model.vector_flops_peak),
        dram_bytes_s=model.dram_peak_bytes_s,
        rated_clock_mhz=model.rated_clock_mhz["tensor"],
    )
    return peaks, found.reason


def measure(
    table: ReadingTable,
    gpu: GpuInfo,
    models: Sequence[HardwareModel],
    *,
    window: tuple[int, int],
    grid_offset_ns: int,
) -> Measured:
    """Score the readings inside a load's measured part with the project's own scorer.

    Args:
        table: Readings of one GPU, also from before and after.
        gpu: That GPU.
        models: All hardware models.
        window: Start and end of the measured part, ns on the readings' axis.
        grid_offset_ns: Wall time minus that axis.
    """
    model = match(models, gpu).model
    bounds = unmodelled(gpu) if model is None else resolve(model, gpu)
    inside = clip(table, *window)
    sums = _sums(inside, bounds, grid_offset_ns)
    facts = facts_of([sums], PROFILE)
    capped = msgspec.structs.replace(bounds, tensor_clock_cap_mhz=bounds.rated_clock_mhz["tensor"])
    length_ns = int((inside.end_ns - inside.start_ns).sum())
    return Measured(
        fields=field_means(inside),
        score_pct=facts.score_points,
        score_hi_pct=_mean_points(sums, f"sat_hi:{PROFILE}"),
        score_attainable_pct=_mean_points(sums, "attainable"),
        score_hpc_pct=facts.score_hpc_points,
        tensor_score_pct=profile_points(sums, "tensor"),
        tensor_score_capped_pct=profile_points(_sums(inside, capped, grid_offset_ns), "tensor") if model else None,
        saturation=facts.saturation,
        loss_points=facts.loss_points if facts.score_points is not None else {},
        gamma=facts.gamma,
        findings=_findings(facts),
        readings_count=len(inside),
        coverage_frac=length_ns / max(1, window[1] - window[0]),
    )


def _sums(table: ReadingTable, bounds: Bounds, grid_offset_ns: int) -> Sums:
    scorer = GpuScorer(bounds, PROFILE, grid_offset_ns=grid_offset_ns)
    scorer.add(table)
    return scorer.finish()


def _mean_points(sums: Sums, name: str) -> float | None:
    complete_us = sums.total(f"complete_us:{PROFILE}")
    return points(sums.total(name) / PPM / complete_us) if complete_us else None


def _findings(facts: Facts) -> list[str]:
    if facts.score_points is None:
        return []
    return [finding.id for finding in evaluate(RULES, facts)[0]]
