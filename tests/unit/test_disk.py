"""The thread that waits for the disk: order, bound, and work that fails."""

import threading
from functools import partial

from satscore.run.disk import WAITING_MAX, DiskThread


def test_work_is_done_in_order_before_finish_returns():
    disk, done = DiskThread(), list[int]()
    for i in range(50):
        disk.submit(partial(done.append, i))
    disk.finish()
    assert done == list(range(50))
    assert (disk.refused_count, disk.failures) == (0, [])


def test_a_disk_that_hangs_refuses_what_is_too_much_and_nobody_waits():
    disk, goes_on, begun, done = DiskThread(), threading.Event(), threading.Event(), list[int]()

    def hang() -> None:
        begun.set()
        goes_on.wait()

    disk.submit(hang)
    begun.wait()
    for i in range(WAITING_MAX + 7):
        disk.submit(partial(done.append, i))
    assert disk.refused_count == 7
    goes_on.set()
    disk.finish()
    assert done == list(range(WAITING_MAX))


def test_work_that_fails_is_told_and_the_next_is_done():
    disk, done = DiskThread(), list[str]()

    def fail() -> None:
        raise ValueError("odd")

    disk.submit(fail)
    disk.submit(lambda: done.append("next"))
    disk.finish()
    assert disk.failures == ["ValueError: odd"]
    assert done == ["next"]


def test_finish_waits_no_longer_than_asked_and_may_be_asked_again():
    disk, goes_on, begun, done = DiskThread(), threading.Event(), threading.Event(), list[int]()

    def hang() -> None:
        begun.set()
        goes_on.wait()

    disk.submit(hang)
    begun.wait()
    for i in range(WAITING_MAX):
        disk.submit(partial(done.append, i))
    assert not disk.finish(0.0)  # not even the word of the end finds room
    goes_on.set()
    assert disk.finish()
    assert disk.finish(0.0)
    assert done == list(range(WAITING_MAX))
