"""Terminals and job control: real pseudo-terminals and a real interactive bash."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from tests.process.harness import (
    END,
    END_STATUS,
    TIMEOUT_S,
    Reporter,
    children_of,
    environment,
    has_handled_all,
    satscore,
    state_of,
    wait_for,
)

PROMPT = "ready> "
END_SIGNO = int(getattr(signal, f"SIG{END}"))


def open_terminal(command: list[str]) -> pexpect.spawn:
    return pexpect.spawn(
        command[0], command[1:], env=environment(), timeout=TIMEOUT_S, dimensions=(30, 100), encoding="utf-8"
    )


@pytest.fixture
def bash() -> Iterator[pexpect.spawn]:
    shell = pexpect.spawn(
        "bash",
        ["--norc", "--noprofile", "-i"],
        env=environment(PS1=PROMPT, TERM="dumb", HISTFILE=""),
        timeout=TIMEOUT_S,
        encoding="utf-8",
        dimensions=(30, 250),
    )
    shell.expect_exact(PROMPT)
    shell.sendline("bind 'set enable-bracketed-paste off'; stty -echo; echo on")
    shell.expect_exact("on\r\n")
    shell.expect_exact(PROMPT)
    yield shell
    shell.close(force=True)


def on_terminal(reporter: Reporter, act: Callable[[pexpect.spawn], object], expected: int) -> list[int]:
    """Let something happen on the terminal that the reporter sits on; return what it received."""
    terminal = open_terminal(satscore(*reporter.command))
    child = reporter.wait_ready()
    act(terminal)
    reporter.wait_received(expected)
    wait_for(lambda: has_handled_all(terminal.pid), "the wrapper to take its own copy")
    os.kill(child, END_SIGNO)
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == END_STATUS
    return reporter.received()[:-1]


def test_ctrl_c_reaches_the_command_once(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path, "INT")
    assert on_terminal(reporter, lambda terminal: terminal.sendintr(), signal.SIGINT) == [signal.SIGINT]


def test_ctrl_backslash_reaches_the_command_once(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path, "QUIT")
    assert on_terminal(reporter, lambda terminal: terminal.send("\x1c"), signal.SIGQUIT) == [signal.SIGQUIT]


def test_window_resize_reaches_the_command_once(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path, "WINCH")
    assert on_terminal(reporter, lambda terminal: terminal.setwinsize(40, 120), signal.SIGWINCH) == [signal.SIGWINCH]


def test_command_that_takes_ctrl_z_is_not_stopped_and_neither_are_we(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path, "TSTP")
    assert on_terminal(reporter, lambda terminal: terminal.send("\x1a"), signal.SIGTSTP) == [signal.SIGTSTP]


def test_ctrl_c_kills_both_by_sigint() -> None:
    terminal = open_terminal(satscore("sleep", "60"))
    wait_for(lambda: children_of(terminal.pid), "the command")
    terminal.sendintr()
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.signalstatus == signal.SIGINT


def test_hang_up_reaches_the_command_though_the_kernel_tells_us_alone(tmp_path: Path) -> None:
    """The wrapper leads the session (ssh -t host satscore ...): only the leader gets the HUP."""
    reporter = Reporter(tmp_path, "HUP")
    ours, theirs = os.openpty()
    wrapper = subprocess.Popen(
        ["setsid", "--ctty", *satscore(*reporter.command)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(),
    )
    os.close(theirs)
    child = reporter.wait_ready()
    os.close(ours)
    reporter.wait_received(signal.SIGHUP)
    os.kill(child, END_SIGNO)
    assert wrapper.wait(TIMEOUT_S) == END_STATUS
    assert reporter.received() == [signal.SIGHUP, END_SIGNO]


def test_the_command_sees_the_terminal() -> None:
    code = (
        "import os; print([os.isatty(n) for n in (0, 1, 2)], os.get_terminal_size(), os.tcgetpgrp(0) == os.getpgrp())"
    )
    terminal = open_terminal(satscore(sys.executable, "-c", code))
    terminal.expect_exact("[True, True, True] os.terminal_size(columns=100, lines=30) True")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


def start_job(bash: pexpect.spawn, reporter: Reporter) -> tuple[int, int]:
    """Start the reporter in the foreground; return the wrapper's and the command's process ids."""
    bash.sendline(shlex.join(satscore(*reporter.command)))
    child = reporter.wait_ready()
    wrapper = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
    wait_for(lambda: has_handled_all(wrapper), "the wrapper to wait")
    return wrapper, child


def expect_stopped(bash: pexpect.spawn, wrapper: int, child: int) -> None:
    bash.expect_exact("Stopped")
    bash.expect_exact(PROMPT)
    assert (state_of(wrapper), state_of(child)) == ("T", "T")


def wait_running(wrapper: int, child: int) -> None:
    wait_for(lambda: state_of(child) != "T" and has_handled_all(wrapper), "both to run")


def end_job(bash: pexpect.spawn, child: int) -> None:
    """End the foreground job by its last signal; its status is what the shell shows."""
    os.kill(child, END_SIGNO)
    bash.expect_exact(PROMPT)
    bash.sendline("echo status=$?")
    bash.expect_exact(f"status={END_STATUS}\r\n")


def test_ctrl_z_and_fg_again_and_again(bash: pexpect.spawn, tmp_path: Path) -> None:
    reporter = Reporter(tmp_path, "CONT", "USR1")
    wrapper, child = start_job(bash, reporter)
    for times in range(1, 4):
        bash.send("\x1a")
        expect_stopped(bash, wrapper, child)
        bash.sendline("fg")
        reporter.wait_received(signal.SIGCONT, times)
        wait_running(wrapper, child)
    end_job(bash, child)
    assert reporter.received() == [signal.SIGCONT] * 3 + [END_SIGNO]


def test_ctrl_z_bg_and_fg(bash: pexpect.spawn, tmp_path: Path) -> None:
    """After bg the command works on without the terminal; fg of a running job sends nothing."""
    reporter = Reporter(tmp_path, "CONT", "USR1")
    wrapper, child = start_job(bash, reporter)
    bash.send("\x1a")
    expect_stopped(bash, wrapper, child)
    bash.sendline("bg")
    bash.expect_exact(PROMPT)
    reporter.wait_received(signal.SIGCONT)
    wait_running(wrapper, child)
    bash.sendline("kill -USR1 %1")
    reporter.wait_received(signal.SIGUSR1)
    bash.expect_exact(PROMPT)
    bash.sendline("jobs")
    bash.expect_exact("Running")
    bash.expect_exact(PROMPT)
    bash.sendline("fg")
    wait_for(lambda: os.tcgetpgrp(bash.child_fd) == os.getpgid(wrapper), "the job in the foreground")
    end_job(bash, child)
    # kill %1 is for the whole group: the command's own copy and, at most, the forwarded one.
    assert reporter.received()[0] == signal.SIGCONT
    assert set(reporter.received()[1:-1]) == {signal.SIGUSR1}


def test_tstp_sent_to_the_wrapper_stops_the_command_and_the_job(bash: pexpect.spawn, tmp_path: Path) -> None:
    reporter = Reporter(tmp_path, "CONT")
    wrapper, child = start_job(bash, reporter)
    os.kill(wrapper, signal.SIGTSTP)
    expect_stopped(bash, wrapper, child)
    bash.sendline("fg")
    reporter.wait_received(signal.SIGCONT)
    end_job(bash, child)


@pytest.mark.parametrize("signo", [signal.SIGSTOP, signal.SIGTTIN, signal.SIGTTOU])
def test_stop_of_the_command_is_seen_by_the_shell(bash: pexpect.spawn, tmp_path: Path, signo: int) -> None:
    reporter = Reporter(tmp_path, "CONT")
    wrapper, child = start_job(bash, reporter)
    os.kill(child, signo)
    expect_stopped(bash, wrapper, child)
    bash.sendline("fg")
    reporter.wait_received(signal.SIGCONT)
    end_job(bash, child)
    assert reporter.received() == [signal.SIGCONT, END_SIGNO]


def test_continue_sent_to_the_stopped_wrapper_alone_reaches_the_command(bash: pexpect.spawn, tmp_path: Path) -> None:
    """scancel and mpirun continue the process they know."""
    reporter = Reporter(tmp_path, "CONT")
    wrapper, child = start_job(bash, reporter)
    bash.send("\x1a")
    expect_stopped(bash, wrapper, child)
    os.kill(wrapper, signal.SIGCONT)
    reporter.wait_received(signal.SIGCONT)
    wait_running(wrapper, child)
    os.kill(child, END_SIGNO)
    wait_for(lambda: state_of(wrapper) == "", "the shell to collect the job")
    assert reporter.received() == [signal.SIGCONT, END_SIGNO]


def test_command_that_stops_its_own_group_like_vim(bash: pexpect.spawn, tmp_path: Path) -> None:
    code = "import os, signal; print('up', flush=True); os.kill(0, signal.SIGTSTP); print('again')"
    bash.sendline(shlex.join(satscore(sys.executable, "-c", code)))
    bash.expect_exact("up\r\n")
    bash.expect_exact("Stopped")
    bash.expect_exact(PROMPT)
    bash.sendline("fg")
    bash.expect_exact("again\r\n")
    bash.expect_exact(PROMPT)
    bash.sendline("echo status=$?")
    bash.expect_exact("status=0\r\n")


def test_background_command_that_reads_the_terminal_stops_the_job(bash: pexpect.spawn) -> None:
    bash.sendline(shlex.join(satscore("sh", "-c", "read line; echo got $line")) + " &")
    bash.expect_exact(PROMPT)
    wait_for(lambda: stopped_job(bash.pid), "the job to stop")
    bash.sendline("")
    bash.expect_exact("Stopped")
    bash.expect_exact(PROMPT)
    bash.sendline("fg")
    bash.sendline("words")
    bash.expect_exact("got words\r\n")
    bash.expect_exact(PROMPT)


def stopped_job(shell: int) -> bool:
    """Whether the shell's only job, wrapper and command, is stopped."""
    wrappers = children_of(shell)
    if len(wrappers) != 1:
        return False
    commands = children_of(wrappers[0])
    return state_of(wrappers[0]) == "T" and any(state_of(pid) == "T" for pid in commands)


def test_command_that_ignores_ctrl_z(bash: pexpect.spawn, tmp_path: Path) -> None:
    """The terminal's stop passes both by; the wrapper does not stop alone."""
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    bash.sendline(shlex.join(satscore("sh", "-c", f'trap "" TSTP; echo up; read x < {fifo}; echo end')))
    bash.expect_exact("up\r\n")
    bash.send("\x1a")
    (wrapper,) = children_of(bash.pid)
    wait_for(lambda: has_handled_all(wrapper), "the wrapper to take its copy")
    time.sleep(0.05)  # longer than the grace after which it would have followed a stop
    assert state_of(wrapper) == "S"
    fifo.write_text("go\n")
    bash.expect_exact("end\r\n")
    bash.expect_exact(PROMPT)


def test_interactive_shell_as_the_command(bash: pexpect.spawn) -> None:
    """A shell inside takes the terminal for its own jobs, gives it back, and its exit status is ours."""
    bash.sendline(shlex.join(satscore("bash", "--norc", "--noprofile", "-i")))
    bash.expect_exact(PROMPT)
    bash.sendline("sleep 60")
    wait_for(
        lambda: any(children_of(pid) for wrapper in children_of(bash.pid) for pid in children_of(wrapper)), "sleep"
    )
    bash.send("\x1a")
    bash.expect_exact("Stopped")
    bash.expect_exact(PROMPT)
    bash.sendline("kill -KILL %1; wait %1")
    bash.expect_exact(PROMPT)
    bash.sendline("exit 5")
    bash.expect_exact(PROMPT)
    bash.sendline("echo status=$?")
    bash.expect_exact("status=5\r\n")
