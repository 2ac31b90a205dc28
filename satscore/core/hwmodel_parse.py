"""From a parsed hardware model file to a HardwareModel, or to the list of what is wrong with it."""

from satscore.core.hwmodel_check import flops_route, problems_in
from satscore.core.hwmodel_schema import Problem, RawAttainable, RawModel, RawNumber, read_tables
from satscore.core.hwmodel_types import Attainable, HardwareModel, Number, Source, dram_bytes_s
from satscore.core.units import MIB
from satscore.errors import ModelError

GIB = 1024 * MIB
DEFAULT_TENSOR_DTYPE = "bf16"
"""The type whose ceiling stands for 'tensor' when the user states none: what training runs in."""
HINT = "Example: hwmodels/h200-sxm.toml. 'satscore models check FILE' lists every problem of a file."


def check_and_build(raw: object, file: str) -> tuple[HardwareModel | None, list[Problem]]:
    """Return the model of a parsed file, or None and every problem of the file."""
    tables, problems = read_tables(raw)
    if tables is not None:
        problems = list(problems_in(tables))
    if tables is None or problems:
        return None, problems
    return _build(tables, file), []


def model_error(file: str, problem: Problem) -> ModelError:
    """Return a problem as an error that names file and key."""
    return ModelError(f"{file}: {problem.key}: {problem.message}", hint=HINT)


def _build(tables: RawModel, file: str) -> HardwareModel:
    chip = tables.chip
    numbers = _stated(tables)
    flops, vector = _flops(tables, numbers)
    links = _values(numbers, "link_peak_bytes_s")
    alternate = chip.memory_bus_bits_alternate
    cap = chip.tensor_clock_cap_mhz
    dram = _dram(tables, numbers)
    ceilings = _attainable(tables, numbers)
    plain = tuple(c for c in ceilings if c.resource == "dram" or c.dtype == DEFAULT_TENSOR_DTYPE)
    return HardwareModel(
        id=tables.id,
        name=tables.name,
        file=file,
        nvml_names=tables.nvml_names,
        open_checks=tables.open_checks,
        sm_count=int(chip.sm_count.value),
        memory_bus_bits=int(chip.memory_bus_bits.value),
        memory_bus_bits_accepted=tuple(int(n.value) for n in (chip.memory_bus_bits, alternate) if n),
        memory_bytes=chip.memory_size.value * GIB,
        mem_clock_mhz=chip.mem_clock_mhz.value,
        sm_clock_max_mhz=chip.sm_clock_max_mhz.value,
        rated_clock_mhz=_values(numbers, "rated_clock_mhz"),
        counter_gain=_values(numbers, "counter_gain"),
        tensor_clock_cap_mhz=cap.value if cap else None,
        power_w=_values(numbers, "power_w"),
        dram_peak_bytes_s=dram,
        link_peak_bytes_s=links,
        flops_peak=flops,
        vector_flops_peak=vector,
        attainable=plain,
        attainable_if_stated=tuple(c for c in ceilings if c not in plain),
        numbers=numbers,
        nvml_names_source=_source(tables, tables.nvml_names_source),
    )


def _stated(tables: RawModel) -> dict[str, Number]:
    """Collect the numbers that stand in the file as such, under the names by which views ask for them."""
    chip, power = tables.chip, tables.power
    rows: list[tuple[str, RawNumber | None]] = [
        *((name, getattr(chip, name)) for name in chip.__struct_fields__),
        ("power_w.gpu_min", power.gpu_min_w),
        ("power_w.gpu_max", power.gpu_max_w),
        ("power_w.module_max", power.module_max_w),
        ("power_w.module_cap", power.module_cap_w),
    ]
    for table, prefix in (
        (tables.rated_clock_mhz, "rated_clock_mhz"),
        (tables.counter_gain, "counter_gain"),
        (tables.link, "link_peak_bytes_s"),
    ):
        rows += [(f"{prefix}.{name}", getattr(table, name)) for name in table.__struct_fields__]
    return {name: _number(tables, raw) for name, raw in rows if raw is not None}


def _number(tables: RawModel, raw: RawNumber) -> Number:
    return Number(
        value=raw.value,
        unit=raw.unit,
        kind=raw.kind,
        uncertainty_frac=raw.uncertainty_frac,
        source=_source(tables, raw.source),
        note=raw.note,
    )


def _source(tables: RawModel, name: str) -> Source:
    raw = tables.source[name]
    return Source(title=raw.title, where=raw.where, read=raw.read, url=raw.url)


def _values(numbers: dict[str, Number], prefix: str) -> dict[str, float]:
    """Return {name: value} of the numbers called 'prefix.name'."""
    names = (name for name in numbers if name.startswith(f"{prefix}."))
    return {name.removeprefix(f"{prefix}."): numbers[name].value for name in names}


def _flops(tables: RawModel, numbers: dict[str, Number]) -> tuple[dict[str, float], dict[str, float]]:
    """Add rates, printed and derived peaks to ``numbers``; return the derived ones (tensor, vector).

    The derived peak is the bound: the score multiplies a counter by clock / rated clock, so only a peak
    at exactly that clock makes score and FLOP/s say the same.
    """
    for row in tables.flops:
        prefix = "" if row.pipe == "tensor" else "vector_"
        clock, value = flops_route(tables, row)
        rate, printed = row.flop_per_clk_sm, row.peak
        numbers[f"{prefix}flop_per_clk_sm.{row.dtype}"] = _number(tables, rate)
        note = f"{tables.chip.sm_count.value:g} SM x {rate.value:g} {rate.unit} x {clock.value:g} MHz"
        if printed is not None:
            numbers[f"{prefix}flops_datasheet.{row.dtype}"] = _number(tables, printed)
            note += f"; {_apart(value, printed)}"
        uncertainty = tables.chip.sm_count.uncertainty_frac + rate.uncertainty_frac + clock.uncertainty_frac
        numbers[f"{prefix}flops_peak.{row.dtype}"] = Number(
            value=value,
            unit=rate.unit.replace("/clk/SM", "/s"),
            kind="derived",
            uncertainty_frac=min(1.0, uncertainty),
            source=_source(tables, (printed or rate).source),
            note=f"{note}. {row.route_note}" if row.route_note else note,
        )
    return _values(numbers, "flops_peak"), _values(numbers, "vector_flops_peak")


def _dram(tables: RawModel, numbers: dict[str, Number]) -> float:
    """Add both routes to the DRAM bandwidth and the bound, in B/s, to ``numbers``; return the bound."""
    clock, bus, printed = tables.chip.mem_clock_mhz, tables.chip.memory_bus_bits, tables.dram.peak
    value = dram_bytes_s(clock.value, bus.value)
    note = f"{clock.value:g} MHz x {bus.value:g} bit / 8 x 2; {_apart(value, printed)}"
    derived = Number(
        value=value,
        unit=printed.unit,
        kind="derived",
        uncertainty_frac=min(1.0, clock.uncertainty_frac + bus.uncertainty_frac),
        source=_source(tables, clock.source),
        note=f"{note}. {tables.dram.route_note}" if tables.dram.route_note else note,
    )
    numbers["dram_datasheet_bytes_s"] = _number(tables, printed)
    numbers["dram_derived_bytes_s"] = derived
    bound = derived if tables.dram.bound == "derived" else numbers["dram_datasheet_bytes_s"]
    numbers["dram_peak_bytes_s"] = bound
    return bound.value


def _apart(derived: float, printed: RawNumber) -> str:
    apart = (derived - printed.value) / printed.value
    return f"printed {printed.value:.5g} {printed.unit}, {apart * 100:+.2f} %"


def _attainable(tables: RawModel, numbers: dict[str, Number]) -> tuple[Attainable, ...]:
    for row in tables.attainable:
        state = "_vboost_unknown" if row.vboost_level is None else f"_vboost_{row.vboost_level}"
        where = f"{row.dtype or row.resource}.{row.cap_scope}_{row.cap_w:g}w{state}"
        numbers[f"attainable_frac.{where}"] = _number(tables, row.attainable_frac)
        if row.attainable_active_frac is not None:
            numbers[f"attainable_active_frac.{where}"] = _number(tables, row.attainable_active_frac)
    return tuple(_ceiling(tables, row) for row in tables.attainable)


def _ceiling(tables: RawModel, row: RawAttainable) -> Attainable:
    best, active = row.attainable_frac, row.attainable_active_frac
    return Attainable(
        resource=row.resource,
        dtype=row.dtype,
        cap_scope=row.cap_scope,
        cap_w=row.cap_w,
        vboost_level=row.vboost_level,
        attainable_frac=best.value,
        attainable_active_frac=active.value if active else None,
        uncertainty_frac=best.uncertainty_frac,
        kind=best.kind,
        source=_source(tables, best.source),
        note=best.note,
    )
