"""Which of a GPU's power caps holds it down, where its module has one too."""

import msgspec

from satscore.core.summary_gpu import PowerState
from satscore.core.window_rows import POWER_HIGH_FRAC


class PowerCaps(msgspec.Struct, frozen=True, kw_only=True):
    """Power of a GPU and of its module against their limits (docs/method.md, "Power and clocks").

    ``power_gpu_frac`` and ``power_module_frac`` are shares of the limit of the same scope. ``state`` is None
    where no cap binds.
    """

    power_gpu_frac: float
    power_module_frac: float
    headroom_w: float
    """Until the first of the limits."""
    state: PowerState | None


def power_caps(
    *,
    power_gpu_w: float | None,
    power_limit_gpu_w: float | None,
    power_module_w: float | None,
    power_limit_module_w: float | None,
) -> PowerCaps | None:
    """Return which cap binds; None where power or limit of a scope is unknown: it is not equal to the other.

    A GPU at its own limit is held down by that; a module at its limit while the GPU is below its own means that
    the CPU takes what is missing.
    """
    if power_gpu_w is None or power_module_w is None or not power_limit_gpu_w or not power_limit_module_w:
        return None
    gpu_frac, module_frac = power_gpu_w / power_limit_gpu_w, power_module_w / power_limit_module_w
    state: PowerState | None = None
    if gpu_frac >= POWER_HIGH_FRAC:
        state = "gpu-limited"
    elif module_frac >= POWER_HIGH_FRAC:
        state = "module-limited"
    return PowerCaps(
        power_gpu_frac=gpu_frac,
        power_module_frac=module_frac,
        headroom_w=min(power_limit_gpu_w - power_gpu_w, power_limit_module_w - power_module_w),
        state=state,
    )
