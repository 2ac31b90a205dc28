"""Runs under a site's and a user's hardware models: what they change, and that they never hurt the command."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.build import FakeNvml, fake_nvml
from tests.process.harness import PROGRAM, environment, finish

__all__ = ["fake_nvml"]

OVERLAY = """
extends = "gh200-96"
[source.docs]
title = "Site documentation"
where = "power of a module"
read = "2026-08"
[power]
module_cap_w = { value = 645, unit = "W", kind = "datasheet", uncertainty_frac = 0.02, source = "docs" }
"""


def run(fake: FakeNvml, tmp_path: Path, *command: str, script: str = "", **added: str) -> tuple[int, str, Any]:
    fakes = fake.environment("gh200", extra=script)
    wanted = {name: fakes[name] for name in ("LD_LIBRARY_PATH", "FAKE_NVML_SCRIPT")}
    options = ("--out", str(tmp_path / "run"), "--json", str(tmp_path / "s.json"))
    patient = {"XDG_CONFIG_HOME": "", "HOME": str(tmp_path), "SATSCORE_EXIT_WAIT_S": "60"}
    env = environment(**(patient | wanted | added))
    done = finish([*PROGRAM, *options, "--", *command], cwd=tmp_path, env=env)
    return done.returncode, done.stderr.decode(), json.loads((tmp_path / "s.json").read_text())


def test_a_sites_cap_is_in_force_recorded_and_the_same_in_the_report(fake_nvml, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "gh200-96.toml").write_text(OVERLAY)
    status, text, summary = run(fake_nvml, tmp_path, "sleep", "3", SATSCORE_HWMODELS=str(site))
    assert status == 0
    gpu = summary["ranks"][0]["gpus"][0]
    assert gpu["rates"]["power_limit_module_w"] == pytest.approx(645)
    assert "module cap 645 W (site)" in text
    [cap] = [row for row in gpu["bounds"] if row["role"] == "cap"]
    assert cap["source"] == "Site documentation, power of a module, 2026-08"
    # Elsewhere, without the site's folder: the cap is the recording's.
    elsewhere = environment(SATSCORE_MODULE_CAP_W="500", HOME=str(tmp_path))
    report = finish([*PROGRAM, "report", str(tmp_path / "run")], env=elsewhere)
    assert report.returncode == 0
    assert report.stdout.decode().strip() == text.strip()


def test_broken_folders_files_and_values_cost_neither_score_nor_status(fake_nvml, tmp_path):
    user = tmp_path / ".config" / "satscore" / "hwmodels"
    user.mkdir(parents=True)
    (user / "gh200-96.toml").write_text(OVERLAY.replace("gh200-96", "gh200-69"))
    (user / "mine.toml").write_text("[[[")
    added = {"SATSCORE_HWMODELS": "/does/not/exist", "SATSCORE_MODULE_CAP_W": "many"}
    status, _, summary = run(fake_nvml, tmp_path, "sh", "-c", "sleep 3; exit 7", **added)
    assert status == 7
    assert summary["job"]["score"]["score_pct"] is not None
    assert summary["ranks"][0]["gpus"][0]["model_id"] == "gh200-96"
    notes = "\n".join(summary["notes"])
    assert "SATSCORE_HWMODELS: /does/not/exist: cannot be read" in notes
    assert f"left out: {user}/gh200-96.toml: extends: there is no other model 'gh200-69'; nearest is 'gh200-" in notes
    assert f"left out: {user}/mine.toml: is not TOML" in notes
    assert "SATSCORE_MODULE_CAP_W='many' is ignored" in notes


def test_an_unknown_gpu_is_told_the_folder_that_is_read(fake_nvml, tmp_path):
    remedy = f"add x900.toml to {tmp_path}/elsewhere/satscore/hwmodels (docs/hwmodels.md)"
    elsewhere = {"HOME": "/nowhere", "XDG_CONFIG_HOME": str(tmp_path / "elsewhere")}
    status, text, summary = run(fake_nvml, tmp_path, "sleep", "3", script="set * name NVIDIA X900", **elsewhere)
    assert status == 0
    assert remedy in summary["headline"]["reason"]
    assert remedy in summary["ranks"][0]["gpus"][0]["model_note"]
    assert "".join(remedy.split()) in "".join(text.split())
    report = finish([*PROGRAM, "report", str(tmp_path / "run")], env=environment(**elsewhere))
    assert "".join(remedy.split()) in "".join(report.stdout.decode().split())
