"""What satscore itself costs, measured in every run."""

import resource
import time
from pathlib import Path

from satscore.core.units import NS_PER_S
from satscore.run.sampler import Sampler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from satscore.core.summary import Cost


def own_cost(
    started_ns: int, sampler: Sampler | None, recording_bytes: int | None, helper: tuple[float, int] = (0.0, 0)
) -> "Cost":
    """Return the cost so far, that of a source's own process included.

    Args:
        started_ns: CLOCK_MONOTONIC at the command's start.
        sampler: The sampling thread, or None without a source.
        recording_bytes: Size of the recording, or None where nothing is recorded.
        helper: CPU time in s and memory in bytes of a process of the source (``Source.helper_cost``).
    """
    from satscore.core.summary import Cost  # noqa: PLC0415 - numpy: not needed without a source

    elapsed_s = max(1e-9, (time.monotonic_ns() - started_ns) / NS_PER_S)
    helper_cpu_s, helper_rss_bytes = helper
    cpu_s = time.process_time() + helper_cpu_s
    return Cost(
        cpu_s=cpu_s,
        cpu_pct_of_core=100.0 * cpu_s / elapsed_s,
        rss_max_bytes=peak_rss_bytes() + helper_rss_bytes,
        read_mean_s=sampler.read_time_s / sampler.reads_count if sampler and sampler.reads_count else None,
        recording_bytes=recording_bytes,
        helper_cpu_s=helper_cpu_s,
        helper_rss_max_bytes=helper_rss_bytes,
    )


def peak_rss_bytes() -> int:
    """Return the largest resident size of this process in bytes.

    From /proc: ru_maxrss is inherited over fork and would show the size of whoever started us.
    """
    try:
        # As bytes: the first text in another encoding than UTF-8 imports it, at the end of the run.
        for line in Path("/proc/self/status").read_bytes().splitlines():
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
