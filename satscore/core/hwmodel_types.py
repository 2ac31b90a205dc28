"""A GPU's bounds as values: the numbers that the score divides by, each with its source."""

from typing import Literal

import msgspec

from satscore.core.units import BITS_PER_BYTE, DDR_TRANSFERS_PER_CLOCK, HZ_PER_MHZ

NumberKind = Literal["datasheet", "derived", "measured", "assumed"]
CapScope = Literal["gpu", "module"]
Bounded = Literal["tensor", "dram"]
MODULE_CAP_LEAST_W, MODULE_CAP_MOST_W = 100.0, 10_000.0
"""Beyond these a stated cap is a slip of the unit, not a module."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a number was read, and when."""

    title: str
    where: str
    read: str
    """Date of reading, ``YYYY-MM`` or ``YYYY-MM-DD``."""
    url: str = ""

    @property
    def label(self) -> str:
        """One line for a view: title, place, date."""
        return f"{self.title}, {self.where}, {self.read}"


class Number(msgspec.Struct, frozen=True, kw_only=True):
    """One value with all that a reader needs to judge it.

    ``uncertainty_frac`` is relative: 0.03 means that the true value is believed within 3 %.
    """

    value: float
    unit: str
    kind: NumberKind
    uncertainty_frac: float
    source: Source
    note: str = ""


class Attainable(msgspec.Struct, frozen=True, kw_only=True):
    """The best rate ever measured on this part at one power cap, as fractions of the datasheet peak.

    The ceiling holds for one (cap scope, cap in W, vBoost level) only; ``vboost_level`` None means that
    the level was not recorded. ``attainable_active_frac`` is the counter's reading during that same
    kernel; None means unknown, which callers take as 1 (valid, but a wider bracket).
    """

    resource: Bounded
    dtype: str | None
    """The type that the kernel ran in; None for DRAM."""
    cap_scope: CapScope
    cap_w: float
    vboost_level: int | None
    attainable_frac: float
    attainable_active_frac: float | None
    uncertainty_frac: float
    kind: NumberKind
    source: Source
    note: str = ""


class HardwareModel(msgspec.Struct, frozen=True, kw_only=True):
    """All bounds of one GPU product. Rates are dense: sparse marketing numbers never enter.

    ``numbers`` holds every value again under the name by which views ask for its source:
    ``sm_count``, ``rated_clock_mhz.tensor``, ``flops_peak.bf16``, ``link_peak_bytes_s.nvlink``,
    ``attainable_frac.bf16.gpu_700w_vboost_unknown`` ...
    """

    id: str
    name: str
    file: str
    nvml_names: tuple[str, ...]
    open_checks: tuple[str, ...]
    """What is not settled about these numbers, one sentence each."""
    sm_count: int
    memory_bus_bits: int
    memory_bus_bits_accepted: tuple[int, ...]
    """Bus widths that drivers are known to report for this part; the first is ``memory_bus_bits``."""
    memory_bytes: float
    mem_clock_mhz: float
    sm_clock_max_mhz: float
    rated_clock_mhz: dict[str, float]
    """Clock at which a pipe's peak is quoted: tensor, fp64 (also FP64 on tensor cores), fp32, fp16."""
    counter_gain: dict[str, float]
    """Reading of a counter at architectural saturation: tensor, fp64, fp32, fp16, dram."""
    tensor_clock_cap_mhz: float | None
    """Clock above which tensor work does not follow the SM clock; None if none is known."""
    power_w: dict[str, float]
    """Power limits of the product: gpu_min, gpu_max, module_max; module_cap as a site states it. Only those known."""
    dram_peak_bytes_s: float
    link_peak_bytes_s: dict[str, float]
    """Per direction: nvlink, pcie, c2c; only links that the part has and whose rate is known."""
    flops_peak: dict[str, float]
    """Tensor peaks in FLOP/s by dtype: SMs x FLOP/clk/SM x rated clock."""
    vector_flops_peak: dict[str, float]
    """The same without tensor cores: fp64, fp32, fp16."""
    attainable: tuple[Attainable, ...]
    """Ceilings in force when the user states no dtype: bf16 for tensor, and DRAM."""
    attainable_if_stated: tuple[Attainable, ...]
    """Tensor ceilings of other types (fp8): they hold only where the user states that type."""
    numbers: dict[str, Number]
    nvml_names_source: Source | None = None

    def source_of(self, key: str) -> Source:
        """Return where a number comes from.

        Args:
            key: A name of ``numbers``, such as ``dram_peak_bytes_s`` or ``flops_peak.bf16``.

        Raises:
            KeyError: This model has no such number.
        """
        return self.numbers[key].source

    def dram_clock_bytes_s(self, mem_clock_mhz: float) -> float:
        """Return the DRAM rate in B/s that a memory clock in MHz allows: clock x bus / 8 x 2."""
        return dram_bytes_s(mem_clock_mhz, self.memory_bus_bits)


def plain_name(nvml_name: str) -> str:
    """Return a GPU's name without the vendor: drivers before R470 report 'A100-SXM4-40GB' without 'NVIDIA'."""
    return " ".join(nvml_name.split()).removeprefix("NVIDIA ")


def dram_bytes_s(mem_clock_mhz: float, bus_bits: float) -> float:
    """Return memory clock (MHz) x bus width (bit) / 8 x 2 edges, in B/s."""
    return mem_clock_mhz * HZ_PER_MHZ * bus_bits / BITS_PER_BYTE * DDR_TRANSFERS_PER_CLOCK
