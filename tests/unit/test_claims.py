"""A GPU is counted by one process of a job on a node: names that one holds, and the kernel frees."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from satscore.launch.claims import GpuClaims

HOLDER = """
import sys
from satscore.launch.claims import GpuClaims
claims = GpuClaims(sys.argv[1])
print(*sorted(claims.update(sys.argv[2:])), flush=True)
for line in sys.stdin:
    print(*sorted(claims.update(line.split())), flush=True)
"""


@pytest.fixture
def scope(request: pytest.FixtureRequest) -> str:
    """A name that no other test, and no other run of the tests, has."""
    return f"{os.getpid()}-{request.node.name}"


@contextmanager
def holder(scope: str, *uuids: str) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds GPUs, and was refused none."""
    words = [sys.executable, "-c", HOLDER, scope, *uuids]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        try:
            yield process
        finally:
            process.kill()


def ask(process: "subprocess.Popen[str]", *uuids: str) -> list[str]:
    """Let the other process want these; return what it is refused."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(" ".join(uuids) + "\n")
    process.stdin.flush()
    return process.stdout.readline().split()


def test_one_process_holds_a_gpu_until_it_dies(scope):
    mine = GpuClaims(scope)
    with holder(scope, "GPU-0", "GPU-1") as other:
        assert mine.update(["GPU-0", "GPU-2"]) == {"GPU-0"}
        assert mine.update(["GPU-0", "GPU-2"]) == {"GPU-0"}, "what is held stays held, what is refused is tried again"
        assert ask(other, "GPU-0", "GPU-2") == ["GPU-2"]
        other.kill()
        other.wait()
        assert mine.update(["GPU-0", "GPU-1", "GPU-2"]) == frozenset()
    mine.close()


def test_two_that_took_each_others_gpu_change_places(scope):
    mine = GpuClaims(scope)
    with holder(scope, "GPU-1") as other:
        assert mine.update(["GPU-0"]) == frozenset()
        assert mine.update(["GPU-1"]) == {"GPU-1"}
        assert ask(other, "GPU-0") == []
        assert mine.update(["GPU-1"]) == frozenset()
    mine.close()


def test_what_is_no_longer_wanted_is_free_and_so_is_all_after_the_end(scope):
    one, other = GpuClaims(scope), GpuClaims(scope)
    assert one.update(["a", "b"]) == frozenset()
    assert other.update(["a", "b"]) == {"a", "b"}
    assert one.update(["b"]) == frozenset()
    assert other.update(["a", "b"]) == {"b"}
    one.close()
    assert other.update(["a", "b"]) == frozenset()
    assert one.update(["a"]) == frozenset(), "a closed one claims nothing and is refused nothing"
    other.close()
    other.close()


def test_jobs_do_not_meet(scope):
    one, other = GpuClaims(scope), GpuClaims(f"{scope}-r1")
    assert one.update(["a"]) == other.update(["a"]) == frozenset()
    one.close()
    other.close()


def test_a_command_does_not_inherit_a_claim(scope):
    one, other = GpuClaims(scope), GpuClaims(scope)
    one.update(["a"])
    with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        one.close()
        assert other.update(["a"]) == frozenset()
        child.kill()
    other.close()


@pytest.mark.parametrize("failing", ["socket", "bind"])
def test_where_nothing_can_be_held_nobody_else_holds_it(monkeypatch, scope, failing):
    def refuse(*args: object) -> None:
        raise OSError(errno.EACCES, "not here")

    class Unbound(socket.socket):
        bind = refuse

    monkeypatch.setattr(socket, "socket", refuse if failing == "socket" else Unbound)
    claims = GpuClaims(scope)
    assert claims.update(["a", "\udcff"]) == frozenset()
    claims.close()
