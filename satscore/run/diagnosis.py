"""What ``satscore doctor`` does: look at every source and at the machine, each apart from us."""

import contextlib
import os
import platform
import pwd
import socket
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from satscore import __version__
from satscore.core.anonymous import anonymise
from satscore.core.checks import checks_of
from satscore.core.diagnosis import DIAGNOSIS_VERSION, Diagnosis, SourceFinding, best_source, grade_reason
from satscore.core.machine import Machine
from satscore.run.apart import Apart, Say, wait_all
from satscore.run.machine import look

STALL_S = 8.0
"""What does not get ahead for so long hangs; longer than a driver takes that starts its GPUs when asked."""


class Candidate(NamedTuple):
    """One row of the list of sources.

    ``in_auto``: it is tried unless another one is asked for. ``idle_text`` says what it is where it is not tried.
    ``own_limits_s``: time within which it ends its own calls that hang.
    """

    name: str
    in_auto: bool
    idle_text: str
    own_limits_s: float = 0.0


CANDIDATES = (
    Candidate("gpm", in_auto=True, idle_text="pipe counters and gauges, Hopper and newer"),
    Candidate("dcgm", in_auto=True, idle_text="pipe counters and gauges by a DCGM host engine", own_limits_s=40.0),
    Candidate("nvml", in_auto=True, idle_text="gauges only, no pipe counters"),
    Candidate("sim", in_auto=False, idle_text="simulated GPUs, always there: satscore --source sim -- CMD"),
    Candidate("replay", in_auto=False, idle_text="a recording as if it were live: --source replay:RUN"),
)
BOTH = ("gpm", "dcgm")
"""What ``--source both`` reads."""
DRIVER_SOURCES = ("gpm", "nvml")
"""Sources that hang where the driver does."""
USER_VARIABLES = ("USER", "LOGNAME", "SLURM_JOB_USER")
NOBODY = frozenset({"", "root", "home", "users", "localhost"})
"""Words that tell nothing of who or where, and stand in our texts."""
OUR_WORDS = frozenset({"schema_version", "satscore_version", "data_kind", "kind", "grade", "status", "name", "best"})
"""Fields of a diagnosis with words of ours or of the vendor: a user who is called ``gpm`` must not change them."""


def diagnose(wanted: str, out: str | None, environ: Mapping[str, str], *, dcgm: str | None = None) -> Diagnosis:
    """Return what can be read here, and why not.

    A driver that hangs costs STALL_S, once; with DCGM's bindings here it may cost DCGM's own limits too, as does a
    host engine that hangs.

    Args:
        wanted: The source to look at; ``auto`` for all that a run would try.
        out: The run directory that the user states, or None.
        environ: The environment.
        dcgm: DCGM's host engine, or None for the usual ones.
    """
    looking = Apart(partial(_look, environ, out))
    working = {
        c.name: Apart(partial(_examine, c.name, _spec(c, wanted), dcgm), c.own_limits_s)
        for c in CANDIDATES
        if _tried(c, wanted)
    }
    wait_all([looking, *working.values()], STALL_S)
    found = {name: _finding(name, apart) for name, apart in working.items()}
    machine = _machine(looking)
    sources = [found.get(c.name) or _idle(c) for c in CANDIDATES]
    best = best_source(sources)
    examined = best.examined if best else None
    diagnosis = Diagnosis(
        schema_version=DIAGNOSIS_VERSION,
        satscore_version=__version__,
        python_version=platform.python_version(),
        kernel_version=platform.release(),
        architecture=platform.machine(),
        wanted=wanted,
        data_kind=examined.kind if examined else "measured",
        best=best.name if best else None,
        sources=sources,
        checks=checks_of(machine, examined, sources),
        grade=examined.grade if examined else None,
        grade_reason=grade_reason(best, sources),
    )
    return _anonymous(diagnosis, environ)


def _tried(candidate: Candidate, wanted: str) -> bool:
    asked = BOTH if wanted == "both" else (wanted.partition(":")[0],)
    return candidate.in_auto if wanted == "auto" else candidate.name in asked


def _spec(candidate: Candidate, wanted: str) -> str:
    return wanted if candidate.name == wanted.partition(":")[0] else candidate.name


def _examine(name: str, spec: str, dcgm: str | None, say: Say) -> bytes:
    from satscore.run.examine import examine  # noqa: PLC0415 - numpy, which starts threads: not in the process that forks

    return examine(name, spec, say, dcgm=dcgm)


def _look(environ: Mapping[str, str], out: str | None, say: Say) -> bytes:
    say("looking at /proc, /dev and the run directory")
    return msgspec.json.encode(look(environ, out))


def _machine(apart: Apart) -> Machine | str:
    """Return what was seen, or why nothing was."""
    answer = apart.answer()
    return apart.failure if answer is None else msgspec.json.decode(answer, type=Machine)


def _finding(name: str, apart: Apart) -> SourceFinding:
    answer = apart.answer()
    if answer is None:
        in_driver = name in DRIVER_SOURCES
        text = f"{apart.failure}{'; look at nvidia-smi and at dmesg on the node' if in_driver else ''}"
        return SourceFinding(name=name, status="no", text=text)
    return msgspec.json.decode(answer, type=SourceFinding)


def _idle(candidate: Candidate) -> SourceFinding:
    return SourceFinding(name=candidate.name, status="not tried", text=candidate.idle_text)


def _anonymous(diagnosis: Diagnosis, environ: Mapping[str, str]) -> Diagnosis:
    home, names = environ.get("HOME") or str(Path("~").expanduser()), names_here(environ)

    def walk(value: object) -> object:
        if isinstance(value, str):
            return anonymise(value, home, names)
        if isinstance(value, dict):
            return {key: item if key in OUR_WORDS else walk(item) for key, item in value.items()}
        return [walk(item) for item in value] if isinstance(value, list) else value

    return msgspec.convert(walk(msgspec.to_builtins(diagnosis)), type=Diagnosis)


def names_here(environ: Mapping[str, str]) -> set[str]:
    """Return the names of this user and host, as far as they tell anything.

    Args:
        environ: The environment; what it says may differ from what the system says.
    """
    host = socket.gethostname()
    names = {environ.get(variable, "") for variable in USER_VARIABLES}
    names |= {Path(environ.get("HOME", "")).name, host, host.partition(".")[0]}
    with contextlib.suppress(KeyError):  # a container may not know its user
        names.add(pwd.getpwuid(os.getuid()).pw_name)
    return {name for name in names if name.lower() not in NOBODY}
