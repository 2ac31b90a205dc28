"""What reading the host costs: CPU per second of the thread beside commands of 1, 100 and 500 processes.

``python tests/bench/host.py [--seconds N] [--counts N ...]``. Prints, never asserts. One process in ten
works a little all the time, the others sleep. Steady is without the first ten seconds, in which the
processes are found.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from satscore.core.host import HOST_INDEX  # noqa: E402 - the repository is not on the path before
from satscore.counters.clock import MonotonicClock  # noqa: E402
from satscore.counters.host.sampler import HostSampler  # noqa: E402

BUDGET_PCT = 0.2
WARM_S = 10.0
FAMILY = """
import subprocess, sys, time
busy = "while true; do i=0; while [ $i -lt 300 ]; do i=$((i+1)); done; sleep 0.2; done"
for i in range(int(sys.argv[1]) - 1):
    subprocess.Popen(["sh", "-c", busy] if i % 10 == 9 else ["sleep", "3600"])
print("started", flush=True)
time.sleep(3600)
"""


def measure(count: int, seconds: float) -> str:
    """Return the figures for a command of so many processes."""
    command = [sys.executable, "-I", "-S", "-c", FAMILY, str(count)]
    family = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    stop = threading.Event()
    try:
        assert family.stdout is not None
        family.stdout.readline()
        sampler, began_s = HostSampler(family.pid, MonotonicClock(), stop), time.monotonic()
        sampler.start()
        time.sleep(WARM_S)
        warm_s, warm_at_s = sampler.cpu_s, time.monotonic()
        time.sleep(seconds)
        cpu_s, now_s, readings = sampler.cpu_s, time.monotonic(), sampler.drain()
    finally:
        stop.set()
        os.killpg(family.pid, signal.SIGKILL)
        family.wait()
    steady = 100 * (cpu_s - warm_s) / (now_s - warm_at_s)
    known = readings[-1].values[HOST_INDEX["command_processes_count"]]
    cores = [reading.values[HOST_INDEX["command_cpu_cores"]] for reading in readings]
    return (
        f"{count:>5} processes  steady {steady:.3f} % of a core  (budget {BUDGET_PCT}, ratio {steady / BUDGET_PCT:.2f})"
        f"  with start {100 * cpu_s / (now_s - began_s):.3f} %  {len(readings)} readings, {known:.0f} processes known,"
        f" {sum(cores) / len(cores):.2f} cores busy"
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40.0, help="length of the steady part (default 40)")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 100, 500])
    options = parser.parse_args()
    for count in options.counts:
        print(measure(count, options.seconds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
