"""Which hardware model belongs to a GPU. The one door to hardware models: their types are re-exported.

A GPU gets a model only if its NVML name *and* what the chip reports agree: one marketing name covers
parts with different memory, and the peaks of a similar part would give a wrong score that looks right.
"""

import difflib
from collections.abc import Sequence

import msgspec

from satscore.core.gpu import GpuInfo
from satscore.core.hwmodel_types import (
    MODULE_CAP_LEAST_W,
    MODULE_CAP_MOST_W,
    Attainable,
    Bounded,
    CapScope,
    HardwareModel,
    Number,
    NumberKind,
    Source,
    dram_bytes_s,
    plain_name,
)

__all__ = [
    "MODULE_CAP_LEAST_W",
    "MODULE_CAP_MOST_W",
    "USER_FOLDER",
    "Attainable",
    "Bounded",
    "CapScope",
    "Fact",
    "HardwareModel",
    "MatchResult",
    "Number",
    "NumberKind",
    "Source",
    "compare",
    "dram_bytes_s",
    "match",
    "plain_name",
]

USER_FOLDER = "~/.config/satscore/hwmodels"
"""Where a user's own files are read unless the environment says otherwise (docs/hwmodels.md)."""
CLOCK_TOLERANCE_FRAC = 0.02
"""Drivers round memory clocks; the closest parts of one bus width (2619 and 3201 MHz) are 22 % apart."""
VBOOST_CLOCK_TOLERANCE_FRAC = 0.05
"""Downwards, where vBoost may be on: it may take memory clock to feed the tensor cores (not settled)."""
MEMORY_TOLERANCE_FRAC = 0.08
"""Covers GB against GiB (7.4 %) and the driver's reserve; 80 and 94 GB parts are 17 % apart."""


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that chip and model both state. ``agrees`` is None where the chip does not report it."""

    name: str
    unit: str
    reported: float | None
    expected: float
    agrees: bool | None

    def describe(self) -> str:
        """Return the two values in words, 'here' being the chip and 'there' the model."""
        if self.reported is None:
            return f"{self.name} (not reported)"
        return f"{self.name} ({self.reported:.10g} {self.unit} here, {self.expected:.10g} {self.unit} there)"


class MatchResult(msgspec.Struct, frozen=True, kw_only=True):
    """The model of a GPU, or why there is none.

    Without a model there is no score: ``reason`` says which fact disagreed with which closest model
    (``closest_id``), ``file_to_add`` the name of a file that would make the GPU known. ``notes`` lists what could
    not be compared.
    """

    model: HardwareModel | None
    reason: str
    notes: tuple[str, ...] = ()
    closest_id: str | None = None
    file_to_add: str | None = None


def match(models: Sequence[HardwareModel], gpu: GpuInfo, folder: str = USER_FOLDER) -> MatchResult:
    """Choose the hardware model of a GPU: by NVML name and by what the chip reports, never by similarity.

    Args:
        models: All known models.
        gpu: What driver and chip say; ``model_hint`` (the simulator knows its model) is taken as given.
        folder: Where the user can add a model, as people read it.
    """
    if gpu.mig_enabled:
        return MatchResult(
            model=None,
            reason=f"MIG is enabled on {gpu.name or 'this GPU'}: counters and bounds of a slice are not "
            "known. Run without MIG to get a score.",
        )
    if gpu.model_hint is not None:
        return _by_hint(models, gpu.model_hint)
    named = [m for m in models if gpu.name is not None and _lists(m, gpu.name)]
    fitting = [m for m in named if all(fact.agrees is not False for fact in compare(m, gpu))]
    if len(fitting) == 1 and _decisive(compare(fitting[0], gpu)):
        return _matched(fitting[0], gpu)
    return _unmatched(models, named, fitting, gpu, folder)


def compare(model: HardwareModel, gpu: GpuInfo) -> tuple[Fact, ...]:
    """Compare what the chip reports with a model, in the order of their weight."""
    boosted = gpu.may_have_vboost if gpu.vboost_level is None else gpu.vboost_level > 0
    clock_down = VBOOST_CLOCK_TOLERANCE_FRAC if boosted else CLOCK_TOLERANCE_FRAC
    clock, size = gpu.mem_clock_max_mhz, gpu.memory_total_bytes
    rows: tuple[tuple[str, str, float | None, float, bool], ...] = (
        ("SM count", "SM", gpu.sm_count, model.sm_count, gpu.sm_count == model.sm_count),
        (
            "memory bus",
            "bit",
            gpu.memory_bus_bits,
            model.memory_bus_bits,
            gpu.memory_bus_bits in model.memory_bus_bits_accepted,
        ),
        (
            "memory clock",
            "MHz",
            clock,
            model.mem_clock_mhz,
            _within(clock, model.mem_clock_mhz, clock_down, CLOCK_TOLERANCE_FRAC),
        ),
        (
            "memory size",
            "B",
            size,
            model.memory_bytes,
            _within(size, model.memory_bytes, MEMORY_TOLERANCE_FRAC, MEMORY_TOLERANCE_FRAC),
        ),
    )
    return tuple(
        Fact(
            name=name,
            unit=unit,
            reported=None if reported is None else float(reported),
            expected=float(expected),
            agrees=None if reported is None else agrees,
        )
        for name, unit, reported, expected, agrees in rows
    )


def _within(reported: float | None, expected: float, down_frac: float, up_frac: float) -> bool:
    return reported is not None and expected * (1 - down_frac) <= reported <= expected * (1 + up_frac)


def _decisive(facts: Sequence[Fact]) -> bool:
    """Whether the chip reported at least one fact that tells parts apart; the memory size alone does not."""
    return any(fact.agrees for fact in facts if fact.name != "memory size")


def _lists(model: HardwareModel, name: str) -> bool:
    return plain_name(name) in {plain_name(known) for known in model.nvml_names}


def _by_hint(models: Sequence[HardwareModel], hint: str) -> MatchResult:
    for model in models:
        if model.id == hint:
            return MatchResult(model=model, reason=f"the source states the model '{hint}'")
    near = difflib.get_close_matches(hint, [m.id for m in models], n=1, cutoff=0.0)
    closest = near[0] if near else None
    return MatchResult(
        model=None,
        reason=f"the source states the model '{hint}', which does not exist"
        + (f"; nearest is '{closest}'" if closest else ""),
        closest_id=closest,
        file_to_add=f"{hint}.toml",
    )


def _matched(model: HardwareModel, gpu: GpuInfo) -> MatchResult:
    facts = compare(model, gpu)
    agreed = ", ".join(fact.name for fact in facts if fact.agrees)
    silent = [fact.name for fact in facts if fact.agrees is None]
    notes = []
    if silent:
        notes.append(f"not reported by the driver, so not compared with {model.id}: {', '.join(silent)}")
    if gpu.mig_enabled is None:
        notes.append("the driver does not say whether MIG is enabled: taken as off")
    return MatchResult(model=model, reason=f"'{gpu.name}' is {model.id}: {agreed} agree", notes=tuple(notes))


def _unmatched(
    models: Sequence[HardwareModel],
    named: Sequence[HardwareModel],
    fitting: Sequence[HardwareModel],
    gpu: GpuInfo,
    folder: str,
) -> MatchResult:
    """Say why no model is used: ambiguous, nothing to compare, a fact that disagrees, or an unknown name."""
    closest = _closest(named or models, gpu)
    file_to_add = _file_to_add(models, gpu)
    with_chip = ", with what this chip reports as its [chip]" if named and not fitting else ""
    who = f"'{gpu.name}'" if gpu.name else "a GPU without a name"
    if len(fitting) > 1:
        reason = f"{who} could be {' or '.join(m.id for m in fitting)}: the chip reports too little to tell"
    elif fitting:
        reason = f"{who} is a name of {fitting[0].id}, but no SM count, memory bus or clock is reported"
    elif closest is None:
        reason = f"no hardware models are loaded for {who}"
    else:
        differing = ", ".join(fact.describe() for fact in compare(closest, gpu) if fact.agrees is False)
        known = f"{who} is a name of {closest.id}"
        lead = known if named else f"no hardware model lists {who}; closest is {closest.id}"
        reason = f"{lead}, but these differ: {differing}" if differing else f"{lead} under another name"
    return MatchResult(
        model=None,
        reason=f"{reason}. No peaks of a similar part are used: to score this GPU, "
        f"add {file_to_add} to {folder} (docs/hwmodels.md){with_chip}.",
        closest_id=closest.id if closest else None,
        file_to_add=file_to_add,
    )


def _closest(models: Sequence[HardwareModel], gpu: GpuInfo) -> HardwareModel | None:
    """The model with the most agreeing facts; among equals the one with the most similar name."""

    def rank(model: HardwareModel) -> tuple[int, float]:
        name = plain_name(gpu.name or "")
        alike = max(difflib.SequenceMatcher(None, name, plain_name(known)).ratio() for known in model.nvml_names)
        return sum(fact.agrees is True for fact in compare(model, gpu)), alike

    return max(models, key=rank, default=None)


def _file_to_add(models: Sequence[HardwareModel], gpu: GpuInfo) -> str:
    letters = (c if c.isascii() and c.isalnum() else " " for c in plain_name(gpu.name or "new gpu").lower())
    slug = "-".join("".join(letters).split()) or "new-gpu"
    taken = {model.id for model in models}
    return f"{slug}{'-variant' if slug in taken else ''}.toml"
