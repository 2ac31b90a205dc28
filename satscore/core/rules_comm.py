"""Rules about communication and waiting for it."""

from satscore.core.facts import Facts
from satscore.core.rules_measures import COMM, COMM_LINK, COMM_SHARE, GPUS_COUNT, RANKS_COMPARED, WAIT
from satscore.core.rules_model import Advice, Measure, Rule


def _imbalance(facts: Facts) -> float | None:
    """Return what ranks waited for each other, without what a named rank explains."""
    transient, persistent = (facts.loss_points.get(part) for part in ("transient", "persistent"))
    if transient is None or persistent is None:
        return None
    return transient if facts.job.suspects else transient + persistent


def _imbalance_claims(facts: Facts) -> tuple[str, ...]:
    """`transient`; `persistent` where no rank is named for it; `wait` where it alternates faster than a block."""
    claims = ["transient"] if facts.job.suspects else ["transient", "persistent"]
    return (*claims, *(("wait",) if all(condition.holds(facts) for condition in ALTERNATES) else ()))


IMBALANCE_POINTS = Measure(
    key="imbalance_points",
    name="ranks wait for each other",
    unit="points",
    fetch=_imbalance,
    rests_on=(RANKS_COMPARED,),
)
RANK_SPREAD = Measure(
    key="rank_spread",
    name="spread of the busy share over ranks",
    unit="frac",
    fetch=lambda f: f.job.rank_spread,
    rests_on=(RANKS_COMPARED,),
)
SUSPECTS = Measure(key="suspects_count", name="named ranks", unit="count", fetch=lambda f: float(len(f.job.suspects)))
ALTERNATES = (
    GPUS_COUNT.at_least(2),
    WAIT.at_least(5.0),
    RANK_SPREAD.at_least(0.10),
    SUSPECTS.below(1),  # a named rank for which the others wait spreads them as well
)
"""At every instant some ranks work while others wait, and they change places within a block of the job tree."""
TRANSIENT = Measure(
    key="transient", name="for changing ranks", unit="points", fetch=lambda f: f.loss_points.get("transient")
)
PERSISTENT = Measure(
    key="persistent", name="for the same ranks", unit="points", fetch=lambda f: f.loss_points.get("persistent")
)
LOAD_BALANCE = Measure(key="load_balance", name="load balance", unit="frac", fetch=lambda f: f.job.load_balance)
LOCAL_GPUS = Measure(
    key="local_gpus_count", name="GPUs on one node", unit="count", fetch=lambda f: float(f.job.local_gpus_count)
)
COMM_FRAC = Measure(key="comm_frac", name="time in communication", unit="frac", fetch=lambda f: f.comm_frac)
COMM_NVLINK = Measure(key="comm_nvlink", name="NVLink during communication", unit="frac", fetch=lambda f: f.comm_nvlink)
COMM_BUSIEST = Measure(
    key="link_during_comm", name="link during communication", unit="frac", fetch=lambda f: f.comm_link
)

COMM_RULES = (
    Rule(
        id="COMM_EXPOSED",
        title="communication is not hidden behind compute",
        meaning="For part of the time a few SMs move data over a link and nothing else runs. In a job of several "
        "GPUs it is what the busiest rank itself spends so, common to all.",
        conditions=(COMM.at_least(5.0),),
        evidence=(COMM, COMM_LINK, COMM_SHARE),
        advice=Advice(
            action="overlap it with the backward pass",
            hint="Overlap communication with the backward pass, tune bucket sizes, keep tensor parallelism inside the "
            "NVLink domain, use hierarchical collectives.",
            next_command="nsys profile -t cuda,nvtx -d 30 CMD",
        ),
        false_positives="Halo exchange; offload traffic over C2C.",
        claims=("comm",),
        yields_to=("NVLINK_UNUSED",),
    ),
    Rule(
        id="NVLINK_UNUSED",
        title="GPUs of one node communicate over PCIe or C2C",
        meaning="Several GPUs of the job share a node, they communicate for a good part of the time, and NVLink "
        "stays silent while PCIe or C2C is busy.",
        conditions=(
            COMM_FRAC.at_least(0.05),
            LOCAL_GPUS.at_least(2),
            COMM_NVLINK.below(0.01),
            COMM_BUSIEST.at_least(0.20),
        ),
        evidence=(COMM_NVLINK, COMM_BUSIEST, COMM_FRAC),
        advice=Advice(
            action="find why peer-to-peer is off",
            hint="Peer-to-peer may be disabled: look at NCCL_P2P_DISABLE and NCCL_P2P_LEVEL, at /dev/shm and the "
            "visible devices of the container, at IOMMU and ACS settings of the node.",
            next_command="NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=P2P,GRAPH CMD",
        ),
        false_positives="Transfers that are staged through the CPU by design; GPUs without NVLink between them.",
        claims=("comm",),
    ),
    Rule(
        id="COMM_WAIT",
        title="the GPU spins in a collective and nothing moves",
        meaning="A few SMs are held as by a collective, and the links stay below 5 %: this GPU has arrived and "
        "waits for somebody, or for a network that the counters do not see.",
        conditions=(WAIT.at_least(5.0),),
        evidence=(WAIT, COMM_SHARE),
        advice=Advice(
            action="find the late rank",
            hint="Another rank is late: look for a straggler, uneven work, or a slow network between nodes.",
            next_command="NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=NET CMD",
        ),
        false_positives="Traffic between nodes that GPU link counters do not see.",
        claims=("wait",),
        yields_to=("IMBALANCE",),
    ),
    Rule(
        id="IMBALANCE",
        title="ranks wait for each other: uneven work",
        meaning="At any time some ranks compute while others wait for them: work is uneven. Either the busiest rank "
        "changes (transient), or some are always behind and none stands out enough to be named (persistent).",
        conditions=(GPUS_COUNT.at_least(2), IMBALANCE_POINTS.at_least(5.0)),
        alternatives=(ALTERNATES,),
        evidence=(IMBALANCE_POINTS, RANK_SPREAD, WAIT, TRANSIENT, PERSISTENT, LOAD_BALANCE),
        advice=Advice(
            action="even out the work per rank and step",
            hint="Pack or bucket sequences by length, balance experts, split pipeline stages evenly.",
            next_command="nsys profile -t cuda,nvtx -d 30 CMD",
        ),
        false_positives="Ranks with different roles (pipeline stages): compare them within groups (--group-by).",
        claims=_imbalance_claims,
        scope="run",
    ),
)
