"""A run on a driver that is slow, hangs, fails or lies: the command never notices. On the fake NVML library."""

import signal
import subprocess
import time
from collections.abc import Sequence

import pytest

from tests.fakes.build import FakeNvml, fake_nvml
from tests.process.harness import TIMEOUT_S, environment, finish, satscore

__all__ = ["fake_nvml"]

COMMAND = ["sh", "-c", "cat; echo out; echo err >&2; sleep 0.6; printf 'end\\0'; exit 7"]
DATA = b"in\n\x00\xff"
GRACE_S = 3.0 + 2.0
"""How much longer than the bare command a run may take: SATSCORE_EXIT_WAIT_S, and other tests beside it."""

DRIVERS: dict[str, tuple[str, str, Sequence[str]]] = {
    "good": ("h200_llm", "", ()),
    "four modules": ("gh200", "", ()),
    "before hopper": ("a100", "", ()),
    "no permission": ("h100_no_permission", "", ()),
    "slow samples": ("h200_llm", "slow nvmlGpmSampleGet 400", ()),
    "slow start": ("h200_llm", "slow nvmlInitWithFlags 5000", ()),
    "slow events": ("h200_llm", "slow nvmlEventSetWait_v2 2000", ()),
    "hangs at start": ("h200_llm", "hang nvmlInitWithFlags", ()),
    "hangs at open": ("h200_llm", "hang nvmlDeviceGetName", ()),
    "hangs at the first sample": ("h200_llm", "hang nvmlGpmSampleGet", ()),
    "hangs in mid-run": ("h200_llm", "hang nvmlDeviceGetFieldValues from 0.3", ()),
    "hangs at the end": ("h200_llm", "hang nvmlShutdown", ()),
    "does not start": ("h200_llm", "error nvmlInitWithFlags 9", ()),
    "unknown error everywhere": ("h200_llm", "lost 999 from 0", ()),
    "gpu lost": ("gh200", "lost 15 from 0.3 gpu 2", ()),
    "all lost": ("gh200", "lost 15 from 0.3", ()),
    "no clocks": ("h200_llm", "", ("nvmlDeviceGetClockInfo",)),
    "build stub": ("h200_llm", "", ("nvmlInitWithFlags",)),
}
QUICK = {"good", "slow samples", "hangs at start", "hangs in mid-run", "gpu lost", "build stub"}


def run(fake: FakeNvml, driver: str, command: Sequence[str]) -> "subprocess.CompletedProcess[bytes]":
    script, extra, omit = DRIVERS[driver]
    fakes = fake.environment(script, extra=extra, omit=omit)
    wanted = {name: fakes[name] for name in ("LD_LIBRARY_PATH", "FAKE_NVML_SCRIPT")}
    return finish(satscore(*command), data=DATA, env=environment(**wanted))


def not_ours(stderr: bytes) -> bytes:
    """What the command itself wrote: our own lines say who speaks."""
    return b"".join(line for line in stderr.splitlines(keepends=True) if not line.startswith(b"satscore: "))


def cases() -> list[object]:
    """All drivers; those outside QUICK only in the slow set."""
    return [driver if driver in QUICK else pytest.param(driver, marks=pytest.mark.slow) for driver in DRIVERS]


@pytest.mark.parametrize("driver", cases())
def test_status_and_output_are_the_commands(fake_nvml: FakeNvml, driver: str) -> None:
    bare = finish(COMMAND, data=DATA)
    begun = time.monotonic()
    done = run(fake_nvml, driver, COMMAND)
    took_s = time.monotonic() - begun
    assert (done.returncode, done.stdout, not_ours(done.stderr)) == (7, bare.stdout, bare.stderr)
    assert took_s < 0.6 + GRACE_S


@pytest.mark.parametrize("driver", ["hangs in mid-run", "hangs at open", "all lost"])
def test_death_by_signal_is_the_commands(fake_nvml: FakeNvml, driver: str) -> None:
    done = run(fake_nvml, driver, ["sh", "-c", "sleep 0.5; kill -TERM $$"])
    assert done.returncode == -signal.SIGTERM


@pytest.mark.parametrize("driver", ["hangs at start", "hangs in mid-run", "slow samples"])
def test_a_short_command_waits_for_no_driver(fake_nvml: FakeNvml, driver: str) -> None:
    begun = time.monotonic()
    assert run(fake_nvml, driver, ["true"]).returncode == 0
    assert time.monotonic() - begun < GRACE_S < TIMEOUT_S
