"""The hardware validation without a GPU: what the numbers decide, and how they are made from readings."""

from typing import Any

import msgspec
import pytest

from satscore.core.gpu import GpuInfo
from satscore.run.models import load_library
from tests.hardware.validation.analysis import Measured, Peaks, clip, field_means, measure, peaks_of
from tests.hardware.validation.checks import Check, between, checks_of, near, tile_waste, verdict_of
from tests.hardware.validation.decide import GainReading, GemmReading, decide_r1, decide_r5, fit_gains
from tests.hardware.validation.results import Item, decide
from tests.unit.scenes import E1, IDLE, NS, series

PEAK = 989.43e12
PEAKS = Peaks(
    model_id="h200-sxm",
    tensor_flops_s={"bf16": PEAK, "fp16": PEAK, "tf32": PEAK / 2, "fp8": 2 * PEAK},
    vector_flops_s={"fp32": 66.9e12, "fp16": 133.8e12, "fp64": 33.45e12},
    dram_bytes_s=4.8e12,
    rated_clock_mhz=1830.0,
)
H200 = GpuInfo(index=0, uuid="GPU-1", name="NVIDIA H200", model_hint="h200-sxm", power_limit_gpu_w=700.0)
RANDOM = GemmReading(flops_share=788 / 989.43, tensor_active_frac=0.835, sm_clock_mhz=1745)


def measured(**changes: Any) -> Measured:
    blank = Measured(
        fields={},
        score_pct=50.0,
        score_hi_pct=None,
        score_attainable_pct=None,
        score_hpc_pct=None,
        tensor_score_pct=None,
        tensor_score_capped_pct=None,
        saturation={},
        loss_points={"idle_short": 50.0},
        gamma=None,
        findings=[],
        readings_count=10,
        coverage_frac=1.0,
    )
    return msgspec.structs.replace(blank, **changes)


# --- R1 --------------------------------------------------------------------------------------------


def test_r1_without_a_cap_x_reads_0_835_in_both() -> None:
    zeros = GemmReading(flops_share=894 / 989.43, tensor_active_frac=0.835, sm_clock_mhz=1980)
    verdict = decide_r1(RANDOM, zeros)
    assert verdict.verdict == "no_clock_cap"
    assert verdict.tensor_clock_cap_mhz is None
    assert verdict.numbers["zeros_tensor_score"] == pytest.approx(90.34, abs=0.01)


def test_r1_with_a_cap_x_reads_0_904_and_t_97_8() -> None:
    zeros = GemmReading(flops_share=894 / 989.43, tensor_active_frac=0.904, sm_clock_mhz=1980)
    verdict = decide_r1(RANDOM, zeros)
    assert verdict.verdict == "tensor_clock_cap"
    assert verdict.tensor_clock_cap_mhz == 1830.0
    assert verdict.numbers["zeros_tensor_score"] == pytest.approx(97.8, abs=0.05)


@pytest.mark.parametrize("x", [0.87, 0.80, 0.95])
def test_r1_is_undecided_between_and_outside_the_answers_and_says_the_numbers(x: float) -> None:
    verdict = decide_r1(RANDOM, GemmReading(flops_share=894 / 989.43, tensor_active_frac=x, sm_clock_mhz=1980))
    assert verdict.verdict == "undecided"
    assert verdict.numbers["zeros_x"] == x
    assert {"zeros_ratio_if_free", "zeros_ratio_if_capped", "random_ratio_if_free"} <= verdict.numbers.keys()


def test_r1_is_undecided_if_the_counter_has_a_gain_of_its_own() -> None:
    zeros = GemmReading(flops_share=894 / 989.43, tensor_active_frac=0.835, sm_clock_mhz=1980)
    off = GemmReading(flops_share=788 / 989.43, tensor_active_frac=0.78, sm_clock_mhz=1745)
    assert decide_r1(off, zeros).verdict == "undecided"


def test_r1_needs_zeros_above_the_rated_clock() -> None:
    verdict = decide_r1(RANDOM, GemmReading(flops_share=0.8, tensor_active_frac=0.8, sm_clock_mhz=1830))
    assert verdict.verdict == "undecided"
    assert "1830 MHz" in verdict.reason


def test_r1_needs_both_loads() -> None:
    assert "zeros" in decide_r1(RANDOM, None).reason
    assert decide_r1(None, None).numbers == {}


def test_r1_holds_for_any_efficiency_of_the_kernel() -> None:
    for efficiency in (0.6, 0.75, 0.93):
        random = GemmReading(flops_share=efficiency * 1700 / 1830, tensor_active_frac=efficiency, sm_clock_mhz=1700)
        free = GemmReading(flops_share=efficiency * 1980 / 1830, tensor_active_frac=efficiency, sm_clock_mhz=1980)
        capped = GemmReading(flops_share=efficiency, tensor_active_frac=efficiency, sm_clock_mhz=1980)
        assert decide_r1(random, free).verdict == "no_clock_cap"
        assert decide_r1(random, capped).verdict == "tensor_clock_cap"


# --- R3, R4, R5 ------------------------------------------------------------------------------------


def gain(workload: str, resource: str, counted: float, read: float) -> GainReading:
    return GainReading(workload=workload, resource=resource, counted_share=counted, read_share=read)


def test_a_counter_that_reads_what_was_counted_has_gain_1() -> None:
    fits = fit_gains([gain("V5:copy", "dram", 0.896, 0.90), gain("V5:sum", "dram", 0.93, 0.925)])
    assert [(fit.check, fit.verdict) for fit in fits] == [("R4", "gain_is_1")]


def test_a_field_that_reads_half_gets_a_candidate() -> None:
    (fit,) = fit_gains([gain("V4:fp32", "fp32", 0.96, 0.48)])
    assert (fit.check, fit.verdict, fit.kappa) == ("R3", "candidate", 0.5)
    assert "counter_gain.fp32 = 0.500" in fit.reason


def test_loads_that_disagree_decide_no_gain() -> None:
    (fit,) = fit_gains([gain("V5:copy", "dram", 0.9, 0.99), gain("V5:sum", "dram", 0.9, 0.9)])
    assert fit.verdict == "undecided"
    assert fit.spread == pytest.approx(0.1)


def test_a_load_far_from_its_peak_says_nothing_about_the_gain() -> None:
    (fit,) = fit_gains([gain("V4:fp64", "fp64", 0.1, 0.3)])
    assert (fit.verdict, fit.kappa, fit.gains) == ("undecided", None, {})


@pytest.mark.parametrize(
    ("gap", "launch", "expected"),
    [
        (0.5, 0.52, "drops_between_kernels"),
        (0.52, 1.0, "drops_in_long_gaps_only"),
        (1.0, 1.0, "stays_between_kernels"),
        (0.5, 0.8, "undecided"),
        (0.7, 0.5, "undecided"),
    ],
)
def test_r5_tells_what_engine_active_reads_between_kernels(gap: float, launch: float, expected: str) -> None:
    verdict = decide_r5(gap_busy=0.5, gap_engine=gap, launch_busy=0.5, launch_engine=launch)
    assert verdict.verdict == expected


def test_r5_needs_its_loads_and_gaps() -> None:
    missing = decide_r5(gap_busy=0.5, gap_engine=0.5, launch_busy=None, launch_engine=None)
    assert "launch_busy" in missing.reason
    full = decide_r5(gap_busy=0.5, gap_engine=0.5, launch_busy=0.97, launch_engine=1.0)
    assert full.verdict == "undecided"


# --- checks ----------------------------------------------------------------------------------------


def verdicts(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.verdict for check in checks}


STEADY: dict[str, float | str] = {"gpu_s": 10.0, "wall_s": 10.0}


def test_a_check_without_numbers_is_inconclusive_never_passed() -> None:
    assert near("x", None, 1.0, 0.1).verdict == "inconclusive"
    assert near("x", 1.0, None, 0.1).verdict == "inconclusive"
    assert between("x", 1.0, None, None).verdict == "inconclusive"
    assert near("x", 1.05, 1.0, 0.1).verdict == "pass"
    assert near("x", 1.2, 1.0, 0.1).verdict == "fail"


def test_a_guard_that_fails_makes_a_load_inconclusive_not_wrong() -> None:
    wrong, guard = near("x", 2.0, 1.0, 0.1), between("coverage", 0.5, 0.95, None, guard=True)
    assert verdict_of([wrong]) == "fail"
    assert verdict_of([wrong, guard]) == "inconclusive"


def test_v0_holds_t_against_counted_flop() -> None:
    truth = STEADY | {"flop_s": 788e12, "dtype": "bf16"}
    good = checks_of("V0:random", truth, measured(tensor_score_pct=79.6), PEAKS)
    bad = checks_of("V0:random", truth, measured(tensor_score_pct=82.0), PEAKS)
    assert verdict_of(good) == "pass"
    assert verdict_of(bad) == "fail"
    assert verdict_of(checks_of("V0:random", truth, measured(tensor_score_pct=79.6), None)) == "inconclusive"


def test_v1_uses_the_peak_of_the_dtype_and_allows_for_tiles() -> None:
    truth = STEADY | {"flop_s": 0.7 * 2 * PEAK, "dtype": "fp8", "n": 8192}
    assert verdict_of(checks_of("V1:fp8-8192", truth, measured(tensor_score_pct=71.5), PEAKS)) == "pass"
    assert verdict_of(checks_of("V1:fp8-8192", truth, measured(tensor_score_pct=73.0), PEAKS)) == "fail"
    odd = STEADY | {"flop_s": 0.7 * PEAK, "dtype": "bf16", "n": 4104}
    assert verdict_of(checks_of("V1:bf16-4104", odd, measured(tensor_score_pct=77.0), PEAKS)) == "pass"


def test_tile_waste_counts_up_to_the_next_tile() -> None:
    assert tile_waste(8192, (128, 256)) == 1.0
    assert tile_waste(4104, (128, 256)) == pytest.approx(4224 * 4352 / 4104**2)


def test_v4_and_v5_hold_the_raw_fraction_against_the_counted_one() -> None:
    fma = checks_of(
        "V4:fp32", STEADY | {"flop_s": 63e12}, measured(saturation={"fp32": 0.93}, tensor_score_pct=0.0), PEAKS
    )
    assert verdict_of(fma) == "pass"
    copy = checks_of("V5:copy", STEADY | {"bytes_s": 4.3e12}, measured(saturation={"dram": 0.95}), PEAKS)
    assert verdicts(copy)["dram_saturation_pct"] == "fail"


def test_v7_holds_idle_against_the_counted_pause_and_gamma_against_the_period() -> None:
    truth = STEADY | {"flop_s": 0.4 * PEAK, "dtype": "bf16", "busy_frac": 0.5}
    values = measured(tensor_score_pct=40.5, loss_points={"idle_long": 48.0, "clock_power": 2.0}, gamma=0.9)
    assert verdicts(checks_of("V7:50-2000ms", truth, values, PEAKS))["gamma"] == "pass"
    assert verdicts(checks_of("V7:50-20ms", truth, values, PEAKS))["gamma"] == "fail"
    assert verdict_of(checks_of("V7:50-200ms", truth, values, PEAKS)) == "pass"


def test_v8_wants_the_loss_and_in_the_loop_the_finding() -> None:
    lost = measured(loss_points={"idle_short": 30.0, "grid": 65.0}, score_pct=5.0, findings=["HOST_GAPS"])
    assert verdict_of(checks_of("V8:loop", STEADY, lost, PEAKS)) == "pass"
    silent = msgspec.structs.replace(lost, findings=[])
    assert verdict_of(checks_of("V8:loop", STEADY, silent, PEAKS)) == "fail"
    assert verdict_of(checks_of("V8:graph", STEADY, silent, PEAKS)) == "pass"


def test_v9_spinning_is_not_saturation() -> None:
    spin = measured(fields={"sm_active_frac": 0.125}, score_pct=1.0, loss_points={"wait": 99.0})
    assert verdict_of(checks_of("V9:16", STEADY | {"sm_frac": 16 / 132}, spin, PEAKS)) == "pass"
    busy = measured(fields={"sm_active_frac": 0.125}, score_pct=12.0, loss_points={"wait": 88.0})
    assert verdict_of(checks_of("V9:16", STEADY | {"sm_frac": 16 / 132}, busy, PEAKS)) == "fail"


@pytest.mark.parametrize(("score", "expected"), [(39.0, "fail"), (44.0, "pass"), (55.0, "fail")])
def test_training_t_is_at_least_mfu_and_not_far_above(score: float, expected: str) -> None:
    truth = STEADY | {"flop_s": 0.40 * PEAK, "attention_flop_s": 0.03 * PEAK, "dtype": "bf16"}
    assert verdict_of(checks_of("TRAIN:gpt", truth, measured(tensor_score_pct=score), PEAKS)) == expected


def test_a_tree_that_does_not_add_up_fails() -> None:
    off = measured(tensor_score_pct=79.6, loss_points={"idle_short": 49.0})
    checks = checks_of("V0:random", STEADY | {"flop_s": 788e12, "dtype": "bf16"}, off, PEAKS)
    assert verdicts(checks)["score_and_losses"] == "fail"


# --- readings --------------------------------------------------------------------------------------


def test_clip_keeps_means_and_shrinks_amounts() -> None:
    table = series([(1.0, {**E1, "energy_gpu_j": 700.0})] * 4)
    part = clip(table, round(0.5 * NS), round(2.5 * NS))
    assert (part.end_ns - part.start_ns).tolist() == [NS // 2, NS, NS // 2]
    means = field_means(part)
    assert means["energy_gpu_j"] == pytest.approx(1400.0)
    assert means["tensor_active_frac"] == pytest.approx(0.835)
    assert means["temp_gpu_c"] is None
    assert len(clip(table, 10 * NS, 11 * NS)) == 0


def test_measure_scores_only_the_measured_part() -> None:
    table = series([(0.5, IDLE)] * 6 + [(0.2, E1)] * 50 + [(0.5, IDLE)] * 6)
    found = measure(table, H200, load_library({}).models, window=(4 * NS, 12 * NS), grid_offset_ns=0)
    assert found.score_pct == pytest.approx(79.6216, abs=1e-3)
    assert found.tensor_score_pct == pytest.approx(79.6216, abs=1e-3)
    assert found.coverage_frac == pytest.approx(1.0)
    assert found.loss("idle") == pytest.approx(0.0)
    assert (found.score_pct or 0.0) + (found.loss("") or 0.0) == pytest.approx(100.0, abs=1e-3)


def test_measure_shows_t_under_a_clock_cap_beside_t() -> None:
    table = series([(0.2, {**E1, "f": 1980})] * 50)
    found = measure(table, H200, load_library({}).models, window=(0, 10 * NS), grid_offset_ns=0)
    assert found.tensor_score_pct == pytest.approx(90.3443, abs=1e-3)
    assert found.tensor_score_capped_pct == pytest.approx(83.5, abs=1e-3)


def test_measure_without_readings_or_model_is_unknown_not_zero() -> None:
    empty = measure(series([]), H200, load_library({}).models, window=(0, NS), grid_offset_ns=0)
    assert (empty.score_pct, empty.tensor_score_pct, empty.coverage_frac) == (None, None, 0.0)
    stranger = GpuInfo(index=0, name="NVIDIA X1")
    found = measure(series([(0.2, E1)] * 20), stranger, load_library({}).models, window=(0, 4 * NS), grid_offset_ns=0)
    assert found.tensor_score_pct is None
    assert found.field("tensor_active_frac") == pytest.approx(0.835)
    assert peaks_of(load_library({}).models, stranger)[0] is None


def test_the_peaks_come_from_the_hardware_model() -> None:
    peaks, _ = peaks_of(load_library({}).models, H200)
    assert peaks is not None
    assert peaks.tensor_flops_s["bf16"] == pytest.approx(989.43e12, rel=1e-4)
    assert peaks.vector_flops_s["fp32"] == pytest.approx(66.9e12, rel=1e-3)


def test_only_items_whose_conditions_held_decide() -> None:
    def item(name: str, x: float, f: float, share: float, coverage: float) -> Item:
        values = measured(fields={"tensor_active_frac": x, "sm_clock_mhz": f}, coverage_frac=coverage)
        truth: dict[str, float | str] = {**STEADY, "flop_s": share * PEAK, "dtype": "bf16"}
        checks = checks_of(name, truth, values, PEAKS)
        return Item(name=name, what="", status="fail", truth=truth, measured=values, checks=checks)

    random, zeros = item("V0:random", 0.835, 1745, 0.7962, 1.0), item("V0:zeros", 0.835, 1980, 0.9034, 1.0)
    assert decide([random, zeros], PEAKS).r1.verdict == "no_clock_cap"
    gappy = item("V0:zeros", 0.835, 1980, 0.9034, 0.5)
    assert decide([random, gappy], PEAKS).r1.reason == "not measured: zeros"
