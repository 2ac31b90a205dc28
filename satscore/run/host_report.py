"""What was recorded of the hosts of a run: evidence, so a file that cannot be read costs a line and no score."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from satscore.core.host_series import HostBins, HostSeries, merge_bins
from satscore.core.hosts import Hosts
from satscore.errors import RecordError
from satscore.record.host_file import HOST_PATTERN, HostRecording, repair_host


def read_hosts(
    directory: Path, correction_ns: Callable[[str, int], int] = lambda *_: 0
) -> tuple[Hosts, tuple[str, ...]]:
    """Return what the hosts of a run did, and why some of it is not known.

    A recording that was cut off is read as far as it goes, and rewritten as its valid prefix once nobody holds it.

    Args:
        directory: The run directory.
        correction_ns: Of host name and rank: what its clock lacks to that of the job, ns.
    """
    bins, infos, problems = list[HostBins](), [], list[str]()
    for path in sorted(directory.glob(HOST_PATTERN)):
        try:
            recording = HostRecording(path)
            header = recording.header
            series = HostSeries(header.grid_offset_ns + correction_ns(header.hostname, header.rank))
            for readings in recording.batches():
                series.append(readings)
        except RecordError as error:
            problems.append(f"what a host did cannot be read: {error.message}")
            continue
        bins.append(series.bins())
        infos.append(recording.header.info)
        if recording.cut_off and recording.is_live() is not True:
            problems.append(f"{path.name} was cut off: what the host did after its last whole batch is lost")
            if recording.is_live() is False:
                with contextlib.suppress(OSError):  # then it stays as it is: it was read
                    repair_host(recording)
    return Hosts(bins=merge_bins(bins), infos=tuple(infos)), tuple(problems)
