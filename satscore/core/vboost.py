"""The vBoost level of each GPU: from the table of the driver's tool, or as a constraint of the job states it.

vBoost moves power from the memory side to the SMs; its level is part of what a ceiling holds for (docs/method.md,
"Bounds"). No library call reads it, only ``nvidia-smi boost-slider -l``.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from satscore.core.gpu import GpuInfo

TOOL = "nvidia-smi boost-slider -l"
CONSTRAINT_VARIABLES = ("SLURM_JOB_CONSTRAINTS", "SLURM_CONSTRAINT", "SBATCH_CONSTRAINT", "SALLOC_CONSTRAINT")
"""The job's own features, where a site passes them on, then those that srun, sbatch and salloc were given."""
_LEVELS_OF_FEATURES = {
    "nvidia_vboost_enabled": 1,
    "nvidia_vboost_enable": 1,
    "nvidia_vboost_disabled": 0,
    "nvidia_vboost_disable": 0,
}
"""Names of the features on Alps; its documentation has both forms."""
_TITLE, _COLUMNS = "GPU Boost Slider", "GPU Slider Max Value Current Value"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class Vboost(msgspec.Struct, frozen=True, kw_only=True):
    """What the tool told.

    ``levels`` is keyed by the number that nvidia-smi gives the GPU, which is NVML's; a GPU without a
    level is not in it. ``note`` says why there is none at all; None where there is nothing to say.
    """

    levels: dict[int, int] = {}
    note: str | None = None


def unknown(why: str) -> Vboost:
    """Return that no level is known, and why."""
    return Vboost(note=f"the vBoost level is unknown: {TOOL}: {why}")


def told(output: str) -> Vboost:
    """Return what a tool's output tells."""
    levels = parse_levels(output)
    if levels is None:
        return unknown(f"unexpected output ({last_line(output) or 'none'})")
    return Vboost(levels=levels)


def parse_levels(text: str) -> dict[int, int] | None:
    """Return the vBoost levels in the tool's table by GPU number; None if there is no such table.

    A row is ``| 0  vboost  4  0 |``: number, slider, largest and present value. One that is anything else tells
    nothing of its GPU, and neither do two rows of one GPU that differ.
    """
    lines = [_ESCAPES.sub("", line).strip() for line in text.splitlines()]
    words = [line.replace("|", " ").split() for line in lines]
    titles = [" ".join(row) for row in words]
    if _TITLE not in titles or _COLUMNS not in titles:
        return None
    levels: dict[int, int] = {}
    doubtful: set[int] = set()
    for line, row in zip(lines, words, strict=True):
        found = _row(row) if line[:1] == line[-1:] == "|" else None
        if found is not None and levels.setdefault(found.gpu, found.level) != found.level:
            doubtful.add(found.gpu)
    return {gpu: level for gpu, level in levels.items() if gpu not in doubtful}


class _Level(NamedTuple):
    gpu: int
    level: int


def _row(words: Sequence[str]) -> _Level | None:
    if len(words) != 4 or words[1] != "vboost":
        return None
    gpu, most, level = (_number(words[i]) for i in (0, 2, 3))
    if gpu is None or most is None or level is None or level > most:
        return None
    return _Level(gpu, level)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 3 else None


def last_line(text: str) -> str:
    """Return the last line with something in it, shortened; empty if there is none."""
    lines = [line.strip() for line in _ESCAPES.sub("", text).splitlines()]
    return next((line[:80] for line in reversed(lines) if line), "")


def with_vboost(gpus: Sequence[GpuInfo], vboost: Vboost, environ: Mapping[str, str]) -> tuple[list[GpuInfo], list[str]]:
    """Give each GPU its vBoost level and where that comes from; return notes too.

    Where the tool told nothing, a constraint of the job speaks for it, and a note says that nobody has verified
    it. A GPU that the tool leaves out stays unknown, as does one that cannot have a level.

    Args:
        gpus: As the driver reports them.
        vboost: What the tool told.
        environ: The job's environment.
    """
    able = [gpu for gpu in gpus if gpu.may_have_vboost and gpu.vboost_level is None]
    if not able:
        return list(gpus), []
    stated = stated_level(environ)
    if not vboost.levels:
        if stated is None:
            return list(gpus), [vboost.note] if vboost.note else []
        return [_with_level(gpu, stated.level, stated.variable) for gpu in gpus], [_unverified(stated)]
    known = [_with_level(gpu, vboost.levels.get(_number_of(gpu)), TOOL) for gpu in gpus]
    return known, _contradictions(known, stated)


class Stated(NamedTuple):
    """A level that a constraint of the job states."""

    level: int
    feature: str
    variable: str


def stated_level(environ: Mapping[str, str]) -> Stated | None:
    """Return the vBoost level that the job's Slurm constraint demands of every node; None if it demands none.

    Features may be joined by ``&`` or ``,``. In alternatives (``|``, ``[]``) and counts of nodes (``*``) a feature
    need not be this node's.
    """
    for variable in CONSTRAINT_VARIABLES:
        text = environ.get(variable, "")
        if any(c in text for c in "|[*"):
            continue
        features = [part.strip(" ()\"'") for part in re.split("[&,]", text)]
        named = [feature for feature in features if feature in _LEVELS_OF_FEATURES]
        if len({_LEVELS_OF_FEATURES[feature] for feature in named}) == 1:
            return Stated(_LEVELS_OF_FEATURES[named[0]], named[0], variable)
    return None


def _with_level(gpu: GpuInfo, level: int | None, source: str) -> GpuInfo:
    if level is None or not gpu.may_have_vboost or gpu.vboost_level is not None:
        return gpu
    return msgspec.structs.replace(gpu, vboost_level=level, vboost_source=source)


def _number_of(gpu: GpuInfo) -> int:
    """Return the number under which the tool lists a GPU; one that the driver has not numbered is not listed."""
    return -1 if gpu.nvml_index is None else gpu.nvml_index


def _unverified(stated: Stated) -> str:
    return (
        f"vBoost {stated.level} is what the job asked for ({stated.feature} in {stated.variable}); "
        f"{TOOL} told nothing, so nobody has verified that the node has it: grade C"
    )


def _contradictions(gpus: Sequence[GpuInfo], stated: Stated | None) -> list[str]:
    """Return what to say where the job asked for another level than the GPUs have."""
    other = [gpu for gpu in gpus if stated and gpu.vboost_source == TOOL and gpu.vboost_level != stated.level]
    if not other or stated is None:
        return []
    numbers = ", ".join(str(gpu.nvml_index) for gpu in other)
    levels = ", ".join(sorted({str(gpu.vboost_level) for gpu in other}))
    asked = f"the job asked for {stated.feature} ({stated.variable})"
    return [f"{asked}, but vBoost is {levels} on GPU {numbers} ({TOOL}): report the node to the site"]
