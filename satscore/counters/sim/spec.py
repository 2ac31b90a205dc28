"""The text that selects a simulation: ``sim``, ``sim:llm``, ``sim:llm,seed=3,speed=20``, ``sim:healthy,world=8``.

Options of the physics (``ambient``, ``cpu_w``, ``vboost``, ``faults``) change the chosen scenario.
"""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from satscore.counters.clock import parse_speed
from satscore.counters.sim.faults import LOST_PERIOD_S, MOST, Faults
from satscore.counters.sim.module import CpuLoad
from satscore.counters.sim.scenarios import DEFAULT_SCENARIO, SCENARIOS
from satscore.counters.sim.workload import Scenario
from satscore.errors import CounterError

OPTIONS = {
    "seed": "chooses the odd rank, how ranks vary and what the read faults hit",
    "speed": "simulated seconds per real second",
    "gpus": "GPUs of one process that do not wait for each other",
    "world": "GPUs of one process that do",
    "ambient": "temperature of the air in C",
    "cpu_w": "power of the module's CPU in W, constant",
    "vboost": "0 or 1",
    "faults": "read faults, such as blank:0.05+lost:3",
}
FAULTS = {
    "blank": "share of values that the driver answers without a number",
    "stale": "share of reads in which the driver repeats its counters",
    "reset": "share of reads before which the driver's running totals began anew",
    "jitter": "longest time in s by which a GPU's counters are older than the read",
    "multiplex": "length in s of the turns that two groups of pipe counters take",
    "lost": f"time in s in every {LOST_PERIOD_S:g} s in which the GPU does not answer",
}
_MAX_SPEED = 1000.0
_MAX_GPUS = 64
_MAX_AMBIENT_C = 70.0
_MAX_CPU_W = 500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SimSpec:
    """A parsed selection."""

    scenario: Scenario
    seed: int = 0
    speed: float = 1.0
    """Simulated seconds per real second."""
    gpus: int | None = None
    """GPUs of one process, replicas of each other; None: one."""
    world: int | None = None
    """Ranks of a job whose ranks wait for each other; None: as many as the scenario has, or as there are processes."""


def parse_spec(text: str) -> SimSpec:
    """Parse a selection.

    Args:
        text: ``sim``, or ``sim:`` and, separated by commas, a scenario's name (may be left out) and
            options (OPTIONS), each at most once.

    Raises:
        CounterError: A name or value is wrong; says which, and what is valid.
    """
    head, _, rest = text.partition(":")
    if head.strip() != "sim":
        raise CounterError(f"{text!r} does not select the simulator", hint="write sim or sim:SCENARIO")
    items = [item.strip() for item in rest.split(",") if item.strip()]
    name = items.pop(0) if items and "=" not in items[0] else DEFAULT_SCENARIO
    if name not in SCENARIOS:
        raise _unknown("simulated scenario", name, SCENARIOS)
    options = _options(items)
    scenario = _changed(SCENARIOS[name], options)
    gpus, world = (_count(name, options[name]) if name in options else None for name in ("gpus", "world"))
    _check_counts(scenario, gpus, world)
    return SimSpec(
        scenario=scenario,
        seed=_integer("seed", options.get("seed", "0")),
        speed=parse_speed(options.get("speed", "1"), of="the simulator", seconds="simulated", highest=_MAX_SPEED),
        gpus=gpus,
        world=world,
    )


def _options(items: Iterable[str]) -> dict[str, str]:
    pairs = [tuple(part.strip() for part in item.partition("=")) for item in items]
    for name, _, value in pairs:
        if name not in OPTIONS:
            raise _unknown("option of the simulator", name, OPTIONS)
        if not value:
            raise CounterError(
                f"option {name!r} of the simulator has no value", hint=f"write {name}=VALUE: {OPTIONS[name]}"
            )
    return _each_once("option", [(name, value) for name, _, value in pairs])


def _changed(scenario: Scenario, options: Mapping[str, str]) -> Scenario:
    """Return a scenario with the options of its physics."""
    if "ambient" in options:
        ambient_c = _number("option ambient", options["ambient"], _MAX_AMBIENT_C, OPTIONS["ambient"])
        scenario = replace(scenario, cooling=scenario.cooling._replace(ambient_c=ambient_c))
    if "cpu_w" in options:
        if scenario.module is None:
            raise CounterError(
                f"option 'cpu_w' does not fit the simulated scenario {scenario.name!r}: its board has no CPU",
                hint=f"it fits {', '.join(n for n, s in SCENARIOS.items() if s.module is not None)}",
            )
        cpu_w = _number("option cpu_w", options["cpu_w"], _MAX_CPU_W, OPTIONS["cpu_w"])
        scenario = replace(scenario, cpu=CpuLoad((cpu_w,)))
    if "vboost" in options:
        level = _integer("vboost", options["vboost"])
        if level not in (0, 1):
            raise CounterError(f"option vboost={level} of the simulator is out of range", hint="write 0 or 1")
        scenario = replace(scenario, vboost_level=level)
    if "faults" in options:
        scenario = replace(scenario, faults=_faults(options["faults"]))
    return scenario


def _faults(text: str) -> Faults:
    """Parse ``blank:0.05+lost:3``; a fault that is not named does not happen."""
    pairs = [tuple(part.strip() for part in item.partition(":")) for item in text.split("+")]
    for name, _, _ in pairs:
        if name not in FAULTS:
            raise _unknown("read fault of the simulator", name, FAULTS)
    found = _each_once("read fault", [(name, value) for name, _, value in pairs])
    return Faults(
        **{
            name: _number(f"read fault {name}", value, getattr(MOST, name), FAULTS[name])
            for name, value in found.items()
        }
    )


def _each_once(what: str, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise CounterError(f"{what} {name!r} of the simulator is given twice", hint="leave one out")
        found[name] = value
    return found


def _number(what: str, value: str, most: float, meaning: str) -> float:
    """Return a number from 0 to ``most``."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0.0 <= number <= most:
        raise CounterError(
            f"{what} of the simulator: {value!r} is not a number from 0 to {most:g}", hint=f"it is the {meaning}"
        )
    return number


def _unknown(what: str, value: str, valid: Iterable[str]) -> CounterError:
    names = list(valid)
    nearest = difflib.get_close_matches(value, names, n=1, cutoff=0.0)[0]
    return CounterError(f"unknown {what} {value!r}; nearest is {nearest!r}", hint=f"valid are: {', '.join(names)}")


def _integer(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise CounterError(
            f"option {name}={value!r} of the simulator is not a whole number", hint=f"write {name}=1, say"
        ) from None


def _count(name: str, value: str) -> int:
    count = _integer(name, value)
    if not 1 <= count <= _MAX_GPUS:
        raise CounterError(f"option {name}={count} of the simulator is out of range", hint=f"1 to {_MAX_GPUS}")
    return count


def _check_counts(scenario: Scenario, gpus: int | None, world: int | None) -> None:
    """Refuse a number that is not the scenario's to choose: its GPUs wait for each other, or they do not."""
    name = scenario.name
    if scenario.ranks is None:
        if world is not None:
            raise CounterError(
                f"option world={world} does not fit the simulated scenario {name!r}: none of its GPUs waits",
                hint=f"write gpus={world}; world fits {', '.join(n for n, s in SCENARIOS.items() if s.ranks)}",
            )
    elif gpus not in (None, world or scenario.ranks.world):
        raise CounterError(
            f"option gpus={gpus} does not fit the simulated scenario {name!r}",
            hint=f"it has {world or scenario.ranks.world} GPUs; leave gpus out, or write world={gpus}",
        )
