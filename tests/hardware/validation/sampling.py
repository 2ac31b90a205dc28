"""One load under the sampler: child process, readings, recording. Whatever fails is returned, not raised."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from satscore.core.fields import FIELDS
from satscore.core.readings import ReadingTable, table_of
from satscore.counters.select import open_source
from satscore.counters.source import Source
from satscore.record.run_file import FORMAT_VERSION, StreamHeader
from satscore.record.stream import StreamWriter
from satscore.run.sampler import Sampler
from tests.hardware.validation.environment import only

PERIOD_S = 0.2
SETTLE_S = 0.3
"""Sampling goes on for so long after the child's end, so that its last read is not cut short."""
STOP_S = 2.0
KILL_S = 5.0
STDERR_CHARS = 2000


class ChildLine(msgspec.Struct, kw_only=True):
    """The line of JSON that a child prints."""

    workload: str
    start_ns: int | None = None
    end_ns: int | None = None
    truth: dict[str, float | str] = msgspec.field(default_factory=dict)
    skipped: str | None = None
    error: str | None = None


@dataclass(slots=True, kw_only=True)
class Sampled:
    """A load and the readings taken meanwhile. ``error`` is set where there is nothing to score."""

    line: ChildLine
    table: ReadingTable | None = None
    header: StreamHeader | None = None
    window: tuple[int, int] | None = None
    """Start and end of the measured part, ns on the readings' axis."""
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    late_reads_count: int = 0
    stderr: str = ""


def run_child(command: Sequence[str], *, timeout_s: float, env: dict[str, str] | None = None) -> tuple[ChildLine, str]:
    """Run a child to its end and return its line and the end of its standard error.

    A child that does not end in time is killed with everything that it started.

    Args:
        command: Its command line.
        timeout_s: Longest time, s.
        env: Its environment; None: ours.
    """
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=env,
        start_new_session=True,
    )
    late = ""
    try:
        try:
            out, err = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            _kill(child)
            out, err = child.communicate()
            late = f"did not end within {timeout_s:.0f} s: killed"
    finally:
        _kill(child)
    line = parse_line(out, child.returncode)
    if late:
        line.error = late
    return line, err[-STDERR_CHARS:]


def _kill(child: subprocess.Popen[str]) -> None:
    """End a child that still runs: TERM, then KILL, to its own session only."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(KILL_S)


def parse_line(out: str, code: int) -> ChildLine:
    """Return a child's line; one with an error if there is none."""
    for text in reversed(out.splitlines()):
        try:
            return msgspec.json.decode(text, type=ChildLine)
        except msgspec.DecodeError:
            continue
    how = f"signal {-code}" if code < 0 else f"exit status {code}"
    return ChildLine(workload="", error=f"the load ended without a result ({how})")


def sample_load(
    source_name: str, uuid: str | None, command: Sequence[str], recording: Path, *, timeout_s: float
) -> Sampled:
    """Run one load and sample its GPU meanwhile; keep the readings in a recording.

    Args:
        source_name: As in ``satscore --source``.
        uuid: The GPU: read there, and the only one that the load sees.
        command: The load's command line.
        recording: File to create.
        timeout_s: Longest time of the load, s.
    """
    source, notes = open_source(source_name, only(uuid) if not source_name.startswith("sim") else None)
    if source is None:
        return Sampled(line=ChildLine(workload=""), error=f"no source: {'; '.join(notes)}")
    header = _header(source, source_name)
    sampler = Sampler(source, PERIOD_S)
    before = (time.monotonic_ns(), source.clock.now_ns())
    sampler.start()
    try:
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": uuid or ""}
        line, stderr = run_child(command, timeout_s=timeout_s, env=env)
        if line.start_ns is not None:
            time.sleep(SETTLE_S)
    finally:
        after = (time.monotonic_ns(), source.clock.now_ns())
        stopped = sampler.stop(STOP_S)
    table = table_of(sampler.drain())
    out = Sampled(line=line, table=table, header=header, late_reads_count=sampler.late_reads_count, stderr=stderr)
    out.notes = [*notes, *source.notes()]
    if not stopped:
        out.notes.append("the driver did not answer the last read")
    if sampler.failure:
        out.notes.append(f"sampling stopped: {sampler.failure}")
    _record(out, recording)
    out.error = line.error or (None if line.skipped or len(table) else "no readings")
    if line.start_ns is not None and line.end_ns is not None:
        out.window = (_on_axis(line.start_ns, before, after), _on_axis(line.end_ns, before, after))
    return out


def _on_axis(time_ns: int, before: tuple[int, int], after: tuple[int, int]) -> int:
    """Return a CLOCK_MONOTONIC time on the source's axis: the same, unless a simulation runs faster."""
    speed = (after[1] - before[1]) / max(1, after[0] - before[0])
    return before[1] + round((time_ns - before[0]) * speed)


def _header(source: Source, source_name: str) -> StreamHeader:
    return StreamHeader(
        format_version=FORMAT_VERSION,
        hostname=socket.gethostname(),
        rank=0,
        local_rank=None,
        source=source.name,
        scenario=source_name if source.kind == "simulated" else None,
        data_kind=source.kind,
        has_pipe_counters=source.has_pipe_counters,
        grid_offset_ns=time.time_ns() - source.clock.now_ns(),
        fields=[each.name for each in FIELDS],
        gpus=list(source.gpus),
    )


def _record(sampled: Sampled, path: Path) -> None:
    """Write the readings; a failure is a note: the numbers of this load are made from memory."""
    assert sampled.header is not None
    assert sampled.table is not None
    try:
        writer = StreamWriter(path, sampled.header)
        try:
            writer.append(sampled.table)
        finally:
            writer.close()
    except OSError as error:
        sampled.notes.append(f"the recording could not be written: {error}")


def child_command(script: Path, workload: str, timing: tuple[float, float, float], speed: float | None) -> list[str]:
    """Return the command line of a child.

    Args:
        script: ``validate.py``.
        workload: Its name in the plan.
        timing: Warm-up, measured part and tail, s.
        speed: Dry run: simulated seconds per second; None: on the GPU.
    """
    warm, measured, tail = (f"{value:g}" for value in timing)
    command = [sys.executable, str(script), "--workload", workload, "--warm", warm, "--seconds", measured]
    return [*command, "--tail", tail, *(["--pretend", f"{speed:g}"] if speed else [])]
