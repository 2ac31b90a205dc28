"""One measured run: open a source, sample, score and record until the command ends, conclude."""

import datetime as dt
import os
import threading
import time
from collections.abc import Callable, Sequence

from satscore import __version__
from satscore.core.redact import redact
from satscore.core.units import NS_PER_S
from satscore.counters.clock import Clock, MonotonicClock
from satscore.counters.replay import ReplaySpec
from satscore.counters.select import no_pipes_reason, open_source
from satscore.counters.source import Source
from satscore.launch.marks import MarksFile
from satscore.launch.request import RunOptions
from satscore.run.ending import Ending
from satscore.run.intake import Intake
from satscore.run.lookout import GpuChoice, Lookout
from satscore.run.marks import GridTime, News
from satscore.run.marks_thread import MarksThread
from satscore.run.sampler import Sampler, read_period_s

TYPE_CHECKING = False
if TYPE_CHECKING:
    from satscore.core.placement import Placement
    from satscore.core.readings import ReadingTable
    from satscore.core.summary import Summary
    from satscore.record.run_file import RunEnd, StreamHeader
    from satscore.run.beside import Beside
    from satscore.run.keeper import Keeper
    from satscore.run.recorder import Recorder
    from satscore.run.session import Session

FIRST_BATCH_S = 1.0
BATCH_S = 5.0
"""A batch on disk every 5 s: what a killed satscore loses at most."""
LAST_READ_WAIT_S = 0.4


class Measurement:
    """The work of the controller thread. numpy and what needs it are imported once a source is sampled.

    Args:
        options: What the user asked for.
        command: The command line, verbatim.
        started_ns: CLOCK_MONOTONIC at the command's start.
        load_view: Imports and returns what makes the text to print from the summary.
        marks: What the command writes its marks to; None: there is no command.
        child_pid: Its first process; None: there is no command.
    """

    def __init__(
        self,
        options: RunOptions,
        command: Sequence[str],
        started_ns: int,
        load_view: "Callable[[], Callable[[Summary], str]]",
        marks: MarksFile | None = None,
        child_pid: int | None = None,
    ) -> None:
        self._options = options
        self._command = redact(command) if options.redact else list(command)
        self._started_ns = started_ns
        self._child_pid = child_pid
        started_s = (time.time_ns() - time.monotonic_ns() + started_ns) / NS_PER_S
        self._started_at = dt.datetime.fromtimestamp(started_s, tz=dt.UTC)
        self._load_view = load_view
        self._words = MarksThread(marks or MarksFile(None, -1, None), started_ns)
        self._notes: list[str] = []
        self._conditions: list[str] = []
        """Notes on what is not known of GPUs and host: less urgent than what went wrong."""
        self._choice = GpuChoice(os.environ)
        self._lookout: Lookout | None = None
        self._beside: Beside | None = None
        self._placement: Placement | None = None
        self._no_pipes_reason: str | None = None
        self._source: Source | None = None
        self._ranks: list[tuple[StreamHeader, Session]] = []
        self._recorder: Recorder | None = None
        self._keeper: Keeper | None = None
        self._intake: Intake | None = None
        self._last: ReadingTable | None = None

    def run(self, opened: threading.Event, ending: Ending) -> None:
        """Measure until the command has ended.

        Args:
            opened: Set here once it is known whether there is a source.
            ending: Set by the caller when the command has ended.
        """
        options = self._options
        source, notes = open_source(
            options.source,
            self._choice.choose,
            self._open_replay,
            dcgm=options.dcgm,
            period_s=options.period_s,
            stop=ending.event,
        )
        self._source = source
        opened.set()
        self._notes += [*notes, *([self._choice.note] if self._choice.note else [])]
        self._no_pipes_reason = no_pipes_reason(source, notes)
        if source is None:
            if self._options.json or self._options.out:
                # Nothing else is on the grid, so it begins with the command.
                self._listen(MonotonicClock(), -self._started_ns)
            ending.event.wait()
            return
        sampler = Sampler(source, read_period_s(self._options), ending.event)
        sampler.start()
        self._intake = Intake(source, sampler)
        if source.kind == "measured":
            self._placement = self._choice.placement
            self._look_beside(source, ending.event)
        self._prepare(source)
        self._listen(source.clock, self._ranks[0][0].grid_offset_ns)
        if self._command and source.kind == "measured":
            self._lookout = Lookout(source, self._choice, os.getpid(), ending.event)
            assert self._keeper is not None
            self._lookout.start(self._keeper.placement)
        try:
            self._follow(source, ending)
        except Exception as error:  # noqa: BLE001 - whatever breaks here, the end has its summary
            self._notes.append(f"scoring stopped before the end ({error!r}); please report it")
            ending.event.wait()
        self._words.stop()
        self._take_last(source, sampler, ending)

    def _follow(self, source: Source, ending: Ending) -> None:
        """Score and record what is read, batch by batch, until the command ends."""
        wait_s = FIRST_BATCH_S
        # On the source's axis: a simulation or replay at 100 times the speed fills a batch 100 times as fast.
        while not source.clock.wait_until(source.clock.now_ns() + round(wait_s * NS_PER_S), ending.event):
            self._record(self._take(ending), source)
            self._hear(self._words.take())
            self._keep_host()
            wait_s = BATCH_S

    def _take_last(self, source: Source, sampler: Sampler, ending: Ending) -> None:
        """Take what came until the command's end."""
        answered = sampler.stop(LAST_READ_WAIT_S)
        if not answered:
            self._notes.append("the driver did not answer the last read: the end of the run is not covered")
        # Time that a recording does not cover is none of this run's.
        is_lost = (not answered or sampler.failure is not None) and source.name != "replay"
        self._last = self._take(ending, fill=is_lost)
        self._hear(self._words.finish())
        self._keep_host()
        if self._beside is not None:
            self._beside.close()
        if self._lookout is not None:
            self._placement = self._lookout.placement

    @property
    def has_source(self) -> bool:
        """Whether a source has been opened."""
        return self._source is not None

    def conclude(self, ending: Ending, publish: "Callable[[str, Summary | None], None]") -> list[str]:
        """Make the text to print, then write all files.

        Args:
            ending: How the command ended.
            publish: Takes the text and the summary, before any file is written and once more if that changed them.

        Returns:
            What could not be written.
        """
        if self._source is None:
            publish(f"satscore: no score: {self._no_pipes_reason}", None)
            if not (self._options.json or self._options.out):
                return []
            self._words.stop()
            self._prepare(None)
            self._hear(self._words.finish())
        from satscore.core.summary import encode  # noqa: PLC0415 - numpy: not needed without a source

        assert self._recorder is not None
        assert self._keeper is not None
        for _, session in self._ranks:
            session.close()
        _, summary = self._summary(ending)
        publish(self._render(summary), summary)
        if self._last is not None and self._source is not None:
            self._record(self._last, self._source)
        self._keeper.finish(self._ranks, self._placement)
        self._recorder.close_stream()
        end, summary = self._summary(ending)
        publish(self._render(summary), summary)
        data = encode(summary)
        problems = [*(self._recorder.notes if self._options.quiet else []), *self._recorder.end(end, data)]
        problem = self._recorder.write_json(self._options.json, data) if self._options.json else None
        return [*problems, problem] if problem else problems

    def _summary(self, ending: Ending) -> "tuple[RunEnd, Summary]":
        from satscore.run.aside import Aside  # noqa: PLC0415

        assert self._recorder is not None
        end, directory = self._run_end(ending), self._recorder.directory
        self._recorder.placement = self._placement
        content = self._recorder.content(self._start, end)
        said = self._words.said()
        aside = Aside(said=said, hosts=self._beside.hosts()) if self._beside else Aside(said=said)
        return end, self._summarise(content, self._ranks, directory=str(directory) if directory else None, aside=aside)

    def _open_replay(self, spec: ReplaySpec) -> Source:
        from satscore.run.replay_source import open_replay, other_options  # noqa: PLC0415 - numpy: only replays wait

        source, recorded = open_replay(spec, self._started_ns)
        self._placement = recorded.placement if recorded else None
        self._notes += other_options(recorded.start, self._options) if recorded else []
        return source

    def _prepare(self, source: Source | None) -> None:
        """Open the recording and the session; the source is sampled meanwhile.

        All that the end will need is imported here: by then the file system may be gone.
        """
        from satscore.run.keeper import Keeper  # noqa: PLC0415
        from satscore.run.recorder import Recorder  # noqa: PLC0415
        from satscore.run.results import summarise  # noqa: PLC0415
        from satscore.run.run_end import run_end  # noqa: PLC0415
        from satscore.run.start import run_start, wanted_directory  # noqa: PLC0415

        self._render, self._summarise, self._end_of = self._load_view(), summarise, run_end
        options, has_source = self._options, source is not None
        self._start = run_start(options, self._command, self._started_at)
        wanted = wanted_directory(options, self._command, self._started_at, has_source=has_source)
        self._recorder = Recorder(wanted, with_readings=options.record in (None, "full") and has_source, version=__version__)
        header = None if source is None else self._open_session(source)
        self._recorder.placement = self._placement
        self._keeper = Keeper(self._recorder, self._start, with_sums=options.record == "sums")
        self._keeper.begin(header)

    def _record(self, table: "ReadingTable", source: Source) -> None:
        assert self._keeper is not None
        self._keeper.add(table, self._ranks, source.clock.now_ns())

    def _look_beside(self, source: Source, stop: threading.Event) -> None:
        from satscore.run.beside import Beside  # noqa: PLC0415 - not before the source is sampled

        self._beside = Beside(source, self._child_pid, os.getpid(), stop)

    def _keep_host(self) -> None:
        """Keep with the recording what the host did, if anything is recorded."""
        if self._beside is not None:
            assert self._keeper is not None
            about, readings = self._beside.take(self._ranks[0][0])
            if self._options.record != "no":
                self._keeper.host(about, readings)

    def _listen(self, clock: Clock, grid_offset_ns: int) -> None:
        self._words.start(lambda: GridTime.now(clock, grid_offset_ns))

    def _hear(self, news: Sequence[News]) -> None:
        """Keep with the recording what the command said."""
        assert self._keeper is not None
        for each in news:
            self._keeper.said(each)

    def _open_session(self, source: Source) -> "StreamHeader":
        from satscore.run.models import folder_to_add  # noqa: PLC0415
        from satscore.run.module_cap import known_hardware  # noqa: PLC0415
        from satscore.run.session import Session  # noqa: PLC0415
        from satscore.run.start import stream_header  # noqa: PLC0415

        vboost = self._beside.vboost() if self._beside is not None else None
        gpus, models, notes = known_hardware(source, os.environ, vboost)
        self._conditions += notes
        header = stream_header(source, gpus, self._options.source)
        self._ranks.append((header, Session.of(header, self._start, models, folder_to_add(os.environ))))
        return header

    def _take(self, ending: Ending, *, fill: bool = False) -> "ReadingTable":
        """Score the readings since the last call; arguments are those of ``Intake.take``."""
        assert self._intake is not None
        table = self._intake.take(ending, fill=fill)
        for _, session in self._ranks:
            session.add(table)
        return table

    def _run_end(self, ending: Ending) -> "RunEnd":
        return self._end_of(
            ending,
            self._started_ns,
            self._intake,
            notes=self._all_notes(),
            no_pipes_reason=self._no_pipes_reason,
            recording_bytes=self._recorder.bytes_written if self._recorder else None,
            scored_until_ns=max((s.last_ns for _, s in self._ranks if s.last_ns is not None), default=None),
        )

    def _all_notes(self) -> list[str]:
        self._notes += self._source.notes() if self._source else []
        notes = [*self._notes, *self._words.notes(), *(self._recorder.notes if self._recorder else [])]
        if self._source is None and self._words.said().marks:
            notes.append("without counters there are no windows for marks: they are in marks.jsonl only (--out)")
        notes += self._keeper.notes() if self._keeper else []
        if self._lookout is not None and self._lookout.failure:
            notes.append(f"which GPUs the command uses was not (wholly) looked at: {self._lookout.failure}")
        notes += self._intake.sampler.notes() if self._intake else []
        return [*notes, *self._conditions, *(self._beside.notes() if self._beside else [])]
