"""The launchers that this machine has."""

import os
import shutil
import sys
from pathlib import Path

import pytest

TORCHRUN_VARIABLE = "SATSCORE_TORCHRUN"
MPIRUN = ("mpirun", "--allow-run-as-root", "--oversubscribe")

needs_mpirun = pytest.mark.skipif(shutil.which("mpirun") is None, reason="no mpirun here: openmpi-bin has it")


def torchrun() -> str | None:
    """Return torchrun: the one that SATSCORE_TORCHRUN names, else that of the Python that runs the tests."""
    named = os.environ.get(TORCHRUN_VARIABLE)
    beside = Path(sys.executable).with_name("torchrun")
    return named or (str(beside) if beside.exists() else None)


needs_torchrun = pytest.mark.skipif(
    torchrun() is None, reason=f"no torchrun here: pip install torch, or name one by {TORCHRUN_VARIABLE}"
)


def show(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Print what a test measured, also where it passes."""
    with capsys.disabled():
        print(f"\n{text}")
