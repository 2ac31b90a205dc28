"""By which counter the power and energy of GPU and module are read on this board and driver.

Which scope answers by which id depends on both, so each is asked once at open and then labelled. A
scope that is refused stays unknown and is never taken for the other.
"""

from dataclasses import dataclass

from satscore.counters import nvml_ids as ids
from satscore.counters.nvml_api import Answer, Entry, FieldBatch, Nvml
from satscore.counters.nvml_info import Found

SCOPES = (ids.SCOPE_GPU, ids.SCOPE_MODULE)
POWER_USAGE: Entry = (-2, ids.SCOPE_GPU)
"""Stands for nvmlDeviceGetPowerUsage among the field values."""
TOTAL_ENERGY: Entry = (-3, ids.SCOPE_GPU)
"""Stands for nvmlDeviceGetTotalEnergyConsumption among the field values."""
_SUPERCHIPS = ("GH200", "GB200", "GB300")
"""Modules of CPU and GPU, on which a counter without scope may mean the whole module."""
SUPERCHIP_FIELDS = (
    "c2c_tx_bytes_s",
    "c2c_rx_bytes_s",
    "power_module_w",
    "power_limit_module_w",
    "energy_module_j",
    "power_cpu_w",
)
"""What only such a module has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSources:
    """The counter of each scope; None where it is refused.

    Attributes:
        power: Scope to field value with the power in mW.
        energy: Scope to field value with the energy in mJ.
        doubts: What could not be attributed to a scope, in sentences.
    """

    power: dict[int, Entry | None]
    energy: dict[int, Entry | None]
    doubts: tuple[str, ...] = ()

    def fields(self) -> list[Entry]:
        """Return the field values among the counters."""
        entries = (*self.power.values(), *self.energy.values())
        return [entry for entry in entries if entry is not None and entry[0] >= 0]

    def uses(self, entry: Entry) -> bool:
        """Return whether a counter is in use."""
        return entry in (*self.power.values(), *self.energy.values())

    def labels(self) -> list[str]:
        """Return the counter per scope for people: ``power gpu: field 186``."""
        lines = []
        for what, table in (("power", self.power), ("energy", self.energy)):
            for scope, entry in table.items():
                by_call = {None: "refused", POWER_USAGE: "PowerUsage", TOTAL_ENERGY: "TotalEnergyConsumption"}
                label = by_call.get(entry) or f"field {entry[0] if entry else 0}"
                lines.append(f"{what} {ids.SCOPE_NAMES[scope]}: {label}")
        return lines


def is_superchip(name: str | None) -> bool:
    """Return whether a GPU of this NVML name sits on a module with its CPU."""
    return any(chip in (name or "") for chip in _SUPERCHIPS)


def probe_power(api: Nvml, found: Found) -> PowerSources:
    """Ask a GPU once for every counter of power and energy, and choose one per scope."""
    kinds = (ids.FI_POWER_INSTANT, ids.FI_POWER_AVERAGE, ids.FI_ENERGY)
    _, answers = FieldBatch(api, found.handle, [(kind, scope) for kind in kinds for scope in SCOPES]).read()
    power = {scope: _first(answers, [(kind, scope) for kind in kinds[:2]]) for scope in SCOPES}
    superchip = power[ids.SCOPE_MODULE] is not None or is_superchip(found.info.name)
    doubts = []
    if power[ids.SCOPE_GPU] is None and not superchip:
        power[ids.SCOPE_GPU] = POWER_USAGE
    elif power[ids.SCOPE_GPU] is None:
        doubts.append("power_gpu_w is not read: the driver refuses the GPU scope, and its other call has no scope")
    energy, doubt = _choose_energy(answers, superchip=superchip)
    return PowerSources(power=power, energy=energy, doubts=(*doubts, *doubt))


def _choose_energy(answers: dict[Entry, Answer], *, superchip: bool) -> tuple[dict[int, Entry | None], list[str]]:
    """Return the energy counter per scope, and what could not be attributed to one."""
    energy = {scope: _first(answers, [(ids.FI_ENERGY, scope)]) for scope in SCOPES}
    nothing: dict[int, Entry | None] = dict.fromkeys(SCOPES)
    one, two = (answers[ids.FI_ENERGY, scope] for scope in SCOPES)
    if one[0] == ids.OK and one == two:  # one counter under two names: this driver ignores the scope
        if superchip:
            return nothing, ["energy is not read: this driver gives one counter for GPU and module"]
        return {**nothing, ids.SCOPE_GPU: energy[ids.SCOPE_GPU]}, []
    if any(energy.values()):
        return energy, []
    if superchip:
        return nothing, ["energy is not read: the only counter has no scope and may be the whole module's"]
    return {**nothing, ids.SCOPE_GPU: TOTAL_ENERGY}, []


def _first(answers: dict[Entry, Answer], candidates: list[Entry]) -> Entry | None:
    """Return the first candidate that answers, else the first that only failed for now, else None.

    A zero is a refusal: no GPU draws 0 W, and no counter of a driver that has it stands at 0 mJ.
    """
    passing = [entry for entry in candidates if not _refused(answers[entry][0])]
    good = [entry for entry in passing if answers[entry][0] == ids.OK and answers[entry][1] > 0]
    undecided = [entry for entry in passing if answers[entry][0] != ids.OK]
    return next(iter(good + undecided), None)


def _refused(code: int) -> bool:
    return code == ids.INVALID_ARGUMENT or ids.code_of(code).permanent
