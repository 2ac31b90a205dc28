"""The tool that tells the vBoost level: whatever it does, the run goes on and nothing of it stays."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from satscore.core.gpu import GpuInfo
from satscore.core.vboost import TOOL, Vboost
from satscore.counters.vboost import COMMAND, VboostReader
from tests.process.harness import PROGRAM, environment, finish, wait_for

HOPPER = [GpuInfo(index=0, nvml_index=0, compute_capability=(9, 0))]
TABLE = """
echo '| GPU Boost Slider |'
echo '| GPU     Slider       Max Value    Current Value |'
echo '|   0     vboost           4              1       |'
"""
PATIENCE_S = 60.0
NEVER = threading.Event()


class Tool:
    """A script in the tool's place, which writes its number to a file."""

    def __init__(self, folder: Path) -> None:
        self.pid_file = folder / "pid"
        self._script = folder / "nvidia-smi"

    def does(self, body: str) -> list[str]:
        """Return the command of a tool that does this."""
        told = f"echo $$ > {self.pid_file}.new\nmv {self.pid_file}.new {self.pid_file}"
        self._script.write_text(f"#!/bin/sh\n{told}\n{body}\n")
        self._script.chmod(0o755)
        return [str(self._script), *COMMAND[1:]]

    def pid(self) -> int:
        """Return its number once it runs."""
        wait_for(self.pid_file.exists, "the tool")
        return int(self.pid_file.read_text())

    def group(self) -> list[int]:
        """Return the processes of its group that live."""
        pid, members = self.pid(), []
        for entry in Path("/proc").iterdir():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdecimal() else []
            except OSError:
                continue
            if fields and int(fields[2]) == pid and fields[0] not in "ZX":
                members.append(int(entry.name))
        return members


@pytest.fixture
def tool(tmp_path: Path) -> Iterator[Tool]:
    one = Tool(tmp_path)
    yield one
    if one.pid_file.exists():
        wait_for(lambda: one.group() == [], "the end of all that the tool started")


def ask(command: list[str], deadline_s: float = PATIENCE_S, timeout_s: float = 2 * PATIENCE_S) -> Vboost:
    reader = VboostReader(command, deadline_s)
    reader.start(HOPPER)
    return reader.levels(timeout_s, NEVER)


def asking(command: list[str], deadline_s: float = PATIENCE_S) -> str:
    """Return the program that asks and prints the answer."""
    return f"""
import threading
from satscore.core.gpu import GpuInfo
from satscore.counters.vboost import VboostReader
reader = VboostReader({command!r}, {deadline_s})
reader.start([GpuInfo(index=0, compute_capability=(9, 0))])
told = reader.levels(60, threading.Event())
print(told.levels, told.note)
"""


def note_of(answer: Vboost) -> str:
    assert answer.levels == {}
    assert answer.note is not None
    head, _, why = answer.note.partition(f"{TOOL}: ")
    assert head == "the vBoost level is unknown: "
    return why


def test_the_levels_of_its_table(tool: Tool) -> None:
    assert ask(tool.does(TABLE)) == Vboost(levels={0: 1})


def test_it_has_nothing_of_ours(tool: Tool, tmp_path: Path) -> None:
    """No input, no descriptor, a session of its own, the plain language, and else our environment."""
    seen = tmp_path / "seen"
    look = "readlink /proc/$$/fd/0; ls /proc/$$/fd; echo $LC_ALL $OURS; ps -o sid= $$"
    command = tool.does(f"{{ {look}; }} > {seen} 2>&1\n{TABLE}")
    # A shell keeps descriptors of its own below.
    code = f"import fcntl, os; os.set_inheritable(fcntl.fcntl(0, fcntl.F_DUPFD, 97), True)\n{asking(command)}"
    done = finish([PROGRAM[0], "-c", code], data=b"ours", env=environment(OURS="kept"))
    assert done.stdout == b"{0: 1} None\n", done.stderr
    words = seen.read_text().split()
    assert words[0] == "/dev/null"
    assert "97" not in words
    assert words[-3:] == ["C", "kept", str(tool.pid())]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("echo 'Invalid Argument'; exit 2", "it ended with status 2 (Invalid Argument)"),
        ("exit 9", "it ended with status 9 (and said nothing)"),
        ("kill -KILL $$", "it died of signal 9 (and said nothing)"),
        (f"{TABLE}\nexit 1", "it ended with status 1 ("),
        ("echo hello", "unexpected output (hello)"),
        ("", "unexpected output (none)"),
        ("echo NVIDIA-SMI has failed because >&2; exit 9", "it ended with status 9 (NVIDIA-SMI has failed because)"),
        ("exec yes '| 0 vboost 4 1 |'", "it prints too much"),
        ("exec >&- 2>&-; exec sleep 600", "it does not end"),
    ],
)
def test_why_there_is_no_level(tool: Tool, body: str, why: str) -> None:
    assert note_of(ask(tool.does(body))).startswith(why)


def test_a_tool_that_is_not_there(tmp_path: Path) -> None:
    assert note_of(ask([str(tmp_path / "nvidia-smi")])).endswith("nvidia-smi is not on PATH here")
    (tmp_path / "nvidia-smi").write_text("no program")
    assert note_of(ask([str(tmp_path / "nvidia-smi")])).startswith("it cannot be started (Permission denied)")


@pytest.mark.parametrize(
    "body",
    [
        "exec sleep 600",
        "trap '' TERM INT HUP; sleep 600; sleep 600",
        f"sleep 600 & {TABLE}",  # what it left behind holds the output open
        f"{TABLE}\nsleep 600",
    ],
)
def test_too_late_is_the_end_of_all_that_it_started(tool: Tool, body: str) -> None:
    why = note_of(ask(tool.does(body), deadline_s=0.5))
    assert why == "no answer within 0.5 s; look at dmesg on the node"


def test_a_tool_that_is_too_late_for_the_run_is_given_up(tool: Tool) -> None:
    reader = VboostReader(tool.does("exec sleep 600"), PATIENCE_S)
    reader.start(HOPPER)
    tool.pid()
    assert note_of(reader.levels(0.1, NEVER)) == "it was not waited for 0.1 s"


def test_the_end_of_the_command_ends_the_wait(tool: Tool) -> None:
    reader, stop = VboostReader(tool.does("exec sleep 600"), PATIENCE_S), threading.Event()
    reader.start(HOPPER)
    tool.pid()
    threading.Timer(0.2, stop.set).start()
    assert note_of(reader.levels(PATIENCE_S, stop)) == "the command ended before it answered"


def test_an_answer_that_is_there_is_taken_although_the_command_has_ended(tool: Tool) -> None:
    reader, stop = VboostReader(tool.does(TABLE), PATIENCE_S), threading.Event()
    reader.start(HOPPER)
    wait_for(reader._answered.is_set, "its answer")
    stop.set()
    assert reader.levels(0.0, stop) == Vboost(levels={0: 1})


@pytest.mark.parametrize("gpus", [[], [GpuInfo(index=0, compute_capability=(8, 0))]])
def test_where_no_gpu_can_have_it_nobody_is_asked(tool: Tool, gpus: list[GpuInfo]) -> None:
    reader = VboostReader(tool.does(TABLE), PATIENCE_S)
    reader.start(gpus)
    assert reader.levels(0.0, NEVER) == Vboost()
    time.sleep(0.1)
    assert not tool.pid_file.exists()


def test_signals_that_the_wrapper_blocks_do_not_keep_it_alive(tool: Tool) -> None:
    """The wrapper's threads block the signals that it passes on, and a child inherits that."""
    block = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD, signal.SIGINT})"
    code = f"{block}\n{asking(tool.does('exec sleep 600'), deadline_s=0.5)}"
    done = finish([PROGRAM[0], "-c", code], env=environment())
    assert b"no answer within 0.5 s" in done.stdout, done.stderr


def test_no_process_is_left_as_a_zombie(tool: Tool) -> None:
    ask(tool.does(TABLE))
    with pytest.raises(ChildProcessError):
        os.waitpid(tool.pid(), os.WNOHANG)
    assert subprocess.run(["ps", "-p", str(tool.pid())], stdout=subprocess.DEVNULL, check=False).returncode == 1
