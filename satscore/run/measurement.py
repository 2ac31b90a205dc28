"""One measured run: open a source, sample, score and record until the command ends, conclude."""

import datetime as dt
import os
import platform
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from satscore import __version__
from satscore.core.fields import FIELDS
from satscore.core.gpu import GpuInfo
from satscore.core.redact import redact
from satscore.core.units import NS_PER_S
from satscore.counters.select import open_source
from satscore.counters.source import Source
from satscore.launch.placement import visible_gpus
from satscore.launch.request import RunOptions
from satscore.run.sampler import Sampler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from satscore.core.summary import Cost, Summary
    from satscore.record.run_file import RunEnd, StreamHeader
    from satscore.run.recorder import Recorder
    from satscore.run.session import Session

FIRST_BATCH_S = 1.0
BATCH_S = 5.0
"""A batch on disk every 5 s: what a killed satscore loses at most."""
LAST_READ_WAIT_S = 0.4
RANK = 0


class Measurement:
    """The work of the controller thread. numpy and what needs it are imported once a source is sampled.

    Args:
        options: What the user asked for.
        command: The command line, verbatim.
        started_ns: CLOCK_MONOTONIC at the command's start.
        load_view: Imports and returns what makes the text to print from the summary.
    """

    def __init__(
        self,
        options: RunOptions,
        command: Sequence[str],
        started_ns: int,
        load_view: "Callable[[], Callable[[Summary], str]]",
    ) -> None:
        self._options = options
        self._command = redact(command) if options.redact else list(command)
        self._started_ns = started_ns
        self._ended_ns = started_ns
        self._started_at = dt.datetime.now(tz=dt.UTC)
        self._load_view = load_view
        self._notes: list[str] = []
        self._source: Source | None = None
        self._sampler: Sampler | None = None
        self._ranks: list[tuple[StreamHeader, Session]] = []
        self._recorder: Recorder | None = None

    def run(self, opened: threading.Event, ended: threading.Event) -> None:
        """Measure until the command has ended.

        Args:
            opened: Set here once it is known whether there is a source.
            ended: Set by the caller when the command has ended.
        """
        source, notes = open_source(self._options.source, self._visible)
        opened.set()
        self._notes += notes
        if source is None:
            ended.wait()
        else:
            self._source = source
            self._sampler = Sampler(source, self._options.period_s)
            self._sampler.start()
            self._prepare(source)
            wait_s = FIRST_BATCH_S
            while not ended.wait(wait_s):
                self._take(self._sampler)
                wait_s = BATCH_S
            if not self._sampler.stop(LAST_READ_WAIT_S):
                self._notes.append("the driver did not answer the last read: the end of the run is not covered")
            self._take(self._sampler)
        self._ended_ns = time.monotonic_ns()

    def conclude(self, exit_code: int | None, signal_number: int | None) -> str:
        """Write all files and return the text to print; empty if there is nothing to say."""
        if self._source is None and not (self._options.json or self._options.out):
            return self._no_source_line()
        if self._source is None:
            self._prepare(None)
        from satscore.core.summary import encode  # noqa: PLC0415 - numpy: not needed without a source

        assert self._recorder is not None
        for _, session in self._ranks:
            session.close()
        self._recorder.close_stream()
        end = self._run_end(exit_code, signal_number)
        directory = self._recorder.directory
        summary = self._summarise(
            self._start, end, self._ranks, version=__version__, directory=str(directory) if directory else None
        )
        data = encode(summary)
        self._recorder.end(end, data)
        problem = self._recorder.write_json(self._options.json, data) if self._options.json else None
        text = self._render(summary)
        return text if problem is None else f"{text}\nsatscore: {problem}; the command is not affected"

    def _visible(self, gpus: list[GpuInfo]) -> list[int]:
        chosen, note = visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), gpus)
        if note:
            self._notes.append(note)
        return [gpus[i].index for i in chosen]

    def _prepare(self, source: Source | None) -> None:
        """Open the recording and the session; the source is sampled meanwhile.

        All that the end will need is imported here: by then the file system may be gone.
        """
        from satscore.record.run_file import RunStart, json_text  # noqa: PLC0415
        from satscore.run.recorder import Recorder  # noqa: PLC0415
        from satscore.run.results import summarise  # noqa: PLC0415

        self._render, self._summarise = self._load_view(), summarise

        stamp = self._started_at.astimezone().strftime("%Y%m%dT%H%M%S")
        wanted = self._directory(stamp)
        self._start: RunStart = RunStart(
            run_id=f"{socket.gethostname()}-{stamp}-{os.getpid()}",
            label=json_text(self._options.label) or None,
            command=[json_text(argument) for argument in self._command],
            hostname=socket.gethostname(),
            started_utc=self._started_at.isoformat(timespec="milliseconds"),
            profile=self._options.profile,
            dtype=self._options.dtype,
            period_s=self._options.period_s,
            python_version=platform.python_version(),
            kernel_version=platform.release(),
        )
        recording = self._options.record == "full" and source is not None
        self._recorder = Recorder(wanted, with_readings=recording, version=__version__)
        header = None if source is None else self._open_session(source)
        self._recorder.begin(self._start, header)

    def _directory(self, stamp: str) -> Path | None:
        from satscore.run.recorder import default_directory  # noqa: PLC0415

        if self._options.out:
            return Path(self._options.out)
        if self._options.record == "no" or self._source is None:
            return None
        return default_directory(stamp, self._options.label or None, self._command)

    def _open_session(self, source: Source) -> "StreamHeader":
        from satscore.record.run_file import FORMAT_VERSION, StreamHeader  # noqa: PLC0415
        from satscore.run.models import load_models  # noqa: PLC0415
        from satscore.run.session import Session  # noqa: PLC0415

        header = StreamHeader(
            format_version=FORMAT_VERSION,
            hostname=socket.gethostname(),
            rank=RANK,
            local_rank=None,
            source=source.name,
            scenario=self._options.source if source.kind == "simulated" else None,
            data_kind=source.kind,
            has_pipe_counters=source.has_pipe_counters,
            grid_offset_ns=time.time_ns() - source.clock.now_ns(),
            fields=[field.name for field in FIELDS],
            gpus=list(source.gpus),
        )
        session = Session(
            source.gpus,
            load_models(),
            profile=self._options.profile,
            dtype=self._options.dtype,
            grid_offset_ns=header.grid_offset_ns,
        )
        self._ranks.append((header, session))
        return header

    def _take(self, sampler: Sampler) -> None:
        from satscore.core.readings import table_of  # noqa: PLC0415

        table = table_of(sampler.drain())
        for _, session in self._ranks:
            session.add(table)
        if self._recorder is not None:
            self._recorder.append(table)

    def _no_source_line(self) -> str:
        why = self._notes[0] if self._notes else "no counter source"
        return f"satscore: no score: {why}"

    def _run_end(self, exit_code: int | None, signal_number: int | None) -> "RunEnd":
        from satscore.record.run_file import RunEnd, json_text  # noqa: PLC0415

        sampler, source, recorder = self._sampler, self._source, self._recorder
        notes = [*self._notes, *(source.notes() if source else []), *(recorder.notes if recorder else [])]
        if sampler is not None and sampler.failure:
            notes.append(f"sampling stopped: {sampler.failure}")
        return RunEnd(
            exit_code=exit_code,
            exit_signal=None if signal_number is None else signal_name(signal_number),
            duration_s=(self._ended_ns - self._started_ns) / NS_PER_S,
            late_reads_count=sampler.late_reads_count if sampler else 0,
            latest_read_s=sampler.latest_read_s if sampler else 0.0,
            notes=[json_text(note) for note in dict.fromkeys(notes)],
            cost=self._cost(),
        )

    def _cost(self) -> "Cost":
        from satscore.core.summary import Cost  # noqa: PLC0415

        sampler, recorder = self._sampler, self._recorder
        elapsed_s = max(1e-9, (time.monotonic_ns() - self._started_ns) / NS_PER_S)
        cpu_s = time.process_time()
        return Cost(
            cpu_s=cpu_s,
            cpu_pct_of_core=100.0 * cpu_s / elapsed_s,
            rss_max_bytes=peak_rss_bytes(),
            read_mean_s=sampler.read_time_s / sampler.reads_count if sampler and sampler.reads_count else None,
            recording_bytes=recorder.bytes_written if recorder else None,
        )


def signal_name(number: int) -> str:
    """Return SIGTERM for 15, SIGRTMIN+2 for 36."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def peak_rss_bytes() -> int:
    """Return the largest resident size of this process in bytes.

    From /proc: ru_maxrss is inherited over fork and would show the size of whoever started us.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
