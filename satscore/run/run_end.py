"""How a run ended, as ``run.json`` says it."""

import time
from collections.abc import Iterable

from satscore.core.units import NS_PER_S
from satscore.counters.both import BothSource
from satscore.record.run_file import RunEnd, json_text
from satscore.run.ending import Ending
from satscore.run.intake import Intake
from satscore.run.own_cost import own_cost


def run_end(
    ending: Ending,
    started_ns: int,
    intake: Intake | None,
    *,
    notes: Iterable[str],
    no_pipes_reason: str | None,
    recording_bytes: int | None,
    scored_until_ns: int | None,
) -> RunEnd:
    """Return how a run ended, and what it cost so far.

    Args:
        ending: The command's end.
        started_ns: CLOCK_MONOTONIC at its start.
        intake: What took the readings, or None without a source.
        notes: What the user should hear; said once each.
        no_pipes_reason: Why there are no pipe counters, or None.
        recording_bytes: Size of the recording, or None where nothing is recorded.
        scored_until_ns: End of what was scored, on the axis of the readings; None: nothing was.
    """
    source, sampler = (intake.source, intake.sampler) if intake else (None, None)
    ended_ns = ending.at_ns or time.monotonic_ns()
    return RunEnd(
        exit_code=ending.exit_code,
        exit_signal=ending.signal_name,
        duration_s=(ended_ns - started_ns) / NS_PER_S,
        late_reads_count=sampler.late_reads_count if sampler else 0,
        latest_read_s=sampler.latest_read_s if sampler else 0.0,
        notes=[json_text(note) for note in dict.fromkeys(notes)],
        cost=own_cost(started_ns, sampler, recording_bytes, source.helper_cost() if source else (0.0, 0)),
        comparison=source.comparison() if isinstance(source, BothSource) else [],
        no_pipes_reason=None if no_pipes_reason is None else json_text(no_pipes_reason),
        scored_until_ns=scored_until_ns,
    )
