"""The path to the spawned command stays short: what it imports, seen from inside a fresh interpreter."""

from tests.process.harness import PROGRAM, environment, finish

# The interpreter itself brings these; each of the others costs one to twenty milliseconds.
ALLOWED_OF_OURS = {
    "satscore",
    "satscore.cli",
    "satscore.cli.main",
    "satscore.cli.options",
    "satscore.cli.values",
    "satscore.cli.run",
    "satscore.errors",
    "satscore.launch",
    "satscore.launch.ancestry",
    "satscore.launch.child",
    "satscore.launch.ending",
    "satscore.launch.marks",
    "satscore.launch.packages",
    "satscore.launch.signals",
    "satscore.launch.stderr",
}
SCRIPT = """
import os, sys
before = set(sys.modules)
from satscore.cli import main
def spawn(*args, **kwargs):
    print(*sorted(set(sys.modules) - before))
    sys.stdout.flush()
    os._exit(0)
os.posix_spawnp = spawn
main.main(["--label", "x", "--period=0.5", "--", "true"])
"""


def test_imports_before_the_spawn() -> None:
    done = finish(
        [PROGRAM[0], "-I", "-S", "-c", f"import sys; sys.path.append({environment()['PYTHONPATH']!r}){SCRIPT}"]
    )
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.decode().split())
    assert imported - ALLOWED_OF_OURS <= {"errno"}
