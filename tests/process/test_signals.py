"""Signals sent to the wrapper reach the command, each exactly once."""

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.process.harness import (
    END,
    END_STATUS,
    TIMEOUT_S,
    Reporter,
    children_of,
    end_and_collect,
    environment,
    has_handled_all,
    lives,
    running,
    satscore,
    state_of,
    wait_for,
)

FORWARDED = ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "CONT", "WINCH", "ALRM", "TSTP", "TTIN", "URG", "IO", "PWR"]
FORWARDED += [str(int(signal.SIGRTMIN)), str(int(signal.SIGRTMIN) + 1), str(int(signal.SIGRTMAX) - 1)]


def number(name: str) -> int:
    return int(name) if name.isdigit() else int(getattr(signal, f"SIG{name}"))


def test_each_signal_reaches_the_command_exactly_once(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path, *FORWARDED)
    with running(satscore(*reporter.command)) as wrapper:
        reporter.wait_ready()
        for name in FORWARDED:
            wrapper.send_signal(number(name))
            reporter.wait_received(number(name))
        assert end_and_collect(wrapper, reporter) == [number(name) for name in FORWARDED]


@pytest.mark.parametrize(("policy", "times"), [("auto", 1), ("always", 2)])
def test_duplicates_within_50_ms_once_unless_always(policy: str, times: int, tmp_path: Path) -> None:
    reporter = Reporter(tmp_path, "TERM")
    with running(satscore(*reporter.command, options=["--forward", policy])) as wrapper:
        child = reporter.wait_ready()
        for _ in range(50):
            time.sleep(0.06)  # longer than the window: what an attempt that was too slow sent is no duplicate of this
            wait_for(lambda: has_handled_all(child), "the reporter to write what it has received")
            before = reporter.received().count(signal.SIGTERM)
            started = time.monotonic()
            wrapper.send_signal(signal.SIGTERM)
            reporter.wait_received(signal.SIGTERM, before + 1)
            wrapper.send_signal(signal.SIGTERM)
            wait_for(lambda: has_handled_all(wrapper.pid), "the wrapper to take the second")
            if time.monotonic() - started < 0.05:
                break
        else:
            pytest.skip("this machine is too busy to send two signals within 50 ms")
        assert end_and_collect(wrapper, reporter)[before:] == [signal.SIGTERM] * times


def test_each_real_time_signal_is_forwarded(tmp_path: Path) -> None:
    """The kernel queues them, so five that were sent are five."""
    reporter = Reporter(tmp_path, "34")
    with running(satscore(*reporter.command)) as wrapper:
        reporter.wait_ready()
        for _ in range(5):
            wrapper.send_signal(signal.SIGRTMIN)
        reporter.wait_received(signal.SIGRTMIN, 5)
        assert end_and_collect(wrapper, reporter) == [signal.SIGRTMIN] * 5


def test_forward_never(tmp_path: Path) -> None:
    """The wrapper neither forwards nor dies: it waits."""
    reporter = Reporter(tmp_path, "TERM", "USR1")
    with running(satscore(*reporter.command, options=["--forward", "never"])) as wrapper:
        child = reporter.wait_ready()
        for signo in (signal.SIGTERM, signal.SIGUSR1, signal.SIGRTMAX):
            wrapper.send_signal(signo)
        wait_for(lambda: has_handled_all(wrapper.pid), "the wrapper to take the signals")
        os.kill(child, signal.SIGRTMAX)
        assert wrapper.wait(TIMEOUT_S) == END_STATUS
        assert reporter.received() == [signal.SIGRTMAX]


def forwards(wrapper: subprocess.Popen[bytes], reporter: Reporter, signo: int) -> bool:
    """Whether one more of this signal reaches the command."""
    before = reporter.received().count(signo)
    wrapper.send_signal(signo)
    wait_for(lambda: has_handled_all(wrapper.pid), "the wrapper to take the signal")
    time.sleep(0.06)  # longer than repetitions are swallowed
    return reporter.received().count(signo) > before


def test_command_that_ignores_term_is_waited_for(tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    script = f'trap "" TERM; echo up; read line < {fifo}; exit 9'
    with running(satscore("sh", "-c", script)) as wrapper:
        assert wrapper.stdout is not None
        assert wrapper.stdout.readline() == b"up\n"
        wrapper.send_signal(signal.SIGTERM)
        wait_for(lambda: has_handled_all(wrapper.pid), "the wrapper to take TERM")
        assert wrapper.poll() is None
        fifo.write_text("go\n")
        assert wrapper.wait(TIMEOUT_S) == 9


def test_command_dies_of_a_forwarded_signal_and_so_do_we() -> None:
    with running(satscore("sleep", "60")) as wrapper:
        wait_for(lambda: children_of(wrapper.pid), "the command")
        wrapper.send_signal(signal.SIGTERM)
        assert wrapper.wait(TIMEOUT_S) == -signal.SIGTERM


def test_hup_ignored_at_start_stays_ignored(tmp_path: Path) -> None:
    """nohup: neither the command nor the wrapper dies of a HUP."""
    with running(["nohup", *satscore("sleep", "60")]) as wrapper:
        (command,) = wait_for(lambda: children_of(wrapper.pid), "the command")
        wait_for(lambda: has_handled_all(wrapper.pid), "the wrapper to wait for signals")
        wrapper.send_signal(signal.SIGHUP)
        wait_for(lambda: has_handled_all(wrapper.pid), "the wrapper to have passed it on")
        status = dict(line.split(":\t") for line in Path(f"/proc/{command}/status").read_text().splitlines())
        assert int(status["SigIgn"], 16) & 1 << (signal.SIGHUP - 1)
        wrapper.send_signal(signal.SIGTERM)
        assert wrapper.wait(TIMEOUT_S) == -signal.SIGTERM


def test_signals_blocked_at_start_are_forwarded_and_stay_blocked_in_the_command(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path, "TERM")
    block = "import os, signal, sys; signal.pthread_sigmask(0, {15}); os.execv(sys.argv[1], sys.argv[1:])"
    with running([satscore()[0], "-c", block, *satscore(*reporter.command)]) as wrapper:
        reporter.wait_ready()
        wrapper.send_signal(signal.SIGTERM)
        reporter.wait_received(signal.SIGTERM)
        assert end_and_collect(wrapper, reporter) == [signal.SIGTERM]


def test_alarm_set_before_us_reaches_the_command() -> None:
    """``alarm 1; exec satscore ...``: the timer survives exec, so it rings in the wrapper."""
    alarm = "import os, signal, sys; signal.setitimer(signal.ITIMER_REAL, 0.4); os.execv(sys.argv[1], sys.argv[1:])"
    with running([satscore()[0], "-c", alarm, *satscore("sleep", "60")]) as wrapper:
        assert wrapper.wait(TIMEOUT_S) == -signal.SIGALRM


def test_kill_0_of_the_command_is_not_sent_back(tmp_path: Path) -> None:
    """It has its own copy already; the group's other members got theirs from the kernel."""
    fifo, log = tmp_path / "go", tmp_path / "log"
    os.mkfifo(fifo)
    script = f'trap "echo USR1 >> {log}" USR1; kill -USR1 0; echo up; read x < {fifo}; exit 3'
    with running(satscore("sh", "-c", script), new_session=True) as wrapper:
        assert wrapper.stdout is not None
        assert wrapper.stdout.readline() == b"up\n"
        wait_for(lambda: has_handled_all(wrapper.pid), "the wrapper to take its copy")
        fifo.write_text("go\n")
        assert wrapper.wait(TIMEOUT_S) == 3
    assert log.read_text() == "USR1\n"


def fake_scontrol(folder: Path, text: str) -> dict[str, str]:
    """A scontrol that answers, and leaves word that it did."""
    tool = folder / "scontrol"
    tool.write_text(
        f'#!/usr/bin/env bash\necho "{text}"\n'
        f'echo "$*" >> {folder}/asked\ngrep SigBlk /proc/self/status >> {folder}/asked\n'
    )
    tool.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return environment(PATH=path, SLURM_STEP_ID="0", SLURM_JOB_ID="1")


def lines_of(path: Path, count: int) -> list[str]:
    """The lines of a file once there are so many."""
    lines = path.read_text().splitlines() if path.exists() else []
    return lines if len(lines) >= count else []


@pytest.mark.parametrize(
    ("tracking", "policy", "times"),
    [("linuxproc", "auto", 0), ("cgroup", "auto", 1), ("linuxproc", "always", 1)],
)
def test_slurm_process_tracking(tracking: str, policy: str, times: int, tmp_path: Path) -> None:
    env = fake_scontrol(tmp_path, f"PluginDir = /x\nProctrackType           = proctrack/{tracking}")
    reporter = Reporter(tmp_path, "TERM", "WINCH")
    with running(satscore(*reporter.command, options=["--forward", policy]), env=env) as wrapper:
        child = reporter.wait_ready()
        if policy == "auto":
            asked = wait_for(lambda: lines_of(tmp_path / "asked", 2), "the question")
            assert asked[0] == "show config"
            assert int(asked[1].split()[1], 16) == 0
        if times == 0:
            wait_for(lambda: not forwards(wrapper, reporter, signal.SIGWINCH), "the answer to be known")
        wrapper.send_signal(signal.SIGTERM)
        wait_for(lambda: has_handled_all(wrapper.pid), "the wrapper to take TERM")
        os.kill(child, getattr(signal, f"SIG{END}"))
        assert wrapper.wait(TIMEOUT_S) == END_STATUS
        assert reporter.received().count(signal.SIGTERM) == times


def test_slurm_without_scontrol_forwards(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path, "TERM")
    with running(satscore(*reporter.command), env=environment(SLURM_STEP_ID="0")) as wrapper:
        reporter.wait_ready()
        wrapper.send_signal(signal.SIGTERM)
        reporter.wait_received(signal.SIGTERM)
        assert end_and_collect(wrapper, reporter) == [signal.SIGTERM]


def test_scontrol_that_hangs_holds_nobody(tmp_path: Path) -> None:
    env = fake_scontrol(tmp_path, "")
    (tmp_path / "scontrol").write_text("#!/bin/sh\nexec sleep 3\n")
    with running(satscore("sh", "-c", "exit 3"), env=env) as wrapper:
        assert wrapper.wait(2.5) == 3


def test_stopped_wrapper_does_not_stop_the_command(tmp_path: Path) -> None:
    """STOP cannot be forwarded; the command works on, and CONT wakes the wrapper."""
    reporter = Reporter(tmp_path, "USR1")
    with running(satscore(*reporter.command)) as wrapper:
        child = reporter.wait_ready()
        wrapper.send_signal(signal.SIGSTOP)
        wait_for(lambda: state_of(wrapper.pid) == "T", "the wrapper to stop")
        os.kill(child, signal.SIGUSR1)
        reporter.wait_received(signal.SIGUSR1)
        wrapper.send_signal(signal.SIGCONT)
        assert end_and_collect(wrapper, reporter) == [signal.SIGUSR1]


def test_command_stopped_and_continued_by_its_own_number_where_no_shell_watches(tmp_path: Path) -> None:
    """Without a terminal nobody would ever continue the wrapper, had it followed the command into the stop."""
    reporter = Reporter(tmp_path, "USR1")
    with running(satscore(*reporter.command), new_session=True) as wrapper:
        child = reporter.wait_ready()
        wait_for(lambda: has_handled_all(wrapper.pid), "the wrapper to wait")
        os.kill(child, signal.SIGSTOP)
        wait_for(lambda: state_of(child) == "T", "the command to stop")
        time.sleep(0.06)  # longer than the grace after which it would have followed
        assert has_handled_all(wrapper.pid)
        os.kill(child, signal.SIGCONT)
        os.kill(child, signal.SIGRTMAX)
        assert wrapper.wait(TIMEOUT_S) == END_STATUS


def test_continue_wakes_a_stopped_command_where_no_shell_watches(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path, "CONT")
    with running(satscore(*reporter.command), new_session=True) as wrapper:
        child = reporter.wait_ready()
        os.kill(child, signal.SIGSTOP)
        wait_for(lambda: state_of(child) == "T", "the command to stop")
        wrapper.send_signal(signal.SIGCONT)
        reporter.wait_received(signal.SIGCONT)
        assert end_and_collect(wrapper, reporter) == [signal.SIGCONT]


def test_group_kill_is_survived_until_the_command_ends(tmp_path: Path) -> None:
    """torchrun's killpg reaches both; the wrapper outlives the command and dies as it does."""
    reporter = Reporter(tmp_path, "TERM")
    with running(satscore(*reporter.command), new_session=True) as wrapper:
        reporter.wait_ready()
        os.killpg(wrapper.pid, signal.SIGTERM)
        reporter.wait_received(signal.SIGTERM)
        assert 1 <= end_and_collect(wrapper, reporter).count(signal.SIGTERM) <= 2


def test_interrupt_at_any_moment_of_the_start_ends_like_an_interrupt() -> None:
    """Before the signals are blocked there is nothing to protect, and no traceback to show."""
    with running(satscore("sleep", "60")) as wrapper:
        wait_for(lambda: children_of(wrapper.pid), "the command")
        wrapper.send_signal(signal.SIGINT)
        assert wrapper.wait(TIMEOUT_S) == -signal.SIGINT
        assert wrapper.stderr is not None
        assert wrapper.stderr.read() == b""


def test_popen_sees_no_difference_between_runs() -> None:
    """subprocess's own terminate and kill behave as with the bare command."""
    with running(satscore("sleep", "60")) as wrapper:
        wait_for(lambda: children_of(wrapper.pid), "the command")
        wrapper.terminate()
        assert wrapper.wait(TIMEOUT_S) == subprocess.Popen(["sh", "-c", "kill $$"]).wait()


@pytest.mark.parametrize("name", ["INT", "QUIT"])
def test_background_job_of_a_script_is_still_told(tmp_path: Path, name: str) -> None:
    """A shell without job control starts ``&`` with INT and QUIT ignored; the command may handle them."""
    reporter = Reporter(tmp_path, name)
    words = shlex.join(satscore(*reporter.command))
    script = f"{words} & echo $! > {tmp_path}/pid; wait $!"
    with running(["sh", "-c", script]):
        reporter.wait_ready()
        wrapper = int((tmp_path / "pid").read_text())
        wait_for(lambda: has_handled_all(wrapper), "the wrapper to wait for signals")
        os.kill(wrapper, getattr(signal, f"SIG{name}"))
        reporter.wait_received(getattr(signal, f"SIG{name}"))
        os.kill(wrapper, getattr(signal, f"SIG{END}"))
        wait_for(lambda: not lives(wrapper), "the wrapper to end")
        assert reporter.received().count(getattr(signal, f"SIG{name}")) == 1
