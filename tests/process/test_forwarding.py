"""The decision whether a signal is forwarded, as a table."""

import os
import signal

import pytest

from satscore.launch.ancestry import command_mark, enclosing_run, mark_of
from satscore.launch.forwarding import DUPLICATE_WINDOW_NS, Arrival, Surroundings, should_forward
from satscore.launch.tracking import proctrack_type

CHILD, OTHER = 100, 7
USER, QUEUE, TKILL, KERNEL, POLL_IN = 0, -1, -6, 128, 1
TERM, RT = signal.SIGTERM, int(signal.SIGRTMIN)


@pytest.mark.parametrize(
    ("expected", "signo", "code", "sender", "around"),
    [
        (True, TERM, USER, OTHER, {}),
        (True, TERM, QUEUE, OTHER, {}),
        (True, TERM, TKILL, OTHER, {}),
        (True, TERM, USER, 0, {}),  # from another PID namespace
        (True, signal.SIGTSTP, USER, OTHER, {}),
        (False, signal.SIGTSTP, USER, CHILD, {}),  # vim: kill(0, SIGTSTP)
        (False, TERM, USER, CHILD, {"policy": "always"}),
        (False, signal.SIGINT, KERNEL, 0, {}),
        (False, signal.SIGINT, KERNEL, 0, {"policy": "always"}),
        (False, signal.SIGIO, POLL_IN, 0, {}),
        (False, signal.SIGHUP, KERNEL, 0, {}),
        (True, signal.SIGHUP, KERNEL, 0, {"leads_session": True}),
        (True, signal.SIGCONT, KERNEL, 0, {"leads_session": True}),
        (False, signal.SIGHUP, KERNEL, 0, {"leads_session": True, "policy": "never"}),
        (False, signal.SIGINT, KERNEL, 0, {"leads_session": True}),
        (True, signal.SIGALRM, KERNEL, 0, {}),
        (False, TERM, USER, OTHER, {"policy": "never"}),
        (False, RT, QUEUE, OTHER, {"policy": "never"}),
        (False, TERM, USER, OTHER, {"since_same_ns": DUPLICATE_WINDOW_NS - 1}),
        (True, TERM, USER, OTHER, {"since_same_ns": DUPLICATE_WINDOW_NS}),
        (True, TERM, USER, OTHER, {"since_same_ns": 0, "policy": "always"}),
        (True, RT, QUEUE, OTHER, {"since_same_ns": 0}),
        (False, TERM, USER, OTHER, {"linuxproc": True}),
        (False, RT, QUEUE, OTHER, {"linuxproc": True}),
        (True, TERM, USER, OTHER, {"linuxproc": True, "policy": "always"}),
    ],
)
def test_decision(*, expected: bool, signo: int, code: int, sender: int, around: dict[str, object]) -> None:
    surroundings = Surroundings(**({"policy": "auto", "child_pid": CHILD} | around))  # type: ignore[arg-type]
    assert should_forward(Arrival(signo=signo, code=code, sender_pid=sender), surroundings) is expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("ProctrackType           = proctrack/linuxproc", "proctrack/linuxproc"),
        ("A = b\nProctrackType = proctrack/cgroup\nC = d", "proctrack/cgroup"),
        ("slurm_load_ctl_conf error", None),
        ("", None),
    ],
)
def test_proctrack_type(config: str, expected: str | None) -> None:
    assert proctrack_type(config) == expected


def test_no_variable_no_enclosing_run() -> None:
    assert enclosing_run({}) is None
    for strange in ("1", "1:", ":5", "1:0", f"{os.getppid()}", f"{os.getppid()}:1", "x:y,,"):
        assert enclosing_run({"SATSCORE_PARENT": strange}) is None


def test_the_mark_of_an_ancestor_anywhere_in_the_chain_is_an_enclosing_run() -> None:
    parent = os.getppid()
    assert enclosing_run({"SATSCORE_PARENT": mark_of(parent)}) == parent
    assert enclosing_run({"SATSCORE_PARENT": f"999999999:1,{mark_of(parent)}"}) == parent
    assert enclosing_run({"SATSCORE_PARENT": mark_of(os.getpid())}) is None, "what we once were is not around us"


def test_our_mark_comes_before_those_that_are_there() -> None:
    me = mark_of(os.getpid())
    pid, _, start = me.partition(":")
    assert (int(pid), start.isdigit()) == (os.getpid(), True)
    assert command_mark(os.getpid(), {}) == command_mark(os.getpid(), {"SATSCORE_PARENT": "12"}) == me
    assert command_mark(os.getpid(), {"SATSCORE_PARENT": "7:1,x,8:2"}) == f"{me},7:1,8:2"
