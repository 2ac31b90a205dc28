"""The hardware validation's loads without a GPU: the plan, the kernels' text, and how work is counted."""

from dataclasses import dataclass

import pytest

from tests.hardware.validation import duty, steady
from tests.hardware.validation.plan import PLAN, select
from tests.hardware.validation.ptx import CHAINS, KINDS, SPIN_PTX, UNROLL, flop_per_round, fma_ptx
from tests.hardware.validation.steady import Timing
from tests.hardware.validation.training import Shape

NS = 1_000_000_000


def test_selection_by_case_and_by_name() -> None:
    assert [w.name for w in select(["V0"], quick=False)] == ["V0:random", "V0:zeros"]
    assert [w.name for w in select(["V1:tf32-256", "V9:1"], quick=True)] == ["V1:tf32-256", "V9:1"]
    assert len(select([], quick=True)) < len(select([], quick=False)) == len(PLAN)
    assert {w.case for w in select([], quick=True)} == {w.case for w in PLAN}
    with pytest.raises(ValueError, match="no case or workload 'V3'"):
        select(["V3"], quick=False)


def test_the_plan_fits_into_ten_minutes_and_quick_into_five() -> None:
    assert sum(w.estimate_s(quick=False) for w in select([], quick=False)) <= 570
    assert sum(w.estimate_s(quick=True) for w in select([], quick=True)) <= 270


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_multiply_add_kernel_has_exactly_the_instructions_that_are_counted(kind: str) -> None:
    text = fma_ptx(kind)
    assert text.count(KINDS[kind].instruction) == CHAINS * UNROLL
    assert flop_per_round(kind) == CHAINS * UNROLL * KINDS[kind].flop
    loop = text[text.index("ROUND:") : text.index("@%p bra ROUND;")]
    assert loop.count(";") == CHAINS * UNROLL + 2
    assert text.isascii()
    assert "%globaltimer" in SPIN_PTX


def test_the_training_count_is_six_n_per_token() -> None:
    shape = Shape(layers=2, width=64, heads=4, vocabulary=100, sequence=16, batch=2)
    assert shape.matmul_parameters == 12 * 2 * 64**2 + 100 * 64
    assert shape.flop_6n() == 6 * shape.matmul_parameters * 32
    assert shape.flop_attention() == 12 * 2 * 64 * 16 * 32


@dataclass
class FakeGpu:
    """A GPU in virtual time: steps queue up one after the other; launching and waiting take time."""

    step_ns: int
    launch_ns: int = 5_000
    now_ns: int = 1_000_000
    free_ns: int = 0

    def step(self) -> None:
        self.now_ns += self.launch_ns
        self.free_ns = max(self.free_ns, self.now_ns) + self.step_ns

    def monotonic_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += max(1, round(seconds * NS))

    def synchronize(self) -> None:
        self.now_ns = max(self.now_ns, self.free_ns)

    def Event(self, *, enable_timing: bool, blocking: bool) -> "FakeEvent":  # noqa: N802 - torch's name
        assert enable_timing
        assert blocking
        return FakeEvent(self)


class FakeEvent:
    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu = gpu
        self.at_ns = 0

    def record(self) -> None:
        self.at_ns = max(self.gpu.now_ns, self.gpu.free_ns)

    def synchronize(self) -> None:
        self.gpu.now_ns = max(self.gpu.now_ns, self.at_ns)

    def elapsed_time(self, other: "FakeEvent") -> float:
        return (other.at_ns - self.at_ns) / 1e6


@pytest.mark.parametrize(("step_ns", "rate"), [(1_000_000, 1000.0), (1_000, 1e9 / 5_000)])
def test_a_steady_load_is_counted_by_events(monkeypatch: pytest.MonkeyPatch, step_ns: int, rate: float) -> None:
    gpu = FakeGpu(step_ns)
    monkeypatch.setattr(steady, "time", gpu)
    window = steady.run_steady(gpu, gpu.step, Timing(warm_s=1.0, seconds=3.0, tail_s=0.5))
    assert float(window.truth(flop=2.0)["flop_s"]) == pytest.approx(2 * rate, rel=0.01)
    assert window.gpu_s == pytest.approx(window.wall_s, rel=0.01)
    assert 3.0 <= window.wall_s < 3.1
    assert window.start_ns >= 1.0 * NS
    assert gpu.now_ns >= window.end_ns + NS // 2


@pytest.mark.parametrize("percent", [25, 50, 75])
@pytest.mark.parametrize("period_s", [2.0, 0.2, 0.02])
def test_a_duty_cycle_is_counted_over_whole_periods(
    monkeypatch: pytest.MonkeyPatch, percent: int, period_s: float
) -> None:
    gpu = FakeGpu(200_000)
    monkeypatch.setattr(steady, "time", gpu)
    monkeypatch.setattr(duty, "time", gpu)
    timing = Timing(warm_s=1.0, seconds=6.0, tail_s=0.5)
    window, truth = duty.run_duty(gpu, gpu.step, duty_frac=percent / 100, period_s=period_s, timing=timing)
    assert truth["busy_frac"] == pytest.approx(percent / 100, abs=0.02)
    assert truth["overruns"] == 0
    assert window.wall_s == pytest.approx(6.0, abs=0.05)
    assert window.steps * 200e-6 / window.wall_s == pytest.approx(percent / 100, abs=0.02)
