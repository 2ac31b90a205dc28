"""Rules about what holds the clock down. Each GPU is judged by itself: a job's mean hides one hot GPU of many."""

import math

import msgspec

from satscore.core.facts import HOT_MARGIN_C, Facts, nearest_cap
from satscore.core.rules_measures import CLOCK_DEFICIT, COMMAND_CPU, ENGINE, POWER_ROWS, SCORE, SM_CLOCK
from satscore.core.rules_model import Advice, Fetch, Measure, Rule

SLOW_CLOCK = 0.05
"""A clock so far below the GPU's maximum is held down by something."""
CAPPED_TIME = 0.5
"""Share of time from which on a cap is what holds the clock down (docs/method.md, "Power and clocks")."""
FAR_BELOW_LIMIT = 0.85
"""Regulated power stays within a few percent of its limit; with work that comes and goes the mean is lower."""
SOME_TIME = 0.01


def _cap_time(facts: Facts) -> float | None:
    """Return the share of time at a power cap: by the driver's count, else by power at 96.5 % of a limit."""
    by_reason = facts.throttle["power"]
    if by_reason is not None:
        return by_reason
    return max((share for share in facts.power_high.values() if share is not None), default=None)


def _capped_claims(facts: Facts) -> tuple[str, ...]:
    """`clock_power`; `clock_unknown` where the driver does not say why the clock is low."""
    return ("clock_power",) if facts.throttle["power"] is not None else ("clock_unknown",)


def _any_reason(facts: Facts) -> float | None:
    """Return the largest share of time with a reason of power, heat or hardware; None if power or heat is unknown."""
    power, thermal = facts.throttle["power"], facts.throttle["thermal"]
    if power is None or thermal is None:
        return None
    return max(power, thermal, facts.throttle["hw"] or 0.0, facts.throttle["board"] or 0.0)


def _headroom(facts: Facts) -> float | None:
    _, share = nearest_cap(facts.power_frac)
    return None if share is None else 1.0 - share


def _capped_variant(facts: Facts) -> str:
    """Tell the advice at a cap: one that nobody reports goes first."""
    return "unreported" if _is_below_every_limit(facts) else _vboost_variant(facts)


def _vboost_variant(facts: Facts) -> str:
    """Tell the variant of advice where vBoost is off and tensor work leads."""
    tensor = facts.score_by.get("tensor", 0.0)
    if facts.vboost_level != 0 or not tensor >= 0.5 * (facts.score_points or 0.0) > 0:
        return ""
    return "vboost on a module" if facts.power_limit_w.get("module") is not None else "vboost"


def _is_below_every_limit(facts: Facts) -> bool:
    """Whether power is far from each limit that the driver reports, while the driver says that a cap binds.

    A limit whose power is not known could be the one.
    """
    nearest = nearest_cap(facts.power_frac)[1]
    unknown = [scope for scope, limit in facts.power_limit_w.items() if limit and facts.power_frac.get(scope) is None]
    if facts.throttle["power"] is None or nearest is None or facts.power_frac.get("gpu") is None or unknown:
        return False
    at_limit = max((share for share in facts.power_high.values() if share is not None), default=1.0)
    return nearest < FAR_BELOW_LIMIT and at_limit < SOME_TIME


def _margin_if_needed(facts: Facts) -> float | None:
    """Return how far the GPU is from slowing itself down; without it, the driver's count of heat decides alone."""
    if facts.temp_margin_c is None and facts.throttle["thermal"] is not None:
        return math.inf
    return facts.temp_margin_c


def _throttled(reason: str) -> Fetch:
    return lambda facts: facts.throttle[reason]


CAP_TIME = Measure(
    key="throttle_power",
    name="held down by the cap",
    unit="frac",
    fetch=_cap_time,
    counter="throttle time or power with its limit",
)
CAP_LOSS = Measure(
    key="clock_power_points",
    name="clock lost to the cap",
    unit="points",
    fetch=lambda f: f.loss_points.get(_capped_claims(f)[0]),
    rests_on=(SCORE,),
)
MODULE_TIME = Measure(
    key="module_at_limit",
    name="module at its limit",
    unit="frac",
    fetch=lambda f: f.power_high.get("module"),
    counter="module power with its limit",
)
OWN_TIME = Measure(
    key="gpu_at_limit",
    name="GPU at its own limit",
    unit="frac",
    fetch=lambda f: f.power_high.get("gpu"),
    counter="GPU power with its limit",
)
MODULE_POWER_FRAC = Measure(
    key="power_frac_module",
    name="module power of its cap",
    unit="frac",
    fetch=lambda f: f.power_frac.get("module"),
)
GPU_POWER_FRAC = Measure(
    key="power_frac_gpu", name="GPU power of its own", unit="frac", fetch=lambda f: f.power_frac.get("gpu")
)
MODULE_LIMIT = Measure(
    key="power_limit_module_w", name="module cap", unit="W", fetch=lambda f: f.power_limit_w.get("module")
)
CPU_POWER = Measure(key="power_cpu_w", name="CPU power", unit="W", fetch=lambda f: f.power_cpu_w)
HEAT_TIME = Measure(
    key="throttle_thermal",
    name="held down by heat",
    unit="frac",
    fetch=_throttled("thermal"),
    counter="throttle time by heat",
)
TEMP_MARGIN = Measure(
    key="temp_margin_c", name="below its slowdown limit by", unit="C", fetch=lambda f: f.temp_margin_c
)
NEAR_SLOWDOWN = msgspec.structs.replace(TEMP_MARGIN, fetch=_margin_if_needed, counter=HEAT_TIME.counter)
TEMPERATURE = Measure(key="temp_max_c", name="temperature up to", unit="C", fetch=lambda f: f.temp_max_c)
HARDWARE_TIME = Measure(
    key="throttle_hw",
    name="hardware slowdown or power brake",
    unit="frac",
    fetch=_throttled("hw"),
    counter="throttle time by hardware",
)
ANY_TIME = Measure(
    key="throttle_any",
    name="held down by power, heat or hardware",
    unit="frac",
    fetch=_any_reason,
    counter="throttle time by power and heat",
)
HEADROOM = Measure(
    key="power_headroom", name="power below the cap by", unit="frac", fetch=_headroom, counter="power with its limit"
)
CLOCK_IQR = Measure(
    key="clock_iqr_mhz",
    name="clock varies (middle half) by",
    unit="MHz",
    fetch=lambda f: f.clock_iqr_mhz,
    counter="SM clock",
)
APP_CLOCKS = Measure(
    key="throttle_app_clocks", name="application clocks in force", unit="frac", fetch=_throttled("app_clocks")
)
_ON_ALPS = "On the GH200 nodes of Alps (CSCS) the level is 0 unless the job asks for 1 by this constraint."
_CALM_HINT = (
    "Fewer busy CPU threads leave more power to the GPU: loader workers, OpenMP threads that spin "
    "(OMP_WAIT_POLICY=passive), NCCL proxy threads. On Alps (CSCS, experimental) srun --power-cap=100 caps the CPU at "
    "so many W, 50 to 300: also while the GPU is idle, so try several; srun's value overrides sbatch's, and steps that "
    "run at once overwrite each other's."
)
_VBOOST_HINT = (
    "vBoost is off and tensor work leads: it moves power from the memory side to the SMs. Sites set it, often by a "
    "Slurm constraint. Or raise the power limit, or accept it and judge the run by S_att."
)
_REPORT_NODE = "nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER"

POWER_RULES = (
    Rule(
        id="POWER_CAPPED",
        title="the power cap holds the clock down",
        meaning="Power is at its limit, and the clock is what gives: the driver says so by its own count of time, or, "
        "where that cannot be read, power is at 96.5 % of a limit or more.",
        conditions=(CAP_LOSS.at_least(1.0), CAP_TIME.at_least(CAPPED_TIME), CLOCK_DEFICIT.at_least(SLOW_CLOCK)),
        evidence=(CAP_TIME, *POWER_ROWS, SM_CLOCK),
        advice=Advice(
            action="raise the cap, or accept it",
            hint="Raise the power limit if the site allows it; cooler inlet air helps. Where the site offers vBoost "
            "and its level is 0, enable it if tensor work leads. Otherwise accept the cap and judge the run by S_att.",
            next_command="nvidia-smi -q -d POWER,PERFORMANCE,CLOCK",
        ),
        variants={
            "unreported": Advice(
                action="state the cap: none reported binds here",
                hint="The driver says that the cap holds the clock down, but power is far below every limit that it "
                "reports: a cap lower than the driver reports is in force. Ask the site. That of a module of CPU and "
                "GPU can be stated (SATSCORE_MODULE_CAP_W, or module_cap_w of the hardware model): then power and "
                "attainable rates are judged by it.",
                next_command="nvidia-smi -q -d POWER,PERFORMANCE,CLOCK",
            ),
            "vboost": Advice(
                action="enable vBoost, or raise the cap",
                hint=_VBOOST_HINT,
                next_command="nvidia-smi boost-slider -l",
            ),
            "vboost on a module": Advice(
                action="enable vBoost, or raise the cap",
                hint=f"{_VBOOST_HINT} {_ON_ALPS}",
                next_command="#SBATCH --constraint=nvidia_vboost_enabled",
            ),
        },
        variant=_capped_variant,
        false_positives="A cap by site policy: then this is for information.",
        claims=_capped_claims,
        scope="gpu",
        yields_to=("MODULE_POWER",),
    ),
    Rule(
        id="MODULE_POWER",
        title="the CPU takes power from the GPU on their module",
        meaning="On a module that CPU and GPU share (GH200), the module is at its limit while the GPU is below its "
        "own: the CPU is served first, and the GPU's clock gives.",
        conditions=(
            CAP_LOSS.at_least(1.0),
            MODULE_TIME.at_least(CAPPED_TIME),
            OWN_TIME.below(CAPPED_TIME),
            CLOCK_DEFICIT.at_least(SLOW_CLOCK),
        ),
        evidence=(MODULE_TIME, CPU_POWER, GPU_POWER_FRAC, COMMAND_CPU, MODULE_POWER_FRAC, MODULE_LIMIT, SM_CLOCK),
        advice=Advice(
            action="calm busy CPU threads, or cap the CPU's power",
            hint=_CALM_HINT,
            next_command="top -H -b -n 1 | head -40",
        ),
        variants={
            "vboost on a module": Advice(
                action="calm busy CPU threads, or enable vBoost",
                hint=f"{_CALM_HINT} {_VBOOST_HINT} {_ON_ALPS}",
                next_command="#SBATCH --constraint=nvidia_vboost_enabled",
            )
        },
        variant=_vboost_variant,
        false_positives="A driver that reports the module's power or limit under the wrong scope.",
        claims=_capped_claims,
        scope="gpu",
    ),
    Rule(
        id="THERMAL",
        title="heat holds the clock down",
        meaning="The driver lowers the clock because the GPU or its memory is too hot, or the GPU is within 3 C of the "
        "temperature at which it slows itself down.",
        conditions=(HEAT_TIME.at_least(SOME_TIME),),
        alternatives=((NEAR_SLOWDOWN.below(HOT_MARGIN_C),),),
        evidence=(HEAT_TIME, TEMP_MARGIN, TEMPERATURE, SM_CLOCK),
        advice=Advice(
            action="report the node: cooling",
            hint="Report the node to the site: air flow, inlet temperature, liquid cooling, dust, thermal paste.",
            next_command=_REPORT_NODE,
        ),
        false_positives="The first minutes after a long pause.",
        claims=("clock_thermal",),
        scope="gpu",
    ),
    Rule(
        id="HW_SLOWDOWN",
        title="hardware slowdown or power brake",
        meaning="The board itself pulls the clock down: a power brake from the supply, or a slowdown by its own "
        "sensors.",
        conditions=(HARDWARE_TIME.at_least(0.001),),
        evidence=(HARDWARE_TIME, SM_CLOCK, TEMPERATURE),
        advice=Advice(
            action="report the node: power supply",
            hint="Report the node to the site: power supply, power brake signal, board sensors.",
            next_command=_REPORT_NODE,
        ),
        false_positives="None known.",
        claims=("clock_hw",),
        scope="gpu",
    ),
    Rule(
        id="CLOCK_LOCKED",
        title="the clock is fixed below its maximum",
        meaning="The GPU works, its clock stands still below the maximum, and neither power, heat nor hardware is the "
        "reason: clocks were locked or application clocks are set.",
        conditions=(
            CLOCK_DEFICIT.at_least(SLOW_CLOCK),
            CLOCK_IQR.below(20.0),
            HEADROOM.at_least(0.1),
            ANY_TIME.below(SOME_TIME),
            ENGINE.at_least(0.5),
        ),
        evidence=(CLOCK_DEFICIT, SM_CLOCK, CLOCK_IQR, APP_CLOCKS),
        advice=Advice(
            action="unlock the clocks, or ask the site",
            hint="Unlock with nvidia-smi -rgc (and -rac for application clocks), or ask the site why they are set.",
            next_command="nvidia-smi -q -d CLOCK,PERFORMANCE",
        ),
        false_positives="Clocks that the site fixes on purpose; a power profile or vBoost that lowers the maximum.",
        claims=("clock_app_clocks", "clock_other", "clock_unknown"),
        scope="gpu",
    ),
)
