"""One rig at a time, changed when a test wants another shape and taken down at the end of the session."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.harness import wait_for
from tests.slurm.rig import VARIABLE, Rig, Shape


class Rigs:
    """Brings up the rig of the wanted shape; keeps the one that is up where it fits."""

    def __init__(self, tool: str) -> None:
        self._tool = tool
        self._rig: Rig | None = None

    def of(self, shape: Shape) -> Rig:
        if self._rig is None or self._rig.shape != shape:
            self.down()
            self._rig = Rig(self._tool, shape)
        return self._rig

    def down(self) -> None:
        rig, self._rig = self._rig, None
        if rig is not None:
            rig.down()


@pytest.fixture(scope="session")
def rigs() -> Iterator[Rigs]:
    tool = os.environ.get(VARIABLE)
    if not tool:
        pytest.skip(f"{VARIABLE} names no rig")
    if os.geteuid() != 0:
        pytest.skip("the rig needs root")
    rigs = Rigs(tool)
    yield rigs
    rigs.down()


@pytest.fixture(scope="module")
def shaped(rigs: Rigs, request: pytest.FixtureRequest) -> Rig:
    """The rig of the module's shape: 4 nodes, unless parametrised with a Shape."""
    shape = getattr(request, "param", None) or Shape(tracking="cgroup" if not Shape().lacks() else "linuxproc")
    if shape.lacks():
        pytest.skip(shape.lacks())
    return rigs.of(shape)


@pytest.fixture
def rig(shaped: Rig) -> Iterator[Rig]:
    """The rig, idle; afterwards no process of satscore may be left on any node."""
    shaped.wait_idle()
    yield shaped
    shaped.tell("scancel", "--user=root")
    wait_for(lambda: not shaped.leftovers(), "the last process of satscore to end")
    shaped.wait_idle()


@pytest.fixture
def folder(rig: Rig, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A new folder that all nodes see."""
    path = rig.shared / "".join(c if c.isalnum() else "-" for c in request.node.name)
    path.mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)
