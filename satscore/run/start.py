"""What is known of a run when its command starts: its identity, and where its files go.

Imported once a source is sampled: ``run.json`` brings numpy.
"""

import datetime as dt
import os
import platform
import socket
from collections.abc import Sequence
from pathlib import Path

from satscore.core.fields import FIELDS
from satscore.core.gpu import GpuInfo
from satscore.counters.clock import wall_offset_ns
from satscore.counters.source import Source
from satscore.launch.request import RunOptions
from satscore.record.run_file import FORMAT_VERSION, RunStart, StreamHeader, json_text
from satscore.run.recorder import default_directory

RANK = 0


def run_start(options: RunOptions, command: Sequence[str], started_at: dt.datetime) -> RunStart:
    """Return what ``run.json`` says of the start.

    Args:
        options: What the user asked for.
        command: The command line, redacted.
        started_at: When it started.
    """
    hostname = socket.gethostname()
    return RunStart(
        run_id=f"{hostname}-{_stamp(started_at)}-{os.getpid()}",
        label=json_text(options.label) or None,
        command=[json_text(argument) for argument in command],
        kind="command" if command else "watch",
        hostname=hostname,
        started_utc=started_at.isoformat(timespec="milliseconds"),
        profile=options.profile,
        dtype=options.dtype,
        period_s=options.period_s,
        group_by=options.group_by,
        python_version=platform.python_version(),
        kernel_version=platform.release(),
    )


def stream_header(source: Source, gpus: list[GpuInfo], asked_for: str) -> StreamHeader:
    """Return the identity of this rank's recording.

    Args:
        source: What is sampled.
        gpus: Its GPUs, with what the site states of them.
        asked_for: The source as the user named it.
    """
    return StreamHeader(
        format_version=FORMAT_VERSION,
        hostname=socket.gethostname(),
        rank=RANK,
        local_rank=None,
        source=source.name,
        scenario=None if source.kind == "measured" else json_text(asked_for),
        data_kind=source.kind,
        has_pipe_counters=source.has_pipe_counters,
        grid_offset_ns=wall_offset_ns(source.clock) if source.grid_offset_ns is None else source.grid_offset_ns,
        fields=[field.name for field in FIELDS],
        gpus=gpus,
    )


def wanted_directory(
    options: RunOptions, command: Sequence[str], started_at: dt.datetime, *, has_source: bool
) -> Path | None:
    """Return the run directory to make; None: nothing is recorded."""
    if options.out:
        return Path(options.out)
    if options.record == "no" or not has_source:
        return None
    return default_directory(_stamp(started_at), options.label or None, list(command))


def _stamp(started_at: dt.datetime) -> str:
    return started_at.astimezone().strftime("%Y%m%dT%H%M%S")
