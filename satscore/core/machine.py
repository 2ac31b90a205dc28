"""What a machine, its container and its job show of the GPUs, as a value."""

import msgspec

from satscore.core.host import HostInfo


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A device node under /dev, and whether this user may read and write it."""

    name: str
    usable: bool


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What can be seen without the driver library; None where it cannot be told."""

    kernel_driver: str | None
    """Version of the loaded NVIDIA kernel driver."""
    kernel_gpus_count: int | None
    """GPUs that the kernel driver has on this machine, whoever may use them."""
    admin_only: bool | None
    """RmProfilingAdminOnly: profiling counters before Hopper are for administrators only."""
    nodes: list[Node]
    container: str | None
    has_host_engine: bool
    """Whether DCGM's nv-hostengine is on PATH."""
    run_place: str
    """The existing directory in which a run directory would be made."""
    run_place_error: str | None
    host: HostInfo = HostInfo()
    """What can be told of the host beside a run; ``missing`` has what cannot, fields of readings too."""
