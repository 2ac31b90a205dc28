"""What a GPU says about itself: the facts that choose a hardware model and its bounds."""

import msgspec

VBOOST_CAPABILITIES = ((9, 0), (12, 0))
"""Chips with a vBoost slider: from Hopper on; those from 12.0 on are of workstations and consumers."""


class GpuInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Static facts of one GPU, as the chip and driver report them; None where they do not.

    ``index`` is the position in the run's GPU list and in every reading of it.
    """

    index: int
    nvml_index: int | None = None
    """The driver's number of the GPU, as nvidia-smi shows it."""
    uuid: str | None = None
    name: str | None = None
    pci_bus_id: str | None = None
    pci_device_id: int | None = None
    sm_count: int | None = None
    memory_bus_bits: int | None = None
    memory_total_bytes: int | None = None
    sm_clock_max_mhz: float | None = None
    mem_clock_max_mhz: float | None = None
    compute_capability: tuple[int, int] | None = None
    power_limit_gpu_w: float | None = None
    power_limit_module_w: float | None = None
    module_cap_w: float | None = None
    """Cap on the module in W that the site states (below what the driver reports); None: not stated."""
    module_cap_source: str | None = None
    """Where the site states it."""
    vboost_level: int | None = None
    vboost_source: str | None = None
    """What told the level: the driver's tool, or a constraint of the job that nobody has verified."""
    mig_enabled: bool | None = None
    mig_devices: tuple[str, ...] = ()
    """UUIDs of the slices into which MIG has cut the GPU."""
    driver_version: str | None = None
    cuda_driver_version: str | None = None
    model_hint: str | None = None
    """A hardware model's id where the source knows it for certain (the simulator)."""
    has_os_memory: bool | None = None
    """Whether the operating system manages the device memory (GH200): its pages may count as used."""
    pipes_multiplexed: bool = False
    """Whether pipe counters take turns, so that each is seen for a part of the time only (before Hopper)."""
    temp_slowdown_c: float | None = None
    """Temperature at which the GPU slows itself down."""
    pcie_generation_max: int | None = None
    """The best that GPU and slot support."""
    pcie_lanes_max_count: int | None = None
    nvlink_count: int | None = None
    """NVLink connections that the board has."""
    remapped_rows_count: int | None = None
    """Memory rows remapped before the run, for whatever reason."""
    remap_pending: bool | None = None
    """Whether a row waits for a reset to be remapped."""
    remap_failed: bool | None = None
    """Whether a row could not be remapped: the vendor replaces such a GPU."""

    @property
    def module_limit_w(self) -> float | None:
        """The limit in force on the module in W: the lower of the driver's and the site's; None: unknown."""
        known = [limit for limit in (self.power_limit_module_w, self.module_cap_w) if limit is not None]
        return min(known, default=None)

    @property
    def may_have_vboost(self) -> bool:
        """Whether there can be a vBoost level; where there cannot, an unknown one is no gap.

        A GPU that does not tell its compute capability may, if it shares a module's power with a CPU.
        """
        if self.compute_capability is None:
            return self.power_limit_module_w is not None
        first, end = VBOOST_CAPABILITIES
        return first <= self.compute_capability < end
