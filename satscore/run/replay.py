"""A recorded run through the same path as a live one: run directory in, summary out."""

from dataclasses import dataclass
from pathlib import Path

from satscore.core.summary import Summary
from satscore.errors import RecordError
from satscore.record.run_file import RunFile, StreamHeader, read_run_file
from satscore.record.stream import Recording, repair
from satscore.run.models import load_models
from satscore.run.results import summarise
from satscore.run.session import Session

CHUNK_NOTE = "the recording of rank {rank} was cut off: its last batch is lost, everything before it counts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """A summary made from a recording, and what the reader should hear about it."""

    summary: Summary
    warnings: tuple[str, ...]


def rebuild(directory: Path) -> Rebuilt:
    """Score a run again from its recording.

    A recording that was cut off (satscore killed, power cut) is scored as far as it goes and rewritten
    as its valid prefix, so that other Arrow readers open it too.

    Raises:
        RecordError: There is no run, no recording, or one that is not ours; names the file.
    """
    content = read_run_file(directory)
    paths = sorted(directory.glob("readings-*.arrows"))
    if not paths:
        raise RecordError(
            f"{directory}: no recording of readings (readings-*.arrows)",
            hint="the run was made with --record no or without a GPU; its summary.json has the result, if any",
        )
    ranks, warnings = [], list[str]()
    for path in paths:
        header, session, warning = _replay(path, content)
        ranks.append((header, session))
        warnings += [warning] if warning else []
    summary = summarise(content.start, content.end, ranks, version=content.satscore_version, directory=str(directory))
    return Rebuilt(summary=summary, warnings=tuple(warnings))


def _replay(path: Path, content: RunFile) -> tuple[StreamHeader, Session, str | None]:
    recording = Recording(path)
    session = Session(
        recording.header.gpus,
        load_models(),
        profile=content.start.profile,
        dtype=content.start.dtype,
        grid_offset_ns=recording.header.grid_offset_ns,
    )
    for table in recording.batches():
        session.add(table)
    session.close()
    return recording.header, session, _mend(recording) if recording.cut_off else None


def _mend(recording: Recording) -> str:
    text = CHUNK_NOTE.format(rank=recording.header.rank)
    try:
        repair(recording)
    except OSError as error:
        return f"{text} (not repaired: {error.strerror})"
    return f"{text} (repaired)"
