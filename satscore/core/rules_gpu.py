"""The rules over one scope's counters. Conditions and thresholds: docs/method.md, "Findings"."""

from collections.abc import Callable

from satscore.core.facts import Facts, comm_share_estimate, nearest_cap
from satscore.core.rules import Judgement, Rule
from satscore.core.summary import EvidenceItem

THRESHOLD = {
    "throttle_power": 0.5,
    "power_high": 0.5,
    "clock_ratio_max": 0.95,
    "clock_power_points": 1.0,
    "tensor_unused": 0.02,
    "vector_active": 0.20,
    "memory_share_of_score": 0.5,
    "memory_bound_score": 40.0,
    "memory_mix_points": 15.0,
    "idle_long_points": 8.0,
    "gamma": 0.5,
    "gaps_points": 25.0,
    "comm_points": 5.0,
    "wait_points": 5.0,
}


def _evidence(key: str, name: str, value: float | None, unit: str) -> tuple[EvidenceItem, ...]:
    """Return a row of evidence, with the threshold of that key; none where the value is unknown."""
    if value is None:
        return ()
    return (EvidenceItem(key=key, name=name, value=value, unit=unit, threshold=THRESHOLD.get(key)),)


def _loss(facts: Facts, part: str) -> float:
    return facts.loss_points[part]


def _power_capped(facts: Facts) -> Judgement | None:
    by_reason = facts.throttle_power
    high = max((share for share in facts.power_high.values() if share is not None), default=None)
    if by_reason is not None:
        capped = by_reason >= THRESHOLD["throttle_power"]
    else:
        capped = high is not None and high >= THRESHOLD["power_high"]
    clock = facts.clock_ratio_max
    slow = clock is not None and clock < THRESHOLD["clock_ratio_max"]
    # Without throttle counters the clock loss has no reason yet: power at the cap is then the reason.
    claims = ("clock_power",) if by_reason is not None else ("clock_unknown",)
    if not (capped and slow and _loss(facts, claims[0]) >= THRESHOLD["clock_power_points"]):
        return None
    nearest, share = nearest_cap(facts.power_frac)
    scope = nearest or "gpu"
    return Judgement(
        claims=claims,
        evidence=(
            *_evidence("throttle_power", "held down by the cap", by_reason, "frac"),
            *_evidence("power_frac", f"{scope} power of its cap", share, "frac"),
            *_evidence("power_limit_w", f"{scope} cap", facts.power_limit_w[scope], "W"),
            *_evidence("sm_clock_mhz", "SM clock", facts.sm_clock_mhz, "MHz"),
        ),
    )


def _tensor_unused(facts: Facts) -> Judgement | None:
    vector = {p: facts.active[p] for p in ("fp32", "fp64", "fp16")}
    pipe = max(vector, key=lambda p: vector[p] or 0.0)
    tensor = facts.active["tensor"]
    if tensor is None or tensor >= THRESHOLD["tensor_unused"]:
        return None
    if (vector[pipe] or 0.0) < THRESHOLD["vector_active"]:
        return None
    return Judgement(
        claims=("issue_stall",),
        evidence=(
            *_evidence("tensor_unused", "tensor pipe active", tensor, "frac"),
            *_evidence("vector_active", f"{pipe} pipe active", vector[pipe], "frac"),
            *_evidence("score_hpc", "score under profile hpc", facts.score_hpc_points, "points"),
        ),
    )


def _memory_bound(facts: Facts) -> Judgement | None:
    score = facts.score_points or 0.0
    by_memory = facts.score_by.get("dram", 0.0)
    if score < THRESHOLD["memory_bound_score"] or by_memory < THRESHOLD["memory_share_of_score"] * score:
        return None
    return Judgement(
        claims=("issue_other",),
        evidence=(
            *_evidence("dram_saturation", "DRAM", facts.saturation["dram"], "frac"),
            *_evidence("score_by_dram", "of S from DRAM", by_memory, "points"),
            *_evidence("tensor_saturation", "tensor", facts.saturation["tensor"], "frac"),
        ),
        informational=True,
    )


def _memory_mix(facts: Facts) -> Judgement | None:
    leading = max(facts.score_by, key=lambda r: facts.score_by[r], default="")
    if leading != "tensor" or _loss(facts, "issue_other") < THRESHOLD["memory_mix_points"]:
        return None
    return Judgement(
        claims=("issue_other",),
        evidence=(
            *_evidence("memory_mix_points", "at the DRAM roof, up to", _loss(facts, "issue_other"), "points"),
            *_evidence("dram_saturation", "DRAM", facts.saturation["dram"], "frac"),
            *_evidence("tensor_saturation", "tensor", facts.saturation["tensor"], "frac"),
        ),
    )


def _host_stall(facts: Facts) -> Judgement | None:
    gamma = facts.gamma or 0.0
    if _loss(facts, "idle_long") < THRESHOLD["idle_long_points"] or gamma < THRESHOLD["gamma"]:
        return None
    return Judgement(
        claims=("idle_long",),
        evidence=(
            *_evidence("idle_long_points", "idle in long gaps", _loss(facts, "idle_long"), "points"),
            *_evidence("gamma", "burstiness gamma", gamma, "1"),
        ),
    )


def _host_gaps(facts: Facts) -> Judgement | None:
    gaps = _loss(facts, "idle_short") + _loss(facts, "grid")
    if gaps < THRESHOLD["gaps_points"] or (facts.gamma or 0.0) >= THRESHOLD["gamma"]:
        return None
    return Judgement(
        claims=("idle_short", "grid"),
        evidence=(
            *_evidence("idle_short", "idle in short gaps", _loss(facts, "idle_short"), "points"),
            *_evidence("grid", "SMs empty in kernels", _loss(facts, "grid"), "points"),
            *_evidence("sm_active", "SM active", facts.sm, "frac"),
            *_evidence("gamma", "burstiness gamma", facts.gamma, "1"),
        ),
    )


def _comm_exposed(facts: Facts) -> Judgement | None:
    if _loss(facts, "comm") < THRESHOLD["comm_points"]:
        return None
    return Judgement(
        claims=("comm",),
        evidence=(
            *_evidence("comm_points", "only communication", _loss(facts, "comm"), "points"),
            *_evidence("link_during_comm", "link meanwhile", facts.comm_link, "frac"),
            *_evidence("comm_share_max", "share of active time, at most", _comm_share(facts), "frac"),
        ),
    )


def _comm_share(facts: Facts) -> float | None:
    """Return how much of the active time could be communication at most, mixed intervals included."""
    if facts.engine is None or facts.sm is None:
        return None
    return comm_share_estimate(facts.engine, facts.sm)


def _comm_wait(facts: Facts) -> Judgement | None:
    if _loss(facts, "wait") < THRESHOLD["wait_points"]:
        return None
    return Judgement(
        claims=("wait",),
        evidence=(
            *_evidence("wait_points", "few SMs spin, links below 5 %", _loss(facts, "wait"), "points"),
            *_evidence("comm_share_max", "share of active time, at most", _comm_share(facts), "frac"),
        ),
    )


def _engine(facts: Facts) -> float | None:
    return facts.engine


def _sm(facts: Facts) -> float | None:
    return facts.sm


def _score(facts: Facts) -> float | None:
    return facts.score_points


def _active(resource: str) -> Callable[[Facts], float | None]:
    return lambda facts: facts.active[resource]


def _power_or_reasons(facts: Facts) -> float | None:
    known = [v for v in (facts.throttle_power, *facts.power_high.values()) if v is not None]
    return known[0] if known else None


def _links_decided(facts: Facts) -> float | None:
    """Return None where too much comm-like time could not be told apart for lack of link counters."""
    return None if facts.loss_points["comm_or_wait"] >= THRESHOLD["comm_points"] else 1.0


RULES: tuple[Rule, ...] = (
    Rule(
        id="POWER_CAPPED",
        title="the power cap holds the clock down",
        needs={
            "score": _score,
            "throttle time or power with its limit": _power_or_reasons,
            "SM clock": lambda facts: facts.clock_ratio_max,
        },
        judge=_power_capped,
        action="raise the cap, or accept it",
        hint="Raise the power limit if the site allows it; where the site offers vBoost and its level is 0, "
        "enable it if tensor work leads; cooler inlet air helps. Otherwise accept the cap and judge the run by S_att.",
        next_command="nvidia-smi -q -d POWER,PERFORMANCE,CLOCK",
        false_positives="A cap by site policy: then this is for information.",
    ),
    Rule(
        id="TENSOR_UNUSED",
        title="matrix work runs outside the tensor cores",
        needs={"tensor active": _active("tensor"), "fp32 active": _active("fp32"), "score": _score},
        judge=_tensor_unused,
        action="allow TF32 or use bf16",
        hint="Allow TF32 with torch.set_float32_matmul_precision('high'), or train in bf16 under autocast; look for "
        "FP64 tensors that leaked in.",
        next_command="TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1 CMD",
        false_positives="Science codes that need FP32 or FP64: use --profile hpc.",
    ),
    Rule(
        id="MEMORY_BOUND",
        title="DRAM bandwidth is the roof of this run",
        needs={"score": _score, "DRAM active": _active("dram")},
        judge=_memory_bound,
        action="move fewer bytes, or accept",
        hint="Fuse element-wise work (torch.compile), use FlashAttention, keep states in bf16, enlarge the GEMMs; "
        "or accept: the run is at a roof.",
        next_command="nsys profile --gpu-metrics-devices=all CMD",
        false_positives="Phases of only optimiser work; embedding models.",
    ),
    Rule(
        id="MEMORY_MIX",
        title="tensor work alternates with DRAM-bound kernels",
        needs={"score": _score, "DRAM active": _active("dram")},
        judge=_memory_mix,
        action="fuse kernels (torch.compile)",
        hint="Bytes are the next lever: fuse element-wise kernels (torch.compile), FlashAttention, a fused "
        "optimiser, bf16 states.",
        next_command="nsys profile --gpu-metrics-devices=all CMD",
        false_positives="The points are an upper bound: the counters cannot see which kernel ran when.",
    ),
    Rule(
        id="HOST_STALL",
        title="the GPU waits for the host in long gaps",
        needs={"engine active": _engine, "score": _score},
        judge=_host_stall,
        action="prefetch data, write asynchronously",
        hint="More loader workers, prefetch and pinned memory, data on local disk; write checkpoints and logs "
        "asynchronously; avoid .item() and other synchronisation in the loop.",
        next_command="py-spy dump --pid $(pgrep -n python)",
        false_positives="Checkpoints, evaluation, pipeline bubbles longer than a read.",
    ),
    Rule(
        id="HOST_GAPS",
        title="many short gaps: launch-bound, small kernels",
        needs={"engine active": _engine, "SM active": _sm, "score": _score},
        judge=_host_gaps,
        action="CUDA Graphs, larger micro-batch",
        hint="CUDA Graphs or torch.compile(mode='reduce-overhead'), a larger micro-batch, a fused optimiser, CPU "
        "binding. The gaps are shorter than the read period: host stalls of that length look the same.",
        next_command="nsys profile -t cuda,osrt -d 20 CMD",
        false_positives="A tiny model by choice; many small collectives.",
    ),
    Rule(
        id="COMM_EXPOSED",
        title="communication is not hidden behind compute",
        needs={"engine active": _engine, "SM active": _sm, "score": _score, "link counters": _links_decided},
        judge=_comm_exposed,
        action="overlap it with the backward pass",
        hint="Overlap communication with the backward pass, tune bucket sizes, keep tensor parallelism inside the "
        "NVLink domain, use hierarchical collectives.",
        next_command="nsys profile -t cuda,nvtx -d 30 CMD",
        false_positives="Halo exchange; offload traffic over C2C.",
    ),
    Rule(
        id="COMM_WAIT",
        title="the GPU spins in a collective and nothing moves",
        needs={"engine active": _engine, "SM active": _sm, "score": _score, "link counters": _links_decided},
        judge=_comm_wait,
        action="find the late rank",
        hint="Another rank is late: look for a straggler, uneven work, or a slow network between nodes.",
        next_command="NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=NET CMD",
        false_positives="Traffic between nodes that GPU link counters do not see.",
    ),
)
