"""What ``satscore report`` costs for a large job that was recorded as sums: time, memory, and where they go.

``python tests/bench/job.py [--nodes N] [--ranks N] [--hours H] [--distinct N] [--json FILE]``. Some distinct node
files are made by the real scorer: an hour of a simulated node, repeated, with noise of its own for every node and
every reading. They stand for all nodes by hard links; the report, the real one, is told another host name and other
ranks per link. Prints, never asserts: a machine under load is no reason to fail. Also prints how the resident size
of the process that scores grows over the simulated time, which is what a live run keeps.
"""

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
# numpy and satscore are imported where they are used: the largest resident size of a process counts from
# that of the process which started it, so this one stays small.

NS = 1_000_000_000
PERIOD_S, HOUR_S, CHUNK_S = 0.2, 3600, 60
SCENARIO = "sim:gh200x4"
BEGIN_S = 1_790_000_000
"""Wall time of the first second, so that rows are as in a real run."""
BUDGET = {"wall_s": 60.0, "rss_max_bytes": 2e9, "rank_bytes": 64e3}


def rss_bytes() -> int:
    """Return the resident size of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def hour_of_readings():
    """Return an hour of a simulated node, minute by minute."""
    from satscore.core.readings import table_of
    from satscore.counters.clock import ManualClock
    from satscore.counters.simulated import open_simulated

    clock, never = ManualClock(), multiprocessing.Event()
    source = open_simulated(SCENARIO, clock)
    source.read()
    minutes, readings = [], []
    for tick in range(1, round(HOUR_S / PERIOD_S) + 1):
        clock.wait_until(round(tick * PERIOD_S * NS), never)
        readings += source.read()
        if tick % round(CHUNK_S / PERIOD_S) == 0:
            minutes.append(table_of(readings))
            readings = []
    return minutes, source.gpus


def noisy(table, hour: int, rng):
    """Return the readings at a later hour, with activities of their own (within 2 %)."""
    from dataclasses import replace

    import numpy as np

    from satscore.core.fields import FIELDS

    shares = [i for i, field in enumerate(FIELDS) if field.name.endswith("active_frac")]
    values = table.values.copy()
    values[:, shares] *= 1.0 - 0.02 * rng.random((len(table), 1), dtype=np.float64)
    delay_ns = hour * HOUR_S * NS
    return replace(table, values=values, start_ns=table.start_ns + delay_ns, end_ns=table.end_ns + delay_ns)


def make_node(path: Path, minutes, gpus, hours: int, ranks: int, seed: int) -> dict:
    """Score a node and write its file: a rank per GPU. Return how the scorer's resident size grew."""
    import msgspec
    import numpy as np

    from satscore.core.rank_state import RankState
    from satscore.record.sums_file import RankRecord, encode_sums
    from satscore.run.models import load_library
    from satscore.run.session import Session
    from tests.unit.runs import header

    rng = np.random.default_rng(seed)
    made = header(gpus, source="sim", scenario=SCENARIO, data_kind="simulated")
    session = Session(gpus, load_library({}).models, profile="train", dtype=None, grid_offset_ns=BEGIN_S * NS)
    began_bytes, began_s = None, time.process_time()
    for hour in range(hours):
        for minute in minutes:
            session.add(noisy(minute, hour, rng))
            began_bytes = began_bytes or rss_bytes()
    grown, scored_s = rss_bytes() - (began_bytes or 0), time.process_time() - began_s
    session.close()
    state, keys = session.state(), session.bounds_keys
    # The scenario has one slow GPU per node; a job has one, in its first node.
    chosen = list(range(ranks)) if seed == 0 else [1 + i % (len(gpus) - 1) for i in range(ranks)]
    records = [
        RankRecord(
            header=msgspec.structs.replace(
                made, rank=i, local_rank=i, gpus=[msgspec.structs.replace(gpus[at], index=0)], hostname="node"
            ),
            state=RankState(
                gpus=(state.gpus[at],),
                first_ns=state.first_ns,
                last_ns=state.last_ns,
                intervals_count=state.intervals_count // len(gpus),
                intervals_ns=state.intervals_ns // len(gpus),
            ),
            bounds_keys=keys[at : at + 1],
            certain=[0],
        )
        for i, at in enumerate(chosen)
    ]
    before_s, before_bytes = time.process_time(), rss_bytes()
    data = encode_sums("train", None, records)
    path.write_bytes(data)
    return {
        "state_growth_bytes": grown,
        "score_s": scored_s,
        "rewrite_s": time.process_time() - before_s,
        "rewrite_growth_bytes": rss_bytes() - before_bytes,
        "node_bytes": len(data),
    }


def make_job(directory: Path, options: argparse.Namespace) -> None:
    """Write the run directory: distinct files first, then links to them."""
    from satscore.record.run_file import FORMAT_VERSION, RunFile, write_run_file
    from tests.unit.sim_runs import run_end, run_start

    directory.mkdir()
    minutes, gpus = hour_of_readings()
    made = []
    for node in range(min(options.distinct, options.nodes)):
        path = directory / f"sums-node{node:05d}.msgpack"
        made.append(make_node(path, minutes, gpus, options.hours, options.ranks, node))
    others = list(range(1, len(made))) or [0]
    for node in range(len(made), options.nodes):
        source = directory / f"sums-node{others[node % len(others)]:05d}.msgpack"
        (directory / f"sums-node{node:05d}.msgpack").hardlink_to(source)
    start, end = run_start(["python", "pretrain.py"]), run_end(float(options.hours * HOUR_S), [])
    write_run_file(directory, RunFile(format_version=FORMAT_VERSION, satscore_version="bench", start=start, end=end))
    made[0]["rank_bytes"] = rank_bytes(directory / "sums-node00000.msgpack")
    (directory / "made.json").write_text(json.dumps(made[0]))


def rank_bytes(path: Path) -> int:
    """Return the largest section of a rank in a file."""
    from satscore.record.sums_file import SumsFile

    with SumsFile(path) as file:
        return max(rank.section.size for rank in file.head.ranks)


# --- the report, in a process of its own


def report(directory: Path, ranks: int) -> None:
    """Run the real report with identities by link, and print how long its parts took."""
    import msgspec

    from satscore.cli.main import main
    from satscore.core import assemble, job_series
    from satscore.record import sums_file

    read_head = sums_file.SumsFile._read_head

    def renamed(self):
        head, begin = read_head(self)
        node = int(self.path.stem.removeprefix("sums-node"))
        heads = [
            msgspec.structs.replace(one, hostname=f"node{node:05d}", rank=node * ranks + i)
            for i, one in enumerate(head.ranks)
        ]
        return msgspec.structs.replace(head, ranks=heads), begin

    sums_file.SumsFile._read_head = renamed
    spent = dict.fromkeys(("heads", "read and decode series", "add series", "read and decode ranks", "phases"), 0.0)
    spent |= dict.fromkeys(("rank rows and tree", "summary"), 0.0)
    for owner, name, what in (
        (sums_file.SumsFile, "__init__", "heads"),
        (sums_file.SumsFile, "series", "read and decode series"),
        (job_series.SeriesSum, "add", "add series"),
        (sums_file.SumsFile, "gpus", "read and decode ranks"),
        (assemble, "label_job", "phases"),
        (assemble._Job, "add", "rank rows and tree"),
        (assemble._Job, "summary", "summary"),
    ):
        setattr(owner, name, _timed(getattr(owner, name), spent, what))
    began_s = time.monotonic()
    status = main(["report", str(directory), "--json", str(directory / "out.json")])
    spent["all else"] = time.monotonic() - began_s - sum(spent.values())
    (directory / "split.json").write_text(json.dumps(spent))
    raise SystemExit(status)


def _timed(function, spent: dict[str, float], what: str):
    def timed(*arguments, **named):
        began_s = time.monotonic()
        try:
            return function(*arguments, **named)
        finally:
            spent[what] += time.monotonic() - began_s

    return timed


def measure(directory: Path, ranks: int) -> dict:
    """Report on the run and return what that took."""
    command = [sys.executable, __file__, "--report", str(directory), "--ranks", str(ranks)]
    began_ns = time.monotonic_ns()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"satscore report {directory}: exit status {child.returncode}")
    found = json.loads((directory / "out.json").read_text())
    return {
        "wall_s": (time.monotonic_ns() - began_ns) / NS,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "rss_max_bytes": usage.ru_maxrss * 1024,
        "json_bytes": (directory / "out.json").stat().st_size,
        "ranks_in_json": len(found["ranks"]),
        "ranks_count": found["job"]["ranks_count"],
        "score_pct": found["headline"]["score_pct"],
        "split_s": json.loads((directory / "split.json").read_text()),
    }


def run(options: argparse.Namespace) -> dict:
    """Make the job, report on it several times and return the quickest (others share the machine)."""
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        directory, context = Path(name) / "job", multiprocessing.get_context("spawn")
        began_s = time.monotonic()
        maker = context.Process(target=make_job, args=(directory, options))
        maker.start()
        maker.join()
        if maker.exitcode != 0:
            raise SystemExit(f"making the files failed: exit status {maker.exitcode}")
        made = json.loads((directory / "made.json").read_text())
        made["made_s"] = time.monotonic() - began_s
        best = min((measure(directory, options.ranks) for _ in range(options.rounds)), key=lambda r: r["wall_s"])
    return {"nodes": options.nodes, "ranks": options.nodes * options.ranks, "hours": options.hours, **made, **best}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=2688)
    parser.add_argument("--ranks", type=int, default=4, choices=(1, 2, 3, 4), help="ranks per node, a GPU each")
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument(
        "--distinct", type=int, default=3, help="node files that are made (2 or more); all others are links"
    )
    parser.add_argument("--rounds", type=int, default=1, help="reports, of which the quickest counts")
    parser.add_argument("--dir", help="where to write (some 10 MB per distinct file)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.report:
        report(options.report, options.ranks)
    result = run(options)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%F')}"
    print(machine)
    print(
        f"{options.hours} h of {result['nodes']:,} nodes x {options.ranks} ranks, {options.distinct} distinct files: "
        f"{result['node_bytes'] / 1e6:.2f} MB a node, made in {result['made_s']:.0f} s"
    )
    for what, value, unit, budget in (
        ("report, wall", result["wall_s"], "s", BUDGET["wall_s"]),
        ("its CPU", result["cpu_s"], "s", None),
        ("largest resident size", result["rss_max_bytes"] / 1e6, "MB", BUDGET["rss_max_bytes"] / 1e6),
        ("a rank in its file", result["rank_bytes"] / 1e3, "kB", BUDGET["rank_bytes"] / 1e3),
        ("summary.json", result["json_bytes"] / 1e3, "kB", None),
        ("live: growth while scoring", result["state_growth_bytes"] / 1e6, "MB", None),
        ("live: CPU of one rewriting", result["rewrite_s"], "s", None),
        ("live: growth by one rewriting", result["rewrite_growth_bytes"] / 1e6, "MB", None),
    ):
        ratio = f"{value / budget:6.2f} of {budget:g} {unit}" if budget else ""
        print(f"{what:<32} {value:>9.2f} {unit:<4} {ratio}")
    for what, spent_s in result["split_s"].items():
        print(f"  {what:<30} {spent_s:>9.2f} s")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, **result}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
