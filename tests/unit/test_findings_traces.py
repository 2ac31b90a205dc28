"""Every rule on two whole simulated runs, read every 0.2 s: one that fires it, one staged just below its threshold."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import pytest

from satscore.core import job_findings
from satscore.core.facts import Facts
from satscore.core.fields import FIELDS, INDEX, Quality
from satscore.core.placement import GpuLooks, Placement
from satscore.core.rank_row import RankName
from satscore.core.readings import BoolArray
from satscore.core.rules import evaluate
from satscore.core.rules_all import RULES
from satscore.core.rules_model import Rule, judge
from satscore.core.summary import FindingItem, NotJudgedItem, Summary
from satscore.counters.sim.cooling import Cooling
from satscore.counters.sim.kernels import (
    ATTN,
    COMM,
    COPY,
    DECODE,
    ELEM,
    FP32,
    GEMM,
    HOST_COMM,
    IDLE,
    LATENCY,
    SMALL_GRID,
    SPIN,
    Segment,
    span,
    work,
)
from satscore.counters.sim.module import CpuLoad
from satscore.counters.sim.scenarios import SCENARIOS
from satscore.counters.sim.workload import Change, Odd, Pause, Phases, Ramp, Scenario, Uneven
from satscore.run.results import summarise
from tests.unit.runs import COMMAND, NS, Run, joined, rows
from tests.unit.sim_runs import run_end, run_file, run_start
from tests.unit.test_job_traces import staged, trace

BY_ID = {rule.id: rule for rule in RULES}
LLM, JOB = SCENARIOS["llm"], SCENARIOS["uneven"]
LAYERS, UPDATE = JOB.own, JOB.common
PIPES = tuple(f.name for f in FIELDS if f.name.endswith("_active_frac") and f.name != "engine_active_frac")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A simulated run with what is changed in its readings, and what is known of its processes."""

    scenario: Scenario
    seconds: int = 60
    changed: Callable[[Run], Run] = field(default=lambda run: run)
    placement: Placement | None = None

    def summary(self) -> Summary:
        run = self.changed(trace(self.scenario, self.seconds).run)
        content = run_file(run_start(COMMAND), run_end(self.seconds, []), placement=self.placement)
        return summarise(content, [(run.header, run.session())], directory=None)


def load(*own: Segment, **changes: object) -> Scenario:
    """Return one GPU that runs the same again and again."""
    return replace(SCENARIOS["gemm"], name="staged", own=own, tick_s=0.005, **changes)  # type: ignore[arg-type]


def steps(*own: Segment, **changes: object) -> Scenario:
    """Return one GPU that trains, each step being this."""
    return replace(LLM, name="staged", own=own, **changes)  # type: ignore[arg-type]


def phased(scenario: Scenario, **phases: object) -> Scenario:
    return replace(scenario, name="staged", phases=Phases(**phases))  # type: ignore[arg-type]


def pausing(every: int) -> Scenario:
    """Return training that stands still for 2.6 s after every so many steps."""
    return phased(LLM, pauses=(Pause(every=every, segments=(span(IDLE, 2.6),)),))


def slower(lost_frac: float) -> Scenario:
    """Return matrix products of which so much turns into gaps after two minutes."""
    fewer = (work(GEMM, 1.0 - lost_frac), span(IDLE, lost_frac))
    return phased(load(work(GEMM, 1.0)), change=Change(step=120, own=fewer, common=()))


def put(name: str, value: float, *, from_s: float, to_s: float) -> Callable[[Run], Run]:
    """Return what sets a counter in the readings that end in a stretch of time."""

    def changed(run: Run) -> Run:
        values = run.table.values.copy()
        values[_within(run, from_s, to_s), INDEX[name]] = value
        return replace(run, table=replace(run.table, values=values))

    return changed


def without(names: Sequence[str], *, to_s: float, has_pipe_counters: bool) -> Callable[[Run], Run]:
    """Return what blanks counters up to a time."""

    def changed(run: Run) -> Run:
        values, quality = run.table.values.copy(), run.table.quality.copy()
        blank = np.ix_(_within(run, 0.0, to_s), np.array([INDEX[name] for name in names]))
        values[blank], quality[blank] = np.nan, Quality.BLANK
        made = msgspec.structs.replace(run.header, has_pipe_counters=has_pipe_counters)
        return Run(header=made, table=replace(run.table, values=values, quality=quality))

    return changed


def preceded(by: Scenario, seconds: float) -> Callable[[Run], Run]:
    """Return what takes the first seconds of a run from another."""

    def changed(run: Run) -> Run:
        other = trace(by, round(seconds) + 1).run
        parts = [rows(other.table, _within(other, 0.0, seconds)), rows(run.table, _within(run, seconds, 1e9))]
        return replace(run, table=joined(parts))

    return changed


def working_for(seconds: float) -> Callable[[Run], Run]:
    """Return what lets the GPU without work do what its neighbour does, for so long."""

    def changed(run: Run) -> Run:
        idle, busy = run.table.of_gpu(0), run.table.of_gpu(1)
        works = _within(run, 40.0, 40.0 + seconds)[run.table.gpu == 0]  # all GPUs are read at the same times
        lent, rest = rows(busy, works), rows(run.table, run.table.gpu != 0)
        return replace(run, table=joined([rows(idle, ~works), replace(lent, gpu=lent.gpu * 0), rest]))

    return changed


def _within(run: Run, from_s: float, to_s: float) -> BoolArray:
    return (run.table.end_ns > from_s * NS) & (run.table.end_ns <= to_s * NS)


def beside_others(share: float) -> Placement:
    """Return what looks told where somebody else was on the GPU for a share of the time."""
    seen = GpuLooks(uuid="SIM-h200-0", nvml_index=0, computes=True, searched=True, judged_ms=60_000)
    return Placement(gpus=(msgspec.structs.replace(seen, shared_ms=round(share * 60_000), company_max_count=1),))


def as_measured(run: Run) -> Run:
    """Return the same as of real GPUs: of simulated ones it is known that nobody else computes there."""
    return replace(run, header=msgspec.structs.replace(run.header, data_kind="measured"))


def scene(name: str, **changes: object) -> Scenario:
    return replace(SCENARIOS[name], **changes)  # type: ignore[arg-type]


MODULE_AND_OWN_LIMIT = CpuLoad((180.0, 60.0, 180.0, 60.0, 180.0, 60.0, 180.0, 60.0, 180.0, 60.0, 60.0, 60.0), 5.0)
"""The module is at its limit for 5 of 12 parts of a minute."""
PAIRS: dict[str, tuple[Stage, Stage]] = {
    "HOST_STALL": (
        Stage(scenario=steps(*LAYERS, *UPDATE, span(IDLE, 0.9))),
        Stage(scenario=steps(*LAYERS, *UPDATE, span(IDLE, 0.36))),
    ),
    "HOST_GAPS": (
        Stage(scenario=load(span(GEMM, 0.07), span(IDLE, 0.03))),
        Stage(scenario=load(span(GEMM, 0.079), span(IDLE, 0.021))),
    ),
    "SMALL_GRID": (
        Stage(scenario=load(span(GEMM, 0.06), span(SMALL_GRID, 0.04))),
        Stage(scenario=load(span(GEMM, 0.073), span(SMALL_GRID, 0.027))),
    ),
    "MEM_HEADROOM": (
        Stage(scenario=scene("decode", memory_used_frac=0.3)),
        Stage(scenario=scene("decode", memory_used_frac=0.52)),
    ),
    "MEMORY_BOUND": (
        Stage(scenario=load(span(COPY, 6.0), span(GEMM, 4.0))),
        Stage(scenario=load(span(COPY, 4.0), span(GEMM, 6.0))),
    ),
    "MEMORY_MIX": (
        Stage(scenario=LLM),
        Stage(scenario=steps(*(work(GEMM, 0.1), work(ATTN, 0.02), work(ELEM, 0.007)) * 20, *UPDATE)),
    ),
    "TENSOR_UNUSED": (
        Stage(scenario=load(span(FP32, 0.05), span(IDLE, 0.15))),
        Stage(scenario=load(span(FP32, 0.042), span(IDLE, 0.158))),
    ),
    "LOW_TENSOR_EFF": (
        Stage(scenario=load(span(DECODE, 0.08), span(GEMM, 0.02))),
        Stage(scenario=load(span(DECODE, 0.06), span(GEMM, 0.04))),
    ),
    "LATENCY_BOUND": (
        Stage(scenario=load(span(LATENCY, 0.08), span(COPY, 0.02))),
        Stage(scenario=load(span(LATENCY, 0.069), span(COPY, 0.031))),
    ),
    "COMM_EXPOSED": (
        Stage(scenario=steps(*LAYERS, work(COMM, 1.05), *UPDATE[1:])),
        Stage(scenario=steps(*LAYERS, work(GEMM, 0.05), *UPDATE)),
    ),
    "NVLINK_UNUSED": (
        Stage(scenario=scene("pcie-comm")),
        Stage(scenario=scene("pcie-comm", common=(work(HOST_COMM, 0.23), *UPDATE[1:]))),
    ),
    "COMM_WAIT": (
        Stage(scenario=load(span(GEMM, 50.0), span(SPIN, 4.0))),
        Stage(scenario=load(span(GEMM, 50.0), span(SPIN, 2.8))),
    ),
    "IMBALANCE": (
        Stage(scenario=staged("uneven", None, uneven=Uneven(work=1.3)), seconds=180),
        Stage(scenario=staged("uneven", None, uneven=Uneven(work=1.18)), seconds=180),
    ),
    "STRAGGLER": (
        Stage(scenario=staged("slow-gpu", Odd(speed=0.9)), seconds=130),
        Stage(scenario=staged("slow-gpu", Odd(speed=0.97)), seconds=130),
    ),
    "OVERLOADED_RANK": (
        Stage(scenario=staged("slow-gpu", Odd(work=1.1)), seconds=130),
        Stage(scenario=staged("slow-gpu", Odd(work=1.03)), seconds=130),
    ),
    "GPU_IDLE_RANK": (
        Stage(scenario=scene("idle-rank"), changed=working_for(2.0)),
        Stage(scenario=scene("idle-rank"), changed=working_for(4.0)),
    ),
    "POWER_CAPPED": (
        Stage(scenario=steps(*LAYERS, *UPDATE, power_limit_w=600.0)),
        Stage(scenario=steps(*LAYERS, *UPDATE, power_limit_w=675.0)),
    ),
    "MODULE_POWER": (
        Stage(scenario=scene("gh200-cpu")),
        Stage(scenario=scene("gh200-cpu", power_limit_w=560.0, cpu=MODULE_AND_OWN_LIMIT)),
    ),
    "THERMAL": (
        Stage(scenario=scene("gemm-hot"), seconds=46),
        Stage(scenario=scene("gemm-hot", cooling=Cooling(ambient_c=43.5, c_per_w=0.1)), seconds=46),
    ),
    "HW_SLOWDOWN": (
        Stage(scenario=scene("gemm"), changed=put("throttle_hw_frac", 0.4, from_s=30.0, to_s=30.2)),
        Stage(scenario=scene("gemm"), changed=put("throttle_hw_frac", 0.25, from_s=30.0, to_s=30.2)),
    ),
    "CLOCK_LOCKED": (
        Stage(scenario=scene("decode", ceiling_mhz=1860.0)),
        Stage(scenario=scene("decode", ceiling_mhz=1890.0)),
    ),
    "PERIODIC_DIPS": (
        Stage(scenario=pausing(26), seconds=300),
        Stage(scenario=pausing(50), seconds=600),
    ),
    "SLOW_START": (
        Stage(scenario=phased(scene("gemm"), prologue=(span(IDLE, 125.0),)), seconds=620),
        Stage(scenario=phased(scene("gemm"), prologue=(span(IDLE, 105.0),)), seconds=620),
    ),
    "NEVER_STEADY": (
        Stage(scenario=phased(LLM, ramp=Ramp(steps=60, gap_s=2.0)), seconds=300),
        Stage(scenario=phased(LLM, ramp=Ramp(steps=45, gap_s=2.0)), seconds=300),
    ),
    "REGIME_CHANGE": (
        Stage(scenario=slower(0.12), seconds=260),
        Stage(scenario=slower(0.09), seconds=260),
    ),
    "GPU_SHARED": (
        Stage(scenario=scene("gemm"), changed=as_measured, placement=beside_others(0.06)),
        Stage(scenario=scene("gemm"), changed=as_measured, placement=beside_others(0.045)),
    ),
    "BOUND_EXCEEDED": (
        Stage(scenario=scene("copy"), seconds=60, changed=put("dram_active_frac", 1.0, from_s=30.0, to_s=31.0)),
        Stage(scenario=scene("copy"), seconds=120, changed=put("dram_active_frac", 1.0, from_s=30.0, to_s=31.0)),
    ),
    "CALIBRATION_STALE": (
        Stage(scenario=scene("gemm"), seconds=90, changed=preceded(scene("gemm-zeros"), 5.0)),
        Stage(scenario=scene("gemm"), seconds=110, changed=preceded(scene("gemm-zeros"), 5.0)),
    ),
    "LINK_DEGRADED": (
        Stage(scenario=scene("narrow-pcie")),
        Stage(scenario=scene("gemm"), changed=put("pcie_lanes_count", 8.0, from_s=30.0, to_s=31.0)),
    ),
    "NO_COUNTERS": (
        Stage(scenario=scene("gemm"), changed=without(PIPES, to_s=60.0, has_pipe_counters=False)),
        Stage(scenario=scene("gemm"), changed=without(PIPES, to_s=27.0, has_pipe_counters=True)),
    ),
}

# --- how near a near miss is, where the rule only counts: what is counted over what it takes to count


def excess(stage: Stage, _: Facts) -> float:
    """Return how much busier the odd rank is than the median rank, over the 3 points that name it."""
    busy = trace(stage.scenario, stage.seconds).busy(0)
    return (max(busy) - statistics.median(busy)) / 0.03


def idle_time(stage: Stage, _: Facts) -> float:
    """Return for which share of the time the GPU was idle, over the 95 % that make it an idle one."""
    run = stage.changed(trace(stage.scenario, stage.seconds).run)
    return float(np.mean(run.table.of_gpu(0).column("engine_active_frac") < 0.02)) / 0.95


def transient(_: Stage, facts: Facts) -> float:
    """Return which share of the run is cut off as warm-up, over the half that is too much."""
    return (facts.job.phase_s["startup"] + facts.job.phase_s["warmup"]) / facts.job.run_s / 0.5


def change(stage: Stage, _: Facts) -> float:
    """Return how much less is done in the second half, over the 10 % of the level that are a change."""
    made = trace(stage.scenario, stage.seconds)
    later = made.shares(stage.seconds // 2, "gemm")[0]
    earlier = 2 * made.shares(0, "gemm")[0] - later
    return (1.0 - later / earlier) / 0.10


COUNTED: dict[str, Callable[[Stage, Facts], float]] = {
    "STRAGGLER": excess,
    "OVERLOADED_RANK": excess,
    "GPU_IDLE_RANK": idle_time,
    "NEVER_STEADY": transient,
    "REGIME_CHANGE": change,
}


def judged(stage: Stage) -> tuple[Summary, Facts, list[Facts]]:
    """Return the summary, the facts of the job that were judged for it, and those of each GPU."""
    seen = list[tuple[Facts, list[Facts]]]()

    def noted(
        rules: Sequence[Rule],
        facts: Facts,
        weight: float = 1.0,
        per_gpu: Sequence[tuple[RankName, Facts, float]] = (),
    ) -> tuple[list[FindingItem], list[NotJudgedItem]]:
        seen.append((facts, [own for _, own, _ in per_gpu]))
        return evaluate(rules, facts, weight, per_gpu)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_findings, "evaluate", noted)
        summary = stage.summary()
    return summary, *seen[-1]


def found(summary: Summary) -> set[str]:
    return {finding.id for finding in summary.findings}


def test_every_rule_has_a_pair():
    assert PAIRS.keys() == BY_ID.keys()


@pytest.mark.parametrize("rule", PAIRS)
def test_it_fires(rule):
    assert rule in found(PAIRS[rule][0].summary())


@pytest.mark.parametrize("rule", PAIRS)
def test_a_near_miss_is_judged_and_not_found(rule):
    """Near: within 20 % of what it takes, as for the live view's relaxed thresholds."""
    stage = PAIRS[rule][1]
    summary, job, gpus = judged(stage)
    assert rule not in found(summary)
    assert rule not in {item.id for item in summary.not_judged}
    if rule in COUNTED:
        assert 0.8 <= COUNTED[rule](stage, job) < 1.0
    else:
        places = gpus if BY_ID[rule].scope == "gpu" else [job]
        assert any(judge(BY_ID[rule], facts, near=True).way for facts in places)


def shown(summary: Summary, rule: str) -> dict[str, float]:
    """Return the numbers behind a finding."""
    (finding,) = [f for f in summary.findings if f.id == rule]
    return {item.key: item.value for item in finding.evidence}


def test_a_degraded_link_shows_what_it_has_and_what_it_could_have():
    narrow = shown(Stage(scenario=scene("narrow-pcie")).summary(), "LINK_DEGRADED")
    expected = {
        "gpus_concerned": 1.0,
        "pcie_lost_frac": 0.5,
        "pcie_generation": 5.0,
        "pcie_generation_max": 5.0,
        "pcie_lanes_count": 8.0,
        "pcie_lanes_max_count": 16.0,
    }
    assert narrow == expected | {"nvlink_lost_frac": 0.0, "link_error_ratio": 0.0}
    lost = shown(Stage(scenario=scene("lost-nvlink")).summary(), "LINK_DEGRADED")
    assert lost["nvlink_lost_frac"] == pytest.approx(1 / 18)
    assert (lost["nvlink_active_count"], lost["nvlink_count"]) == (17, 18)
    assert "pcie_lanes_count" not in lost


@pytest.mark.parametrize(("field", "count"), [("nvlink_error_count", 1.0), ("pcie_replay_count", 32.0)])
def test_errors_of_links_are_judged_by_their_rate(field, count):
    """Of a minute: an NVLink error, or more replays than 16 lanes of 32 Gbit/s have at 1e-12 (30.7)."""
    once = put(field, count, from_s=30.0, to_s=30.2)
    assert "LINK_DEGRADED" in found(Stage(scenario=scene("gemm"), changed=once).summary())
    assert "LINK_DEGRADED" not in found(Stage(scenario=scene("gemm"), changed=once, seconds=70).summary())


def test_links_are_not_judged_where_their_width_is_not_read():
    unread = ("pcie_lanes_count", "nvlink_active_count", "pcie_replay_count", "nvlink_error_count")
    changed = without(unread, to_s=60.0, has_pipe_counters=True)
    summary, _, _ = judged(Stage(scenario=scene("gemm"), changed=changed))
    missing = {item.id: item.missing for item in summary.not_judged}
    assert missing["LINK_DEGRADED"] == [
        "PCIe lanes and generation under load",
        "NVLink connections",
        "PCIe replays or NVLink errors",
    ]


@pytest.mark.parametrize("rule", ["HW_SLOWDOWN", "THERMAL", "LINK_DEGRADED"])
def test_the_health_of_each_gpu_is_judged_without_a_score(rule):
    fires = PAIRS[rule][0]

    def changed(run: Run) -> Run:
        return without(PIPES, to_s=1e9, has_pipe_counters=False)(fires.changed(run))

    assert rule in found(replace(fires, changed=changed).summary())
