"""Commands that start their work elsewhere: satscore before a launcher sees the GPUs of its own node only. Pure."""

import shlex
from collections.abc import Sequence
from typing import NamedTuple

from satscore.core.redact import redact

_SHOWN_WORDS = 3
"""Of the command behind the launcher."""


class _Prefix(NamedTuple):
    """A program that runs the rest of its own command line."""

    valued: frozenset[str] = frozenset()
    """Its options whose value is the next word."""
    words: int = 0
    """Other words before the command."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _prefix(valued: str = "", words: int = 0) -> _Prefix:
    return _Prefix(_words(valued), words)


_PREFIXES = {
    "env": _prefix("-u --unset -C --chdir"),
    "exec": _prefix(),
    "ionice": _prefix("-c --class -n --classdata"),
    "nice": _prefix("-n --adjustment"),
    "nohup": _prefix(),
    "numactl": _prefix("-C --physcpubind -N --cpunodebind -i --interleave -m --membind -p --preferred"),
    "setsid": _prefix(),
    "stdbuf": _prefix("-i --input -o --output -e --error"),
    "taskset": _prefix(words=1),
    "time": _prefix("-f --format -o --output"),
    "timeout": _prefix("-k --kill-after -s --signal", words=1),
}
_BEFORE_RANKS = _words(
    "srun mpirun mpiexec mpiexec.hydra mpiexec.openmpi mpirun.openmpi mpirun_rsh orterun prterun jsrun lrun aprun "
    "horovodrun"
) | {"flux run"}
_SUBMITTING = _words("sbatch salloc qsub bsub") | {"flux submit", "flux batch", "flux alloc"}
_REMOTE = _words("ssh pdsh kubectl")
_VALUED = {
    "srun": _words("-A -B -C -D -G -J -L -N -S -T -W -c -d -e -i -m -n -o -p -q -r -t -w -x"),
    "mpirun": _words(
        "-n -np --np -N -npernode --npernode -ppn -x -H -host --host -hostfile --hostfile -machinefile --machinefile "
        "-map-by --map-by -bind-to --bind-to"
    ),
}
"""Options of launchers whose value is the next word."""
_FLAGS = {
    "srun": _words("-E -H -K -O -Q -X -Z -l -s -u -v --exclusive --label --overlap --overcommit --pty --unbuffered"),
    "mpirun": _words("-v --oversubscribe --allow-run-as-root --tag-output -q --quiet --report-bindings"),
}
"""Those without a value."""


def wraps_launcher(command: Sequence[str]) -> str | None:
    """Return the launcher that a command begins with; None: it does its work on this node.

    torchrun, accelerate and deepspeed are none: they start the ranks of their own node.

    Args:
        command: Its words; ``env``, ``nice``, ``timeout 60`` and the like before the launcher are seen through.
    """
    rest = _without_prefixes(command)
    if not rest:
        return None
    name = _name(rest[0])
    if name == "flux" and len(rest) > 1:
        name = f"flux {rest[1]}"
    return name if name in _BEFORE_RANKS | _SUBMITTING | _REMOTE else None


def advice(command: Sequence[str]) -> str:
    """Return a line that says where to put satscore instead; empty where it stands well.

    Args:
        command: As for ``wraps_launcher``; what looks like a secret is not repeated.
    """
    name = wraps_launcher(command)
    if name is None:
        return ""
    if any(_name(word) == "satscore" for word in _without_prefixes(command)):
        if name != "srun" and name not in _SUBMITTING | _REMOTE:  # its ranks here descend from us
            return (
                f"satscore before {name} scores this node only, and those behind it do not measure: leave this one out"
            )
        return f"satscore before {name} sees this node only: the one behind {name} scores the ranks, leave this one out"
    if name in _SUBMITTING:
        return f"satscore before {name} sees the submission, not the job: put it into the job: srun satscore -- CMD"
    if name in _REMOTE:
        return f"satscore before {name} sees the GPUs of this machine only: put it behind {name}, before the command"
    words = _behind(name, _without_prefixes(redact(list(command))))
    return f"satscore before {name} sees the GPUs of this node only: put it behind: {words or _general(name)}"


def _general(name: str) -> str:
    return f"{name} ARGS satscore -- CMD"


def _behind(name: str, words: Sequence[str]) -> str | None:
    """Return the command with satscore behind its launcher; None where the launcher's options have no sure end."""
    kind = "srun" if name == "srun" else "mpirun" if name.startswith(("mpirun", "mpiexec", "orterun")) else None
    if kind is None or ":" in words or "--multi-prog" in words:
        return None
    at = 1
    while at < len(words) and words[at].startswith("-"):
        word = words[at]
        if word == "--":
            at += 1
            break
        is_attached = kind == "srun" and not word.startswith("--") and len(word) > 2
        if word in _VALUED[kind]:
            at += 2
        elif word in _FLAGS[kind] or is_attached or (word.startswith("--") and "=" in word):
            at += 1
        else:
            return None
    if at >= len(words):
        return None
    rest = words[at : at + _SHOWN_WORDS]
    more = " ..." if len(words) > at + _SHOWN_WORDS else ""
    return f"{shlex.join([*words[:at], 'satscore', '--', *rest])}{more}"


def _without_prefixes(command: Sequence[str]) -> Sequence[str]:
    """Return a command without the programs before it that run the rest of their words."""
    words = list(command)
    while words and _name(words[0]) in _PREFIXES:
        prefix = _PREFIXES[_name(words.pop(0))]
        while words and words[0].startswith("-"):
            option = words.pop(0)
            if option == "--":
                break
            if option in prefix.valued and words:
                words.pop(0)
        del words[: prefix.words]
        while words and "=" in words[0].partition("/")[0]:  # env X=1
            words.pop(0)
    return words


def _name(word: str) -> str:
    return word.rpartition("/")[2]
