"""The result file: one item per load, what the items decide, and a table for people."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from satscore.record.files import write_atomic
from tests.hardware.validation.analysis import Measured, Peaks
from tests.hardware.validation.checks import Check, counted_share, flops_share, number
from tests.hardware.validation.decide import (
    GainFit,
    GainReading,
    GemmReading,
    R1Verdict,
    R5Verdict,
    decide_r1,
    decide_r5,
    fit_gains,
)
from tests.hardware.validation.environment import BUSY_ENGINE_FRAC, Environment

SCHEMA_VERSION = 1
FILE = "results.json"
Status = Literal["pass", "fail", "inconclusive", "skipped", "error"]
GOOD: tuple[Status, ...] = ("pass", "skipped")


class Item(msgspec.Struct, kw_only=True):
    """One load: its truth, what was read, and whether they agree."""

    name: str
    what: str
    status: Status
    reason: str = ""
    truth: dict[str, float | str] = msgspec.field(default_factory=dict)
    window_s: float | None = None
    measured: Measured | None = None
    checks: list[Check] = msgspec.field(default_factory=list)
    late_reads_count: int = 0
    recording: str | None = None
    notes: list[str] = msgspec.field(default_factory=list)
    stderr: str = ""

    @property
    def usable(self) -> bool:
        """Whether its numbers may decide something: measured, and the conditions of that held."""
        return self.measured is not None and all(c.verdict == "pass" for c in self.checks if c.guard)


class Verdicts(msgspec.Struct, frozen=True, kw_only=True):
    """The open questions, as far as the items answer them."""

    r1: R1Verdict
    gains: list[GainFit]
    """R3 (fp32, fp16, fp64) and R4 (dram)."""
    r5: R5Verdict


class Results(msgspec.Struct, kw_only=True):
    """The content of ``results.json``. Points are 0..100, ``_frac`` and shares 1 = the bound."""

    schema_version: int
    data_kind: Literal["measured", "simulated"]
    quick: bool
    source: str
    period_s: float
    environment: Environment
    peaks: Peaks | None
    model_reason: str
    items: list[Item] = msgspec.field(default_factory=list)
    verdicts: Verdicts | None = None
    interrupted: bool = False
    elapsed_s: float = 0.0

    def write(self, directory: Path) -> None:
        """Write the file, whole or not at all; decides anew from the items so far.

        Raises:
            OSError: The file system refuses.
        """
        self.verdicts = decide(self.items, self.peaks)
        write_atomic(directory / FILE, msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")


def decide(items: Sequence[Item], peaks: Peaks | None) -> Verdicts:
    """Return what the items say about R1, R3, R4 and R5."""
    usable = {item.name: item for item in items if item.usable}
    gap, launch = usable.get("V7:50-20ms"), usable.get("V8:loop")
    return Verdicts(
        r1=decide_r1(_gemm(usable.get("V0:random"), peaks), _gemm(usable.get("V0:zeros"), peaks)),
        gains=fit_gains([r for item in usable.values() if (r := _gain(item, peaks)) is not None]),
        r5=decide_r5(
            gap_busy=number(gap.truth, "busy_frac") if gap else None,
            gap_engine=_field(gap, "engine_active_frac"),
            launch_busy=number(launch.truth, "busy_frac_about") if launch else None,
            launch_engine=_field(launch, "engine_active_frac"),
        ),
    )


def _field(item: Item | None, name: str) -> float | None:
    return item.measured.field(name) if item is not None and item.measured is not None else None


def _gemm(item: Item | None, peaks: Peaks | None) -> GemmReading | None:
    if item is None or peaks is None:
        return None
    share = flops_share(item.truth, peaks)
    active, clock = _field(item, "tensor_active_frac"), _field(item, "sm_clock_mhz")
    if share is None or active is None or clock is None:
        return None
    return GemmReading(
        flops_share=share, tensor_active_frac=active, sm_clock_mhz=clock, rated_clock_mhz=peaks.rated_clock_mhz
    )


def _gain(item: Item, peaks: Peaks | None) -> GainReading | None:
    case, _, variant = item.name.partition(":")
    if case not in ("V4", "V5") or item.measured is None:
        return None
    resource = "dram" if case == "V5" else variant
    counted, read = counted_share(resource, item.truth, peaks), item.measured.saturation.get(resource)
    if counted is None or read is None:
        return None
    return GainReading(workload=item.name, resource=resource, counted_share=counted, read_share=read)


def text(results: Results) -> str:
    """Return the table and the answers, at most 100 columns."""
    lines = [
        f"{results.environment.gpu.name}, driver {results.environment.gpu.driver_version}, "
        f"{results.peaks.model_id if results.peaks else 'no hardware model: ' + results.model_reason}"[:100],
        *(["SIMULATED: no GPU was read, these numbers say nothing about hardware"] * _is_simulated(results)),
        f"{'load':<16}{'status':<13}{'S':>6}{'T':>7}{'g':>7}{'s':>7}{'x_T':>7}{'d':>7}{'f MHz':>7}{'W':>6}",
    ]
    lines += [_row(item) for item in results.items]
    for item in results.items:
        lines += [f"  {item.name}: {c.name} {_value(c)}"[:100] for c in item.checks if c.verdict != "pass"]
    if results.verdicts is not None:
        lines += _answers(results.verdicts)
    engine = results.environment.idle.get("engine_active_frac")
    if engine is not None and engine > BUSY_ENGINE_FRAC:
        lines.append(f"the GPU was not idle before the first load (g {engine:.2f}): others may have used it")
    if results.interrupted:
        lines.append("interrupted: the loads that are not listed were not run")
    return "\n".join(lines)


def _is_simulated(results: Results) -> int:
    return int(results.data_kind == "simulated")


def _row(item: Item) -> str:
    head = f"{item.name:<16}{item.status:<13}"
    if item.measured is None:
        return f"{head}{item.reason}"[:100]
    m = item.measured
    names = ("engine_active_frac", "sm_active_frac", "tensor_active_frac", "dram_active_frac")
    shares = "".join(_cell(m.field(name), 7, 3) for name in names)
    return (
        f"{head}{_cell(m.score_pct, 6, 1)}{_cell(m.tensor_score_pct, 7, 1)}{shares}"
        f"{_cell(m.field('sm_clock_mhz'), 7, 0)}{_cell(m.field('power_gpu_w'), 6, 0)}"
    )


def _cell(value: float | None, width: int, digits: int) -> str:
    return f"{'n/a':>{width}}" if value is None else f"{value:>{width}.{digits}f}"


def _value(check: Check) -> str:
    if check.verdict == "inconclusive":
        return "not judged: nothing measured or nothing to hold it against"
    low = "-inf" if check.low is None else f"{check.low:.2f}"
    high = "inf" if check.high is None else f"{check.high:.2f}"
    return f"= {check.measured:.2f} {check.unit}, expected {low} .. {high}"


def _answers(verdicts: Verdicts) -> list[str]:
    lines = [f"R1 {verdicts.r1.verdict}: {verdicts.r1.reason}"]
    lines += [f"{fit.check} {fit.resource} {fit.verdict}: {fit.reason}" for fit in verdicts.gains]
    lines.append(f"R5 {verdicts.r5.verdict}: {verdicts.r5.reason}")
    return [line[:100] for line in lines]
