"""What the host did, in whole runs on the driver library's fake: recorded, reported again, or not at all."""

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.build import FakeNvml, fake_nvml
from tests.process.harness import PATIENT, PROGRAM, environment, finish, sampled
from tests.process.replays import report, summary_in

__all__ = ["fake_nvml"]

BUSY = "import time; end = time.monotonic() + 2.5\nwhile time.monotonic() < end: sum(range(10000)); time.sleep(0.01)"

COST = """
import sys
from satscore.run.own_cost import peak_rss_bytes
loaded = set(sys.modules)
assert peak_rss_bytes() > 1e6
print(*sorted(set(sys.modules) - loaded))
"""


def run(fake: FakeNvml, directory: Path, *options: str, command: list[str], **added: str) -> Any:
    fakes = fake.environment("gh200")
    wanted = {name: fakes[name] for name in ("LD_LIBRARY_PATH", "FAKE_NVML_SCRIPT")}
    words = [*PROGRAM, *options, "--out", str(directory), "--", *command]
    done = finish(words, env=environment(**wanted, **PATIENT, **added))
    assert done.returncode == 0, done.stderr
    return summary_in(directory)


@pytest.mark.parametrize("how", ["full", "sums"])
def test_a_report_knows_of_the_host_what_the_run_did(fake_nvml, tmp_path, how):
    live = run(fake_nvml, tmp_path / "run", "--record", how, command=[sys.executable, "-I", "-S", "-c", BUSY])
    again = report(tmp_path / "run")
    assert live["job"]["host"]["command_cpu_cores"] > 0
    assert live["job"]["host"]["missing"].keys() <= {f"pressure_{what}_frac" for what in ("cpu", "io", "memory")}
    assert again["job"] == live["job"]
    assert again["notes"] == live["notes"]


def test_a_run_too_short_for_a_reading_is_reported_alike(fake_nvml, tmp_path):
    live = run(fake_nvml, tmp_path / "run", command=["sleep", "0.8"])
    assert report(tmp_path / "run")["job"] == live["job"]


def test_where_nothing_is_recorded_the_host_is_evidence_all_the_same(fake_nvml, tmp_path):
    live = run(fake_nvml, tmp_path / "run", "--record", "no", command=sampled(2.5))
    assert live["job"]["host"]["cpu_busy_frac"] is not None
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["run.json", "summary.json"]


def test_a_command_that_ends_at_once_is_no_news(fake_nvml, tmp_path):
    live = run(fake_nvml, tmp_path / "run", command=["true"])
    assert not [note for note in live["notes"] if "/proc/" in note]


def test_what_satscore_itself_costs_is_known_without_an_import():
    """At the end of a run the file system that holds Python may hang."""
    done = finish([sys.executable, "-c", COST])
    assert (done.stdout, done.stderr) == (b"\n", b"")
