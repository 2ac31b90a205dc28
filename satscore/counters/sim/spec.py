"""The text that selects a simulation: ``sim``, ``sim:llm``, ``sim:llm,seed=3,speed=20,gpus=2``."""

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass

from satscore.counters.sim.scenarios import DEFAULT_SCENARIO, SCENARIOS, Scenario
from satscore.errors import CounterError

_OPTIONS = ("seed", "speed", "gpus")
_MAX_SPEED = 1000.0
_MAX_GPUS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SimSpec:
    """A parsed selection."""

    scenario: Scenario
    seed: int = 0
    speed: float = 1.0
    """Simulated seconds per real second."""
    gpus: int | None = None
    """GPUs of one process; None: as many as the scenario has."""


def parse_spec(text: str) -> SimSpec:
    """Parse a selection.

    Args:
        text: ``sim``, or ``sim:`` and, separated by commas, a scenario's name (may be left out) and
            ``seed=``, ``speed=``, ``gpus=``.

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
    scenario = SCENARIOS[name]
    options = dict(_option(item) for item in items)
    gpus = _integer("gpus", options["gpus"]) if "gpus" in options else None
    _check_gpus(scenario, gpus)
    return SimSpec(
        scenario=scenario,
        seed=_integer("seed", options.get("seed", "0")),
        speed=_speed(options.get("speed", "1")),
        gpus=gpus,
    )


def _option(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    name = name.strip()
    if name not in _OPTIONS:
        raise _unknown("option of the simulator", name, _OPTIONS)
    if not equals or not value.strip():
        raise CounterError(f"option {name!r} of the simulator has no value", hint=f"write {name}=NUMBER")
    return name, value.strip()


def _unknown(what: str, value: str, valid: Iterable[str]) -> CounterError:
    names = list(valid)
    nearest = difflib.get_close_matches(value, names, n=1, cutoff=0.0)[0]
    return CounterError(f"unknown {what} {value!r}; nearest is {nearest!r}", hint=f"valid are: {', '.join(names)}")


def _integer(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise CounterError(
            f"option {name}={value!r} of the simulator is not a whole number", hint=f"write {name}=2, say"
        ) from None


def _speed(value: str) -> float:
    try:
        speed = float(value)
    except ValueError:
        speed = math.nan
    if not 0.0 < speed <= _MAX_SPEED:
        raise CounterError(
            f"option speed={value!r} of the simulator is out of range",
            hint=f"speed is simulated seconds per real second, above 0 and at most {_MAX_SPEED:g}",
        )
    return speed


def _check_gpus(scenario: Scenario, gpus: int | None) -> None:
    if gpus is None:
        return
    if not 1 <= gpus <= _MAX_GPUS:
        raise CounterError(f"option gpus={gpus} of the simulator is out of range", hint=f"1 to {_MAX_GPUS}")
    if scenario.world > 1 and gpus != scenario.world:
        raise CounterError(
            f"option gpus={gpus} does not fit the simulated scenario {scenario.name!r}",
            hint=f"it has {scenario.world} GPUs; leave gpus out",
        )
