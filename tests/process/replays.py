"""Replaying recordings beside a command that ends once all is played: no test depends on how fast that is."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from satscore.errors import RecordError
from satscore.record.stream import Recording
from tests.process.harness import PROGRAM, TIMEOUT_S, environment, finish, running, wait_for

PATIENT = {"SATSCORE_EXIT_WAIT_S": "30"}


def rows_of(directory: Path) -> int:
    """Return how many readings the recording of a run directory holds so far."""
    try:
        return sum(len(table) for path in directory.glob("readings-*") for table in Recording(path).batches())
    except RecordError:
        return 0


def play(
    directory: Path,
    out: Path,
    *,
    speed: float = 100,
    rows: int | None = None,
    options: Sequence[str] = (),
    ending: str = "exit 0",
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Replay a recording into a new run directory; the command ends once so many readings are there (all).

    Args:
        directory: The recorded run, or its file.
        out: The run directory of the replay; must not exist.
        speed: Recorded seconds per real second.
        rows: Readings to wait for; None: all.
        options: More options of satscore.
        ending: How the command ends, for the shell.
        env: More variables.
    """
    wanted = rows_of(directory) if rows is None else rows
    release = out.with_name(f"{out.name}.release")
    os.mkfifo(release)
    source = f"replay:{directory},speed={speed:g}"
    command = ["sh", "-c", f'read -r word < "$0"; {ending}', str(release)]
    words = [*PROGRAM, "--source", source, "--out", str(out), *options, "--", *command]
    with running(words, env=environment(**PATIENT, **(env or {}))) as wrapper:
        wait_for(lambda: rows_of(out) >= wanted, f"{wanted} readings in {out}")
        release.write_text("go\n")
        stdout, stderr = wrapper.communicate(timeout=TIMEOUT_S)
    return subprocess.CompletedProcess(words, wrapper.returncode, stdout.decode(), stderr.decode())


def summary_in(directory: Path) -> Any:
    """Return the summary that a run left in its directory."""
    return json.loads((directory / "summary.json").read_text())


def report(directory: Path) -> Any:
    """Return the summary that ``satscore report`` makes."""
    done = finish([*PROGRAM, "report", str(directory), "--json", "-"])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
