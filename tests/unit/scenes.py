"""Readings and bounds for tests: the H200 of the worked examples and short ways to write intervals."""

from collections.abc import Iterable, Mapping

from satscore.core.bounds import Bounds
from satscore.core.fields import FIELDS, Quality, Reading, blank_reading, put, put_missing
from satscore.core.readings import ReadingTable, table_of
from satscore.core.scorer import GpuScorer
from satscore.core.sums import Sums

NS = 1_000_000_000
SHORT = {
    "g": "engine_active_frac",
    "sm": "sm_active_frac",
    "T": "tensor_active_frac",
    "F64": "fp64_active_frac",
    "F32": "fp32_active_frac",
    "F16": "fp16_active_frac",
    "d": "dram_active_frac",
    "f": "sm_clock_mhz",
}
ZERO_UNLESS_GIVEN = tuple(
    field.name
    for field in FIELDS
    if field.name.endswith(("_frac", "_bytes_s")) and field.name not in ("engine_active_frac", "sm_active_frac")
)

H200 = Bounds(
    model_id="h200-sxm",
    rated_clock_mhz={"tensor": 1830.0, "fp64": 1980.0, "fp32": 1980.0, "fp16": 1980.0},
    counter_gain=dict.fromkeys(("tensor", "fp64", "fp32", "fp16", "dram"), 1.0),
    dram_clock_bytes_s_per_mhz=6144 / 8 * 2 * 1e6,
    dram_peak_bytes_s=4.8e12,
    attainable_frac={"tensor": 0.797, "dram": 0.896, "fp64": 1.0, "fp32": 1.0, "fp16": 1.0},
    attainable_active_frac={"tensor": 0.835, "dram": 0.875, "fp64": 1.0, "fp32": 1.0, "fp16": 1.0},
    link_peak_bytes_s={"nvlink": 450e9, "pcie": 63e9},
    sm_clock_max_mhz=1980.0,
)

E1 = {"g": 1, "sm": 0.97, "T": 0.835, "d": 0.25, "f": 1745}
E2 = {"g": 1, "sm": 0.98, "T": 0, "F32": 0.03, "d": 0.875, "f": 1980}
IDLE = {"g": 0, "sm": 0, "T": 0, "d": 0, "f": 1980}


def reading(start_s: float, length_s: float, values: Mapping[str, float], *, unknown: Iterable[str] = ()) -> Reading:
    """Return one reading; unlisted pipes and links are 0, the memory clock is the H200's."""
    start_ns = round(start_s * NS)
    out = blank_reading(0, start_ns, start_ns + round(length_s * NS))
    for name in ZERO_UNLESS_GIVEN:
        put(out, name, 0.0)
    put(out, "mem_clock_mhz", 3201.0)
    for key, value in values.items():
        put(out, SHORT.get(key, key), float(value))
    for key in unknown:
        put_missing(out, SHORT.get(key, key), Quality.BLANK)
    return out


def series(parts: Iterable[tuple[float, Mapping[str, float]]], *, unknown: Iterable[str] = ()) -> ReadingTable:
    """Return consecutive readings from (length in s, values) pairs."""
    readings, now = [], 0.0
    for length_s, values in parts:
        readings.append(reading(now, length_s, values, unknown=unknown))
        now += length_s
    return table_of(readings)


def score(table: ReadingTable, profile: str = "train", bounds: Bounds = H200) -> Sums:
    """Return the sums of a whole run."""
    scorer = GpuScorer(bounds, profile)
    scorer.add(table)
    return scorer.finish()
