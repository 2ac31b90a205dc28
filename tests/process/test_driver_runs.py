"""Whole runs on the driver library's fake: what a user of a real node would see."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.fakes.build import FakeNvml, fake_nvml
from tests.process.harness import PATIENT, PROGRAM, ROOT, environment, finish, sampled

__all__ = ["fake_nvml"]

SCHEMA = json.loads((ROOT / "docs" / "summary.schema.json").read_text())


SLEEP = sampled(1.5)


def run(
    fake: FakeNvml, tmp_path: Path, script: str, *options: str, extra: str = "", command=SLEEP, **added: str
) -> tuple[str, Any]:
    """Run a command on a fake driver; return the printed text and the summary."""
    fakes = fake.environment(script, extra=extra)
    wanted = {name: fakes[name] for name in ("LD_LIBRARY_PATH", "FAKE_NVML_SCRIPT")}
    target = tmp_path / "s.json"
    done = finish(
        [*PROGRAM, *options, "--json", str(target), "--", *command],
        cwd=tmp_path,
        env=environment(**wanted, **PATIENT, **added),
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
    assert [gpu["nvml_index"] for gpu in summary["ranks"][0]["gpus"]] == [1, 3]


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


# --- the end of the command is the end of what is scored


def test_a_command_too_short_for_two_reads_has_no_score(fake_nvml, tmp_path):
    text, summary = run(fake_nvml, tmp_path, "h200_llm", "--source", "gpm", command=["true"])
    assert summary["headline"]["score_pct"] is None
    assert "shorter than two reads" in summary["headline"]["reason"]
    assert "shorter than two reads" in text
    assert summary["run"]["observed_s"] == 0
    assert summary["run"]["duration_s"] < 0.5


def test_no_time_after_the_end_is_scored_although_the_last_read_is_slow(fake_nvml, tmp_path):
    slow = "slow nvmlGpmSampleGet 250"
    _, summary = run(fake_nvml, tmp_path, "h200_llm", extra=slow, command=sampled(1.4))
    assert 0.5 < summary["run"]["observed_s"] <= summary["run"]["duration_s"] < 2.5


def test_a_driver_that_hangs_costs_coverage(fake_nvml, tmp_path):
    extra = "hang nvmlGpmSampleGet from 1.0"
    text, summary = run(fake_nvml, tmp_path, "h200_llm", "--out", "run", extra=extra, command=sampled(4))
    score = summary["job"]["score"]
    assert score["coverage_frac"] < 0.4
    assert score["score_pct"] is None
    assert score["score_min_pct"] + 50 < score["score_max_pct"]
    assert any("did not answer the last read" in note for note in summary["notes"])
    report = finish([*PROGRAM, "report", "run"], cwd=tmp_path)
    assert report.stdout.decode().strip() == text.strip()


def test_a_driver_that_hangs_only_while_it_closes_has_answered(fake_nvml, tmp_path):
    _, summary = run(fake_nvml, tmp_path, "h200_llm", extra="hang nvmlShutdown")
    assert summary["job"]["score"]["coverage_frac"] == 1.0
    assert not any("did not answer" in note for note in summary["notes"])


# --- why there is no score


@pytest.mark.parametrize(
    ("source", "reason"), [("nvml", "source nvml reads no pipe counters"), ("auto", "GPM is not supported")]
)
def test_the_reason_is_the_sources_and_not_just_any_note(fake_nvml, tmp_path, source, reason):
    _, summary = run(fake_nvml, tmp_path, "a100", "--source", source, CUDA_VISIBLE_DEVICES="0,MIG-1")
    assert summary["headline"]["reason"].startswith(reason)
    assert any("MIG slice" in note for note in summary["notes"])
