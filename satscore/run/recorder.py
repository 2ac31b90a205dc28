"""What a run leaves on disk. A failure concerns its file, never the others or the run, and is said once."""

import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from satscore.core.host import HostReading
from satscore.core.placement import Placement
from satscore.core.readings import ReadingTable
from satscore.errors import RecordError
from satscore.record.files import DEFAULT_PARENT, make_run_directory, write_atomic, write_requested
from satscore.record.host_file import HostHeader, HostWriter, host_file_name
from satscore.record.marks_file import marks_file_name
from satscore.record.run_file import (
    FORMAT_VERSION,
    RUN_FILE,
    RunEnd,
    RunFile,
    RunStart,
    StreamHeader,
    end_run_file,
    own_file_name,
    write_run_file,
)
from satscore.record.stream import StreamWriter
from satscore.run.marks_writer import MarksWriter

SUMMARY_FILE = "summary.json"
_FREE_SPACE = "free space or name another directory with --out"


def default_directory(started_stamp: str, label: str | None, command: list[str]) -> Path:
    """Return ``satscore-runs/<time>-<label>``; without a label the command's name.

    Args:
        started_stamp: Local start time, sortable, fit for a file name.
        label: The user's name for the run.
        command: The command line; empty if there is none.
    """
    name = label or (Path(command[0]).name if command else "watch")
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "run"
    return Path(DEFAULT_PARENT) / f"{started_stamp}-{slug}"


def enter_alone(wanted: Path, claim: str = RUN_FILE) -> Path:
    """Make a directory that no other run uses.

    Args:
        wanted: Its path.
        claim: Name of the rank's own file, which is made in it.

    Raises:
        OSError: The file system refuses.
    """
    return make_run_directory(wanted, claim)


class Recorder:
    """Writes the run directory, or the part of one rank in that of a job.

    Args:
        wanted: Directory to make; None: nothing is written there.
        with_readings: Whether readings are recorded.
        version: satscore's version.
        enter: Makes the directory, or joins it, and returns where that is; raises OSError or RecordError.
    """

    def __init__(
        self,
        wanted: Path | None,
        *,
        with_readings: bool,
        version: str,
        enter: Callable[[Path], Path] = enter_alone,
    ) -> None:
        self.directory: Path | None = None
        self.placement: Placement | None = None
        """Which GPUs the command uses: part of the rank's own file whenever that is written."""
        self._wanted = wanted
        self._enter = enter
        self.clock_correction_ns = 0
        """From this host's clock to that of the job (RunFile)."""
        self._with_readings = with_readings
        self._version = version
        self._start: RunStart | None = None
        self._stream: StreamWriter | None = None
        self._marks: MarksWriter | None = None
        self._host: HostWriter | None = None
        self._sums_bytes: int | None = None
        self._problems: dict[str, str] = {}
        """What failed -> the note of it; readings that failed once are not written again."""

    @property
    def notes(self) -> list[str]:
        """What is not on the disk, and why."""
        return list(self._problems.values())

    @property
    def bytes_written(self) -> int | None:
        """Size of the recording so far in bytes; None where nothing is recorded."""
        sizes = [self._sums_bytes, *(file.bytes_written for file in (self._stream, self._host) if file)]
        known = [size for size in sizes if size is not None]
        return sum(known) if known else None

    def begin(self, start: RunStart, header: StreamHeader | None) -> None:
        """Make the directory, the rank's own file and, where there is a source, an empty recording."""
        if self._wanted is None:
            return
        self._start = start
        rank = start.job.rank if start.job else 0
        try:
            directory = self._enter(self._wanted)
            write_run_file(directory, self.content(start))
            self.directory = directory
            self._marks = MarksWriter(directory / marks_file_name(start.hostname, rank))
            if self._with_readings and header is not None:
                name = f"readings-{header.hostname}-{header.rank}.arrows"
                self._stream = StreamWriter(directory / name, header)
        except OSError as error:
            self._fail("directory", "nothing is recorded", error, "name a writable directory with --out")
        except RecordError as error:
            self._problems["directory"] = f"nothing is recorded: {error.message}; {error.hint}"

    def update(self, placement: Placement) -> None:
        """Keep which GPUs the command uses, so that a report knows it even if satscore is killed."""
        self.placement = placement
        if self.directory is None or self._start is None:
            return
        # The end of the run writes the file once more, and says so where that fails.
        with contextlib.suppress(OSError):
            write_run_file(self.directory, self.content(self._start))

    def append(self, table: ReadingTable) -> None:
        """Write readings; after the first failure this does nothing."""
        if self._stream is None or "readings" in self._problems:
            return
        try:
            self._stream.append(table)
        except OSError as error:
            self._fail("readings", "the recording ends early", error, _FREE_SPACE)

    def append_host(self, header: HostHeader, readings: Sequence[HostReading]) -> None:
        """Write readings of the host; the first ones make the file. After the first failure this does nothing.

        Args:
            header: What they are about.
            readings: In order of time.
        """
        if self.directory is None or "host" in self._problems:
            return
        try:
            if self._host is None:
                self._host = HostWriter(self.directory / host_file_name(header.hostname, header.rank), header)
            self._host.append(readings)
        except OSError as error:
            self._fail("host", "what the host did is not (all) recorded", error, _FREE_SPACE)

    def append_marks(self, lines: bytes) -> None:
        """Keep what the command said; what the disk refuses is tried again with the next call.

        Args:
            lines: Of ``marks.jsonl``; none: only those that were refused before.
        """
        if self._marks is None:
            return
        try:
            self._marks.append(lines)
        except OSError as error:
            key = "marks" if self._marks.is_whole else "lost marks"
            self._fail(key, "marks and progress are not (all) in marks.jsonl", error, _FREE_SPACE)
        else:
            self._problems.pop("marks", None)

    def rewrite_sums(self, name: str, data: bytes) -> None:
        """Write sums in place of the ones before, which stay where the disk refuses.

        Args:
            name: The file's.
            data: All of its content.
        """
        if self.directory is None:
            return
        self._problems.pop("sums", None)
        try:
            write_atomic(self.directory / name, data)
        except OSError as error:
            self._fail("sums", "the sums are not up to date", error, _FREE_SPACE)
            return
        self._sums_bytes = len(data)

    def close_stream(self) -> None:
        """Finish the recordings, so that their size is known."""
        for file in (self._stream, self._host):
            try:
                if file is not None:
                    file.close()
            except OSError as error:
                self._fail("end mark", "the recording has no end mark", error, "it can still be read")

    def end(self, end: RunEnd) -> list[str]:
        """Write how the run ended; return what could not be written."""
        if self.directory is None or self._start is None:
            return []
        content = self.content(self._start, end)
        try:
            end_run_file(self.directory, content)
        except OSError as error:
            return [f"cannot write {self.directory / own_file_name(content.start)}: {error.strerror}"]
        return []

    def summary(self, data: bytes) -> list[str]:
        """Write ``summary.json``; return what could not be written."""
        if self.directory is None:
            return []
        try:
            write_atomic(self.directory / SUMMARY_FILE, data)
        except OSError as error:
            return [f"cannot write {self.directory / SUMMARY_FILE}: {error.strerror}"]
        return []

    def content(self, start: RunStart, end: RunEnd | None = None) -> RunFile:
        """Return what ``run.json`` says."""
        return RunFile(
            format_version=FORMAT_VERSION,
            satscore_version=self._version,
            start=start,
            placement=self.placement,
            end=end,
            clock_correction_ns=self.clock_correction_ns,
        )

    def write_json(self, path: str, summary: bytes) -> str | None:
        """Write the summary where the user asked; return what went wrong, or None."""
        try:
            write_requested(Path(path), summary)
        except OSError as error:
            return f"cannot write {path}: {error.strerror}"
        return None

    def _fail(self, key: str, what: str, error: OSError, remedy: str) -> None:
        where = error.filename or self._wanted
        self._problems[key] = f"{what}: {where}: {error.strerror or error}; {remedy}"
