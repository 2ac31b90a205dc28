"""Rules about the measurement and the hardware that it rests on: what makes counters or bounds doubtful."""

from collections.abc import Callable

from satscore.core.facts import Facts
from satscore.core.links import LOST_FRAC, LinkFacts
from satscore.core.placement import SHARED_FRAC
from satscore.core.rules_measures import SCORE
from satscore.core.rules_model import Advice, Measure, Rule

SHARED_TIME = Measure(
    key="shared_frac",
    name="there for this share of the time judged:",
    unit="frac",
    fetch=lambda f: f.job.shared_frac,
    counter="process ids on the GPU",
)
STRANGERS = Measure(
    key="foreign_processes",
    name="processes of others, up to",
    unit="count",
    fetch=lambda f: float(f.job.foreign_processes),
)
ABOVE_BOUND = Measure(
    key="bound_exceeded_frac",
    name="time above 102 % of a bound",
    unit="frac",
    fetch=lambda f: f.bound_exceeded_frac,
    rests_on=(SCORE,),
)
ABOVE_CEILING = Measure(
    key="ceiling_exceeded_frac",
    name="time above the attainable rate",
    unit="frac",
    fetch=lambda f: f.ceiling_exceeded_frac,
    rests_on=(SCORE,),
)
PIPES_READ = Measure(
    key="pipe_counters",
    name="pipe counters read (1: yes)",
    unit="count",
    fetch=lambda f: float(f.job.has_pipe_counters),
)
PCIE_LOST = Measure(
    key="pcie_lost_frac",
    name="PCIe bandwidth missing under load",
    unit="frac",
    fetch=lambda f: f.links.pcie_lost_frac,
    counter="PCIe lanes and generation under load",
)
NVLINK_LOST = Measure(
    key="nvlink_lost_frac",
    name="NVLink connections missing",
    unit="frac",
    fetch=lambda f: f.links.nvlink_lost_frac,
    counter="NVLink connections",
)
LINK_ERRORS = Measure(
    key="link_error_ratio",
    name="link errors over what is normal",
    unit="1",
    fetch=lambda f: f.links.error_ratio,
    counter="PCIe replays or NVLink errors",
)


def _state(key: str, name: str, fetch: Callable[[LinkFacts], int | None], lost: Measure) -> Measure:
    """Return what a link has, or could have, where it is not the same."""

    def where_lost(facts: Facts) -> float | None:
        count = fetch(facts.links)
        return float(count) if count is not None and lost.fetch(facts) else None

    return Measure(key=key, name=name, unit="count", fetch=where_lost)


LINK_ROWS = (
    _state("pcie_generation", "PCIe generation", lambda k: k.pcie_generation, PCIE_LOST),
    _state("pcie_generation_max", "generation possible", lambda k: k.pcie_generation_max, PCIE_LOST),
    _state("pcie_lanes_count", "PCIe lanes", lambda k: k.pcie_lanes_count, PCIE_LOST),
    _state("pcie_lanes_max_count", "lanes possible", lambda k: k.pcie_lanes_max_count, PCIE_LOST),
    _state("nvlink_active_count", "NVLink active", lambda k: k.nvlink_active_count, NVLINK_LOST),
    _state("nvlink_count", "NVLink there", lambda k: k.nvlink_count, NVLINK_LOST),
)

TRUST_RULES = (
    Rule(
        id="GPU_SHARED",
        title="processes of others compute on the same GPU",
        meaning="Counters are of the whole GPU, so the work of others is in this score: grade C at most.",
        conditions=(SHARED_TIME.at_least(SHARED_FRAC),),
        evidence=(STRANGERS, SHARED_TIME),
        advice=Advice(
            action="give the run a GPU of its own",
            hint="Counters are of the whole GPU, so the work of the others is in this score: ask for the GPU "
            "exclusively, or end what is left over from an earlier run.",
            next_command="nvidia-smi --query-compute-apps=gpu_uuid,pid,name --format=csv",
        ),
        false_positives="Ranks of one job that share a GPU on purpose, each under a satscore of its own.",
        informational=True,
        doubts=True,
        scope="run",
    ),
    Rule(
        id="BOUND_EXCEEDED",
        title="a counter is above its bound: wrong model or counter",
        meaning="A resource did more than 102 % of its peak for a good part of the time, which cannot be: the "
        "hardware model, its bound or the counter is wrong, and so is the score.",
        conditions=(ABOVE_BOUND.at_least(0.01),),
        evidence=(ABOVE_BOUND,),
        advice=Advice(
            action="check the hardware model",
            hint="Compare the model with the GPU's datasheet, memory clock and variant; a file of your own may "
            "override it.",
            next_command="satscore doctor && satscore models",
        ),
        false_positives="A clock that was raised above the datasheet's.",
        informational=True,
        doubts=True,
        scope="gpu",
    ),
    Rule(
        id="CALIBRATION_STALE",
        title="faster than the best known rate: its entry is stale",
        meaning="The run was more than 3 % above the attainable rate that is known for this GPU and cap, for 5 % of "
        "the time or more: S_att is too high. S itself does not depend on it.",
        conditions=(ABOVE_CEILING.at_least(0.05),),
        evidence=(ABOVE_CEILING,),
        advice=Advice(
            action="update the attainable rate",
            hint="State the better rate in a model overlay, with its cap and vBoost level.",
            next_command="satscore models",
        ),
        false_positives="Data that needs little power (zeros, constants): faster than any real data.",
        informational=True,
        scope="gpu",
    ),
    Rule(
        id="NO_COUNTERS",
        title="no pipe counters: there is no score",
        meaning="The source gives gauges only (clocks, power, temperature), or nothing: how full the GPU was cannot "
        "be known, and no score is made up for it.",
        conditions=(PIPES_READ.below(1),),
        evidence=(PIPES_READ,),
        advice=Advice(
            action="make the counters readable",
            hint="GPM needs Hopper or newer and a recent driver; some sites restrict profiling counters to "
            "administrators. The note beside the score says which it is here.",
            next_command="satscore doctor",
        ),
        false_positives="None: without counters nothing is claimed.",
        informational=True,
        doubts=True,
        scope="run",
    ),
    Rule(
        id="LINK_DEGRADED",
        title="a link runs below its full width or speed",
        meaning="Under load, PCIe has fewer lanes or a lower generation than the GPU and slot support, fewer "
        "NVLink connections are active than the board has, or a link repeats more packets than the noise that "
        "its specification allows.",
        conditions=(PCIE_LOST.at_least(LOST_FRAC),),
        alternatives=((NVLINK_LOST.at_least(LOST_FRAC),), (LINK_ERRORS.at_least(1.0),)),
        evidence=(PCIE_LOST, NVLINK_LOST, *LINK_ROWS, LINK_ERRORS),
        advice=Advice(
            action="report the node: PCIe or NVLink",
            hint="Report the node to the site: reseat or replace the module, check the NVLink bridge or switch.",
            next_command="nvidia-smi nvlink -s; nvidia-smi -q | grep -A12 'GPU Link Info'",
        ),
        false_positives="PCIe saves power at idle: it counts only under load. Boards whose NVLink bridges take only "
        "some of the connections.",
        informational=True,
        scope="gpu",
    ),
)
