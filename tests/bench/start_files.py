"""What satscore asks of file systems: opens, stats, changes and bytes of one rank, counted with strace.

``python tests/bench/start_files.py [--bundle DIR] [--ranks N] [--seconds S] [--json FILE]``. Where thousands of
ranks start at once from a parallel file system, these requests are what they wait for. Counts those of satscore
before its command starts (which delay it) and of the whole run, by where the files are; the command's own are not
among them. With several ranks, the first and the last one are shown. Prints, never asserts.
"""

import argparse
import collections
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = Path(sys.prefix)
PORT = "29871"
OPENS = ("open", "openat", "openat2", "execve")
STATS = ("stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2", "readlink", "readlinkat")
CHANGES = ("mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "rmdir")
MOVES = ("read", "pread64", "write", "pwrite64", "mmap", "getdents64")
CALL = re.compile(r"^(\d+\.\d+) (\w+)\((.*)\)\s+= (-?\w+)(?:<(.*?)>)?(?: (E\w+))?")
PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')
FILE = re.compile(r"^\d+<([^>]*)>")
FOLDER = re.compile(r"^(?:AT_FDCWD|\d+)<([^>]*)>")
COLUMNS = ("opens", "not found", "stats", "stats not found", "lists", "changes", "read", "written", "mapped")
SIZES = ("read", "written", "mapped")


@dataclass(frozen=True, slots=True)
class Call:
    """One request: when, which, of which file, and how it went."""

    at_s: float
    name: str
    path: str
    detail: str
    result: int
    failed: bool


@dataclass(slots=True)
class Rank:
    """What one satscore did: its calls in the order of time, and when its command started."""

    calls: list[Call] = field(default_factory=list)
    command_s: float = float("inf")


def calls_of(trace: Path, folder: str) -> Iterator[Call]:
    """Yield the calls that a process made, as strace wrote them; paths are absolute."""
    for line in trace.read_text(errors="replace").splitlines():
        found = CALL.match(line)
        if found is None:
            continue
        at_s, name, rest, value, opened, error = found.groups()
        named, held, at = PATH.search(rest), FILE.match(rest), FOLDER.match(rest)
        if name in MOVES:
            of_file = re.search(r"\d+<([^>]*)>", rest) if name == "mmap" else held
            path = of_file[1] if of_file else ""
        else:
            path = opened or (str(Path(at[1] if at else folder, named[1])) if named and named[1] else "")
        number = int(value, 0) if re.fullmatch(r"-?\d+|0x[0-9a-f]+", value) else -1
        yield Call(float(at_s), name, os.path.normpath(path) if path else "", rest, number, error is not None)


def rank_of(traces: list[Path], command: str, folder: str) -> Rank:
    """Return what a satscore did, from the traces of all its threads and children."""
    out = Rank()
    for trace in traces:
        mine = list(calls_of(trace, folder))
        started = [
            i for i, call in enumerate(mine) if call.name == "execve" and not call.failed and call.path == command
        ]
        if started:
            out.command_s = min(out.command_s, mine[started[0]].at_s)
        out.calls += mine[: started[0]] if started else mine
    out.calls.sort(key=lambda call: call.at_s)
    return out


def kind_of(call: Call) -> str | None:
    """Return the column that a call counts in; None: in none."""
    if not call.path.startswith("/"):
        return None  # pipes, sockets; a stat of a file that is open
    if call.name in OPENS:
        if "O_CREAT" in call.detail:
            return "changes"
        return "lists" if "O_DIRECTORY" in call.detail else "not found" if call.failed else "opens"
    if call.name in STATS:
        return "stats not found" if call.failed else "stats"
    if call.name in CHANGES:
        return "changes"
    if call.failed:
        return None
    if call.name == "mmap":
        return None if "MAP_FIXED" in call.detail else "mapped"
    return {"read": "read", "pread64": "read", "write": "written", "pwrite64": "written"}.get(call.name)


def size_of(call: Call) -> int:
    """Return how much a call counts: itself, or its bytes."""
    if call.name == "mmap":
        return int(call.detail.split(", ")[1])
    return max(0, call.result) if kind_of(call) in SIZES else 1


class Places:
    """Says where a file is.

    Args:
        runs: Where the run directory is made.
        bundle: The bundle, if satscore runs from one.
    """

    def __init__(self, runs: Path, bundle: Path | None) -> None:
        known = [("run directory", runs), ("/proc, /sys, /dev", Path("/proc")), ("/proc, /sys, /dev", Path("/sys"))]
        known += [("/proc, /sys, /dev", Path("/dev"))]
        known += [("bundle", bundle)] if bundle else []
        known += [("environment", PACKAGES), ("satscore", ROOT), ("Python", Path(sys.base_prefix))]
        self._known = [(name, f"{folder.resolve()}/", f"{folder}/") for name, folder in known]

    def of(self, path: str) -> str:
        """Return the name of the place."""
        whole = f"{path}/"
        found = (name for name, real, given in self._known if whole.startswith((real, given)))
        return next(found, "system")


def counted(rank: Rank, places: Places, until_s: float) -> dict[str, dict[str, int]]:
    """Return place -> column -> count, of the calls until a time."""
    out: dict[str, dict[str, int]] = collections.defaultdict(lambda: dict.fromkeys(COLUMNS, 0))
    for call in rank.calls:
        kind = kind_of(call)
        if kind is not None and call.at_s <= until_s:
            out[places.of(call.path)][kind] += size_of(call)
    return dict(out)


def trace(launcher: list[str], command: list[str], ranks: int, folder: Path) -> list[Rank]:
    """Run a job of some ranks on this machine and return what each did."""
    processes, begun = [], str(time.time_ns())
    for rank in range(ranks):
        (folder / f"rank{rank}").mkdir()
        strace = ["strace", "-ff", "-qq", "-y", "-ttt", "-s", "4096", "-o", str(folder / f"rank{rank}" / "t")]
        strace += ["-e", "trace=%file," + ",".join(MOVES), "-e", "signal=none"]
        options = ["--source", "sim:gh200x4", "--out", str(folder / "runs" / "run"), "--"]
        place = {} if ranks == 1 else place_of(rank, ranks, begun)
        # As where users are: compiled files are kept.
        environ = os.environ | place | {"SATSCORE_QUIET": "1", "PYTHONDONTWRITEBYTECODE": ""}
        processes.append(subprocess.Popen([*strace, *launcher, *options, *command], env=environ, cwd=folder))
    statuses = [process.wait() for process in processes]
    if any(statuses):
        raise SystemExit(f"satscore ended with {statuses}")
    found = (sorted((folder / f"rank{rank}").iterdir()) for rank in range(ranks))
    return [rank_of(traces, command[0], str(folder)) for traces in found]


def place_of(rank: int, ranks: int, run_id: str) -> dict[str, str]:
    """Return the environment of a rank, as torchrun makes it."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": PORT,
        "TORCHELASTIC_RUN_ID": run_id,
        "TORCHELASTIC_RESTART_COUNT": "0",
    }


def table(title: str, counts: dict[str, dict[str, int]]) -> str:
    """Return counts as text."""
    heads = [f"{'kB ' if name in SIZES else ''}{name}" for name in COLUMNS]
    lines = [title, f"  {'':<18}" + "".join(f"{head:>{len(head) + 2}}" for head in heads)]
    total = {name: sum(row[name] for row in counts.values()) for name in COLUMNS}
    for place, row in [*sorted(counts.items()), ("all", total)]:
        cells = (row[name] // 1000 if name in SIZES else row[name] for name in COLUMNS)
        lines.append(f"  {place:<18}" + "".join(f"{c:>{len(h) + 2}}" for c, h in zip(cells, heads, strict=True)))
    return "\n".join(lines)


def changes(rank: Rank, places: Places) -> list[str]:
    """Return what a rank changed or looked for in the run directory, in order, with how often in a row."""
    out: list[list] = []
    for call in rank.calls:
        kind = kind_of(call)
        if places.of(call.path) != "run directory" or kind is None or kind in SIZES:
            continue
        what = f"{kind}: {call.name} {Path(call.path).name}"
        if out and out[-1][0] == what:
            out[-1][1] += 1
        else:
            out.append([what, 1])
    return [f"    {what}" + (f" x {count}" if count > 1 else "") for what, count in out]


def main() -> int:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="folder of a bundle: satscore from there, too")
    parser.add_argument("--ranks", type=int, default=1, help="ranks of a job on this machine (default 1: no job)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of the command (default 3)")
    parser.add_argument("--names", action="store_true", help="list what is done in the run directory")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if shutil.which("strace") is None:
        print("skipped: strace is not installed (apt install strace)")
        return 0
    command = [shutil.which("sleep") or "/bin/sleep", str(options.seconds)]
    starts = {"environment": ([str(PACKAGES / "bin" / "satscore")], None)}
    if options.bundle:
        bundle = options.bundle.resolve()
        starts["bundle"] = ([str(bundle / "bin" / "satscore")], bundle)
    print(f"{platform.machine()}, Python {platform.python_version()}, {options.ranks} ranks, {time.strftime('%F')}")
    out = {}
    for name, (launcher, bundle) in starts.items():
        with tempfile.TemporaryDirectory() as folder:
            for turn in ("first", "second"):  # the first one may compile what is not compiled yet
                work = Path(folder).resolve() / turn
                work.mkdir()
                ranks = trace(launcher, command, options.ranks, work)
            places = Places(work / "runs", bundle)
        for i in dict.fromkeys((0, len(ranks) - 1)):
            for what, until_s in (("before the command", ranks[i].command_s), ("whole run", float("inf"))):
                out[f"{name}, rank {i}, {what}"] = counts = counted(ranks[i], places, until_s)
                print(table(f"{name}, rank {i}, {what}", counts))
            print("\n".join(changes(ranks[i], places)) if options.names else "")
    if options.json:
        options.json.write_text(json.dumps(out, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
