"""What makes a hardware model file wrong although its shape is right: units, order, and two routes to a peak.

Every peak is known by two routes, as printed and as the product of its parts. A slip of a unit or of a
power of ten breaks their agreement, so that it cannot reach a score.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

from satscore.core.hwmodel_schema import (
    SCHEMA_VERSION,
    Problem,
    RawAttainable,
    RawFlops,
    RawModel,
    RawNumber,
    numbers_in,
)
from satscore.core.hwmodel_types import (
    MODULE_CAP_LEAST_W,
    MODULE_CAP_MOST_W,
    HardwareModel,
    dram_bytes_s,
    plain_name,
)
from satscore.core.units import HZ_PER_MHZ

ROUTE_TOLERANCE_FRAC = 0.02
"""How far apart the two routes to a peak may be without a stated reason: datasheets print 3 digits."""
ROUTE_TOLERANCE_MAX_FRAC = 0.10
"""How far apart they may be with one. Far below 2, so that no sparse rate or slip of ten can be excused."""
SAME_CLOCK_FRAC = 0.02
"""Two parts whose memory clocks are closer than this cannot be told apart by what a driver reports."""

TENSOR_DTYPES = ("fp64", "tf32", "fp16", "bf16", "fp8", "int8", "fp4", "fp16_acc16", "fp8_acc16")
"""FP16 and FP8 accumulate in FP32, as training does; the rates with FP16 accumulators stand apart (``_acc16``)."""
VECTOR_DTYPES = ("fp64", "fp32", "fp16")
FASTEST_FIRST = ("fp4", "fp8", "bf16", "tf32")
INTEGER_DTYPES = ("int8",)

UNITS = {
    "chip.sm_count": "SM",
    "chip.memory_bus_bits": "bit",
    "chip.memory_bus_bits_alternate": "bit",
    "chip.memory_size": "GiB",
    "chip.mem_clock_mhz": "MHz",
    "chip.sm_clock_max_mhz": "MHz",
    "chip.tensor_clock_cap_mhz": "MHz",
    "power.gpu_min_w": "W",
    "power.gpu_max_w": "W",
    "power.module_max_w": "W",
    "power.module_cap_w": "W",
    "flops.flop_per_clk_sm": "FLOP/clk/SM",
    "flops.peak": "FLOP/s",
    "dram.peak": "B/s",
    "attainable.attainable_frac": "1",
    "attainable.attainable_active_frac": "1",
}
TABLE_UNITS = {"rated_clock_mhz": "MHz", "counter_gain": "1", "link": "B/s"}
WHOLE = ("chip.sm_count", "chip.memory_bus_bits", "chip.memory_bus_bits_alternate")
LARGEST = {"counter_gain": 2.0, "attainable.attainable_frac": 1.1, "attainable.attainable_active_frac": 1.0}
"""A tensor ceiling may pass 1: the SM clock can exceed the rated clock by 8 %. A reading cannot."""


def problems_in(tables: RawModel) -> Iterator[Problem]:
    """Yield every mistake of a file whose shape is right."""
    if tables.schema != SCHEMA_VERSION:
        yield Problem("schema", f"is {tables.schema}; this version of satscore reads {SCHEMA_VERSION}")
    yield from _identity(tables)
    yield from _sources(tables)
    broken = list(_numbers(tables))
    yield from broken
    yield from _module_cap(tables)
    yield from _flops_rows(tables)
    yield from _attainable_rows(tables)
    if not broken:
        # Products of wrong numbers would only repeat what was said about the numbers.
        yield from _order(tables)
        yield from _routes(tables)


def check_set(models: Sequence[HardwareModel]) -> Iterator[tuple[str, Problem]]:
    """Yield (file, problem) for models that cannot be told apart: same id, or same name and same chip."""
    for a, b in itertools.combinations(models, 2):
        if a.id == b.id:
            yield b.file, Problem("id", f"'{b.id}' is also the id of {a.file}")
        known = {plain_name(name) for name in a.nvml_names}
        shared = [name for name in sorted(b.nvml_names) if plain_name(name) in known]
        if shared and _same_chip(a, b):
            yield (
                b.file,
                Problem(
                    "nvml_names",
                    f"'{shared[0]}' is also in {a.file}, with the same SM count, memory bus and memory clock",
                ),
            )


def flops_route(tables: RawModel, row: RawFlops) -> tuple[RawNumber, float]:
    """Return the rated clock of a row and SMs x FLOP/clk/SM x that clock, in FLOP/s."""
    pipe = row.dtype
    if row.pipe == "tensor":
        # FP64 on tensor cores is quoted at the other pipes' clock (H100: 1980, not 1830 MHz).
        pipe = "fp64" if row.dtype == "fp64" else "tensor"
    clock: RawNumber = getattr(tables.rated_clock_mhz, pipe)
    return clock, tables.chip.sm_count.value * row.flop_per_clk_sm.value * clock.value * HZ_PER_MHZ


def _same_chip(a: HardwareModel, b: HardwareModel) -> bool:
    return (
        a.sm_count == b.sm_count
        and bool(set(a.memory_bus_bits_accepted) & set(b.memory_bus_bits_accepted))
        and math.isclose(a.mem_clock_mhz, b.mem_clock_mhz, rel_tol=SAME_CLOCK_FRAC)
    )


def _identity(tables: RawModel) -> Iterator[Problem]:
    if not tables.id or not all(c.isascii() and (c.islower() or c.isdigit() or c == "-") for c in tables.id):
        yield Problem("id", f"'{tables.id}' must be lower-case letters, digits and '-'")
    if not tables.name.strip():
        yield Problem("name", "is empty")
    if not tables.nvml_names:
        yield Problem("nvml_names", "is empty: without a name no GPU can match")
    for i, name in enumerate(tables.nvml_names):
        if not name.strip():
            yield Problem(f"nvml_names[{i}]", "is empty")
        if plain_name(name) in map(plain_name, tables.nvml_names[:i]):
            yield Problem(f"nvml_names[{i}]", f"'{name}' is listed twice")


def _sources(tables: RawModel) -> Iterator[Problem]:
    used = {tables.nvml_names_source} | {number.source for _, _, number in numbers_in(tables)}
    if tables.nvml_names_source not in tables.source:
        yield Problem("nvml_names_source", f"there is no [source.{tables.nvml_names_source}]")
    for name, source in tables.source.items():
        if not source.title.strip() or not source.where.strip():
            yield Problem(f"source.{name}", "title and where must say where to look")
        if not _is_date(source.read):
            yield Problem(f"source.{name}.read", f"'{source.read}' is not a date YYYY-MM or YYYY-MM-DD")
        if name not in used:
            yield Problem(f"source.{name}", "is not used by any number")


def _is_date(text: str) -> bool:
    parts = text.split("-")
    if not all(p.isascii() and p.isdigit() for p in parts) or [len(p) for p in parts] not in (
        [4, 2],
        [4, 2, 2],
    ):
        return False
    return 2000 <= int(parts[0]) <= 2999 and 1 <= int(parts[1]) <= 12 and 1 <= int(parts[-1]) <= 31


def _numbers(tables: RawModel) -> Iterator[Problem]:
    for key, pattern, number in numbers_in(tables):
        table = pattern.partition(".")[0]
        yield from _unit(tables, key, pattern, number)
        if not math.isfinite(number.value) or number.value <= 0:
            yield Problem(f"{key}.value", f"must be finite and positive, not {number.value:g}")
        elif number.value > LARGEST.get(pattern, LARGEST.get(table, math.inf)):
            yield Problem(f"{key}.value", f"{number.value:g} cannot be true for this quantity")
        elif pattern in WHOLE and not number.value.is_integer():
            yield Problem(f"{key}.value", f"must be a whole number, not {number.value:g}")
        if not 0 <= number.uncertainty_frac <= 1:
            yield Problem(f"{key}.uncertainty_frac", f"must be 0 to 1, not {number.uncertainty_frac:g}")
        if number.source not in tables.source:
            yield Problem(f"{key}.source", f"there is no [source.{number.source}]")
        if number.kind in ("derived", "assumed") and not number.note.strip():
            yield Problem(f"{key}.note", f"missing: a number that is {number.kind} must say how")


def _unit(tables: RawModel, key: str, pattern: str, number: RawNumber) -> Iterator[Problem]:
    table, _, _ = pattern.partition(".")
    unit = UNITS.get(pattern) or TABLE_UNITS[table]
    if table == "flops" and _row(tables.flops, key).dtype in INTEGER_DTYPES:
        unit = unit.replace("FLOP", "OP")
    if number.unit != unit:
        yield Problem(f"{key}.unit", f"must be '{unit}', not '{number.unit}'")


def _row(rows: Sequence[RawFlops], key: str) -> RawFlops:
    return rows[int(key.partition("[")[2].partition("]")[0])]


def _module_cap(tables: RawModel) -> Iterator[Problem]:
    cap, most = tables.power.module_cap_w, tables.power.module_max_w
    if cap is not None and not MODULE_CAP_LEAST_W <= cap.value <= MODULE_CAP_MOST_W:
        allowed = f"{MODULE_CAP_LEAST_W:g} to {MODULE_CAP_MOST_W:g} W"
        yield Problem("power.module_cap_w.value", f"must be {allowed}, not {cap.value:g}")
    if cap is not None and most is None:
        yield Problem("power.module_cap_w", "this part has no module: power.module_max_w is missing")
    elif cap is not None and most is not None and cap.value > most.value:
        yield Problem("power.module_cap_w.value", f"{cap.value:g} W is above power.module_max_w, {most.value:g} W")


def _flops_rows(tables: RawModel) -> Iterator[Problem]:
    seen: set[tuple[str, str]] = set()
    for i, row in enumerate(tables.flops):
        known = TENSOR_DTYPES if row.pipe == "tensor" else VECTOR_DTYPES
        if row.dtype not in known:
            yield Problem(f"flops[{i}].dtype", f"'{row.dtype}' is not one of {', '.join(known)}")
        if (row.pipe, row.dtype) in seen:
            yield Problem(f"flops[{i}]", f"{row.pipe} {row.dtype} is listed twice")
        seen.add((row.pipe, row.dtype))
        if row.peak is None and not row.route_note.strip():
            yield Problem(f"flops[{i}].peak", "missing; without a printed peak, route_note must say why")
        yield from _tolerance(f"flops[{i}]", row.route_tolerance_frac, row.route_note)
    if ("tensor", "bf16") not in seen and ("tensor", "fp16") not in seen:
        yield Problem("flops", "has no 16-bit tensor rate")


def _attainable_rows(tables: RawModel) -> Iterator[Problem]:
    seen: set[tuple[object, ...]] = set()
    tensor = {row.dtype for row in tables.flops if row.pipe == "tensor"}
    for i, row in enumerate(tables.attainable):
        key = f"attainable[{i}]"
        yield from _attainable_dtype(key, row, tensor)
        if not math.isfinite(row.cap_w) or row.cap_w <= 0:
            yield Problem(f"{key}.cap_w", f"must be finite and positive, not {row.cap_w:g}")
        if row.vboost_level is not None and row.vboost_level < 0:
            yield Problem(f"{key}.vboost_level", f"must not be negative, not {row.vboost_level}")
        condition = (row.resource, row.dtype, row.cap_scope, row.cap_w, row.vboost_level)
        if condition in seen:
            yield Problem(key, "the same resource, dtype, cap and vBoost level are listed twice")
        seen.add(condition)


def _attainable_dtype(key: str, row: RawAttainable, tensor: set[str]) -> Iterator[Problem]:
    if row.resource == "dram" and row.dtype is not None:
        yield Problem(f"{key}.dtype", "DRAM has no dtype")
    if row.resource == "tensor" and row.dtype not in tensor:
        yield Problem(f"{key}.dtype", f"must be a tensor dtype of this file ({', '.join(sorted(tensor))})")


def _tolerance(key: str, tolerance: float | None, note: str) -> Iterator[Problem]:
    if tolerance is None:
        return
    if not ROUTE_TOLERANCE_FRAC < tolerance <= ROUTE_TOLERANCE_MAX_FRAC:
        allowed = f"above {ROUTE_TOLERANCE_FRAC:g}, at most {ROUTE_TOLERANCE_MAX_FRAC:g}"
        yield Problem(f"{key}.route_tolerance_frac", f"must be {allowed}, not {tolerance:g}")
    if not note.strip():
        yield Problem(f"{key}.route_note", "missing: a wider tolerance must say why the two routes differ")


def _order(tables: RawModel) -> Iterator[Problem]:
    rows = {row.dtype: (i, row) for i, row in enumerate(tables.flops) if row.pipe == "tensor"}
    present = [dtype for dtype in FASTEST_FIRST if dtype in rows]
    for fast, slow in itertools.pairwise(present):
        i, fast_row = rows[fast]
        slow_row = rows[slow][1]
        if fast_row.flop_per_clk_sm.value < slow_row.flop_per_clk_sm.value:
            yield Problem(f"flops[{i}].flop_per_clk_sm.value", f"{fast} is below {slow}")
        if fast_row.peak and slow_row.peak and fast_row.peak.value < slow_row.peak.value:
            yield Problem(f"flops[{i}].peak.value", f"{fast} is below {slow}")


def _routes(tables: RawModel) -> Iterator[Problem]:
    for i, row in enumerate(tables.flops):
        if row.peak is not None and row.dtype in (TENSOR_DTYPES if row.pipe == "tensor" else VECTOR_DTYPES):
            _, derived = flops_route(tables, row)
            parts = "SMs x FLOP/clk/SM x rated clock"
            yield from _agree(f"flops[{i}]", row.peak, derived, parts, row.route_tolerance_frac)
    dram = tables.dram
    derived = dram_bytes_s(tables.chip.mem_clock_mhz.value, tables.chip.memory_bus_bits.value)
    yield from _agree("dram", dram.peak, derived, "memory clock x bus / 8 x 2", dram.route_tolerance_frac)
    yield from _tolerance("dram", dram.route_tolerance_frac, dram.route_note)


def _agree(key: str, printed: RawNumber, derived: float, parts: str, tolerance: float | None) -> Iterator[Problem]:
    apart = abs(derived - printed.value) / printed.value
    allowed = ROUTE_TOLERANCE_FRAC if tolerance is None else tolerance
    if not apart <= allowed:
        yield Problem(
            f"{key}.peak.value",
            f"two routes disagree by {apart:.3g} (allowed {allowed:g}): printed {printed.value:.6g} "
            f"{printed.unit}, {parts} gives {derived:.6g}",
        )
    elif tolerance is not None and apart <= ROUTE_TOLERANCE_FRAC:
        yield Problem(f"{key}.route_tolerance_frac", f"is not needed: the routes are {apart:.3g} apart")
