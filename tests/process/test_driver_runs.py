"""Whole runs on the driver library's fake: what a user of a real node would see."""

import json
from pathlib import Path

import jsonschema
import pytest

from tests.fakes.build import FakeNvml, fake_nvml
from tests.process.harness import PROGRAM, ROOT, environment, finish

__all__ = ["fake_nvml"]

SCHEMA = json.loads((ROOT / "docs" / "summary.schema.json").read_text())


def run(fake: FakeNvml, tmp_path: Path, script: str, *options: str, extra: str = "", **added: str):
    """Run a command of 1.5 s on a fake driver; return the printed text and the summary."""
    fakes = fake.environment(script, extra=extra)
    wanted = {name: fakes[name] for name in ("LD_LIBRARY_PATH", "FAKE_NVML_SCRIPT")}
    target = tmp_path / "s.json"
    done = finish(
        [*PROGRAM, *options, "--json", str(target), "--", "sleep", "1.5"],
        cwd=tmp_path,
        env=environment(**wanted, **added),
    )
    assert done.returncode == 0
    summary = json.loads(target.read_text())
    jsonschema.validate(summary, SCHEMA)
    return done.stderr.decode(), summary


def test_plain_run_scores_through_gpm(fake_nvml, tmp_path):
    text, summary = run(fake_nvml, tmp_path, "h200_llm")
    assert summary["data_kind"] == "measured"
    assert "SIMULATED" not in text
    assert summary["source"]["name"] == "gpm"
    gpu = summary["ranks"][0]["gpus"][0]
    assert gpu["model_id"] == "h200-sxm"
    assert summary["job"]["score"]["grade"] == "B"
    assert summary["job"]["score"]["coverage_frac"] == 1.0
    rates, score = gpu["rates"], gpu["score"]
    expected = 100 * rates["tensor_active_frac"] * rates["sm_clock_mhz"] / 1830
    assert score["tensor_score_pct"] == pytest.approx(expected, rel=0.02)
    assert "saturation" in text


def test_superchip_has_both_power_scopes_and_its_own_model(fake_nvml, tmp_path):
    _, summary = run(fake_nvml, tmp_path, "gh200")
    gpu = summary["ranks"][0]["gpus"][0]
    assert gpu["model_id"] == "gh200-96"
    assert gpu["rates"]["power_module_w"] > gpu["rates"]["power_gpu_w"]
    assert gpu["rates"]["power_limit_module_w"] is not None


def test_visible_devices_choose_the_gpus(fake_nvml, tmp_path):
    _, summary = run(fake_nvml, tmp_path, "gh200", CUDA_VISIBLE_DEVICES="1,3")
    uuids = [gpu["uuid"] for gpu in summary["ranks"][0]["gpus"]]
    _, everything = run(fake_nvml, tmp_path, "gh200")
    assert uuids == [everything["ranks"][0]["gpus"][i]["uuid"] for i in (1, 3)]


def test_ampere_has_gauges_and_no_score(fake_nvml, tmp_path):
    text, summary = run(fake_nvml, tmp_path, "a100")
    assert summary["source"]["name"] == "nvml"
    assert summary["job"]["score"]["score_pct"] is None
    assert summary["job"]["score"]["grade"] == "D"
    assert summary["job"]["rates"]["power_gpu_w"] > 0
    assert "DCGM" in text


def test_no_permission_says_so_and_how_to_get_it(fake_nvml, tmp_path):
    text, summary = run(fake_nvml, tmp_path, "h100_no_permission")
    assert summary["headline"]["score_pct"] is None
    assert "permi" in text


def test_gpu_lost_in_mid_run_costs_coverage_not_the_run(fake_nvml, tmp_path):
    _, summary = run(fake_nvml, tmp_path, "gh200", extra="lost 15 from 0.5 gpu 2")
    gpus = summary["ranks"][0]["gpus"]
    assert gpus[2]["score"]["coverage_frac"] < 0.9
    assert gpus[0]["score"]["coverage_frac"] == 1.0
    assert any("lost" in note for note in summary["notes"])


def test_tensor_counter_missing_is_no_score_but_bounds(fake_nvml, tmp_path):
    _, summary = run(fake_nvml, tmp_path, "h200_llm", extra="metric_error 5 3")
    score = summary["job"]["score"]
    assert score["score_pct"] is None
    assert 0 < score["score_min_pct"] < score["score_max_pct"] <= 100


def test_report_of_a_measured_run_is_the_same(fake_nvml, tmp_path):
    text, _ = run(fake_nvml, tmp_path, "gh200", "--out", str(tmp_path / "run"))
    report = finish([*PROGRAM, "report", str(tmp_path / "run")])
    printed = text.replace(str(tmp_path / "run"), "RUN").strip()
    assert report.stdout.decode().replace(str(tmp_path / "run"), "RUN").strip() == printed
