"""No test of the fleet leaves a thread behind."""

import threading

import pytest

from tests.process.harness import wait_for


@pytest.fixture(autouse=True)
def _ends_its_threads():
    before = set(threading.enumerate())  # of other tests in this process
    yield
    wait_for(lambda: not [one for one in _ours() if one not in before], "all threads")


def _ours() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("satscore-")]
