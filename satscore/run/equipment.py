"""What a run needs once it is known what is read: made while the source is sampled already.

All that the end will need is imported here: by then the file system may be gone.
"""

import datetime as dt
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import satscore
from satscore.core.hwmodel import HardwareModel
from satscore.core.placement import Placement
from satscore.core.summary import Summary
from satscore.counters.source import Source
from satscore.launch.request import RunOptions
from satscore.record.run_file import RunStart, own_file_name
from satscore.run.beside import Beside
from satscore.run.conclusion import Conclusion
from satscore.run.crew import Crew
from satscore.run.keeper import Keeper
from satscore.run.models import folder_to_add, load_library
from satscore.run.module_cap import known_hardware
from satscore.run.recorder import Recorder, enter_alone
from satscore.run.scored import ScoredRank
from satscore.run.session import Session
from satscore.run.start import kept, run_start, stream_header, wanted_directory
from satscore.run.telling import Telling


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """The parts of a run, and what is not known of its GPUs."""

    start: RunStart
    recorder: Recorder
    keeper: Keeper
    conclusion: Conclusion
    telling: Telling
    scored: ScoredRank | None
    """None: there is no source."""
    conditions: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What is read, what is looked at beside it, and which GPUs the command uses; None: nothing, or nobody looks."""

    source: Source | None
    beside: Beside | None
    placement: Placement | None


def equip(
    options: RunOptions,
    command: Sequence[str],
    started_at: dt.datetime,
    crew: Crew,
    sampled: Sampled,
    render: Callable[[Summary], str],
) -> Equipment:
    """Make the recording and the session of a run; the disk works in a thread of its own.

    Args:
        options: What the user asked for.
        command: The command line, redacted.
        started_at: When it started.
        crew: The other ranks.
        sampled: What is read.
        render: Makes the text to print.
    """
    identity, recorded = crew.identity, kept(options, crew.identity)
    start = run_start(options, command, started_at, identity)
    recorder = Recorder(
        wanted_directory(options, command, started_at, has_source=sampled.source is not None, identity=identity),
        with_readings=recorded == "full" and sampled.source is not None,
        version=satscore.__version__,
        enter=partial(enter_alone, claim=own_file_name(start)) if identity.key is None else crew.enter,
    )
    recorder.placement = sampled.placement
    scored, models, conditions = _scored(sampled, start, options.source, crew)
    keeper = Keeper(recorder, start, with_sums=recorded == "sums", covers=lambda: crew.covers)
    keeper.begin(scored.header if scored else None)
    telling = Telling(crew, recorder, start)
    return Equipment(
        start=start,
        recorder=recorder,
        keeper=keeper,
        conclusion=Conclusion(options, start, recorder, keeper, telling, models, render),
        telling=telling,
        scored=scored,
        conditions=conditions,
    )


def _scored(
    sampled: Sampled, start: RunStart, asked_for: str, crew: Crew
) -> tuple[ScoredRank | None, Sequence[HardwareModel], list[str]]:
    """Return what scores the readings, the hardware models that are needed, and what is not known of the GPUs."""
    source, beside = sampled.source, sampled.beside
    if source is None:
        return None, () if crew.is_alone else load_library(os.environ).models, []
    gpus, models, notes = known_hardware(source, os.environ, beside.vboost() if beside is not None else None)
    folder = folder_to_add(os.environ)
    header = stream_header(source, gpus, asked_for, crew.identity)
    scored = ScoredRank(header, lambda moved: Session.of(moved, start, models, folder), may_move=not crew.is_alone)
    return scored, models, notes
