"""What is known of the GPUs beside what the driver reports: the cap on the module that the site states, vBoost."""

import math
from collections.abc import Mapping, Sequence

import msgspec

from satscore.core.gpu import GpuInfo
from satscore.core.hwmodel import MODULE_CAP_LEAST_W, MODULE_CAP_MOST_W, HardwareModel, match
from satscore.core.vboost import Vboost, with_vboost
from satscore.counters.source import Source
from satscore.run.models import load_library

VARIABLE = "SATSCORE_MODULE_CAP_W"


def known_hardware(
    source: Source, environ: Mapping[str, str], vboost: Vboost | None = None
) -> tuple[list[GpuInfo], tuple[HardwareModel, ...], list[str]]:
    """Return a source's GPUs with what is known of them besides, all hardware models, and notes on both.

    Args:
        source: Opened.
        environ: The environment.
        vboost: What the driver's tool told of the vBoost level; None: it was not asked.
    """
    library = load_library(environ)
    if source.name == "replay":  # a recording has the cap and the level of its own site
        return list(source.gpus), library.models, library.notes()
    gpus, told = list(source.gpus), list[str]()
    if source.kind == "measured":
        gpus, told = with_vboost(gpus, vboost or Vboost(), environ)
    gpus, notes = with_module_caps(gpus, library.models, environ)
    return gpus, library.models, [*library.notes(), *told, *notes]


def with_module_caps(
    gpus: Sequence[GpuInfo], models: Sequence[HardwareModel], environ: Mapping[str, str]
) -> tuple[list[GpuInfo], list[str]]:
    """Give each GPU that shares a module's power the cap that the site states; return notes too.

    The environment wins over the hardware model. A GPU without a module gets none.
    """
    stated_w, notes = _from_environment(environ.get(VARIABLE, ""))
    return [_with_cap(gpu, match(models, gpu).model, stated_w) for gpu in gpus], notes


def _with_cap(gpu: GpuInfo, model: HardwareModel | None, stated_w: float | None) -> GpuInfo:
    has_module = gpu.power_limit_module_w is not None or (model is not None and "module_max" in model.power_w)
    if not has_module:
        return gpu
    if stated_w is not None:
        return msgspec.structs.replace(gpu, module_cap_w=stated_w, module_cap_source=VARIABLE)
    number = model.numbers.get("power_w.module_cap") if model is not None else None
    if number is None:
        return gpu
    return msgspec.structs.replace(gpu, module_cap_w=number.value, module_cap_source=number.source.label)


def _from_environment(text: str) -> tuple[float | None, list[str]]:
    if not text.strip():
        return None, []
    try:
        watts = float(text)
    except ValueError:
        watts = math.nan
    if MODULE_CAP_LEAST_W <= watts <= MODULE_CAP_MOST_W:
        return watts, []
    allowed = f"{MODULE_CAP_LEAST_W:g} to {MODULE_CAP_MOST_W:g}"
    return None, [f"{VARIABLE}={text!r} is ignored: it must be a number of W from {allowed}, as in 660"]
