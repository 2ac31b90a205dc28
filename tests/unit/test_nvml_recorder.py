"""The recorder of tests/hardware makes scripts from which the fake answers as the recorded node did."""

import subprocess
import sys

import pytest

from tests.fakes.build import ROOT, FakeNvml, fake_nvml

__all__ = ["fake_nvml"]

READ = "c = FakeClock(); s = open_gpm(c); emit([run(s, c, 3), s.labels()])"


@pytest.mark.parametrize("script", ["h200_llm", "gh200"])
def test_a_recorded_fake_answers_as_the_fake(fake_nvml: FakeNvml, script, tmp_path):
    out = tmp_path / "node.script"
    command = [sys.executable, str(ROOT / "tests/hardware/record_nvml.py"), "--seconds", "1", "--out", str(out)]
    subprocess.run(command, env=fake_nvml.environment(script), check=True, capture_output=True)
    first, labels = fake_nvml.run(READ, script)
    again, labels_again = fake_nvml.run(READ, "", extra=out.read_text())
    assert labels_again == labels
    assert len(again) == len(first)
    for a, b in zip(first, again, strict=True):
        assert a["q"] == b["q"]
        assert b["v"] == pytest.approx(a["v"], rel=5e-2, abs=1e-2)  # rates over 0.2 s: as exact as the machine is quiet
