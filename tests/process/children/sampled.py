"""Sleep the given seconds, counted from when the wrapper around us samples: a loaded machine is slow to.

``sampled.py SECONDS [FILE]``: with a file, sleep on until it exists.
"""

import os
import sys
import time
from pathlib import Path

THREADS = 3  # the main thread, the controller, the sampler


def wrapper_samples() -> bool:
    """Whether the wrapper has started its sampling thread; also true once it is gone."""
    try:
        wrapper = os.environ["SATSCORE_PARENT"].partition(":")[0]
        lines = Path(f"/proc/{wrapper}/status").read_text().splitlines()
    except OSError:
        return True
    return any(line.startswith("Threads:") and int(line.split()[1]) >= THREADS for line in lines)


while not wrapper_samples():
    time.sleep(0.005)
time.sleep(float(sys.argv[1]))
while len(sys.argv) > 2 and not Path(sys.argv[2]).exists():
    time.sleep(0.005)
