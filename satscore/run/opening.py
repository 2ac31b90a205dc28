"""The beginning of a run: which source is read, on which GPUs, and what could not be had."""

import datetime as dt
import threading
from collections.abc import Sequence

from satscore.counters.replay import ReplaySpec
from satscore.counters.select import no_pipes_reason, open_source
from satscore.counters.source import Source
from satscore.launch.request import RunOptions
from satscore.launch.wrapped import advice, wraps_launcher
from satscore.run.crew import Crew
from satscore.run.lookout import GpuChoice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from satscore.core.placement import Placement
    from satscore.counters.simulated import SimulatedRank


class Opening:
    """Opens the source of a run.

    Args:
        options: What the user asked for.
        command: The command line.
        started_ns: CLOCK_MONOTONIC at its start.
        started_at: The same in wall time.
        choice: Chooses the GPUs.
        crew: The other ranks.

    Attributes:
        placement: Which GPUs the command uses, as far as is known before anybody has looked; None: not measured.
        notes: What could not be had, and why.
        no_pipes_reason: Why there are no pipe counters, or None.
    """

    def __init__(
        self,
        options: RunOptions,
        command: Sequence[str],
        started_ns: int,
        started_at: dt.datetime,
        choice: GpuChoice,
        crew: Crew,
    ) -> None:
        self.placement: Placement | None = None
        self.notes: list[str] = []
        self.no_pipes_reason: str | None = None
        self._options = options
        self._command = command
        self._started_ns = started_ns
        self._started_at = started_at
        self._choice = choice
        self._crew = crew

    def open(self, stop: threading.Event) -> Source | None:
        """Return the source; None where there is none.

        Args:
            stop: Set when the command has ended.
        """
        options = self._options
        source, notes = open_source(
            options.source,
            self._choice.choose,
            self._open_replay,
            dcgm=options.dcgm,
            period_s=options.period_s,
            stop=stop,
            job=self._simulated_rank(),
        )
        self.notes += [*notes, *([self._choice.note] if self._choice.note else [])]
        self.no_pipes_reason = no_pipes_reason(source, notes)
        if source is not None and source.kind == "measured":
            self.placement = self._choice.placement
        self._advise(source)
        return source

    def _advise(self, source: Source | None) -> None:
        """Explain what a launcher of other nodes' ranks means for what is read here."""
        if wraps_launcher(self._command) is None:
            return
        if source is None:
            self.no_pipes_reason = f"{advice(self._command)} ({self.no_pipes_reason})"
        else:
            self.notes.insert(0, advice(self._command))

    def _open_replay(self, spec: ReplaySpec) -> Source:
        from satscore.run.replay_source import open_replay, other_options  # noqa: PLC0415 - numpy: only replays wait

        source, recorded = open_replay(spec, self._started_ns)
        self.placement = recorded.placement if recorded else None
        self.notes += other_options(recorded.start, self._options) if recorded else []
        return source

    def _simulated_rank(self) -> "SimulatedRank | None":
        """Return which rank of a simulated job this is: where the ranks meet, they agree on its begin."""
        identity = self._crew.identity
        if identity.world <= 1 or self._options.source.partition(":")[0] != "sim":
            return None
        from satscore.counters.simulated import SimulatedRank  # noqa: PLC0415
        from satscore.run.start import wanted_directory  # noqa: PLC0415 - numpy

        wanted = wanted_directory(self._options, self._command, self._started_at, has_source=True, identity=identity)
        if wanted is not None and not self._crew.is_alone:
            self._crew.try_to_enter(wanted)
        return SimulatedRank(rank=identity.rank, world=identity.world, begun_ns=self._crew.begun_ns())
