"""What reported progress means beside the counters: rates, step times, tokens per joule, MFU.

Formulas: docs/method.md, "Progress". Every number that there is not has its reason in ``missing``.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from satscore.core.progress_state import Amount, ProgressState
from satscore.core.units import NS_PER_S, POINTS

J_PER_KWH = 3.6e6
MFU_EXCESS_PCT = 3.0
"""MFU this far above the tensor score cannot be: executed FLOP include the model's (the score's own error is less)."""
STEP_SHARES = {"step_time_p50_s": 0.5, "step_time_p90_s": 0.9, "step_time_p99_s": 0.99, "step_time_max_s": 1.0}
_NO_CALL = "needs two calls or more of a process"
_WIDEST_FIRST = ("module", "gpu")


_V = TypeVar("_V", float, str)


class JobNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """What the counters say of all GPUs of the job together.

    Attributes:
        power_w: Mean power of all GPUs over the range of the progress, W, by scope (gpu, module); a
            scope that is not known for all GPUs is left out.
        energy_j: Energy of all GPUs over the whole run, J, by scope as above.
        tensor_score_pct: Tensor score over the range of the progress, points of 100.
        dtype: Number format that the user states; None: none.
        peak_flops_s: Dense peak of all GPUs for that format, FLOP/s.
    """

    power_w: Mapping[str, float] = msgspec.field(default_factory=dict)
    energy_j: Mapping[str, float] = msgspec.field(default_factory=dict)
    tensor_score_pct: float | None = None
    dtype: str | None = None
    peak_flops_s: float | None = None


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What the command reported, and what follows from it.

    Attributes:
        calls_count: Calls of ``progress``, all processes.
        processes_count: Processes that called.
        first_ns: Wall time of the first call, ns.
        last_ns: Wall time of the last call, ns; all rates are those of the time between.
        range_s: That time, s.
        steps_count: Steps forward of the process that did the most.
        step_time_p50_s: Median time of a step over all processes, s; 0.5 % exact, as are p90 and p99.
        step_time_p90_s: Nine of ten steps took no longer, s.
        step_time_p99_s: 99 of 100 steps took no longer, s.
        step_time_max_s: The longest step, s, exact.
        tokens_s: Tokens per second of the job.
        flops_s: Model FLOP/s of the job, as the command counts them.
        power_scope: Scope of the power behind tokens_per_j: module where it is known, else gpu.
        tokens_per_j: Tokens per joule of all GPUs in that scope.
        mfu_pct: Model FLOP/s over the dense peak of all GPUs for the stated number format, points of 100.
        t_over_mfu: Executed over useful tensor work: recomputation, padding, uncounted FLOP.
        energy_scope: Scope of energy_kwh, as above.
        energy_kwh: Energy of all GPUs over the whole run, kWh.
        missing: Field that is null -> why.
        notes: What cannot be, or was left out.
    """

    calls_count: int
    processes_count: int
    first_ns: int
    last_ns: int
    range_s: float
    steps_count: int | None
    step_time_p50_s: float | None
    step_time_p90_s: float | None
    step_time_p99_s: float | None
    step_time_max_s: float | None
    tokens_s: float | None
    flops_s: float | None
    power_scope: str | None
    tokens_per_j: float | None
    mfu_pct: float | None
    t_over_mfu: float | None
    energy_scope: str | None
    energy_kwh: float | None
    missing: dict[str, str]
    notes: list[str]


def progress_of(state: ProgressState, job: JobNumbers) -> Progress | None:
    """Return what the command reported; None if it reported nothing.

    Args:
        state: All calls, merged.
        job: The counters of the same GPUs, over ``state.range_ns`` where it says so.
    """
    if state.first_ns is None or state.last_ns is None:
        return None
    found = _Found()
    range_s = (state.last_ns - state.first_ns) / NS_PER_S
    _add_steps(found, state)
    tokens_s = found.put("tokens_s", *_rate("tokens", state.tokens, state, range_s))
    flops_s = found.put("flops_s", *_rate("flop", state.flop, state, range_s))
    _add_power(found, job, tokens_s)
    _add_mfu(found, job, flops_s)
    return Progress(
        calls_count=state.calls_count,
        processes_count=state.processes_count,
        first_ns=state.first_ns,
        last_ns=state.last_ns,
        range_s=range_s,
        **found.values,
        missing=found.missing,
        notes=_notes(state, job, found.values["mfu_pct"]),
    )


class _Found:
    """Values by field, and for each that is None the reason."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.missing: dict[str, str] = {}

    def put(self, name: str, value: _V | None, reason: str) -> _V | None:
        """Keep a value; None with the reason."""
        self.values[name] = value
        if value is None:
            self.missing[name] = reason
        return value


def _add_steps(found: _Found, state: ProgressState) -> None:
    has_steps = state.steps_count > 0
    reason = "needs two calls of a process with rising step numbers" if state.step_calls_count else "needs step="
    found.put("steps_count", state.steps_count if has_steps else None, reason)
    untimed = "the clock ran backwards in every step" if has_steps else reason
    for name, share in STEP_SHARES.items():
        found.put(name, state.step_time_s(share), untimed)


def _rate(argument: str, amount: Amount, state: ProgressState, range_s: float) -> tuple[float | None, str]:
    """Return an amount per second of the range, or None and why."""
    if state.lost_bytes:
        return None, "some calls came faster than they could be read"
    if not amount.calls_count:
        return None, _NO_CALL if state.calls_count == state.processes_count else f"needs {argument}="
    return (amount.total / range_s, "") if range_s > 0 else (None, "all calls are of the same time")


def _add_power(found: _Found, job: JobNumbers, tokens_s: float | None) -> None:
    scope = next((each for each in _WIDEST_FIRST if job.power_w.get(each, 0.0) > 0), None)
    reason = found.missing.get("tokens_s", "power not known in that time")
    found.put("power_scope", scope, "power not known in that time")
    found.put("tokens_per_j", tokens_s / job.power_w[scope] if scope and tokens_s is not None else None, reason)
    scope = next((each for each in _WIDEST_FIRST if each in job.energy_j), None)
    found.put("energy_scope", scope, "energy not known")
    found.put("energy_kwh", job.energy_j[scope] / J_PER_KWH if scope else None, "energy not known")


def _add_mfu(found: _Found, job: JobNumbers, flops_s: float | None) -> None:
    reason = found.missing.get("flops_s") or (
        "needs --dtype" if job.dtype is None else f"no peak known for {job.dtype} on all GPUs"
    )
    peak = job.peak_flops_s if job.dtype is not None else None
    mfu_pct = found.put("mfu_pct", POINTS * flops_s / peak if peak and flops_s is not None else None, reason)
    ratio = job.tensor_score_pct / mfu_pct if mfu_pct and job.tensor_score_pct is not None else None
    found.put(
        "t_over_mfu", ratio, found.missing.get("mfu_pct") or ("tensor score not known" if mfu_pct else "MFU is 0")
    )


def _notes(state: ProgressState, job: JobNumbers, mfu_pct: float | None) -> list[str]:
    notes = []
    tensor_pct = job.tensor_score_pct
    if mfu_pct is not None and tensor_pct is not None and mfu_pct > tensor_pct + MFU_EXCESS_PCT:
        notes.append(
            f"MFU {mfu_pct:.1f} above the tensor score {tensor_pct:.1f} cannot be: flop= is counted more than once "
            "(each process states its own share, or one states all), counts more than tensor work, "
            f"or the work was not in {job.dtype} (--dtype)"
        )
    if state.wrong_count:
        notes.append(
            f"{state.wrong_count} values given to progress are no whole step or no finite amount >= 0: "
            "they are not counted"
        )
    if state.lost_bytes:
        notes.append(
            f"{state.lost_bytes / 1e6:.1f} MB of progress came faster than they could be read: call it less often"
        )
    if state.clock_back_count:
        notes.append(f"the clock ran backwards in {state.clock_back_count} steps: they are in no step time")
    return notes
