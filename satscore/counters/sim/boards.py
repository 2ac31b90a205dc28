"""The simulated boards, as data: what NVML would report of the real ones."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """Static facts of a simulated GPU, as NVML would report them on the real one."""

    model_hint: str
    name: str
    uuid_stem: str
    memory_bus_bits: int
    memory_total_bytes: int
    mem_clock_mhz: float
    dram_peak_bytes_s: float
    """Datasheet bandwidth; used for the known truth only."""
    nvlink_peak_bytes_s: float = 450e9
    """Per direction."""
    pcie_peak_bytes_s: float = 63e9
    """Per direction: PCIe 5 x16 less its line code."""
    pcie_generation: int = 5
    pcie_lanes_count: int = 16
    nvlink_count: int = 18
    c2c_peak_bytes_s: float | None = None
    """Per direction, to the CPU on the same module; None: the board has no such link."""
    power_limit_gpu_w: float
    power_limit_module_w: float | None = None
    """None: the board has no module scope."""
    cpu_w: float = 0.0
    """Load of the CPU in the same module if nobody says otherwise, W."""

    @property
    def host_link(self) -> tuple[str, float]:
        """The link to the host: its class, and its peak per direction in B/s."""
        if self.c2c_peak_bytes_s is None:
            return "pcie", self.pcie_peak_bytes_s
        return "c2c", self.c2c_peak_bytes_s

    def dram_bytes_s(self, mem_clock_mhz: float) -> float:
        """Return the bytes per second at a memory clock in MHz: both edges, whole bus."""
        return mem_clock_mhz * 1e6 * self.memory_bus_bits / 8 * 2


H200 = Board(
    model_hint="h200-sxm",
    name="NVIDIA H200 (simulated)",
    uuid_stem="SIM-h200",
    memory_bus_bits=6144,
    memory_total_bytes=143_771 * 2**20,
    mem_clock_mhz=3201.0,
    dram_peak_bytes_s=4.8e12,
    power_limit_gpu_w=700.0,
)
GH200_96 = Board(
    model_hint="gh200-96",
    name="NVIDIA GH200 120GB (simulated)",
    uuid_stem="SIM-gh200",
    memory_bus_bits=6144,
    memory_total_bytes=97_871 * 2**20,
    mem_clock_mhz=2619.0,
    dram_peak_bytes_s=4.0228e12,
    power_limit_gpu_w=900.0,
    power_limit_module_w=660.0,
    cpu_w=100.0,
    c2c_peak_bytes_s=450e9,
)
