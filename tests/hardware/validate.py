"""Hold the counters and scores of satscore against counted work on a real GPU: one command, JSON out.

``python tests/hardware/validate.py --out DIR`` (README.md beside this file). The same file runs each
load in a process of its own, which imports nothing of satscore.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main(argv: list[str]) -> int:
    """Run a load (with ``--workload``) or the whole validation; return the exit status."""
    if any(argument.split("=")[0] == "--workload" for argument in argv):
        from tests.hardware.validation import child

        return child.main(argv)
    from tests.hardware.validation import cli

    return cli.main(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
