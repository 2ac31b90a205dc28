"""The end of a run: its text and its files, and in a job the result of all ranks."""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from satscore.core.hwmodel import HardwareModel
from satscore.core.placement import Placement
from satscore.core.readings import ReadingTable, concatenate
from satscore.core.summary import Summary, encode
from satscore.counters.source import Source
from satscore.errors import RecordError
from satscore.fleet.ledger import Collected
from satscore.fleet.wire import Part
from satscore.launch.request import RunOptions
from satscore.record.marks_file import NOTHING_SAID, Said, read_marks
from satscore.record.run_file import RunEnd, RunStart
from satscore.run.aside import Aside
from satscore.run.ending import Ending
from satscore.run.job_result import summary_of_parts, write_job_sums
from satscore.run.keeper import Keeper
from satscore.run.recorder import Recorder
from satscore.run.results import summarise
from satscore.run.scored import ScoredRank
from satscore.run.start import kept
from satscore.run.telling import Telling

Publish = Callable[[str, Summary | None], None]
LATE = (
    "satscore: the {world} ranks of this job could not be summed up in time: satscore report {directory} does it "
    "(SATSCORE_EXIT_WAIT_S gives the next run more)"
)
NOT_SUMMED = "the ranks could not be summed up ({error}); please report it; satscore report joins their files"
RANK_NOTE = "this is rank {rank} of {world} alone: the block of the whole job is that of rank 0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What there is when the command has ended; without a source there is little."""

    source: Source | None
    scored: ScoredRank | None
    placement: Placement | None
    unwritten: Sequence[ReadingTable]
    aside: Aside
    end: Callable[[], RunEnd]
    """How the run ended, with what is known by now."""


class Conclusion:
    """Ends a run. Made while it goes on, so that all that it needs is imported by then.

    Args:
        options: What the user asked for.
        start: What ran.
        recorder: Writes the run directory.
        keeper: Gives the disk its work.
        telling: Tells the other ranks of this one.
        models: All known hardware models, for the result of all ranks.
        render: Makes the text to print.
    """

    def __init__(
        self,
        options: RunOptions,
        start: RunStart,
        recorder: Recorder,
        keeper: Keeper,
        telling: Telling,
        models: Sequence[HardwareModel],
        render: Callable[[Summary], str],
    ) -> None:
        self._options = options
        self._start = start
        self._recorder = recorder
        self._keeper = keeper
        self._crew = telling.crew
        self._telling = telling
        self._models = models
        self._render = render

    def conclude(self, run: Measured, ending: Ending, exit_wait_s: float, publish: Publish) -> list[str]:
        """Make the text to print, then write all files; return what could not be written.

        Args:
            run: What was measured.
            ending: How the command ended.
            exit_wait_s: How long the end may take in all, s.
            publish: Takes the text and the summary, again whenever they have changed.
        """
        if run.scored is not None:
            self._telling.line_up(run.scored)
            run.scored.session.close()
        self._recorder.placement = run.placement
        if self._crew.is_alone:
            return self._alone(run, publish)
        try:
            return self._with_others(run, ending, exit_wait_s, publish)
        finally:
            if not self._crew.leads:  # the others stay until this process has said all and ended
                self._crew.close()

    def _alone(self, run: Measured, publish: Publish) -> list[str]:
        self._publish(self._summary(run, run.end(), self._start), publish)
        self._flush(run)
        self._keeper.settle()
        self._recorder.close_stream()
        end = run.end()
        summary = self._summary(run, end, self._start)
        self._publish(summary, publish)
        problems = self._recorder.notes if self._options.quiet else []
        return [*problems, *self._recorder.end(end), *self._write(summary)]

    def _with_others(self, run: Measured, ending: Ending, exit_wait_s: float, publish: Publish) -> list[str]:
        crew = self._crew
        part = self._telling.last_part(run.end(), run.scored, run.placement, run.aside.hosts)
        ended_ns = ending.at_ns or time.monotonic_ns()
        until_s = crew.waits_until_s(ended_ns, exit_wait_s)
        # What is this rank's own is written before anybody is waited for: a launcher may end us any moment.
        self._flush(run)
        if crew.leads:
            return self._lead(run, part, until_s, ending.hurry, publish)
        if part is not None:
            crew.send(part)
        if self._options.quiet is False:
            self._publish(self._rank_summary(run), publish)
        problems = self._settle(run)
        crew.deliver(until_s, ending.hurry)
        return problems

    def _lead(
        self, run: Measured, part: Part | None, until_s: float, hurry: threading.Event, publish: Publish
    ) -> list[str]:
        """Sum up all ranks, whether the disk answers or not; arguments are those of ``Crew.gather``."""
        crew = self._crew
        publish(LATE.format(world=crew.identity.world, directory=self._recorder.directory or "RUN"), None)
        problems = self._settle(run) if self._keeper.settle(until_s) else None
        collected = crew.gather(part, until_s, hurry) if part is not None else None
        summary = self._job_summary(run, collected)
        self._publish(summary, publish)
        problems = self._settle(run) if problems is None else problems
        problems += self._write(summary)
        directory = self._recorder.directory
        if collected is not None and directory is not None and kept(self._options, crew.identity) == "sums":
            problems += write_job_sums(directory, collected)
        return problems

    def _flush(self, run: Measured) -> None:
        """Give the disk the rest of its work."""
        if run.unwritten and run.source is not None and run.scored is not None:
            table = concatenate(run.unwritten)
            self._keeper.add(table, run.scored.moved_pair, run.source.clock.now_ns())
        self._keeper.finish(run.scored.moved_pair if run.scored else None, run.placement)

    def _settle(self, run: Measured) -> list[str]:
        """Wait until all that is this rank's own is written; return what could not be."""
        self._keeper.settle()
        self._recorder.close_stream()
        return self._recorder.end(run.end())

    def _summary(self, run: Measured, end: RunEnd, start: RunStart) -> Summary:
        """Return the summary of what this rank knows."""
        content = self._recorder.content(start, end)
        ranks = [run.scored.pair] if run.scored else []
        directory = self._recorder.directory
        return summarise(content, ranks, directory=str(directory) if directory else None, aside=run.aside)

    def _rank_summary(self, run: Measured) -> Summary:
        """Return the summary of this rank as if there were no other."""
        note = RANK_NOTE.format(rank=self._crew.identity.rank, world=self._crew.identity.world)
        end = run.end()
        alone = msgspec.structs.replace(self._start, job=None)
        return self._summary(run, msgspec.structs.replace(end, notes=[note, *end.notes]), alone)

    def _job_summary(self, run: Measured, collected: Collected | None) -> Summary:
        """Return the result of all ranks, or that of this one where nothing else is to be had."""
        end, directory = run.end(), self._recorder.directory
        try:
            if collected is not None:
                content, shown = self._recorder.content(self._start, end), str(directory) if directory else None
                said = _said(run.aside.said, directory)
                return summary_of_parts(content, collected, directory=shown, said=said, models=self._models)
        except Exception as error:  # noqa: BLE001 - what this rank knows is better than nothing
            end = msgspec.structs.replace(end, notes=[NOT_SUMMED.format(error=repr(error)), *end.notes])
        return self._summary(run, end, self._start)

    def _publish(self, summary: Summary, publish: Publish) -> None:
        publish(self._render(summary), summary)

    def _write(self, summary: Summary) -> list[str]:
        data = encode(summary)
        problems = self._recorder.summary(data)
        # Where ranks know nothing of each other, one of them may write the file that the user named.
        wanted = self._options.json if self._crew.leads else None
        problem = self._recorder.write_json(wanted, data) if wanted else None
        return [*problems, problem] if problem else problems


def _said(own: Said, directory: Path | None) -> Said:
    """Return what rank 0's command said, or where it said nothing, what that of the lowest rank that did has."""
    if own == NOTHING_SAID and directory is not None:
        with contextlib.suppress(RecordError):
            return read_marks(directory)
    return own
