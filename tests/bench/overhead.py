"""What satscore costs: start and end delay, CPU, memory, recording; each beside its budget, in one run.

``python tests/bench/overhead.py [--seconds N] [--json FILE]``. Prints, never asserts: a machine under
load is no reason to fail. The driver is the fake library of the tests, so the driver's own time is not in it.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.fakes.build import FakeNvml  # noqa: E402 - the repository is not on the path before

SATSCORE = Path(sys.executable).with_name("satscore")
STAMP = ["date", "+%s%N"]


def start_delay_ms(command: list[str], env: dict[str, str]) -> float:
    """Return the time from our spawn to the command's own first action, in ms."""
    began_ns = time.time_ns()
    done = subprocess.run([*command, *STAMP], capture_output=True, check=True, env=env)
    return (int(done.stdout) - began_ns) / 1e6


def wall_ms(command: list[str], env: dict[str, str]) -> float:
    """Return the time that a command takes, in ms."""
    began_ns = time.monotonic_ns()
    subprocess.run(command, capture_output=True, check=True, env=env)
    return (time.monotonic_ns() - began_ns) / 1e6


def in_turn(first: list[str], second: list[str], measure, env: dict[str, str], rounds: int) -> tuple[float, float]:
    """Return the medians of two commands, measured A B A B, so that drift of the machine hits both."""
    pairs = [(measure(first, env), measure(second, env)) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def sampled(env: dict[str, str], folder: Path, seconds: float, period_s: float) -> dict:
    """Return the summary of a run on four fake GPUs."""
    run = folder / f"run-{period_s}-{seconds}"
    options = ["--quiet", "--source", "gpm", "--period", str(period_s), "--out", str(run)]
    subprocess.run([SATSCORE, *options, "--", "sleep", str(seconds)], check=True, env=env, capture_output=True)
    return json.loads((run / "summary.json").read_text())


def steady_cpu_pct(env: dict[str, str], folder: Path, seconds: float, period_s: float) -> tuple[float, dict]:
    """Return CPU share of a core in steady state: two runs of different length, less the fixed start."""
    short, long = (sampled(env, folder, s, period_s) for s in (2.0, 2.0 + seconds))
    spent_s = long["cost"]["cpu_s"] - short["cost"]["cpu_s"]
    return 100 * spent_s / seconds, long


def measure(seconds: float, rounds: int) -> list[dict]:
    """Return one row per budget: what, measured, unit, budget."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = FakeNvml(folder).environment("gh200") | {"PYTHONDONTWRITEBYTECODE": ""}
        wrapped = [str(SATSCORE), "--quiet", "--record", "no", "--"]
        bare_start, our_start = in_turn([], wrapped, start_delay_ms, env, rounds)
        bare_end, our_end = in_turn(["sleep", "1"], [*wrapped, "sleep", "1"], wall_ms, env, max(3, rounds // 5))
        fast_pct, fast = steady_cpu_pct(env, folder, seconds, 0.2)
        slow_pct, _ = steady_cpu_pct(env, folder, seconds, 1.0)
        gpu_hours = len(fast["ranks"][0]["gpus"]) * fast["run"]["observed_s"] / 3600
        return [
            row("delay before the command starts", our_start - bare_start, "ms", "<= 30"),
            row("start to end of a 1 s command, over bare", our_end - bare_end, "ms", "<= 500 after its end"),
            row("CPU at 0.2 s, 4 GPUs, steady", fast_pct, "% of a core", "<= 2"),
            row("CPU at 1 s, 4 GPUs, steady", slow_pct, "% of a core", "<= 0.6"),
            row("fixed CPU of a run", fast["cost"]["cpu_s"] - seconds * fast_pct / 100, "s", ""),
            row("largest resident size", fast["cost"]["rss_max_bytes"] / 1e6, "MB", "<= 60"),
            row("one read of 4 GPUs", 1e3 * fast["cost"]["read_mean_s"], "ms", ""),
            row("recording", fast["cost"]["recording_bytes"] / 1e6 / gpu_hours, "MB per GPU-hour", "<= 6"),
        ]


def row(what: str, value: float, unit: str, budget: str) -> dict:
    """Return one row."""
    return {"what": what, "value": round(value, 3), "unit": unit, "budget": budget}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the steady part (default 30)")
    parser.add_argument("--rounds", type=int, default=25, help="pairs for the delays (default 25)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = measure(options.seconds, options.rounds)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%F')}"
    print(machine)
    for each in rows:
        print(f"{each['what']:<42} {each['value']:>9.2f} {each['unit']:<16} budget {each['budget'] or '-'}")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
