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
from satscore.launch.request import Identity, RunOptions
from satscore.record.files import DEFAULT_PARENT
from satscore.record.run_file import FORMAT_VERSION, JobIdentity, RunStart, StreamHeader, json_text
from satscore.run.crew import FULL_RANKS
from satscore.run.recorder import default_directory

ALONE = Identity()
"""No launcher: one process is the whole job."""


def kept(options: RunOptions, identity: Identity) -> str:
    """Return what is recorded: full, sums or no."""
    return options.record or ("full" if identity.world <= FULL_RANKS else "sums")


def run_start(
    options: RunOptions, command: Sequence[str], started_at: dt.datetime, identity: Identity = ALONE
) -> RunStart:
    """Return what the rank's own file says of the start.

    Args:
        options: What the user asked for.
        command: The command line, redacted.
        started_at: When it started.
        identity: Which rank this is.
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
        # Ranks that cannot find each other are summed up alone: none is missing.
        job=None if identity.key is None else job_identity(identity),
    )


def job_identity(identity: Identity) -> JobIdentity:
    """Return an identity as it is recorded."""
    return JobIdentity(
        launcher=identity.launcher,
        rank=identity.rank,
        world=identity.world,
        local_rank=identity.local_rank,
        local_world=identity.local_world,
        key=identity.key,
        restart=identity.restart,
    )


def stream_header(source: Source, gpus: list[GpuInfo], asked_for: str, identity: Identity = ALONE) -> StreamHeader:
    """Return the identity of this rank's recording.

    Args:
        source: What is sampled.
        gpus: Its GPUs, with what the site states of them.
        asked_for: The source as the user named it.
        identity: Which rank this is.
    """
    return StreamHeader(
        format_version=FORMAT_VERSION,
        hostname=socket.gethostname(),
        rank=identity.rank,
        local_rank=identity.local_rank,
        source=source.name,
        scenario=None if source.kind == "measured" else json_text(asked_for),
        data_kind=source.kind,
        has_pipe_counters=source.has_pipe_counters,
        grid_offset_ns=wall_offset_ns(source.clock) if source.grid_offset_ns is None else source.grid_offset_ns,
        fields=[field.name for field in FIELDS],
        gpus=gpus,
    )


def wanted_directory(
    options: RunOptions,
    command: Sequence[str],
    started_at: dt.datetime,
    *,
    has_source: bool,
    identity: Identity = ALONE,
) -> Path | None:
    """Return the run directory to make; None: nothing is recorded.

    Of a job of several ranks it is the same in all of them, and made in any case: there they meet. Where nothing
    tells jobs apart, each rank has one of its own.
    """
    apart = f"-rank{identity.rank}" if identity.world > 1 and identity.key is None else ""
    if options.out:
        return Path(options.out + apart)
    if identity.world == 1 and (options.record == "no" or not has_source):
        return None
    if identity.key is not None:
        return Path(DEFAULT_PARENT) / identity.key
    if apart:
        return default_directory(_stamp(started_at) + apart, options.label or None, list(command))
    return default_directory(_stamp(started_at), options.label or None, list(command))


def _stamp(started_at: dt.datetime) -> str:
    return started_at.astimezone().strftime("%Y%m%dT%H%M%S")
