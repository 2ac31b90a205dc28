"""What a failure of DCGM means, and what to do about it: one text for each. Pure."""

from satscore.counters.dcgm import ids
from satscore.counters.dcgm.wire import Failed
from satscore.errors import CounterError

_PERMISSION = (
    "no permission for profiling counters",
    "the host engine must run as root, or the site allows them to users (NVreg_RestrictProfilingToAdminUsers=0)",
)
_HELD = (
    "the profiling counters are held by another profiler, or paused",
    "end Nsight, CUPTI or a second host engine on this node; 'dcgmi profile --resume' ends a pause",
)
_MODULE = (
    "the profiling module is not loaded",
    "install the package datacenter-gpu-manager-4-proprietary beside the host engine, and restart that",
)
_BY_STATUS: dict[int, tuple[str, str]] = {
    ids.VERSION: (
        "the bindings, the library and the host engine are of different major versions",
        "name bindings of the engine's version: SATSCORE_DCGM_BINDINGS=FOLDER",
    ),
    ids.LIBRARY: (
        "libdcgm of the bindings' version was not found",
        "install datacenter-gpu-manager of the bindings' major version, or put its folder into LD_LIBRARY_PATH",
    ),
    ids.NO_PERMISSION: _PERMISSION,
    ids.NEEDS_ROOT: _PERMISSION,
    ids.MODULE_NOT_LOADED: _MODULE,
    ids.IN_USE: _HELD,
    ids.PAUSED: _HELD,
    ids.PROFILING_NOT_SUPPORTED: (
        "profiling counters are not supported on this GPU",
        "DCGM has them for data centre GPUs from Volta on; --source nvml reads gauges, without a score",
    ),
    ids.PROFILING_LIBRARY: (
        "the profiling library failed",
        "look at the host engine's log (/var/log/nv-hostengine.log); Nsight or a second engine may hold the counters",
    ),
    ids.MULTI_PASS: (
        "this GPU cannot count these fields together",
        "a host engine of 2.0 or newer takes turns; update it",
    ),
    ids.NO_NVML: (
        "the host engine runs without the NVIDIA driver",
        "'nvidia-smi' must work where the engine runs; restart it afterwards",
    ),
    ids.CONNECTION: ("the host engine ended or cut the connection", "restart it: systemctl restart nvidia-dcgm"),
    ids.TIMEOUT: ("the host engine did not answer in time", "it hangs: restart it (systemctl restart nvidia-dcgm)"),
    ids.NOT_SUPPORTED: (
        "profiling counters are not supported here",
        "DCGM has them for data centre GPUs from Volta on; --source nvml reads gauges, without a score",
    ),
}
_BY_STAGE: dict[str, tuple[str, str]] = {
    "bindings": (
        "the Python bindings cannot be imported",
        "name those of the installed DCGM: SATSCORE_DCGM_BINDINGS=FOLDER",
    ),
    "library": ("the library cannot be loaded", "is datacenter-gpu-manager installed as a whole?"),
    "connect": (
        "no host engine answers",
        "start one (systemctl start nvidia-dcgm), or name it: --dcgm HOST:PORT or unix://PATH",
    ),
    "gpus": ("the host engine shows no GPU", "'dcgmi discovery -l' must list it"),
    "watch": ("the host engine does not watch profiling counters", "try: dcgmi dmon -e 1004"),
    "fetch": ("the host engine stopped answering", "look at the host engine's log (/var/log/nv-hostengine.log)"),
    "died": (
        "the process that reads DCGM ended",
        "DCGM's library may have crashed: look at dmesg; if it happens again, please report it",
    ),
    "defect": ("reading failed in satscore's own process", "please report it"),
}
BLANK_TEXT = (
    "DCGM: profiling counters are blank: paused or held by another profiler (Nsight, a second engine): "
    "dcgmi profile --resume"
)

FAST_SHARE = 0.75
"""An engine that samples after less of our period has another client that asks for more."""


def fast_text(step_s: float, period_s: float) -> str:
    """Return what is said where one sample of several is read."""
    return (
        f"DCGM: another client has the host engine read pipe counters every {step_s:.2g} s: a reading of "
        f"{period_s:g} s is the mean of its last {step_s:.2g} s only, and counts for all of it"
    )


def lost_text(gpu: int) -> str:
    """Return what is said where an engine goes on, but without any counter and clock of a GPU."""
    return f"GPU {gpu}: the host engine reads nothing of it any more: is it lost? nvidia-smi, dmesg (Xid)"


def where(address: str | None) -> str:
    """Return which engine it is, for people."""
    return f"host engine {address}" if address else "engine inside satscore"


def meaning(failed: Failed) -> tuple[str, str]:
    """Return what a failure means and what to do about it."""
    is_first_call = failed.stage == "connect" and failed.status == ids.CONNECTION  # there was no connection to cut
    by_status = None if failed.status is None or is_first_call else _BY_STATUS.get(failed.status)
    return by_status or _BY_STAGE.get(failed.stage, _BY_STAGE["defect"])


def reason(failed: Failed) -> str:
    """Return what happened in a few words, with what was said."""
    text = meaning(failed)[0]
    said = failed.text.strip()
    return f"{text}: {said}" if said and said not in text else text


def error_of(failed: Failed, address: str | None) -> CounterError:
    """Return the error for an attempt that failed, with its remedy."""
    return CounterError(f"DCGM, {where(address)}: {reason(failed)}", hint=meaning(failed)[1])


def no_bindings() -> CounterError:
    """Return the error where DCGM's bindings are not on this machine."""
    return CounterError(
        "DCGM: its Python bindings were not found on this machine",
        hint="they come with datacenter-gpu-manager; elsewhere installed: SATSCORE_DCGM_BINDINGS=FOLDER",
    )


def ended_before(address: str | None) -> CounterError:
    """Return the error where the command had ended before an engine answered."""
    return CounterError(
        f"DCGM, {where(address)}: it had not answered when the command ended",
        hint="if it hangs, restart it (systemctl restart nvidia-dcgm)",
    )


def other_gpus(address: str | None, theirs: list[str], ours: list[str]) -> CounterError:
    """Return the error where an engine reads none of our GPUs; names both."""
    return CounterError(
        f"DCGM, {where(address)}: it reads {_listed(theirs)}; ours are {_listed(ours)}",
        hint="name the host engine of this node: --dcgm HOST:PORT",
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "no GPU"
