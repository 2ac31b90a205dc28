"""Rules about what the SMs do while they hold work."""

from satscore.core.facts import Facts
from satscore.core.rules_measures import (
    DRAM_ACTIVE,
    DRAM_SATURATION,
    FP32_ACTIVE,
    ISSUE_STALL,
    OCCUPANCY,
    SCORE,
    SCORE_HPC,
    SM,
    TENSOR_ACTIVE,
    TENSOR_SATURATION,
    VECTOR_ACTIVE,
    VECTOR_PIPES,
    busiest_vector_pipe,
)
from satscore.core.rules_model import Advice, Fetch, Measure, Rule


def _share_of_score(resource: str) -> Fetch:
    """Return the fetch of the share of S from windows in which a resource was the largest."""

    def fetch(facts: Facts) -> float | None:
        score = facts.score_points
        return None if score is None else (facts.score_by.get(resource, 0.0) / score if score > 0 else 0.0)

    return fetch


def _hpc_gain(facts: Facts) -> float | None:
    """Return how much higher the score under profile hpc is; at least so much where a pipe of it is unknown."""
    if facts.score_hpc_points is not None:
        hpc = facts.score_hpc_points
    else:
        hpc = 100.0 * (facts.saturation[busiest_vector_pipe(facts)] or 0.0)
    return None if facts.score_points is None else hpc - facts.score_points


def _tensor_over_vector(facts: Facts) -> float | None:
    """Return how much of its peak the tensor pipe does, over the same of the busiest vector pipe."""
    tensor, vector = facts.saturation["tensor"], facts.saturation[busiest_vector_pipe(facts)]
    return None if tensor is None or not vector else tensor / vector


def _busy(pipe: str) -> Fetch:
    return lambda facts: facts.active[pipe] if pipe == busiest_vector_pipe(facts) else None


BUSIEST_VECTOR_PIPE = tuple(
    Measure(key="vector_active", name=f"{pipe} pipe active", unit="frac", fetch=_busy(pipe), rests_on=(FP32_ACTIVE,))
    for pipe in VECTOR_PIPES
)
HPC_GAIN = Measure(
    key="hpc_gain_points",
    name="score under profile hpc is higher by",
    unit="points",
    fetch=_hpc_gain,
    rests_on=(SCORE, FP32_ACTIVE),
)
TENSOR_OVER_VECTOR = Measure(
    key="tensor_over_vector",
    name="tensor over vector pipe, of their peaks",
    unit="frac",
    fetch=_tensor_over_vector,
    rests_on=(TENSOR_ACTIVE, FP32_ACTIVE),
)
DRAM_SHARE = Measure(
    key="dram_share",
    name="share of S from DRAM",
    unit="frac",
    fetch=_share_of_score("dram"),
    rests_on=(SCORE, DRAM_ACTIVE),
)
TENSOR_SHARE = Measure(
    key="tensor_share",
    name="share of S from the tensor pipe",
    unit="frac",
    fetch=_share_of_score("tensor"),
    rests_on=(SCORE, TENSOR_ACTIVE),
)
SCORE_BY_DRAM = Measure(
    key="score_by_dram", name="of S from DRAM", unit="points", fetch=lambda f: f.score_by.get("dram")
)
ISSUE_OTHER = Measure(
    key="memory_mix_points",
    name="at the DRAM roof, up to",
    unit="points",
    fetch=lambda f: f.loss_points.get("issue_other"),
    rests_on=(SCORE, SM, DRAM_ACTIVE),
)

COMPUTE_RULES = (
    Rule(
        id="MEMORY_BOUND",
        title="DRAM bandwidth is the roof of this run",
        meaning="In most of the time that counts, DRAM is the resource nearest to its peak: the run is at a roof, "
        "and only moving fewer bytes makes it faster.",
        conditions=(SCORE.at_least(40.0), DRAM_SHARE.at_least(0.5)),
        evidence=(DRAM_SATURATION, SCORE_BY_DRAM, TENSOR_SATURATION, DRAM_SHARE),
        advice=Advice(
            action="move fewer bytes, or accept",
            hint="Fuse element-wise work (torch.compile), use FlashAttention, keep states in bf16, enlarge the GEMMs; "
            "or accept: the run is at a roof.",
            next_command="nsys profile --gpu-metrics-devices=all CMD",
        ),
        false_positives="Phases of only optimiser work; embedding models.",
        claims=("issue_other",),
        informational=True,
    ),
    Rule(
        id="MEMORY_MIX",
        title="tensor work alternates with DRAM-bound kernels",
        meaning="The tensor pipe leads, and part of the time in which it does not work may be spent at the DRAM "
        "roof, in kernels too short to be told apart by counters.",
        conditions=(ISSUE_OTHER.at_least(15.0), TENSOR_SHARE.at_least(0.5)),
        evidence=(ISSUE_OTHER, DRAM_SATURATION, TENSOR_SATURATION),
        advice=Advice(
            action="fuse kernels (torch.compile)",
            hint="Bytes are the next lever: fuse element-wise kernels (torch.compile), FlashAttention, a fused "
            "optimiser, bf16 states.",
            next_command="nsys profile --gpu-metrics-devices=all CMD",
        ),
        false_positives="The points are an upper bound: the counters cannot see which kernel ran when.",
        claims=("issue_other",),
    ),
    Rule(
        id="TENSOR_UNUSED",
        title="matrix work runs outside the tensor cores",
        meaning="A vector pipe (FP32, FP64 or FP16) works and the tensor pipe does not, or hardly: the second set of "
        "conditions is for runs in which a part, e.g. the attention, still uses it. The score under profile hpc, "
        "which counts vector pipes, must be the higher one.",
        conditions=(TENSOR_ACTIVE.below(0.02), VECTOR_ACTIVE.at_least(0.20), HPC_GAIN.at_least(1.0)),
        alternatives=((TENSOR_OVER_VECTOR.below(0.25), VECTOR_ACTIVE.at_least(0.20), HPC_GAIN.at_least(20.0)),),
        evidence=(TENSOR_ACTIVE, *BUSIEST_VECTOR_PIPE, SCORE_HPC),
        advice=Advice(
            action="allow TF32 or use bf16",
            hint="Allow TF32 with torch.set_float32_matmul_precision('high'), or train in bf16 under autocast; look "
            "for FP64 tensors that leaked in.",
            next_command="TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1 CMD",
        ),
        false_positives="Science codes that need FP32 or FP64: use --profile hpc, which counts these pipes.",
        claims=("issue_stall",),
        also_needs=(SM,),
    ),
    Rule(
        id="LOW_TENSOR_EFF",
        title="the tensor pipe is used, but mostly stalls",
        meaning="SMs are full and use the tensor pipe, yet most of the time it waits: shapes that do not fit its "
        "tiles, small batches, dependencies, instructions of an older generation.",
        conditions=(ISSUE_STALL.at_least(25.0), SM.at_least(0.7), TENSOR_ACTIVE.at_least(0.02)),
        evidence=(ISSUE_STALL, TENSOR_ACTIVE, SM, OCCUPANCY, DRAM_SATURATION),
        advice=Advice(
            action="larger, tile-sized matrix shapes",
            hint="Shapes in multiples of 128, a larger micro-batch, less padding, kernels for this generation "
            "(wgmma on Hopper; a recent cuBLAS, FlashAttention 3).",
            next_command="ncu --section SpeedOfLight --launch-count 50 CMD",
        ),
        false_positives="Decoding and mixture-of-experts inference: bound by latency by nature.",
        claims=("issue_stall",),
        yields_to=("TENSOR_UNUSED",),
    ),
    Rule(
        id="LATENCY_BOUND",
        title="SMs are full, no pipe and no memory is",
        meaning="SMs hold work nearly all the time, and neither a pipe nor DRAM is busy: threads wait for each "
        "other, for memory latency or for atomics.",
        conditions=(
            ISSUE_STALL.at_least(25.0),
            SM.at_least(0.7),
            TENSOR_ACTIVE.below(0.02),
            FP32_ACTIVE.below(0.2),
            DRAM_SATURATION.below(0.4),
        ),
        evidence=(ISSUE_STALL, SM, OCCUPANCY, FP32_ACTIVE, DRAM_SATURATION),
        advice=Advice(
            action="raise occupancy, fuse, another algorithm",
            hint="More resident threads per SM (fewer registers, smaller blocks), fused kernels, an algorithm with "
            "fewer dependent steps.",
            next_command="ncu --section WarpStateStats --launch-count 50 CMD",
        ),
        false_positives="Sparse and graph work; kernels that spin on purpose.",
        claims=("issue_stall",),
        yields_to=("TENSOR_UNUSED",),
    ),
)
