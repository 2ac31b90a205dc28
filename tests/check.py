"""All checks in one command: format, lint, types, import contracts, tests.

``python tests/check.py`` runs them in order and stops at the first that fails; ``--slow`` runs the
suites marked slow after them, and those on a real Slurm where ``SATSCORE_SLURM_RIG`` names a rig.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
CHECKS = (
    (str(BIN / "ruff"), "format", "--check", "."),
    (str(BIN / "ruff"), "check", "."),
    (str(BIN / "mypy"),),
    (str(BIN / "lint-imports"),),
    (sys.executable, "-m", "pytest", "-q", "-n", "2"),
)
SLOW = (sys.executable, "-m", "pytest", "-q", "-n", "2", "-m", "slow and not slurm")
SLURM = (sys.executable, "-m", "pytest", "-q", "-n0", "-m", "slurm", "tests/slurm")  # one rig at a time


def main() -> int:
    """Run the checks and return the first status that is not 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slow", action="store_true", help="the suites marked slow, too")
    slow = parser.parse_args().slow
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    suites = [SLOW, *([SLURM] if os.environ.get("SATSCORE_SLURM_RIG") else [])] if slow else []
    for command in (*CHECKS, *suites):
        sys.stdout.write(f"\n$ {' '.join(command)}\n")
        sys.stdout.flush()
        status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
