"""No test of the fleet leaves a thread behind."""

import threading

import pytest

from tests.process.harness import wait_for


@pytest.fixture(autouse=True)
def _ends_its_threads():
    yield
    wait_for(lambda: not [one for one in threading.enumerate() if one.name.startswith("satscore-")], "all threads")
