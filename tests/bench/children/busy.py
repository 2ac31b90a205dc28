"""Saturate every core; print how many rounds of fixed work all cores together did in each bin of time.

``busy.py SECONDS``: one process per core. Prints JSON, ``{bin: rounds}``; bin n begins at n x BIN_S of
CLOCK_MONOTONIC.
"""

import collections
import json
import os
import sys
import time
from multiprocessing import Pool

BIN_S = 0.1
ROUND = range(2_000)


def rounds(until_s: float) -> dict[int, int]:
    """Work until an instant of CLOCK_MONOTONIC; return the rounds done in each bin."""
    done: collections.Counter[int] = collections.Counter()
    while (now_s := time.monotonic()) < until_s:
        sum(ROUND)
        done[int(now_s / BIN_S)] += 1
    return dict(done)


if __name__ == "__main__":
    cores = len(os.sched_getaffinity(0))
    with Pool(cores) as pool:
        until_s = time.monotonic() + float(sys.argv[1])
        total = sum(
            (collections.Counter(each) for each in pool.map(rounds, [until_s] * cores, chunksize=1)),
            start=collections.Counter(),
        )
    print(json.dumps(total))
