"""Per rule: facts that fire it, near misses that do not, and counters without which it cannot be judged."""

from collections.abc import Callable, Mapping

import msgspec

from satscore.core.facts import Facts
from satscore.core.job_facts import DipFacts, DipKind, JobFacts, RegimeFacts, Suspect, SuspectCause, SuspectKind
from satscore.core.links import LinkFacts
from tests.unit.rule_facts import LONG_RUN, PARALLEL_JOB, Reads, facts, named, with_losses
from tests.unit.scenes import E1, E2, IDLE

THROTTLE = tuple(f"throttle_{r}_frac" for r in ("power", "thermal", "hw", "board", "sync_boost", "app_clocks"))
LINKS = ("nvlink_tx_bytes_s", "nvlink_rx_bytes_s", "pcie_tx_bytes_s", "pcie_rx_bytes_s")
POWER = ("power_gpu_w", "power_module_w", "energy_gpu_j", "energy_module_j")

CAPPED = E1 | {"throttle_power_frac": 0.6}
MODULE = CAPPED | {
    "power_module_w": 655.0,
    "power_limit_module_w": 660.0,
    "power_gpu_w": 585.0,
    "power_limit_gpu_w": 650.0,
}
LOCKED = E1 | {"f": 1200, "power_gpu_w": 350.0, "power_limit_gpu_w": 700.0, "throttle_app_clocks_frac": 1.0}
FP32 = {"g": 1, "sm": 0.99, "T": 0, "F32": 0.90, "d": 0.15, "f": 1755}
MIX = {"g": 1, "sm": 0.97, "T": 0.5, "d": 0.4, "f": 1830}
FULL = {"g": 1, "sm": 1, "T": 0.95, "d": 0.1, "f": 1830}
LAUNCH = {"g": 0.55, "sm": 0.036, "T": 0.003, "d": 0.018, "f": 1980}
SMALL_GRID = {"g": 1, "sm": 0.55, "T": 0.47, "d": 0.15, "f": 1830}
DECODE = {"g": 1, "sm": 0.891, "T": 0.17, "d": 0.262, "f": 1980}
LATENCY = {"g": 1, "sm": 0.9, "T": 0, "F32": 0.05, "d": 0.2, "f": 1980}
ROOMY = SMALL_GRID | {"memory_used_bytes": 50e9}
SPIN = {"g": 1, "sm": 0.121, "T": 0, "d": 0.01, "f": 1980}
COMM = SPIN | {"d": 0.1, "nvlink_tx_bytes_s": 0.1 * 450e9}
PCIE_COMM = SPIN | {"d": 0.1, "pcie_tx_bytes_s": 0.4 * 63e9}


def of(
    count: int, first: Mapping[str, float], then: int = 0, second: Mapping[str, float] = IDLE
) -> Callable[..., Facts]:
    """Return the maker of facts of 200 reads that repeat these two."""
    one: Reads = [(count, first), (then, second)]
    return lambda unknown=(), **changes: facts([*one] * (200 // (count + then)), unknown, **changes)


def job(base: JobFacts, points: dict[str, float] | None = None, **changes: object) -> Callable[..., Facts]:
    """Return the maker of facts of a GEMM with these facts of the job, and these parts of the loss tree."""
    of_job = msgspec.structs.replace(base, **changes)

    def make(unknown: tuple[str, ...] = ()) -> Facts:
        made = facts(unknown=unknown, job=of_job)
        return made if points is None else with_losses(made, **points)

    return make


def suspect(rank: int = 3, kind: SuspectKind = "slow", cause: SuspectCause = "clock", excess: float = 0.2) -> Suspect:
    """Return a rank for which the others wait."""
    return Suspect(
        name=named(rank),
        kind=kind,
        cause=cause,
        z=12.0,
        excess_frac=excess,
        efficiency_ratio=0.745 if kind == "slow" else 1.0,
        sm_clock_mhz=1300.0,
        median_clock_mhz=1745.0,
        temp_max_c=61.0,
        speed_up=1.34,
    )


def dips(cost: float = 4.0, kind: DipKind = "checkpoint") -> DipFacts:
    """Return dips that come every five minutes."""
    return DipFacts(kind=kind, count=12, period_s=300.0, duration_s=12.0, duty_frac=0.04, cost_points=cost)


def links(**changes: float) -> LinkFacts:
    """Return healthy links, with some facts replaced."""
    return msgspec.structs.replace(LinkFacts(pcie_lost_frac=0.0, nvlink_lost_frac=0.0, error_ratio=0.0), **changes)


def waits(transient: float, persistent: float, wait: float = 0.0) -> dict[str, float]:
    """Return the parts of a job whose ranks wait for each other."""
    return {"transient": transient, "persistent": persistent, "wait": wait}


STARTED = {"startup": 400.0, "warmup": 400.0, "steady": 2800.0, "dip": 0.0, "tail": 0.0}
CHANGE = RegimeFacts(at_s=1200.0, before_points=52.0, after_points=41.0)

FIRES: dict[str, Callable[..., Facts]] = {
    "HOST_STALL": of(9, FULL, 1),
    "HOST_GAPS": of(1, LAUNCH),
    "SMALL_GRID": of(1, SMALL_GRID),
    "MEM_HEADROOM": of(1, ROOMY),
    "MEMORY_BOUND": of(1, E2),
    "MEMORY_MIX": of(1, MIX),
    "TENSOR_UNUSED": of(1, FP32),
    "LOW_TENSOR_EFF": of(1, DECODE),
    "LATENCY_BOUND": of(1, LATENCY),
    "COMM_EXPOSED": of(47, FULL, 3, COMM),
    "NVLINK_UNUSED": lambda unknown=(): of(45, FULL, 5, PCIE_COMM)(unknown, job=JobFacts(local_gpus_count=2)),
    "COMM_WAIT": of(47, FULL, 3, SPIN),
    "IMBALANCE": job(PARALLEL_JOB, waits(4.0, 1.5)),
    "STRAGGLER": job(PARALLEL_JOB, waits(0.2, 12.0), suspects=(suspect(),)),
    "OVERLOADED_RANK": job(PARALLEL_JOB, waits(0.2, 12.0), suspects=(suspect(kind="overloaded"),)),
    "GPU_IDLE_RANK": job(PARALLEL_JOB, idle_ranks=(named(2),)),
    "POWER_CAPPED": of(1, CAPPED),
    "MODULE_POWER": of(1, MODULE),
    "THERMAL": of(1, E1 | {"throttle_thermal_frac": 0.012}),
    "HW_SLOWDOWN": of(1, E1 | {"throttle_hw_frac": 0.0012}),
    "CLOCK_LOCKED": of(1, LOCKED),
    "PERIODIC_DIPS": job(LONG_RUN, periodic=dips()),
    "SLOW_START": job(LONG_RUN, phase_s=STARTED, start_cost_points=15.0),
    "NEVER_STEADY": job(LONG_RUN, never_steady=True),
    "REGIME_CHANGE": job(LONG_RUN, regime_changes=(CHANGE,)),
    "GPU_SHARED": job(LONG_RUN, shared_frac=0.06, foreign_processes=2),
    "BOUND_EXCEEDED": of(1, {"g": 1, "sm": 1, "T": 1.0, "d": 0.1, "f": 1980}),
    "CALIBRATION_STALE": of(1, E1 | {"f": 1980}),
    "NO_COUNTERS": job(JobFacts(has_pipe_counters=False)),
    "LINK_DEGRADED": lambda unknown=(): facts(unknown=unknown, links=links(pcie_lost_frac=0.5)),
}

NEAR_MISSES: list[tuple[str, Callable[..., Facts]]] = [
    ("HOST_STALL", of(93, FULL, 7)),
    ("HOST_STALL", of(9, FULL | {"g": 0.5, "sm": 0.5, "T": 0.45}, 1)),
    ("HOST_GAPS", of(1, FULL | {"sm": 0.76, "T": 0.7})),
    ("HOST_GAPS", of(5, FULL, 5)),
    ("HOST_GAPS", of(5, FULL, 5, {"g": 0.08, "sm": 0.08, "T": 0.05, "d": 0.01, "f": 1830})),
    ("SMALL_GRID", of(1, SMALL_GRID | {"sm": 0.86})),
    ("SMALL_GRID", of(1, SMALL_GRID | {"g": 0.89})),
    ("SMALL_GRID", of(19, SMALL_GRID, 1)),
    ("MEM_HEADROOM", of(1, ROOMY | {"memory_used_bytes": 80e9})),
    ("MEM_HEADROOM", of(1, ROOMY | {"T": 0.52})),
    ("MEM_HEADROOM", of(1, ROOMY | {"g": 0.5, "sm": 0.45, "T": 0.4})),
    ("MEMORY_BOUND", of(1, E2 | {"d": 0.38})),
    ("MEMORY_BOUND", of(1, E2 | {"T": 0.9})),
    ("MEMORY_MIX", of(1, MIX | {"d": 0.14})),
    ("MEMORY_MIX", of(1, MIX | {"T": 0.38})),
    ("TENSOR_UNUSED", of(1, FP32 | {"F32": 0.19})),
    ("TENSOR_UNUSED", of(1, FP32 | {"T": 0.03, "F32": 0.21})),
    ("TENSOR_UNUSED", of(1, FP32 | {"T": 0.20, "F32": 0.70})),
    ("TENSOR_UNUSED", of(1, FP32 | {"F32": 0.30, "d": 0.8})),
    ("LOW_TENSOR_EFF", of(1, DECODE | {"sm": 0.68, "T": 0.1, "d": 0.05})),
    ("LOW_TENSOR_EFF", of(1, DECODE | {"T": 0.019})),
    ("LOW_TENSOR_EFF", of(1, DECODE | {"T": 0.5, "d": 0.1, "sm": 0.8})),
    ("LATENCY_BOUND", of(1, LATENCY | {"sm": 0.68})),
    ("LATENCY_BOUND", of(1, LATENCY | {"d": 0.41})),
    ("LATENCY_BOUND", of(1, LATENCY | {"F32": 0.21})),
    ("LATENCY_BOUND", of(1, LATENCY | {"T": 0.021})),
    ("COMM_EXPOSED", of(48, FULL, 2, COMM)),
    ("COMM_EXPOSED", of(47, FULL, 3, COMM | {"T": 0.06, "sm": 0.2})),
    ("NVLINK_UNUSED", lambda: of(48, FULL, 2, PCIE_COMM)(job=JobFacts(local_gpus_count=2))),
    ("NVLINK_UNUSED", lambda: of(45, FULL, 5, PCIE_COMM)(job=JobFacts(local_gpus_count=1))),
    (
        "NVLINK_UNUSED",
        lambda: of(45, FULL, 5, PCIE_COMM | {"pcie_tx_bytes_s": 0.18 * 63e9})(job=JobFacts(local_gpus_count=2)),
    ),
    (
        "NVLINK_UNUSED",
        lambda: of(45, FULL, 5, PCIE_COMM | {"nvlink_rx_bytes_s": 0.012 * 450e9})(job=JobFacts(local_gpus_count=2)),
    ),
    ("COMM_WAIT", of(48, FULL, 2, SPIN)),
    ("COMM_WAIT", of(47, FULL, 3, SPIN | {"sm": 0.4})),
    ("COMM_WAIT", job(PARALLEL_JOB, waits(0.0, 0.0, 9.0), rank_spread=0.2)),
    ("IMBALANCE", job(PARALLEL_JOB, waits(3.0, 1.9))),
    ("IMBALANCE", job(PARALLEL_JOB, waits(0.0, 0.0, 9.0), rank_spread=0.09)),
    ("IMBALANCE", job(PARALLEL_JOB, waits(0.0, 0.0, 4.9), rank_spread=0.2)),
    ("IMBALANCE", job(PARALLEL_JOB, waits(0.0, 12.0), suspects=(suspect(),))),
    ("IMBALANCE", job(PARALLEL_JOB, waits(0.0, 9.0, 6.0), suspects=(suspect(),), rank_spread=0.2)),
    ("IMBALANCE", job(JobFacts(), waits(0.0, 0.0))),
    ("IMBALANCE", of(1, SPIN)),
    ("STRAGGLER", job(PARALLEL_JOB, waits(0.2, 12.0), suspects=(suspect(kind="overloaded"),))),
    ("STRAGGLER", job(PARALLEL_JOB, waits(0.2, 2.9))),
    ("STRAGGLER", job(JobFacts())),
    ("OVERLOADED_RANK", job(JobFacts())),
    ("OVERLOADED_RANK", job(PARALLEL_JOB, waits(0.2, 12.0), suspects=(suspect(),))),
    ("GPU_IDLE_RANK", job(PARALLEL_JOB)),
    ("GPU_IDLE_RANK", job(JobFacts())),
    ("POWER_CAPPED", of(1, CAPPED | {"throttle_power_frac": 0.45})),
    ("POWER_CAPPED", of(1, CAPPED | {"f": 1890})),
    ("POWER_CAPPED", of(1, CAPPED | {"f": 1810})),
    ("POWER_CAPPED", lambda: facts([(10, FP32 | {"throttle_power_frac": 0.6, "f": 1900})], profile="hpc")),
    ("MODULE_POWER", lambda: facts([(10, MODULE | FP32 | {"f": 1900})], profile="hpc")),
    ("MODULE_POWER", of(1, MODULE | {"f": 1850})),
    ("MODULE_POWER", of(1, MODULE | {"power_module_w": 635.0})),
    ("MODULE_POWER", of(1, MODULE | {"power_gpu_w": 640.0})),
    ("THERMAL", of(1, E1 | {"throttle_thermal_frac": 0.009})),
    ("HW_SLOWDOWN", of(1, E1 | {"throttle_hw_frac": 0.0008})),
    ("CLOCK_LOCKED", of(1, LOCKED | {"f": 1890})),
    ("CLOCK_LOCKED", of(1, LOCKED | {"power_gpu_w": 640.0})),
    ("CLOCK_LOCKED", of(1, LOCKED, 1, LOCKED | {"f": 1221})),
    ("CLOCK_LOCKED", of(1, LOCKED | {"throttle_thermal_frac": 0.02})),
    ("CLOCK_LOCKED", lambda: of(1, LOCKED | {"g": 0.49, "sm": 0.4, "T": 0.3})(clock_iqr_mhz=0.0)),
    ("PERIODIC_DIPS", job(LONG_RUN, periodic=dips(cost=0.9))),
    ("PERIODIC_DIPS", job(LONG_RUN)),
    ("SLOW_START", job(LONG_RUN, phase_s=STARTED, start_cost_points=15.0, run_s=4100.0)),
    ("SLOW_START", job(LONG_RUN, phase_s={"startup": 500.0, "warmup": 50.0}, start_cost_points=50.0, run_s=590.0)),
    ("NEVER_STEADY", job(LONG_RUN)),
    ("REGIME_CHANGE", job(LONG_RUN)),
    ("GPU_SHARED", job(LONG_RUN, shared_frac=0.049, foreign_processes=2)),
    ("BOUND_EXCEEDED", of(1, {"g": 1, "sm": 1, "T": 0.94, "d": 0.1, "f": 1980})),
    ("CALIBRATION_STALE", of(1, E1 | {"f": 1790})),
    ("NO_COUNTERS", job(JobFacts())),
    ("LINK_DEGRADED", lambda: facts(links=links())),
    ("LINK_DEGRADED", lambda: facts(links=links(pcie_lost_frac=0.009, nvlink_lost_frac=0.009, error_ratio=0.9))),
]

LACKS: list[tuple[str, tuple[str, ...], str]] = [
    ("HOST_STALL", ("g",), "engine active"),
    ("HOST_GAPS", ("g",), "engine active"),
    ("HOST_GAPS", ("sm",), "SM active"),
    ("SMALL_GRID", ("sm",), "SM active"),
    ("MEM_HEADROOM", ("memory_used_bytes",), "memory used"),
    ("MEMORY_BOUND", ("d",), "DRAM active"),
    ("MEMORY_MIX", ("d",), "DRAM active"),
    ("MEMORY_MIX", ("sm",), "SM active"),
    ("TENSOR_UNUSED", ("T",), "tensor active"),
    ("TENSOR_UNUSED", ("F32",), "fp32 active"),
    ("TENSOR_UNUSED", ("sm",), "SM active"),
    ("LOW_TENSOR_EFF", ("sm",), "SM active"),
    ("LATENCY_BOUND", ("F32",), "fp32 active"),
    ("COMM_EXPOSED", ("sm",), "SM active"),
    ("COMM_EXPOSED", LINKS, "link counters"),
    ("NVLINK_UNUSED", LINKS[:2], "NVLink during communication"),
    ("COMM_WAIT", ("g",), "engine active"),
    ("COMM_WAIT", LINKS, "link counters"),
    ("COMM_WAIT", ("pcie_rx_bytes_s",), "link counters"),
    ("POWER_CAPPED", (*THROTTLE, *POWER), "throttle time or power with its limit"),
    ("POWER_CAPPED", ("f",), "SM clock"),
    ("MODULE_POWER", ("power_module_w",), "module power with its limit"),
    ("MODULE_POWER", ("power_limit_gpu_w",), "GPU power with its limit"),
    ("THERMAL", ("throttle_thermal_frac",), "throttle time by heat"),
    ("HW_SLOWDOWN", THROTTLE, "throttle time by hardware"),
    ("CLOCK_LOCKED", ("throttle_power_frac",), "throttle time by power and heat"),
    ("CLOCK_LOCKED", ("power_limit_gpu_w",), "power with its limit"),
    ("BOUND_EXCEEDED", ("T",), "score"),
    ("CALIBRATION_STALE", ("d",), "score"),
]
"""Rule, counters that its case is read without, and what is then said to be missing."""

UNKNOWN_OF_JOB: list[tuple[str, JobFacts, str]] = [
    ("PERIODIC_DIPS", JobFacts(), "phases"),
    ("SLOW_START", JobFacts(run_s=3600.0), "phases"),
    ("NEVER_STEADY", JobFacts(), "phases"),
    ("REGIME_CHANGE", JobFacts(), "phases"),
    ("GPU_SHARED", JobFacts(), "process ids on the GPU"),
    ("STRAGGLER", JobFacts(gpus_count=4), "comparison of ranks"),
    ("OVERLOADED_RANK", JobFacts(gpus_count=4), "comparison of ranks"),
    ("IMBALANCE", JobFacts(gpus_count=4), "comparison of ranks"),
]
