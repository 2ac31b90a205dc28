"""Saturate every core; print how many rounds of fixed work all cores did per second, after a start-up time.

``busy.py SECONDS``: one process per core; the first WARM_S seconds are not counted.
"""

import os
import sys
import time
from multiprocessing import Pool

WARM_S = 1.5
ROUND = range(20_000)


def rounds_per_s(seconds: float) -> float:
    """Work for so long; return the rounds per second after the start-up time."""
    begin_s = time.monotonic() + WARM_S
    while time.monotonic() < begin_s:
        sum(ROUND)
    count, end_s = 0, begin_s + seconds
    while time.monotonic() < end_s:
        sum(ROUND)
        count += 1
    return count / (time.monotonic() - begin_s)


if __name__ == "__main__":
    cores = len(os.sched_getaffinity(0))
    with Pool(cores) as pool:
        print(sum(pool.map(rounds_per_s, [float(sys.argv[1])] * cores, chunksize=1)))
