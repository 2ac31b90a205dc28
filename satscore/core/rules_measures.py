"""Measures that several rules look at (docs/method.md, "Loss tree" and "Findings")."""

from collections.abc import Callable

from satscore.core.facts import Facts, comm_share_estimate, nearest_cap
from satscore.core.rules_model import Fetch, Measure

UNDECIDED_COMM_POINTS = 5.0
"""So many points that could be either communication or waiting leave both undecided."""
VECTOR_PIPES = ("fp32", "fp64", "fp16")


def _loss(part: str) -> Fetch:
    """Return the fetch of a part of the loss tree; None where the tree of that scope has no such part."""
    return lambda facts: facts.loss_points.get(part)


def _losses(*parts: str) -> Fetch:
    """Return the fetch of several parts together."""

    def fetch(facts: Facts) -> float | None:
        known = [facts.loss_points.get(part) for part in parts]
        return None if None in known else sum(value for value in known if value is not None)

    return fetch


def _links_decided(facts: Facts) -> float | None:
    """Return None where too much comm-like time could not be told apart for lack of link counters."""
    undecided = facts.loss_points.get("comm_or_wait", 0.0)
    return None if undecided >= UNDECIDED_COMM_POINTS else 1.0


def _comm_share(facts: Facts) -> float | None:
    """Return how much of the active time could be communication at most, mixed intervals included."""
    if facts.engine is None or facts.sm is None:
        return None
    return comm_share_estimate(facts.engine, facts.sm)


def _nearest(scope: str, values: Callable[[Facts], dict[str, float | None]]) -> Fetch:
    """Return the fetch of a scope's power figure, known only where that scope is the nearest to its cap."""

    def fetch(facts: Facts) -> float | None:
        nearest, _ = nearest_cap(facts.power_frac)
        return values(facts).get(scope) if scope == nearest else None

    return fetch


def busiest_vector_pipe(facts: Facts) -> str:
    """Return the vector pipe with the largest active share."""
    return max(VECTOR_PIPES, key=lambda pipe: facts.active[pipe] or 0.0)


SCORE = Measure(key="score", name="score", unit="points", fetch=lambda f: f.score_points)
ENGINE = Measure(key="engine_active", name="engine active", unit="frac", fetch=lambda f: f.engine)
SM = Measure(key="sm_active", name="SM active", unit="frac", fetch=lambda f: f.sm)
LINKS = Measure(key="links", name="link counters", unit="1", fetch=_links_decided)
OCCUPANCY = Measure(key="occupancy", name="SM occupancy", unit="frac", fetch=lambda f: f.occupancy)
GAMMA = Measure(
    key="gamma",
    name="burstiness gamma",
    unit="1",
    fetch=lambda f: f.gamma or 0.0,  # undefined where the engine was always or never active: even, then
    rests_on=(ENGINE,),
)

IDLE_LONG = Measure(
    key="idle_long_points",
    name="idle in long gaps",
    unit="points",
    fetch=_loss("idle_long"),
    rests_on=(SCORE, ENGINE),
)
IDLE_SHORT = Measure(
    key="idle_short", name="idle in short gaps", unit="points", fetch=_loss("idle_short"), rests_on=(SCORE, ENGINE)
)
IDLE = Measure(
    key="idle_points",
    name="idle",
    unit="points",
    fetch=_losses("idle_long", "idle_short"),
    rests_on=(SCORE, ENGINE),
)
GRID = Measure(
    key="grid", name="SMs empty in kernels", unit="points", fetch=_loss("grid"), rests_on=(SCORE, ENGINE, SM)
)
GAPS = Measure(
    key="gaps_points",
    name="short gaps and empty SMs",
    unit="points",
    fetch=_losses("idle_short", "grid"),
    rests_on=(SCORE, ENGINE, SM),
)
COMM = Measure(
    key="comm_points",
    name="only communication",
    unit="points",
    fetch=_loss("comm"),
    rests_on=(SCORE, ENGINE, SM, LINKS),
)
WAIT = Measure(
    key="wait_points",
    name="few SMs spin, links below 5 %",
    unit="points",
    fetch=_loss("wait"),
    rests_on=(SCORE, ENGINE, SM, LINKS),
)
ISSUE_STALL = Measure(
    key="issue_stall",
    name="SMs held, their units not working",
    unit="points",
    fetch=_loss("issue_stall"),
    rests_on=(SCORE, SM),
)
COMM_SHARE = Measure(key="comm_share_max", name="share of active time, at most", unit="frac", fetch=_comm_share)
COMM_LINK = Measure(key="link_during_comm", name="link meanwhile", unit="frac", fetch=lambda f: f.comm_link)

TENSOR_ACTIVE = Measure(key="tensor_active", name="tensor active", unit="frac", fetch=lambda f: f.active["tensor"])
FP32_ACTIVE = Measure(key="fp32_active", name="fp32 active", unit="frac", fetch=lambda f: f.active["fp32"])
VECTOR_ACTIVE = Measure(
    key="vector_active",
    name="vector pipe active",
    unit="frac",
    fetch=lambda f: f.active[busiest_vector_pipe(f)],
    rests_on=(FP32_ACTIVE,),
)
DRAM_ACTIVE = Measure(key="dram_active", name="DRAM active", unit="frac", fetch=lambda f: f.active["dram"])
DRAM_SATURATION = Measure(
    key="dram_saturation", name="DRAM", unit="frac", fetch=lambda f: f.saturation["dram"], rests_on=(DRAM_ACTIVE,)
)
TENSOR_SATURATION = Measure(key="tensor_saturation", name="tensor", unit="frac", fetch=lambda f: f.saturation["tensor"])

SM_CLOCK = Measure(key="sm_clock_mhz", name="SM clock", unit="MHz", fetch=lambda f: f.sm_clock_mhz)
CLOCK_DEFICIT = Measure(
    key="clock_deficit",
    name="SM clock below its maximum by",
    unit="frac",
    fetch=lambda f: None if f.clock_ratio_max is None else 1.0 - f.clock_ratio_max,
    rests_on=(SM_CLOCK,),
)
POWER_ROWS = tuple(
    measure
    for scope in ("gpu", "module")
    for measure in (
        Measure(
            key="power_frac",
            name=f"{scope} power of its cap",
            unit="frac",
            fetch=_nearest(scope, lambda f: f.power_frac),
        ),
        Measure(
            key="power_limit_w",
            name=f"{scope} cap",
            unit="W",
            fetch=_nearest(scope, lambda f: f.power_limit_w),
        ),
    )
)
"""Power of the scope that is nearest to its cap, and that cap."""

RANKS_COMPARED = Measure(
    key="ranks_compared",
    name="comparison of ranks",
    unit="1",
    fetch=lambda f: None if f.job.block_s is None else 1.0,
)
GPUS_COUNT = Measure(key="gpus_count", name="GPUs of the job", unit="count", fetch=lambda f: float(f.job.gpus_count))
SCORE_HPC = Measure(key="score_hpc", name="score under profile hpc", unit="points", fetch=lambda f: f.score_hpc_points)

COMMAND_CPU = Measure(
    key="host_command_cpu_cores", name="command CPU", unit="cores", fetch=lambda f: f.host.mean.get("command_cpu_cores")
)
CPUS_USED = Measure(
    key="host_command_cpu_frac",
    name="CPUs in use by the command",
    unit="frac",
    fetch=lambda f: f.host.command_cpu_frac,
)
IOWAIT = Measure(
    key="host_cpu_iowait_frac", name="iowait", unit="frac", fetch=lambda f: f.host.mean.get("cpu_iowait_frac")
)
IO_PRESSURE = Measure(
    key="host_pressure_io_frac",
    name="a thread waited for files",
    unit="frac",
    fetch=lambda f: f.host.mean.get("pressure_io_frac"),
)
BLOCKED = Measure(
    key="host_blocked_count",
    name="threads of the node that wait for files",
    unit="1",
    fetch=lambda f: f.host.mean.get("blocked_count"),
)
MEMORY_PRESSURE = Measure(
    key="host_pressure_memory_frac",
    name="a thread waited for memory",
    unit="frac",
    fetch=lambda f: f.host.mean.get("pressure_memory_frac"),
)
MEMORY_LEFT = Measure(
    key="host_memory_available_frac",
    name="memory available, at least",
    unit="frac",
    fetch=lambda f: f.host.memory_available_frac,
)
RUNNABLE = Measure(
    key="host_runnable_per_cpu", name="runnable threads per CPU", unit="1", fetch=lambda f: f.host.runnable_per_cpu
)
NETWORK_FILES = Measure(
    key="host_workdir_network",
    name="working directory on a network file system (1: yes)",
    unit="count",
    fetch=lambda f: 1.0 if f.host.on_network_fs else None,
)
HOST = (
    *(CPUS_USED, COMMAND_CPU, RUNNABLE),
    *(IOWAIT, IO_PRESSURE, BLOCKED, NETWORK_FILES),
    *(MEMORY_PRESSURE, MEMORY_LEFT),
)
"""What the host did meanwhile: evidence, never a condition."""
