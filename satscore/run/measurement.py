"""One measured run: open a source, sample, score and record until the command ends, conclude."""

import datetime as dt
import os
import threading
import time
from collections.abc import Callable, Sequence

from satscore.core.redact import redact
from satscore.core.units import NS_PER_S
from satscore.counters.clock import Clock, MonotonicClock
from satscore.counters.source import Source
from satscore.launch.marks import MarksFile
from satscore.launch.request import Identity, RunOptions
from satscore.run.crew import Crew
from satscore.run.ending import Ending
from satscore.run.intake import Intake
from satscore.run.lookout import GpuChoice, Lookout
from satscore.run.marks import GridTime, News
from satscore.run.marks_thread import MarksThread
from satscore.run.opening import Opening
from satscore.run.sampler import Sampler, read_period_s

TYPE_CHECKING = False
if TYPE_CHECKING:
    from satscore.core.placement import Placement
    from satscore.core.readings import ReadingTable
    from satscore.core.summary import Summary
    from satscore.record.run_file import RunEnd
    from satscore.run.beside import Beside
    from satscore.run.conclusion import Measured
    from satscore.run.equipment import Equipment
    from satscore.run.scored import ScoredRank

FIRST_BATCH_S = 1.0
BATCH_S = 5.0
"""A batch on disk every 5 s: what a killed satscore loses at most."""
TELL_S = BATCH_S / 2
"""A rank of a job scores more often, because it tells how it is doing; each time costs 10 ms with four GPUs."""
LAST_READ_WAIT_S = 0.4


class Measurement:
    """The work of the controller thread. numpy and what needs it are imported once a source is sampled.

    Args:
        options: What the user asked for.
        command: The command line, verbatim.
        started_ns: CLOCK_MONOTONIC at the command's start.
        load_view: Imports and returns what makes the text to print from the summary.
        identity: Which rank of which job this is.
        marks: What the command writes its marks to; None: there is no command.
        child_pid: Its first process; None: there is no command.
    """

    def __init__(
        self,
        options: RunOptions,
        command: Sequence[str],
        started_ns: int,
        load_view: "Callable[[], Callable[[Summary], str]]",
        identity: Identity,
        marks: MarksFile | None = None,
        child_pid: int | None = None,
    ) -> None:
        self._options = options
        self._identity = identity
        self._command = redact(command) if options.redact else list(command)
        self._started_ns = started_ns
        self._child_pid = child_pid
        started_s = (time.time_ns() - time.monotonic_ns() + started_ns) / NS_PER_S
        self._started_at = dt.datetime.fromtimestamp(started_s, tz=dt.UTC)
        self._load_view = load_view
        self._words = MarksThread(marks or MarksFile(None, -1, None), started_ns)
        self._notes: list[str] = []
        self._choice = GpuChoice(os.environ, identity)
        self._crew = Crew(identity, options)
        self._opening = Opening(options, command, started_ns, self._started_at, self._choice, self._crew)
        self._lookout: Lookout | None = None
        self._beside: Beside | None = None
        self._placement: Placement | None = None
        self._source: Source | None = None
        self._equipment: Equipment | None = None
        self._intake: Intake | None = None
        self._unwritten: list[ReadingTable] = []

    def run(self, opened: threading.Event, ending: Ending) -> None:
        """Measure until the command has ended.

        Args:
            opened: Set here once it is known whether there is a source.
            ending: Set by the caller when the command has ended.
        """
        source = self._source = self._opening.open(ending.event)
        opened.set()
        if source is None:
            self._go_without(ending)
            return
        sampler = Sampler(source, read_period_s(self._options), ending.event)
        sampler.start()
        self._intake = Intake(source, sampler)
        self._placement = self._opening.placement
        if source.kind == "measured":
            self._look_beside(source, ending.event)
        self._prepare(source)
        self._listen(source.clock, self._rank.header.grid_offset_ns)
        if self._command and source.kind == "measured":
            self._lookout = Lookout(source, self._choice, os.getpid(), ending.event)
            self._lookout.start(self._kit.keeper.placement)
        try:
            self._follow(source, ending)
        except Exception as error:  # noqa: BLE001 - whatever breaks here, the end has its summary
            self._notes.append(f"scoring stopped before the end ({error!r}); please report it")
            ending.event.wait()
        self._words.stop()
        self._take_last(source, sampler, ending)

    def _go_without(self, ending: Ending) -> None:
        """Wait for the end of a command beside which nothing can be read."""
        if self._is_said:
            # Nothing else is on the grid, so it begins with the command.
            self._listen(MonotonicClock(), -self._started_ns)
        if not self._crew.is_alone:
            self._prepare(None)
        ending.event.wait()

    @property
    def _is_said(self) -> bool:
        """Whether a summary is made even without a source."""
        return bool(self._options.json or self._options.out or not self._crew.is_alone)

    def _follow(self, source: Source, ending: Ending) -> None:
        """Score, tell and record what is read, batch by batch, until the command ends."""
        wait_s, since_s = FIRST_BATCH_S, BATCH_S
        while not source.clock.wait_until(source.clock.now_ns() + round(wait_s * NS_PER_S), ending.event):
            # On the source's axis: a simulation or replay at 100 times the speed fills a batch 100 times as fast.
            since_s += wait_s
            self._unwritten.append(self._take(ending))
            if not self._crew.is_alone:
                self._kit.telling.tell(self._rank, self._known_placement)
            if since_s >= BATCH_S:
                self._write(source)
                self._hear(self._words.take())
                self._keep_host()
                since_s = 0.0
            wait_s = BATCH_S if self._crew.is_alone else TELL_S

    def _take_last(self, source: Source, sampler: Sampler, ending: Ending) -> None:
        """Take what came until the command's end."""
        answered = sampler.stop(LAST_READ_WAIT_S)
        if not answered:
            self._notes.append("the driver did not answer the last read: the end of the run is not covered")
        # Time that a recording does not cover is none of this run's.
        is_lost = (not answered or sampler.failure is not None) and source.name != "replay"
        self._unwritten.append(self._take(ending, fill=is_lost))
        self._hear(self._words.finish())
        self._keep_host()
        if self._beside is not None:
            self._beside.close()
        self._placement = self._known_placement

    @property
    def _known_placement(self) -> "Placement | None":
        """What is known of the command's GPUs now."""
        return self._lookout.placement if self._lookout is not None else self._placement

    @property
    def _kit(self) -> "Equipment":
        assert self._equipment is not None
        return self._equipment

    @property
    def _rank(self) -> "ScoredRank":
        assert self._kit.scored is not None
        return self._kit.scored

    @property
    def has_source(self) -> bool:
        """Whether a source has been opened."""
        return self._source is not None

    def conclude(
        self, ending: Ending, exit_wait_s: float, publish: "Callable[[str, Summary | None], None]"
    ) -> list[str]:
        """Make the text to print, then write all files.

        Args:
            ending: How the command ended.
            exit_wait_s: How long the end may take in all, s.
            publish: Takes the text and the summary, before any file is written and again whenever they change.

        Returns:
            What could not be written.
        """
        if self._source is None:
            publish(f"satscore: no score: {self._opening.no_pipes_reason}", None)
            if not self._is_said:
                return []
            self._words.stop()
            if self._equipment is None:
                self._prepare(None)
            self._hear(self._words.finish())
        return self._kit.conclusion.conclude(self._measured(ending), ending, exit_wait_s, publish)

    def _measured(self, ending: Ending) -> "Measured":
        """Return what there is at the end of the command."""
        from satscore.run.aside import Aside  # noqa: PLC0415
        from satscore.run.conclusion import Measured  # noqa: PLC0415

        said = self._words.said()
        return Measured(
            source=self._source,
            scored=self._kit.scored,
            placement=self._placement,
            unwritten=self._unwritten,
            aside=Aside(said=said, hosts=self._beside.hosts()) if self._beside else Aside(said=said),
            end=lambda: self._run_end(ending),
        )

    def _prepare(self, source: Source | None) -> None:
        """Make what the run needs; the source is sampled meanwhile."""
        from satscore.run.equipment import Sampled, equip  # noqa: PLC0415 - numpy
        from satscore.run.run_end import run_end  # noqa: PLC0415

        self._end_of = run_end
        sampled = Sampled(source=source, beside=self._beside, placement=self._placement)
        self._equipment = equip(self._options, self._command, self._started_at, self._crew, sampled, self._load_view())

    def _write(self, source: Source) -> None:
        """Keep the readings since the last call."""
        from satscore.core.readings import concatenate  # noqa: PLC0415 - numpy

        table = concatenate(self._unwritten)
        self._unwritten.clear()
        self._kit.keeper.add(table, self._rank.moved_pair, source.clock.now_ns())

    def _look_beside(self, source: Source, stop: threading.Event) -> None:
        from satscore.run.beside import Beside  # noqa: PLC0415 - not before the source is sampled

        self._beside = Beside(source, self._child_pid, os.getpid(), stop, reads_host=self._crew.reads_host)

    def _keep_host(self) -> None:
        """Keep with the recording what the host did, if anything is recorded."""
        if self._beside is not None:
            news = self._beside.take(self._rank.header)
            if news is not None and self._options.record != "no":
                self._kit.keeper.host(*news)

    def _listen(self, clock: Clock, grid_offset_ns: int) -> None:
        self._words.start(lambda: GridTime.now(clock, grid_offset_ns))

    def _hear(self, news: Sequence[News]) -> None:
        """Keep with the recording what the command said."""
        for each in news:
            self._kit.keeper.said(each)

    def _take(self, ending: Ending, *, fill: bool = False) -> "ReadingTable":
        """Score the readings since the last call; arguments are those of ``Intake.take``."""
        assert self._intake is not None
        table = self._intake.take(ending, fill=fill)
        self._rank.add(table)
        return table

    def _run_end(self, ending: Ending) -> "RunEnd":
        kit = self._kit
        return self._end_of(
            ending,
            self._started_ns,
            self._intake,
            notes=self._all_notes(),
            no_pipes_reason=self._opening.no_pipes_reason,
            recording_bytes=kit.recorder.bytes_written,
            scored_until_ns=kit.scored.session.last_ns if kit.scored else None,
        )

    def _all_notes(self) -> list[str]:
        kit = self._kit
        self._notes += self._source.notes() if self._source else []
        notes = [
            *self._opening.notes,
            *self._notes,
            *self._words.notes(),
            *kit.recorder.notes,
        ]
        if self._source is None and self._words.said().marks:
            notes.append("without counters there are no windows for marks: they are in marks.jsonl only (--out)")
        notes += kit.keeper.notes()
        if self._lookout is not None and self._lookout.failure:
            notes.append(f"which GPUs the command uses was not (wholly) looked at: {self._lookout.failure}")
        notes += self._intake.sampler.notes() if self._intake else []
        notes += [*(kit.scored.notes if kit.scored else []), *kit.telling.notes, *self._crew.notes()]
        return [*notes, *kit.conditions, *(self._beside.notes() if self._beside else [])]
