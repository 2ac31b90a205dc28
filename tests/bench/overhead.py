"""What satscore costs: every budget beside its measurement, as a ratio, in one run.

``python tests/bench/overhead.py [--seconds N] [--rounds N] [--pairs N] [--json FILE]``. Prints, never
asserts: a machine under load is no reason to fail. With and without satscore alternate, so that drift
of the machine hits both. The driver is the tests' fake library with four GPUs: the driver's own time is
not in these figures.
"""

import argparse
import json
import math
import os
import platform
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.fakes.build import FakeNvml  # noqa: E402 - the repository is not on the path before

SATSCORE = Path(sys.executable).with_name("satscore")
BUSY = Path(__file__).resolve().parent / "children" / "busy.py"
STAMP = "date +%s%N"
GPUS = 4
BIN_S = 0.1
"""As in children/busy.py."""
WARM_S, STATE_S, SETTLE_S = 3.0, 2.0, 0.3
T_95 = {5: 2.57, 7: 2.36, 9: 2.26, 11: 2.20, 14: 2.14, 19: 2.09, 29: 2.05}
"""Student's t, two-sided 95 %, by degrees of freedom; the largest key not above n - 1 is taken."""


class Bench:
    """One run of all measurements.

    Args:
        folder: For recordings and the fake library.
        seconds: Length of the steady part of sampled runs.
        rounds: Pairs for the delays.
        pairs: Pairs of a busy command with and without satscore.
    """

    def __init__(self, folder: Path, seconds: float, rounds: int, pairs: int) -> None:
        self.folder = folder
        self.seconds = seconds
        self.rounds = rounds
        self.pairs = pairs
        self.env = FakeNvml(folder).environment("gh200") | {"PYTHONDONTWRITEBYTECODE": ""}
        self.quiet = [str(SATSCORE), "--quiet", "--record", "no", "--"]

    def rows(self) -> list[dict]:
        """Return one row per budget of docs/overhead.md."""
        steady, steady_slow = self.steady_cpu(0.2), self.steady_cpu(1.0)
        cost = steady["summary"]["cost"]
        gpu_hours = GPUS * steady["summary"]["run"]["observed_s"] / 3600
        return [
            self.start_delay(),
            self.end_delay(),
            row("CPU at 0.2 s, 4 GPUs, steady", steady["pct"], "% of a core", 2.0),
            row("CPU at 1 s, 4 GPUs, steady", steady_slow["pct"], "% of a core", 0.6),
            row("CPU once per run (imports, summary)", cost["cpu_s"] - self.seconds * steady["pct"] / 100, "s"),
            row("largest resident size, 4 GPUs", cost["rss_max_bytes"] / 1e6, "MB", 60.0),
            self.growth(),
            row("recording at 0.2 s", cost["recording_bytes"] / 1e6 / gpu_hours, "MB per GPU-hour", 6.0),
            row("one read of 4 GPUs", 1e3 * cost["read_mean_s"], "ms"),
            *self.busy(steady["pct"]),
        ]

    def start_delay(self) -> dict:
        """Return the time from spawn to the command's own first action, over the bare command's."""

        def delay_ms(command: list[str]) -> float:
            began_ns = time.time_ns()
            done = subprocess.run([*command, *shlex.split(STAMP)], capture_output=True, check=True, env=self.env)
            return (int(done.stdout) - began_ns) / 1e6

        bare, ours = in_turn(lambda: delay_ms([]), lambda: delay_ms(self.quiet), self.rounds)
        return row("delay before the command starts", ours - bare, "ms", 30.0, note=f"bare {bare:.1f} ms")

    def end_delay(self) -> dict:
        """Return the time from the command's last action to the end of satscore, over the bare command's."""

        def delay_ms(words: list[str]) -> float:
            done = subprocess.run(
                [*words, "sh", "-c", f"sleep 2; {STAMP}"], capture_output=True, check=True, env=self.env
            )
            return (time.time_ns() - int(done.stdout)) / 1e6

        recorded = iter(range(self.rounds + 1))
        words = [str(SATSCORE), "--source", "gpm", "--json", str(self.folder / "s.json"), "--out"]
        bare, ours = in_turn(
            lambda: delay_ms([]),
            lambda: delay_ms([*words, str(self.folder / f"end-{next(recorded)}"), "--"]),
            max(3, self.rounds // 5),
        )
        return row("end of the command to end of satscore", ours - bare, "ms", 500.0, note="files and block written")

    def sampled(self, seconds: float, period_s: float) -> dict:
        """Return the summary of a run on four fake GPUs."""
        run = self.folder / f"run-{period_s}-{seconds}"
        options = ["--quiet", "--source", "gpm", "--period", str(period_s), "--out", str(run)]
        subprocess.run([SATSCORE, *options, "--", "sleep", str(seconds)], check=True, env=self.env, capture_output=True)
        return json.loads((run / "summary.json").read_text())

    def steady_cpu(self, period_s: float) -> dict:
        """Return the CPU share of a core in steady state: a long run, less a short one."""
        shorts = [self.sampled(2.0 + i / 100, period_s)["cost"]["cpu_s"] for i in range(3)]
        long = self.sampled(2.0 + self.seconds, period_s)
        return {"pct": 100 * (long["cost"]["cpu_s"] - statistics.median(shorts)) / self.seconds, "summary": long}

    def growth(self) -> dict:
        """Return how much memory grows per hour of sampling, from a simulated node whose clock runs 50 times faster."""
        source, speed = "sim:gh200x4,speed=50", 50
        sizes = []
        for seconds in (self.seconds / 2, 1.5 * self.seconds):
            target = self.folder / f"rss-{seconds}.json"
            words = ["--quiet", "--source", source, "--out", str(self.folder / f"rss-{seconds}"), "--json", str(target)]
            subprocess.run([SATSCORE, *words, "--", "sleep", str(seconds)], check=True, env=self.env)
            sizes.append(json.loads(target.read_text())["cost"]["rss_max_bytes"])
        hours = self.seconds * speed / 3600
        return row(
            "growth of resident size", (sizes[1] - sizes[0]) / 1e6 / hours, "MB per hour", note=f"over {hours:.1f} h"
        )

    def busy(self, steady_pct: float) -> list[dict]:
        """Return the slowdown of a command that saturates every core; the budget is our own CPU share.

        satscore is stopped and continued in turn while the command runs, so that the two states of a pair
        are seconds apart: between whole runs the machine itself changes by more than is looked for.
        """
        if self.pairs == 0:
            return []
        lasts_s = WARM_S + 2 * self.pairs * STATE_S + 1.0
        words = [str(SATSCORE), "--quiet", "--source", "gpm", "--record", "no", "--", sys.executable, str(BUSY)]
        command = subprocess.Popen([*words, str(lasts_s)], stdout=subprocess.PIPE, env=self.env)
        time.sleep(WARM_S)
        states = [self._state(command, stopped) for i in range(self.pairs) for stopped in (i % 2 == 0, i % 2 == 1)]
        done = {int(n): count for n, count in json.loads(command.communicate()[0]).items()}
        pairs = [dict(states[i : i + 2]) for i in range(0, len(states), 2)]
        losses = [100 * (1 - rate(done, *pair[False]) / rate(done, *pair[True])) for pair in pairs]
        mean, half = statistics.mean(losses), half_width(losses)
        share = steady_pct / len(os.sched_getaffinity(0))
        text = f"95 % CI {mean - half:+.2f} .. {mean + half:+.2f}, {self.pairs} pairs of {STATE_S:g} s"
        return [row("slowdown of a command that uses every core", mean, "%", share, note=text)]

    def _state(self, command: subprocess.Popen, stopped: bool) -> tuple[bool, tuple[float, float]]:
        """Hold satscore stopped, or let it run, for a while; return that state and from when to when."""
        command.send_signal(signal.SIGSTOP if stopped else signal.SIGCONT)
        time.sleep(SETTLE_S)
        begin_s = time.monotonic()
        time.sleep(STATE_S - SETTLE_S)
        end_s = time.monotonic()
        command.send_signal(signal.SIGCONT)
        return stopped, (begin_s, end_s)


def rate(done: dict[int, int], begin_s: float, end_s: float) -> float:
    """Return the rounds per bin in the whole bins between two instants."""
    bins = range(math.ceil(begin_s / BIN_S), math.floor(end_s / BIN_S))
    return sum(done.get(n, 0) for n in bins) / len(bins)


def in_turn(first: Callable[[], float], second: Callable[[], float], rounds: int) -> tuple[float, float]:
    """Return the medians of two measurements, taken A B A B."""
    pairs = [(first(), second()) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def half_width(values: list[float]) -> float:
    """Return half of the 95 % confidence interval of the mean."""
    t = T_95[max(k for k in T_95 if k <= max(5, len(values) - 1))]
    return t * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf


def row(what: str, value: float, unit: str, budget: float | None = None, note: str = "") -> dict:
    """Return one row; ``ratio`` is the share of the budget that is used."""
    ratio = None if budget is None else round(value / budget, 3)
    return {"what": what, "value": round(value, 3), "unit": unit, "budget": budget, "ratio": ratio, "note": note}


def text(each: dict) -> str:
    """Return a row as a line."""
    budget = f"budget {each['budget']:<6.3g} ratio {each['ratio']:<6.2f}" if each["budget"] is not None else ""
    return f"{each['what']:<44} {each['value']:>9.2f} {each['unit']:<16} {budget:<27} {each['note']}".rstrip()


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the steady part (default 30)")
    parser.add_argument("--rounds", type=int, default=25, help="pairs for the delays (default 25)")
    parser.add_argument("--pairs", type=int, default=30, help="pairs of a busy command; 0 leaves it out (default 30)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%F')}"
    print(machine, flush=True)
    with tempfile.TemporaryDirectory() as name:
        rows = Bench(Path(name), options.seconds, options.rounds, options.pairs).rows()
    print("\n".join(text(each) for each in rows))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
