"""What ``satscore report`` costs for a day of readings: time, readings per second, memory, beside the budget.

``python tests/bench/day.py [--hours N] [--json FILE]``. One hour of a simulated node is made on a
clock that only jumps and repeated until the day is full, for making it takes longer than scoring it. Prints,
never asserts: a machine under load is no reason to fail. The report runs on one core, in a process of its own.
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

SATSCORE = Path(sys.executable).with_name("satscore")
NS = 1_000_000_000
PERIOD_S = 0.2
BATCH_S = 5
"""As in a run of up to 64 ranks."""
HOUR_S = 3600
SCENARIO, GPUS = "sim:gh200x4", 4


def make_run(directory: Path, hours: int) -> None:
    """Write a run directory with a recording of so many hours of a simulated node."""
    from satscore.core.readings import table_of
    from satscore.counters.clock import ManualClock
    from satscore.counters.simulated import open_simulated
    from satscore.record.run_file import FORMAT_VERSION, RunFile, write_run_file
    from satscore.record.stream import StreamWriter
    from tests.unit.runs import header
    from tests.unit.sim_runs import run_end, run_start

    directory.mkdir()
    clock, never = ManualClock(), multiprocessing.Event()
    source = open_simulated(SCENARIO, clock)
    source.read()
    batches, readings = [], []
    for tick in range(1, round(HOUR_S / PERIOD_S) + 1):
        clock.wait_until(round(tick * PERIOD_S * NS), never)
        readings += source.read()
        if tick % round(BATCH_S / PERIOD_S) == 0:
            batches.append(table_of(readings))
            readings = []
    made = header(source.gpus, source="sim", scenario=SCENARIO, data_kind="simulated")
    writer = StreamWriter(directory / f"readings-{made.hostname}-0.arrows", made)
    for hour in range(hours):
        for batch in batches:
            writer.append(_later(batch, hour * HOUR_S * NS))
    writer.close()
    end = run_end(float(hours * HOUR_S), source.notes())
    start = run_start(["python", "pretrain.py"])
    write_run_file(directory, RunFile(format_version=FORMAT_VERSION, satscore_version="bench", start=start, end=end))


def _later(table, delay_ns: int):
    """Return the same readings at a later time."""
    from dataclasses import replace

    return replace(table, start_ns=table.start_ns + delay_ns, end_ns=table.end_ns + delay_ns)


def score(directory: Path) -> dict:
    """Score the run on one core and return what that took."""
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    core = str(min(os.sched_getaffinity(0)))
    command = ["taskset", "-c", core, str(SATSCORE), "report", str(directory), "--json", str(directory / "out.json")]
    began_ns = time.monotonic_ns()
    child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"satscore report {directory}: exit status {child.returncode}")
    return {
        "wall_s": (time.monotonic_ns() - began_ns) / NS,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "rss_max_bytes": usage.ru_maxrss * 1024,
        "score_pct": json.loads((directory / "out.json").read_text())["headline"]["score_pct"],
    }


def measure(hours: int, rounds: int) -> dict:
    """Make the recording, score it several times and return the quickest (others share the machine)."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "day"
        began_ns = time.monotonic_ns()
        maker = multiprocessing.get_context("spawn").Process(target=make_run, args=(directory, hours))
        maker.start()
        maker.join()
        if maker.exitcode != 0:
            raise SystemExit(f"making the recording failed: exit status {maker.exitcode}")
        made_s = (time.monotonic_ns() - began_ns) / NS
        size = sum(path.stat().st_size for path in directory.glob("readings-*.arrows"))
        best = min((score(directory) for _ in range(rounds)), key=lambda r: r["cpu_s"])
    readings = round(hours * HOUR_S / PERIOD_S) * GPUS
    return {
        "hours": hours,
        "gpus": GPUS,
        "readings": readings,
        "recording_bytes": size,
        "made_s": made_s,
        **best,
        "readings_per_s": readings / best["cpu_s"],
        "ns_per_reading": best["cpu_s"] * NS / readings,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=int, default=24, help="length of the recording (default 24)")
    parser.add_argument("--rounds", type=int, default=3, help="reports, of which the quickest counts (default 3)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = measure(options.hours, options.rounds)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%F')}"
    print(machine)
    print(
        f"{options.hours} h of {GPUS} GPUs at {PERIOD_S} s: {result['readings']:,} readings, "
        f"{result['recording_bytes'] / 1e6:.0f} MB, made in {result['made_s']:.0f} s (one hour, repeated)"
    )
    for what, value, unit, budget in (
        ("report, on one core", result["wall_s"], "s", "<= 10 for a day of 4 GPUs"),
        ("its CPU", result["cpu_s"], "s", ""),
        ("readings per second of CPU", result["readings_per_s"] / 1e3, "thousand", ""),
        ("largest resident size", result["rss_max_bytes"] / 1e6, "MB", "the same for any length"),
    ):
        print(f"{what:<30} {value:>9.2f} {unit:<10} budget {budget or '-'}")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, **result}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
