"""Which rank of which job each task of a step takes itself for, from the environment that Slurm really made."""

import shlex
import sys
from pathlib import Path

from satscore.launch.identity import identify
from satscore.launch.request import Identity

_KEEP = """\
import os, pathlib, sys, tempfile, time
into = pathlib.Path(sys.argv[1])
into.mkdir(parents=True, exist_ok=True)
number, path = tempfile.mkstemp(dir=into, suffix=".part")
os.write(number, b"\\0".join(b"=".join(pair) for pair in os.environb.items()))
os.rename(path, path.removesuffix(".part") + ".env")
time.sleep(float(sys.argv[2]))
"""


def keep(folder: Path, name: str, stay_s: float = 0) -> str:
    """The line of a shell that keeps its environment under a name, which may hold variables, and then stays."""
    return f'{shlex.join([sys.executable, "-I", "-S", "-c", _KEEP])} "{folder}/{name}" {stay_s}'


def kept(folder: Path, name: str) -> list[Identity]:
    """What the tasks that have kept their environment under this name are, in order of their ranks."""
    environments = [
        dict(pair.split("=", 1) for pair in path.read_bytes().decode(errors="replace").split("\0"))
        for path in (folder / name).glob("*.env")
    ]
    return sorted((identify(env, env.get("SLURMD_NODENAME", "")) for env in environments), key=lambda i: i.rank)
