"""What the simulated GPU can run: kernels with fixed activities, and segments of them."""

import enum
from typing import NamedTuple

RATED_CLOCK_MHZ = 1830.0
"""Work of a kernel whose pace is the SM clock is stated in seconds at this clock."""


class Pace(enum.Enum):
    """What sets the speed of a kernel."""

    TIME = "time"
    """Link or host: a second of work takes a second."""
    SM_CLOCK = "SM clock"
    MEMORY_CLOCK = "memory clock"


class Kernel(NamedTuple):
    """Activities while the kernel runs; all are shares (1 = always), of links of one direction's peak."""

    row: int
    """Row of the kernel in every per-kernel total."""
    name: str
    engine: float = 1.0
    sm: float = 0.0
    occupancy: float = 0.0
    tensor: float = 0.0
    fp32: float = 0.0
    dram: float = 0.0
    nvlink: float = 0.0
    host_tx: float = 0.0
    """Device to host: over C2C where the board has it, else over PCIe."""
    host_rx: float = 0.0
    """Host to device."""
    pace: Pace = Pace.TIME


IDLE = Kernel(0, "idle", engine=0.0)
GEMM = Kernel(1, "gemm", sm=0.97, tensor=0.835, dram=0.25, occupancy=0.18, pace=Pace.SM_CLOCK)
ATTN = Kernel(2, "attn", sm=0.96, tensor=0.62, dram=0.10, occupancy=0.20, pace=Pace.SM_CLOCK)
COPY = Kernel(3, "copy", sm=0.98, dram=0.875, occupancy=0.60, pace=Pace.MEMORY_CLOCK)
ELEM = Kernel(4, "elem", sm=0.98, dram=0.84, occupancy=0.60, pace=Pace.MEMORY_CLOCK)
COMM = Kernel(5, "comm", sm=0.121, dram=0.10, occupancy=0.04, nvlink=0.70)
SPIN = Kernel(6, "spin", sm=0.121, dram=0.01, occupancy=0.04)
SMALL = Kernel(7, "small", engine=0.55, sm=0.055, tensor=0.003, dram=0.018, occupancy=0.01)
FP32 = Kernel(8, "fp32", sm=0.99, fp32=0.90, dram=0.15, occupancy=0.60, pace=Pace.SM_CLOCK)
DECODE = Kernel(9, "decode", sm=0.891, tensor=0.17, dram=0.262, occupancy=0.20, pace=Pace.SM_CLOCK)
"""Token generation of a mixture of experts: a public reading of an H200."""
LATENCY = Kernel(10, "latency", sm=0.90, fp32=0.05, dram=0.20, occupancy=0.15, pace=Pace.SM_CLOCK)
"""Full of warps that wait for each other or for memory."""
SMALL_GRID = Kernel(11, "small-grid", sm=0.55, tensor=0.47, dram=0.15, occupancy=0.10, pace=Pace.SM_CLOCK)
"""Matrix products with fewer blocks than there are SMs."""
HOST_COMM = Kernel(12, "host-comm", sm=0.06, dram=0.10, occupancy=0.02, host_tx=0.40, host_rx=0.40)
"""A collective, or an optimizer state, that goes through the host's memory."""
SAVE = Kernel(13, "save", engine=0.0, dram=0.06, host_tx=0.50)
"""Copy engine, device to host: it counts as no compute engine."""
LOAD = Kernel(14, "load", engine=0.0, dram=0.06, host_rx=0.50)
"""Copy engine, host to device."""

KERNELS: tuple[Kernel, ...] = (
    IDLE,
    GEMM,
    ATTN,
    COPY,
    ELEM,
    COMM,
    SPIN,
    SMALL,
    FP32,
    DECODE,
    LATENCY,
    SMALL_GRID,
    HOST_COMM,
    SAVE,
    LOAD,
)


def kernels_at(speed: float) -> tuple[Kernel, ...]:
    """Return KERNELS as a GPU runs them that is slower at the same clock: SMs as busy, pipes and DRAM less.

    Args:
        speed: Work done per time over that of a healthy GPU, 0 < speed <= 1. What links and hosts set the
            pace of is as before.
    """
    return tuple(
        k if k.pace is Pace.TIME else k._replace(tensor=k.tensor * speed, fp32=k.fp32 * speed, dram=k.dram * speed)
        for k in KERNELS
    )


class Segment(NamedTuple):
    """One kernel for one amount of work.

    ``amount_s`` is in seconds at the rated SM clock or at the board's memory clock where that is the
    pace, else in plain seconds.
    """

    kernel: Kernel
    amount_s: float
    pace: Pace = Pace.TIME


def work(kernel: Kernel, amount_s: float) -> Segment:
    """Return a segment whose duration depends on a clock if the kernel's speed does."""
    return Segment(kernel, amount_s, kernel.pace)


def span(kernel: Kernel, duration_s: float) -> Segment:
    """Return a segment of a fixed duration in s, however much work the clock lets it do."""
    return Segment(kernel, duration_s)
