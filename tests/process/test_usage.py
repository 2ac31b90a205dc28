"""The wrapper's own words: usage errors are 125, subcommands are told from commands."""

import os
import subprocess
from pathlib import Path

import pytest

from satscore.cli.options import OPTIONS
from tests.process.harness import PROGRAM, TIMEOUT_S, environment, finish

MARK = ["sh", "-c", "echo ran"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--perod", "1", "--", *MARK], "unknown option --perod\nsatscore: hint: did you mean --period?"),
        (["-x", *MARK], "unknown option -x"),
        (["--period", "0.01", *MARK], "--period: 0.01 s is out of range"),
        (["--period", "soon", *MARK], "--period: 'soon' is not a number of seconds"),
        (["--period=nan", *MARK], "--period: nan s is out of range"),
        (["--period", "1e12", *MARK], "--period: 1e12 s is out of range: 0.12 to 60 s"),
        (["--json", "-", "--", *MARK], "--json: stdout is the command's; name a file"),
        (["--profile", "trian", *MARK], "--profile: 'trian' is not one of train, hpc, tensor"),
        (["--profile", "trian", *MARK], "did you mean train?"),
        (["--source", "sim:", *MARK], "--source: 'sim:' is not a source"),
        (["--source", "sim:", *MARK], "hint: scenarios are: gemm, "),
        (["--dtype", "fp32", *MARK], "--dtype: 'fp32' is not one of"),
        (["--forward", "some", *MARK], "--forward: 'some' is not one of auto, always, never"),
        (["--quiet=1", *MARK], "--quiet takes no value"),
        (["--json", "--", *MARK], "--json needs a value: --json FILE"),
        (["--json"], "--json needs a value"),
        (["--out=", *MARK], "--out: the value is empty"),
        (["--"], "no command to run"),
        (["--quiet"], "no command to run"),
        (["run"], "no command to run"),
        (["--quiet", "report", "x"], "options of a run stand before the subcommand 'report'"),
    ],
)
def test_wrong_usage_is_125_and_says_what_to_do(words: list[str], message: str) -> None:
    done = finish([*PROGRAM, *words])
    assert (done.returncode, done.stdout) == (125, b"")
    assert message in done.stderr.decode()
    assert 1 <= done.stderr.count(b"\n") <= 2
    assert done.stderr.startswith(b"satscore: error: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PERIOD", "0.01"),
        ("SOURCE", "abacus"),
        ("QUIET", "perhaps"),
        ("REDACT", "2"),
        ("RECORD", "some"),
        ("FORWARD", "x"),
    ],
)
def test_wrong_variable_is_125_and_named(name: str, value: str) -> None:
    done = finish([*PROGRAM, *MARK], env=environment(**{f"SATSCORE_{name}": value}))
    assert (done.returncode, done.stdout) == (125, b"")
    assert f"SATSCORE_{name}: ".encode() in done.stderr
    assert finish([*PROGRAM, "--help"], env=environment(**{f"SATSCORE_{name}": value})).returncode == 0


def test_without_words_usage_and_125() -> None:
    done = finish(PROGRAM)
    assert (done.returncode, done.stdout) == (125, b"")
    assert done.stderr.startswith(b"usage: satscore ")


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["run", "--help"], ["--quiet", "--help"]])
def test_help(words: list[str]) -> None:
    done = finish([*PROGRAM, *words])
    text = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b"")
    assert all(option.flag in text for option in OPTIONS)
    examples = text.partition("examples:\n")[2].partition("\n\n")[0]
    assert examples.count("\n") == 4
    assert all(f"  {code}  " in text.partition("exit codes:")[2] for code in (3, 5, 125, 126, 127))
    assert max(map(len, text.splitlines())) <= 100
    assert "srun satscore" not in text
    assert "--no-python" not in text
    assert "report RUN " in text


def test_version() -> None:
    done = finish([*PROGRAM, "--version"])
    assert done.returncode == 0
    assert done.stdout.startswith(b"satscore ")


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_help_into_a_full_disk_or_closed_pipe_is_no_traceback(words: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*PROGRAM, *words], stdout=full, stderr=subprocess.PIPE, env=environment(), timeout=TIMEOUT_S, check=False
        )
    assert done.returncode == 125
    assert done.stderr == b"satscore: error: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize(
    "words",
    [
        ["--quiet", "--record", "no", "--", "report", "x y"],
        ["run", "--quiet", "--record", "no", "--", "report", "x y"],
        ["run", "--quiet", "--record=no", "report", "x y"],
        ["--quiet", "run", "--record", "no", "report", "x y"],
        ["--quiet", "--record", "no", "--", "run", "x y"],
        ["--quiet", "--record", "no", "--", "models", "x y"],
    ],
)
def test_commands_named_like_subcommands(words: list[str], tmp_path: Path) -> None:
    for name in ("report", "run", "models"):
        (tmp_path / name).write_text('#!/bin/sh\necho "command $(basename $0) <$1>"\n')
        (tmp_path / name).chmod(0o755)
    done = finish([*PROGRAM, *words], env=environment(PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}"))
    assert done.returncode == 0
    assert done.stdout.decode() == f"command {words[-2]} <x y>\n"


@pytest.mark.parametrize(
    "words",
    [
        ["--quiet", "--record", "no", "echo", "--period", "--", "-x"],
        ["--quiet", "--record", "no", "--", "echo", "--period", "--", "-x"],
        ["run", "--quiet", "--record", "no", "echo", "--period", "--", "-x"],
    ],
)
def test_from_the_first_other_word_on_all_is_the_commands(words: list[str]) -> None:
    """With and without the separator, which torchrun drops."""
    done = finish([*PROGRAM, *words])
    assert (done.returncode, done.stdout) == (0, b"--period -- -x\n")


def test_variables_are_taken_and_flags_win() -> None:
    script = "import sys, os, satscore.cli.options as o\nprint(o.run_options(o.parse(sys.argv[1:], os.environ).values))"
    env = environment(SATSCORE_PERIOD="0.5", SATSCORE_QUIET="yes", SATSCORE_REDACT="0", SATSCORE_LABEL="")
    words = [PROGRAM[0], "-c", script, "--profile=hpc"]
    text = finish([*words, "x"], env=env).stdout.decode()
    assert "period_s=0.5," in text
    assert "quiet=True" in text
    assert "redact=False" in text
    assert "label=''" in text
    text = finish([*words, "--period", "0.3", "--no-quiet", "--redact", "x"], env=env).stdout.decode()
    assert "period_s=0.3," in text
    assert "quiet=False" in text
    assert "redact=True" in text


def test_a_variable_that_is_nearly_one_of_ours_is_said_and_the_command_runs():
    env = environment(SATSCORE_FAIL_UDER="45", SATSCORE_SITE="x", SATSCORE_DEBUG="1", LD_LIBRARY_PATH="")
    done = finish([*PROGRAM, "--quiet", "--", "sh", "-c", "exit 3"], env=env)
    assert done.returncode == 3
    assert done.stderr == b"satscore: SATSCORE_FAIL_UDER is not known, did you mean SATSCORE_FAIL_UNDER?\n"
